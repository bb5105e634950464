"""The plots of a run's report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from brainalign.evaluation.result import Result, Scores
from brainalign.report.caveats import LAST_EPOCH
from brainalign.report.figures import (
    BLUE,
    INK,
    MARKERS,
    MUTED,
    ORANGE,
    SERIES,
    WIDTH,
    DepthAxis,
    Panel,
    clean,
    draw,
    legend_above,
)
from brainalign.report.page import csv_text
from brainalign.report.retrievals import Retrievals
from brainalign.report.words import interval, percent, points

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rows = Sequence[dict[str, Any]]
METRICS = {
    "validation_loss": "validation loss (nats), lower is better",
    "validation_mrr": "validation mean reciprocal rank",
    "validation_top1": "validation top-1 (%)",
}


def headline(result: Result) -> Panel:
    """Test, validation and control beside their chance levels."""

    def row(what: str, scores: Scores) -> dict[str, Any]:
        low, high = scores.top1_ci95
        return {"what": what, "top1": scores.top1, "ci_lo": low, "ci_hi": high, "chance": scores.chance_top1}

    test = result.metrics.test
    rows = [row("test", test), row("validation", result.metrics.validation)]
    if result.shuffled.top1 is not None:
        rows.append(bare_row("shuffled control", result.shuffled.top1, test.chance_top1))
    return headline_panel(rows)


def bare_row(what: str, top1: float, chance: float) -> dict[str, Any]:
    """A line of the headline plot that has no interval."""
    return {"what": what, "top1": top1, "ci_lo": "", "ci_hi": "", "chance": chance}


def headline_panel(rows: Rows, name: str = "headline") -> Panel:
    """Scores below one another, the first one the headline; see `bare_row` for the keys."""
    alt = "Top-1 accuracy. " + " ".join(
        f"{r['what']}: {percent(r['top1'])}"
        + (f", 95 % interval {interval((r['ci_lo'], r['ci_hi']))}" if r["ci_lo"] != "" else "")
        + f", chance {percent(r['chance'])}."
        for r in rows
    )
    svg = draw(name, alt, lambda ax: _paint_headline(ax, rows), (WIDTH, 0.75 + 0.42 * len(rows)))
    caption = "Dot: share of queries whose image came first. Bar: 95 % interval over images. Grey tick: chance."
    return Panel(name, "Top-1 against chance", caption, alt, svg, csv_text(rows))


def _paint_headline(ax: Axes, rows: Rows) -> None:
    for y, row in enumerate(rows):
        colour = BLUE if y == 0 else ORANGE if row["what"] == "shuffled control" else MUTED
        value = 100 * row["top1"]
        ax.plot([100 * row["chance"]] * 2, [y - 0.32, y + 0.32], color=MUTED, linewidth=1.6, solid_capstyle="butt")
        end = value
        if row["ci_lo"] != "":
            end = 100 * row["ci_hi"]
            ax.plot([100 * row["ci_lo"], end], [y, y], color=colour, linewidth=2.4, solid_capstyle="butt", alpha=0.55)
        ax.plot(value, y, MARKERS[min(y, 1)], color=colour, markersize=8 if y == 0 else 6)
        weight = "bold" if y == 0 else "normal"
        ax.annotate(percent(row["top1"]), (end, y), (7, 0), textcoords="offset points", va="center", weight=weight)
    ax.set_yticks(range(len(rows)), [clean(row["what"], 36).replace("shuffled ", "shuffled\n") for row in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(visible=False)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    highest = max(100 * (row["ci_hi"] or row["top1"]) for row in rows)
    ax.set_xlim(0, max(2.0, min(112.0, 1.22 * highest)))
    ax.set_xticks([tick for tick in ax.get_xticks() if tick <= 100])
    ax.set_xlim(0, max(2.0, min(112.0, 1.22 * highest)))
    ax.set_xlabel("top-1 accuracy (%)")


def learning_curve(history: Rows, result: Result) -> Panel:
    """Loss by epoch: of training and validation in one plot where they are in one unit, else in two.

    Parameters
    ----------
    history : sequence of dict
        One row an epoch, of `history.csv`: `epoch`, `train_loss`, `validation_loss`; of bravl `validation_elbo` too.
    result : Result
        Of the run.
    """
    last, reported = history[-1], result.selection.epoch
    by_validation = result.selection.metric != LAST_EPOCH
    how = "chosen" if by_validation else "reported"
    training, validation, said = _losses(history, result)
    together = training == validation
    alt = (
        f"Loss over {len(history)} epochs. Training: from {history[0]['train_loss']:.2f} to {last['train_loss']:.2f}; "
        f"validation: from {history[0]['validation_loss']:.2f} to {last['validation_loss']:.2f}. "
        f"{how.capitalize()}: {reported}."
    )

    def paint(ax: Axes) -> None:
        epochs = [row["epoch"] for row in history]
        mark = "o" if len(history) < 4 else ""
        upper = lower = ax
        if not together:
            figure = ax.figure
            ax.remove()
            upper, lower = figure.subplots(2, 1, sharex=True)
        upper.plot(
            epochs,
            [row["train_loss"] for row in history],
            color=ORANGE,
            label="training",
            linestyle=(0, (5, 1.5)),
            marker=mark,
        )
        lower.plot(epochs, [row["validation_loss"] for row in history], color=BLUE, label="validation", marker=mark)
        at = [row for row in history if row["epoch"] == reported]
        if at:
            here = at[0]["epoch"]
            for axes in dict.fromkeys((upper, lower)):
                axes.axvline(here, color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
            label = f"{how}: epoch {reported}"
            lower.plot(here, at[0]["validation_loss"], "o", color=BLUE, markersize=7, label=label)
        lower.set_xlabel("epoch")
        for axes, label in {upper: training, lower: validation}.items():
            axes.set_ylabel(label)
            _whole_ticks(axes, epochs)
            legend_above(axes)

    choice = (
        "The epoch is chosen by validation; the test set plays no part."
        if by_validation
        else "The last epoch is reported, whatever its validation loss; the test set plays no part."
    )
    table = csv_text([{k: row[k] for k in ("epoch", "train_loss", "validation_loss")} for row in history])
    svg = draw("learning", alt, paint, (WIDTH, 3.05 if together else 4.6))
    return Panel("learning", "Learning curve", f"{said[0]} {choice} {said[1]}", alt, svg, table)


def _losses(history: Rows, result: Result) -> tuple[str, str, tuple[str, str]]:
    """What training and validation loss are on an axis, and what they are in a caption, first and last."""
    if result.encoder != "bravl":
        heights = (
            "Training contrasts the images of a batch, validation all validation images, so compare the shapes of the "
            "curves, not their heights."
        )
        return "loss (nats)", "loss (nats)", ("Contrastive loss.", heights)
    bound = all(float(row["validation_elbo"]) == row["validation_loss"] for row in history)
    name = "its negative bound at full divergence (nats)" if bound else "1 - mean reciprocal rank"
    said = f"Training loss: a negative variational bound with its information terms (nats). Validation loss: {name}."
    return (
        "training loss (nats)",
        "negative bound (nats)" if bound else "1 - validation MRR",
        (said, "The two losses do not compare."),
    )


def candidates(rows: Rows, result: Result) -> Panel | None:
    """Validation score of every layer and pooling that was tried; None where there was no choice."""
    if len(rows) < 2:
        return None
    rule = result.selection.layer_chosen_on
    metric = rule if rule in METRICS else "validation_mrr"
    factor = 100 if metric == "validation_top1" else 1
    chosen = next(
        (r for r in rows if r["layer"] == result.target.label and r["pooling"] == result.target.pooling), None
    )
    axis = DepthAxis((row["layer"], row["depth"]) for row in rows)
    poolings = list(dict.fromkeys(row["pooling"] for row in rows))
    alt = f"{METRICS[metric].split(' (')[0].capitalize()} of {len(rows)} candidate layers and poolings."
    if chosen:
        alt += f" Chosen: layer {chosen['layer']}, {chosen['pooling']}, {chosen[metric]:.3f}."

    def paint(ax: Axes) -> None:
        for number, pooling in enumerate(poolings):
            line = sorted(
                (axis.place(r["layer"], r["depth"]), factor * r[metric]) for r in rows if r["pooling"] == pooling
            )
            style = {"color": SERIES[number % len(SERIES)], "marker": MARKERS[number % len(MARKERS)]}
            ax.plot([x for x, _ in line], [y for _, y in line], label=clean(pooling, 14), **style)  # type: ignore[arg-type]
        if chosen:
            at = (axis.place(chosen["layer"], chosen["depth"]), factor * chosen[metric])
            ax.plot(*at, "o", markersize=12, markerfacecolor="none", markeredgecolor=INK, label="chosen")
        if metric != "validation_loss":
            chance = _chance(metric, result.metrics.validation.n_way)
            ax.axhline(factor * chance, color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)), label="chance")
            ax.set_ylim(bottom=0)
        axis.dress(ax)
        ax.set_ylabel(METRICS[metric])
        legend_above(ax)

    caption = (
        "Every candidate was trained and scored on validation images only. "
        f"Then layer {result.target.label}, {result.target.pooling} (ring) was tested."
    )
    table = csv_text([{k: row[k] for k in ("layer", "depth", "pooling", metric)} for row in rows])
    return Panel("candidates", "Validation score by layer", caption, alt, draw("candidates", alt, paint), table)


def _chance(metric: str, n_way: int) -> float:
    """What guessing gives: 1/n, or the mean of 1/rank over ranks 1 to n."""
    return 1 / n_way if metric == "validation_top1" else sum(1 / rank for rank in range(1, n_way + 1)) / n_way


def stored_epochs(result: Result) -> Panel | None:
    """Exploratory test scores of stored epochs; None where there are none."""
    scores = result.epochs_exploratory
    if not scores:
        return None
    test, best = result.metrics.test, max(scores, key=lambda s: s.test_top1)
    gap = result.inflation_gap_top1
    alt = (
        f"Exploratory: test top-1 of {len(scores)} stored epochs; best: epoch {best.epoch}, {percent(best.test_top1)}. "
        f"The reported model has {percent(test.top1)}: choosing on test would have added {points(gap)}."
    )

    def paint(ax: Axes) -> None:
        low, high = (100 * end for end in test.top1_ci95)
        ax.axhspan(low, high, color=BLUE, alpha=0.12, linewidth=0)
        ax.axhline(100 * test.top1, color=BLUE, label="reported")
        epochs = [s.epoch for s in scores]
        ax.plot(
            epochs,
            [100 * s.test_top1 for s in scores],
            "o",
            color=MUTED,
            linestyle=(0, (1, 2)),
            linewidth=1,
            label="stored epochs",
        )
        if gap > 0:
            ax.plot(best.epoch, 100 * best.test_top1, "o", markersize=12, markerfacecolor="none", markeredgecolor=INK)
            side = -1 if best.epoch > (epochs[0] + epochs[-1]) / 2 else 1
            offset = (10 * side, 10)
            align = "right" if side < 0 else "left"
            ax.annotate(points(gap), (best.epoch, 100 * best.test_top1), offset, textcoords="offset points", ha=align)
        ax.axhline(100 * test.chance_top1, color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)), label="chance")
        ax.set_ylim(0, max(high, 100 * best.test_top1) * 1.15)
        ax.set_xlabel("epoch")
        ax.set_ylabel("test top-1 (%)")
        _whole_ticks(ax, epochs)
        legend_above(ax)

    claim = (
        f"would have claimed {percent(test.top1 + gap)} instead of {percent(test.top1)}" if gap > 0 else "gains nothing"
    )
    caption = (
        "Exploratory, never used for a choice: stored epochs were scored at the one opening of the test set. Line "
        "and band: the reported model and its 95 % interval. "
        f"Picking the best epoch afterwards {claim}: an inflation gap of {points(gap)}."
    )
    table = csv_text([s.model_dump() for s in scores])
    return Panel("epochs", "Stored epochs on test (exploratory)", caption, alt, draw("epochs", alt, paint), table)


def cumulative_ranks(retrievals: Retrievals) -> Panel:
    """Share of queries with their image among the first k."""
    ks, shares = retrievals.cumulative()
    n = len(retrievals.gallery_ids)
    first = {k: float(shares[ks.searchsorted(k)]) for k in (1, 5, 10) if k <= n}
    said = ", ".join(f"{percent(share)} among the first {k}" for k, share in first.items())
    alt = f"Share of queries whose image is among the first k of {n}: {said}. Chance is k / {n}."

    def paint(ax: Axes) -> None:
        ax.plot(ks, 100 * ks / n, color=MUTED, linewidth=1, linestyle=(0, (2, 2)), label="chance")
        ax.step(ks, 100 * shares, where="post", color=BLUE, label="this run")
        ax.plot(list(first), [100 * share for share in first.values()], "o", color=BLUE)
        for k, share in first.items():
            down = share > 0.9
            ax.annotate(f"top-{k}", (k, 100 * share), (5, -13 if down else -9), textcoords="offset points", color=MUTED)
        ax.set_xscale("log")
        ticks = [10**p for p in range(math.floor(math.log10(n)) + 1)]
        ticks = [*(t for t in ticks if t <= n / 2), n]
        ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
        ax.set_xticks([], minor=True)
        ax.set_xlim(0.9, n * 1.05)
        ax.set_ylim(0, 104)
        ax.set_xlabel(f"k, first images of {n} (logarithmic)")
        ax.set_ylabel("queries with their\nimage among them (%)")
        legend_above(ax)

    table = csv_text(
        [{"k": int(k), "share": float(s), "chance": float(k / n)} for k, s in zip(ks, shares, strict=True)]
    )
    caption = f"How far down the list of {n} gallery images the shown image stands."
    return Panel("ranks", "Rank of the shown image", caption, alt, draw("ranks", alt, paint), table)


def _whole_ticks(ax: Axes, epochs: Sequence[float]) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    ax.set_xlim(min(0, epochs[0] - 1), epochs[-1] + 1)
