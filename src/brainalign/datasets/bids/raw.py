"""Opening a run through MNE-BIDS: channels with types, units and positions, bad ones marked, and its image events."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brainalign.datasets.bids.events import Shown, read_tsv
from brainalign.datasets.bids.layout import Run
from brainalign.datasets.bids.options import BidsOptions
from brainalign.datasets.folder_tables import Table
from brainalign.errors import InputError, unknown_name
from brainalign.files import read_json
from brainalign.recordings.epochs import Window, inside

if TYPE_CHECKING:
    import mne

# MNE counts in volts, tesla and tesla a metre.
UNITS = {
    "eeg": (1e6, "uV"), "seeg": (1e6, "uV"), "ecog": (1e6, "uV"), "dbs": (1e6, "uV"),
    "mag": (1e15, "fT"), "grad": (1e13, "fT/cm"),
}  # fmt: skip
KINDS = {"eeg": ("eeg",), "meg": ("mag", "grad"), "ieeg": ("seeg", "ecog", "dbs")}
_SHORTER_S = 1.0
_BAD = "BAD"


@dataclass(frozen=True)
class Opened:
    """A run, its channels and its trials; no signal is read yet.

    Attributes
    ----------
    names, kinds : list of str
        Channels taken, and MNE's word for what each is.
    bads : list of str
        Those of them that channels.tsv marks bad.
    window : Window
    kept : array of int
        Image events that become trials; the others leave the recording or touch a bad segment.
    samples : array of int
        Sample of each kept event.
    """

    raw: mne.io.BaseRaw
    names: list[str]
    kinds: list[str]
    bads: list[str]
    window: Window
    kept: NDArray[np.intp]
    samples: NDArray[np.int64]
    n_outside: int
    n_bad_segment: int

    @property
    def recorded(self) -> float:
        """Hz."""
        return float(self.raw.info["sfreq"])


def open_run(shown: Shown, options: BidsOptions) -> Opened:
    """Read the headers of a run and find its trials.

    Raises
    ------
    InputError
        If a file is damaged or cut off, or options do not fit it.
    """
    run = shown.run
    sidecar, listed = _sidecar(run), _listed(run)
    with damage(run.path):
        raw = _read(run)
    _check_length(raw, run, sidecar)
    _check_listed(raw, run, listed)
    names, kinds = _channels(raw, run, options)
    try:
        window = options.window(float(raw.info["sfreq"]))
    except InputError as error:
        raise InputError(error.problem, where=run.path, hint=error.hint) from error
    _check_band(raw, run, options)
    samples = _samples(raw, shown)
    relative = samples - raw.first_samp
    within = inside(relative, raw.n_times, float(raw.info["sfreq"]), window)
    bad = _touches_bad(raw, relative, window) if options.bad_segments == "drop" else np.zeros(len(samples), bool)
    kept = np.flatnonzero(within & ~bad)
    return Opened(
        raw,
        names,
        kinds,
        [name for name in names if name in raw.info["bads"]],
        window,
        kept,
        samples[kept],
        int((~within).sum()),
        int((within & bad).sum()),
    )


@contextlib.contextmanager
def damage(path: Path) -> Iterator[None]:
    """What MNE raises on damaged files, in one line; its warnings are not for the reader of a program's output.

    Raises
    ------
    InputError
        For whatever fails in the block.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # damaged files raise errors of many kinds
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"cannot be read ({reason})", where=path, hint="get it and its sidecar files anew") from error


def _read(run: Run) -> mne.io.BaseRaw:
    try:
        import mne
        import mne_bids
    except ImportError as error:
        raise InputError("needs MNE-BIDS", where=run.root, hint="pip install 'brainalign[bids]'") from error
    path = mne_bids.get_bids_path_from_fname(run.path, check=False, verbose="ERROR").update(root=run.root)
    with mne.utils.use_log_level("ERROR"):
        raw: mne.io.BaseRaw = mne_bids.read_raw_bids(path, verbose="ERROR")
    return raw


def _sidecar(run: Run) -> dict[str, Any]:
    """`*_eeg.json` or the like; empty if there is none."""
    path = run.beside(f"{run.datatype}.json")
    content = read_json(path) if path is not None else {}
    if not isinstance(content, dict):
        raise InputError("is not a JSON object", where=path, hint="get it anew")
    return content


