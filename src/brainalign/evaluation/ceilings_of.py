"""Noise ceilings of a recording's images, in the units a model predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.evaluation.noise_ceiling import split_half_reliability, variance_ceiling
from brainalign.recordings import Recording

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Ceilings:
    """Reliability of the averages that are scored, by two methods, (n_chans, n_times).

    Attributes
    ----------
    by_variance, by_halves : array of shape (n_chans, n_times)
    repetitions : float
        Trials an average holds.
    """

    by_variance: Array
    by_halves: Array
    repetitions: float


def ceilings_of(
    recording: Recording, stimulus_ids: Sequence[str], *, repetitions: int | None = None
) -> Ceilings | None:
    """Reliability of averages over the trials of some images; None where single trials are not there.

    Parameters
    ----------
    recording : Recording
        Channels and samples already selected.
    repetitions : int, optional
        Trials a scored average holds (the first ones); all there are by default.
    """
    counts = recording.trials["n_averaged"].to_numpy()
    groups = [recording.trials_of(name) for name in stimulus_ids]
    if repetitions is not None:
        groups = [group[:repetitions] for group in groups]
    if any((counts[group] > 1).any() for group in groups) or max(map(len, groups)) < 2:
        return None
    most = max(map(len, groups))
    if sum(len(group) > 1 for group in groups) < 3:
        return None
    trials: NDArray[Any] = np.full((len(groups), most, recording.n_chans, recording.n_times), np.nan, np.float32)
    for image, group in enumerate(groups):
        trials[image, : len(group)] = recording.read(group)
    found = variance_ceiling(trials)
    return Ceilings(found.reliability(), split_half_reliability(trials, n_splits=50), found.repetitions)
