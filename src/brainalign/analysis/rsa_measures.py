"""How alike two sets of dissimilarities are, pair weights included, and how well a group can be predicted at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainalign.errors import InputError, unknown_name

Matrix = NDArray[np.float64]
MEASURES = ("spearman", "kendall", "pearson", "cosine")


def compare(
    models: ArrayLike, subjects: ArrayLike, measure: str = "spearman", weights: ArrayLike | None = None
) -> Matrix:
    """Similarity of every model's dissimilarities with every subject's.

    `spearman`: Pearson's r of mid-ranks. `kendall`: tau-a, concordant minus discordant pairs of pairs over all of them;
    ties count for neither, so a model that ties much is not favoured (Nili et al. 2014). `pearson`. `cosine`: without
    taking the mean out, for ratio-scaled distances such as crossnobis.

    Parameters
    ----------
    models : array of shape (n_models, n_pairs)
    subjects : array of shape (n_subjects, n_pairs)
    measure : {'spearman', 'kendall', 'pearson', 'cosine'}
    weights : int array of shape (n_pairs,), optional
        How often each pair counts, as in a resample; 0 leaves it out. The result is that of repeated pairs.

    Returns
    -------
    array of shape (n_models, n_subjects)
        0 where one side has no spread.

    Raises
    ------
    InputError
        For an unknown measure, or shapes that do not fit.

    Examples
    --------
    >>> a, b = [[1, 2, 3, 4]], [[1, 3, 2, 4]]
    >>> [round(float(compare(a, b, m)[0, 0]), 4) for m in ("spearman", "kendall", "pearson")]
    [0.8, 0.6667, 0.8]
    """
    first, second, counts = _checked(models, subjects, weights)
    if measure not in MEASURES:
        raise unknown_name("measure", measure, MEASURES)
    if measure == "kendall":
        return _kendall(first, second, counts)
    return standardise(first, measure, counts) @ standardise(second, measure, counts).T


def standardise(values: ArrayLike | Ranked, measure: str, weights: ArrayLike | None = None) -> Matrix:
    """Rows of unit length (ranked and centred first, as the measure asks) whose inner products are the measure.

    With weights the square root of each pair's weight is in its column. Not for `kendall`, which is no inner product of
    vectors of that length.

    Parameters
    ----------
    values : array of shape (n_rows, n_pairs), or Ranked
        `Ranked` where the same rows are met again with other weights.

    Returns
    -------
    array of shape (n_rows, n_pairs)
    """
    known, given = (values, values.values) if isinstance(values, Ranked) else (None, values)
    rows, _, counts = _checked(given, given, weights)
    size = np.abs(rows).max(axis=1, keepdims=True)
    if measure == "spearman":
        rows = (known or Ranked(rows)).ranks(counts)
        size = np.full_like(size, counts.sum())
    if measure != "cosine":
        rows = rows - (rows @ counts / counts.sum())[:, None]
    scaled = rows * np.sqrt(counts)
    lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
    # Rounding leaves a little of a constant row: it counts as no spread.
    alive = lengths > 1e-12 * np.sqrt(counts.sum()) * size
    unit: Matrix = np.divide(scaled, lengths, out=np.zeros_like(scaled), where=alive)
    return unit


class Ranked:
    """Rows sorted once, to be ranked for many sets of weights.

    Parameters
    ----------
    values : array of shape (n_rows, n_pairs)
    """

    def __init__(self, values: ArrayLike) -> None:
        self.values = np.atleast_2d(np.asarray(values, dtype=np.float64))
        self._order = np.argsort(self.values, axis=1, kind="stable")
        ordered = np.take_along_axis(self.values, self._order, axis=1)
        self._fresh = np.concatenate([np.ones((len(ordered), 1), bool), ordered[:, 1:] != ordered[:, :-1]], axis=1)

    def ranks(self, weights: Matrix) -> Matrix:
        """Mid-ranks along rows of values that count `weights` times: ties share the mean of their ranks.

        Parameters
        ----------
        weights : array of shape (n_pairs,)

        Returns
        -------
        array of shape (n_rows, n_pairs)
            1, 2, ... for distinct values of weight 1.

        Examples
        --------
        >>> Ranked([[3.0, 1.0, 3.0]]).ranks(np.ones(3)).tolist()
        [[2.5, 1.0, 2.5]]
        """
        found = np.empty_like(self.values)
        for order, fresh, target in zip(self._order, self._fresh, found, strict=True):
            sizes = weights[order]
            if fresh.all():
                target[order] = np.cumsum(sizes) - (sizes - 1) / 2
            else:
                sizes = np.add.reduceat(sizes, np.flatnonzero(fresh))
                target[order] = (np.cumsum(sizes) - (sizes - 1) / 2)[np.cumsum(fresh) - 1]
        return found


def noise_ceiling(subjects: ArrayLike | Ranked, measure: str = "spearman", weights: ArrayLike | None = None) -> Matrix:
    """How well the best possible model could do: similarity of each subject with the others, and with all.

    Before the mean over subjects every subject's dissimilarities are made what the measure compares: ranks (spearman,
    kendall), zero mean and unit variance (pearson), unit length (cosine). Lower bound: each subject against the mean of
    all **other** subjects, which lacks some of the truth. Upper bound: against the mean of **all**, which knows the
    subject's own noise. The mean of ranks is the best mean for spearman; for tau-a it comes close to the best, so the
    upper bound is not strict there.

    Parameters
    ----------
    subjects : array of shape (n_subjects, n_pairs)

    Returns
    -------
    array of shape (2, n_subjects)
        Lower and upper bound of every subject; their means are the noise ceiling.

    Raises
    ------
    InputError
        If there is a single subject.

    References
    ----------
    H. Nili et al., "A toolbox for representational similarity analysis", PLoS Computational Biology 10 (2014),
    e1003553, section "Noise ceiling".
    """
    known = subjects if isinstance(subjects, Ranked) else Ranked(subjects)
    rows, _, counts = _checked(known.values, known.values, weights)
    if len(rows) < 2:
        raise InputError("a noise ceiling needs two subjects or more, got 1")
    ready = known.ranks(counts) if measure in ("spearman", "kendall") else _unit(rows, measure, counts)
    total = ready.sum(axis=0)
    if measure == "kendall":
        pairs = zip(rows, ready, strict=True)
        lower = [_kendall((total - own)[None], row[None], counts)[0, 0] for row, own in pairs]
        return np.array([lower, _kendall(total[None], rows, counts)[0]])
    own = standardise(known, measure, counts)
    others, everybody = (standardise(mean, measure, counts) for mean in (total - ready, total[None]))
    return np.array([np.sum(own * others, axis=1), own @ everybody[0]])


def _unit(rows: Matrix, measure: str, counts: Matrix) -> Matrix:
    """Rows of zero mean (pearson) and unit length, pairs not scaled by their weight."""
    if measure == "pearson":
        rows = rows - (rows @ counts / counts.sum())[:, None]
    lengths = np.sqrt(rows**2 @ counts)[:, None]
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)


def _kendall(models: Matrix, subjects: Matrix, counts: Matrix) -> Matrix:
    """Tau-a of every model with every subject, pairs repeated as they count."""
    times = np.rint(counts).astype(np.intp)
    if (times != 1).any():
        models, subjects = np.repeat(models, times, axis=1), np.repeat(subjects, times, axis=1)
    return np.array([[kendall_tau_a(model, subject) for subject in subjects] for model in models])


def kendall_tau_a(a: Matrix, b: Matrix) -> float:
    """Concordant minus discordant pairs over all n (n - 1) / 2, ties counting as neither; in O(n log n).

    Examples
    --------
    >>> kendall_tau_a(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 2.0]))
    0.6666666666666666
    """
    from scipy.stats import kendalltau

    all_pairs = len(a) * (len(a) - 1) / 2
    untied = [all_pairs - np.sum(sizes * (sizes - 1) / 2) for sizes in map(_tie_sizes, (a, b))]
    if min(untied) == 0:
        return 0.0
    # tau-b has the same numerator over the pairs that are not tied; it is a whole number, so rounding removes errors.
    tau_b = float(kendalltau(a, b, variant="b", method="asymptotic").statistic)
    return float(np.rint(tau_b * np.sqrt(untied[0]) * np.sqrt(untied[1])) / all_pairs)


def _tie_sizes(values: Matrix) -> Matrix:
    return np.unique(values, return_counts=True)[1].astype(np.float64)


def _checked(models: ArrayLike, subjects: ArrayLike, weights: ArrayLike | None) -> tuple[Matrix, Matrix, Matrix]:
    first, second = (np.atleast_2d(np.asarray(side, dtype=np.float64)) for side in (models, subjects))
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or first.shape[1] < 2:
        text = f"dissimilarities to compare have shapes {first.shape} and {second.shape}"
        raise InputError(text, hint="give (rows, pairs) with the same pairs, two or more")
    counts = np.ones(first.shape[1]) if weights is None else np.asarray(weights, dtype=np.float64)
    if counts.shape != (first.shape[1],) or (counts < 0).any() or counts.sum() < 2:
        raise InputError(f"weights must be {first.shape[1]} counts that sum to 2 or more, got shape {counts.shape}")
    return first, second, counts
