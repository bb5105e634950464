"""Numbers of a shared space: do the brain's and the images' embeddings lie alike, apart, and without hubs?

All functions take embeddings whose rows are pairs: row i of either is the same image. Rows are brought to unit norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainalign.errors import InputError
from brainalign.evaluation import Interval, bootstrap_interval

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class PermutedScore:
    """A score and what it is when pairs (or labels) are dealt anew.

    Attributes
    ----------
    score : float
    null_mean, null_std : float
    p : float
        One-sided (greater), (1 + draws at least as high) / (1 + n_permutations).
    n_permutations : int
    """

    score: float
    null_mean: float
    null_std: float
    p: float
    n_permutations: int

    @classmethod
    def of(cls, score: float, null: FloatArray) -> PermutedScore:
        """Compare a score with draws under the null."""
        as_high = int(np.count_nonzero(null >= score - 1e-12))
        return cls(score, float(null.mean()), float(null.std()), (1 + as_high) / (1 + len(null)), len(null))


def unit_rows(embeddings: ArrayLike) -> FloatArray:
    """Rows divided by their norm.

    Raises
    ------
    InputError
        For another shape than (n, dim), fewer than three rows, NaN, or a row of zeros.
    """
    rows = np.asarray(embeddings, dtype=np.float64)
    if rows.ndim != 2 or len(rows) < 3 or not np.isfinite(rows).all():
        raise InputError(f"embeddings must be (n, dim), finite, three rows or more, got shape {rows.shape}")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if not norms.all():
        raise InputError(f"embedding {int(np.argmin(norms))} is zero: it has no direction")
    found: FloatArray = rows / norms
    return found


def alignment_score(brain: ArrayLike, image: ArrayLike) -> Interval:
    """Mean cosine of true pairs minus mean cosine of all other pairs.

    Parameters
    ----------
    brain, image : arrays of shape (n, dim)

    Returns
    -------
    Interval
        Bootstrap over images of c_ii - (mean over j != i of (c_ij + c_ji) / 2), whose mean is the score.

    Examples
    --------
    >>> alignment_score(np.eye(4), np.eye(4)).estimate
    1.0
    """
    a, b = _pairs(brain, image)
    cosines, n = a @ b.T, len(a)
    true = np.diag(cosines)
    others = (cosines.sum(axis=0) + cosines.sum(axis=1) - 2 * true) / (2 * (n - 1))
    return bootstrap_interval(true - others, bounds=(-2.0, 2.0))


def mutual_neighbours(
    brain: ArrayLike, image: ArrayLike, k: int = 10, *, n_permutations: int = 1000, seed: int = 0
) -> PermutedScore:
    """Mean share of an image's k nearest others by brain that are among its k nearest others by image.

    The mutual nearest-neighbour metric of M. Huh, B. Cheung, T. Wang and P. Isola, "The Platonic Representation
    Hypothesis" (ICML 2024). Neighbours are sought within each modality, so a gap between them does not matter.
    The null deals the images anew to the brain's embeddings; its mean is k / (n - 1).

    Parameters
    ----------
    brain, image : arrays of shape (n, dim)
    k : int
        1 to n - 2.
    n_permutations : int
    seed : int

    Raises
    ------
    InputError
        For a k out of range.

    Examples
    --------
    >>> points = np.random.default_rng(0).normal(size=(30, 4))
    >>> mutual_neighbours(points, points, 5, n_permutations=99).score
    1.0
    """
    a, b = _pairs(brain, image)
    n = len(a)
    if not 1 <= k <= n - 2:
        raise InputError(f"k is {k}, expected 1 to {n - 2} for {n} images", where="--k")
    near_a, near_b = _neighbours(a, k), np.zeros((n, n), dtype=bool)
    np.put_along_axis(near_b, _neighbours(b, k), True, axis=1)

    def overlap(order: NDArray[np.intp]) -> float:
        return float(near_b[order[:, None], order[near_a]].mean())

    rng = np.random.default_rng(seed)
    null = np.array([overlap(rng.permutation(n)) for _ in range(n_permutations)])
    return PermutedScore.of(overlap(np.arange(n)), null)


def modality_gap(brain: ArrayLike, image: ArrayLike) -> float:
    """Distance between the centroids of the two modalities on the unit sphere, 0 to 2.

    W. Liang, Y. Zhang, Y. Kwon, S. Yeung and J. Zou, "Mind the Gap" (NeurIPS 2022), section 4.1.

    Examples
    --------
    >>> round(modality_gap(np.eye(4), -np.eye(4)), 6)
    1.0
    """
    a, b = _pairs(brain, image)
    return float(np.linalg.norm(a.mean(axis=0) - b.mean(axis=0)))


def k_occurrence(queries: ArrayLike, gallery: ArrayLike, k: int = 10) -> NDArray[np.intp]:
    """How often each gallery row is among the k nearest of a query: (n_gallery,), of mean k n_queries / n_gallery.

    Raises
    ------
    InputError
        If `k` is not between 1 and the size of the gallery.
    """
    a, b = unit_rows(queries), unit_rows(gallery)
    if not 1 <= k <= len(b):
        raise InputError(f"k is {k}, expected 1 to {len(b)}", where="--k")
    near = np.argsort(-(a @ b.T), axis=1, kind="stable")[:, :k]
    return np.bincount(near.ravel(), minlength=len(b)).astype(np.intp)


def hubness(brain: ArrayLike, image: ArrayLike, k: int = 10) -> float:
    """Skewness of the k-occurrence of images among the neighbours of brain signals: above 0, a few images are hubs.

    M. Radovanovic, A. Nanopoulos and M. Ivanovic, "Hubs in Space", Journal of Machine Learning Research 11 (2010),
    section 2. 0 where all images occur equally often.

    Examples
    --------
    >>> hubness(np.eye(5), np.eye(5), k=1)
    0.0
    """
    _pairs(brain, image)
    counts = k_occurrence(brain, image, k)
    away = counts - counts.mean()
    spread = float(np.mean(away**2))
    return float(np.mean(away**3) / spread**1.5) if spread > 0 else 0.0


def class_cohesion(
    embeddings: ArrayLike, labels: NDArray[Any], *, n_permutations: int = 1000, seed: int = 0
) -> PermutedScore:
    """Mean cosine of different images of one kind minus mean cosine of images of different kinds.

    Parameters
    ----------
    embeddings : array of shape (n, dim)
    labels : array of shape (n,)
        At least two kinds, one of them twice.
    n_permutations : int
        Labels are dealt anew.

    Raises
    ------
    InputError
        If labels do not fit, or no two images are of one kind, or all are.

    Examples
    --------
    >>> class_cohesion([[1, 0], [1, 0], [0, 1], [0, 1]], np.array([0, 0, 1, 1]), n_permutations=9).score
    1.0
    """
    rows = unit_rows(embeddings)
    codes = np.unique(np.asarray(labels), return_inverse=True)[1]
    n = len(rows)
    sizes = np.bincount(codes)
    if codes.shape != (n,) or len(sizes) < 2 or sizes.max() < 2:
        raise InputError(f"cohesion needs {n} labels of two kinds or more, one of them twice")
    n_same = int(np.sum(sizes * (sizes - 1)))
    n_other = n * (n - 1) - n_same
    total = float(np.sum(rows.sum(axis=0) ** 2)) - n

    def difference(order: NDArray[np.intp]) -> float:
        sums = np.zeros((len(sizes), rows.shape[1]))  # the cosines within a kind sum to the square of its sum of rows
        np.add.at(sums, codes[order], rows)
        same = float(np.sum(sums**2)) - n
        return same / n_same - (total - same) / n_other

    rng = np.random.default_rng(seed)
    null = np.array([difference(rng.permutation(n)) for _ in range(n_permutations)])
    return PermutedScore.of(difference(np.arange(n)), null)


def _pairs(brain: ArrayLike, image: ArrayLike) -> tuple[FloatArray, FloatArray]:
    a, b = unit_rows(brain), unit_rows(image)
    if a.shape != b.shape:
        raise InputError(f"pairs need embeddings of one shape, got {a.shape} and {b.shape}")
    return a, b


def _neighbours(rows: FloatArray, k: int) -> NDArray[np.intp]:
    """The k nearest other rows of each row, (n, k)."""
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, -np.inf)
    return np.argsort(-cosines, axis=1, kind="stable")[:, :k]
