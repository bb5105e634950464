"""Two runs, or two sweeps, on the same test images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from brainalign.errors import InputError
from brainalign.evaluation.hits import hits_of_run
from brainalign.evaluation.paired import paired_bootstrap, smallest_detectable_difference
from brainalign.evaluation.result import Result, read_result
from brainalign.files import read_json

Condition = tuple[str, str, str, int, int]


def runs_of(folder: str | Path) -> list[Path]:
    """A run's folder itself; of a sweep, the folders of its chosen rows.

    Raises
    ------
    InputError
        If the folder is neither.
    """
    place = Path(folder)
    if not (place / "sweep.json").is_file():
        return [place]
    try:
        return [place / str(condition["run"]) for condition in read_json(place / "sweep.json")["conditions"]]
    except (KeyError, TypeError) as error:
        raise InputError("lists no conditions", where=place / "sweep.json", hint="run the sweep again") from error


def compare_runs(first: str | Path, second: str | Path) -> dict[str, Any]:
    """Paired difference of two runs on the same test images; of two sweeps, of their chosen rows, conditions pooled.

    Returns
    -------
    dict
        For `top1` and `top5`: a, b, difference (first minus second), ci95, p; the numbers of images and of queries, and
        the smallest difference that so many images can show.

    Raises
    ------
    InputError
        If the two were not tested on the same images.
    """
    pairs = _pairs(first, second)
    found: dict[str, Any] = {"a": str(first), "b": str(second), "conditions": len(pairs)}
    for name, k in (("top1", 1), ("top5", 5)):
        ids, ours, theirs = (np.concatenate(part) for part in zip(*(_hits(a, b, k) for a, b in pairs), strict=True))
        # Conditions may share images: one is drawn with all its queries, so that none counts as new evidence.
        found[name] = paired_bootstrap(ours, theirs, images=ids).to_dict()
        found["n_images"], found["n_queries"] = len(set(ids.tolist())), len(ids)
    found["smallest_detectable"] = smallest_detectable_difference(found["n_images"], found["top1"]["a"])
    return found


def _pairs(first: str | Path, second: str | Path) -> list[tuple[Path, Path]]:
    ours, theirs = ({_condition(read_result(f)): f for f in runs_of(side)} for side in (first, second))
    if ours.keys() != theirs.keys() and len(ours) == len(theirs) == 1:  # single runs of different seeds compare too
        (a, one), (b, two) = *ours.items(), *theirs.items()
        if a[:4] == b[:4]:
            return [(one, two)]
    if ours.keys() != theirs.keys():
        hint = "both must share data set, protocol, subjects, splits and seeds"
        raise InputError(f"was not tested on the images of {first}", where=second, hint=hint)
    return [(ours[key], theirs[key]) for key in ours]


def _condition(result: Result) -> Condition:
    return (result.dataset, result.protocol, result.subject, result.split, result.seed)


def _hits(first: Path, second: Path, k: int) -> tuple[Any, Any, Any]:
    """Query ids in one order, and both runs' hits."""
    ids_a, hits_a = hits_of_run(first, k)
    ids_b, hits_b = hits_of_run(second, k)
    a, b = read_result(first), read_result(second)
    if sorted(ids_a) != sorted(ids_b) or a.metrics.test.n_way != b.metrics.test.n_way:
        hint = "runs must share data set, subject, protocol and split"
        raise InputError(f"was not tested on the images of {first}", where=second, hint=hint)
    order_a, order_b = np.argsort(ids_a, kind="stable"), np.argsort(ids_b, kind="stable")
    return np.array(ids_a)[order_a], hits_a[order_a], hits_b[order_b]
