"""What tables of many sweeps share: the data at hand, their folder, a sweep brought to its end, its pooled scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brainalign.cache import default_cache_dir
from brainalign.datasets import Dataset, open_dataset
from brainalign.errors import InputError
from brainalign.evaluation import Interval, proportion_interval
from brainalign.evaluation.hits import hits_of_run
from brainalign.execution.rundir import RunDirectory
from brainalign.files import read_json, sha256_json

CELLS = "cells"


@dataclass(frozen=True)
class Place:
    """The data at hand.

    Attributes
    ----------
    name : str
        As asked for, or the table's own.
    dataset : Dataset or None
        None where it is not here; `why_not` then says why.
    subjects : tuple of str
    """

    name: str
    dataset: Dataset | None
    subjects: tuple[str, ...] = ()
    why_not: str = ""

    @property
    def virtual(self) -> bool:
        """Whether the signals are computed."""
        return self.dataset is not None and self.dataset.info.virtual

    @property
    def base(self) -> str:
        """Registry name without the preset."""
        return self.name.partition(":")[0]


def open_place(
    name: str,
    root: str | Path | None,
    subjects: Sequence[str] = (),
    *,
    cache: str | Path | None = None,
    options: dict[str, Any] | None = None,
) -> Place:
    """Open the data, or say why they are not here.

    Raises
    ------
    InputError
        If the data set is unknown, the folder is not there, or it lacks a subject asked for.
    """
    opened = open_dataset(name, root, cache_dir=default_cache_dir(cache), **(options or {}))
    if opened.root is None and not opened.info.virtual:
        return Place(name, None, why_not=f"the data set {name} is not here (give its folder with --root)")
    for subject in subjects:
        opened.require_subject(subject)
    return Place(name, opened, tuple(subjects) or opened.subjects)


def claim_folder(folder: RunDirectory, facts: Mapping[str, Any], *, schema: str, what: str, same: str) -> str:
    """Refuse a folder that holds something else.

    Parameters
    ----------
    facts : mapping
        What all sweeps of the table have in common.
    what : str
        'reproduction', say.
    same : str
        What must be given again, in words.

    Returns
    -------
    str
        Hash of the facts, for the folder's `plan.json`.

    Raises
    ------
    InputError
        If a run, a sweep, or a table of other facts lies there.
    """
    plan = sha256_json(dict(facts))
    for name in ("result.json", "sweep.json"):
        if folder.has(name):
            raise InputError("holds a run or a sweep", where=folder.root, hint="choose another --out")
    if folder.has("plan.json"):
        held = folder.read_json("plan.json")
        if held.get("schema") != schema or held.get("plan") != plan:
            hint = f"choose another --out, or give the same {same}"
            raise InputError(f"holds another {what}", where=folder.root, hint=hint)
    return plan


def finish_sweep(folder: RunDirectory, slug: str, request: Mapping[str, Any], run: Callable[[Path], Any]) -> str:
    """Bring the sweep of a cell to its end; the reason where that cannot be done here, else empty.

    Parameters
    ----------
    request : mapping
        What decides the sweep: one that is finished and answers it is not run again.
    run : callable
        Runs the sweep in a folder.

    Raises
    ------
    InputError
        If our own folder is damaged, full or taken: that is not a fact about the cell.
    """
    home = folder.path(CELLS) / slug
    done = home.with_name(f"{slug}.json")
    if done.is_file() and (home / "sweep.json").is_file() and read_json(done) == dict(request):
        return ""
    try:
        run(home)
    except InputError as error:
        if isinstance(error.where, Path) and error.where.is_relative_to(folder.root):
            raise
        return str(error)
    except MemoryError:
        return "ran out of memory"
    except RuntimeError as error:
        if "out of memory" not in str(error).lower():
            raise
        return "ran out of memory"
    RunDirectory(done.parent).write_json(done.name, dict(request))
    return ""


def pooled_interval(runs: Sequence[Path], who: Sequence[str], k: int) -> Interval:
    """Mean hit rate of several runs; subjects and images both count as samples where all saw the same images.

    Parameters
    ----------
    runs : sequence of Path
    who : sequence of str
        Subject of each run; runs of one subject (seeds) are averaged first.
    k : int
        A hit is the shown image among the first k.
    """
    found, people = [hits_of_run(run, k) for run in runs], np.array(who)
    shown = [sorted(ids) for ids, _ in found]
    if all(ids == shown[0] for ids in shown):
        matrix = np.stack([hits[np.argsort(np.array(ids), kind="stable")] for ids, hits in found])
        one = len(matrix) == 1
        return proportion_interval(matrix[0] if one else matrix, groups=None if one else people)
    counts = [len(hits) for _, hits in found]
    return proportion_interval(np.concatenate([hits for _, hits in found]), groups=np.repeat(people, counts))
