"""Is a score over depth an inverted U? A parabola, and how sure its bend and its peak are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainalign.errors import InputError

FloatArray = NDArray[np.float64]
DEPTHS_MIN = 4
_BLOCK = 2**22  # weights held at once


@dataclass(frozen=True)
class Run:
    """Hits of one condition at every depth.

    Attributes
    ----------
    subject : str
    ids : sequence of n_queries str
        Images of the queries.
    hits : array of shape (n_queries, n_depths)
    """

    subject: str
    ids: Sequence[str]
    hits: FloatArray


@dataclass(frozen=True)
class Parabola:
    """Least-squares parabola of a score over relative depth, score = intercept + slope d + curvature d^2.

    Attributes
    ----------
    curvature, slope, intercept : float
    curvature_ci95 : (float, float)
        Bootstrap percentiles; below 0 the curve bends downwards.
    vertex : float or None
        Relative depth of the peak, -slope / (2 curvature); None where the parabola bends upwards.
    vertex_ci95 : (float, float) or None
        None where more than 2.5 % of the resamples bend upwards: the peak is then not determined.
    r_squared : float
        Share of the variance over depths that the parabola describes.
    n_depths, n_resamples : int
    resampled : str
        'images', or 'subjects and images'.
    """

    curvature: float
    slope: float
    intercept: float
    curvature_ci95: tuple[float, float]
    vertex: float | None
    vertex_ci95: tuple[float, float] | None
    r_squared: float
    n_depths: int
    n_resamples: int
    resampled: str

    @property
    def is_inverted_u(self) -> bool:
        """Whether the curve surely bends downwards and its peak surely lies between first and last block."""
        ends = self.vertex_ci95
        return self.curvature_ci95[1] < 0 and ends is not None and ends[0] > 0 and ends[1] < 1

    def at(self, depth: ArrayLike) -> FloatArray:
        """The parabola's score at some depths."""
        d = np.asarray(depth, dtype=np.float64)
        found: FloatArray = self.intercept + self.slope * d + self.curvature * d**2
        return found

    def to_dict(self) -> dict[str, Any]:
        """The fields and `is_inverted_u`."""
        return {**asdict(self), "is_inverted_u": self.is_inverted_u}


