"""Encoding strength: how well each channel's signals are predicted from the image, on images that were held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from brainalign.alignment.ridge import DualRidge, GramStatistics, PrimalRidge, RidgeMap
from brainalign.alignment.transforms import window_samples
from brainalign.analysis.channels_data import Estimates, Material, one_row_an_image, resampling_weights
from brainalign.analysis.onset import Values
from brainalign.analysis.window_ridge import PENALTIES
from brainalign.analysis.windows import Window
from brainalign.execution.progress import Tick

ROWS = 1024  # images whose signals are held in float64 at once
DEALT = 2**22  # products that are dealt to permutations at once
TINY = 1e-24


@dataclass(frozen=True)
class Encoding:
    """Encoding strength of a run's channels.

    Attributes
    ----------
    whole : Estimates
        Over all samples from stimulus onset on.
    windows : tuple of Window
    by_window, p_by_window : arrays of shape (n_chans, n_windows)
        p is corrected for all channels and windows.
    threshold : float
        A channel's strength above it has a corrected p of at most alpha.
    penalty : float
        Of the ridge, relative to the mean eigenvalue of the features' products.
    n_images : int
    """

    whole: Estimates
    windows: tuple[Window, ...]
    by_window: Values
    p_by_window: Values
    threshold: float
    penalty: float
    n_images: int


def measure_encoding(
    material: Material, windows: Sequence[Window], *, n_permutations: int, n_resamples: int, alpha: float, seed: int,
    tick: Tick,
) -> Encoding:  # fmt: skip
    """Predict held-out signals from image features by ridge regression, and correlate.

    The image features are those of the run's layer and pooling, transformed as the run transforms them; signals are
    z-scored with training statistics and not whitened. The one penalty of all channels is that with the smallest
    leave-one-out error on training images. Rows of one image (of several subjects) are averaged.
    """
    fitted, penalty = fit_encoding(material.train_images, material.train_signals)
    shape = material.held_signals.shape
    predicted = fitted(torch.from_numpy(material.held_images).double()).numpy().reshape(shape)
    x, y = one_row_an_image(material.held.query_ids, predicted, material.held_signals)
    deals = permutations(len(x), n_permutations, seed)
    after = material.channels.after
    whole = pooled_correlation(x[..., after], y[..., after])
    null = permuted_correlation(x[..., after], y[..., after], deals).max(1)
    tick(1, 2 + len(windows))
    draws = resampled_correlation(x[..., after], y[..., after], resampling_weights(len(x), n_resamples, seed))
    tick(2, 2 + len(windows))
    found = Estimates.of(whole, draws, material.channels.groups, corrected_p(whole, null))
    by_window, largest = np.zeros((shape[1], len(windows))), np.full(n_permutations, -np.inf)
    for number, window in enumerate(windows):
        assert material.channels.times is not None
        start, stop = window_samples(material.channels.times, window.ends)
        a, b = x[..., start:stop], y[..., start:stop]
        by_window[:, number] = pooled_correlation(a, b)
        np.maximum(largest, permuted_correlation(a, b, deals).max(1), out=largest)
        tick(3 + number, 2 + len(windows))
    p = corrected_p(by_window, largest)
    return Encoding(found, tuple(windows), by_window, p, _threshold(null, alpha), penalty, len(x))


def fit_encoding(images: NDArray[np.float32], signals: NDArray[np.float32]) -> tuple[RidgeMap, float]:
    """Ridge from image features (n, dim) to signals (n, n_chans, n_times), the penalty by leave-one-out error.

    Returns
    -------
    RidgeMap
        (m, dim) to (m, n_chans * n_times).
    float
        The penalty, in units of the mean eigenvalue of the features' products.
    """
    x = torch.from_numpy(np.ascontiguousarray(images))
    y = torch.from_numpy(np.ascontiguousarray(signals)).flatten(1)
    n, dim = x.shape
    unit = max(float((x.double() - x.double().mean(0)).square().sum()) / min(n, dim), 1e-12)
    penalties = [unit * p for p in PENALTIES]
    if dim > n:
        dual = DualRidge.of_features(x, y)
        errors = [float(dual.loo_residuals(p).square().mean()) for p in penalties]
        best = int(np.argmin(errors))
        return dual.map(penalties[best], [x.double()]), PENALTIES[best]
    chunks = list(zip(torch.split(x, ROWS), torch.split(y, ROWS), strict=True))
    statistics = GramStatistics(dim, y.shape[1])
    for part in chunks:
        statistics.add(*part)
    primal = PrimalRidge(statistics)
    best = int(np.argmin(primal.loo_errors(chunks, penalties)))
    return primal.map(penalties[best]), PENALTIES[best]


def pooled_correlation(predicted: NDArray[np.floating], recorded: NDArray[np.floating]) -> Values:
    """Correlation over images and samples of each channel, every sample's mean over images taken out first.

    With one sample it is Pearson's correlation over images.

    Parameters
    ----------
    predicted, recorded : arrays of shape (n, n_chans, n_times)

    Returns
    -------
    array of shape (n_chans,)
        0 where nothing varies.
    """
    x, y = _centred(predicted), _centred(recorded)
    return _ratio((x * y).sum((0, 2)), (x**2).sum((0, 2)), (y**2).sum((0, 2)))


def resampled_correlation(
    predicted: NDArray[np.floating], recorded: NDArray[np.floating], weights: Values
) -> Values:  # fmt: skip
    """`pooled_correlation` under weights of the images (n_resamples, n), (n_resamples, n_chans)."""
    found = np.empty((len(weights), predicted.shape[1]))
    for channel in range(predicted.shape[1]):
        x, y = _centred(predicted[:, channel]), _centred(recorded[:, channel])
        mean_x, mean_y = weights @ x, weights @ y  # (n_resamples, n_times)
        products = np.stack([(x * y).sum(1), (x**2).sum(1), (y**2).sum(1)], axis=1)
        sums = weights @ products
        found[:, channel] = _ratio(
            sums[:, 0] - (mean_x * mean_y).sum(1), sums[:, 1] - (mean_x**2).sum(1), sums[:, 2] - (mean_y**2).sum(1)
        )
    return found


def permutations(n: int, count: int, seed: int) -> NDArray[np.intp]:
    """Random orders of n images, (count, n)."""
    rng = np.random.default_rng([seed, 2])
    return np.stack([rng.permutation(n) for _ in range(count)])


def permuted_correlation(
    predicted: NDArray[np.floating], recorded: NDArray[np.floating], deals: NDArray[np.intp]
) -> Values:
    """`pooled_correlation` when predictions are dealt anew to the images, in all channels alike, (count, n_chans)."""
    count, n = deals.shape
    found, step = np.empty((count, predicted.shape[1])), max(1, DEALT // n)
    for channel in range(predicted.shape[1]):
        x, y = _centred(predicted[:, channel]), _centred(recorded[:, channel])
        products = x @ y.T  # of every prediction with every recorded signal
        scale = np.sqrt((x**2).sum() * (y**2).sum())
        for start in range(0, count, step):
            part = deals[start : start + step]
            found[start : start + step, channel] = products[part, np.arange(n)].sum(1) / max(scale, TINY)
    return found


def corrected_p(values: Values, largest: Values) -> Values:
    """One-sided p by the largest value of every deal (max-statistic; Nichols & Holmes 2002).

    Examples
    --------
    >>> corrected_p(np.array([0.9, 0.1]), np.array([0.2, 0.3, 0.4])).tolist()
    [0.25, 1.0]
    """
    ordered = np.sort(largest)
    reached = len(ordered) - np.searchsorted(ordered, values - 1e-12)
    return np.asarray((1 + reached) / (1 + len(ordered)))


def _threshold(largest: Values, alpha: float) -> float:
    """Values above it have p <= alpha; infinite where too few deals were made."""
    allowed = int(np.floor(alpha * (1 + len(largest)) + 1e-9)) - 1
    return float(np.sort(largest)[::-1][allowed]) if allowed >= 0 else float("inf")


def _centred(values: NDArray[np.floating]) -> Values:
    exact = np.asarray(values, dtype=np.float64)
    return np.asarray(exact - exact.mean(0))


def _ratio(covariance: Values, first: Values, second: Values) -> Values:
    scale = np.sqrt(np.maximum(first, 0) * np.maximum(second, 0))
    return np.asarray(np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > TINY))
