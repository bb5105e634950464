"""Plots of a loss with several terms: how each went, and how much it weighed (NeuroAlign, figures 5b and 8)."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainalign.recipes.loss_settings import TERM_NAMES
from brainalign.report.figures import MUTED, SERIES, Panel, draw, legend_above
from brainalign.report.page import csv_text, number, read_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1.5, 1.5)))
SAMPLED = 4000  # steps beyond which the table of a panel holds every n-th only
Rows = Sequence[dict[str, Any]]


def read_steps(path: Path) -> list[dict[str, float]]:
    """Rows of `steps.csv`, all numbers; none where the loss has one term and the file is not there.

    Raises
    ------
    InputError
        If a value is no number.
    """
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        names = next(csv.reader(file), [])
    return [{name: number(row, name, path) for name in names} for row in read_table(path)]


def terms_of(steps: Sequence[dict[str, float]]) -> list[str]:
    """Terms of the loss, in order."""
    return [key.removeprefix("loss_") for key in steps[0] if key.startswith("loss_")]


def epoch_means(steps: Sequence[dict[str, float]], key: str) -> tuple[list[float], list[float]]:
    """Epochs and the mean of a column over the steps of each."""
    epochs = np.array([row["epoch"] for row in steps])
    values = np.array([row[key] for row in steps])
    numbers = np.unique(epochs)
    return numbers.tolist(), [float(values[epochs == number].mean()) for number in numbers]


def loss_panels(steps: Sequence[dict[str, float]]) -> list[Panel]:
    """Every term, its weight and, under dynamic adjustment, the norm of its gradient."""
    if not steps:
        return []
    found = [
        _panel(steps, "loss", "loss-terms", "Terms of the loss", "training loss of a term (nats)"),
        _panel(steps, "weight", "loss-weights", "Weights of the terms", "weight in the loss"),
    ]
    if any(key.startswith("norm_") for key in steps[0]):
        title = "Gradients behind the weights"
        found.append(_panel(steps, "norm", "loss-norms", title, "norm of the gradient at the projector"))
    return found


def _panel(steps: Sequence[dict[str, float]], kind: str, name: str, title: str, label: str) -> Panel:
    terms = terms_of(steps)
    curves = {term: epoch_means(steps, f"{kind}_{term}") for term in terms}
    said = "; ".join(f"{TERM_NAMES[t]}: from {y[0]:.3g} to {y[-1]:.3g}" for t, (_, y) in curves.items())
    alt = f"{title} over {len(curves[terms[0]][0])} epochs ({len(steps)} steps). {said}."

    def paint(ax: Axes) -> None:
        for index, (term, (epochs, values)) in enumerate(curves.items()):
            style = {"color": SERIES[index % len(SERIES)], "linestyle": DASHES[index % len(DASHES)]}
            ax.plot(epochs, values, label=TERM_NAMES[term], marker="o" if len(epochs) < 4 else "", **style)
        if kind == "weight":
            ax.axhline(1 / len(terms), color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)))
            ax.set_ylim(0, None)
        ax.set_xlabel("epoch")
        ax.set_ylabel(label)
        legend_above(ax)

    grey = f" Grey: equal shares, 1/{len(terms)}." if kind == "weight" else ""
    caption = f"Mean over the steps of an epoch.{grey}"
    step = max(1, len(steps) // SAMPLED)
    keys = ["epoch", "step", *(f"{kind}_{term}" for term in terms)]
    table = csv_text([{key: row[key] for key in keys} for row in steps[::step]])
    return Panel(name, title, caption, alt, draw(name, alt, paint), table)
