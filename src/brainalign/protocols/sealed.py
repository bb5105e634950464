"""The sealed test set: it opens when every choice is frozen, and it counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import InputError
from brainalign.protocols.split import Split
from brainalign.recordings import Recording


@dataclass(frozen=True)
class TestData:
    """What comes out of a sealed test set.

    Attributes
    ----------
    signals : array of shape (n_queries, n_chans, n_times)
        Test signals, repetitions averaged.
    query_ids, gallery_ids : tuple of str
    repetitions : int
        Repetitions averaged in a query (the smallest count, where it differs between images).
    counts : tuple of int
        Repetitions averaged in each query.
    """

    __test__ = False  # not a pytest class

    signals: NDArray[np.float32]
    query_ids: tuple[str, ...]
    gallery_ids: tuple[str, ...]
    repetitions: int
    counts: tuple[int, ...] = ()


class OpenedTest:
    """An opened test set, read as often as one opening needs: many rows of a sweep, many channel selections."""

    def __init__(self, recording: Recording, split: Split) -> None:
        self._recording, self.split = recording, split

    def data(
        self, *, select: Callable[[Recording], Recording] | None = None, repetitions: int | None = None
    ) -> TestData:
        """Averaged test signals.

        Parameters
        ----------
        select : callable, optional
            Channels and samples of the method, such as `functools.partial(select_signals, settings=...)`.
        repetitions : int, optional
            Repetitions to average a query over; all there are by default.

        Raises
        ------
        InputError
            As `SealedTest.require_repetitions` does.
        """
        recording = select(self._recording) if select else self._recording
        ids = self.split.test
        signals = recording.average(ids, repetitions=repetitions)
        counts = tuple(int(n) for n in recording.repetitions(ids)) if repetitions is None else (repetitions,) * len(ids)
        return TestData(signals, ids, self.split.gallery, min(counts), counts)


class SealedTest:
    """Test trials of one recording and split, out of reach until opened.

    Training sees only `development`, a recording that holds no test trial.

    Parameters
    ----------
    recording : Recording
    split : Split
    earlier_reads : int
        Openings already made by the run this one continues.
    """

    def __init__(self, recording: Recording, split: Split, *, earlier_reads: int = 0) -> None:
        self._recording = recording.restrict(split.test)
        self._split = split
        self.development = recording.restrict([*split.train, *split.validation])
        self.reads = earlier_reads

    def require_repetitions(self, repetitions: int | None) -> None:
        """Refuse a number of repetitions that queries cannot be averaged over; reads the trial table, no signal.

        Raises
        ------
        InputError
            If a test image has fewer, or only stored means that do not add up to so many.
        """
        if repetitions is None:
            return
        try:
            for name in self._split.test:
                self._recording.pick_trials(name, repetitions)
        except InputError as error:
            hint = error.hint or "ask for fewer, or null for all"
            raise InputError(error.problem, where="evaluation.repetitions", hint=hint) from error

    def open(self) -> OpenedTest:
        """Break the seal; every call counts in `reads`."""
        self.reads += 1
        return OpenedTest(self._recording, self._split)
