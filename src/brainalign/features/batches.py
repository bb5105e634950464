"""Decoding pictures ahead of the model."""

from __future__ import annotations

import collections
import os
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from brainalign.features.preprocessing import Preprocessing, StimulusTransform
from brainalign.stimuli import StimulusSet

AHEAD = 2  # batches decoded ahead of the model: memory stays the same however many pictures there are
THREADS_MAX = 16

Pixels = NDArray[np.uint8]


def image_batches(
    stimuli: StimulusSet,
    rows: Sequence[int],
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    start: int = 0,
    transform: StimulusTransform | None = None,
) -> Generator[tuple[int, Tensor], None, None]:
    """Preprocessed pictures, decoded in threads while the model works on earlier ones.

    Parameters
    ----------
    rows : sequence of int
        Rows of the stimulus table, in the order wanted.
    start : int
        Where in `rows` to begin.

    Yields
    ------
    first : int
        Where in `rows` the batch begins.
    images : Tensor of shape (n, 3, size, size)

    Raises
    ------
    InputError
        If a picture cannot be read.
    """

    def decoded(row: int) -> Pixels:
        image = stimuli.image(row)
        return preprocessing.resized(image if transform is None else transform(image))

    firsts = iter(range(start, len(rows), batch_size))
    waiting: collections.deque[tuple[int, list[Future[Pixels]]]] = collections.deque()
    threads = ThreadPoolExecutor(max_workers=min(THREADS_MAX, os.cpu_count() or 1))

    def begin(first: int | None) -> None:
        if first is not None:
            waiting.append((first, [threads.submit(decoded, row) for row in rows[first : first + batch_size]]))

    try:
        for _ in range(AHEAD):
            begin(next(firsts, None))
        while waiting:
            first, futures = waiting.popleft()
            begin(next(firsts, None))
            yield first, preprocessing.batch([future.result() for future in futures])
    finally:
        threads.shutdown(cancel_futures=True)
