"""Identification metrics on a similarity matrix: rows are brain signals (queries), columns are gallery images.

Every metric is a function of where the true image stands in its row. Ties are broken in expectation: among `tied`
images that score exactly as the true one, its place is taken as uniform, which is what a random tie-break gives on
average. A constant matrix therefore scores chance on every metric, whatever the order of the gallery.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainalign.errors import InputError, unknown_name

FloatArray = NDArray[np.float64]
_BLOCK = 2**18  # similarities compared at once: the two boolean temporaries stay in the processor's cache


@dataclass(frozen=True, eq=False)
class RankCounts:
    """How many gallery images stand before and beside the true one, and the metrics that follow from it.

    Attributes
    ----------
    above : array of int, any shape
        Images scored strictly higher than the true one.
    tied : array of int, same shape
        Other images scored exactly as high.
    n_gallery : int
    """

    above: NDArray[np.int64]
    tied: NDArray[np.int64]
    n_gallery: int

    def ranks(self) -> FloatArray:
        """0-based rank of the true image, its mean over tie-breaks."""
        return self.above + self.tied / 2

    def hits(self, k: int) -> FloatArray:
        """Probability that a random tie-break puts the true image among the first k: 0 or 1 where nothing ties."""
        return np.clip((_positive(k, "k") - self.above) / (self.tied + 1), 0.0, 1.0)

    def reciprocal_ranks(self) -> FloatArray:
        """Mean of 1 / (1-based rank) over tie-breaks."""
        harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, self.n_gallery + 1))])
        tied_mean: FloatArray = (harmonic[self.above + self.tied + 1] - harmonic[self.above]) / (self.tied + 1)
        return np.where(self.tied == 0, 1 / (self.above + 1), tied_mean)  # the difference of sums loses a last digit

    def beaten(self) -> FloatArray:
        """Fraction of the other gallery images scored below the true one, ties counted half.

        Raises
        ------
        InputError
            If the gallery has one image only.
        """
        if self.n_gallery < 2:
            raise InputError("two-way identification needs a gallery of 2 images or more, got 1")
        return 1 - self.ranks() / (self.n_gallery - 1)

    def values(self, metric: str) -> FloatArray:
        """Return the value of each query, whose mean is `metric`: 'top1', 'top5' (any k), 'mrr' or 'two_way'.

        Raises
        ------
        InputError
            If the metric is not one of these.
        """
        if top := re.fullmatch(r"top([1-9]\d*)", metric):
            return self.hits(int(top[1]))
        if metric == "mrr":
            return self.reciprocal_ranks()
        if metric == "two_way":
            return self.beaten()
        raise unknown_name("metric", metric, ["top1", "top5", "mrr", "two_way"])


def count_ranks(similarity: ArrayLike, targets: ArrayLike) -> RankCounts:
    """Compare each row with its true entry, once, for all metrics.

    Parameters
    ----------
    similarity : array of shape (n_queries, n_gallery)
        Higher is more similar. Compared in its own precision; infinities are ordered, NaN is refused.
    targets : int array of shape (n_queries,)
        Gallery column of each query's true image.

    Returns
    -------
    RankCounts
        With arrays of shape (n_queries,).

    Raises
    ------
    InputError
        For a wrong shape or type, an empty matrix, NaN, or a target outside the gallery.
    """
    matrix, columns = check_similarity(similarity), np.asarray(targets)
    n_queries, n_gallery = matrix.shape
    _check_targets(columns, n_queries, n_gallery)
    above = np.empty(n_queries, dtype=np.int64)
    at_least = np.empty(n_queries, dtype=np.int64)
    step = max(1, _BLOCK // n_gallery)
    for start in range(0, n_queries, step):
        rows = matrix[start : start + step]
        truth = rows[np.arange(len(rows)), columns[start : start + step]][:, None]
        above[start : start + step] = np.count_nonzero(rows > truth, axis=1)
        at_least[start : start + step] = np.count_nonzero(rows >= truth, axis=1)
    return RankCounts(above, at_least - above - 1, n_gallery)


def ranks(similarity: ArrayLike, targets: ArrayLike) -> FloatArray:
    """0-based rank of the true image in each row; ties give the mid-rank.

    Parameters
    ----------
    similarity : array of shape (n_queries, n_gallery)
    targets : int array of shape (n_queries,)
        Gallery column of each query's true image.

    Returns
    -------
    array of shape (n_queries,)
        0 is first; whole numbers, or halves under ties.

    Raises
    ------
    InputError
        See `count_ranks`.

    Examples
    --------
    >>> ranks([[0.9, 0.1, 0.5], [0.2, 0.2, 0.2]], [2, 0]).tolist()
    [1.0, 1.0]
    """
    return count_ranks(similarity, targets).ranks()


def top_k_hits(similarity: ArrayLike, targets: ArrayLike, k: int) -> FloatArray:
    """Whether the true image is among the k most similar, for each query.

    Parameters
    ----------
    similarity : array of shape (n_queries, n_gallery)
    targets : int array of shape (n_queries,)
        Gallery column of each query's true image.
    k : int
        1 or more. A k beyond the gallery's size always hits, as `chance_top_k` says.

    Returns
    -------
    array of shape (n_queries,)
        0 or 1; a fraction where a tie crosses place k (the probability of a hit under a random tie-break).

    Raises
    ------
    InputError
        See `count_ranks`; also for k below 1.

    Examples
    --------
    >>> top_k_hits([[0.9, 0.1, 0.5], [0.2, 0.2, 0.2]], [0, 0], k=1).round(3).tolist()
    [1.0, 0.333]
    """
    return count_ranks(similarity, targets).hits(k)


def top_k_accuracy(similarity: ArrayLike, targets: ArrayLike, k: int) -> float:
    """Mean of `top_k_hits`: the share of queries whose true image is among the k most similar.

    Examples
    --------
    >>> top_k_accuracy([[0.9, 0.1, 0.5], [0.3, 0.2, 0.1]], [0, 1], k=1)
    0.5
    """
    return float(top_k_hits(similarity, targets, k).mean())


def mean_reciprocal_rank(similarity: ArrayLike, targets: ArrayLike) -> float:
    """Mean over queries of 1 / (1-based rank), in expectation over tie-breaks.

    Examples
    --------
    >>> mean_reciprocal_rank([[0.9, 0.1, 0.5], [0.3, 0.2, 0.1]], [0, 1])
    0.75
    """
    return float(count_ranks(similarity, targets).reciprocal_ranks().mean())


def median_rank(similarity: ArrayLike, targets: ArrayLike) -> float:
    """Median over queries of the 1-based rank; ties give the mid-rank. Chance is (n_gallery + 1) / 2.

    Examples
    --------
    >>> median_rank([[0.9, 0.1, 0.5], [0.3, 0.2, 0.1], [0.3, 0.2, 0.1]], [0, 1, 2])
    2.0
    """
    return float(np.median(ranks(similarity, targets)) + 1)


def two_way_identification(similarity: ArrayLike, targets: ArrayLike) -> float:
    """Share of (query, distractor) pairs in which the true image scores above the distractor; ties count half.

    Each query's share is the area under its ROC curve (true image against distractors), so it follows from the rank
    alone: 1 - rank / (n_gallery - 1). Chance is 0.5 whatever the gallery's size.

    Raises
    ------
    InputError
        See `count_ranks`; also for a gallery of one image.

    Examples
    --------
    >>> two_way_identification([[0.9, 0.1, 0.5], [0.3, 0.2, 0.1]], [0, 1])
    0.75
    """
    return float(count_ranks(similarity, targets).beaten().mean())


def chance_top_k(n_gallery: int, k: int) -> float:
    """Top-k accuracy of a guess: min(1, k / n_gallery).

    Examples
    --------
    >>> chance_top_k(200, 5)
    0.025
    """
    return min(1.0, _positive(k, "k") / _positive(n_gallery, "n_gallery"))


def check_similarity(similarity: ArrayLike) -> NDArray[Any]:
    """Return the matrix as an array, or refuse it: (n_queries, n_gallery), real numbers, not empty, no NaN."""
    matrix = np.asarray(similarity)
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiub":
        got = f"shape {matrix.shape} of {matrix.dtype}"
        raise InputError(f"similarity must be a (n_queries, n_gallery) matrix of real numbers, got {got}")
    if matrix.size == 0:
        raise InputError(f"similarity is empty: shape {matrix.shape}", hint="give a query and a gallery image")
    if matrix.dtype.kind == "f" and np.isnan(matrix.min()):
        row, column = np.argwhere(np.isnan(matrix))[0]
        raise InputError(
            f"similarity holds NaN, first at query {row}, gallery column {column}",
            hint="a rank cannot be given to NaN; look for NaN in the signals or features it was computed from",
        )
    return matrix


def _check_targets(targets: NDArray[Any], n_queries: int, n_gallery: int) -> None:
    if targets.shape != (n_queries,) or targets.dtype.kind not in "iu":
        got = f"shape {targets.shape} of {targets.dtype}"
        raise InputError(f"targets must be {n_queries} gallery columns (integers), one a query, got {got}")
    if targets.min() < 0 or targets.max() >= n_gallery:
        row = int(np.flatnonzero((targets < 0) | (targets >= n_gallery))[0])
        raise InputError(f"target {targets[row]} of query {row} is outside the gallery's columns 0..{n_gallery - 1}")


def _positive(number: int, name: str) -> int:
    if number < 1 or int(number) != number:
        raise InputError(f"{name} must be a whole number of 1 or more, got {number}")
    return int(number)
