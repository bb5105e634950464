"""A published table with ours beside theirs: as a page, as Markdown, as CSV, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainalign.files import write_json, write_text
from brainalign.report.figures import BLUE, INK, MUTED, Panel, clean, draw
from brainalign.report.page import csv_text, data_uri, write_page
from brainalign.report.words import NBSP, plural, points

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METRICS = {"top1": "Top-1", "top5": "Top-5", "clip_two_way": "CLIP two-way", "r": "r", "p": "p"}
SHARES = ("top1", "top5", "clip_two_way")
LINES_MAX = 40
ROW_INCHES, MARGIN_INCHES = 0.27, 0.9
ABSENT = "not measured"

Cell = Mapping[str, Any]


def write_reproduction(document: Mapping[str, Any], folder: Path) -> None:
    """Write `table.md`, `table.csv`, `table.html` and `reproduce.json`.

    Parameters
    ----------
    document : mapping
        As `brainalign.execution.reproduce.reproduce` returns it.

    Raises
    ------
    InputError
        If the folder cannot be written.
    """
    lines = table_lines(document)
    table = csv_text([_csv_row(document, cell) for cell in document["cells"]])
    write_text(folder / "table.md", markdown(document, lines))
    write_text(folder / "table.csv", table)
    write_page(
        "reproduce.html",
        folder / "table.html",
        title=f"{document['table']}, reproduced",
        document=document,
        blocks=_blocks(document, lines),
        columns=[name for name in lines[0] if name not in (*_labels(document), "remarks")],
        reasons=reasons(document),
        summary=summary(document),
        caveats=caveats(document),
        panel=_panel(document),
        files=[
            ("table.csv", data_uri(table)),
            ("reproduce.json", data_uri(json.dumps(document, indent=1, ensure_ascii=False), "application/json")),
        ],
    )
    write_json(folder / "reproduce.json", document)


def table_lines(document: Mapping[str, Any]) -> list[dict[str, str]]:
    """The table in words, one line a cell; numbers of the last column but one are those of `reasons`."""
    numbers = {reason: n for n, reason in enumerate(reasons(document), start=1)}
    labels = _labels(document)
    several = any(cell["subject"] for cell in document["cells"])
    ours, apart = ("ours (VIRTUAL data)", "difference") if document["virtual"] else ("ours", "difference")
    lines = []
    for cell in document["cells"]:
        found = cell["measured"]
        line = {key: str(cell["labels"].get(key, "")) for key in labels}
        line["condition"] = cell["condition"]
        if several:
            line["subject"] = cell["subject"] or "mean"
        line |= {"metric": METRICS[cell["metric"]], "theirs": theirs(cell)}
        line[ours] = _ours(found) if found else f"{ABSENT} ({numbers[cell['reason']]})"
        line[apart] = _difference(found) if found else ""
        line["exploratory: layer chosen on test"] = _exploratory(found) if found else ""
        line["remarks"] = _remarks(cell)
        lines.append(line)
    return lines


def reasons(document: Mapping[str, Any]) -> dict[str, int]:
    """Why cells were not measured, and how many by each reason, in the order of the table."""
    found: dict[str, int] = {}
    for cell in document["cells"]:
        if cell["status"] != "measured":
            found[cell["reason"]] = found.get(cell["reason"], 0) + 1
    return found


def theirs(cell: Cell) -> str:
    """The published value as it reads.

    Examples
    --------
    >>> empty = {"value": None, "one_of": None, "bound": "=", "sd": None}
    >>> theirs({"metric": "top1", "published": empty | {"value": 40.1, "sd": 0.9}})
    '40.1 ± 0.9'
    >>> theirs({"metric": "top1", "published": empty | {"one_of": [32.9, 55.0]}})
    '32.9 or 55.0'
    """
    published = cell["published"]
    if published["value"] is None:
        return " or ".join(_number(value, cell["metric"]) for value in published["one_of"])
    text = _number(published["value"], cell["metric"])
    if published["sd"] is not None:
        text += f" ± {_number(published['sd'], cell['metric'])}"
    return f"> {text}" if published["bound"] == ">" else text


def _number(value: float, metric: str) -> str:
    if metric not in SHARES:
        return f"{value:g}"
    return f"{value:.1f}" if round(value, 1) == value else f"{value:.2f}"


def _ours(found: Mapping[str, Any]) -> str:
    low, high = found["ours_ci95"]
    return f"{found['ours']:.1f} [{low:.1f} to {high:.1f}]"


def _difference(found: Mapping[str, Any]) -> str:
    if found["difference"] is None:
        return f"not compared: {found['not_comparable']}"
    low, high = (_signed(end) for end in found["difference_ci95"])
    return f"{_signed(found['difference'])} [{low} to {high}]"


def _signed(value: float) -> str:
    return points(value / 100).partition(NBSP)[0]


def _exploratory(found: Mapping[str, Any]) -> str:
    other = found["exploratory"]
    if other is None:
        return ""
    return f"{other['value']:.1f} (layer {other['layer']}, {_signed(other['inflation_gap'])})"


def _remarks(cell: Cell) -> str:
    parts = [f"quoted by {cell['published']['quoted_by']}"] if cell["published"]["quoted_by"] else []
    parts += [cell["published"]["note"].rstrip(".")] if cell["published"]["note"] else []
    if found := cell["measured"]:
        layers = [f"{name} ({count})" if len(found["layers"]) > 1 else name for name, count in found["layers"].items()]
        parts = [f"layer {', '.join(layers)}, depth {found['depth']:.2f}", *found["marks"], *parts]
    return "; ".join(parts)


def summary(document: Mapping[str, Any]) -> list[str]:
    """What came out, in sentences."""
    cells = document["cells"]
    found = [cell["measured"] for cell in cells if cell["measured"]]
    said = [f"{len(found)} of {plural(len(cells), 'cell')} measured."]
    compared = [one for one in found if one["difference"] is not None]
    if compared:
        inside = sum(low <= 0 <= high for low, high in (one["difference_ci95"] for one in compared))
        said.append(f"In {inside} of {len(compared)} compared cells their number lies within our 95 % interval.")
        if odd := sum(one["altered"] for one in compared):
            said.append(f"{odd} of them ran another model or other settings than the paper's, see the remarks.")
    apart = {one["not_comparable"] for one in found if one["difference"] is None}
    if apart:
        said.append(f"{len(found) - len(compared)} measured but not compared: {'; '.join(sorted(apart))}.")
    if document["virtual"]:
        said.append(
            "The signals are VIRTUAL: computed from planted rules. Their scores show that the program recovers what "
            "was planted; they reproduce nothing and rank no methods."
        )
    return said


def caveats(document: Mapping[str, Any]) -> list[str]:
    """What a reader must know to compare the two columns."""
    said = []
    found = [cell["measured"] for cell in document["cells"] if cell["measured"]]
    if any(one["exploratory"] for one in found):
        said.append(
            "The paper chose its layer on the test set. Ours is chosen on validation images, per subject and seed. What"
            " one layer chosen on test would have claimed stands in the exploratory column, with the gap to ours. No "
            "choice may rest on that column."
        )
    if found:
        said.append(
            "Brackets: 95 % interval of ours, over subjects and images (images alone where there is one subject). "
            "Theirs is a constant, unless a deviation is printed beside it; that is then taken as its standard error."
        )
        trained = sorted({one["n_train"] for one in found})
        said.append(f"Training images of ours: {', '.join(f'{n:,}' for n in trained)}.")
    for name, stand_in in document["substitutes"].items():
        said.append(f"Substitute: {stand_in} was run in place of {name}; such a score is no reproduction of {name}.")
    if document["settings"]:
        said.append(f"Changed settings: {', '.join(document['settings'])}.")
    return [*said, *document["notes"]]


def markdown(document: Mapping[str, Any], lines: Sequence[Mapping[str, str]]) -> str:
    """The table and all that belongs to it as Markdown."""
    virtual = "**VIRTUAL DATA**\n\n" if document["virtual"] else ""
    head = f"# {document['title']}\n\n{virtual}`{document['table']}` · {_source(document)}\n\n"
    text = head + " ".join(summary(document)) + "\n\n"
    columns = list(lines[0])
    text += f"| {' | '.join(map(_plain, columns))} |\n|{'---|' * len(columns)}\n"
    text += "".join(f"| {' | '.join(_plain(line[key]) for key in columns)} |\n" for line in lines)
    if found := reasons(document):
        text += "\n## Not measured\n\n"
        text += "".join(f"{n}. {_plain(r)} ({plural(c, 'cell')})\n" for n, (r, c) in enumerate(found.items(), 1))
    text += "\n## How to read it\n\n" + "".join(f"- {_plain(said)}\n" for said in caveats(document))
    return text


def _plain(text: str) -> str:
    """Text that cannot break out of a Markdown table."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _source(document: Mapping[str, Any]) -> str:
    source = document["source"]
    place = [
        source["arxiv"] and f"arXiv {source['arxiv']}",
        source["table"],
        source["section"] and f"section {source['section']}",
    ]
    return ", ".join([source["paper"], *filter(None, place)])


