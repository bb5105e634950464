"""What `brainalign prepare things-eeg2` can be told, and what is published."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from brainalign.errors import InputError, unknown_name
from brainalign.recordings.epochs import Window

SCHEMA = "brainalign.prepare/1"
SEED = 20200220  # of the published scripts: which repetitions are kept, and their order
CATCH = 99999  # code of the target trials, which the subject had to report
REPETITIONS = {"train": 2, "test": 20}  # of a photo in a session
N_SESSIONS = 4
FILES = {"train": "raw_eeg_training.npy", "test": "raw_eeg_test.npy"}
STIM = "stim"
OCCIPITAL = ("P7", "P5", "P3", "P1", "Pz", "P2", "P4", "P6", "P8",
             "PO7", "PO3", "POz", "PO4", "PO8", "O1", "Oz", "O2")  # fmt: skip
_LOWEST_SFREQ = 20.0  # the reader takes times for milliseconds below this


@dataclass(frozen=True)
class PrepareSettings:
    """Settings of one prepared store; the defaults are those of the NICE scripts.

    Attributes
    ----------
    channels : str or tuple of str
        'occipital' (17, by name), 'all' (every EEG channel), or names. Kept in the order of the recording.
    tmin, tmax : float
        Seconds from the onset of the photo; the mean from tmin to 0 s is subtracted.
    sfreq : float
        Hz.
    band : (float, float), optional
        Hz; band-pass of the whole session before epochs are cut (MNE's zero-phase FIR filter).
    whitening : {'mvnn', 'none'}
        'mvnn': the inverse square root of the covariance of a session's training trials is applied to that session's
        training and test trials. 'none': microvolts.
    covariance : {'epoch', 'time'}
        See `brainalign.recordings.epoch_noise.EpochNoise`.
    fit_from : float
        Seconds; the covariance is of the samples from here on. The NICE scripts cut the time before 0 s off first.
    """

    channels: str | tuple[str, ...] = "all"
    tmin: float = -0.2
    tmax: float = 1.0
    sfreq: float = 250.0
    band: tuple[float, float] | None = None
    whitening: Literal["mvnn", "none"] = "mvnn"
    covariance: Literal["epoch", "time"] = "epoch"
    fit_from: float = 0.0
    seed: int = field(default=SEED, init=False)

    def __post_init__(self) -> None:
        numbers = (self.tmin, self.tmax, self.sfreq, self.fit_from, *(self.band or ()))
        if not all(map(math.isfinite, numbers)):
            raise InputError(f"settings hold {numbers}", where="prepare", hint="give finite numbers")
        if not self.tmin < 0 < self.tmax:
            problem = f"is {self.tmin:g} to {self.tmax:g} s, expected a time before 0 (the baseline) to one after"
            raise InputError(problem, where="--tmin, --tmax")
        if not _LOWEST_SFREQ <= self.sfreq <= 10_000:
            raise InputError(f"is {self.sfreq:g} Hz, expected {_LOWEST_SFREQ:g} to 10000", where="--sfreq")
        if not self.tmin <= self.fit_from < self.tmax:
            raise InputError(f"is {self.fit_from:g} s, expected a time of the epoch", where="--fit-from")
        if self.band is not None and not 0 < self.band[0] < self.band[1]:
            low, high = self.band
            raise InputError(f"is {low:g} to {high:g} Hz, expected 0 < low < high", where="--band")
        for kind, value, known in (
            ("whitening", self.whitening, ("mvnn", "none")),
            ("covariance", self.covariance, ("epoch", "time")),
        ):
            if value not in known:
                raise unknown_name(kind, value, known, where=f"--{kind}")
        if not self.channels or (isinstance(self.channels, tuple) and len(set(self.channels)) != len(self.channels)):
            raise InputError(f"names {self.channels!r}", where="--channels", hint="name each channel once")

    @property
    def window(self) -> Window:
        """What is cut around an onset."""
        return Window(self.tmin, self.tmax, self.sfreq)

    @property
    def unit(self) -> str:
        """Of the stored signals."""
        return "whitened" if self.whitening == "mvnn" else "uV"

    def pick(self, names: Sequence[str], kinds: Sequence[str], *, where: object) -> tuple[str, ...]:
        """The chosen channels in the order of the recording.

        Parameters
        ----------
        names, kinds : sequences of str
            `ch_names` and `ch_types` of the raw file.

        Raises
        ------
        InputError
            If a channel asked for is not there; names its neighbours.
        """
        there = [name for name, kind in zip(names, kinds, strict=True) if kind == "eeg" and name != STIM]
        if self.channels == "all":
            wanted = tuple(there)
        elif self.channels == "occipital":
            wanted = OCCIPITAL
        else:
            wanted = (self.channels,) if isinstance(self.channels, str) else self.channels
        for name in wanted:
            if name not in there:
                raise unknown_name("channel", name, there, where=where)
        if not wanted:
            raise InputError("has no EEG channel", where=where, hint=f"its ch_types are {sorted(set(kinds))}")
        return tuple(name for name in there if name in wanted)

    def as_json(self) -> dict[str, Any]:
        """Every setting, and the constants that decide the result, as JSON values."""
        channels = self.channels if isinstance(self.channels, str) else sorted(self.channels)
        band = None if self.band is None else list(self.band)
        fixed = {"baseline": [None, 0.0], "most_repetitions": dict(REPETITIONS), "catch": CATCH}
        return asdict(self) | {"channels": channels, "band": band} | fixed


def read_channels(text: str) -> str | tuple[str, ...]:
    """`occipital`, `all`, or names with commas between them.

    Examples
    --------
    >>> read_channels("O1, Oz,O2")
    ('O1', 'Oz', 'O2')
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    return names[0] if len(names) == 1 and names[0] in ("occipital", "all") else names
