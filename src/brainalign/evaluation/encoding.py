"""Predicted signals against recorded ones: correlation over images, every channel and sample by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import InputError
from brainalign.evaluation.noise_ceiling import correlation, noise_corrected

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Median:
    """A median over channels and samples, its interval over images, and what shuffled pairs give.

    Attributes
    ----------
    median : float
    ci95 : (float, float)
        Percentile bootstrap over images, channels and samples kept.
    shuffled : float
        Mean of the median over predictions dealt anew to the images: chance.
    p : float
        One-sided, (1 + shuffles at least as good) / (1 + shuffles).
    n_values : int
        Channels times samples.
    """

    median: float
    ci95: tuple[float, float]
    shuffled: float
    p: float
    n_values: int


def median_correlation(
    predicted: NDArray[Any],
    recorded: NDArray[Any],
    reliability: NDArray[Any] | None = None,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> Median:
    """Median over channels and samples of the correlation over images, noise-corrected where reliabilities are given.

    Parameters
    ----------
    predicted, recorded : arrays of shape (n_images, ...)
    reliability : array of shape (...), optional
        Of the recorded averages; values too unreliable to be corrected are left out. Taken as known: the interval
        holds the images' part alone.
    n_resamples : int
        Bootstrap resamples, and as many shuffles.

    Raises
    ------
    InputError
        For shapes that do not agree, fewer than three images, or nothing reliable.
    """
    x, y = (np.asarray(v, dtype=np.float64).reshape(len(v), -1) for v in (predicted, recorded))
    if np.shape(predicted) != np.shape(recorded) or len(x) < 3:
        shapes = f"{np.shape(predicted)} and {np.shape(recorded)}"
        raise InputError(f"predicted and recorded signals have shapes {shapes}", hint="give 3 images or more, equal")
    ceiling = None if reliability is None else np.asarray(reliability, dtype=np.float64).ravel()
    keep = _usable(x.shape[1], ceiling)
    x, y, ceiling = x[:, keep], y[:, keep], None if ceiling is None else ceiling[keep]
    rng, n = np.random.default_rng(seed), len(x)
    scale = np.ones(x.shape[1]) if ceiling is None else np.sqrt(ceiling)
    observed = float(np.median(correlation(x, y) / scale))
    draws = rng.multinomial(n, np.full(n, 1 / n), size=n_resamples) / n
    resampled = np.concatenate([np.median(_weighted(x, y, part) / scale, axis=1) for part in np.array_split(draws, 20)])
    null = np.array([np.median(correlation(x, y[rng.permutation(n)]) / scale) for _ in range(n_resamples)])
    low, high = np.quantile(resampled, [0.025, 0.975])
    p = (1 + int((null >= observed - 1e-12).sum())) / (1 + n_resamples)
    return Median(observed, (float(low), float(high)), float(null.mean()), p, x.shape[1])


def _usable(n: int, reliability: Array | None) -> NDArray[np.bool_]:
    if reliability is None:
        return np.ones(n, dtype=bool)
    if reliability.shape != (n,):
        raise InputError(f"{reliability.size} reliabilities for {n} channels and samples")
    keep = np.isfinite(noise_corrected(np.ones(n), reliability))
    if not keep.any():
        raise InputError("no channel is reliable enough to correct for noise", hint="average more repetitions")
    return keep


def _weighted(x: Array, y: Array, weights: Array) -> Array:
    """Correlations over images of several weightings at once, (n_images, p) and (k, n_images) to (k, p)."""
    mean_x, mean_y = weights @ x, weights @ y
    covariance = weights @ (x * y) - mean_x * mean_y
    variances = (weights @ x**2 - mean_x**2) * (weights @ y**2 - mean_y**2)
    scale = np.sqrt(np.maximum(variances, 0))
    found: Array = np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > 0)
    return found
