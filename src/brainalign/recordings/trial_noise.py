"""Covariance of single-trial noise over channels and samples, from repetitions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import InputError
from brainalign.recordings.recording import Recording

MAX_STIMULI = 2000
SPLITS = 8
BATCH = 64  # images whose halves are transformed, and multiplied, at once

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
    names = names[:: -(-len(names) // MAX_STIMULI)]
    total: NDArray[np.float64] | None = None
    for start in range(0, len(names), BATCH):
        dealt = [_deal(recording.read(recording.trials_of(name))) for name in names[start : start + BATCH]]
        values = transform(np.concatenate([halves for halves, _ in dealt]))
        differences = (values[0::2] - values[1::2]) * np.concatenate([scales for _, scales in dealt])[:, None]
        product = differences.T @ differences
        total = product if total is None else np.add(total, product, out=total)
    assert total is not None
    return total / len(names)


def _is_repeated(recording: Recording, name: str) -> bool:
    rows = recording.trials_of(name)
    return len(rows) > 1 and bool((recording.trials["n_averaged"].to_numpy()[rows] == 1).all())


def _deal(trials: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Averages of both halves in turn, (2 * splits, n_chans, n_times), and what scales their differences, (splits,).

    Scaled, the squares of an image's differences sum to those of one single trial.
    """
    n = len(trials)
    rng = np.random.default_rng(n)  # the same dealing wherever the same number of trials is met
    splits = SPLITS if n > 2 else 1
    shares = np.zeros((2 * splits, n), dtype=trials.dtype)
    for row in range(0, 2 * splits, 2):
        order = rng.permutation(n)
        shares[row, order[: n // 2]] = 1 / (n // 2)
        shares[row + 1, order[n // 2 :]] = 1 / (n - n // 2)
    halves: NDArray[np.float32] = np.tensordot(shares, trials, axes=1)
    return halves, np.full(splits, 1 / np.sqrt(splits * (1 / (n // 2) + 1 / (n - n // 2))))
