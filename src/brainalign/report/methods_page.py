"""All methods under all protocols of a data set: as a page, as Markdown, as CSV, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainalign.files import write_json, write_text
from brainalign.report.figures import BLUE, INK, MUTED, Panel, clean, draw
from brainalign.report.page import csv_text, data_uri, write_page
from brainalign.report.words import NBSP, duration, interval, p_value, percent, plural, points, points_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW_INCHES, MARGIN_INCHES = 0.27, 0.9
METHOD = "method"
DIFFERENCE = "difference in top-1"

Entry = Mapping[str, Any]
Document = Mapping[str, Any]


def write_methods(document: Document, folder: Path) -> None:
    """Write `table.md`, `table.csv`, `table.html` and `methods.json`.

    Parameters
    ----------
    document : mapping
        As `brainalign.execution.methods.methods` returns it.

    Raises
    ------
    InputError
        If the folder cannot be written.
    """
    table = csv_text([_csv_row(document, one) for one in document["methods"]])
    write_text(folder / "table.md", markdown(document))
    write_text(folder / "table.csv", table)
    write_page(
        "methods.html",
        folder / "table.html",
        title=f"Methods on {document['dataset']}",
        document=document,
        blocks=[_block(document, protocol) for protocol in document["protocols"]],
        wrapped=(DIFFERENCE,),
        reasons=reasons(document),
        sources=_sources(document),
        summary=summary(document),
        caveats=caveats(document),
        files=[
            ("table.csv", data_uri(table)),
            ("methods.json", data_uri(json.dumps(document, indent=1, ensure_ascii=False), "application/json")),
        ],
    )
    write_json(folder / "methods.json", document)


def measured_of(document: Document, protocol: str) -> list[Entry]:
    """Measured methods of a protocol: the best on validation first; on virtual data in the order asked for."""
    found = [one for one in document["methods"] if one["protocol"] == protocol and one["measured"]]
    if document["virtual"]:
        return found
    return sorted(found, key=lambda one: -one["measured"]["validation_mrr"])


def table_lines(document: Document, protocol: str) -> list[dict[str, str]]:
    """A protocol's table in words, one line a method."""
    return [_line(one, document["virtual"]) for one in measured_of(document, protocol)]


def _line(one: Entry, virtual: bool) -> dict[str, str]:
    found = one["measured"]
    mark = " (%, VIRTUAL)" if virtual else " (%)"
    return {
        METHOD: one["recipe"],
        f"top-1{mark}": _with_interval(found["top1"], found["top1_ci95"]),
        f"top-5{mark}": _with_interval(found["top5"], found["top5_ci95"]),
        "p": p_value(found["permutation_p"]).partition("=")[2].strip(),
        "shuffled control": percent(found["shuffled_top1"]) if found["shuffled_top1"] is not None else "not measured",
        "validation top-1": percent(found["validation_top1"]),
        DIFFERENCE: _difference(one),
        "training a run": duration(found["train_s"]),
        "test reads": str(found["test_reads"]),
    }


def _with_interval(value: float, ends: Sequence[float]) -> str:
    """Percent; ends that are 0 but for rounding are 0."""
    return f"{percent(value, unit=False)} [{interval([round(end, 6) for end in ends]).partition(NBSP)[0]}]"


def _difference(one: Entry) -> str:
    if one["reference"]:
        return "reference"
    found = one["difference"]
    if found is None:
        return "not compared"
    value, ends = points(found["difference"]).partition(NBSP)[0], points_interval(found["ci95"]).partition(NBSP)[0]
    return f"{value} [{ends}], {p_value(found['p_holm'])}"


def reasons(document: Document) -> dict[str, list[str]]:
    """Why methods were not measured: reason to names, with the protocol where a method fails under some only."""
    found: dict[str, dict[str, list[str]]] = {}
    for one in document["methods"]:
        if not one["measured"]:
            found.setdefault(one["reason"], {}).setdefault(one["recipe"], []).append(one["protocol"])
    everywhere = len(document["protocols"])
    return {
        reason: [name if len(at) == everywhere else f"{name} under {', '.join(at)}" for name, at in names.items()]
        for reason, names in found.items()
    }


def summary(document: Document) -> list[str]:
    """What came out, in sentences."""
    cells = document["methods"]
    names = {one["recipe"] for one in cells}
    said = [
        f"{plural(len(names), 'method')} under {plural(len(document['protocols']), 'protocol')}: "
        f"{document['methods_measured']} of {len(cells)} measured, on {plural(len(document['subjects']), 'subject')} "
        f"and {plural(len(document['seeds']), 'seed')} each."
    ]
    if document["virtual"]:
        said.append(
            "The signals are VIRTUAL: computed from planted rules. No virtual score ranks methods. The table shows "
            "that every method runs, and recovers what was planted or does not; it is in no order of scores."
        )
        return said
    for protocol in document["protocols"]:
        found = measured_of(document, protocol)
        best = next((one for one in found if one["reference"]), None)
        apart = [one for one in found if one["difference"]]
        clear = sum(one["difference"]["p_holm"] < 0.05 for one in apart)
        if best and apart:
            said.append(
                f"{protocol}: {clear} of {len(apart)} methods are told apart from {best['recipe']} by a paired test on "
                "the same images (p below 0.05, adjusted for the number of methods)."
            )
    return said


