"""The figures of the time analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from brainalign.analysis.base import Figure, Look
from brainalign.analysis.time_findings import METRICS, Differences, Planted, ms
from brainalign.analysis.time_scores import Curve, Generalised, Settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AXES = {
    "growing": ("Growing windows", "end t of the window [0, t] (s)"),
    "shrinking": ("Shrinking windows", "start t of the window [t, end] (s)"),
    "sliding": ("Sliding windows", "middle of the window (s)"),
}


def rows(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """One row a run, kind and window."""
    found = []
    for curve in curves:
        both = (curve.scored, curve.fine) if curve.scored.metric != curve.fine.metric else (curve.scored,)
        for number, window in enumerate(curve.windows):
            row: dict[str, Any] = {
                "run": curve.name,
                "windows": curve.kind,
                "model": curve.model,
                "start_s": window.start,
                "stop_s": window.stop,
            }
            for scored in (curve.scored, curve.fine) if len(both) == 2 else both:
                interval = scored.intervals[number]
                row |= {
                    scored.metric: float(scored.corrected.scores[number]),
                    f"{scored.metric}_ci95_lo": interval.lo,
                    f"{scored.metric}_ci95_hi": interval.hi,
                    f"{scored.metric}_p_corrected": float(scored.corrected.p[number]),
                    f"{scored.metric}_chance": scored.chance,
                }
            found.append(row)
    return found


def figures(
    curves: Sequence[Curve],
    grids: Sequence[Generalised],
    differences: Differences,
    truth: Planted,
    settings: Settings,
) -> tuple[Figure, ...]:
    """A figure a kind of window, the differences between runs, and a map a run of time generalisation."""
    kinds = list(dict.fromkeys(curve.kind for curve in curves))
    found = [_kind([c for c in curves if c.kind == kind], truth, settings) for kind in kinds]
    if differences:
        found.append(_differences(differences, settings))
    return (*found, *(_grid(grid, settings, number) for number, grid in enumerate(grids)))


def _kind(curves: Sequence[Curve], truth: Planted, settings: Settings) -> Figure:
    kind = curves[0].kind
    title, label = AXES[kind]
    what = METRICS[settings.metric]

    def paint(ax: Axes, look: Look) -> None:
        # Marks of significance stand in rows of their own under the curves.
        floor = min(float(100 * i.lo) for c in curves for i in c.scored.intervals)
        top = max(float(100 * i.hi) for c in curves for i in c.scored.intervals)
        row = 0.045 * (top - floor)
        for number, curve in enumerate(curves):
            _paint_curve(ax, look, curve, number, floor - (number + 1.2) * row, alone=len(curves) == 1)
        ax.axhline(100 * curves[0].scored.chance, color=look.muted, linewidth=0.9, linestyle=(0, (2, 2)))
        if kind == "sliding":
            _paint_planted(ax, look, truth)
            if curves[0].windows[0].start < 0:
                ax.axvline(0, color=look.muted, linewidth=0.9)
        ax.set_ylim(floor - (len(curves) + 1.2) * row, top + row)
        ax.set_xlabel(label)
        ax.set_ylabel(f"{settings.images} {what} (%)")
        look.legend(ax)

    exploratory = " (exploratory)" if settings.images == "test" else ""
    note = " The test set was opened again for this; no choice may rest on it." if exploratory else ""
    virtual = " Vertical bands: latencies that the virtual brain was given." if kind == "sliding" and truth else ""
    said = "; ".join(
        f"{c.name}: highest {100 * c.scored.corrected.scores.max():.1f} % in "
        f"{ms(c.windows[int(c.scored.corrected.scores.argmax())])}"
        for c in curves
    )
    return Figure(
        name=f"time-{kind}",
        title=title + exploratory,
        caption=f"Bands: 95 % interval over images. Squares below: above chance, corrected for all windows "
        f"(p <= {settings.alpha:g}). Grey: chance.{virtual}{note}",
        alt=f"{title}: {what} over time. {said}.",
        paint=paint,
        rows=rows(curves),
        size=(6.0, 3.4),
    )


def _paint_curve(ax: Axes, look: Look, curve: Curve, number: int, below: float, *, alone: bool) -> None:
    colour, x = look.series[number % len(look.series)], curve.places
    y = 100 * curve.scored.corrected.scores
    marker = look.markers[number % len(look.markers)] if len(x) <= 30 else ""
    dash = ("-", (0, (4, 1.5)), (0, (1.5, 1.2)))[number % 3]
    ax.plot(x, y, color=colour, marker=marker, linestyle=dash, label=None if alone else look.name(curve.name, 24))
    lo, hi = ([100 * getattr(i, end) for i in curve.scored.intervals] for end in ("lo", "hi"))
    ax.fill_between(x, lo, hi, color=colour, alpha=0.15, linewidth=0)
    sure = curve.scored.corrected.scores > curve.scored.corrected.threshold
    ax.plot(x[sure], np.full(int(sure.sum()), below), linestyle="", marker="s", markersize=3, color=colour)


def _paint_planted(ax: Axes, look: Look, truth: Planted) -> None:
    spans: dict[tuple[float, ...], Mapping[str, Any]] = {
        tuple(p["range_s"]): p for pathways in truth.values() for p in pathways.values()
    }
    for start, stop in spans:
        ax.axvspan(start, stop, color=look.muted, alpha=0.16, linewidth=0)


def _differences(differences: Differences, settings: Settings) -> Figure:
    kinds = list(dict.fromkeys(first.kind for first, _, _ in differences))

    def paint(ax: Axes, look: Look) -> None:
        figure = ax.figure
        ax.remove()
        panels = figure.subplots(1, len(kinds), squeeze=False, sharey=True)[0]
        for panel, kind in zip(panels, kinds, strict=True):
            shown = [one for one in differences if one[0].kind == kind]
            for number, (first, second, found) in enumerate(shown):
                colour = look.series[(number + 2) % len(look.series)]
                name = f"{look.name(first.name, 16)} − {look.name(second.name, 16)}"
                panel.plot(first.places, 100 * found.difference, color=colour, label=name)
                panel.fill_between(first.places, 100 * found.lo, 100 * found.hi, color=colour, alpha=0.16, linewidth=0)
                sure = found.p <= settings.alpha
                panel.plot(first.places[sure], 100 * found.difference[sure], linestyle="", marker="s", color=colour)
            panel.axhline(0, color=look.muted, linewidth=0.9, linestyle=(0, (2, 2)))
            panel.set_title(AXES[kind][0])
            panel.set_xlabel("time (s)")
        panels[0].set_ylabel(f"difference of {METRICS[settings.metric]} (points)")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=2)

    found = [
        {
            "run": first.name,
            "minus": second.name,
            "windows": first.kind,
            "start_s": window.start,
            "stop_s": window.stop,
            "difference": float(one.difference[i]),
            "ci95_lo": float(one.lo[i]),
            "ci95_hi": float(one.hi[i]),
            "p_corrected": float(one.p[i]),
        }
        for first, second, one in differences
        for i, window in enumerate(first.windows)
    ]
    return Figure(
        name="time-differences",
        title="Differences between runs" + (" (exploratory)" if settings.images == "test" else ""),
        caption="Bands: 95 % interval over images, not corrected. Squares: differs from 0, corrected for all windows.",
        alt=f"Difference of {METRICS[settings.metric]} between runs over time, {len(differences)} curve(s).",
        paint=paint,
        rows=found,
        size=(9.2 if len(kinds) > 1 else 6.0, 3.5),
        wide=len(kinds) > 1,
    )


def _grid(grid: Generalised, settings: Settings, number: int) -> Figure:
    middles = [window.at for window in grid.windows]
    half = (middles[1] - middles[0]) / 2 if len(middles) > 1 else (grid.windows[0].stop - grid.windows[0].start) / 2
    extent = (middles[0] - half, middles[-1] + half, middles[0] - half, middles[-1] + half)

    def paint(ax: Axes, look: Look) -> None:
        image = ax.imshow(100 * grid.scores, origin="lower", extent=extent, aspect="equal", cmap="cividis")
        sure = grid.p <= settings.alpha
        tested, trained = np.meshgrid(middles, middles)
        ax.plot(tested[sure], trained[sure], linestyle="", marker="o", markersize=2.5, color="white")
        ax.plot(middles, middles, color=look.muted, linewidth=0.8, linestyle=(0, (2, 2)))
        ax.grid(visible=False)
        ax.set_xlabel("middle of the test window (s)")
        ax.set_ylabel("middle of the training window (s)")
        bar = ax.figure.colorbar(image, ax=ax, shrink=0.85)
        bar.set_label(f"{settings.images} {METRICS[grid.metric]} (%)")

    found = [
        {
            "run": grid.name,
            "trained_start_s": a.start,
            "trained_stop_s": a.stop,
            "tested_start_s": b.start,
            "tested_stop_s": b.stop,
            grid.metric: float(grid.scores[i, j]),
            "p_corrected": float(grid.p[i, j]),
        }
        for i, a in enumerate(grid.windows)
        for j, b in enumerate(grid.windows)
    ]
    return Figure(
        name=f"time-generalisation-{number + 1}",
        title=f"Time generalisation: {grid.name}" + (" (exploratory)" if settings.images == "test" else ""),
        caption=f"Ridge maps trained in one window, tested in another. White dots: above chance, corrected for all "
        f"{len(middles) ** 2} pairs (p <= {settings.alpha:g}). Chance: {100 * grid.chance:.1f} %.",
        alt=f"Map of {METRICS[grid.metric]} over training and test windows of {grid.name}.",
        paint=paint,
        rows=found,
        size=(5.6, 4.4),
    )
