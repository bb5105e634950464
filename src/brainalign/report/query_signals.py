"""The averaged test signals of a run, small enough for a page: what was decoded when an image was found, or was not."""

from __future__ import annotations

import base64
import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainalign.errors import InputError
from brainalign.files import atomic_write

FILE = "signals.npz"
CHANNELS_MAX = 64  # with a time axis: lines
BARS_MAX = 96  # without one
TIMES_MAX = 128
BYTES_MAX = 256 * 2**20
LEVELS = 127


class Channels(Protocol):
    """What is asked of a recording: names, unit and times of its signals."""

    @property
    def ch_names(self) -> Sequence[str]:
        """Names of channels."""

    @property
    def sfreq(self) -> float | None:
        """Sampling rate, Hz; None without a time axis."""

    @property
    def tmin(self) -> float | None:
        """First sample, seconds from stimulus onset."""

    @property
    def unit(self) -> str:
        """Of the values."""

    @property
    def modality(self) -> str:
        """Of the recording."""


@dataclass(frozen=True)
class QuerySignals:
    """Averaged signals of test queries, in the order of `predictions.npz`.

    Attributes
    ----------
    values : int8 array of shape (n_queries, n_chans, n_times)
        In `scales`; 127 is the largest absolute value of a query.
    scales : float array of shape (n_queries,)
        What one step of a query's `values` is worth, in `unit`.
    times : float array of shape (n_times,)
        Seconds from stimulus onset; one zero where there is no time axis.
    n_recorded : int
        Channels there were; `ch_names` may be fewer.
    averaged : int
        Neighbouring samples that were averaged into one.
    """

    values: NDArray[np.int8]
    scales: NDArray[np.float64]
    ch_names: tuple[str, ...]
    times: NDArray[np.float64]
    unit: str
    modality: str
    n_recorded: int
    averaged: int = 1

    @property
    def in_time(self) -> bool:
        """Whether there is a time axis."""
        return len(self.times) > 1

    @property
    def cut(self) -> str:
        """What was left out or averaged to make it small, in words; empty where nothing was."""
        said = []
        if len(self.ch_names) < self.n_recorded:
            which = "evenly spread" if self.in_time else "those that differ most between images"
            said.append(f"{len(self.ch_names)} of {self.n_recorded:,} channels, {which}.")
        if self.averaged > 1:
            said.append(f"{self.averaged} neighbouring samples averaged.")
        return " ".join(said)

    def of(self, query: int) -> NDArray[np.float64]:
        """Signal of a query (n_chans, n_times), in `unit`."""
        return np.asarray(self.values[query] * self.scales[query], dtype=np.float64)

    def packed(self, queries: Sequence[int]) -> dict[str, Any]:
        """These queries' signals as JSON values for the page's script."""
        chosen = np.asarray(queries, dtype=np.intp)
        return {
            "data": base64.b64encode(np.ascontiguousarray(self.values[chosen]).tobytes()).decode(),
            "scales": [float(f"{value:.6g}") for value in self.scales[chosen]],
            "channels": list(self.ch_names),
            "times": [round(1000 * float(t), 3) for t in self.times] if self.in_time else [0],
            "unit": self.unit.replace("uV", "µV"),
            "recorded": self.n_recorded,
            "averaged": self.averaged,
        }


