"""The plots of a sweep's report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from brainalign.report.figures import (
    BLUE,
    INK,
    MARKERS,
    MUTED,
    PAPER,
    SERIES,
    WIDTH,
    DepthAxis,
    Panel,
    clean,
    draw,
    legend_above,
)
from brainalign.report.page import csv_text
from brainalign.report.run_figures import METRICS, bare_row, headline_panel
from brainalign.report.sweep_file import CONDITION_KEYS, AxisOf, SweepFile
from brainalign.report.words import interval, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rows = Sequence[dict[str, Any]]
LAYER_AXES = ("layer", "target.layer")
SERIES_MAX = 6
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)))
LEGEND_MAX = 4  # lines beyond which a plot takes the whole width
CELL_TEXT_MAX = 80


class Places(Protocol):
    """Where rows stand from left to right."""

    def of(self, row: dict[str, Any]) -> float:
        """Horizontal place of a row."""

    def dress(self, ax: Axes) -> None:
        """Set ticks and label."""


class LayerPlaces:
    """Rows by the depth of their layer."""

    def __init__(self, rows: Rows) -> None:
        one = len({row["backbone"] for row in rows}) == 1
        self._axis = DepthAxis(((row["layer"], row["depth"]) for row in rows), names=one)

    def of(self, row: dict[str, Any]) -> float:
        """Horizontal place of a row."""
        return self._axis.place(row["layer"], row["depth"])

    def dress(self, ax: Axes) -> None:
        """Set ticks and label."""
        self._axis.dress(ax)


class ValuePlaces:
    """Rows by the value of any other axis, in the order of the sweep."""

    def __init__(self, axis: AxisOf, rows: Rows) -> None:
        self.name = axis.name
        self.values = list(dict.fromkeys(row[axis.name] for row in rows))

    def of(self, row: dict[str, Any]) -> float:
        """Horizontal place of a row."""
        return float(self.values.index(row[self.name]))

    def dress(self, ax: Axes) -> None:
        """Set ticks and label."""
        crowded = sum(len(clean(v, 14)) + 2 for v in self.values) > 44
        turn: dict[str, Any] = {"rotation": 30, "ha": "right"} if crowded else {}
        ax.set_xticks(range(len(self.values)), [clean(v, 14) for v in self.values], **turn)
        ax.set_xlim(-0.5, len(self.values) - 0.5)
        ax.set_xlabel(clean(self.name))


@dataclass(frozen=True)
class Point:
    """Mean of a series at one place, with the mean ends of its intervals and each condition's value."""

    x: float
    mean: float
    low: float
    high: float
    row: dict[str, Any]
    each: dict[tuple[str, ...], float]


def panels(sweep: SweepFile) -> list[Panel]:
    """All plots of a sweep that have something to show."""
    found = []
    if sweep.choices:
        found += [choice_curve(sweep, "validation"), choice_curve(sweep, "test")]
        names = {axis.name for axis in sweep.choices if len(axis.values) > 1}
        if names & set(LAYER_AXES) and names & {"pooling", "backbone"}:
            found.append(heat_map(sweep))
    if len(sweep.summary.conditions) > 1:
        found.append(conditions(sweep))
    return found


def headline(sweep: SweepFile) -> Panel:
    """Chosen rows, what they are compared with, and the control, beside chance."""
    summary, chance = sweep.summary, float(np.mean([result.metrics.test.chance_top1 for result in sweep.results]))
    first = bare_row("chosen", summary.mean.test_top1, chance)
    if sweep.interval is not None:
        first |= {"ci_lo": sweep.interval.lo, "ci_hi": sweep.interval.hi}
    rows = [first, *(bare_row(c.against, c.b, chance) for c in summary.comparisons)]
    controls = [result.shuffled.top1 for result in sweep.results if result.shuffled.top1 is not None]
    if len(controls) == len(sweep.results):
        rows.append(bare_row("shuffled control", float(np.mean(controls)), chance))
    return headline_panel(rows)


