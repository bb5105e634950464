"""Channels and samples a method works on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from brainalign.errors import InputError
from brainalign.recordings.recording import Recording

# The 17 occipital and parietal electrodes of the THINGS-EEG2 literature (Gifford et al. 2022).
POSTERIOR_EEG = (
    "P7", "P5", "P3", "P1", "Pz", "P2", "P4", "P6", "P8", "PO7", "PO3", "POz", "PO4", "PO8", "O1", "Oz", "O2",
)  # fmt: skip
POSTERIOR_MEG = ("MLO", "MRO", "MZO", "MLP", "MRP", "MZP")  # CTF names of occipital and parietal sensors begin so


class Selection(Protocol):
    """The part of a recipe that names channels and a window."""

    @property
    def channels(self) -> str | Sequence[str]:
        """'all', 'posterior' or names."""

    @property
    def n_channels(self) -> int | None:
        """How many of them, in one random order; None for all."""

    @property
    def tmin(self) -> float | None:
        """Seconds, inclusive."""

    @property
    def tmax(self) -> float | None:
        """Seconds, exclusive."""


def posterior_channels(recording: Recording) -> tuple[str, ...]:
    """Occipital and parietal channels, by name.

    Raises
    ------
    InputError
        If the recording has none of them.
    """
    if recording.modality == "meg":
        names = tuple(n for n in recording.ch_names if n.startswith(POSTERIOR_MEG))
    else:
        present = {n.lower(): n for n in recording.ch_names}
        names = tuple(present[n.lower()] for n in POSTERIOR_EEG if n.lower() in present)
    if not names:
        hint = "set signals.channels=all, or name the channels by the 10-10 system"
        raise InputError(
            "no posterior channel among the channel names", where=f"subject {recording.subject}", hint=hint
        )
    return names


def select_signals(recording: Recording, settings: Selection) -> Recording:
    """Apply a recipe's channels and time window; recordings without a time axis ignore the window.

    Raises
    ------
    InputError
        If a channel is missing, more are asked for than there are, or the window holds no sample.
    """
    if settings.channels == "posterior":
        recording = recording.pick(posterior_channels(recording))
    elif settings.channels != "all":
        recording = recording.pick(tuple(settings.channels))
    if settings.n_channels is not None and settings.n_channels < recording.n_chans:
        order = np.random.default_rng(0).permutation(recording.n_chans)[: settings.n_channels]
        recording = recording.pick(tuple(recording.ch_names[i] for i in sorted(order)))
    if recording.sfreq is not None and (settings.tmin is not None or settings.tmax is not None):
        recording = recording.crop(settings.tmin, settings.tmax)
    return recording
