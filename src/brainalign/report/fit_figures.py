"""Plots of how a closed-form fit was chosen, and of the weights of a mixture's layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from brainalign.evaluation.result import Result
from brainalign.report.figures import BLUE, INK, MUTED, PAPER, SERIES, WIDTH, Panel, draw, legend_above
from brainalign.report.page import csv_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rows = Sequence[dict[str, Any]]
TRIED = ("ridge", "shrinkage")


def settings_tried(history: Rows, result: Result) -> Panel | None:
    """Validation loss of every setting that was tried; None where there was nothing to try."""
    if "shrinkage" in history[0]:
        return _penalties_and_shrinkages(history, result)
    return _penalties(history, result) if "ridge" in history[0] and len(history) > 1 else None


def _penalties(history: Rows, result: Result) -> Panel:
    """Validation loss of every penalty."""
    chosen = result.selection.settings["ridge"]
    at = min(history, key=lambda row: abs(row["ridge"] - chosen))["validation_loss"]
    chance = math.log(result.metrics.validation.n_way)
    alt = f"Validation loss of {len(history)} ridge penalties. Chosen: {chosen:.3g}, {at:.2f} nats."

    def paint(ax: Axes) -> None:
        ax.plot([r["ridge"] for r in history], [r["validation_loss"] for r in history], "o-", color=BLUE, markersize=4)
        ax.plot(chosen, at, "o", markersize=12, markerfacecolor="none", markeredgecolor=INK, label="chosen")
        ax.axhline(chance, color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)), label="guessing")
        ax.set_xscale("log")
        powers = [math.floor(math.log10(end)) for end in (history[0]["ridge"], history[-1]["ridge"])]
        ticks = [10.0**power for power in range(min(powers), max(powers) + 2, 2)]
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
        ax.set_xlabel("ridge penalty (mean squared length of a training signal = 1)")
        ax.set_ylabel("validation loss (nats)")
        legend_above(ax)

    caption = (
        "Surprise of the true image among the validation images, mean over training subjects. Ring: the penalty that "
        "was frozen and then tested."
    )
    table = csv_text([{k: row[k] for k in ("ridge", "validation_loss")} for row in history])
    return Panel("settings", "Penalties tried on validation", caption, alt, draw("settings", alt, paint), table)


def _penalties_and_shrinkages(history: Rows, result: Result) -> Panel:
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
    """Share of every layer of a mixture; None for a single layer and for equal weights."""
    weights, names = result.target.layer_weights, [str(name) for name in result.target.layers]
    if weights is None or len(weights) < 2 or max(weights) - min(weights) < 1e-9:
        return None
    best = names[int(np.argmax(weights))]
    alt = f"Weights of the {len(names)} layers of the target, summing to 1. Largest: layer {best}, {max(weights):.3f}."

    def paint(ax: Axes) -> None:
        places = np.arange(len(names))
        ax.bar(places, weights, color=BLUE, width=0.7)
        ax.axhline(1 / len(names), color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)), label="equal weights")
        step = max(1, len(names) * (1 + max(map(len, names))) // 40)
        ax.set_xticks(places[::step], names[::step])
        ax.set_xlabel("layer")
        ax.set_ylabel("weight")
        legend_above(ax)

    learned = "learned with the model" if result.selection.epoch is not None else "as the recipe sets or learns them"
    caption = f"Weights {learned}; the layers' features are brought to one size first, so that weights can be compared."
    table = csv_text([{"layer": name, "weight": w} for name, w in zip(names, weights, strict=True)])
    return Panel(
        "layer-weights", "Layers of the mixture", caption, alt, draw("layer-weights", alt, paint, (WIDTH, 2.4)), table
    )


def receptive_field(result: Result) -> Panel | None:
    """Weight of every cell of the image; None where all count alike."""
    weights = result.target.cell_weights
    if weights is None:
        return None
    side = math.isqrt(len(weights))
    cells = np.array(weights).reshape(side, side)
    down, across = np.unravel_index(int(cells.argmax()), cells.shape)
    alt = (
        f"Weights of the {side} x {side} cells of the image, mean 1. Largest: row {down + 1} from the top, column "
        f"{across + 1} from the left, {cells.max():.2f}; the smallest is {cells.min():.2f}."
    )

    def paint(ax: Axes) -> None:
        mesh = ax.pcolormesh(cells, cmap="cividis", vmin=0, edgecolors=PAPER, linewidth=1)
        ax.invert_yaxis()
        ax.set_aspect("equal")
        ax.grid(visible=False)
        ax.set_xticks(np.arange(side) + 0.5, [str(i + 1) for i in range(side)])
        ax.set_yticks(np.arange(side) + 0.5, [str(i + 1) for i in range(side)])
        ax.tick_params(length=0)
        ax.set_xlabel("column of the image, left to right")
        ax.set_ylabel("row, top to bottom")
        bar = ax.figure.colorbar(mesh, ax=ax, pad=0.03, fraction=0.045)
        bar.outline.set_visible(False)
        bar.set_label("weight (mean 1)")
        bar.ax.grid(visible=False)

    caption = (
        "Where in the image the signal comes from: one weight a cell, shared by all layers and channels, learned on "
        "leave-one-out residuals of the training images."
    )
    table = csv_text(
        [{"row": i + 1, "column": j + 1, "weight": float(cells[i, j])} for i in range(side) for j in range(side)]
    )
    return Panel("field", "Receptive field", caption, alt, draw("field", alt, paint, (WIDTH, 3.4)), table)