def caveats(document: Document) -> list[str]:
    """What a reader must know to compare two lines."""
    found = [one["measured"] for one in document["methods"] if one["measured"]]
    if document["match"]:
        said = [
            "All methods have the same image target: backbone, layer, pooling and standardisation are equal, and no "
            "image is transformed. Methods that consist of such a choice (a mixture of layers, blur, saliency) are "
            "without it here, and are not what their authors describe."
        ]
    else:
        said = [
            "Every method keeps its own image target (column of the next table): a difference is one of method and "
            "features together. --match gives all the same features."
        ]
    if not found:
        return said
    first = found[0]
    gallery = ", ".join(str(n) for n in sorted({one["n_way"] for one in found}))
    said += [
        f"Means over subjects and seeds; gallery of {gallery} images; chance is {percent(first['chance_top1'])} for "
        f"top-1 and {percent(first['chance_top5'])} for top-5. A query averages "
        f"{plural(first['repetitions'], 'repetition')}.",
        "Brackets: 95 % interval over subjects and images (seeds of a subject averaged; images alone where there is "
        "one subject). Of two or three subjects such an interval is a rough one.",
        f"p of a score: images are shuffled {first['n_permutations']:,} times, each time the same way for all subjects "
        "and seeds; the share of shuffles whose mean top-1 is as high.",
        "Shuffled control: the same training on pairs dealt anew, mean over runs. It must lie near chance.",
        "Differences from the reference in percentage points, paired by image: an image is drawn with all its subjects "
        "and seeds, which are taken as they are. Their p is by flipping signs of images, adjusted for the number of "
        "methods under a protocol (Holm).",
    ]
    if document["against"]:
        said.append(f"Reference: {document['against']}, as asked for.")
    else:
        said.append("Reference: the best by mean reciprocal rank on validation images, never by a test score.")
    said.append(
        "Every choice is made on validation images. The test set was opened once for each method and protocol"
        + ("" if max(one["test_reads"] for one in found) == 1 else ", more often where the column says so")
        + ". Published methods run with their published settings, which are not tuned for these data."
    )
    if any(one["budget"] != "full" for one in found):
        said.append("Budget small: training was shortened; the full budget may score differently.")
    if document["settings"]:
        said.append(f"Changed settings of all methods: {', '.join(document['settings'])}.")
    if leaks := sorted({code for one in found for code in one["lint"]}):
        said.append(f"Leaks that were allowed: {', '.join(leaks)}.")
    said += sorted({text for one in found for text in one["always_said"]})
    if document["split"] < 10:
        said.append(f"Split {document['split']} is for development; confirmation splits start at 10.")
    return said


def markdown(document: Document) -> str:
    """The table and all that belongs to it as Markdown."""
    virtual = "**VIRTUAL DATA**\n\n" if document["virtual"] else ""
    text = f"# Methods on {_plain(document['dataset'])}\n\n{virtual}" + " ".join(summary(document)) + "\n"
    for protocol in document["protocols"]:
        text += f"\n## {protocol}\n\n" + _markdown_table(table_lines(document, protocol))
    text += "\n## What each method is\n\n" + _markdown_table(_sources(document))
    if found := reasons(document):
        text += "\n## Not measured\n\n"
        text += "".join(f"- {_plain(', '.join(names))}: {_plain(reason)}\n" for reason, names in found.items())
    return text + "\n## How to read it\n\n" + "".join(f"- {_plain(said)}\n" for said in caveats(document))


def _markdown_table(lines: Sequence[Mapping[str, str]]) -> str:
    if not lines:
        return "Nothing was measured.\n"
    columns = list(lines[0])
    text = f"| {' | '.join(map(_plain, columns))} |\n|{'---|' * len(columns)}\n"
    return text + "".join(f"| {' | '.join(_plain(line[key]) for key in columns)} |\n" for line in lines)


