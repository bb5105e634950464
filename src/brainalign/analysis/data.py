"""Opening a run's data set again, as the options of an analysis say."""

from __future__ import annotations

from typing import Any

from brainalign.analysis.base import DataOptions
from brainalign.datasets import Dataset
from brainalign.execution.reopen import reopen_dataset
from brainalign.stimuli import StimulusSet


def open_again(dataset: str, options: DataOptions, **data_options: Any) -> Dataset:
    """The data set that a result names; see `brainalign.execution.reopen.reopen_dataset`."""
    return reopen_dataset(dataset, options.root, options.cache, **data_options)


def open_stimuli(dataset: str, subject: str, options: DataOptions) -> StimulusSet:
    """The images shown to a subject.

    Raises
    ------
    InputError
        If the data set is not at hand.
    """
    return open_again(dataset, options).stimuli(subject)
