r"""How well any model could predict a signal: the part of its variance over images that comes back at a repetition.

Two estimates, for every channel and sample by itself:

- from repetitions: the variance of trials around their image's mean is noise; what the variance of the means holds
  beyond its share of noise is signal, :math:`\sigma_s^2 = \sigma_m^2 - \sigma_n^2 / R` (Allen et al. 2022, Nature
  Neuroscience 25:116, methods, "noise ceiling estimation"; Schoppe et al. 2016, Front. Comput. Neurosci. 10:10);
- from halves: means over two halves of the trials are correlated over images and brought to the full number of trials
  (Spearman 1910, Brown 1910).

The reliability :math:`\rho_R = \sigma_s^2 / (\sigma_s^2 + \sigma_n^2 / R)` is the share of variance that can be
explained; a perfect prediction correlates :math:`\sqrt{\rho_R}` with the mean of R trials.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import InputError

Array = NDArray[np.float64]
LEAST_RELIABLE = 0.05  # below, a corrected correlation divides by little more than the error of the ceiling


@dataclass(frozen=True)
class NoiseCeiling:
    """Signal and noise of every channel and sample.

    Attributes
    ----------
    signal, noise : arrays of shape (...)
        Variance over images of the expected signal (at least 0), and of a single trial around it.
    repetitions : float
        Trials that the scored averages hold (harmonic mean over images).
    """

    signal: Array
    noise: Array
    repetitions: float

    def reliability(self, repetitions: float | None = None) -> Array:
        """Share of the variance of an average that is signal, 0 to 1; of another number of trials where given."""
        total = self.signal + self.noise / (self.repetitions if repetitions is None else repetitions)
        return np.divide(self.signal, total, out=np.zeros_like(self.signal), where=total > 0)


def variance_ceiling(trials: NDArray[Any]) -> NoiseCeiling:
    """Signal and noise variance from repetitions.

    Parameters
    ----------
    trials : array of shape (n_images, n_repetitions, ...)
        NaN where an image has fewer trials (a whole trial at a time).

    Returns
    -------
    NoiseCeiling
        With arrays of shape (...).

    Raises
    ------
    InputError
        If there are fewer than two images, or no image has two trials.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> seen = rng.normal(size=(2000, 1, 1)) + 2 * rng.normal(size=(2000, 4, 1))
    >>> found = variance_ceiling(seen)
    >>> found.reliability().round(1).tolist(), found.reliability(1).round(1).tolist()
    ([0.5], [0.2])
    """
    values, counts = _checked(trials)
    weights = counts.reshape(-1, *(1,) * (values.ndim - 2))
    means = np.nansum(values, axis=1) / weights
    within = np.nansum((values - means[:, None]) ** 2, axis=(0, 1))
    noise = within / (counts - 1).sum()
    held = float((1 / counts).mean())  # an image's mean holds noise / count
    signal = means.var(axis=0, ddof=1) - noise * held
    return NoiseCeiling(np.maximum(signal, 0.0), noise, 1 / held)


def split_half_reliability(trials: NDArray[Any], *, n_splits: int = 100, seed: int = 0) -> Array:
    """Correlation of two halves of the trials over images, brought to all trials by Spearman and Brown's formula.

    Parameters
    ----------
    trials : array of shape (n_images, n_repetitions, ...)
        NaN where an image has fewer trials; images with a single one are left out.
    n_splits : int
        Random halves, dealt for every image anew; correlations are averaged before the formula is applied.

    Returns
    -------
    array of shape (...)
        Can be below 0 where there is no signal.

    Raises
    ------
    InputError
        If fewer than three images have two trials.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> seen = rng.normal(size=(2000, 1, 1)) + 2 * rng.normal(size=(2000, 4, 1))
    >>> split_half_reliability(seen, n_splits=20).round(1).tolist()
    [0.5]
    """
    values, counts = _checked(trials)
    values, counts = values[counts > 1], counts[counts > 1]
    if len(values) < 3:
        raise InputError(f"{len(values)} images with two trials or more", hint="halves are correlated over 3 or more")
    if n_splits < 1:
        raise InputError(f"n_splits must be 1 or more, got {n_splits}")
    present = ~np.isnan(values.reshape(*values.shape[:2], -1)[..., 0])
    filled, half, rng = np.nan_to_num(values), counts // 2, np.random.default_rng(seed)
    total = np.zeros(values.shape[2:])
    for _ in range(n_splits):
        order = np.where(present, rng.random(present.shape), np.inf).argsort(axis=1).argsort(axis=1)
        first, second = order < half[:, None], (order >= half[:, None]) & (order < 2 * half[:, None])
        means = (np.einsum("ir,ir...->i...", part / half[:, None], filled) for part in (first, second))
        total += correlation(*means)
    r = total / n_splits
    k = float((1 / half).mean() / (1 / counts).mean())  # how many times longer the whole is than a half
    found: Array = k * r / (1 + (k - 1) * r)
    return found


def correlation(a: NDArray[Any], b: NDArray[Any]) -> Array:
    """Pearson's r over the first axis, (n, ...) and (n, ...) to (...); 0 where one of them does not vary."""
    x, y = (np.asarray(v, dtype=np.float64) for v in (a, b))
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    scale = np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
    found: Array = np.divide((x * y).sum(axis=0), scale, out=np.zeros_like(scale), where=scale > 0)
    return found


