"""The figures of the losses analysis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from brainalign.analysis.base import Figure, Look
from brainalign.analysis.loss_curves import Band, Trained, band, band_of_subjects, by_subject, kind_of_runs
from brainalign.recipes.loss_settings import TERM_NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLES = {
    "weight": ("Weights of the terms", "weight in the loss"),
    "loss": ("Terms of the loss", "training loss of a term (nats)"),
    "norm": ("Gradients behind the weights", "norm of the gradient at the projector"),
    "velocity": ("Velocities of the gradients", "relative change of the norm a step"),
}
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1.5, 1.5)))
ACROSS = 4


def figures(runs: Sequence[Trained], kinds: Sequence[str]) -> tuple[Figure, ...]:
    """Weights, losses, norms and velocities with their spread; for several subjects the weights of each."""
    groups = by_subject(runs)
    found = []
    for kind in kinds:
        over = "subjects" if len(groups) > 1 else kind_of_runs([runs])
        bands = {
            term: band_of_subjects(runs, kind, term) if over == "subjects" else band(runs, kind, term)
            for term in runs[0].terms
        }
        found.append(_figure(kind, over, bands))
    if len(groups) > 1 and "weight" in kinds:
        found.insert(1, _subjects(groups, runs[0].terms))
    return tuple(found)


def rows_of(bands: dict[str, Band], **fixed: Any) -> list[dict[str, Any]]:
    """One row a term and epoch."""
    return [
        {**fixed, "term": term, "epoch": epoch, "mean": mean, "sd": None if math.isnan(sd) else sd, "n": one.n}
        for term, one in bands.items()
        for epoch, mean, sd in zip(one.epochs.tolist(), one.mean.tolist(), one.sd.tolist(), strict=True)
    ]


def _figure(kind: str, over: str, bands: dict[str, Band]) -> Figure:
    title, label = TITLES[kind]
    n = next(iter(bands.values())).n

    def paint(ax: Axes, look: Look) -> None:
        _paint_bands(ax, look, bands, equal=kind == "weight", log=kind == "velocity")
        ax.set_xlabel("epoch")
        ax.set_ylabel(label)
        look.legend(ax)

    spread = f"Bands: one standard deviation over {n} {over}." if n > 1 else "One run: no spread."
    grey = f" Grey: equal shares, 1/{len(bands)}." if kind == "weight" else ""
    said = "; ".join(f"{TERM_NAMES.get(t, t)} from {b.mean[0]:.3g} to {b.mean[-1]:.3g}" for t, b in bands.items())
    return Figure(
        name=f"losses-{kind}",
        title=title,
        caption=f"Means over the steps of an epoch. {spread}{grey}",
        alt=f"{title} over {len(next(iter(bands.values())).epochs)} epochs: {said}.",
        paint=paint,
        rows=rows_of(bands),
        size=(5.6, 3.2),
    )


def _subjects(groups: dict[str, list[Trained]], terms: Sequence[str]) -> Figure:
    """A panel a subject (NeuroAlign, figure 8), bands over its runs."""
    bands = {name: {term: band(mine, "weight", term) for term in terms} for name, mine in groups.items()}
    across = min(ACROSS, len(groups))
    down = math.ceil(len(groups) / across)

    def paint(ax: Axes, look: Look) -> None:
        figure = ax.figure
        ax.remove()
        grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
        for number, panel in enumerate(grid.ravel()):
            if number >= len(bands):
                panel.remove()
                continue
            name = list(bands)[number]
            _paint_bands(panel, look, bands[name], equal=True, log=False)
            panel.set_title(f"subject {look.name(name, 12)}")
        figure.supxlabel("epoch", size="medium")
        figure.supylabel("weight in the loss", size="medium")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=len(labels))

    counts = sorted({len(mine) for mine in groups.values()})
    most = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    over = f"{most} {kind_of_runs(groups.values())}"
    spread = f"Bands: one standard deviation over {over}." if counts[-1] > 1 else "One run a subject."
    return Figure(
        name="losses-weight-subjects",
        title="Weights of every subject",
        caption=f"Means over the steps of an epoch. {spread} Grey: equal shares, 1/{len(terms)}.",
        alt=f"Weights of the terms over epochs, a panel for each of {len(groups)} subjects.",
        paint=paint,
        rows=[row for name, mine in bands.items() for row in rows_of(mine, subject=name)],
        size=(9.2, 0.9 + 2.2 * down),
        wide=True,
    )


def _paint_bands(ax: Axes, look: Look, bands: dict[str, Band], *, equal: bool, log: bool) -> None:
    for number, (term, one) in enumerate(bands.items()):
        colour = look.series[number % len(look.series)]
        mark = look.markers[number % len(look.markers)] if len(one.epochs) < 4 else ""
        dash = DASHES[number % len(DASHES)]
        ax.plot(one.epochs, one.mean, color=colour, linestyle=dash, marker=mark, label=TERM_NAMES.get(term, term))
        if one.n > 1:
            low = one.mean - one.sd
            low = np.maximum(low, one.mean / 10) if log else low  # a log scale has no room for 0
            ax.fill_between(one.epochs, low, one.mean + one.sd, color=colour, alpha=0.18, linewidth=0)
    if log:
        ax.set_yscale("log")
        # Formulas are never parsed in our figures, so powers of ten are written out.
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.yaxis.set_minor_formatter(lambda value, _: "")
    if equal:
        ax.axhline(1 / len(bands), color=look.muted, linewidth=0.9, linestyle=(0, (2, 2)))
        ax.set_ylim(0, None)