def fit_parabola(depths: ArrayLike, scores: ArrayLike) -> FloatArray:
    """Least-squares coefficients.

    Parameters
    ----------
    depths : array of shape (n_depths,)
        At least three different ones.
    scores : array of shape (n_depths,) or (n_curves, n_depths)

    Returns
    -------
    array of shape (3,) or (n_curves, 3)
        Curvature, slope, intercept.

    Raises
    ------
    InputError
        For fewer than three different depths, or shapes that do not fit.

    Examples
    --------
    >>> fit_parabola([0, 0.5, 1], [0.1, 0.5, 0.1]).round(6).tolist()
    [-1.6, 1.6, 0.1]
    """
    d, y = np.asarray(depths, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if d.ndim != 1 or len(np.unique(d)) < 3 or y.shape[-1:] != d.shape:
        raise InputError(f"a parabola needs scores at three depths or more, got shapes {d.shape} and {y.shape}")
    found: FloatArray = y @ np.linalg.pinv(np.vander(d, 3)).T
    return found


def inverted_u(
    depths: ArrayLike, runs: Sequence[Run], *, n_resamples: int = 2000, seed: int = 0, level: float = 0.95
) -> Parabola:
    """Fit a parabola to the mean score over depth and bootstrap its bend and its peak.

    Images are drawn with replacement, each with all its queries at all depths and in all runs (layers compete on the
    same images); where there are several subjects, these are drawn as well. Depths are fixed.

    Parameters
    ----------
    depths : array of shape (n_depths,)
        Relative depths of the blocks, four different ones or more: three points would be fitted exactly.
    runs : sequence of Run
    n_resamples : int
    seed : int
    level : float

    Returns
    -------
    Parabola

    Raises
    ------
    InputError
        For fewer than four depths, or hits that do not fit them.

    Notes
    -----
    A parabola that peaks inside is what an inverted U looks like, not proof of one: a curve that rises and then stays
    flat can be fitted so too (U. Simonsohn, "Two lines", Advances in Methods and Practices in Psychological Science 1
    (2018), 538-555). `r_squared` says how well the parabola describes the curve.
    """
    d = np.asarray(depths, dtype=np.float64)
    if len(np.unique(d)) < DEPTHS_MIN:
        raise InputError(f"an inverted U needs {DEPTHS_MIN} blocks or more, got {len(np.unique(d))}")
    for run in runs:
        if run.hits.shape != (len(run.ids), len(d)):
            raise InputError(f"hits have shape {run.hits.shape}, expected {(len(run.ids), len(d))}")
    subjects = sorted({run.subject for run in runs})
    scores = _mean_over_subjects(runs, subjects)
    a, b, c = (float(x) for x in fit_parabola(d, scores))
    rest = scores - (a * d**2 + b * d + c)
    spread = float(np.sum((scores - scores.mean()) ** 2))
    draws = fit_parabola(d, _resample(runs, subjects, n_resamples, np.random.default_rng(seed)))
    return Parabola(
        curvature=a,
        slope=b,
        intercept=c,
        curvature_ci95=_percentiles(draws[:, 0], draws[:, 0], level),
        vertex=-b / (2 * a) if a < 0 else None,
        vertex_ci95=_vertex_interval(draws, level) if a < 0 else None,
        r_squared=1 - float(rest @ rest) / spread if spread > 0 else 0.0,
        n_depths=len(d),
        n_resamples=n_resamples,
        resampled="subjects and images" if len(subjects) > 1 else "images",
    )


def _mean_over_subjects(runs: Sequence[Run], subjects: Sequence[str]) -> FloatArray:
    """Runs of a subject averaged first, then subjects: (n_depths,)."""
    each = [np.mean([run.hits.mean(axis=0) for run in runs if run.subject == s], axis=0) for s in subjects]
    found: FloatArray = np.mean(each, axis=0)
    return found


def _resample(runs: Sequence[Run], subjects: Sequence[str], n_resamples: int, rng: np.random.Generator) -> FloatArray:
    """Mean scores over depth under drawn images and subjects: (n_resamples, n_depths)."""
    images = {name: place for place, name in enumerate(dict.fromkeys(name for run in runs for name in run.ids))}
    places = [np.array([images[name] for name in run.ids]) for run in runs]
    n_subjects, n_images = len(subjects), len(images)
    found = np.empty((n_resamples, runs[0].hits.shape[1]))
    step = max(1, _BLOCK // n_images)
    for start in range(0, n_resamples, step):
        block = found[start : start + step]
        drawn = rng.multinomial(n_images, np.full(n_images, 1 / n_images), size=len(block)).astype(np.float64)
        weight = rng.multinomial(n_subjects, np.full(n_subjects, 1 / n_subjects), size=len(block)).astype(np.float64)
        total = np.zeros_like(block)
        for number, subject in enumerate(subjects):
            mine = [(run, place) for run, place in zip(runs, places, strict=True) if run.subject == subject]
            each = [_weighted(drawn[:, place], run.hits) for run, place in mine]
            total += weight[:, number : number + 1] * np.mean(each, axis=0)
        block[:] = total / n_subjects
    return found


def _weighted(weights: FloatArray, hits: FloatArray) -> FloatArray:
    """Weighted means of the columns of hits: (n_resamples, n_depths); a draw without any of a run's images is even."""
    total = weights.sum(axis=1, keepdims=True)
    weights = np.where(total > 0, weights, 1.0)
    found: FloatArray = weights @ hits / np.where(total > 0, total, weights.shape[1])
    return found


def _vertex_interval(draws: FloatArray, level: float) -> tuple[float, float] | None:
    """Percentiles of the peak; a resample that bends upwards has its peak beyond both ends."""
    a, b = draws[:, 0], draws[:, 1]
    down = a < 0
    peak = np.divide(-b, 2 * a, out=np.zeros_like(b), where=down)
    found = _percentiles(np.where(down, peak, -np.inf), np.where(down, peak, np.inf), level)
    return found if all(map(math.isfinite, found)) else None


def _percentiles(low: FloatArray, high: FloatArray, level: float) -> tuple[float, float]:
    cut = int(len(low) * (1 - level) / 2)
    return float(np.sort(low)[cut]), float(np.sort(high)[-1 - cut])
