"""`brainalign analyze repetitions`: what a test score owes to averaging repetitions, over their number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from brainalign.analysis import repetitions_figures, words
from brainalign.analysis.base import Analysis, Finding, Table
from brainalign.analysis.reopened import RunOptions, count_reads, facts_of, reopen
from brainalign.analysis.repetition_curves import WAYS, Curve, measure
from brainalign.errors import InputError
from brainalign.execution.progress import Reporter, Silent

REOPENED = (
    "The test set was opened again for this page, after the runs were scored. All scores here are exploratory: no "
    "layer, epoch, pooling, method or number of repetitions may be chosen by them."
)


class Options(RunOptions):
    """Settings of the repetitions analysis."""

    repetitions: str = Field(
        "", description="Numbers of trials to average, such as 1,2,5,10; powers of two by default."
    )
    draws: int = Field(10, ge=1, le=200, description="Random draws of k trials an image.")
    seed: int = Field(0, ge=0, description="Of the draws and intervals.")


def run(paths: Sequence[Path], options: Options, reporter: Reporter | None = None) -> Analysis:
    """Score finished runs on means over k of the test trials, k = 1, 2, 4, ..., all.

    Two ways: signals are averaged and the mean goes through the model, or every trial goes through the model and the
    similarities are averaged. The test set is opened again, once a data set, subject and split.

    Parameters
    ----------
    paths : sequence of Path
        Folders of finished runs.
    options : Options
    reporter : Reporter, optional

    Returns
    -------
    Analysis

    Raises
    ------
    InputError
        If a folder or its data cannot be used, or test images have one stored trial.
    """
    asked = _numbers(options.repetitions)
    runs = reopen(paths, options, "analyze repetitions", reporter)
    curves = []
    for one in runs:
        with (reporter or Silent()).step(f"scoring {one.name} at every number of repetitions") as tick:
            curves.append(measure(one, asked, options.draws, options.seed, tick))
    reads = count_reads(runs)
    facts = facts_of(runs) | {
        "Trials an image": ", ".join(dict.fromkeys(str(curve.n_trials) for curve in curves)),
        "Draws": f"{options.draws} of every number of trials, seed {options.seed}",
        "Test set opened": f"{reads} time(s) again for this page; exploratory",
    }
    return Analysis(
        name="repetitions",
        title=f"Averaged repetitions: {', '.join(dict.fromkeys(one.result.dataset for one in runs))}",
        virtual=any(one.result.virtual for one in runs),
        facts=facts,
        findings=(*_findings(curves), *_limits(curves, options)),
        figures=repetitions_figures.figures(curves),
        tables=(Table("repetitions", "Scores by number of repetitions", repetitions_figures.rows(curves)),),
        numbers={
            "test_reads": reads,
            "no_choice_may_rest_on_this": True,
            "runs": [_document(curve) for curve in curves],
        },
    )


def _numbers(text: str) -> list[int]:
    words_ = [word.strip() for word in text.split(",") if word.strip()]
    if not all(word.isdigit() and int(word) > 0 for word in words_):
        raise InputError(f"takes whole numbers above 0, got {text!r}", where="--repetitions", hint="such as 1,2,5,10")
    return [int(word) for word in words_]


def _findings(curves: Sequence[Curve]) -> list[Finding]:
    found = []
    for curve in curves:
        name = f"{curve.name}: " if len(curves) > 1 else ""
        points = curve.of("signals")
        first, last = points[0], points[-1]
        text = (
            f"{name}Top-1 with {_trials(first.k)} is {words.percent(first.top1.estimate)} "
            f"({words.ends([first.top1.lo, first.top1.hi], '%')}), with {last.k} averaged it is "
            f"{words.percent(last.top1.estimate)} ({words.ends([last.top1.lo, last.top1.hi], '%')}); chance "
            f"{words.percent(curve.chance_top1)}."
        )
        if last.top1.estimate > curve.chance_top1:
            text += (
                f" Half of the way from chance to that needs {_trials(curve.needed(0.5))}, nine tenths of it "
                f"{_trials(curve.needed(0.9))} (of the numbers tried)."
            )
        found += [Finding("exploratory", text), Finding("exploratory", name + _ways(curve))]
    return found


def _ways(curve: Curve) -> str:
    """Where the two ways of averaging differ most."""
    k, most = max(curve.differences.items(), key=lambda item: abs(item[1].difference))
    if most.difference == 0:
        return "Averaging signals and averaging predictions give the same top-1 at every number of repetitions."
    better = "signals" if most.difference > 0 else "predictions"
    return (
        f"Averaging signals minus averaging predictions is furthest from 0 at {_trials(k)}: "
        f"{words.points(most.difference)} ({words.ends([most.lo, most.hi], '%')}), in favour of averaged {better}; "
        f"{words.p_value(most.p)}, not corrected for the {len(curve.differences)} numbers tried."
    )


def _trials(k: int) -> str:
    return "one trial" if k == 1 else f"{k} trials"


def _limits(curves: Sequence[Curve], options: Options) -> list[Finding]:
    texts = [
        REOPENED,
        "Draws of many of the same trials share most of them, so their spread shrinks towards the right for that "
        "reason alone; intervals are over images.",
        "The models were trained on averaged signals, so single trials are noisier than anything they were trained on.",
    ]
    if any(curve.stored_mean > 1 for curve in curves):
        most = max(curve.stored_mean for curve in curves)
        texts.append(f"Stored trials are means of up to {most} presentations: k counts stored trials.")
    if options.draws == 1:
        texts.append("One draw: the spread over draws is not measured.")
    return [Finding("limit", text) for text in texts]


def _document(curve: Curve) -> dict[str, Any]:
    return {
        "run": curve.name,
        "n_images": curve.n_images,
        "trials_an_image": curve.n_trials,
        "presentations_a_stored_trial": curve.stored_mean,
        "chance_top1": curve.chance_top1,
        "stored_top1": curve.stored_top1,
        "recomputed_top1": curve.all_top1,
        "half_needs": curve.needed(0.5),
        "nine_tenths_need": curve.needed(0.9),
        **{way: [_numbers_of(p) for p in curve.of(way)] for way in WAYS},
        "signals_minus_predictions": {str(k): c.to_dict() for k, c in curve.differences.items()},
    }


def _numbers_of(point: Any) -> dict[str, Any]:
    return {
        "k": point.k,
        "top1": point.top1.estimate,
        "top1_ci95": [point.top1.lo, point.top1.hi],
        "top5": point.top5.estimate,
        "top5_ci95": [point.top5.lo, point.top5.hi],
        "sd_over_draws": point.spread,
        "range_over_draws": [point.lowest, point.highest],
    }
