"""Two runs, or two sweeps, on the same test images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

    Conditions are subjects, splits and seeds. Where the two sides have other seeds (a closed form has none to vary),
    each side's hits are averaged over its seeds first.

    Returns
    -------
    dict
        For `top1` and `top5`: a, b, difference (first minus second), ci95, p; the numbers of images and of queries, the
        smallest difference that so many images can show, and `always_said`: sentences that the data call for.

    Raises
    ------
    InputError
        If the two were not tested on the same images.
    """
    pairs = _pairs(first, second)
    found: dict[str, Any] = {"a": str(first), "b": str(second), "conditions": len(pairs)}
    results = [read_result(folder) for pair in pairs for side in pair for folder in side]
    found["always_said"] = sorted({text for result in results for text in result.always_said})
    for name, k in (("top1", 1), ("top5", 5)):
        sides = [_hits(a, b, k) for a, b in pairs]
        ids, ours, theirs = (np.concatenate(part) for part in zip(*sides, strict=True))
        # Conditions may share images: one is drawn with all its queries, so that none counts as new evidence.
        found[name] = paired_bootstrap(ours, theirs, images=ids).to_dict()
        found["n_images"], found["n_queries"] = len(set(ids.tolist())), len(ids)
    found["smallest_detectable"] = smallest_detectable_difference(found["n_images"], found["top1"]["a"])
    return found


def _pairs(first: str | Path, second: str | Path) -> list[tuple[list[Path], list[Path]]]:
    """Runs of either side that stand for the same condition: one each, or all seeds where the seeds differ."""
    ours, theirs = ({_condition(read_result(f)): f for f in runs_of(side)} for side in (first, second))
    if ours.keys() == theirs.keys():
        return [([ours[key]], [theirs[key]]) for key in ours]
    mine, other = _by_seed(ours), _by_seed(theirs)
    if mine.keys() != other.keys():
        hint = "both must share data set, protocol, subjects and splits"
        raise InputError(f"was not tested on the images of {first}", where=second, hint=hint)
    return [(mine[key], other[key]) for key in mine]


def _by_seed(runs: Mapping[Condition, Path]) -> dict[tuple[Any, ...], list[Path]]:
    found: dict[tuple[Any, ...], list[Path]] = {}
    for condition, folder in runs.items():
        found.setdefault(condition[:-1], []).append(folder)
    return found


def _condition(result: Result) -> Condition:
    return (result.dataset, result.protocol, result.subject, result.split, result.seed)


def _hits(first: Sequence[Path], second: Sequence[Path], k: int) -> tuple[Any, Any, Any]:
    """Query ids in one order, and both sides' hits, mean over their runs."""
    sides = [[_sorted_hits(folder, k) for folder in side] for side in (first, second)]
    ids, _, n_way = sides[0][0]
    for folder, found in zip((*first, *second), (*sides[0], *sides[1]), strict=True):
        if found[0] != ids or found[2] != n_way:
            hint = "runs must share data set, subject, protocol and split"
            raise InputError(f"was not tested on the images of {first[0]}", where=folder, hint=hint)
    ours, theirs = (np.mean([hits for _, hits, _ in side], axis=0) for side in sides)
    return np.array(ids), ours, theirs


def _sorted_hits(folder: Path, k: int) -> tuple[list[str], Any, int]:
    ids, hits = hits_of_run(folder, k)
    order = np.argsort(ids, kind="stable")
    return [ids[place] for place in order], hits[order], read_result(folder).metrics.test.n_way
