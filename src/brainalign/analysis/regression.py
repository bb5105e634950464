"""Pearson's correlation and a straight line with its confidence band, in closed form."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainalign.errors import InputError

FloatArray = NDArray[np.float64]
POINTS_MIN = 3


@dataclass(frozen=True)
class Line:
    """Least-squares line y = intercept + slope x, and how closely points lie on it.

    Attributes
    ----------
    n : int
        Points.
    r, p : float
        Pearson's correlation, and its two-sided p-value (Student's t with n - 2 degrees of freedom).
    r_ci95 : (float, float) or None
        By Fisher's transformation; None for three points.
    slope, intercept : float
    slope_ci95 : (float, float)
    residual : float
        Standard deviation of the points around the line, n - 2 degrees of freedom.
    x_mean, x_spread : float
        Mean of x, and sum of its squared deviations: what the band needs.
    """

    n: int
    r: float
    p: float
    r_ci95: tuple[float, float] | None
    slope: float
    intercept: float
    slope_ci95: tuple[float, float]
    residual: float
    x_mean: float
    x_spread: float

    def at(self, x: ArrayLike) -> FloatArray:
        """The line."""
        found: FloatArray = self.intercept + self.slope * np.asarray(x, dtype=np.float64)
        return found

    def band(self, x: ArrayLike, level: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """Lower and upper confidence limit of the line (not of a further point) at some x.

        y(x) -+ t s sqrt(1/n + (x - mean)^2 / sum of squared deviations).
        """
        from scipy.special import stdtrit

        there = np.asarray(x, dtype=np.float64)
        error = self.residual * np.sqrt(1 / self.n + (there - self.x_mean) ** 2 / self.x_spread)
        reach = float(stdtrit(self.n - 2, (1 + level) / 2)) * error
        return self.at(there) - reach, self.at(there) + reach

    def to_dict(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)


def fit_line(x: ArrayLike, y: ArrayLike) -> Line:
    """Fit a line to points.

    Parameters
    ----------
    x, y : arrays of shape (n,)
        Three points or more, neither all equal in x nor in y.

    Raises
    ------
    InputError
        For fewer than three points, other shapes, NaN, or values that do not vary.

    Examples
    --------
    >>> line = fit_line([0, 1, 2, 3], [1, 3, 4, 8])
    >>> round(line.r, 3), round(line.slope, 3), round(line.intercept, 3)
    (0.965, 2.2, 0.7)
    """
    from scipy.special import stdtr, stdtrit

    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or len(a) < POINTS_MIN or not np.isfinite([a, b]).all():
        raise InputError(f"a line needs {POINTS_MIN} points or more, all finite, got shapes {a.shape} and {b.shape}")
    n, dx, dy = len(a), a - a.mean(), b - b.mean()
    sxx, syy, sxy = float(dx @ dx), float(dy @ dy), float(dx @ dy)
    if sxx == 0 or syy == 0:
        raise InputError("no correlation can be given: all values are the same")
    r = min(1.0, max(-1.0, sxy / math.sqrt(sxx * syy)))
    rest = 1 - r * r
    p = float(2 * stdtr(n - 2, -abs(r) * math.sqrt((n - 2) / rest))) if rest > 0 else 0.0
    slope = sxy / sxx
    residual = math.sqrt(max(0.0, syy - slope * sxy) / (n - 2))
    reach = float(stdtrit(n - 2, 0.975)) * residual / math.sqrt(sxx)
    return Line(
        n=n,
        r=r,
        p=p,
        r_ci95=_fisher(r, n),
        slope=slope,
        intercept=float(b.mean() - slope * a.mean()),
        slope_ci95=(slope - reach, slope + reach),
        residual=residual,
        x_mean=float(a.mean()),
        x_spread=sxx,
    )


def _fisher(r: float, n: int) -> tuple[float, float] | None:
    """Interval of a correlation; atanh(r) is about normal with variance 1 / (n - 3)."""
    if n < 4:
        return None
    if abs(r) == 1:
        return (r, r)
    reach = NormalDist().inv_cdf(0.975) / math.sqrt(n - 3)
    return (math.tanh(math.atanh(r) - reach), math.tanh(math.atanh(r) + reach))
