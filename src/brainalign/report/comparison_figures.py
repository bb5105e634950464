"""Curves of several runs over one another: validation loss by epoch, and rank of the shown image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainalign.evaluation.result import Result
from brainalign.report.figures import MARKERS, MUTED, SERIES, Panel, clean, draw, legend_above
from brainalign.report.page import csv_text, number, read_table
from brainalign.report.retrievals import Retrievals
from brainalign.report.words import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES_MAX = 6
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1.5, 1.5)), (0, (8, 2)), (0, (3, 1)))


@dataclass(frozen=True)
class Compared:
    """A run among others.

    Attributes
    ----------
    name : str
        Short, and of one run only.
    folder : Path
    result : Result
    """

    name: str
    folder: Path
    result: Result


def overlaid(runs: Sequence[Compared]) -> list[Panel]:
    """All curves that two runs or more have; six runs at most."""
    shown = runs[:LINES_MAX]
    found = [_ranks(shown)]
    trained = [run for run in shown if run.result.selection.epoch is not None]
    if len(trained) > 1:
        found.append(_learning(trained))
    return found


def _style(index: int) -> dict[str, Any]:
    return {"color": SERIES[index % len(SERIES)], "linestyle": DASHES[index % len(DASHES)]}


def _ranks(runs: Sequence[Compared]) -> Panel:
    """Share of queries with their image among the first k, of every run."""
    curves = {run.name: Retrievals(run.folder).cumulative() for run in runs}
    n = runs[0].result.metrics.test.n_way
    said = " ".join(f"{name}: {percent(float(shares[0]))} first." for name, (_, shares) in curves.items())
    alt = f"Share of queries whose image is among the first k of {n}, {len(runs)} runs. {said} Chance is k / {n}."

    def paint(ax: Axes) -> None:
        for index, (name, (ks, shares)) in enumerate(curves.items()):
            ax.step(ks, 100 * shares, where="post", label=clean(name, 24), **_style(index))
        ks = next(iter(curves.values()))[0]
        ax.plot(ks, 100 * ks / n, color=MUTED, linewidth=1, linestyle=(0, (2, 2)), label="chance")
        ax.set_xscale("log")
        ticks = [*(t for t in (10**p for p in range(math.floor(math.log10(n)) + 1)) if t <= n / 2), n]
        ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
        ax.set_xticks([], minor=True)
        ax.set_ylim(0, 104)
        ax.set_xlabel(f"k, first images of {n} (logarithmic)")
        ax.set_ylabel("queries with their\nimage among them (%)")
        legend_above(ax)

    rows = [
        {"run": name, "k": int(k), "share": float(share), "chance": float(k / n)}
        for name, (ks, shares) in curves.items()
        for k, share in zip(ks, shares, strict=True)
    ]
    caption = "Test images. Where lines cross, one run is better at the very first place and another one farther down."
    return Panel("beside-ranks", "Ranks of all runs", caption, alt, draw("beside-ranks", alt, paint), csv_text(rows))


def _learning(runs: Sequence[Compared]) -> Panel:
    """Validation loss by epoch, of every run that was trained in epochs."""
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for run in runs:
        path = run.folder / "history.csv"
        table = read_table(path)
        curves[run.name] = tuple([number(row, key, path) for row in table] for key in ("epoch", "validation_loss"))  # type: ignore[assignment]
    # BraVL is validated by a bound or by retrieval; the others by the contrastive loss.
    own = any(run.result.encoder == "bravl" for run in runs)
    unit = "" if own else " nats"
    lowest = " ".join(f"{name}: lowest {min(losses):.2f}{unit}." for name, (_, losses) in curves.items())
    alt = f"Validation loss by epoch of {len(runs)} runs. {lowest}"

    def paint(ax: Axes) -> None:
        for index, (run, (epochs, losses)) in enumerate(zip(runs, curves.values(), strict=True)):
            ax.plot(epochs, losses, label=clean(run.name, 24), **_style(index))
            at = [loss for epoch, loss in zip(epochs, losses, strict=True) if epoch == run.result.selection.epoch]
            if at:
                colour, marker = SERIES[index % len(SERIES)], MARKERS[index % len(MARKERS)]
                ax.plot(float(run.result.selection.epoch or 0), at[0], marker, color=colour, markersize=7)
        ax.set_xlabel("epoch")
        ax.set_ylabel("validation loss (each run's own)" if own else "validation loss (nats)")
        legend_above(ax)

    rows = [
        {"run": name, "epoch": epoch, "validation_loss": loss}
        for name, (epochs, losses) in curves.items()
        for epoch, loss in zip(epochs, losses, strict=True)
    ]
    caption = (
        "Markers: the epoch that is reported. Losses compare only between runs with the same validation images and the "
        "same terms."
    )
    return Panel(
        "beside-learning", "Learning curves of all runs", caption, alt, draw("beside-learning", alt, paint),
        csv_text(rows),
    )  # fmt: skip