def covariance(a: NDArray[Any], b: NDArray[Any]) -> Array:
    """Covariance over the first axis, (n, ...) and (n, ...) to (...).

    Of predicted with recorded signals it is the variance explained, in squared units: noise does not add to it, however
    its strength changes over time or channels, so its peak is where the response to the image is largest. A correlation
    is flat around that peak where the noise is small.

    Examples
    --------
    >>> covariance(np.array([1.0, -1.0]), np.array([2.0, -2.0])).item()
    2.0
    """
    x, y = (np.asarray(v, dtype=np.float64) for v in (a, b))
    found: Array = ((x - x.mean(axis=0)) * (y - y.mean(axis=0))).mean(axis=0)
    return found


def noise_corrected(r: NDArray[Any], reliability: NDArray[Any], *, least: float = LEAST_RELIABLE) -> Array:
    """Correlation with the noise-free signal, r / sqrt(reliability); NaN where the reliability is below `least`.

    Can exceed 1, as both are estimates: it is not cut, cutting would bias a mean.

    Raises
    ------
    InputError
        If the two have different shapes.

    Examples
    --------
    >>> noise_corrected(np.array([0.4, 0.4]), np.array([0.64, 0.0])).tolist()
    [0.5, nan]
    """
    r, reliability = np.asarray(r, dtype=np.float64), np.asarray(reliability, dtype=np.float64)
    if r.shape != reliability.shape:
        raise InputError(f"correlations {r.shape} and reliabilities {reliability.shape} do not belong together")
    usable = reliability >= least
    return np.where(usable, r / np.sqrt(np.where(usable, reliability, 1.0)), np.nan)


def _checked(trials: NDArray[Any]) -> tuple[Array, NDArray[np.int64]]:
    """Trials in float64, and how many each image has; images without any are left out."""
    values = np.asarray(trials, dtype=np.float64)
    if values.ndim < 2 or values.size == 0:
        raise InputError(f"trials have shape {values.shape}, expected (n_images, n_repetitions, ...)")
    missing = np.isnan(values.reshape(*values.shape[:2], -1))
    if (missing.any(axis=2) != missing.all(axis=2)).any():
        raise InputError("a trial holds NaN in some channels only", hint="leave out the whole trial")
    if np.isinf(values).any():
        raise InputError("trials hold infinity")
    counts = (~missing[..., 0]).sum(axis=1)
    values, counts = values[counts > 0], counts[counts > 0]
    if len(values) < 2 or counts.max() < 2:
        raise InputError("no image was repeated, so the noise is not known", hint="give single trials, not averages")
    return values, counts
