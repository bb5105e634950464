"""Multivariate noise normalisation (Guggenmos, Sterzer & Cichy 2018), fitted on training repetitions only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import InputError
from brainalign.recordings.recording import Recording

MAX_STIMULI = 400


def noise_covariance(recording: Recording, stimulus_ids: Sequence[str]) -> NDArray[np.float64]:
    """Covariance between channels of what differs between repetitions of one image.

    Ledoit-Wolf shrinkage of the residuals around each image's mean, samples pooled; at most 400 images (evenly spaced)
    are read, which fixes a covariance of some hundred channels far better than its use needs.

    Returns
    -------
    array of shape (n_chans, n_chans)

    Raises
    ------
    InputError
        If no image was repeated.
    """
    from sklearn.covariance import LedoitWolf

    repeated = [name for name in stimulus_ids if len(recording.trials_of(name)) > 1]
    if not repeated:
        raise InputError("no training image was repeated, so the noise is not known", hint="set signals.whiten=none")
    residuals = []
    for name in repeated[:: -(-len(repeated) // MAX_STIMULI)]:
        trials = recording.read(recording.trials_of(name)).astype(np.float64)
        # n / (n - 1): residuals around a mean of n trials are smaller than the noise.
        around = (trials - trials.mean(axis=0)) * np.sqrt(len(trials) / (len(trials) - 1))
        residuals.append(around.transpose(0, 2, 1).reshape(-1, recording.n_chans))
    fitted = LedoitWolf(assume_centered=True).fit(np.concatenate(residuals))
    covariance: NDArray[np.float64] = fitted.covariance_
    return covariance


def whitening_matrix(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Symmetric inverse square root of a covariance, (n, n); directions under 1e-10 of the largest are left out."""
    values, vectors = np.linalg.eigh(covariance)
    inverse = np.where(values > 1e-10 * values.max(), 1 / np.sqrt(np.maximum(values, 1e-300)), 0.0)
    result: NDArray[np.float64] = (vectors * inverse) @ vectors.T
    return result
