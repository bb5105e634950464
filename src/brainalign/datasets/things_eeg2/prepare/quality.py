"""What a session's signals look like, summed up while its blocks pass by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

ODD = 3.0  # times the median noise of a session's channels, or below its inverse


class Evoked:
    """Mean response over all trials."""

    def __init__(self) -> None:
        self.n = 0
        self._total: NDArray[np.float64] | None = None

    def add(self, trials: NDArray[np.float64] | NDArray[np.float32]) -> None:
        """Take trials, (n, n_chans, n_times)."""
        total = trials.sum(axis=0, dtype=np.float64)
        self._total = total if self._total is None else self._total + total
        self.n += len(trials)

    def mean(self) -> NDArray[np.float64]:
        """The mean, (n_chans, n_times)."""
        assert self._total is not None
        return self._total / self.n


class ChannelNoise:
    """Standard deviation of single trials around the mean of their condition, a channel; all samples pooled."""

    def __init__(self) -> None:
        self._squares: NDArray[np.float64] | None = None
        self._free = 0

    def add(self, trials: NDArray[np.float64], starts: NDArray[np.intp]) -> None:
        """Take the trials of some conditions; `starts` are the rows at which each starts."""
        counts = np.diff(starts, append=len(trials))
        means = np.add.reduceat(trials, starts, axis=0) / counts[:, None, None]
        around = trials - np.repeat(means, counts, axis=0)
        squares = np.einsum("nct,nct->c", around, around) / trials.shape[2]
        self._squares = squares if self._squares is None else self._squares + squares
        self._free += len(trials) - len(counts)

    def deviation(self) -> list[float] | None:
        """One a channel; None if no condition was repeated."""
        if self._squares is None or not self._free:
            return None
        deviation: list[float] = rounded(np.sqrt(self._squares / self._free))
        return deviation


def rounded(values: NDArray[np.floating], digits: int = 6) -> Any:
    """Nested lists of floats with so many significant digits: small files, and the same on every machine.

    Examples
    --------
    >>> rounded(np.array([[0.12345678, 1234567.0]]))
    [[0.123457, 1234570.0]]
    """
    if values.ndim > 1:
        return [rounded(row, digits) for row in values]
    return [float(f"{value:.{digits}g}") for value in values]


def odd_channels(names: Sequence[str], noise: Sequence[float] | None) -> list[str]:
    """Channels that are much noisier or quieter than the others of a session."""
    if noise is None or len(noise) < 4:
        return []
    usual = float(np.median(noise))
    return [n for n, value in zip(names, noise, strict=True) if not usual / ODD <= value <= usual * ODD]


def counted(counts: Sequence[int]) -> dict[str, int]:
    """How many conditions have how many repetitions; keys as text, for JSON.

    Examples
    --------
    >>> counted([2, 2, 1])
    {'1': 1, '2': 2}
    """
    values, n = np.unique(np.asarray(counts, dtype=np.int64), return_counts=True)
    return {str(int(v)): int(k) for v, k in zip(values, n, strict=True)}


def field_power(evoked: NDArray[np.floating]) -> NDArray[np.float64]:
    """Global field power: standard deviation over channels at each sample, (n_times,) (Lehmann & Skrandies 1980)."""
    power: NDArray[np.float64] = np.asarray(evoked, dtype=np.float64).std(axis=0)
    return power
