"""Covariance of single-trial noise over channels and samples, from repetitions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import InputError
from brainalign.recordings.recording import Recording

MAX_STIMULI = 2000
SPLITS = 8

Transform = Callable[[NDArray[np.float32]], NDArray[np.float64]]


def has_trials(recording: Recording, stimulus_ids: Sequence[str]) -> bool:
    """Whether some image was measured in more than one single trial (stored averages do not count)."""
    return any(_is_repeated(recording, name) for name in stimulus_ids)


def trial_noise_covariance(
    recording: Recording, stimulus_ids: Sequence[str], transform: Transform
) -> NDArray[np.float64]:
    """Covariance of a single trial around its image's mean, in transformed units.

    The trials of an image are dealt to two halves, both are averaged and transformed; their difference has the
    covariance of a trial times (1 / n1 + 1 / n2). Working on transformed averages, not on transformed trials, gives the
    noise that averages have where the transform is not linear (square roots of counts). Eight ways of dealing are
    averaged; at most 2,000 images, evenly spaced, are read.

    Parameters
    ----------
    transform : callable
        (n, n_chans, n_times) to (n, p).

    Returns
    -------
    array of shape (p, p)

    Raises
    ------
    InputError
        If no image was repeated.
    """
    names = [name for name in stimulus_ids if _is_repeated(recording, name)]
    if not names:
        raise InputError("no training image was repeated, so the noise is not known", hint="set trial_noise=false")
    names = names[:: max(1, len(names) // MAX_STIMULI)]
    total: NDArray[np.float64] | None = None
    for name in names:
        differences = _half_differences(recording.read(recording.trials_of(name)), transform)
        product = differences.T @ differences / len(differences)
        total = product if total is None else total + product
    assert total is not None
    return total / len(names)


def _is_repeated(recording: Recording, name: str) -> bool:
    rows = recording.trials_of(name)
    return len(rows) > 1 and bool((recording.trials["n_averaged"].to_numpy()[rows] == 1).all())


def _half_differences(trials: NDArray[np.float32], transform: Transform) -> NDArray[np.float64]:
    """Differences of transformed half averages, scaled to single trials, (splits, p)."""
    n = len(trials)
    rng = np.random.default_rng(n)  # the same dealing wherever the same number of trials is met
    halves, scales = [], []
    for _ in range(SPLITS if n > 2 else 1):
        order = rng.permutation(n)
        first, second = order[: n // 2], order[n // 2 :]
        halves += [trials[first].mean(0), trials[second].mean(0)]
        scales.append(1 / np.sqrt(1 / len(first) + 1 / len(second)))
    values = transform(np.stack(halves))
    differences: NDArray[np.float64] = (values[0::2] - values[1::2]) * np.array(scales)[:, None]
    return differences
