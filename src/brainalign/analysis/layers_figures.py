"""The figures of the layer analysis."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from brainalign.analysis.base import Figure, Look, Places
from brainalign.analysis.depth import Concepts, Curve, Point
from brainalign.analysis.parabola import Parabola
from brainalign.analysis.pooling import Pooled
from brainalign.analysis.sweeps import SweepRow, Sweeps

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BRAVL = "bravl"
LABELS = {
    "validation_loss": "validation loss (nats), lower is better",
    "validation_mrr": "validation mean reciprocal rank",
    "validation_top1": "validation top-1 (%)",
}
DASHES = ("-", (0, (4, 1.6)))


@dataclass(frozen=True)
class Quantity:
    """Something every point has.

    Attributes
    ----------
    name : str
        Of its column in the table; with `label` '' the curve's own name stands in the legend.
    of : callable
        Mean and interval of a point.
    each : callable or None
        Value of a single run; None where single runs are not drawn.
    """

    name: str
    of: Callable[[Point], Pooled | None]
    each: Callable[[SweepRow], float] | None = None
    label: str = ""


def figures(
    sweeps: Sweeps, curves: Sequence[Curve], parabolas: Mapping[str, Parabola | None], concepts: Concepts
) -> tuple[Figure, ...]:
    """Validation, test, losses and, where there are labels, concepts."""
    found = [_validation(sweeps, curves), _test(curves, parabolas), _losses(curves)]
    if concepts.labels:
        found.append(_concepts(curves, concepts))
    return tuple(found)


def _validation(sweeps: Sweeps, curves: Sequence[Curve]) -> Figure:
    rule = sweeps.rule
    factor = 100.0 if rule == "validation_top1" else 1.0
    quantity = Quantity(rule, lambda p: p.validation, lambda row: row.scores[rule])
    ways = {row.result.metrics.validation.n_way for row in sweeps.rows if row.chosen}
    chance = None
    if len(ways) == 1 and rule != "validation_loss":
        n = ways.pop()
        chance = 1 / n if rule == "validation_top1" else float(np.mean(1 / np.arange(1, n + 1)))
    return Figure(
        name="validation",
        title="Validation score over depth",
        caption="What layers were chosen by; rings mark the chosen rows." + _caption(curves, interval=False),
        alt=_alt(curves, quantity, factor, LABELS[rule], lower=rule == "validation_loss"),
        paint=lambda ax, look: _paint(ax, look, curves, [quantity], factor, LABELS[rule], chance, ring=True),
        rows=_table(curves, [quantity]),
        **_room(curves, 1),
    )


def _test(curves: Sequence[Curve], parabolas: Mapping[str, Parabola | None]) -> Figure:
    quantity = Quantity("test_top1", lambda p: p.test, lambda row: row.scores["test_top1"])
    chance = {row.scores["chance_top1"] for curve in curves for point in curve.points for row in point.rows}

    def paint(ax: Axes, look: Look) -> None:
        level = chance.copy().pop() if len(chance) == 1 else None
        if len(curves) == 1 and (parabola := parabolas[curves[0].name]) is not None:
            ends = [p.depth for p in curves[0].of("block")]
            x = np.linspace(ends[0], ends[-1], 80)
            ax.plot(
                x,
                100 * parabola.at(x),
                color=look.muted,
                linewidth=1.1,
                linestyle=(0, (5, 1.5, 1, 1.5)),
                label="parabola",
            )
            if parabola.vertex_ci95 is not None:
                low, high = np.clip(parabola.vertex_ci95, ends[0], ends[-1])
                ax.axvspan(float(low), float(high), color=look.muted, alpha=0.12, linewidth=0, label="its peak, 95 %")
        _paint(ax, look, curves, [quantity], 100.0, "test top-1 (%), exploratory", level, ring=True)

    peak = " Dash-dotted: parabola through the blocks; band: interval of its peak." if len(curves) == 1 else ""
    return Figure(
        name="test",
        title="Test score over depth (exploratory)",
        caption="Read at the one opening, after the choice (rings): only the ringed scores are results."
        + _caption(curves, interval=True)
        + peak,
        alt=_alt(curves, quantity, 100.0, "test top-1 (%)"),
        paint=paint,
        rows=_table(curves, [quantity]),
        **_room(curves, 1),
    )


def _losses(curves: Sequence[Curve]) -> Figure:
    quantities = [Quantity("validation_loss", lambda p: p.validation_loss, label="validation")]
    trained = [point.train_loss is not None for curve in curves for point in curve.points]
    if any(trained):
        quantities.append(Quantity("train_loss", lambda p: p.train_loss, label="training"))
    families = {curve.encoder for curve in curves if curve.points[0].train_loss is not None}
    unit = "" if BRAVL in families else " (nats)"
    said = ["Mean over runs."]
    if families - {BRAVL}:
        said.append(
            "Contrastive loss at the epoch that is reported. Training contrasts the images of a batch, validation all "
            "validation images: compare shapes, not heights."
        )
    if BRAVL in families:
        said.append(
            "Of bravl the training loss is a negative bound in nats and the validation loss what its recipe selects "
            "by, 1 - mean reciprocal rank by default: they do not compare."
        )
    if not all(trained):
        said.append(
            "Of closed-form fits the validation loss is that of the setting chosen; a training loss they have none."
        )
    return Figure(
        name="losses",
        title="Loss over depth",
        caption=" ".join(said),
        alt=" ".join(_alt(curves, q, 1.0, f"{q.label} loss{unit}", lower=True) for q in quantities),
        paint=lambda ax, look: _paint(ax, look, curves, quantities, 1.0, f"loss{unit}", None, ring=False),
        rows=_table(curves, quantities),
        **_room(curves, len(quantities)),
    )


def _concepts(curves: Sequence[Curve], concepts: Concepts) -> Figure:
    quantities = [
        Quantity("concept_accuracy", lambda p: p.concept, label=f"same {concepts.column}"),
        Quantity("test_top1", lambda p: p.test, label="exact image"),
    ]
    return Figure(
        name="concepts",
        title=f"Same {concepts.column} and exact image over depth (exploratory)",
        caption=f"Share of the five nearest other test images that are of the shown image's {concepts.column} (its own "
        "image taken out), beside exact top-1. Dotted: chance of the former."
        + _caption(curves, interval=True, runs=False),
        alt=" ".join(_alt(curves, q, 100.0, f"{q.label} (%)") for q in quantities),
        paint=lambda ax, look: _paint(
            ax, look, curves, quantities, 100.0, "test images (%), exploratory", concepts.chance, ring=False
        ),
        rows=_table(curves, quantities),
        **_room(curves, len(quantities)),
    )


def _room(curves: Sequence[Curve], n_quantities: int) -> dict[str, Any]:
    """Many or long names need the width of the page for their legend, and some height."""
    crowded = len(curves) * n_quantities > 3 or any(len(curve.name) > 20 for curve in curves)
    return {"size": (9.2, 3.4 + 0.1 * len(curves) * n_quantities), "wide": True} if crowded else {}


def _caption(curves: Sequence[Curve], *, interval: bool, runs: bool = True) -> str:
    points = [point for curve in curves for point in curve.points]
    many = max(len(point.rows) for point in points)
    text = ""
    if many > 1 and runs:
        text += f" Bold: mean of {many} conditions; faint: each."
    over = {point.test.over for point in points if point.test.over} if interval else {"subjects"}
    shown = interval or any(point.validation.lo is not None for point in points)
    return text + (f" Bars: 95 % intervals over {' or '.join(sorted(over))}." if shown else "")


def _alt(curves: Sequence[Curve], quantity: Quantity, factor: float, label: str, *, lower: bool = False) -> str:
    said = []
    for curve in curves[:6]:
        values = [(pooled.mean, point.layer) for point in curve.points if (pooled := quantity.of(point)) is not None]
        if not values:
            continue
        value, layer = (min if lower else max)(values)
        said.append(f"{curve.name + ': ' if curve.name else ''}best {factor * value:.3g} at layer {layer}")
    return f"{label} over the relative depth of the layer. {'; '.join(said)}."


def _table(curves: Sequence[Curve], quantities: Sequence[Quantity]) -> list[dict[str, Any]]:
    """Every mean and every run behind it."""
    rows: list[dict[str, Any]] = []
    for curve, quantity in itertools.product(curves, quantities):
        for point in curve.points:
            pooled = quantity.of(point)
            if pooled is None:
                continue
            where = {"curve": curve.name, "layer": point.layer, "kind": point.kind, "depth": point.depth}
            all_chosen = point.n_chosen == len(point.rows)
            line = {**where, "quantity": quantity.name, "of": "mean", "subject": "", "split": "", "seed": ""}
            rows.append({**line, **pooled.to_dict(), "exploratory": _exploratory(quantity, all_chosen)})
            for row in point.rows if quantity.each is not None else ():
                line = {**where, "quantity": quantity.name, "of": "run"}
                line |= {"subject": row.subject, "split": row.split, "seed": row.seed}
                value = Pooled(quantity.each(row), None, None, "", 1, 1).to_dict()  # type: ignore[misc]
                rows.append({**line, **value, "exploratory": _exploratory(quantity, row.chosen)})
    return rows


def _exploratory(quantity: Quantity, chosen: bool) -> int:
    return int(quantity.name in ("test_top1", "concept_accuracy") and not chosen)


def _paint(
    ax: Axes,
    look: Look,
    curves: Sequence[Curve],
    quantities: Sequence[Quantity],
    factor: float,
    label: str,
    chance: float | None,
    *,
    ring: bool,
) -> None:
    layers = [(p.layer, p.depth) for curve in curves for p in curve.points if p.kind != "mixture"]
    mixed = {p.layer for curve in curves for p in curve.of("mixture")}
    with_mixture = next((curve for curve in curves if curve.of("mixture")), None)
    mixture = look.name("mixture " + mixed.pop() if len(mixed) == 1 else "mixtures", 22)
    places = look.depths(layers, names=len({curve.model[1] for curve in curves}) == 1)
    for number, (curve, (which, quantity)) in enumerate(itertools.product(curves, enumerate(quantities))):
        colour = number if len(curves) == 1 else curves.index(curve)
        style = {
            "color": look.series[colour % len(look.series)],
            "marker": look.markers[colour % len(look.markers)],
            "linestyle": DASHES[which % 2],
            "fillstyle": "none" if which and len(curves) > 1 else "full",
        }
        names = [curve.name if len(curves) > 1 else "", quantity.label if len(quantities) > 1 else ""]
        first = curve is with_mixture
        plain = "mean" if any(len(point.rows) > 1 for point in curve.points) else "score"
        name = look.name(", ".join(filter(None, names)) or plain, 40)
        _paint_curve(ax, look, curve, quantity, places, factor, style, name, mixture if first and which == 0 else None)
    if ring:
        _ring(ax, look, curves, quantities[0], places, factor)
    if chance is not None:
        ax.axhline(factor * chance, color=look.muted, linewidth=0.9, linestyle=(0, (1, 2)), label="chance")
    if "loss" not in label:
        ax.set_ylim(bottom=0)
    ax.set_ylabel(label)
    places.dress(ax)
    look.legend(ax)


def _paint_curve(
    ax: Axes,
    look: Look,
    curve: Curve,
    quantity: Quantity,
    places: Places,
    factor: float,
    style: Mapping[str, Any],
    name: str,
    mixture: str | None,
) -> None:
    """Blocks joined by a line; `head` and `final` apart; a mixture as a line across."""
    for kind in ("block", "beyond"):
        found = [(p, pooled) for p in curve.of(kind) if (pooled := quantity.of(p)) is not None]
        if not found:
            continue
        x = [places.place(p.layer, p.depth) for p, _ in found]
        if quantity.each is not None and any(len(p.rows) > 1 for p, _ in found):
            _paint_runs(ax, [p for p, _ in found], quantity.each, places, factor, style, joined=kind == "block")
        for at, (_, pooled) in zip(x, found, strict=True):
            if pooled.lo is not None and pooled.hi is not None:
                ends = [factor * pooled.lo, factor * pooled.hi]
                ax.plot([at, at], ends, color=style["color"], linewidth=1, alpha=0.6)
        line = {**style, "linestyle": style["linestyle"] if kind == "block" else ""}
        labelled = kind == "block" or not curve.of("block")
        ax.plot(x, [factor * pooled.mean for _, pooled in found], label=name if labelled else None, **line)
    for point in curve.of("mixture"):
        if (pooled := quantity.of(point)) is not None:
            dashes = (0, (6, 1.5, 1, 1.5))
            ax.axhline(factor * pooled.mean, color=style["color"], linewidth=1.1, linestyle=dashes, label=mixture)
            mixture = None


def _paint_runs(
    ax: Axes,
    points: Sequence[Point],
    each: Callable[[SweepRow], float],
    places: Places,
    factor: float,
    style: Mapping[str, Any],
    *,
    joined: bool,
) -> None:
    for condition in dict.fromkeys(row.condition for point in points for row in point.rows):
        held = [(p, row) for p in points for row in p.rows if row.condition == condition]
        x, y = [places.place(p.layer, p.depth) for p, _ in held], [factor * each(row) for _, row in held]
        line = {"color": style["color"], "linewidth": 0.8, "alpha": 0.35}
        mark = {"linestyle": "-"} if joined and len(held) > 1 else {"linestyle": "", "marker": style["marker"]}
        ax.plot(x, y, markersize=3, **line, **mark)


def _ring(ax: Axes, look: Look, curves: Sequence[Curve], quantity: Quantity, places: Places, factor: float) -> None:
    """Mark the runs that their sweeps chose; a chosen mixture has its line alone."""
    assert quantity.each is not None
    chosen = {
        (places.place(point.layer, point.depth), factor * quantity.each(row))
        for curve in curves
        for point in curve.points
        for row in point.rows
        if row.chosen and point.kind != "mixture"
    }
    if chosen:
        x, y = zip(*sorted(chosen), strict=True)
        ring: dict[str, Any] = {"markersize": 11, "markerfacecolor": "none", "markeredgecolor": look.ink}
        ax.plot(x, y, "o", linestyle="", label="chosen", **ring)
