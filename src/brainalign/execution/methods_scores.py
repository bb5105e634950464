"""Scores of methods over subjects and seeds, and how far they lie apart on the same test images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brainalign.evaluation.comparison import compare_runs
from brainalign.evaluation.pooled import pooled_permutation_of_runs
from brainalign.evaluation.result import Result
from brainalign.execution.cells import pooled_interval
from brainalign.report.sweep_file import SweepFile

GUESS = "random"  # never what others are measured against


def score_method(sweep: SweepFile, family: str, n_permutations: int) -> dict[str, Any]:
    """What a finished sweep over subjects and seeds says of a method; shares between 0 and 1."""
    folders = [sweep.run(condition) for condition in sweep.summary.conditions]
    who = [condition.subject for condition in sweep.summary.conditions]
    results, first = sweep.results, sweep.results[0]
    top1, top5 = (pooled_interval(folders, who, k) for k in (1, 5))
    permuted = pooled_permutation_of_runs(folders, n_permutations=n_permutations)
    controls = [r.shuffled.top1 for r in results if r.shuffled.top1 is not None]
    targets = [f"{r.target.backbone} {r.target.words} ({r.target.pooling})" for r in results]
    return {
        "top1": top1.estimate,
        "top1_ci95": top1.as_list(),
        "top5": top5.estimate,
        "top5_ci95": top5.as_list(),
        "interval": top1.method,
        "permutation_p": permuted.p_value,
        "n_permutations": permuted.n_permutations,
        "chance_top1": _mean([r.metrics.test.chance_top1 for r in results]),
        "chance_top5": _mean([r.metrics.test.chance_top5 for r in results]),
        "shuffled_top1": _mean(controls) if controls else None,
        "inflation_gap_top1": _mean([r.inflation_gap_top1 for r in results]),
        "validation_top1": _mean([r.metrics.validation.top1 for r in results]),
        "validation_mrr": _mean([r.metrics.validation.mrr for r in results]),
        "n_way": first.metrics.test.n_way,
        "repetitions": first.metrics.test.repetitions,
        "n_train": first.n_train,
        "runs": len(results),
        "subjects": list(dict.fromkeys(who)),
        "seeds": list(dict.fromkeys(r.seed for r in results)),
        "test_reads": max(r.test_reads for r in results),
        "train_s": _mean([r.timing.train_s for r in results]),
        "budget": sweep.summary.budget,
        "family": family,
        "encoder": first.encoder,
        "targets": {name: targets.count(name) for name in dict.fromkeys(targets)},
        "transform": first.target.transform,
        "language": _language(first),
        "always_said": sorted({text for r in results for text in r.always_said}),
        "lint": sorted({f.code for r in results for f in r.lint if f.severity == "leak"}),
    }


def _language(result: Result) -> str | None:
    found = result.language
    return None if found is None else f"{found.prior}, read by {found.encoder}"


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def reference(entries: Sequence[dict[str, Any]], against: str | None) -> dict[str, Any] | None:
    """Of one protocol's methods, the one that others are measured against.

    The one that is named, else the best by mean reciprocal rank on validation; never by a test score.
    """
    measured = [one for one in entries if one["measured"]]
    if against is not None:
        return next((one for one in measured if one["recipe"] == against), None)
    able = [one for one in measured if one["measured"]["family"] != GUESS]
    return max(able, key=lambda one: one["measured"]["validation_mrr"], default=None)


def set_apart(entries: Sequence[dict[str, Any]], against: str | None, folder: Path) -> None:
    """Write each method's paired difference from the reference of its protocol into its entry.

    p-values are adjusted for the number of methods that are compared under the protocol (Holm 1979).
    """
    other = reference(entries, against)
    rivals = [] if other is None else [one for one in entries if one["measured"] and one is not other]
    for one in entries:
        one["reference"] = one is other
        one["difference"] = None
    for one in rivals:
        assert other is not None
        found = compare_runs(folder / one["measured"]["run"], folder / other["measured"]["run"])
        one["difference"] = {"against": other["recipe"], **found["top1"], "conditions": found["conditions"]}
    for one, p in zip(rivals, holm([one["difference"]["p"] for one in rivals]), strict=True):
        one["difference"]["p_holm"] = p


def holm(values: Sequence[float]) -> list[float]:
    """p-values such that the smallest below alpha keeps the chance of any false claim below alpha.

    S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979).

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, reached = [0.0] * len(values), 0.0
    for rank, at in enumerate(sorted(range(len(values)), key=lambda i: values[i])):
        reached = max(reached, min(1.0, (len(values) - rank) * values[at]))
        adjusted[at] = reached
    return adjusted
