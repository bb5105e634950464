"""What a trained model takes, and fitting new signals to it: channels by name, window and sampling rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import InputError

SHIFT_MAX = 0.5  # of a sample: how far a sample of the file may lie from the one of the run
UNUSUAL = 20.0  # a training signal has a mean square of 1 in its own units; beyond this factor something is wrong


@dataclass(frozen=True)
class SignalFormat:
    """Channels and samples that a model was trained on.

    Attributes
    ----------
    ch_names : tuple of str
    n_times : int
    sfreq : float or None
        Hz; None where there is no time axis.
    tmin : float
        Seconds from stimulus onset to the first sample.
    modality : str
    """

    ch_names: tuple[str, ...]
    n_times: int
    sfreq: float | None
    tmin: float
    modality: str

    @classmethod
    def of(cls, facts: Mapping[str, Any], modality: str) -> SignalFormat:
        """As an aligner's facts have it."""
        return cls(tuple(facts["ch_names"]), int(facts["n_times"]), facts["sfreq"], float(facts["tmin"]), modality)

    @property
    def times(self) -> NDArray[np.float64]:
        """Seconds from stimulus onset, (n_times,)."""
        return self.tmin + np.arange(self.n_times) / (self.sfreq or 1.0)

    @property
    def words(self) -> str:
        """For messages: `17 channels x 100 samples (100 Hz from 0 s)`."""
        axis = f" x {self.n_times} samples ({self.sfreq:g} Hz from {self.tmin:g} s)" if self.sfreq else ""
        return f"{len(self.ch_names)} channels{axis}"


@dataclass(frozen=True)
class NewSignals:
    """Signals a model has never seen, as it takes them.

    Attributes
    ----------
    signals : array of shape (n, n_chans, n_times), float32
    names : tuple of str
        One a signal.
    notes : tuple of str
        What was done to them, and what looks odd.
    """

    signals: NDArray[np.float32]
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def match_channels(names: Sequence[str], wanted: SignalFormat, where: object) -> list[int]:
    """Where each channel of the model stands among the channels of a file; case does not matter.

    Raises
    ------
    InputError
        If one is missing, or a name stands twice.
    """
    place = {name.lower(): i for i, name in enumerate(names)}
    if len(place) < len(names):
        raise InputError("a channel name stands twice", where=where, hint="give every channel its own name")
    missing = [name for name in wanted.ch_names if name.lower() not in place]
    if missing:
        text = f"lacks {len(missing)} of the run's {len(wanted.ch_names)} channels, first '{missing[0]}'"
        known = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        raise InputError(text, where=where, hint=f"it has {known}")
    return [place[name.lower()] for name in wanted.ch_names]


def fit_window(
    signals: NDArray[Any], sfreq: float | None, tmin: float | None, wanted: SignalFormat, where: object
) -> tuple[NDArray[np.float32], list[str]]:
    """Resample and crop signals (n, n_chans, n_times) to the model's samples.

    Returns
    -------
    tuple of array and list of str
        The signals, and what was done.

    Raises
    ------
    InputError
        If rate and first sample are needed and not known, or the window is not covered.
    """
    n_times = signals.shape[2]
    if wanted.sfreq is None:
        if n_times != wanted.n_times:
            raise InputError(f"has {n_times} samples a signal, the run takes {wanted.words}", where=where)
        return np.array(signals, dtype=np.float32), []
    if sfreq is None and tmin is None and n_times == wanted.n_times:
        return np.array(signals, dtype=np.float32), []
    if sfreq is None or tmin is None:
        hint = "give --sfreq and --tmin of the file: it is then cropped and resampled"
        raise InputError(f"has {n_times} samples a signal, the run takes {wanted.words}", where=where, hint=hint)
    if sfreq <= 0 or not np.isfinite(sfreq):
        raise InputError(f"the sampling rate is {sfreq}", where="--sfreq", hint="give it in Hz")
    notes = []
    if abs(sfreq - wanted.sfreq) > 1e-6 * wanted.sfreq:
        signals = _resample(signals, sfreq, wanted.sfreq)
        notes.append(f"resampled from {sfreq:g} to {wanted.sfreq:g} Hz")
    shift = (wanted.tmin - tmin) * wanted.sfreq
    first = round(shift)
    if first < 0 or first + wanted.n_times > signals.shape[2]:
        last = tmin + (n_times - 1) / sfreq
        end = float(wanted.times[-1])
        text = f"spans {tmin:g} to {last:g} s, the run takes {wanted.tmin:g} to {end:g} s from stimulus onset"
        raise InputError(text, where=where, hint="cut the epochs wider")
    if abs(shift - first) > 0.01:
        late = (first - shift) / wanted.sfreq
        notes.append(f"samples lie {1000 * late:.1f} ms from those of the run, less than half a sample")
    if signals.shape[2] != wanted.n_times:
        notes.append(f"cropped to {wanted.tmin:g} to {float(wanted.times[-1]):g} s")
    return np.array(signals[:, :, first : first + wanted.n_times], dtype=np.float32), notes


def _resample(signals: NDArray[Any], recorded: float, sfreq: float) -> NDArray[np.float64]:
    """As MNE resamples epochs (FFT, edges padded)."""
    from brainalign.recordings.epochs import resampler

    found: NDArray[np.float64] = np.asarray(signals, dtype=np.float64) @ resampler(signals.shape[2], recorded, sfreq)
    return found


def look_at(signals: NDArray[Any], transform: Any, where: object) -> list[str]:
    """What is odd about signals (n, n_chans, n_times) ahead of a model: units, and values it cannot take.

    Parameters
    ----------
    transform : SignalTransform
        Of the model.

    Raises
    ------
    InputError
        For NaN or infinity, or negative values where the model takes counts.
    """
    import torch

    if not np.isfinite(signals).all():
        row, channel = np.argwhere(~np.isfinite(signals))[0][:2]
        text = f"holds NaN or infinity, first in signal {row}, channel {channel}"
        raise InputError(text, where=where, hint="interpolate or drop it")
    if transform.sqrt and signals.min() < 0:
        raise InputError("holds negative values, the run takes counts", where=where, hint="give raw spike counts")
    values = transform(torch.from_numpy(np.asarray(signals[:1000], dtype=np.float32)))
    size = float(values.square().mean().sqrt())
    scaled = transform.scale.numel() > 1
    if scaled and not 1 / UNUSUAL < size < UNUSUAL:
        return [f"signals are {size:.2g} times as large as those of training: check their unit and their scaling"]
    return []
