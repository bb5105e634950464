"""Dissimilarities of any matrix of patterns: images in rows, channels or features in columns.

All distances between n images come from one n x n matrix of inner products K: d_ij = K_ii + K_jj - 2 K_ij.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainalign.errors import InputError
from brainalign.recordings.whitening import whitening_matrix

Matrix = NDArray[np.float64]


def correlation_distance(patterns: ArrayLike) -> Matrix:
    """1 minus Pearson's r between the patterns of every two images.

    Parameters
    ----------
    patterns : array of shape (n_images, n_features)

    Returns
    -------
    array of shape (n_images, n_images)

    Raises
    ------
    InputError
        If patterns are not finite, or one is the same in all features: its correlation is not defined.

    Examples
    --------
    >>> correlation_distance([[0, 1, 2], [2, 4, 6], [2, 1, 0]]).round(6).tolist()[0]
    [0.0, 0.0, 2.0]
    """
    values = _patterns(patterns)
    centred = values - values.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=1)
    flat = lengths <= 1e-12 * np.abs(values).max(axis=1)
    if flat.any():
        text = f"the pattern of image {int(flat.argmax()) + 1} is the same in all {values.shape[1]} features"
        raise InputError(f"{text}: it correlates with nothing", hint="take the euclidean distance")
    unit = centred / lengths[:, None]
    return _no_diagonal(1 - np.clip(unit @ unit.T, -1, 1))


def squared_euclidean(patterns: ArrayLike) -> Matrix:
    """Sum over features of squared differences, (n_images, n_images); as `correlation_distance` otherwise."""
    values = _patterns(patterns)
    # Centring on the mean image changes no difference and keeps digits where patterns share a large offset.
    values = values - values.mean(axis=0)
    return np.maximum(_from_products(values @ values.T), 0.0)


def euclidean(patterns: ArrayLike) -> Matrix:
    """Euclidean distance between the patterns of every two images, (n_images, n_images).

    Examples
    --------
    >>> euclidean([[0.0, 0.0], [3.0, 4.0]]).tolist()
    [[0.0, 5.0], [5.0, 0.0]]
    """
    found: Matrix = np.sqrt(squared_euclidean(patterns))
    return found


def squared_mahalanobis(patterns: ArrayLike, noise: ArrayLike) -> Matrix:
    """(x - y)' S^-1 (x - y) / n_features: squared distance in units of the noise, a feature.

    Parameters
    ----------
    patterns : array of shape (n_images, n_features)
    noise : array of shape (n_features, n_features)
        S, covariance of the noise; directions in which it has next to none are left out.

    Raises
    ------
    InputError
        If shapes do not fit or values are not finite.

    References
    ----------
    A. Walther et al., "Reliability of dissimilarity measures for multi-voxel pattern analysis", NeuroImage 137
    (2016), 188-200.
    """
    values = _patterns(patterns)
    found: Matrix = squared_euclidean(values @ _whitener(noise, values.shape[1])) / values.shape[1]
    return found


def crossnobis(folds: ArrayLike, noise: ArrayLike | None = None) -> Matrix:
    """Cross-validated squared Mahalanobis distance, 0 on average where two images evoke the same: it may be negative.

    d_ij is the mean over ordered pairs of different folds (k, l) of (x_i^k - x_j^k)' S^-1 (x_i^l - x_j^l) / n_features:
    noise that is independent between folds cancels, where in other distances it adds to every pair.

    Parameters
    ----------
    folds : array of shape (n_folds, n_images, n_features)
        Independent measurements of the same images.
    noise : array of shape (n_features, n_features), optional
        S, covariance of the noise; the identity by default.

    Returns
    -------
    array of shape (n_images, n_images)

    Raises
    ------
    InputError
        If there are fewer than two folds, shapes do not fit, or values are not finite.

    References
    ----------
    A. Walther et al. (2016), as in `squared_mahalanobis`.
    """
    values = np.asarray(folds, dtype=np.float64)
    if values.ndim != 3 or len(values) < 2 or 0 in values.shape or not np.isfinite(values).all():
        text = f"crossnobis needs finite numbers of shape (2 folds or more, images, features), got {values.shape}"
        raise InputError(text, hint="take another distance where images were shown once")
    n_folds, _, n_features = values.shape
    if noise is not None:
        values = values @ _whitener(noise, n_features)
    values = values - values.mean(axis=1, keepdims=True)
    total = values.sum(axis=0)
    within = np.einsum("kif,kjf->ij", values, values, optimize=True)
    products = (total @ total.T - within) / (n_folds * (n_folds - 1))
    found: Matrix = _from_products(products) / n_features
    return found


def deal_folds(patterns: ArrayLike, rows_of: Sequence[NDArray[np.intp]]) -> Matrix:
    """Deal every image's trials to as many folds as the image with the fewest trials has, and average within.

    Neighbours in order go to one fold, so that trials of one session stay together as far as they can.

    Parameters
    ----------
    patterns : array of shape (n_trials, n_features)
    rows_of : sequence of n_images int arrays
        Rows of each image's trials, in the order they were shown.

    Returns
    -------
    array of shape (n_folds, n_images, n_features)

    Raises
    ------
    InputError
        If an image has fewer than two trials.
    """
    values = np.asarray(patterns, dtype=np.float64)
    n_folds = min(map(len, rows_of))
    if n_folds < 2:
        text = "crossnobis needs two trials or more of every image, one image has a single one"
        raise InputError(text, hint="take the correlation distance")
    dealt = [[values[part].mean(axis=0) for part in np.array_split(rows, n_folds)] for rows in rows_of]
    folds: Matrix = np.array(dealt).transpose(1, 0, 2)
    return folds


DISTANCES: dict[str, Callable[[ArrayLike], Matrix]] = {
    "correlation": correlation_distance,
    "euclidean": euclidean,
}


def _patterns(patterns: ArrayLike) -> Matrix:
    values = np.asarray(patterns, dtype=np.float64)
    if values.ndim != 2 or 0 in values.shape:
        raise InputError(f"patterns have shape {values.shape}, expected (images, features)")
    if not np.isfinite(values).all():
        raise InputError(f"patterns hold NaN or infinity, first at {np.argwhere(~np.isfinite(values))[0].tolist()}")
    return values


def _whitener(noise: ArrayLike, n_features: int) -> Matrix:
    covariance = np.asarray(noise, dtype=np.float64)
    if covariance.shape != (n_features, n_features) or not np.isfinite(covariance).all():
        text = f"the noise has shape {covariance.shape}, expected finite numbers of ({n_features}, {n_features})"
        raise InputError(text)
    return whitening_matrix(covariance)


def _from_products(products: Matrix) -> Matrix:
    own = np.diag(products)
    return _no_diagonal(own[:, None] + own[None, :] - 2 * products)


def _no_diagonal(values: Matrix) -> Matrix:
    even: Matrix = (values + values.T) / 2
    np.fill_diagonal(even, 0.0)
    return even
