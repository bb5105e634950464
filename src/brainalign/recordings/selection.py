"""Channels and samples a method works on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from brainalign.errors import InputError, unknown_name
from brainalign.recordings.recording import Recording

if TYPE_CHECKING:
    import pandas as pd

# The 17 occipital and parietal electrodes of the THINGS-EEG2 literature (Gifford et al. 2022).
POSTERIOR_EEG = (
    "P7", "P5", "P3", "P1", "Pz", "P2", "P4", "P6", "P8", "PO7", "PO3", "POz", "PO4", "PO8", "O1", "Oz", "O2",
)  # fmt: skip
POSTERIOR_MEG = ("MLO", "MRO", "MZO", "MLP", "MRP", "MZP")  # CTF names of occipital and parietal sensors begin so
REGION = "roi:"  # of the channel table: a column of booleans with that name, or that value in the column 'region'
HIGHEST = "top:"  # the channels with the highest values of a column of the channel table


class Selection(Protocol):
    """The part of a recipe that names channels and a window."""

    @property
    def channels(self) -> str | Sequence[str]:
        """'all', 'posterior', 'roi:V1,V2', or a list of names, 'roi:V1' and 'top:COLUMN'."""

    @property
    def n_channels(self) -> int | None:
        """How many of them, in one random order, or the highest where 'top:' is listed; None for all."""

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


def region_channels(recording: Recording, regions: Sequence[str]) -> tuple[str, ...]:
    """Channels of any of some regions, by the channel table, in the order of the recording.

    Raises
    ------
    InputError
        If there is no channel table, a region is in none of its columns, or no channel is in one.
    """
    table, inside = _table(recording), np.zeros(recording.n_chans, dtype=bool)
    known = _regions(recording)
    for region in regions:
        if region not in known:
            raise unknown_name("region", region, known, where=f"subject {recording.subject}")
        inside |= (table[region] if region in table.columns else table["region"] == region).to_numpy(dtype=bool)
    if not inside.any():
        hint = "name another region"
        raise InputError(f"no channel in {', '.join(regions)}", where=f"subject {recording.subject}", hint=hint)
    return tuple(name for name, chosen in zip(recording.ch_names, inside, strict=True) if chosen)


def highest_channels(recording: Recording, column: str, count: int) -> tuple[str, ...]:
    """The channels with the highest values of a column of the channel table, in the order of the recording.

    Missing values come last. A noise ceiling computed from test trials makes this a choice made with test signals.

    Raises
    ------
    InputError
        If there is no such column of numbers.
    """
    table = _table(recording)
    numbers = [n for n in map(str, table.columns) if table[n].dtype.kind in "fiu"]
    if column not in numbers:
        raise unknown_name("column of numbers", column, numbers, where=f"channel table of subject {recording.subject}")
    values = np.nan_to_num(table[column].to_numpy(dtype=np.float64), nan=-np.inf)
    chosen = np.sort(np.argsort(-values, kind="stable")[:count])
    return tuple(recording.ch_names[i] for i in chosen)


def _table(recording: Recording) -> pd.DataFrame:
    if recording.channels is None:
        hint = "give signals.channels=all or the channels' names"
        raise InputError("there is no channel table", where=f"subject {recording.subject}", hint=hint)
    return recording.channels


def _regions(recording: Recording) -> list[str]:
    table = _table(recording)
    named = sorted(set(table["region"]) - {""}) if "region" in table.columns else []
    return [str(name) for name in table.columns if table[name].dtype.kind == "b"] + named


def _pick(recording: Recording, settings: Selection) -> Recording:
    """Names and regions together; then the highest, or some in one random order."""
    wanted = [settings.channels] if isinstance(settings.channels, str) else list(settings.channels)
    if wanted == ["posterior"]:
        recording = recording.pick(posterior_channels(recording))
    regions = [name for word in wanted if word.startswith(REGION) for name in word.removeprefix(REGION).split(",")]
    columns = [word.removeprefix(HIGHEST) for word in wanted if word.startswith(HIGHEST)]
    names = [w for w in wanted if not w.startswith((REGION, HIGHEST)) and wanted not in (["all"], ["posterior"])]
    if regions:
        names = list(dict.fromkeys((*region_channels(recording, [r.strip() for r in regions]), *names)))
    if names:
        recording = recording.pick(names)
    if columns and (len(columns) > 1 or settings.n_channels is None):
        problem = f"'{HIGHEST}{columns[-1]}' needs a number of channels and stands alone"
        raise InputError(problem, where="signals.channels", hint="set signals.n_channels")
    if settings.n_channels is None or settings.n_channels >= recording.n_chans:
        return recording
    if columns:
        return recording.pick(highest_channels(recording, columns[0], settings.n_channels))
    order = np.random.default_rng(0).permutation(recording.n_chans)[: settings.n_channels]
    return recording.pick(tuple(recording.ch_names[i] for i in sorted(order)))


def select_signals(recording: Recording, settings: Selection) -> Recording:
    """Apply a recipe's channels and time window; recordings without a time axis ignore the window.

    Raises
    ------
    InputError
        If a channel or region is missing, or the window holds no sample.
    """
    recording = _pick(recording, settings)
    if recording.sfreq is not None and (settings.tmin is not None or settings.tmax is not None):
        recording = recording.crop(settings.tmin, settings.tmax)
    return recording
