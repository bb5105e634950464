"""Two runs on the same images: their difference, its interval and p-value, and what n images can show."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from brainalign.errors import InputError
from brainalign.evaluation.resampling import (
    FloatArray,
    Units,
    check_level,
    finite_values,
    studentised_tails,
    t_quantile,
    tails,
)

_BLOCK = 2**18  # signs held at once


@dataclass(frozen=True)
class PairedComparison:
    """Difference of two runs over the same images.

    Attributes
    ----------
    a, b : float
        Means of the two runs.
    difference : float
        a - b.
    lo, hi : float
        Its confidence interval.
    level : float
    p : float
        Two-sided, for "the two runs are exchangeable on every image".
    n_units : int
        Independent units the comparison rests on: images.
    """

    a: float
    b: float
    difference: float
    lo: float
    hi: float
    level: float
    p: float
    n_units: int

    def to_dict(self) -> dict[str, float | int | list[float]]:
        """`a`, `b`, `difference`, `ci95` (named by its level), `p`, `n_units`."""
        interval = {f"ci{100 * self.level:g}": [self.lo, self.hi]}
        means = {"a": self.a, "b": self.b, "difference": self.difference}
        return {**means, **interval, "p": self.p, "n_units": self.n_units}


def paired_bootstrap(
    a: ArrayLike,
    b: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    images: ArrayLike | None = None,
    level: float = 0.95,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> PairedComparison:
    """Compare two runs on the same queries: bootstrap interval of the mean difference and a sign-flip p-value.

    The interval. Images are drawn with replacement. For hits (all values 0 or 1) the bootstrap is smoothed: every
    resample also holds Poisson(1/2) imagined images that only `a` hits and as many that only `b` hits, so two runs with
    the same hits on 200 images differ by 0 give or take 0.01, not by exactly 0. Other values get the studentised
    bootstrap.

    The p-value. If both runs are alike, swapping them on any image changes nothing, so the sign of every image's
    difference is a coin toss. p = (1 + tosses at least as far from 0) / (1 + n_resamples); never too small under that
    hypothesis, whatever the sample size (for hits it is McNemar's exact test, by simulation). Near the threshold it may
    disagree with the interval.

    Parameters
    ----------
    a, b : arrays of shape (n,)
        Per-query values of the two runs, in the same order: hits, reciprocal ranks, ...
    groups : sequence of n labels, optional
        Strata with **different** images (splits): images are drawn within each, so the mix of groups is not left to
        chance.
    images : sequence of n labels, optional
        What each query showed. Give it where an image occurs more than once (several subjects, seeds, repetitions): all
        its queries are drawn, and swapped, together. Subjects and seeds are then taken as they are, the images as a
        sample. Not with `groups`.
    level : float
        Of the interval.
    n_resamples : int
        Of images for the interval, of signs for p.
    seed : int
        Same seed, same result.

    Returns
    -------
    PairedComparison

    Raises
    ------
    InputError
        For different shapes, NaN, fewer than two images (in any group), or both `groups` and `images`.

    References
    ----------
    The imagined images are half an observation in either discordant cell, after A. Agresti and Y. Min, "Simple improved
    confidence intervals for comparing matched proportions", Statistics in Medicine 24 (2005), 729-740.

    Examples
    --------
    >>> a, b = [1, 1, 1, 1, 1, 1, 0, 1, 1, 1], [0, 0, 1, 0, 0, 0, 0, 1, 0, 0]
    >>> found = paired_bootstrap(a, b)
    >>> round(found.difference, 6), found.lo > 0, 0.01 < found.p < 0.025  # McNemar's exact p: 2 / 2**7
    (0.7, True, True)
    """
    check_level(level, n_resamples)
    first, second = finite_values(a, "a", max_dims=1), finite_values(b, "b", max_dims=1)
    if first.shape != second.shape:
        raise InputError(f"paired runs need the same queries, got shapes {first.shape} and {second.shape}")
    if groups is not None and images is not None:
        raise InputError("give groups (strata of different images) or images (repeated ones), not both")
    units = Units.of(first - second, unit=images, stratum=groups)
    if np.bincount(units.strata).min() < 2:
        raise InputError("a comparison needs two images or more, in every group")
    rng = np.random.default_rng(seed)
    hits = bool(np.isin(first, (0.0, 1.0)).all() and np.isin(second, (0.0, 1.0)).all())
    lo, hi = (_smoothed if hits else _studentised)(units, level, n_resamples, rng)
    p = _sign_flip_p(units.totals, n_resamples, rng)
    return PairedComparison(float(first.mean()), float(second.mean()), units.mean, lo, hi, level, p, len(units.totals))


def smallest_detectable_difference(
    n: int, p: float, *, level: float = 0.95, power: float = 0.8, correlation: float = 0.0
) -> float:
    """Smallest difference in hit rate that a paired comparison on n images shows with the given power.

    Solves d sqrt(n) = z_(1 - alpha/2) sqrt(v + d^2) + z_power sqrt(v) for d, where v = var(hit_a - hit_b) at rates p
    and p + d (or p - d; the smaller answer counts) and v + d^2 is the chance that just one of the two runs hits.

    Parameters
    ----------
    n : int
        Images.
    p : float
        Hit rate of one of the runs, 0 to 1.
    level : float
        1 - alpha of the two-sided test.
    power : float
        Probability of finding the difference.
    correlation : float
        Of the two runs' hits over images, 0 to below 1. Runs tend to hit the same easy images; 0 is the cautious
        choice.

    Returns
    -------
    float
        Between 0 and 1; 1 where not even the largest difference would show.

    Raises
    ------
    InputError
        For arguments outside their ranges.

    References
    ----------
    R. J. Connett, J. A. Smith and R. B. McHugh, "Sample size and power for pair-matched case-control studies",
    Statistics in Medicine 6 (1987), 53-59.

    Examples
    --------
    >>> round(smallest_detectable_difference(200, 0.3), 3)
    0.12
    """
    check_level(level)
    if n < 1 or not 0 <= p <= 1 or not 0 < power < 1 or not 0 <= correlation < 1:
        got = f"n {n}, p {p}, power {power}, correlation {correlation}"
        raise InputError(f"needs n of 1 or more, p in 0..1, power in (0, 1), correlation in [0, 1), got {got}")
    z_level, z_power = NormalDist().inv_cdf((1 + level) / 2), NormalDist().inv_cdf(power)

    def excess(d: float, direction: int) -> float:
        other = min(1.0, max(0.0, p + direction * d))
        spread, other_spread = p * (1 - p), other * (1 - other)
        v = spread + other_spread - 2 * correlation * math.sqrt(spread * other_spread)
        discordant = max(v + d * d, d)  # a difference of d needs at least d discordant images
        return d * math.sqrt(n) - z_level * math.sqrt(discordant) - z_power * math.sqrt(max(0.0, discordant - d * d))

    found = [_first_root(excess, room, direction) for room, direction in ((1 - p, 1), (p, -1)) if room > 0]
    return min(found)


def _first_root(excess: Callable[[float, int], float], room: float, direction: int) -> float:
    """Smallest d in (0, room] at which excess turns positive, or 1."""
    grid = np.linspace(0.0, room, 1001)[1:]
    above = np.flatnonzero([excess(float(d), direction) >= 0 for d in grid])
    if len(above) == 0:
        return 1.0
    hi = float(grid[above[0]])
    lo = hi - room / 1000
    for _ in range(40):
        middle = (lo + hi) / 2
        lo, hi = (lo, middle) if excess(middle, direction) >= 0 else (middle, hi)
    return hi


def _smoothed(units: Units, level: float, n_resamples: int, rng: np.random.Generator) -> tuple[float, float]:
    """Percentiles of resampled differences in hits, half an imagined image added on either side (on average)."""
    n_units, mean = len(units.totals), units.mean
    deviation, _ = units.resample(n_resamples, rng)
    imagined = rng.poisson(0.5, n_resamples) - rng.poisson(0.5, n_resamples)
    lo, hi = tails(((mean + deviation) * n_units + imagined) / (n_units + 1), level)
    return max(-1.0, min(lo, mean)), min(1.0, max(hi, mean))


def _studentised(units: Units, level: float, n_resamples: int, rng: np.random.Generator) -> tuple[float, float]:
    mean, error = units.mean, units.standard_error
    if error == 0:
        return mean, mean
    reach = t_quantile(level, len(units.totals) - 1)
    low, high = studentised_tails(units, level, n_resamples, rng) or (-reach, reach)
    return mean - high * error, mean - low * error


def _sign_flip_p(differences: FloatArray, n_draws: int, rng: np.random.Generator) -> float:
    moved = differences[differences != 0]
    if len(moved) == 0:
        return 1.0
    threshold = abs(moved.sum()) - 1e-9 * np.abs(moved).sum()  # sums in another order differ in the last digits
    as_far, step = 0, max(1, _BLOCK // len(moved))
    for start in range(0, n_draws, step):
        signs = 2.0 * rng.integers(0, 2, size=(min(step, n_draws - start), len(moved)), dtype=np.int8) - 1
        as_far += int(np.count_nonzero(np.abs(signs @ moved) >= threshold))
    return (1 + as_far) / (1 + n_draws)
