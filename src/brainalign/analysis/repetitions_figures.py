"""The figure of the repetitions analysis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from brainalign.analysis.base import Figure, Look
from brainalign.analysis.repetition_curves import WAYS, Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DASH: dict[str, Any] = {"signals": "-", "predictions": (0, (4, 1.6))}


def rows(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """One row a run, way and number of repetitions."""
    return [
        {
            "run": curve.name,
            "averaged": point.way,
            "repetitions": point.k,
            "top1": point.top1.estimate,
            "top1_ci95_lo": point.top1.lo,
            "top1_ci95_hi": point.top1.hi,
            "sd over draws": point.spread,
            "lowest draw": point.lowest,
            "highest draw": point.highest,
            "top5": point.top5.estimate,
            "top5_ci95_lo": point.top5.lo,
            "top5_ci95_hi": point.top5.hi,
            "chance_top1": curve.chance_top1,
            "chance_top5": curve.chance_top5,
        }
        for curve in curves
        for point in curve.points
    ]


def figures(curves: Sequence[Curve]) -> tuple[Figure, ...]:
    """Top-1 over the number of averaged repetitions, both ways, all runs."""

    def paint(ax: Axes, look: Look) -> None:
        for number, curve in enumerate(curves):
            for way in WAYS:
                _paint_curve(ax, look, curve, way, number, alone=len(curves) == 1)
        for chance in {curve.chance_top1 for curve in curves}:
            ax.axhline(100 * chance, color=look.muted, linewidth=0.9, linestyle=(0, (2, 2)))
        ks = sorted({point.k for curve in curves for point in curve.points})
        ax.set_xscale("log", base=2)
        ax.set_xticks(_apart(ks), [str(k) for k in _apart(ks)])
        ax.minorticks_off()
        ax.set_ylim(0, None)
        ax.set_xlabel("test repetitions averaged (log scale)")
        ax.set_ylabel("test top-1 (%)")
        look.legend(ax)

    said = "; ".join(
        f"{c.name}: from {100 * c.of('signals')[0].top1.estimate:.1f} % with {c.of('signals')[0].k} to "
        f"{100 * c.of('signals')[-1].top1.estimate:.1f} % with {c.of('signals')[-1].k} averaged signals"
        for c in curves
    )
    band = "Bands: 95 % interval over images (averaged signals)."
    return (
        Figure(
            name="repetitions-top1",
            title="Score over averaged repetitions (exploratory)",
            caption=f"{band} Whiskers: one standard deviation over draws of trials. Grey: chance. The test set was "
            "opened again for this figure; no choice may rest on it.",
            alt=f"Test top-1 over the number of averaged repetitions. {said}.",
            paint=paint,
            rows=rows(curves),
            size=(6.6, 3.6),
            wide=True,
        ),
    )


def _paint_curve(ax: Axes, look: Look, curve: Curve, way: str, number: int, *, alone: bool) -> None:
    points = curve.of(way)
    # One run: a colour a way. Several: a colour a run, a dash a way.
    colour = look.series[(WAYS.index(way) if alone else number) % len(look.series)]
    x = [p.k for p in points]
    what = f"{way} averaged" if alone else f"{look.name(curve.name, 20)}, {way}"
    ax.errorbar(
        x,
        [100 * p.top1.estimate for p in points],
        yerr=[100 * p.spread for p in points],
        color=colour,
        linestyle=DASH[way],
        marker=look.markers[(WAYS.index(way) if alone else number) % len(look.markers)],
        markerfacecolor=colour if way == "signals" else "none",
        elinewidth=0.8,
        capsize=2,
        label=what,
    )
    if way == "signals":
        lo, hi = [100 * p.top1.lo for p in points], [100 * p.top1.hi for p in points]
        ax.fill_between(x, lo, hi, color=colour, alpha=0.14, linewidth=0)


def _apart(ks: Sequence[int]) -> list[int]:
    """Numbers whose labels do not run into each other on a log scale: the last one, and what keeps clear of it."""
    kept = [ks[-1]]
    for k in reversed(ks[:-1]):
        if kept[-1] / k >= 1.4:
            kept.append(k)
    return kept[::-1]