def _csv_row(document: Mapping[str, Any], cell: Cell) -> dict[str, Any]:
    found = cell["measured"] or {}
    low, high = found.get("ours_ci95") or ("", "")
    apart_low, apart_high = found.get("difference_ci95") or ("", "")
    other = found.get("exploratory") or {}
    return {
        "id": cell["id"],
        **{key: cell["labels"].get(key, "") for key in _labels(document)},
        "condition": cell["condition"],
        "subject": cell["subject"] or "",
        "metric": cell["metric"],
        "theirs": theirs(cell),
        "theirs_sd": _blank(cell["published"]["sd"]),
        "quoted_by": cell["published"]["quoted_by"],
        "status": cell["status"],
        "dataset": document["dataset"],
        "virtual": int(document["virtual"]),
        "ours": _blank(found.get("ours")),
        "ours_ci_lo": low,
        "ours_ci_hi": high,
        "difference": _blank(found.get("difference")),
        "difference_ci_lo": apart_low,
        "difference_ci_hi": apart_high,
        "exploratory_test_chosen": _blank(other.get("value")),
        "exploratory_inflation_gap": _blank(other.get("inflation_gap")),
        "layers": "; ".join(f"{name} x{count}" for name, count in found.get("layers", {}).items()),
        "subjects": " ".join(found.get("subjects", ())),
        "n_way": _blank(found.get("n_way")),
        "not_comparable": found.get("not_comparable", ""),
        "marks": "; ".join(found.get("marks", ())),
        "reason": cell["reason"],
        "run": found.get("run", ""),
    }


