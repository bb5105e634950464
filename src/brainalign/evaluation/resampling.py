"""Drawing units (images) with replacement, fast: every statistic here is a function of a few sums over units."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainalign.errors import InputError

FloatArray = NDArray[np.float64]
_BLOCK = 2**18  # draws held at once


@dataclass(frozen=True, eq=False)
class Units:
    """What is drawn: units with the sum and the count of their values, each in one stratum.

    The mean is the ratio sum(totals) / sum(sizes); its standard error is that of a ratio in a stratified sample of
    units (linearised), which for units of one value in one stratum is the usual s / sqrt(n).

    Attributes
    ----------
    totals, sizes : arrays of shape (n_units,)
    strata : int array of shape (n_units,)
        0, 1, ...; each holds at least one unit.
    """

    totals: FloatArray
    sizes: FloatArray
    strata: NDArray[np.intp]

    @classmethod
    def of(cls, values: FloatArray, *, unit: ArrayLike | None = None, stratum: ArrayLike | None = None) -> Units:
        """Gather values of shape (n,) by unit (all in one stratum), or take each value as a unit of its stratum."""
        n = len(values)
        strata = np.zeros(n, dtype=np.intp) if stratum is None else _codes(stratum, n)
        if unit is None:
            return cls(values, np.ones(n), strata)
        of_value = _codes(unit, n)
        sizes = np.bincount(of_value).astype(np.float64)
        totals = np.bincount(of_value, weights=values).astype(np.float64)
        return cls(totals, sizes, np.zeros(len(sizes), dtype=np.intp))

    @property
    def mean(self) -> float:
        """Mean over values."""
        return float(self.totals.sum() / self.sizes.sum())

    @property
    def standard_error(self) -> float:
        """Of the mean; 0 where units do not vary."""
        sums = np.stack([rows.sum(axis=0)[None] for rows in self._columns])
        return float(self._mean_and_error(sums)[1][0])

    @cached_property
    def _columns(self) -> list[FloatArray]:
        """(n_units, 5) per stratum, whose sums give mean and error; centred on the mean to keep digits."""
        s, c = self.totals - self.mean * self.sizes, self.sizes
        columns = np.stack([s, c, s * s, s * c, c * c], axis=1)
        return [columns[self.strata == stratum] for stratum in range(int(self.strata.max()) + 1)]

    def resample(self, n_resamples: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw as many units as there are, within each stratum, `n_resamples` times.

        Returns
        -------
        deviation : array of shape (n_resamples,)
            Mean of the drawn values minus the mean of all.
        error : array of shape (n_resamples,)
            Standard error as it would be estimated from the drawn values.
        """
        return self._mean_and_error(np.stack([_drawn_sums(columns, n_resamples, rng) for columns in self._columns]))

    def _mean_and_error(self, sums: FloatArray) -> tuple[FloatArray, FloatArray]:
        s, c, ss, sc, cc = np.moveaxis(sums, -1, 0)  # each (n_strata, n_resamples)
        count = np.array([len(columns) for columns in self._columns], dtype=float)[:, None]
        total = c.sum(axis=0)
        mean = s.sum(axis=0) / total
        residual, squares = s - mean * c, ss - 2 * mean * sc + mean**2 * cc
        spread = squares - residual**2 / count
        spread[spread < 1e-10 * (ss + mean**2 * cc)] = 0  # what rounding leaves of equal values
        variance = np.sum(spread * count / np.maximum(count - 1, 1), axis=0) / total**2
        return mean, np.sqrt(variance)


def finite_values(values: ArrayLike, name: str, *, max_dims: int) -> FloatArray:
    """Return values as float64, or refuse them: 1 to max_dims dimensions, not empty, finite."""
    array = np.asarray(values)
    if not 1 <= array.ndim <= max_dims or array.size == 0 or array.dtype.kind not in "fiub":
        shapes = "(n_images,) or (n_subjects, n_images)" if max_dims == 2 else "(n_images,)"
        raise InputError(f"{name} must be numbers of shape {shapes}, at least one, got {array.shape} of {array.dtype}")
    if not np.isfinite(array).all():
        raise InputError(f"{name} hold NaN or infinity, first at {np.argwhere(~np.isfinite(array))[0].tolist()}")
    return array.astype(np.float64)


def check_level(level: float, n_resamples: int = 1) -> None:
    """Refuse a confidence level outside (0, 1) or fewer than one resample."""
    if not 0 < level < 1 or n_resamples < 1:
        raise InputError(f"level must lie between 0 and 1 and n_resamples be 1 or more, got {level} and {n_resamples}")


def tails(draws: FloatArray, level: float) -> tuple[float, float]:
    """The draws that leave (1 - level) / 2 outside on either side; not interpolated, as they may be infinite."""
    ordered, cut = np.sort(draws), int(len(draws) * (1 - level) / 2)
    return float(ordered[cut]), float(ordered[-1 - cut])


def studentised_tails(
    units: Units, level: float, n_resamples: int, rng: np.random.Generator
) -> tuple[float, float] | None:
    """Tails of (mean - true mean) / standard error over resamples; None where too many resamples have no spread."""
    deviation, error = units.resample(n_resamples, rng)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = deviation / error
    low, high = tails(np.where(np.isnan(ratio), 0.0, ratio), level)  # 0/0: no deviation at all
    return (low, high) if np.isfinite(low) and np.isfinite(high) else None


def t_quantile(level: float, df: float) -> float:
    """How many standard errors a two-sided interval reaches: Student's t, or normal for df of infinity (or none)."""
    if df < 1 or math.isinf(df):
        return NormalDist().inv_cdf((1 + level) / 2)
    from scipy.special import stdtrit

    return float(stdtrit(df, (1 + level) / 2))


def _codes(labels: ArrayLike, n: int) -> NDArray[np.intp]:
    array: NDArray[Any] = np.asarray(labels)
    if array.shape != (n,):
        raise InputError(f"labels must be one a value, shape ({n},), got {array.shape}")
    return np.unique(array, return_inverse=True)[1].astype(np.intp)


def _drawn_sums(columns: FloatArray, n_resamples: int, rng: np.random.Generator) -> FloatArray:
    """Sum of columns over rows drawn with replacement: (n_resamples, n_columns)."""
    n = len(columns)
    sums = np.empty((n_resamples, columns.shape[1]))
    step = max(1, _BLOCK // n)
    for start in range(0, n_resamples, step):
        block = sums[start : start + step]
        drawn = rng.integers(0, n, size=(len(block), n)) + n * np.arange(len(block))[:, None]
        block[:] = np.bincount(drawn.ravel(), minlength=n * len(block)).reshape(-1, n) @ columns
    return sums
