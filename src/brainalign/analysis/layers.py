"""`brainalign analyze layers`: scores, losses and concepts over the depth of a model.

Shallow Alignment (arXiv 2601.21948) reports that the score over depth is an inverted U while concept accuracy rises
with depth, and that deep targets overfit. Here each of the three becomes numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from brainalign.analysis import layers_figures, words
from brainalign.analysis.base import NOT_MEASURED, Analysis, DataOptions, Finding, Table
from brainalign.analysis.data import open_stimuli
from brainalign.analysis.depth import Concepts, Curve, Point, find_concepts, gather
from brainalign.analysis.parabola import DEPTHS_MIN, Parabola, Run, fit_parabola, inverted_u
from brainalign.analysis.sweeps import SweepRow, Sweeps, best_on_validation, read_sweeps
from brainalign.evaluation import PairedComparison, paired_bootstrap
from brainalign.execution.progress import Reporter, Silent


class Options(DataOptions):
    """Settings of the layer analysis."""

    n_resamples: int = Field(2000, ge=100, description="Bootstrap resamples of the parabola.")
    seed: int = Field(0, ge=0, description="Of all resamples.")


@dataclass(frozen=True)
class Comparison:
    """The best single layer of a model of one method, by validation, against its `final`, on the same test images."""

    name: str
    chosen: tuple[str, ...]
    paired: PairedComparison

    def row(self) -> dict[str, Any]:
        """One line of the table."""
        p = self.paired
        return {
            "model": self.name,
            "chosen layers": words.counted(self.chosen),
            "chosen top-1": p.a,
            "final top-1": p.b,
            "difference": p.difference,
            "ci95_lo": p.lo,
            "ci95_hi": p.hi,
            "p": p.p,
            "images": p.n_units,
            "conditions": len(self.chosen),
        }


def run(paths: Sequence[Path], options: Options, reporter: Reporter | None = None) -> Analysis:
    """Curves over depth of one or more finished sweeps.

    Parameters
    ----------
    paths : sequence of Path
        Folders of sweeps on the same data set, protocol and budget.
    options : Options
    reporter : Reporter, optional
        Shows how far it is.

    Returns
    -------
    Analysis

    Raises
    ------
    InputError
        If a sweep is not finished, damaged, or does not belong with the others.
    """
    sweeps = read_sweeps(paths)
    with (reporter or Silent()).step(f"reading {len(sweeps.rows)} runs"):
        concepts = find_concepts(sweeps, lambda subject: open_stimuli(sweeps.dataset, subject, options))
        curves = gather(sweeps, concepts)
    parabolas = {curve.name: _parabola(curve, options) for curve in curves}
    comparisons = [c for curve in _one_a_model(curves) if (c := _compare(sweeps, curve, options)) is not None]
    findings = [
        *_chosen(sweeps),
        *_final(sweeps, comparisons),
        *(_bend(curve, parabolas[curve.name], sweeps.rule) for curve in curves),
        *_losses(curves),
        *_concepts(curves, concepts),
        *_limits(sweeps, curves),
    ]
    return Analysis(
        name="layers",
        title=f"Layers: {sweeps.dataset}",
        virtual=sweeps.virtual,
        facts=sweeps.facts,
        findings=tuple(findings),
        figures=layers_figures.figures(sweeps, curves, parabolas, concepts),
        tables=(Table("comparison", "Best single layer, by validation, against final", [c.row() for c in comparisons]),)
        if comparisons
        else (),
        numbers={
            "chosen_by": sweeps.rule,
            "curves": [_numbers(curve, parabolas[curve.name]) for curve in curves],
            "chosen_against_final": [c.row() for c in comparisons] or None,
            "concepts": {"column": concepts.column or None, "chance": concepts.chance, "missing": concepts.missing},
        },
    )


def _parabola(curve: Curve, options: Options) -> Parabola | None:
    """Of the test score over blocks; None with fewer than four blocks, or where a run lacks one of them."""
    blocks = curve.of("block")
    conditions = [row.condition for row in blocks[0].rows] if blocks else []
    if len({point.depth for point in blocks}) < DEPTHS_MIN:
        return None
    runs = []
    for condition in conditions:
        mine = [next((row for row in point.rows if row.condition == condition), None) for point in blocks]
        if any(row is None or sorted(row.hits[0]) != sorted(mine[0].hits[0]) for row in mine):  # type: ignore[union-attr]
            return None
        runs.append(_run_over_depth([row for row in mine if row is not None]))
    if any(len(point.rows) != len(conditions) for point in blocks):
        return None
    depths = [point.depth for point in blocks]
    return inverted_u(depths, runs, n_resamples=options.n_resamples, seed=options.seed)


def _run_over_depth(rows: Sequence[SweepRow]) -> Run:
    columns = [row.hits[1][np.argsort(np.array(row.hits[0], dtype=object), kind="stable")] for row in rows]
    return Run(rows[0].subject, sorted(rows[0].hits[0]), np.stack(columns, axis=1))


def _one_a_model(curves: Sequence[Curve]) -> list[Curve]:
    """The first curve of each model: its other curves differ in the pooling alone."""
    return list({curve.model: curve for curve in reversed(curves)}.values())[::-1]


def _compare(sweeps: Sweeps, curve: Curve, options: Options) -> Comparison | None:
    """Best single layer of each condition, of any pooling, against `final`; None where no condition has both."""
    rows = [row for row in sweeps.rows if row.model == curve.model and row.kind != "mixture"]
    chosen, pairs = [], []
    for condition in dict.fromkeys(row.condition for row in rows):
        mine = [row for row in rows if row.condition == condition]
        finals = [row for row in mine if row.layer == "final"]
        if not finals or len(mine) < 2:
            continue
        best = best_on_validation(mine, sweeps.rule)
        (ids, ours), (other_ids, theirs) = best.hits, finals[0].hits
        if sorted(ids) != sorted(other_ids):
            continue
        order, other = (np.argsort(np.array(names, dtype=object), kind="stable") for names in (ids, other_ids))
        pairs.append((np.array(ids, dtype=str)[order], ours[order], theirs[other]))
        chosen.append(best.layer)
    if not pairs:
        return None
    ids_all, a, b = (np.concatenate(part) for part in zip(*pairs, strict=True))
    paired = paired_bootstrap(a, b, images=ids_all, seed=options.seed)
    first = rows[0]
    extra = [f"{name} {value}" for name, value in first.extra]
    name = ", ".join(filter(None, (first.backbone, first.encoder, sweeps.method(first), *extra)))
    return Comparison(name, tuple(chosen), paired)


def _chosen(sweeps: Sweeps) -> list[Finding]:
    """The chosen rows of each method by themselves."""
    rows = [row for row in sweeps.rows if row.chosen]
    if not rows:
        return [Finding("not measured", "No row of the table is marked as chosen.")]
    methods: dict[str, list[SweepRow]] = {}
    for row in rows:
        methods.setdefault(sweeps.method(row), []).append(row)
    return [_chosen_of(mine, method) for method, mine in methods.items()]


def _chosen_of(rows: Sequence[SweepRow], method: str) -> Finding:
    start = f"{method}: " if method else ""
    scores = [row.scores["test_top1"] for row in rows]
    chance = np.mean([row.scores["chance_top1"] for row in rows])
    if len(rows) == 1:
        (row,) = rows
        interval = words.ends(row.result.metrics.test.top1_ci95, "%")
        where = f"{row.backbone} layer {row.layer} (relative depth {row.depth:.2f}, {row.pooling})"
        text = f"{where} was chosen on validation; its test top-1 is {words.percent(scores[0])} ({interval}, chance "
        return Finding("finding", f"{start}{text}{words.percent(float(chance))}).")
    layers = words.counted(f"layer {row.layer}" for row in rows)
    text = (
        f"{start}Chosen on validation ({len(rows)} choices, one a sweep and condition): {layers}; mean test top-1 "
        f"{words.percent(float(np.mean(scores)))} ({words.percent(min(scores))} to {words.percent(max(scores))} over "
        f"conditions, chance {words.percent(float(chance))})."
    )
    return Finding("finding", text)


def _final(sweeps: Sweeps, comparisons: Sequence[Comparison]) -> list[Finding]:
    if not comparisons:
        return [Finding("not measured", "The chosen layer against final: no condition has both.")]
    found = []
    for c in comparisons:
        p = c.paired
        side = "below" if p.difference < 0 else "above"
        text = (
            f"{c.name}: the best single layer by {sweeps.rule} lies {100 * abs(p.difference):.1f} points {side} final "
            f"({words.percent(p.a)} against {words.percent(p.b)}; {words.ends((100 * p.lo, 100 * p.hi))} points, "
            f"{words.p_value(p.p)}, {p.n_units} images, {len(c.chosen)} condition(s))."
        )
        found.append(Finding("finding", text))
    return found


def _bend(curve: Curve, parabola: Parabola | None, rule: str) -> Finding:
    name = f"{curve.name}: " if curve.name else ""
    if parabola is None:
        why = f"it needs {DEPTHS_MIN} blocks or more, every one of them in all conditions"
        return Finding("not measured", f"{name}Inverted U: {NOT_MEASURED}, {why}.")
    verdict = "an inverted U" if parabola.is_inverted_u else "no sure inverted U"
    peak = "no peak, it bends upwards"
    if parabola.vertex is not None:
        peak = f"peak at depth {parabola.vertex:.2f} ({words.ends(parabola.vertex_ci95)})"
    validation = _validation_vertex(curve)
    text = (
        f"{name}The test score over {parabola.n_depths} blocks is {verdict}: {peak}, curvature "
        f"{parabola.curvature:.2f} ({words.ends(parabola.curvature_ci95)}; {parabola.resampled} resampled), R² "
        f"{parabola.r_squared:.2f}. On {rule} the parabola has its peak at "
        f"{'no depth, it bends the other way' if validation is None else f'depth {validation:.2f}'} (no interval)."
    )
    return Finding("exploratory", text)


def _validation_vertex(curve: Curve) -> float | None:
    """Peak of the parabola through the validation scores of the blocks; of a loss its lowest point."""
    blocks = curve.of("block")
    rising = 1 if blocks[0].validation.mean == blocks[0].validation_loss.mean else -1
    a, b, _ = fit_parabola([p.depth for p in blocks], [p.validation.mean for p in blocks])
    return float(-b / (2 * a)) if a * rising > 0 else None


def _losses(curves: Sequence[Curve]) -> list[Finding]:
    found = []
    for curve in curves:
        points = curve.of("block")
        if len(points) < 2:
            continue
        low = min(points, key=lambda p: p.validation_loss.mean)
        last = points[-1]
        name = f"{curve.name}: " if curve.name else ""
        unit = "" if curve.encoder == layers_figures.BRAVL else ", nats"

        def said(p: Point) -> str:
            training = f" and {p.train_loss.mean:.2f} in training" if p.train_loss is not None else ""
            return f"{p.validation_loss.mean:.2f} on validation{training}"

        text = (
            f"{name}The validation loss is lowest at layer {low.layer} ({said(low)}{unit}); at the deepest block that "
            f"was run ({last.layer}) it is {said(last)}."
        )
        found.append(Finding("finding", text))
    without = [curve.name for curve in curves if any(point.train_loss is None for point in curve.points)]
    if without:
        named = f" of {'; '.join(without)}" if all(without) else ""
        text = f"Training loss{named}: {NOT_MEASURED}, a closed-form fit has none."
        found.append(Finding("not measured", text))
    return found


def _concepts(curves: Sequence[Curve], concepts: Concepts) -> list[Finding]:
    if not concepts.labels:
        return [Finding("not measured", f"Concept accuracy: {NOT_MEASURED}, {concepts.missing}.")]
    found = []
    for curve in curves:
        points = [p for p in curve.of("block") if p.concept is not None]
        if len(points) < 2:
            continue
        kind = max(points, key=lambda p: p.concept.mean if p.concept else 0.0)
        exact = max(points, key=lambda p: p.test.mean)
        assert kind.concept is not None
        interval = (kind.concept.lo, kind.concept.hi)
        both = words.ends((interval[0], interval[1]), "%") if None not in interval else "no interval"  # type: ignore[arg-type]
        name = f"{curve.name}: " if curve.name else ""
        text = (
            f"{name}Concept accuracy (share of the five nearest other images of the same {concepts.column}) is highest "
            f"at layer {kind.layer}, depth {kind.depth:.2f}: {words.percent(kind.concept.mean)} ({both}; chance "
            f"{words.percent(concepts.chance or 0.0)}). Exact top-1 is highest at layer {exact.layer}, depth "
            f"{exact.depth:.2f}."
        )
        found.append(Finding("exploratory", text))
    return found


def _limits(sweeps: Sweeps, curves: Sequence[Curve]) -> list[Finding]:
    subjects = len({row.subject for row in sweeps.rows})
    texts = [
        "Test scores of layers that were not chosen are exploratory: they were read at the one opening of the test "
        "set, after the choice. No layer may be chosen by them.",
        "A parabola that peaks inside describes an inverted U, it does not prove one: a curve that rises and then "
        "stays flat can be fitted so too.",
        "The test loss is not measured: runs do not keep it.",
    ]
    if any(c.encoder != layers_figures.BRAVL and c.points[0].train_loss is not None for c in curves):
        texts[-1] += (
            " Training contrasts the images of a batch, validation all validation images, so the heights of the two "
            "losses do not compare; their shapes do."
        )
    if subjects == 1:
        texts.append("One subject: intervals are over images and say nothing of other subjects.")
    elif subjects < 4:
        texts.append(f"{subjects} subjects are too few for a good interval over subjects.")
    if any(curve.of("mixture") for curve in curves):
        texts.append("A mixture of layers has no depth of its own: it is drawn as a line across, and not fitted.")
    return [Finding("limit", text) for text in texts]


def _numbers(curve: Curve, parabola: Parabola | None) -> dict[str, Any]:
    return {
        "curve": curve.name,
        "model": [part if isinstance(part, str) else " ".join(part) for part in curve.model],
        "pooling": curve.pooling,
        "inverted_u": parabola.to_dict() if parabola is not None else None,
        "validation_vertex": _validation_vertex(curve) if parabola is not None else None,
        "points": [
            {
                "layer": p.layer,
                "depth": p.depth,
                "kind": p.kind,
                "chosen_in": p.n_chosen,
                "test_top1": p.test.to_dict(),
                "validation": p.validation.to_dict(),
                "train_loss": p.train_loss.mean if p.train_loss is not None else None,
                "validation_loss": p.validation_loss.mean,
                "concept_accuracy": p.concept.to_dict() if p.concept is not None else None,
            }
            for p in curve.points
        ],
    }
