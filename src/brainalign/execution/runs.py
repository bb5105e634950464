"""Looking at finished runs: list, compare, write the report again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from brainalign.cache import default_cache_dir
from brainalign.datasets import open_dataset
from brainalign.errors import InputError
from brainalign.evaluation import paired_bootstrap, smallest_detectable_difference
from brainalign.evaluation.hits import hits_of_run
from brainalign.evaluation.result import read_result
from brainalign.files import read_json
from brainalign.report import write_run_report, write_sweep_report
from brainalign.stimuli import StimulusSet


def list_runs(folder: str | Path) -> list[dict[str, Any]]:
    """One row a finished run below a folder.

    Raises
    ------
    InputError
        If the folder is missing or holds no finished run.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError("is not a folder", where=folder, hint="give the folder that holds runs")
    found = sorted(root.rglob("result.json"))
    if not found:
        raise InputError("holds no finished run", where=folder, hint="a run's folder has a result.json")
    return [_row(path.parent, root) for path in found]


def _row(folder: Path, root: Path) -> dict[str, Any]:
    result = read_result(folder)
    test = result.metrics.test
    return {
        "run": str(folder.relative_to(root)),
        "recipe": result.recipe,
        "dataset": result.dataset + (" (VIRTUAL)" if result.virtual else ""),
        "subject": result.subject,
        "split": result.split,
        "seed": result.seed,
        "target": f"{result.target.backbone} {result.target.label} {result.target.pooling}",
        "top1": round(test.top1, 4),
        "ci95": f"{test.top1_ci95[0]:.3f} to {test.top1_ci95[1]:.3f}",
        "chance": test.chance_top1,
        "test_reads": result.test_reads,
        "hash": result.config_hash[:12],
    }


def compare_runs(first: str | Path, second: str | Path) -> dict[str, Any]:
    """Paired difference of two runs on the same test images.

    Returns
    -------
    dict
        For `top1` and `top5`: a, b, difference (first minus second), ci95, p; and the number of images and the smallest
        difference that number can show.

    Raises
    ------
    InputError
        If the runs were not tested on the same images.
    """
    a, b = read_result(first), read_result(second)
    ids_a, _ = hits_of_run(first, 1)
    ids_b, _ = hits_of_run(second, 1)
    if sorted(ids_a) != sorted(ids_b) or a.metrics.test.n_way != b.metrics.test.n_way:
        hint = "runs must share data set, subject, protocol and split"
        raise InputError(f"was not tested on the images of {first}", where=second, hint=hint)
    found: dict[str, Any] = {"a": str(first), "b": str(second), "n_queries": len(ids_a)}
    order_a, order_b = np.argsort(ids_a, kind="stable"), np.argsort(ids_b, kind="stable")
    for name, k in (("top1", 1), ("top5", 5)):
        hits_a, hits_b = hits_of_run(first, k)[1], hits_of_run(second, k)[1]
        found[name] = paired_bootstrap(hits_a[order_a], hits_b[order_b], images=np.array(ids_a)[order_a]).to_dict()
    found["smallest_detectable"] = smallest_detectable_difference(len(ids_a), found["top1"]["a"])
    return found


def rebuild_report(
    folder: str | Path,
    *,
    out: str | Path | None = None,
    root: str | Path | None = None,
    cache: str | Path | None = None,
) -> Path:
    """Write the report of a run or sweep again, with pictures where the data set is at hand.

    Raises
    ------
    InputError
        If the folder holds neither.
    """
    place = Path(folder)
    target = Path(out) if out is not None else None
    if (place / "sweep.json").is_file():
        dataset = str(read_json(place / "sweep.json")["dataset"])
        return write_sweep_report(place, lambda subject: _stimuli(dataset, subject, root, cache), out=target)
    result = read_result(place)
    return write_run_report(place, _stimuli(result.dataset, result.subject, root, cache), out=target)


def _stimuli(dataset: str, subject: str, root: str | Path | None, cache: str | Path | None) -> StimulusSet | None:
    """The images a run showed, or None where they are not at hand: the report then says so."""
    try:
        return open_dataset(dataset, root, cache_dir=default_cache_dir(cache)).stimuli(subject)
    except InputError:
        return None