def write_query_signals(folder: str | Path, signals: ArrayLike, recording: Channels) -> Path:
    """Keep the averaged test signals of a run for its report: `signals.npz`.

    Of more than 64 channels with a time axis evenly spread ones stay; of more than 96 without one, those whose values
    differ most between test images. Neighbouring samples are averaged to 128 at most. A value takes one byte.

    Parameters
    ----------
    folder : path-like
        Of the run.
    signals : array of shape (n_queries, n_chans, n_times)
        As they were decoded, repetitions averaged, in the order of `predictions.npz`.
    recording : Recording
        With the channels and times of `signals`.

    Raises
    ------
    InputError
        If shapes do not agree, or the file cannot be written.
    """
    path = Path(folder) / FILE
    array = np.asarray(signals, dtype=np.float32)
    names = tuple(str(name) for name in recording.ch_names)
    if array.ndim != 3 or array.shape[1] != len(names):
        raise InputError(f"signals {array.shape} do not fit {len(names)} channels", where=path)
    n_recorded, kept = len(names), _picked(array)
    array, step = _thinned(array[:, kept])
    peaks = np.abs(array).max(axis=(1, 2)) if array.size else np.zeros(len(array))
    scales = np.where(peaks > 0, peaks / LEVELS, 1.0).astype(np.float64)
    values = np.rint(array / scales[:, None, None]).astype(np.int8)
    times = np.zeros(1)
    if recording.sfreq is not None and array.shape[2] > 1:
        first = (recording.tmin or 0.0) + 0.5 * (step - 1) / recording.sfreq
        times = first + np.arange(array.shape[2]) * step / recording.sfreq
    with atomic_write(path) as file:
        np.savez_compressed(
            file,
            values=values,
            scales=scales,
            ch_names=np.array([names[i] for i in kept], dtype=np.str_),
            times=times,
            unit=np.array(recording.unit, dtype=np.str_),
            modality=np.array(recording.modality, dtype=np.str_),
            n_recorded=np.array(n_recorded),
            averaged=np.array(step),
        )
    return path


def _picked(signals: NDArray[np.float32]) -> NDArray[np.intp]:
    n_chans, n_times = signals.shape[1:]
    if n_chans <= (CHANNELS_MAX if n_times > 1 else BARS_MAX):
        return np.arange(n_chans)
    if n_times > 1:
        return np.unique(np.linspace(0, n_chans - 1, CHANNELS_MAX).round().astype(np.intp))
    spread = signals[:, :, 0].std(axis=0, dtype=np.float64)
    return np.sort(np.argsort(-spread, kind="stable")[:BARS_MAX])


def _thinned(signals: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
    """Neighbouring samples averaged, and how many; samples left over at the end are dropped."""
    n_queries, n_chans, n_times = signals.shape
    step = max(1, math.ceil(n_times / TIMES_MAX))
    whole = n_times // step
    return signals[..., : whole * step].reshape(n_queries, n_chans, whole, step).mean(axis=-1), step


def read_query_signals(folder: str | Path, n_queries: int) -> QuerySignals | None:
    """The signals of a run, or None where it kept none.

    Raises
    ------
    InputError
        If the file is damaged or of another run.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        return None
    keys = ("values", "scales", "ch_names", "times", "unit", "modality", "n_recorded", "averaged")
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > BYTES_MAX:
                raise InputError(f"is larger than {BYTES_MAX} bytes", where=path, hint="this is not one of our files")
        with np.load(path, allow_pickle=False) as file:
            held = {key: file[key] for key in keys}
        found = QuerySignals(
            held["values"],
            held["scales"].astype(np.float64),
            tuple(map(str, held["ch_names"])),
            held["times"].astype(np.float64),
            str(held["unit"]),
            str(held["modality"]),
            int(held["n_recorded"]),
            int(held["averaged"]),
        )
    except InputError:
        raise
    except Exception as error:  # zipfile and numpy's reader of headers raise errors of many kinds
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise InputError(f"is damaged ({reason})", where=path, hint="remove it, or run it again elsewhere") from error
    _check(found, n_queries, path)
    return found


def _check(found: QuerySignals, n_queries: int, path: Path) -> None:
    expected = (n_queries, len(found.ch_names), len(found.times))
    if found.values.dtype != np.int8 or found.values.shape != expected or found.scales.shape != (n_queries,):
        text = f"holds signals of shape {found.values.shape}, expected {expected}"
        raise InputError(text, where=path, hint="the file is of another run")
    if not (np.isfinite(found.scales).all() and np.isfinite(found.times).all()):
        raise InputError("holds scales or times that are no numbers", where=path, hint="the file is damaged")
