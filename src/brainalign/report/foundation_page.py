"""The report of a foundation run: every subject's score, and the conversion between modalities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainalign.files import read_json
from brainalign.report.figures import BLUE, MUTED, ORANGE, PAPER, WIDTH, Panel, clean, draw, legend_above
from brainalign.report.foundation_caveats import foundation_caveats
from brainalign.report.page import csv_text, data_uri, number, read_small, read_table, write_page
from brainalign.report.words import interval, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Cells = Sequence[Mapping[str, Any]]


def write_foundation_report(folder: str | Path, *, out: str | Path | None = None) -> Path:
    """Write the page of a finished foundation run.

    Raises
    ------
    InputError
        If a file of the run is missing or damaged, or the page cannot be written.
    """
    place = Path(folder)
    document = read_json(place / "foundation.json")
    sources = document["sources"]
    history = [{k: number(row, k, place / "history.csv") for k in row} for row in read_table(place / "history.csv")]
    panels = [_scores(sources), _learning(history, document["epoch"])]
    panels += [_matrix(name, cells) for name, cells in document["conversion"].items()]
    table = csv_text(
        [{"model": name, **_flat(cell)} for name, cells in document["conversion"].items() for cell in cells]
    )
    files = [("foundation.json", data_uri(read_small(place / "foundation.json", 2**24), "application/json"))]
    return write_page(
        "foundation.html",
        Path(out) if out is not None else place / "report.html",
        title=f"{document['recipe']}: {len(sources)} subjects in one space",
        document=document,
        sources=sources,
        panels=panels,
        caveats=foundation_caveats(document),
        recipe_yaml=read_small(place / "recipe.yaml"),
        files=[*files, ("conversion.csv", data_uri(table, "text/csv"))] if document["conversion"] else files,
    )


def _flat(cell: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in cell.items():
        if isinstance(value, list):
            found |= {f"{key}_lo": value[0], f"{key}_hi": value[1]}
        else:
            found[key] = value
    return found


def _scores(sources: Sequence[Mapping[str, Any]]) -> Panel:
    """Every subject's top-1 with its interval, chance and the shuffled control."""
    rows = [
        {
            "source": one["name"],
            "top1": one["test"]["top1"],
            "ci_lo": one["test"]["top1_ci95"][0],
            "ci_hi": one["test"]["top1_ci95"][1],
            "chance": one["test"]["chance_top1"],
            "shuffled": one["shuffled_top1"],
        }
        for one in sources
    ]
    alt = "Top-1 accuracy by subject. " + " ".join(
        f"{r['source']}: {percent(r['top1'])} ({interval((r['ci_lo'], r['ci_hi']))})." for r in rows
    )

    def paint(ax: Axes) -> None:
        places = np.arange(len(rows))
        ax.hlines(
            places, [100 * r["ci_lo"] for r in rows], [100 * r["ci_hi"] for r in rows], color=BLUE, alpha=0.5, lw=2.4
        )
        ax.plot([100 * r["top1"] for r in rows], places, "o", color=BLUE, label="test")
        ax.plot([100 * r["shuffled"] for r in rows], places, "s", color=ORANGE, markersize=4, label="shuffled control")
        ax.plot([100 * r["chance"] for r in rows], places, "|", color=MUTED, markersize=10, label="chance")
        ax.set_yticks(places, [clean(r["source"]) for r in rows])
        ax.invert_yaxis()
        ax.set_xlim(0, None)
        ax.set_xlabel("top-1 accuracy (%)")
        legend_above(ax)

    svg = draw("scores", alt, paint, (WIDTH, 1.0 + 0.26 * len(rows)))
    caption = "Each subject's test signals among its own test images. Bars: 95 % intervals over images."
    return Panel("scores", "Decoding, subject by subject", caption, alt, svg, csv_text(rows))


def _learning(history: Sequence[Mapping[str, float]], chosen: int) -> Panel:
    alt = f"Training and validation loss over {len(history)} epochs, mean over subjects. Chosen: epoch {chosen}."

    def paint(ax: Axes) -> None:
        epochs = [row["epoch"] for row in history]
        ax.plot(epochs, [r["train_loss"] for r in history], color=ORANGE, linestyle=(0, (5, 1.5)), label="training")
        ax.plot(epochs, [r["validation_loss"] for r in history], color=BLUE, label="validation")
        ax.axvline(chosen, color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)), label=f"chosen: epoch {chosen}")
        ax.set_xlabel("epoch")
        ax.set_ylabel("loss (nats), mean over subjects")
        legend_above(ax)

    table = csv_text([{k: row[k] for k in ("epoch", "train_loss", "validation_loss")} for row in history])
    caption = "The epoch is chosen by the mean validation loss; no test signal plays a part."
    return Panel("learning", "Learning curve", caption, alt, draw("learning", alt, paint), table)


def _matrix(name: str, cells: Cells) -> Panel:
    """Two-way identification from every modality (rows) to every other (columns)."""
    modalities = list(dict.fromkeys([c["source"] for c in cells] + [c["target"] for c in cells]))
    values = np.full((len(modalities), len(modalities)), np.nan)
    for cell in cells:
        values[modalities.index(cell["source"]), modalities.index(cell["target"])] = 100 * cell["two_way"]
    alt = f"Conversion, {name}: two-way identification. " + " ".join(
        f"{c['source']} to {c['target']}: {percent(c['two_way'])} ({interval(c['two_way_ci95'])})." for c in cells
    )

    def paint(ax: Axes) -> None:
        mesh = ax.pcolormesh(values, cmap="cividis", vmin=50, vmax=100, edgecolors=PAPER, linewidth=1)
        for cell in cells:
            row, column = modalities.index(cell["source"]), modalities.index(cell["target"])
            ink = "#ffffff" if 100 * cell["two_way"] < 78 else "#000000"
            low, high = (100 * end for end in cell["two_way_ci95"])
            said = f"{100 * cell['two_way']:.1f}\n[{low:.1f}, {high:.1f}]"
            ax.text(column + 0.5, row + 0.5, said, ha="center", va="center", color=ink, fontsize=8.5)
        ax.set_xticks(np.arange(len(modalities)) + 0.5, modalities)
        ax.set_yticks(np.arange(len(modalities)) + 0.5, modalities)
        ax.set_xlabel("to")
        ax.set_ylabel("from")
        ax.invert_yaxis()
        ax.grid(visible=False)
        ax.tick_params(length=0)
        bar = ax.figure.colorbar(mesh, ax=ax, pad=0.03, fraction=0.05)
        bar.outline.set_visible(False)
        bar.set_label("two-way identification (%)")
        bar.ax.grid(visible=False)

    slug = "conversion-" + "".join(c if c.isalnum() else "-" for c in name)
    caption = (
        "Chance 50 %. Brackets: 95 % intervals over images. On the diagonal: another subject of the same modality."
    )
    svg = draw(slug, alt, paint, (WIDTH, 3.3))
    return Panel(slug, f"Conversion: {name}", caption, alt, svg, csv_text([_flat(cell) for cell in cells]))