def _plain(text: str) -> str:
    """Text that cannot break out of a Markdown table."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _sources(document: Document) -> list[dict[str, str]]:
    """What each measured method is, aligns with and takes."""
    lines: dict[str, dict[str, str]] = {}
    for one in document["methods"]:
        if not one["measured"] or one["recipe"] in lines:
            continue
        found = one["measured"]
        several = len(found["targets"]) > 1
        target = "; ".join(f"{name} ({n})" if several else name for name, n in found["targets"].items())
        lines[one["recipe"]] = {
            METHOD: one["recipe"],
            "model": found["encoder"],
            "image target": target + (f", images through {found['transform']}" if found["transform"] else ""),
            "text": found["language"] or "none",
            "budget": found["budget"],
            "source": one["source"],
        }
    return list(lines.values())


def _csv_row(document: Document, one: Entry) -> dict[str, Any]:
    found = one["measured"] or {}
    apart = one.get("difference") or {}
    row = {
        "recipe": one["recipe"],
        "protocol": one["protocol"],
        "status": one["status"],
        "reason": one["reason"],
        "dataset": document["dataset"],
        "virtual": int(document["virtual"]),
        "matched": int(document["match"]),
    }
    for name in ("top1", "top5"):
        low, high = found.get(f"{name}_ci95") or ("", "")
        row |= {name: found.get(name, ""), f"{name}_ci_lo": low, f"{name}_ci_hi": high}
    names = ("permutation_p", "chance_top1", "chance_top5", "shuffled_top1", "validation_top1", "validation_mrr",
             "n_way", "repetitions", "n_train", "runs", "train_s", "budget", "test_reads")  # fmt: skip
    low, high = apart.get("ci95") or ("", "")
    return row | {
        **{name: "" if found.get(name) is None else found[name] for name in names},
        "reference": int(one.get("reference", False)),
        "difference_against": apart.get("against", ""),
        "difference": apart.get("difference", ""),
        "difference_ci_lo": low,
        "difference_ci_hi": high,
        "difference_p": apart.get("p", ""),
        "difference_p_holm": apart.get("p_holm", ""),
        "subjects": " ".join(found.get("subjects", ())),
        "seeds": " ".join(map(str, found.get("seeds", ()))),
        "targets": "; ".join(f"{name} x{count}" for name, count in found.get("targets", {}).items()),
        "run": found.get("run", ""),
    }


def _block(document: Document, protocol: str) -> dict[str, Any]:
    lines = table_lines(document, protocol)
    for line, one in zip(lines, measured_of(document, protocol), strict=True):
        line["run"] = one["measured"]["run"]
    columns = [name for name in (lines[0] if lines else ()) if name != "run"]
    return {"protocol": protocol, "columns": columns, "lines": lines, "panel": _panel(document, protocol)}


def _panel(document: Document, protocol: str) -> Panel | None:
    """Top-1 of every method with its interval."""
    shown = measured_of(document, protocol)
    if not shown:
        return None
    data = "virtual data: no ranking" if document["virtual"] else document["dataset"]
    rows = [
        {
            "method": one["recipe"],
            "top1": one["measured"]["top1"],
            "ci_lo": one["measured"]["top1_ci95"][0],
            "ci_hi": one["measured"]["top1_ci95"][1],
            "shuffled_top1": "" if one["measured"]["shuffled_top1"] is None else one["measured"]["shuffled_top1"],
        }
        for one in shown
    ]
    alt = f"Top-1 under {protocol}: " + "; ".join(f"{row['method']} {percent(row['top1'])}" for row in rows)
    name = "methods-" + "-".join(protocol.split("/")[1:])
    size = (8.2, MARGIN_INCHES + ROW_INCHES * len(shown))
    caption = "Dots: mean over subjects and seeds, with 95 % intervals. Crosses: shuffled control. Dotted line: chance."
    svg = draw(name, alt, lambda ax: _paint(ax, shown), size)
    return Panel(name, f"Top-1 by method ({data})", caption, alt, svg, csv_text(rows), wide=True)


def _paint(ax: Axes, shown: Sequence[Entry]) -> None:
    heights = range(len(shown), 0, -1)
    for y, one in zip(heights, shown, strict=True):
        found, first = one["measured"], "_" if y < len(shown) else ""
        low, high = found["top1_ci95"]
        ax.plot([100 * low, 100 * high], [y, y], color=BLUE, linewidth=1.4)
        ax.plot([100 * found["top1"]], [y], "o", color=BLUE, markersize=5, label=f"{first}method")
        if found["shuffled_top1"] is not None:
            at = 100 * found["shuffled_top1"]
            ax.plot([at], [y], "x", color=INK, markersize=5, label=f"{first}shuffled control")
    ax.axvline(100 * shown[0]["measured"]["chance_top1"], color=MUTED, linewidth=0.9, linestyle=(0, (1, 3)), zorder=0)
    ax.set_yticks(list(heights), [clean(one["recipe"], 36) for one in shown])
    ax.set_ylim(0.4, len(shown) + 0.6)
    ax.set_xlim(left=0)
    ax.grid(axis="x")
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("Top-1 (% of queries)")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2)
