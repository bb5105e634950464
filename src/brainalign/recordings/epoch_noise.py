"""Covariance of channels for multivariate noise normalisation as the THINGS-EEG2 scripts estimate it.

Guggenmos, Sterzer & Cichy (NeuroImage 173, 2018) describe the normalisation; Gifford et al. (NeuroImage 264,
2022) and the later scripts estimate the covariance within each epoch (or at each sample across repetitions) with
Ledoit-Wolf shrinkage of standardised channels, and average it over repetitions (samples) and then over conditions.
`brainalign.recordings.whitening` estimates another one, from the differences between repetitions.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import InputError

Dimension = Literal["epoch", "time"]


def shrunk_covariances(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ledoit-Wolf covariances of many sets of samples at once, each on standardised channels and scaled back.

    The same as `sklearn.covariance.ledoit_wolf` between two `StandardScaler` steps (which is how scikit-learn's
    discriminant analysis shrinks), a few times faster on many small sets.

    Parameters
    ----------
    samples : array of shape (n_sets, n_samples, n_chans)

    Returns
    -------
    array of shape (n_sets, n_chans, n_chans)

    References
    ----------
    O. Ledoit & M. Wolf, A well-conditioned estimator for large-dimensional covariance matrices, Journal of Multivariate
    Analysis 88, 2004: lemmas 3.2 to 3.4 give m, d^2 and b^2.
    """
    _, n, p = samples.shape
    centred = samples - samples.mean(axis=1, keepdims=True)
    scale = np.sqrt(np.mean(centred**2, axis=1, keepdims=True))
    size = np.abs(samples).max(axis=1, keepdims=True)
    scale = np.where(scale <= 10 * np.finfo(float).eps * size, 1.0, scale)  # a flat channel stays flat
    x = centred / scale
    covariances = np.matmul(x.transpose(0, 2, 1), x) / n
    squares = np.sum(covariances**2, axis=(1, 2))
    mean = np.trace(covariances, axis1=1, axis2=2) / p  # m
    distance = squares / p - mean**2  # d^2
    fourth = np.sum(np.sum(x**2, axis=2) ** 2, axis=1)  # sum over samples of the squared norm, squared
    error = np.minimum((fourth / n - squares) / (p * n), distance)  # b^2
    share = np.divide(error, distance, out=np.zeros_like(error), where=(distance > 1e-15) & (p > 1))
    covariances *= (1 - share)[:, None, None]
    diagonal = np.arange(p)
    covariances[:, diagonal, diagonal] += (share * mean)[:, None]
    result: NDArray[np.float64] = covariances * scale * scale.transpose(0, 2, 1)
    return result


class EpochNoise:
    """Running mean over conditions of the covariance of channels.

    Parameters
    ----------
    dimension : {'epoch', 'time'}
        'epoch': over the samples of each trial, mean over the condition's trials. 'time': over the condition's trials
        at each sample, mean over samples; conditions with one trial do not count.
    """

    def __init__(self, dimension: Dimension) -> None:
        self.dimension = dimension
        self.n_conditions = 0
        self._total: NDArray[np.float64] | None = None

    def add(self, trials: NDArray[np.float64], starts: NDArray[np.intp]) -> None:
        """Take the trials of some conditions.

        Parameters
        ----------
        trials : array of shape (n_trials, n_chans, n_times)
        starts : array of int
            Row at which each condition starts.
        """
        counts = np.diff(starts, append=len(trials))
        if self.dimension == "epoch":
            covariances = shrunk_covariances(trials.transpose(0, 2, 1))
            self._take(np.einsum("n,nij->ij", np.repeat(1 / counts, counts), covariances), len(counts))
            return
        for start, count in zip(starts, counts, strict=True):
            if count > 1:
                at_samples = trials[start : start + count].transpose(2, 0, 1)
                self._take(shrunk_covariances(at_samples).mean(axis=0), 1)

    def _take(self, total: NDArray[np.float64], n_conditions: int) -> None:
        self._total = total if self._total is None else self._total + total
        self.n_conditions += n_conditions

    def covariance(self) -> NDArray[np.float64]:
        """The mean, (n_chans, n_chans).

        Raises
        ------
        InputError
            If no condition counted.
        """
        if self._total is None:
            problem = "no condition was shown twice in a session, so there is no covariance over repetitions"
            raise InputError(problem, hint="use --covariance epoch")
        return self._total / self.n_conditions
