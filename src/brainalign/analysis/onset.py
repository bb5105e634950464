"""When a score first stands above chance: max-statistic correction over windows, bootstrap over images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import InputError

Values = NDArray[np.float64]
METRICS = ("top1", "top5", "two_way")


def outcomes(similarity: NDArray[np.float32], metric: str) -> Values:
    """What a query would score if an image was the one that was shown, for every query and image.

    Parameters
    ----------
    similarity : array of shape (n_queries, n_gallery)
    metric : {'top1', 'top5', 'two_way'}
        Ties count as in `brainalign.evaluation.metrics`: by expectation over how they are broken.

    Returns
    -------
    array of shape (n_queries, n_gallery)

    Examples
    --------
    >>> outcomes(np.array([[0.9, 0.1, 0.5]], np.float32), "two_way").tolist()
    [[1.0, 0.0, 0.5]]
    """
    from scipy.stats import rankdata

    above = rankdata(-similarity, method="min", axis=1) - 1.0  # images that are more similar
    tied = rankdata(-similarity, method="max", axis=1) - above
    if metric == "two_way":
        return np.asarray(1 - (above + (tied - 1) / 2) / (similarity.shape[1] - 1))
    k = {"top1": 1, "top5": 5}[metric]
    return np.clip((k - above) / tied, 0.0, 1.0)


@dataclass(frozen=True)
class Corrected:
    """Scores of windows against chance.

    Attributes
    ----------
    scores, p : arrays of shape (n_windows,)
        `p` is corrected for all windows.
    threshold : float
        Scores above it have p <= alpha.
    """

    scores: Values
    p: Values
    threshold: float


class AboveChance:
    """Max-statistic test: signals are dealt anew to the images that were shown, in all windows alike.

    If no window says anything, the largest score over windows is like the largest score after any deal;
    p = (1 + deals whose largest score is at least as high) / (1 + n_permutations). That holds the chance of any false
    alarm among all windows, whatever they share.

    Parameters
    ----------
    targets : int array of shape (n_queries,)
        Column of each query's true image; queries of one image stay together.
    n_permutations : int
    seed : int

    Raises
    ------
    InputError
        If fewer than five images were shown.

    References
    ----------
    T. E. Nichols and A. P. Holmes, Nonparametric permutation tests for functional neuroimaging, Human Brain Mapping 15
    (2002).
    """

    def __init__(self, targets: NDArray[np.intp], *, n_permutations: int = 2000, seed: int = 0) -> None:
        shown, place = np.unique(targets, return_inverse=True)
        if len(shown) < 5:
            raise InputError(f"{len(shown)} images are too few for a permutation test, 5 are needed")
        rng = np.random.default_rng(seed)
        self.targets, self._rows = targets, np.arange(len(targets))
        self._deals = np.stack([rng.permutation(shown)[place] for _ in range(n_permutations)])
        self._largest = np.full(n_permutations, -np.inf)
        self._scores: list[float] = []

    def add(self, values: Values) -> Values:
        """Take in a window.

        Parameters
        ----------
        values : array of shape (n_queries, n_gallery)
            From `outcomes`.

        Returns
        -------
        array of shape (n_queries,)
            What each query scored.
        """
        hits = values[self._rows, self.targets]
        self._scores.append(float(hits.mean()))
        np.maximum(self._largest, values[self._rows, self._deals].mean(1), out=self._largest)
        return np.asarray(hits, dtype=np.float64)

    def result(self, alpha: float = 0.05) -> Corrected:
        """Scores of all windows so far with their corrected p."""
        scores = np.array(self._scores)
        # Means of the same outcomes in another order may differ in the last digit.
        reached = (self._largest[None] >= scores[:, None] - 1e-12).sum(1)
        n = len(self._largest)
        allowed = int(np.floor(alpha * (1 + n) + 1e-9)) - 1  # deals that may reach it
        threshold = float(np.sort(self._largest)[::-1][allowed]) + 1e-12 if allowed >= 0 else float("inf")
        return Corrected(scores, (1 + reached) / (1 + n), threshold)


@dataclass(frozen=True)
class Latency:
    """A time with an interval over images.

    Attributes
    ----------
    index : int or None
        Of the window; None where no window qualifies.
    lo, hi : float or None
        95 % percentile interval over resamples that have one.
    found : float
        Share of resamples that have one.
    """

    index: int | None
    lo: float | None
    hi: float | None
    found: float


def onset(
    hits: Values,
    targets: NDArray[np.intp],
    places: Values,
    threshold: float,
    *,
    consecutive: int = 2,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Latency:
    """First window above the threshold, with the next ones; its interval from resampled images.

    Parameters
    ----------
    hits : array of shape (n_windows, n_queries)
        What every query scored, windows in the order in which they are searched.
    targets : int array of shape (n_queries,)
        Queries of one image are drawn together.
    places : array of shape (n_windows,)
        Time of each window, seconds.
    consecutive : int
        Windows in a row that must be above; fewer at the end of the search.
    """
    means = resampled_means(hits, targets, n_resamples, seed)
    index = _first(hits.mean(1)[None] > threshold, consecutive)[0]
    firsts = _first(means > threshold, consecutive)
    return _latency(None if index < 0 else int(index), places, firsts)


def peak(hits: Values, targets: NDArray[np.intp], places: Values, *, n_resamples: int = 2000, seed: int = 0) -> Latency:
    """Window with the highest score, with its interval from resampled images."""
    means = resampled_means(hits, targets, n_resamples, seed)
    return _latency(int(hits.mean(1).argmax()), places, means.argmax(1))


def _latency(index: int | None, places: Values, firsts: NDArray[np.intp]) -> Latency:
    there = firsts[firsts >= 0]
    found = len(there) / len(firsts)
    if index is None or not len(there):
        return Latency(index, None, None, found)
    lo, hi = np.percentile(places[there], [2.5, 97.5])
    return Latency(index, float(lo), float(hi), found)


def _first(above: NDArray[np.bool_], consecutive: int) -> NDArray[np.intp]:
    """First place of a run of so many in each row, -1 where there is none; a run may be cut by the last window."""
    held = above.copy()
    for shift in range(1, consecutive):
        held[:, : above.shape[1] - shift] &= above[:, shift:]
    return np.where(held.any(1), held.argmax(1), -1)


def resampled_means(hits: Values, targets: NDArray[np.intp], n_resamples: int, seed: int) -> Values:
    """Mean scores of images drawn with replacement, the same draw in all windows, (n_resamples, n_windows)."""
    shown, place = np.unique(targets, return_inverse=True)
    n = len(shown)
    counts = np.bincount(place, minlength=n)
    sums = np.stack([np.bincount(place, weights=row, minlength=n) for row in hits])
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=n_resamples)
    return np.asarray((drawn @ sums.T) / (drawn @ counts)[:, None])


@dataclass(frozen=True)
class Difference:
    """Two runs window by window.

    Attributes
    ----------
    difference, lo, hi, p : arrays of shape (n_windows,)
        First minus second; 95 % percentile interval over images; p corrected for all windows (sign flips).
    """

    difference: Values
    lo: Values
    hi: Values
    p: Values


def difference(
    first: Values, second: Values, targets: NDArray[np.intp], *, n_resamples: int = 2000, seed: int = 0
) -> Difference:
    """Compare two runs on the same queries in all windows at once.

    If the runs are alike, swapping them on an image (in all windows together) changes nothing: p compares the largest
    absolute difference over windows with that of every draw of signs.

    Parameters
    ----------
    first, second : arrays of shape (n_windows, n_queries)
    targets : int array of shape (n_queries,)
        Queries of one image are drawn and swapped together.
    """
    gap = first - second
    shown, place = np.unique(targets, return_inverse=True)
    sums = np.stack([np.bincount(place, weights=row, minlength=len(shown)) for row in gap])
    observed = gap.mean(1)
    signs = np.random.default_rng([seed, 1]).choice([-1.0, 1.0], size=(n_resamples, len(shown)))
    largest = np.abs(signs @ sums.T / gap.shape[1]).max(1)
    p = (1 + (largest[None] >= np.abs(observed)[:, None] - 1e-12).sum(1)) / (1 + n_resamples)
    lo, hi = np.percentile(resampled_means(gap, targets, n_resamples, seed), [2.5, 97.5], axis=0)
    return Difference(observed, lo, hi, p)