def _listed(run: Run) -> Table | None:
    """`*_channels.tsv`, if there is one; MNE-BIDS passes over a damaged one."""
    path = run.beside("channels.tsv")
    table = read_tsv(path) if path is not None else None
    if table is not None and "name" not in table.columns:
        raise InputError("has no column 'name'", where=path, hint=f"it has {', '.join(table.columns)}")
    return table


def _check_length(raw: mne.io.BaseRaw, run: Run, sidecar: dict[str, Any]) -> None:
    """The sidecar says how long the recording was: readers take a file that was cut off for a short one."""
    said, found = sidecar.get("RecordingDuration"), raw.n_times / float(raw.info["sfreq"])
    if isinstance(said, int | float) and found < said - _SHORTER_S:
        problem = f"lasts {found:.1f} s, {run.prefix}_{run.datatype}.json says {said:.1f} s"
        raise InputError(problem, where=run.path, hint="the file is cut off; get it anew")


def _check_listed(raw: mne.io.BaseRaw, run: Run, listed: Table | None) -> None:
    if listed is None:
        return
    names = set(listed.columns["name"])
    for name, kind in zip(raw.ch_names, raw.get_channel_types(), strict=True):
        if kind in KINDS[run.datatype] and name not in names:
            hint = f"{run.path.name} has it: get both files anew"
            raise InputError(f"lists no channel '{name}'", where=listed.path, hint=hint)


def _channels(raw: mne.io.BaseRaw, run: Run, options: BidsOptions) -> tuple[list[str], list[str]]:
    kinds = dict(zip(raw.ch_names, raw.get_channel_types(), strict=True))
    there = [name for name, kind in kinds.items() if kind in KINDS[run.datatype]]
    if not there:
        problem = f"holds no {run.datatype} channel, only {', '.join(sorted(set(kinds.values())))}"
        raise InputError(problem, where=run.path, hint="see the column 'type' of its channels.tsv")
    wanted = set()
    for word in options.channels:
        if word not in there and word not in kinds.values():
            raise unknown_name("channel", word, there, where=run.path)
        wanted |= {word} if word in there else {name for name in there if kinds[name] == word}
    names = [name for name in there if not wanted or name in wanted]
    return names, [kinds[name] for name in names]


def _check_band(raw: mne.io.BaseRaw, run: Run, options: BidsOptions) -> None:
    highest = max((edge for edge in options.band or () if edge is not None), default=0.0)
    if highest >= raw.info["sfreq"] / 2:
        problem = f"was recorded at {raw.info['sfreq']:g} Hz, band={highest:g} asked for"
        raise InputError(problem, where=run.path, hint="a filter can end below half the rate")


def _samples(raw: mne.io.BaseRaw, shown: Shown) -> NDArray[np.int64]:
    """Sample of each image event, counted as MNE does: the nearest one."""
    sfreq = float(raw.info["sfreq"])
    lasts = raw.n_times / sfreq
    for event in np.flatnonzero((shown.onsets < -lasts) | (shown.onsets > lasts))[:1]:
        problem = f"onset is {shown.onsets[event]:g}, the recording lasts {lasts:.1f} s"
        raise shown.problem(int(event), problem, "onsets are seconds; or the recording is cut off")
    samples: NDArray[np.int64] = np.rint(shown.onsets * sfreq).astype(np.int64) + raw.first_samp
    for event in np.flatnonzero(np.diff(samples) == 0)[:1] + 1:
        problem = f"falls on the sample of line {shown.table.lines[shown.rows[event - 1]]}"
        raise shown.problem(int(event), problem, "one image at a time; choose the rows with where=COLUMN=VALUE")
    return samples


def _touches_bad(raw: mne.io.BaseRaw, relative: NDArray[np.int64], window: Window) -> NDArray[np.bool_]:
    """Whether an epoch overlaps a segment whose name begins with `BAD`, as `mne.Epochs` asks; (n_events,)."""
    sfreq = float(raw.info["sfreq"])
    start = relative + window.first(sfreq)
    stop = start + window.n_recorded(sfreq)
    touches = np.zeros(len(relative), dtype=bool)
    shift = raw.first_time if raw.annotations.orig_time is not None else 0.0
    for onset, duration, name in zip(
        raw.annotations.onset, raw.annotations.duration, raw.annotations.description, strict=True
    ):
        if str(name).upper().startswith(_BAD):
            first = round((onset - shift) * sfreq)
            touches |= (start < first + round(duration * sfreq)) & (stop > first)
    return touches
