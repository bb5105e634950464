"""Figures of the representational similarity analysis: curves over depth, and maps of layer by time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from brainalign.analysis.base import Figure, Look
from brainalign.analysis.rsa_results import Compared, Curve, Timed, rows_of, timed_rows
from brainalign.analysis.rsa_words import SYMBOLS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL_WIDTH, PANEL_HEIGHT, COLUMNS_MAX = 4.4, 3.3, 2
SHIFT = 0.006  # in depth, between curves, so that whiskers do not hide each other
MAP_WIDTH = 5.4


def figures(compared: Sequence[Compared], timed: Sequence[Timed], measure: str) -> tuple[Figure, ...]:
    """All figures."""
    symbol = SYMBOLS[measure]
    maps = [(s, c) for s in dict.fromkeys(t.source.name for t in timed) for c in _curves(timed)]
    return (_depth(compared, symbol), *(_time(timed, s, c, symbol, i) for i, (s, c) in enumerate(maps)))


def _depth(compared: Sequence[Compared], symbol: str) -> Figure:
    columns = min(len(compared), COLUMNS_MAX)
    lines = -(-len(compared) // columns)

    def paint(ax: Axes, look: Look) -> None:
        figure: Any = ax.figure
        ax.remove()
        panels = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
        for panel, one in zip(panels, compared, strict=False):
            _paint_curves(panel, look, one)
            n = len(one.source.found.subjects)
            panel.set_title(
                f"{look.name(one.source.name, 34)} ({n} subject{'s' * (n > 1)})", color=look.ink, fontsize=9
            )
        for panel in panels[len(compared) :]:
            panel.remove()
        for panel in panels[: len(compared) : columns]:
            panel.set_ylabel(f"similarity ({symbol})")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=2 if columns > 1 else 1, fontsize=8)

    tops = "; ".join(
        f"{best.source}, {best.model.backbone}: layer {best.model.layer}, {best.estimate.mean:.3f}"
        for one in compared
        for best in one.best()
    )
    ceiling = " Grey band: noise ceiling, lower to upper bound." if any(c.assessed.bounds() for c in compared) else ""
    return Figure(
        name="rsa-depth",
        title="Similarity of layers and brains over depth",
        caption="Mean over subjects. Whiskers: 95 % interval over subjects and images (one subject: over images)."
        f"{ceiling} Large marker: the best layer of its curve.",
        alt=f"{symbol} of dissimilarities over the depth of the layer. Best layers: {tops}.",
        paint=paint,
        rows=rows_of(compared),
        size=(PANEL_WIDTH * columns, PANEL_HEIGHT * lines + 0.5),
        wide=True,
    )


def _paint_curves(ax: Axes, look: Look, one: Compared) -> None:
    curves = one.curves()
    places = look.depths([(m.layer, m.depth) for m in one.models], names=len({m.backbone for m in one.models}) == 1)
    bounds = one.assessed.bounds()
    if bounds is not None:
        ax.axhspan(bounds[0].mean, bounds[1].mean, color=look.muted, alpha=0.22, linewidth=0, label="noise ceiling")
    ax.axhline(0, color=look.muted, linewidth=0.8, linestyle=(0, (2, 2)))
    tops = {best.model.curve: best.place for best in one.best()}
    for number, (curve, members) in enumerate(curves.items()):
        _paint_curve(ax, look, one, members, tops[curve], number, len(curves), places, _label(curve, curves, look))
    places.dress(ax)


def _paint_curve(
    ax: Axes,
    look: Look,
    one: Compared,
    members: Sequence[int],
    top: int,
    number: int,
    n_curves: int,
    places: Any,
    label: str,
) -> None:
    """Blocks joined by a line; `head` and `final` beside them."""
    colour, marker = look.series[number % len(look.series)], look.markers[number % len(look.markers)]
    shift = SHIFT * (number - (n_curves - 1) / 2)
    x = {i: places.place(one.models[i].layer, one.models[i].depth) + shift for i in members}
    estimates = {i: one.assessed.estimate(i) for i in members}
    blocks = [i for i in members if one.models[i].layer not in ("head", "final")]
    ax.plot([x[i] for i in blocks], [estimates[i].mean for i in blocks], color=colour, linewidth=1.2)
    means = np.array([estimates[i].mean for i in members])
    ends = np.array([estimates[i].interval for i in members])
    ax.errorbar(
        [x[i] for i in members],
        means,
        yerr=np.abs(ends.T - means),
        color=colour,
        linestyle="none",
        marker=marker,
        markersize=4,
        elinewidth=0.7,
        label=label,
    )
    ax.plot([x[top]], [estimates[top].mean], color=colour, marker=marker, markersize=9, markeredgecolor=look.ink)


def _label(curve: Curve, curves: Any, look: Look) -> str:
    pooled = f", {curve[1]}" if len({c[1] for c in curves}) > 1 else ""
    return look.name(curve[0], 34) + pooled


def _time(timed: Sequence[Timed], source: str, curve: Curve, symbol: str, number: int) -> Figure:
    mine = [one for one in timed if one.source.name == source]
    members = [i for i, model in enumerate(mine[0].models) if model.curve == curve]
    layers = [mine[0].models[i].layer for i in members]
    values = np.array([[one.assessed.scores[i].mean() for one in mine] for i in members])
    starts = [1000 * one.source.window[0] for one in mine if one.source.window]
    stops = [1000 * one.source.window[1] for one in mine if one.source.window]
    middles = [(a + b) / 2 for a, b in zip(starts, stops, strict=True)]

    def paint(ax: Axes, look: Look) -> None:
        half = (middles[1] - middles[0]) / 2 if len(middles) > 1 else (stops[0] - starts[0]) / 2
        reach = float(np.abs(values).max()) or 1.0
        box = (middles[0] - half, middles[-1] + half, -0.5, len(layers) - 0.5)
        image = ax.imshow(
            values,
            aspect="auto",
            origin="lower",
            extent=box,
            cmap="RdBu_r",
            vmin=-reach,
            vmax=reach,
            interpolation="none",
        )
        ax.set_yticks(range(len(layers)), layers, fontsize=7)
        ax.set_ylabel("layer")
        ax.set_xlabel("middle of the window (ms from stimulus onset)")
        if box[0] < 0 < box[1]:
            ax.axvline(0, color=look.ink, linewidth=0.8, linestyle=(0, (2, 2)))
        ax.grid(False)
        bar = ax.figure.colorbar(image, ax=ax)
        bar.set_label(f"similarity ({symbol})")

    at = np.unravel_index(int(values.argmax()), values.shape)
    return Figure(
        name=f"rsa-time-{number + 1}",
        title=f"Similarity over time: {source}, {curve[0]}",
        caption=f"Windows of {stops[0] - starts[0]:.0f} ms, mean over subjects; intervals are in the table. "
        "Exploratory: windows and layers are not corrected for their number.",
        alt=f"{symbol} by layer and window of time; highest, {values.max():.3f}, for layer {layers[at[0]]} around "
        f"{middles[at[1]]:.0f} ms.",
        paint=paint,
        rows=[row for row in timed_rows(mine) if (row["backbone"], row["pooling"]) == curve],
        size=(MAP_WIDTH, max(2.6, 0.19 * len(layers) + 1.1)),
        wide=True,
    )


def _curves(timed: Sequence[Timed]) -> list[Curve]:
    return list(dict.fromkeys(model.curve for one in timed for model in one.models))
