"""From a continuous recording to trials: events of a trigger channel, which repetitions are kept, epochs in blocks.

The steps are MNE's (`mne.find_events`, `mne.Epochs`, `mne.filter.resample`); what is added here is that only one block
of epochs is in memory at a time, and that the trials of a condition come out behind each other.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import InputError

if TYPE_CHECKING:
    import mne

BLOCK_BYTES = 64 * 2**20  # epochs at the recorded rate that are in memory at once, float64


@dataclass(frozen=True)
class Window:
    """What is cut around an event.

    Attributes
    ----------
    tmin, tmax : float
        Seconds from the event; both ends are cut out, as MNE does.
    sfreq : float
        Hz after resampling; not above the recorded rate.
    """

    tmin: float
    tmax: float
    sfreq: float

    def first(self, recorded: float) -> int:
        """Samples from the event to the first one, at the recorded rate (Hz)."""
        return round(self.tmin * recorded)

    def n_recorded(self, recorded: float) -> int:
        """Samples of an epoch at the recorded rate (Hz)."""
        return round(self.tmax * recorded) - self.first(recorded) + 1


def trigger_events(trigger: NDArray[np.floating], sfreq: float) -> NDArray[np.int64]:
    """Events of a trigger channel: an event starts where the channel rises (`mne.find_events` with its defaults).

    Parameters
    ----------
    trigger : array of shape (n_samples,)
        Whole numbers, 0 between events.
    sfreq : float
        Hz.

    Returns
    -------
    array of shape (n_events, 2)
        Sample and code of each event, in order of time.

    Raises
    ------
    InputError
        If the channel holds something else than codes, no event, or events in adjacent samples.

    Examples
    --------
    >>> trigger_events(np.array([0.0, 0, 7, 7, 0, 0, 3, 0]), 1000.0).tolist()
    [[2, 7], [6, 3]]
    """
    import mne

    if not np.isfinite(trigger).all() or (trigger < 0).any() or (trigger != np.rint(trigger)).any():
        raise InputError("the trigger channel holds more than whole numbers from 0", hint="its codes must be unscaled")
    info = mne.create_info(["stim"], sfreq, ["stim"])
    raw = mne.io.RawArray(np.asarray(trigger, dtype=np.float64)[None], info, verbose="ERROR")
    try:
        events = mne.find_events(raw, stim_channel="stim", verbose="ERROR")
    except ValueError as error:
        raise InputError(f"the trigger channel cannot be read ({error})") from error
    if not len(events):
        raise InputError("the trigger channel holds no event", hint="the recording is damaged, or another one")
    found: NDArray[np.int64] = events[:, [0, 2]].astype(np.int64)
    return found


def inside(samples: NDArray[np.int64], n_samples: int, recorded: float, window: Window) -> NDArray[np.bool_]:
    """Whether the epoch around each event lies in the recording, (n_events,); MNE drops the others."""
    start = samples + window.first(recorded)
    return (start >= 0) & (start + window.n_recorded(recorded) <= n_samples)


def choose_repetitions(codes: NDArray[np.int64], most: int, seed: int) -> dict[int, NDArray[np.intp]]:
    """At most so many events of each code, drawn as `sklearn.utils.shuffle` draws, in the order it gives.

    Parameters
    ----------
    codes : array of shape (n_events,)
    most : int
        Events kept of a code.
    seed : int
        Every code is shuffled with the same seed, as in the THINGS-EEG2 scripts.

    Returns
    -------
    dict
        From code, ascending, to the rows of `codes` that are kept.

    Examples
    --------
    >>> {code: len(rows) for code, rows in choose_repetitions(np.array([2, 1, 2, 2]), 2, 20200220).items()}
    {1: 1, 2: 2}
    """
    order = np.argsort(codes, kind="stable")
    names, starts = np.unique(codes[order], return_index=True)
    groups = np.split(order, starts[1:])
    return {int(c): g[shuffled(len(g), seed)[:most]] for c, g in zip(names, groups, strict=True)}


@functools.lru_cache(maxsize=1024)
def shuffled(n: int, seed: int) -> NDArray[np.intp]:
    """0 to n - 1 in the order of `sklearn.utils.shuffle` with that seed, (n,)."""
    from sklearn.utils import shuffle

    order: NDArray[np.intp] = shuffle(np.arange(n), random_state=seed)
    order.setflags(write=False)
    return order


def block_ends(counts: Sequence[int], trial_bytes: int) -> list[int]:
    """Where blocks of whole conditions end, so that each holds about `BLOCK_BYTES`; depends on nothing else.

    Parameters
    ----------
    counts : sequence of int
        Trials of each condition.
    trial_bytes : int

    Examples
    --------
    >>> block_ends([2, 2, 2], BLOCK_BYTES // 4)
    [2, 3]
    """
    most = max(1, BLOCK_BYTES // trial_bytes)
    ends, held = [], 0
    for i, count in enumerate(counts):
        if held and held + count > most:
            ends.append(i)
            held = 0
        held += count
    return [*ends, len(counts)] if counts else []


def read_epochs(
    raw: mne.io.BaseRaw, samples: NDArray[np.int64], names: Sequence[str], window: Window
) -> NDArray[np.float64]:
    """Cut epochs, subtract the mean of all samples up to the event, resample.

    Parameters
    ----------
    raw : mne.io.BaseRaw
    samples : array of shape (n,)
        Sample of each event, in any order; no sample twice.
    names : sequence of str
        Channels, in the order of `raw`.
    window : Window
        `tmin` below 0.

    Returns
    -------
    array of shape (n, n_chans, n_times)
        In the order of `samples`, unit of `raw`.

    Raises
    ------
    InputError
        If an epoch does not lie in the recording.
    """
    import mne

    order = np.argsort(samples, kind="stable")  # MNE wants events in order of time
    events = np.zeros((len(samples), 3), dtype=np.int64)
    events[:, 0], events[:, 2] = samples[order], 1
    epochs = mne.Epochs(
        raw,
        events,
        tmin=window.tmin,
        tmax=window.tmax,
        baseline=(None, 0),
        picks=list(names),
        preload=True,
        on_outside="ignore",
        verbose="ERROR",
    )
    if len(epochs) != len(samples):
        raise InputError(f"{len(samples) - len(epochs)} epochs do not lie in the recording")
    data: NDArray[np.float64] = epochs.get_data(copy=False)
    if window.sfreq != raw.info["sfreq"]:
        data = data @ resampler(data.shape[2], raw.info["sfreq"], window.sfreq)
    result = np.empty_like(data)
    result[order] = data
    return result


@functools.lru_cache(maxsize=4)
def resampler(n_recorded: int, recorded: float, sfreq: float) -> NDArray[np.float64]:
    """What `mne.Epochs.resample` does to an epoch, as a matrix: (n_recorded, n_times).

    Resampling is linear, so MNE's answers to single samples are all of it; one matrix product is about three times as
    fast as MNE's loop over channels and epochs.

    Parameters
    ----------
    n_recorded : int
        Samples of an epoch.
    recorded, sfreq : float
        Rates in Hz.
    """
    from mne.filter import resample

    matrix: NDArray[np.float64] = resample(
        np.eye(n_recorded), sfreq, recorded, npad="auto", window="auto", pad="edge", method="fft", verbose="ERROR"
    )
    matrix.setflags(write=False)
    return matrix


def epoch_times(raw_sfreq: float, window: Window, n_times: int) -> NDArray[np.float64]:
    """Seconds of each sample from the event, (n_times,): the first one is the first recorded sample of the epoch."""
    return window.first(raw_sfreq) / raw_sfreq + np.arange(n_times) / window.sfreq


def blocks_of(
    raw: mne.io.BaseRaw, groups: Sequence[NDArray[np.int64]], names: Sequence[str], window: Window
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.intp]]]:
    """Epochs of some conditions, block by block.

    Parameters
    ----------
    groups : sequence of arrays
        The samples of each condition's events.

    Yields
    ------
    trials : array of shape (n, n_chans, n_times)
        Condition by condition.
    starts : array of int
        Row of `trials` at which each condition of the block starts.
    """
    counts = [len(group) for group in groups]
    start = 0
    for stop in block_ends(counts, 8 * len(names) * window.n_recorded(raw.info["sfreq"])):
        trials = read_epochs(raw, np.concatenate(groups[start:stop]), names, window)
        yield trials, np.cumsum([0, *counts[start : stop - 1]], dtype=np.intp)
        start = stop
