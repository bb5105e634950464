"""Rows of signals, wherever they lie: read on demand, a bounded number at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

CHUNK_BYTES = 64 * 2**20


class SignalSource(Protocol):
    """Trials in memory, on disk or made on demand: a numpy array, a memory map, or an object that computes rows."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n_trials, n_chans, n_times)."""

    def __getitem__(self, rows: Any, /) -> NDArray[Any]:
        """Trials by an integer array, (len(rows), n_chans, n_times)."""


@dataclass(frozen=True)
class Rows:
    """A row selection of a signal source, read on demand."""

    source: SignalSource
    keep: NDArray[np.intp]

    @property
    def shape(self) -> tuple[int, ...]:
        """(n_rows, n_chans, n_times)."""
        return (len(self.keep), *self.source.shape[1:])

    def __getitem__(self, rows: Any, /) -> NDArray[Any]:
        """Trials by an integer array."""
        return self.source[self.keep[rows]]


def blocks(groups: Sequence[NDArray[np.intp]], row_bytes: int) -> Iterable[tuple[int, int]]:
    """Cut stimuli into runs whose trials together stay under the chunk size (at least one stimulus a run)."""
    limit = max(1, CHUNK_BYTES // max(1, row_bytes))
    start, held = 0, 0
    for at, rows in enumerate(groups):
        if held and held + len(rows) > limit:
            yield start, at
            start, held = at, 0
        held += len(rows)
    if groups:
        yield start, len(groups)
