"""Other runs on the same test images, beside the run of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from brainalign.evaluation.comparison import compare_runs, runs_of
from brainalign.evaluation.result import Result, read_result
from brainalign.report.figures import Panel
from brainalign.report.run_figures import headline_panel


@dataclass(frozen=True)
class Rival:
    """Another run and the paired comparison with it.

    Attributes
    ----------
    name : str
        What it is called on the page.
    result : Result
    top1 : dict
        `a`, `b`, `difference`, `ci95`, `p` of this run against the other.
    """

    name: str
    result: Result
    top1: dict[str, Any]


def rivals(folder: Path, others: Sequence[str | Path]) -> list[Rival]:
    """Compare a run with others, images paired.

    Raises
    ------
    InputError
        If another run is not finished or was tested on other images.
    """
    found = []
    for other in others:
        for run in runs_of(other):
            result = read_result(run)
            found.append(Rival(run_name(result), result, compare_runs(folder, run)["top1"]))
    return found


def run_name(result: Result) -> str:
    """Recipe and target in a few words."""
    return f"{result.recipe}, {result.target.words} ({result.target.pooling})"


def scores_panel(own: Result, others: Sequence[Rival]) -> Panel:
    """Test top-1 of the run and of the others."""

    def row(what: str, result: Result) -> dict[str, Any]:
        test = result.metrics.test
        low, high = test.top1_ci95
        return {"what": what, "top1": test.top1, "ci_lo": low, "ci_hi": high, "chance": test.chance_top1}

    rows = [row(own.recipe, own), *(row(rival.result.recipe + _layers(rival.result), rival.result) for rival in others)]
    return replace(headline_panel(rows, name="beside"), title="Top-1 of all runs")


def _layers(result: Result) -> str:
    return f"\n{len(result.target.layers)} layers" if len(result.target.layers) > 1 else "\none layer"
