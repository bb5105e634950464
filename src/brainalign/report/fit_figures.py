"""Plots of how a closed-form fit was chosen, and of the weights of a mixture's layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from brainalign.evaluation.result import Result
from brainalign.report.figures import BLUE, INK, MUTED, SERIES, WIDTH, Panel, draw, legend_above
from brainalign.report.page import csv_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rows = Sequence[dict[str, Any]]


def settings_tried(history: Rows, result: Result) -> Panel:
    """Validation loss of every penalty and shrinkage that was tried."""
    ridges = sorted({row["ridge"] for row in history})
    chosen = result.selection.settings
    alt = (
        f"Validation loss of {len(history)} settings of a closed-form fit. Chosen: ridge {chosen['ridge']:.3g}, "
        f"shrinkage {chosen['shrinkage']:.3g}."
    )

    def paint(ax: Axes) -> None:
        for number, ridge in enumerate(ridges):
            line = sorted((r["shrinkage"], r["validation_loss"]) for r in history if r["ridge"] == ridge)
            style = {"color": SERIES[number % len(SERIES)], "marker": "o" if len(line) < 12 else ""}
            ax.plot([x for x, _ in line], [y for _, y in line], label=f"{ridge:.3g}", **style)  # type: ignore[arg-type]
        at = min(r["validation_loss"] for r in history)
        ax.plot(
            chosen["shrinkage"], at, "o", markersize=12, markerfacecolor="none", markeredgecolor=INK, label="chosen"
        )
        ax.set_xlabel("shrinkage of the residual covariance towards its diagonal")
        ax.set_ylabel("validation loss (nats)")
        legend_above(ax)

    caption = (
        "Surprise of the true image among the validation images. One line a ridge penalty (in units of the mean kernel "
        "diagonal); ring: the setting that was frozen and then tested."
    )
    table = csv_text([{k: row[k] for k in ("ridge", "shrinkage", "validation_loss")} for row in history])
    return Panel("settings", "Settings tried on validation", caption, alt, draw("settings", alt, paint), table)


def layer_weights(result: Result) -> Panel | None:
    """Share of every layer of a mixture; None for a single layer."""
    weights, names = result.target.layer_weights, [str(name) for name in result.target.layers]
    if weights is None or len(weights) < 2:
        return None
    best = names[int(np.argmax(weights))]
    alt = f"Weights of the {len(names)} layers of the target, summing to 1. Largest: layer {best}, {max(weights):.3f}."

    def paint(ax: Axes) -> None:
        places = np.arange(len(names))
        ax.bar(places, weights, color=BLUE, width=0.7)
        ax.axhline(1 / len(names), color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)), label="equal weights")
        step = max(1, len(names) // 18)
        ax.set_xticks(places[::step], names[::step])
        ax.set_xlabel("layer")
        ax.set_ylabel("weight")
        legend_above(ax)

    learned = "learned with the model" if result.selection.epoch is not None else "as the recipe sets or learns them"
    caption = f"Weights {learned}; the layers' features are brought to one size first, so that weights can be compared."
    table = csv_text([{"layer": name, "weight": w} for name, w in zip(names, weights, strict=True)])
    return Panel(
        "layer-weights", "Layers of the mixture", caption, alt, draw("weights", alt, paint, (WIDTH, 2.4)), table
    )
