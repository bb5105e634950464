"""Scores of what was retrieved: two-way identification, classes of retrieved images, normalised conversion.

"Two-way identification" has two meanings in the literature, and both are here: of embeddings (does the true image score
above another one?) and of retrieved images (is the retrieved picture more like the true one than like another one?, as
Ozcelik & VanRullen 2023, Scotti et al. 2023 and Ferrante et al. 2024 report it). Chance is 0.5 for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import InputError
from brainalign.evaluation.intervals import Interval
from brainalign.evaluation.metrics import count_ranks

Array = NDArray[np.float64]


def two_way_of_embeddings(queries: NDArray[Any], images: NDArray[Any]) -> Array:
    """For each query, the share of other images less similar (by cosine) than its own, ties half.

    Parameters
    ----------
    queries, images : arrays of shape (n, d)
        Row i of both belong together.

    Returns
    -------
    array of shape (n,)

    Raises
    ------
    InputError
        If the two do not have the same number of rows and columns.

    Examples
    --------
    >>> two_way_of_embeddings(np.eye(3), np.eye(3)).tolist()
    [1.0, 1.0, 1.0]
    """
    a, b = _rows(queries), _rows(images)
    if a.shape != b.shape:
        raise InputError(f"queries {a.shape} and images {b.shape} do not belong together")
    return count_ranks(_unit(a) @ _unit(b).T, np.arange(len(a))).beaten()


def two_way_of_retrieved(true: NDArray[Any], retrieved: NDArray[Any]) -> Array:
    """For each query, the share of other true images that its retrieved images resemble less than its own one.

    Similarity is Pearson's correlation of features, ties count half; several retrieved images of a query are averaged.

    Parameters
    ----------
    true : array of shape (n, d)
        Features of the true image of each query. Equal rows tie.
    retrieved : array of shape (n, d) or (n, k, d)
        Features of the images retrieved for it.

    Returns
    -------
    array of shape (n,)

    Raises
    ------
    InputError
        For shapes that do not agree, or fewer than two queries.

    Examples
    --------
    >>> true = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    >>> two_way_of_retrieved(true, true[[0, 1, 0]]).tolist()
    [1.0, 1.0, 0.25]
    """
    truth, found = _rows(true), np.asarray(retrieved, dtype=np.float64)
    found = found[:, None] if found.ndim == 2 else found
    if found.ndim != 3 or found.shape[0] != len(truth) or found.shape[2] != truth.shape[1]:
        raise InputError(f"retrieved {np.shape(retrieved)} does not fit true images {truth.shape}")
    reference = _unit(truth - truth.mean(axis=1, keepdims=True))
    values = np.empty(found.shape[:2])
    for place in range(found.shape[1]):
        rows = found[:, place]
        similarity = _unit(rows - rows.mean(axis=1, keepdims=True)) @ reference.T
        values[:, place] = count_ranks(similarity.round(9), np.arange(len(truth))).beaten()
    mean: Array = values.mean(axis=1)
    return mean


def class_top_k_hits(retrieved: Sequence[Sequence[str]], true: Sequence[str], k: int) -> Array:
    """Whether an image of the right class is among the first k retrieved ones, (n,) of 0 or 1.

    Parameters
    ----------
    retrieved : n sequences of at least k class names
        Nearest first.
    true : n class names

    Raises
    ------
    InputError
        If lengths do not agree.

    Examples
    --------
    >>> class_top_k_hits([["cat", "dog"], ["dog", "cat"]], ["cat", "cat"], 1).tolist()
    [1.0, 0.0]
    """
    if len(retrieved) != len(true) or k < 1 or any(len(row) < k for row in retrieved):
        raise InputError(f"{len(retrieved)} rows of retrieved classes for {len(true)} queries, {k} a row needed")
    return np.array([float(name in list(row)[:k]) for row, name in zip(retrieved, true, strict=True)])


def class_top_k_chance(gallery: Sequence[str], true: Sequence[str], k: int) -> float:
    """Class top-k accuracy of a random order of the gallery: 1 - C(N - n_c, k) / C(N, k), mean over queries.

    It depends on how many images a class has, which is why it is not comparable with image top-k.

    Raises
    ------
    InputError
        If `k` is not between 1 and the size of the gallery.

    Examples
    --------
    >>> class_top_k_chance(["cat", "cat", "dog", "cow"], ["cat"], 1)
    0.5
    """
    names, counts = np.unique(np.asarray(gallery, dtype=str), return_counts=True)
    of = dict(zip(names.tolist(), counts.tolist(), strict=True))
    n = len(gallery)
    if not 1 <= k <= n:
        raise InputError(f"k is {k} for a gallery of {n}")

    def missed(name: str) -> float:
        others = n - of.get(name, 0)
        return float(np.prod([(others - i) / (n - i) for i in range(k)]))

    return float(np.mean([1 - missed(name) for name in true]))


NORMALISED_MEANS = "two-way of the conversion divided by two-way of the target's own decoding on the same images"


def normalised_conversion(
    conversion: NDArray[Any],
    decoding: NDArray[Any],
    *,
    paired: bool = True,
    n_resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Two-way identification of a conversion relative to that of the target's own decoding.

    Parameters
    ----------
    conversion, decoding : arrays of shapes (n,) and (m,)
        Two-way share of each image. Chance of the ratio is 0.5 / mean(decoding), above 0.5.
    paired : bool
        Both are of the same images in the same order; else the images of either are drawn by themselves.

    Returns
    -------
    Interval
        Percentile bootstrap over images; can exceed 1.

    Raises
    ------
    InputError
        If paired lengths differ, one is empty, or the target decodes nothing (mean 0).

    Examples
    --------
    >>> normalised_conversion(np.full(10, 0.6), np.full(10, 0.8)).estimate.__round__(4)
    0.75
    """
    a, b = np.asarray(conversion, dtype=np.float64), np.asarray(decoding, dtype=np.float64)
    if a.ndim != 1 or b.ndim != 1 or not len(a) or not len(b) or (paired and a.shape != b.shape):
        raise InputError(f"conversion {a.shape} and decoding {b.shape} do not belong together")
    if not (np.isfinite(a).all() and np.isfinite(b).all()) or b.mean() <= 0:
        raise InputError("the target's own decoding is 0 or not a number: nothing to normalise by")
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(a), size=(n_resamples, len(a)))
    below = b[draws if paired else rng.integers(0, len(b), size=(n_resamples, len(b)))].mean(axis=1)
    ratios = a[draws].mean(axis=1)[below > 0] / below[below > 0]
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    method = "percentile-paired" if paired else "percentile"
    return Interval(float(a.mean() / b.mean()), float(low), float(high), level, method)


def _rows(values: NDArray[Any]) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or len(array) < 2 or not np.isfinite(array).all():
        raise InputError(f"expected (n, d) finite features of 2 images or more, got shape {array.shape}")
    return array


def _unit(values: Array) -> Array:
    norm = np.linalg.norm(values, axis=1, keepdims=True)
    found: Array = np.divide(values, norm, out=np.zeros_like(values), where=norm > 0)
    return found
