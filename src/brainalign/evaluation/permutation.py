"""Permutation test: could this score arise if the signals said nothing about which image was seen?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainalign.errors import InputError
from brainalign.evaluation.metrics import FloatArray, RankCounts, check_similarity, count_ranks

_BLOCK = 2**18  # entries of permutations held at once


@dataclass(frozen=True)
class PermutationTest:
    """A score against its distribution under shuffled labels.

    Attributes
    ----------
    metric : str
    observed : float
    p_value : float
        One-sided (greater), (1 + draws at least as good) / (1 + n_permutations).
    null_mean, null_std : float
        Mean and standard deviation of the score over the shuffles.
    n_permutations : int
    """

    metric: str
    observed: float
    p_value: float
    null_mean: float
    null_std: float
    n_permutations: int


def permutation_test(
    similarity: ArrayLike, targets: ArrayLike, metric: str = "top1", *, n_permutations: int = 10_000, seed: int = 0
) -> PermutationTest:
    """Shuffle which image belongs to which signals, and count how often that scores as well.

    Images are shuffled, not queries: all queries of one image keep one common label, because repeated presentations of
    an image resemble each other whether or not they are decodable. Where every query shows another image the two are
    the same. The shuffle is among the tested images, so a decoder that merely prefers some gallery images gains
    nothing.

    Nothing is ranked twice: the rank every tested image has in every row is computed once, a permutation reads one
    entry a row.

    Parameters
    ----------
    similarity : array of shape (n_queries, n_gallery)
        Higher is more similar.
    targets : int array of shape (n_queries,)
        Gallery column of each query's true image.
    metric : str
        'top1', 'top5' (any k), 'mrr' or 'two_way'.
    n_permutations : int
        The smallest p-value that can come out is 1 / (n_permutations + 1).
    seed : int

    Returns
    -------
    PermutationTest

    Raises
    ------
    InputError
        See `count_ranks`; also for an unknown metric or fewer than one permutation.

    Notes
    -----
    `null_mean` is no independent control where the gallery holds just the tested images: averaged over all shuffles
    every row visits every column once, which is chance by arithmetic. A control that can reveal a leak is a model
    *trained* on shuffled pairs.

    References
    ----------
    The identity stays among the draws (the +1): B. Phipson and G. K. Smyth, "Permutation P-values should never be
    zero", Statistical Applications in Genetics and Molecular Biology 9 (2010), article 39, equation 2.

    Examples
    --------
    >>> test = permutation_test(np.eye(20), np.arange(20), n_permutations=999)
    >>> test.observed, test.p_value
    (1.0, 0.001)
    """
    if n_permutations < 1:
        raise InputError(f"n_permutations must be 1 or more, got {n_permutations}")
    matrix = check_similarity(similarity)
    per_query = count_ranks(matrix, targets).values(metric)  # checks targets and metric before the expensive part
    images, of_query = np.unique(np.asarray(targets), return_inverse=True)
    by_image = np.zeros((len(images), len(images)))
    np.add.at(by_image, of_query, rank_counts_of(matrix, images).values(metric))

    total = float(per_query.sum())
    null = _permuted_sums(by_image, n_permutations, np.random.default_rng(seed))
    rounding = 1e-9 * max(1.0, abs(total))  # sums in another order differ in the last digits
    as_good = np.count_nonzero(null >= total - rounding)
    return PermutationTest(
        metric=metric,
        observed=total / len(per_query),
        p_value=float(1 + as_good) / (1 + n_permutations),
        null_mean=float(null.mean()) / len(per_query),
        null_std=float(null.std()) / len(per_query),
        n_permutations=n_permutations,
    )


def rank_counts_of(similarity: NDArray[np.generic], columns: NDArray[np.integer]) -> RankCounts:
    """Where each of the given gallery columns stands in every row.

    Parameters
    ----------
    similarity : array of shape (n_queries, n_gallery)
    columns : int array of shape (n_columns,)

    Returns
    -------
    RankCounts
        With arrays of shape (n_queries, n_columns).
    """
    n_queries, n_gallery = similarity.shape
    below = np.empty((n_queries, len(columns)), dtype=np.int64)
    at_most = np.empty_like(below)
    for row, scores in enumerate(similarity):
        ordered, wanted = np.sort(scores), scores[columns]
        below[row] = np.searchsorted(ordered, wanted, side="left")
        at_most[row] = np.searchsorted(ordered, wanted, side="right")
    return RankCounts(n_gallery - at_most, at_most - below - 1, n_gallery)


def _permuted_sums(values: FloatArray, n_permutations: int, rng: np.random.Generator) -> FloatArray:
    """Sum of values[i, permutation(i)] over i, for random permutations: (n_permutations,)."""
    n = len(values)
    sums = np.empty(n_permutations)
    step = max(1, _BLOCK // n)
    for start in range(0, n_permutations, step):
        block = sums[start : start + step]
        order = rng.permuted(np.tile(np.arange(n), (len(block), 1)), axis=1)
        block[:] = values[np.arange(n), order].sum(axis=1)
    return sums
