"""Opening a run's data set again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from brainalign.analysis.base import DataOptions
from brainalign.cache import default_cache_dir
from brainalign.datasets import Dataset, open_dataset
from brainalign.datasets.registry import DATASETS
from brainalign.errors import InputError
from brainalign.stimuli import StimulusSet


def dataset_name(dataset: str, root: Path | None) -> str:
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
    if not root.is_dir():
        raise InputError("is not a folder", where=root, hint="give the folder of the recordings")
    return str(root)


def open_again(dataset: str, options: DataOptions, **data_options: Any) -> Dataset:
    """The data set that a result names.

    Parameters
    ----------
    **data_options
        Options of a virtual data set.

    Raises
    ------
    InputError
        If it is not at hand, or another one lies there.
    """
    name = dataset_name(dataset, options.root)
    found = open_dataset(name, options.root, cache_dir=default_cache_dir(options.cache), **data_options)
    if found.name != dataset:
        raise InputError(f"holds the data set '{found.name}', the run's is '{dataset}'", where=options.root)
    return found


def open_stimuli(dataset: str, subject: str, options: DataOptions) -> StimulusSet:
    """The images shown to a subject.

    Raises
    ------
    InputError
        If the data set is not at hand.
    """
    return open_again(dataset, options).stimuli(subject)
