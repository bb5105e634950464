"""A finished run's data set, opened again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from brainalign.cache import default_cache_dir
from brainalign.datasets import DATASETS, Dataset, open_dataset
from brainalign.errors import InputError
from brainalign.stimuli import StimulusSet


def dataset_name(dataset: str, root: str | Path | None) -> str:
    """What `open_dataset` takes for the data set that a result names.

    A result calls own recordings by their title; their folder then comes by `--root`.

    Raises
    ------
    InputError
        If these are own recordings and no folder is given.
    """
    if dataset.partition(":")[0] in DATASETS:
        return dataset
    if root is None:
        raise InputError(f"'{dataset}' are own recordings", where="--root", hint="give their folder")
    if not Path(root).is_dir():
        raise InputError("is not a folder", where=root, hint="give the folder of the recordings")
    return str(root)


def reopen_dataset(dataset: str, root: str | Path | None, cache: str | Path | None, **options: Any) -> Dataset:
    """The data set that a result names.

    Parameters
    ----------
    **options
        Options of a virtual data set.

    Raises
    ------
    InputError
        If it is not at hand, or another one lies there.
    """
    found = open_dataset(dataset_name(dataset, root), root, cache_dir=default_cache_dir(cache), **options)
    if found.name != dataset:
        raise InputError(f"holds the data set '{found.name}', the run's is '{dataset}'", where=root)
    return found


def shown_stimuli(dataset: str, subject: str, root: str | Path | None, cache: str | Path | None) -> StimulusSet | None:
    """The images a run showed. Without `root` None where they are not at hand: the report then says so.

    Raises
    ------
    InputError
        If `root` is given and does not hold them.
    """
    if root is not None:
        return reopen_dataset(dataset, root, cache).stimuli(subject)
    try:
        return open_dataset(dataset, cache_dir=default_cache_dir(cache)).stimuli(subject)
    except InputError:
        return None
