"""The page of an analysis: one HTML file, the numbers behind every figure as CSV, figures in other formats."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainalign import __version__
from brainalign.analysis.base import Analysis, Figure, Table
from brainalign.files import write_json, write_text
from brainalign.report.embedded import PANELS, panels_document
from brainalign.report.figure_files import check_formats, made_folder, save_figure
from brainalign.report.figures import DepthAxis, Panel, clean, draw
from brainalign.report.page import csv_text, data_uri, write_page
from brainalign.report.style import INK, MARKERS, MUTED, SERIES, WIDTH

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCHEMA = "brainalign.analysis/1"
SIZE = (WIDTH, 3.05)
CHARACTERS_AN_INCH = 12.6  # of a legend in our type size, keys included
TABLE_ROWS_MAX = 200


@dataclass(frozen=True)
class HouseLook:
    """Colours and habits of all our figures; see `brainalign.analysis.base.Look`."""

    series: Sequence[str] = SERIES
    markers: Sequence[str] = MARKERS
    ink: str = INK
    muted: str = MUTED

    def name(self, text: object, longest: int = 28) -> str:
        """A label fit for a plot."""
        return clean(text, longest)

    def legend(self, ax: Axes) -> None:
        """A legend over the plot, in as many columns as its figure has room for."""
        handles, labels = ax.get_legend_handles_labels()
        if not handles:
            return
        room = CHARACTERS_AN_INCH * ax.figure.get_figwidth()  # type: ignore[union-attr]
        widths = [len(label) + 6 for label in labels]
        columns = len(labels) if sum(widths) <= room else max(1, int(room // max(widths)))
        ax.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns)

    def depths(self, layers: Sequence[tuple[str, float]], *, names: bool) -> DepthAxis:
        """Places of layers."""
        if names:
            return DepthAxis(layers, names=True)
        # Of several backbones one name stands at several depths; the axis knows blocks by their name.
        apart = ((name if name in DepthAxis.BEYOND else f"{name} at {depth}", depth) for name, depth in layers)
        return DepthAxis(apart, names=False)


LOOK = HouseLook()


def write_analysis(
    found: Analysis, out: str | Path, *, formats: Sequence[str] = (), asked: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write `index.html`, `analysis.json`, a CSV a figure and table, and the figures in other formats.

    Parameters
    ----------
    found : Analysis
    out : path-like
        Folder; made if it is missing.
    formats : sequence of {'svg', 'pdf', 'png'}
        The page holds its figures itself; these are separate files.
    asked : mapping, optional
        Paths and options of the analysis, to be recorded.

    Returns
    -------
    dict
        What `analysis.json` holds.

    Raises
    ------
    InputError
        For an unknown format, or a folder that cannot be written.
    """
    check_formats(formats)
    folder = made_folder(out, hint="choose another --out")
    document = _document(found, formats, asked or {})
    for name, rows in [*((f.name, f.rows) for f in found.figures), *((t.name, t.rows) for t in found.tables)]:
        write_text(folder / f"{name}.csv", csv_text(rows))
    for figure in found.figures:
        for one in formats:
            _save(figure, folder / f"{figure.name}.{one}", one)
    panels = [_panel(figure) for figure in found.figures]
    write_json(folder / PANELS, panels_document(panels))
    write_json(folder / "analysis.json", document)
    write_page(
        "analysis.html",
        folder / "index.html",
        title=found.title,
        found=found,
        said=[(kind, [f.text for f in found.findings if f.kind == kind]) for kind in _kinds(found)],
        panels=panels,
        tables=[_shown(table) for table in found.tables],
        document=data_uri(json.dumps(document, indent=1, ensure_ascii=False), "application/json"),
    )
    return document


def _kinds(found: Analysis) -> list[str]:
    present = {finding.kind for finding in found.findings}
    return [kind for kind in ("finding", "exploratory", "not measured", "limit") if kind in present]


def _document(found: Analysis, formats: Sequence[str], asked: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "name": found.name,
        "title": found.title,
        "brainalign": __version__,
        "virtual": found.virtual,
        **asked,
        "facts": dict(found.facts),
        "findings": [{"kind": f.kind, "text": f.text} for f in found.findings],
        "numbers": dict(found.numbers),
        "figures": [
            {"name": f.name, "title": f.title, "files": [f"{f.name}.{end}" for end in ("csv", *formats)]}
            for f in found.figures
        ],
        "tables": [{"name": t.name, "title": t.title, "files": [f"{t.name}.csv"]} for t in found.tables],
    }


def _panel(figure: Figure) -> Panel:
    svg = draw(figure.name, figure.alt, lambda ax: figure.paint(ax, LOOK), figure.size or SIZE)
    return Panel(figure.name, figure.title, figure.caption, figure.alt, svg, csv_text(figure.rows), figure.wide)


def _shown(table: Table) -> dict[str, Any]:
    """A table for the page."""
    rows = [[_cell(value) for value in row.values()] for row in table.rows[:TABLE_ROWS_MAX]]
    return {
        "name": table.name,
        "title": table.title,
        "columns": list(table.rows[0]) if table.rows else [],
        "rows": rows,
        "hidden": max(0, len(table.rows) - TABLE_ROWS_MAX),
        "href": data_uri(csv_text(table.rows)),
    }


def _cell(value: Any) -> tuple[str, bool]:
    """Text of a cell, and whether it is words."""
    if value is None:
        return "not measured", True
    if isinstance(value, float):
        return f"{value:.4g}", False
    return (f"{value:,}", False) if isinstance(value, int) else (str(value), True)


def _save(figure: Figure, path: Path, kind: str) -> None:
    """A figure as a file of its own."""
    save_figure(figure.name, lambda ax: figure.paint(ax, LOOK), figure.size or SIZE, path, kind)