def choice_curve(sweep: SweepFile, part: str) -> Panel:
    """Validation score (what was chosen by) or exploratory test top-1 of every row, along the first axis of choice."""
    main = next((a for a in sweep.choices if a.name in LAYER_AXES), sweep.choices[0])
    by_layer = main.name in LAYER_AXES
    places: Places = LayerPlaces(sweep.rows) if by_layer else ValuePlaces(main, sweep.rows)
    metric = sweep.summary.chosen_by if part == "validation" else "test_top1"
    factor = 100 if metric.endswith("top1") else 1
    series = _series(sweep, main, metric, factor, places)
    lines = len(sweep.summary.conditions)
    label = METRICS.get(metric, metric) if part == "validation" else "test top-1 (%), exploratory"
    along = "layer" if by_layer else main.name
    alt = _curve_alt(series, label, along)
    chance = _chance_line(sweep, metric)

    def paint(ax: Axes) -> None:
        for number, (name, line) in enumerate(series.items()):
            _paint_series(ax, name, line, number, len(series), joined=by_layer, bars=part == "test", faint=lines > 1)
        _ring_chosen(ax, sweep.headline, places, metric, factor)
        if chance is not None:
            ax.axhline(factor * chance, color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)), label="chance")
        if metric != "validation_loss":
            ax.set_ylim(bottom=0)
        ax.set_ylabel(label)
        places.dress(ax)
        legend_above(ax)

    title = f"Validation score by {along}" if part == "validation" else f"Test score by {along} (exploratory)"
    name, wide = f"{part}-curve", len(series) > LEGEND_MAX
    svg = draw(name, alt, paint, (9.2, 4.2) if wide else (WIDTH, 3.05))
    return Panel(
        name, title, _curve_caption(part, lines, sweep.method), alt, svg, _curve_table(sweep, main, metric), wide=wide
    )


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Backbones without what their ids have in common: lite0, lite1 for pip:efficientnet-lite0, ...-lite1.

    Examples
    --------
    >>> short_names(["pip:efficientnet-lite0", "pip:efficientnet-lite1"])
    {'pip:efficientnet-lite0': 'lite0', 'pip:efficientnet-lite1': 'lite1'}
    >>> short_names(["timm:vit_base_patch16_224"])
    {'timm:vit_base_patch16_224': 'vit_base_patch16_224'}
    """
    ids = list(dict.fromkeys(names))
    alike = [len(set(letters)) == 1 for letters in zip(*ids, strict=False)] if len(ids) > 1 else []
    common = ids[0][: alike.index(False) if False in alike else len(alike)]
    cut = max(common.rfind(mark) for mark in "-_/.:") + 1
    return {name: name[cut:] if cut else name.partition(":")[2] or name for name in ids}


def _series(sweep: SweepFile, main: AxisOf, metric: str, factor: float, places: Places) -> dict[str, list[Point]]:
    """Rows gathered into lines: one a method that is compared and a combination of the other axes of choice."""
    methods = [axis.name for axis in sweep.compared if len(axis.values) > 1]
    others = [*methods, *(axis.name for axis in sweep.choices if axis is not main)]
    short = short_names(row["backbone"] for row in sweep.rows)
    gathered: dict[tuple[str, ...], dict[float, list[dict[str, Any]]]] = {}
    for row in sweep.rows:
        key = tuple(short.get(row[other], row[other]) for other in others) or (main.name,)
        gathered.setdefault(key, {}).setdefault(places.of(row), []).append(row)
    names = {key: ", ".join(clean(part, 18) for part in key) for key in gathered}
    if len(set(names.values())) < len(names):  # they differ where they are cut
        names = {key: ", ".join(key) for key in gathered}
    return {
        names[key]: [_point(x, rows, metric, factor) for x, rows in sorted(at.items())] for key, at in gathered.items()
    }


def _point(x: float, rows: Rows, metric: str, factor: float) -> Point:
    by_condition: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        by_condition.setdefault(tuple(row[key] for key in CONDITION_KEYS), []).append(factor * row[metric])
    each = {condition: float(np.mean(values)) for condition, values in by_condition.items()}
    low, high = (100 * float(np.mean([row[f"test_top1_ci_{end}"] for row in rows])) for end in ("lo", "hi"))
    return Point(x, float(np.mean(list(each.values()))), low, high, rows[0], each)


def _paint_series(
    ax: Axes, name: str, line: Sequence[Point], number: int, n_series: int, *, joined: bool, bars: bool, faint: bool
) -> None:
    colour, marker = SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)]
    style = {"color": colour, "linewidth": 0.8, "alpha": 0.35, "linestyle": "-" if joined else ""}
    if faint:
        for condition in dict.fromkeys(c for point in line for c in point.each):
            held = [(p.x, p.each[condition]) for p in line if condition in p.each]
            mark = "" if joined and len(held) > 1 else marker
            ax.plot([x for x, _ in held], [y for _, y in held], marker=mark, markersize=3, **style)  # type: ignore[arg-type]
    if bars:
        for point in line:
            ax.plot([point.x] * 2, [point.low, point.high], color=colour, linewidth=1, alpha=0.6)
    label = clean(name) if n_series > 1 else "mean of conditions" if faint else "score"
    ax.plot(
        [p.x for p in line],
        [p.mean for p in line],
        marker=marker,
        color=colour,
        label=label,
        linestyle=DASHES[number // len(SERIES) % len(DASHES)] if joined else "",
    )


def _ring_chosen(ax: Axes, rows: Rows, places: Places, metric: str, factor: float) -> None:
    chosen = [(places.of(row), factor * row[metric]) for row in rows if row["chosen"]]
    ring = {"markersize": 11, "markerfacecolor": "none", "markeredgecolor": INK, "linestyle": ""}
    ax.plot([x for x, _ in chosen], [y for _, y in chosen], "o", label="chosen", **ring)  # type: ignore[arg-type]


def _chance_line(sweep: SweepFile, metric: str) -> float | None:
    """What guessing gives, where it is the same in all conditions."""
    part = "test" if metric == "test_top1" else "validation"
    ways = {getattr(result.metrics, part).n_way for result in sweep.results}
    if len(ways) > 1 or metric == "validation_loss":
        return None
    n = ways.pop()
    return float(np.mean(1 / np.arange(1, n + 1))) if metric == "validation_mrr" else 1 / n


def _curve_alt(series: dict[str, list[Point]], label: str, along: str) -> str:
    better = min if "lower" in label else max
    said = []
    for name, line in list(series.items())[:SERIES_MAX]:
        top = better(line, key=lambda p: p.mean)
        value = top.row["layer"] if along == "layer" else top.row[along]
        said.append(f"{name}: best {top.mean:.3g} at {value}")
    return f"{label} by {along}. {'; '.join(said)}."


def _curve_caption(part: str, n_conditions: int, method: str) -> str:
    of = f" of {method}, the method that this sweep stands for" if method else ""
    many = f" Bold: mean over {n_conditions} conditions; faint: each condition." if n_conditions > 1 else ""
    if part == "validation":
        return f"What the choice was made by; rings mark the chosen row{'s' if n_conditions > 1 else ''}{of}.{many}"
    bars = (
        "95 % intervals over images, their ends averaged over conditions"
        if n_conditions > 1
        else "95 % intervals over images"
    )
    return f"Exploratory: all rows were scored at the one opening, after the choice (rings{of}). Bars: {bars}.{many}"


def _curve_table(sweep: SweepFile, main: AxisOf, metric: str) -> str:
    axes = [axis.name for axis in (*sweep.compared, *sweep.choices)]
    keys = [*CONDITION_KEYS, "backbone", "layer", "depth", "pooling", *axes, metric]
    keys += ["test_top1_ci_lo", "test_top1_ci_hi"] if metric == "test_top1" else []
    return csv_text([{key: row[key] for key in [*dict.fromkeys(keys), "chosen"]} for row in sweep.rows])


def heat_map(sweep: SweepFile) -> Panel:
    """Validation score, layers across and poolings down (of each backbone), mean over conditions, of one method."""
    rows, metric = sweep.headline, sweep.summary.chosen_by
    factor = 100 if metric == "validation_top1" else 1
    layers = list(dict.fromkeys(row["layer"] for row in sorted(rows, key=_from_first)))
    short = short_names(row["backbone"] for row in rows)

    def line(row: dict[str, Any]) -> str:
        return row["pooling"] if len(short) == 1 else f"{short[row['backbone']]} {row['pooling']}"

    poolings = list(dict.fromkeys(line(row) for row in rows))
    cells = np.full((len(poolings), len(layers)), np.nan)
    for down, pooling in enumerate(poolings):
        for across, layer in enumerate(layers):
            values = [row[metric] for row in rows if row["layer"] == layer and line(row) == pooling]
            if values:
                cells[down, across] = factor * np.mean(values)
    chosen = {(poolings.index(line(row)), layers.index(row["layer"])) for row in rows if row["chosen"]}
    label = METRICS.get(metric, metric)
    best = np.nanargmin(cells) if metric == "validation_loss" else np.nanargmax(cells)
    down_best, across_best = (int(i) for i in np.unravel_index(best, cells.shape))
    alt = (
        f"{label} for {len(layers)} layers and {len(poolings)} poolings; "
        f"best at layer {layers[across_best]}, {poolings[down_best]}."
    )

    def paint(ax: Axes) -> None:
        _paint_cells(ax, cells, chosen, label)
        ax.set_xticks(np.arange(len(layers)) + 0.5, [clean(name, 8) for name in layers])
        ax.set_yticks(np.arange(len(poolings)) + 0.5, [clean(name, 18) for name in poolings])
        ax.set_xlabel("layer, first to last")
        ax.set_ylabel("pooling" if len(short) == 1 else "backbone and pooling")

    table = csv_text(
        [
            {"pooling": p, "layer": n, metric: cells[d, a]}
            for d, p in enumerate(poolings)
            for a, n in enumerate(layers)
            if np.isfinite(cells[d, a])
        ]
    )
    caption = "Mean over conditions; frames mark chosen rows, empty cells were not run."
    caption += f" Of {sweep.method} alone." if sweep.method else ""
    size = (9.2, 1.35 + 0.42 * len(poolings))
    return Panel(
        "heat", "Validation score by layer and pooling", caption, alt, draw("heat", alt, paint, size), table, wide=True
    )


def _from_first(row: dict[str, Any]) -> tuple[float, float]:
    if row["layer"].isdigit():  # blocks of several backbones share names, not depths
        return (0, float(row["layer"]))
    last = DepthAxis.BEYOND.index(row["layer"]) + 1 if row["layer"] in DepthAxis.BEYOND else 0
    return (last, row["depth"])


def _paint_cells(ax: Axes, cells: Any, chosen: set[tuple[int, int]], label: str) -> None:
    from matplotlib.patches import Rectangle

    mesh = ax.pcolormesh(np.ma.masked_invalid(cells), cmap="cividis", edgecolors=PAPER, linewidth=1)
    ax.grid(visible=False)
    ax.invert_yaxis()
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    ax.tick_params(length=0)
    if cells.size <= CELL_TEXT_MAX:
        low, high = np.nanmin(cells), np.nanmax(cells)
        for (down, across), value in np.ndenumerate(cells):
            if np.isfinite(value):
                colour = "white" if value - low < 0.55 * (high - low) else "#101010"
                text = f"{value:.0f}" if high > 10 else f"{value:.2f}".removeprefix("0")
                ax.text(across + 0.5, down + 0.5, text, ha="center", va="center", color=colour, fontsize=9)
    for down, across in chosen:
        box = Rectangle((across + 0.04, down + 0.04), 0.92, 0.92, fill=False, edgecolor="#d55e00", linewidth=2.4)
        ax.add_patch(box)
    bar = ax.figure.colorbar(mesh, ax=ax, pad=0.015, fraction=0.05, aspect=12)
    bar.outline.set_visible(False)
    bar.set_label(label.replace("mean reciprocal rank", "mean\nreciprocal rank"))
    bar.ax.grid(visible=False)


def conditions(sweep: SweepFile) -> Panel:
    """Test top-1 of the chosen row in every condition."""
    summary = sweep.summary
    varying = [k for k in CONDITION_KEYS if len({getattr(c, k) for c in summary.conditions}) > 1] or ["subject"]
    names = [", ".join(f"{key} {getattr(c, key)}" for key in varying) for c in summary.conditions]
    said = "; ".join(f"{n}: {percent(c.test_top1)}" for n, c in zip(names, summary.conditions, strict=True))
    alt = f"Test top-1 of the chosen row in {len(names)} conditions. {said}."

    def paint(ax: Axes) -> None:
        for y, condition in enumerate(summary.conditions):
            low, high = (100 * end for end in condition.test_top1_ci95)
            ax.plot([low, high], [y, y], color=BLUE, linewidth=2, alpha=0.55, solid_capstyle="butt")
            ax.plot(100 * condition.test_top1, y, "o", color=BLUE, markersize=6)
            chance = 100 * sweep.results[y].metrics.test.chance_top1
            ax.plot([chance] * 2, [y - 0.3, y + 0.3], color=MUTED, linewidth=1.6, label="chance" if y == 0 else None)
        ax.axvline(
            100 * summary.mean.test_top1, color=INK, linewidth=0.8, linestyle=(0, (4, 2)), label="mean of conditions"
        )
        ax.set_yticks(range(len(names)), [clean(name, 24) for name in names])
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.set_xlim(0, min(101.0, 115 * max(c.test_top1_ci95[1] for c in summary.conditions)))
        ax.grid(axis="y", visible=False)
        ax.grid(axis="x")
        ax.set_xlabel("test top-1 (%)")
        legend_above(ax)

    table = csv_text(
        [
            {"subject": c.subject, "split": c.split, "seed": c.seed, "test_top1": c.test_top1}
            | {"ci_lo": c.test_top1_ci95[0], "ci_hi": c.test_top1_ci95[1]}
            for c in summary.conditions
        ]
    )
    ends = [c.test_top1 for c in summary.conditions]
    caption = f"The chosen row of each condition: {interval((min(ends), max(ends)))}. Bars: 95 % intervals over images."
    size = (WIDTH, 1.1 + 0.3 * len(names))
    return Panel("conditions", "Every condition", caption, alt, draw("conditions", alt, paint, size), table)
