"""Other runs on the same test images, beside the run of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from brainalign.evaluation.comparison import compare_runs, runs_of
from brainalign.evaluation.result import Result, read_result
from brainalign.report.comparison_figures import Compared, overlaid
from brainalign.report.figures import Panel
from brainalign.report.run_figures import headline_panel


@dataclass(frozen=True)
class Rival:
    """Another run and the paired comparison with it.

    Attributes
    ----------
    name : str
        What it is called on the page.
    folder : Path
    result : Result
    top1, top5 : dict
        `a`, `b`, `difference`, `ci95`, `p` of this run against the other.
    """

    name: str
    folder: Path
    result: Result
    top1: dict[str, Any]
    top5: dict[str, Any]


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
            compared = compare_runs(folder, run)
            found.append(Rival(run_name(result), run, result, compared["top1"], compared["top5"]))
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


def beside_panels(folder: Path, own: Result, others: Sequence[Rival]) -> list[Panel]:
    """Scores and curves of the run and of the others, over one another."""
    results = [own, *(rival.result for rival in others)]
    folders = [folder, *(rival.folder for rival in others)]
    names = _apart([result.recipe for result in results], results)
    runs = [Compared(*found) for found in zip(names, folders, results, strict=True)]
    return [scores_panel(own, others), *overlaid(runs)]


def _apart(names: Sequence[str], results: Sequence[Result]) -> list[str]:
    """Short names, each of one run only: the recipe, then its layer, then its seed, then a number."""
    found = list(names)
    for more in (lambda r: r.target.label, lambda r: f"seed {r.seed}", lambda r: r.target.pooling):
        twice = {name for name in found if found.count(name) > 1}
        found = [f"{n}, {more(r)}" if n in twice else n for n, r in zip(found, results, strict=True)]
    return [n if found.count(n) == 1 else f"{n} ({i})" for i, n in enumerate(found, start=1)]


def _layers(result: Result) -> str:
    return f"\n{len(result.target.layers)} layers" if len(result.target.layers) > 1 else "\none layer"
