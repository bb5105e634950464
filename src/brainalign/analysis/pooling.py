"""One mean and interval from many runs: over images, and over subjects where there are several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import InputError
from brainalign.evaluation import bootstrap_interval, proportion_interval

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Queries:
    """Values of one run, one a test query.

    Attributes
    ----------
    subject : str
    ids : tuple of str
        The image of each query.
    values : array of shape (n_queries,)
    """

    subject: str
    ids: tuple[str, ...]
    values: FloatArray


@dataclass(frozen=True)
class Pooled:
    """Mean of several runs.

    Attributes
    ----------
    mean : float
        Runs of a subject are averaged first, then subjects.
    lo, hi : float or None
        95 % interval; None where nothing says how the mean would vary.
    over : str
        What the interval takes as a sample: 'images', 'subjects and images', 'subjects', or '' without one.
    n_runs, n_subjects : int
    """

    mean: float
    lo: float | None
    hi: float | None
    over: str
    n_runs: int
    n_subjects: int

    def to_dict(self) -> dict[str, Any]:
        """The fields, as one row of a table."""
        return {
            "mean": self.mean,
            "ci95_lo": self.lo,
            "ci95_hi": self.hi,
            "interval_over": self.over,
            "n_runs": self.n_runs,
            "n_subjects": self.n_subjects,
        }


def pool_queries(runs: Sequence[Queries], *, hits: bool) -> Pooled:
    """Mean and interval of per-query values of several runs.

    Parameters
    ----------
    runs : sequence of Queries
        At least one.
    hits : bool
        Whether values are hits (`proportion_interval`) or other values between 0 and 1 (`bootstrap_interval`).

    Returns
    -------
    Pooled
        Where all runs were tested on the same images: over subjects and images, crossed (one subject: over images). One
        subject with different images in its splits: over images, all queries of an image together. Several subjects
        with different images: over subjects.

    Raises
    ------
    InputError
        For no run.

    Examples
    --------
    >>> shown, hits = ("a", "b", "c", "d"), np.array([[1, 0, 1, 1], [1, 0, 0, 1.0]])
    >>> found = pool_queries([Queries("1", shown, hits[0]), Queries("2", shown, hits[1])], hits=True)
    >>> found.mean, found.over
    (0.625, 'subjects and images')
    """
    if not runs:
        raise InputError("there is no run to average")
    subjects = [run.subject for run in runs]
    n_subjects = len(set(subjects))
    values: FloatArray
    if (matrix := _same_images(runs)) is not None:
        values, groups, over = matrix, subjects, "subjects and images" if n_subjects > 1 else "images"
        found = (
            proportion_interval(values, groups=groups)
            if hits
            else bootstrap_interval(values, groups=groups, bounds=(0, 1))
        )
    elif n_subjects == 1:
        values, ids, over = np.concatenate([run.values for run in runs]), [n for run in runs for n in run.ids], "images"
        found = (
            proportion_interval(values, groups=ids) if hits else bootstrap_interval(values, groups=ids, bounds=(0, 1))
        )
    else:
        means = _subject_means(subjects, [float(run.values.mean()) for run in runs])
        found, over = bootstrap_interval(means, bounds=(0, 1)), "subjects"
    return Pooled(found.estimate, found.lo, found.hi, over, len(runs), n_subjects)


def pool_scores(subjects: Sequence[str], scores: Sequence[float]) -> Pooled:
    """Mean of one score a run, with Student's interval over subjects where there are three or more.

    Parameters
    ----------
    subjects : sequence of str
        Of each run.
    scores : sequence of float
        A loss, a mean reciprocal rank, ...

    Examples
    --------
    >>> pool_scores(["1", "1", "2"], [0.2, 0.4, 0.5]).mean
    0.4
    """
    from scipy.special import stdtrit

    means = _subject_means(subjects, scores)
    n, mean = len(means), float(means.mean())
    if n < 3:
        return Pooled(mean, None, None, "", len(scores), n)
    reach = float(stdtrit(n - 1, 0.975) * means.std(ddof=1) / np.sqrt(n))
    return Pooled(mean, mean - reach, mean + reach, "subjects", len(scores), n)


def _subject_means(subjects: Sequence[str], scores: Sequence[float]) -> FloatArray:
    by_subject: dict[str, list[float]] = {}
    for subject, score in zip(subjects, scores, strict=True):
        by_subject.setdefault(subject, []).append(score)
    return np.array([np.mean(values) for values in by_subject.values()])


def _same_images(runs: Sequence[Queries]) -> FloatArray | None:
    """Values as (n_runs, n_images) in one order of images; None where runs differ in them or show one twice."""
    wanted = sorted(runs[0].ids)
    if len(set(wanted)) < len(wanted) or len(wanted) < 2 or any(sorted(run.ids) != wanted for run in runs):
        return None
    return np.stack([run.values[np.argsort(np.array(run.ids, dtype=object), kind="stable")] for run in runs])
