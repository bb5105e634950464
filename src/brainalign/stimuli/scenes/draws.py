"""Random numbers that are the same on every machine and under every numpy.

Only the raw 64-bit words of PCG64 are used: numpy promises them for ever, while the methods of `Generator` may change
their stream from one release to the next.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Draws:
    """A stream of draws named by its key.

    Parameters
    ----------
    *key : str or int
        Anything that names the stream. Its SHA-256 seeds the generator.

    Examples
    --------
    >>> Draws("a", 1).uniform() == Draws("a", 1).uniform()
    True
    >>> sorted(Draws("a").shuffled([3, 1, 2]))
    [1, 2, 3]
    """

    def __init__(self, *key: str | int) -> None:
        digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
        self._bits = np.random.PCG64(int.from_bytes(digest[:16], "big"))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Draw one number from [low, high)."""
        return low + (high - low) * ((int(self._bits.random_raw()) >> 11) / 2.0**53)

    def triple(self, low: float, high: float) -> tuple[float, float, float]:
        """Draw three independent numbers from [low, high)."""
        return self.uniform(low, high), self.uniform(low, high), self.uniform(low, high)

    def choice(self, items: Sequence[T]) -> T:
        """Draw one item, all equally likely."""
        return items[int(self.uniform() * len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Return the items in random order (Fisher and Yates)."""
        out = list(items)
        for i in range(len(out) - 1, 0, -1):
            j = int(self.uniform() * (i + 1))
            out[i], out[j] = out[j], out[i]
        return out
