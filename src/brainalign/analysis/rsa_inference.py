"""Intervals of similarities of dissimilarities over subjects, stimuli and both, and a test of their labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainalign.analysis.rsa_measures import Matrix, Ranked, compare, noise_ceiling, standardise
from brainalign.errors import InputError
from brainalign.evaluation.resampling import t_quantile
from brainalign.recordings.dissimilarities import upper_triangle

LEVEL = 0.95
DISTINCT_MIN = 4  # stimuli in a resample: fewer leave next to no pair


@dataclass(frozen=True)
class Estimate:
    """A mean over subjects with intervals of Student's t around it.

    Attributes
    ----------
    mean : float
    over_subjects, over_stimuli, over_both : (float, float) or None
        95 % intervals for another draw of subjects, of stimuli, and of both. None where one subject was measured
        (subjects, both).
    """

    mean: float
    over_subjects: tuple[float, float] | None
    over_stimuli: tuple[float, float]
    over_both: tuple[float, float] | None

    @property
    def interval(self) -> tuple[float, float]:
        """The widest that was measured: over both, else over stimuli."""
        return self.over_both or self.over_stimuli

    def to_dict(self) -> dict[str, float | list[float] | None]:
        """`mean`, `ci95_subjects`, `ci95_stimuli`, `ci95_both`."""
        named = {"subjects": self.over_subjects, "stimuli": self.over_stimuli, "both": self.over_both}
        return {"mean": self.mean, **{f"ci95_{k}": None if v is None else list(v) for k, v in named.items()}}


@dataclass(frozen=True)
class Assessed:
    """How alike every model is to a group of subjects, and the resamples behind its intervals.

    Attributes
    ----------
    scores : array of shape (n_models, n_subjects)
    draws : array of shape (n_resamples, n_models, n_subjects)
        The same on resampled stimuli.
    shares : array of shape (n_resamples, n_subjects)
        How often each subject was drawn, as a share of all draws.
    n_stimuli : int
    ceiling : array of shape (2, n_subjects), or None
        Lower and upper noise ceiling of every subject; None of a single one.
    ceiling_draws : array of shape (n_resamples, 2, n_subjects), or None
    """

    scores: Matrix
    draws: Matrix
    shares: Matrix
    n_stimuli: int
    ceiling: Matrix | None = None
    ceiling_draws: Matrix | None = None

    def estimate(self, model: int) -> Estimate:
        """Mean similarity of a model with its intervals."""
        return self._estimate(self.scores[model], self.draws[:, model])

    def difference(self, first: int, second: int) -> Estimate:
        """One model minus another, on the same subjects and resamples."""
        return self._estimate(self.scores[first] - self.scores[second], self.draws[:, first] - self.draws[:, second])

    def bounds(self) -> tuple[Estimate, Estimate] | None:
        """Lower and upper noise ceiling; None where it was not measured."""
        if self.ceiling is None or self.ceiling_draws is None:
            return None
        lower, upper = (self._estimate(self.ceiling[i], self.ceiling_draws[:, i]) for i in (0, 1))
        return lower, upper

    def wins(self, models: Sequence[int]) -> Matrix:
        """Share of resamples (of subjects and stimuli) in which each of some models is the best, (len(models),)."""
        drawn = np.einsum("bms,bs->bm", self.draws[:, list(models)], self.shares)
        return np.bincount(drawn.argmax(axis=1), minlength=len(models)) / len(drawn)

    def _estimate(self, scores: Matrix, draws: Matrix) -> Estimate:
        mean, n_subjects = float(scores.mean()), draws.shape[1]
        stimuli = draws.mean(axis=1).var(ddof=1)
        of_stimuli = stimuli * self.n_stimuli / (self.n_stimuli - 1)
        over_stimuli = _around(mean, of_stimuli, self.n_stimuli - 1)
        if n_subjects == 1:
            return Estimate(mean, None, over_stimuli, None)
        subjects = scores.var() / n_subjects
        both = np.einsum("bs,bs->b", draws, self.shares).var(ddof=1)
        variance = dual_variance(both, subjects, stimuli, n_subjects, self.n_stimuli)
        return Estimate(
            mean,
            _around(mean, subjects * n_subjects / (n_subjects - 1), n_subjects - 1),
            over_stimuli,
            _around(mean, variance, min(n_subjects, self.n_stimuli) - 1),
        )


def dual_variance(both: float, subjects: float, stimuli: float, n_subjects: int, n_stimuli: int) -> float:
    """Variance of a mean over both another draw of subjects and of stimuli, from three bootstrap variances.

    A bootstrap of both counts the noise of single entries more than once, so its variance is too large. Less what
    it has beyond its two parts it is, with s = n_subjects / (n_subjects - 1) and c likewise of stimuli,
    s v_subjects + c v_stimuli - s c (v_both - v_subjects - v_stimuli), kept between the larger of the two parts and
    v_both.

    References
    ----------
    H. H. Schütt et al., "Statistical inference on representational geometries", eLife 12 (2023), e82566, "Estimating
    the variance of model-performance estimates".

    Examples
    --------
    >>> round(dual_variance(5.0, 1.0, 2.0, 10**9, 10**9), 6)
    2.0
    """
    s, c = n_subjects / (n_subjects - 1), n_stimuli / (n_stimuli - 1)
    corrected = s * subjects + c * stimuli - s * c * (both - subjects - stimuli)
    return float(min(max(corrected, s * subjects, c * stimuli), max(both, s * subjects, c * stimuli)))


def assess(
    models: Matrix,
    groups: Sequence[Matrix],
    n_stimuli: int,
    *,
    measure: str = "spearman",
    n_resamples: int = 1000,
    seed: int = 0,
    ceilings: bool = True,
    tick: Callable[[int, int], None] | None = None,
) -> list[Assessed]:
    """Compare models with groups of subjects (regions, windows of time) that saw the same stimuli.

    Stimuli are drawn with replacement. A pair of stimuli counts as often as both were drawn; the pairs of a stimulus
    with its own double, whose dissimilarity is 0 by construction, are left out. All models and groups are scored on the
    same resamples.

    Parameters
    ----------
    models : array of shape (n_models, n_pairs)
    groups : sequence of arrays of shape (n_subjects, n_pairs)
    n_stimuli : int
    ceilings : bool
        Whether to measure noise ceilings, and their intervals.

    Returns
    -------
    list of Assessed
        One a group.

    Raises
    ------
    InputError
        If pairs and stimuli do not fit, or fewer than two resamples are asked for.
    """
    if n_resamples < 2:
        raise InputError(f"{n_resamples} resamples are too few", where="--n-resamples", hint="2 or more; 1000 is usual")
    if models.shape[-1] != n_stimuli * (n_stimuli - 1) // 2:
        raise InputError(f"{n_stimuli} stimuli do not have {models.shape[-1]} pairs")
    rng = np.random.default_rng(seed)
    sides = [Ranked(models), *map(Ranked, groups)]
    bounded = [ceilings and len(group) > 1 for group in groups]
    draws = [np.empty((n_resamples, len(models), len(group))) for group in groups]
    bounds = [np.empty((n_resamples, 2, len(group))) for group in groups]
    for number in range(n_resamples):
        weights = pair_counts(draw_stimuli(n_stimuli, rng))
        for place, scores in enumerate(_scores(sides, measure, weights)):
            draws[place][number] = scores
            if bounded[place]:
                bounds[place][number] = noise_ceiling(sides[1 + place], measure, weights)
        if tick is not None:
            tick(number + 1, n_resamples)
    whole = np.ones(models.shape[1])
    return [
        Assessed(
            scores,
            draws[place],
            _subject_shares(len(groups[place]), n_resamples, seed),
            n_stimuli,
            noise_ceiling(sides[1 + place], measure) if bounded[place] else None,
            bounds[place] if bounded[place] else None,
        )
        for place, scores in enumerate(_scores(sides, measure, whole))
    ]


def draw_stimuli(n_stimuli: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """How often each stimulus is drawn, (n_stimuli,); at least four different ones are."""
    while True:
        counts = np.bincount(rng.integers(0, n_stimuli, n_stimuli), minlength=n_stimuli)
        if np.count_nonzero(counts) >= min(DISTINCT_MIN, n_stimuli):
            return counts


def pair_counts(counts: NDArray[np.int64]) -> Matrix:
    """How often each pair of different stimuli is in a resample, (n_pairs,): the product of both counts.

    Examples
    --------
    >>> pair_counts(np.array([2, 1, 0])).tolist()
    [2.0, 0.0, 0.0]
    """
    return upper_triangle(np.outer(counts, counts).astype(np.float64))


@dataclass(frozen=True)
class LabelTest:
    """Test of the labels of stimuli.

    Attributes
    ----------
    p : array of shape (n_models,)
        One-sided: how often shuffled labels give at least the model's similarity.
    p_corrected : array of shape (n_models,)
        Against the best of all models in each shuffle: holds for all of them together.
    """

    p: Matrix
    p_corrected: Matrix


def label_test(
    models: Matrix,
    subjects: Matrix,
    n_stimuli: int,
    *,
    measure: str = "spearman",
    n_permutations: int = 2000,
    seed: int = 0,
) -> LabelTest:
    """Shuffle the labels of stimuli, rows and columns together, the same way for all subjects and models.

    For `kendall` the statistic is the mean of Spearman's rho: a permutation test holds its level with any statistic,
    and this one takes a matrix product where tau-a takes minutes.

    Parameters
    ----------
    models : array of shape (n_models, n_pairs)
    subjects : array of shape (n_subjects, n_pairs)

    Returns
    -------
    LabelTest
    """
    inner = "spearman" if measure == "kendall" else measure
    ready = standardise(models, inner)
    square = np.zeros((n_stimuli, n_stimuli))
    rows, columns = np.triu_indices(n_stimuli, 1)
    square[rows, columns] = square[columns, rows] = standardise(subjects, inner).mean(axis=0)
    observed = ready @ square[rows, columns]
    rng, as_high, above_all = np.random.default_rng(seed), np.zeros(len(models)), np.zeros(len(models))
    slack = 1e-12  # sums in another order differ in the last digits
    for _ in range(n_permutations):
        order = rng.permutation(n_stimuli)
        found = ready @ square[order[rows], order[columns]]
        as_high += found >= observed - slack
        above_all += found.max() >= observed - slack
    return LabelTest((1 + as_high) / (1 + n_permutations), (1 + above_all) / (1 + n_permutations))


def _scores(sides: Sequence[Ranked], measure: str, weights: Matrix) -> list[Matrix]:
    """(n_models, n_subjects) of every group; models are ranked once."""
    models, groups = sides[0], sides[1:]
    if measure == "kendall":
        return [compare(models.values, group.values, measure, weights) for group in groups]
    ready = standardise(models, measure, weights)
    return [ready @ standardise(group, measure, weights).T for group in groups]


def _subject_shares(n_subjects: int, n_resamples: int, seed: int) -> Matrix:
    """Draws of subjects apart from those of stimuli, (n_resamples, n_subjects)."""
    rng = np.random.default_rng([seed, 1])
    drawn = rng.multinomial(n_subjects, np.full(n_subjects, 1 / n_subjects), size=n_resamples)
    shares: Matrix = drawn / n_subjects
    return shares


def _around(mean: float, variance: float, df: int) -> tuple[float, float]:
    reach = t_quantile(LEVEL, df) * float(np.sqrt(max(variance, 0.0)))
    return mean - reach, mean + reach