def _blank(value: Any) -> Any:
    return "" if value is None else value


def _labels(document: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(key for cell in document["cells"] for key in cell["labels"]))


def _blocks(document: Mapping[str, Any], lines: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Lines with equal labels under one heading; remarks stand once below the lines that share them."""
    labels, found = _labels(document), list[dict[str, Any]]()
    for line in lines:
        held = {key: line[key] for key in labels if line[key]}
        if not found or found[-1]["labels"] != held:
            name, *more = held.items()
            extras = " · ".join(f"{key} {value}" for key, value in more)
            found.append({"labels": held, "name": name[1], "extras": extras, "lines": []})
        block = found[-1]["lines"]
        if block and block[-1]["remarks"] == line["remarks"]:
            block[-1]["remarks"] = ""
        block.append(dict(line))
    return found


def _panel(document: Mapping[str, Any]) -> Panel | None:
    """Measured means, ours with intervals; theirs beside them only where the two may be compared."""
    cells = [cell for cell in document["cells"] if cell["measured"] and cell["metric"] == "top1"]
    cells = [cell for cell in cells if not cell["subject"]] or cells
    if not cells:
        return None
    shown = cells[:LINES_MAX]
    data = "virtual data" if document["virtual"] else document["dataset"]
    compared = any(cell["measured"]["difference"] is not None for cell in shown)
    what = "Top-1, ours beside theirs" if compared else f"Top-1, ours on {data}; nothing to compare with"
    hidden = f" The first {LINES_MAX} of {len(cells)}." if len(cells) > LINES_MAX else ""
    caption = "Dots: ours, with 95 % intervals. Dotted line: chance."
    caption += " Diamonds: theirs, where the data are the same." if compared else ""
    rows = [
        {
            "cell": cell["id"],
            "ours": cell["measured"]["ours"],
            "ci_lo": cell["measured"]["ours_ci95"][0],
            "ci_hi": cell["measured"]["ours_ci95"][1],
            "theirs": theirs(cell) if cell["measured"]["difference"] is not None else "",
        }
        for cell in shown
    ]
    alt = "; ".join(
        f"{row['cell']}: ours {row['ours']:.1f}" + (f", theirs {row['theirs']}" if row["theirs"] else "")
        for row in rows
    )
    size = (8.2, MARGIN_INCHES + ROW_INCHES * len(shown))
    svg = draw("cells", alt, lambda ax: _paint(ax, shown), size)
    return Panel("cells", what, caption + hidden, alt, svg, csv_text(rows), wide=True)


def _paint(ax: Axes, cells: Sequence[Cell]) -> None:
    heights = range(len(cells), 0, -1)
    first_ours, first_theirs = "ours", "theirs"
    for y, cell in zip(heights, cells, strict=True):
        found = cell["measured"]
        low, high = found["ours_ci95"]
        ax.plot([low, high], [y, y], color=BLUE, linewidth=1.4)
        ax.plot([found["ours"]], [y], "o", color=BLUE, markersize=5, label=first_ours)
        first_ours = "_ours"
        if found["difference"] is not None:
            value = cell["published"]["value"]
            ax.plot([value], [y], "D", markerfacecolor="none", markeredgecolor=INK, markersize=6, label=first_theirs)
            first_theirs = "_theirs"
    chance = {round(cell["measured"]["chance"], 3) for cell in cells}
    for value in chance:
        ax.axvline(value, color=MUTED, linewidth=0.8, linestyle=(0, (1, 3)))
    ax.set_yticks(list(heights), [_name(cell) for cell in cells])
    ax.set_ylim(0.4, len(cells) + 0.6)
    ax.set_xlim(left=0)
    ax.grid(axis="x")
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("Top-1 (% of queries)")
    if first_theirs != "theirs":
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2)


def _name(cell: Cell) -> str:
    who = f", subject {cell['subject']}" if cell["subject"] else ""
    return clean(f"{next(iter(cell['labels'].values()), '')}, {cell['condition']}{who}", 52)
