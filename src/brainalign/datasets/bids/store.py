"""Epochs of each run as one memory map, made once; a subject is the join of its runs.

A run is the unit: an interrupted preparation goes on at the run it had reached, and a new session costs only itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from brainalign.datasets.bids.events import Shown
from brainalign.datasets.bids.options import BidsOptions
from brainalign.datasets.bids.raw import UNITS, Opened, damage, open_run
from brainalign.datasets.derived import kept_record
from brainalign.datasets.resume import file_size
from brainalign.errors import InputError
from brainalign.files import atomic_write, sha256_json, write_json
from brainalign.locks import locked
from brainalign.recordings.epochs import BLOCK_BYTES, epoch_times, resampler

SCHEMA = "brainalign.bids/1"
SIGNALS, RECORD = "epochs.f32", "epochs.json"


@dataclass(frozen=True)
class Piece:
    """The epochs of one run.

    Attributes
    ----------
    signals : array of shape (n_trials, n_chans, n_times), float32, memory-mapped
        In the units of `units`; empty for a run without trials.
    kept : tuple of int
        Image events of the run that are its trials.
    bads : frozenset of str
        Channels that channels.tsv marks bad.
    tmin : float
        Seconds from the event to the first sample.
    """

    where: str
    signals: NDArray[np.float32]
    kept: tuple[int, ...]
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    bads: frozenset[str]
    ch_pos: NDArray[np.float64] | None
    sfreq: float
    tmin: float
    n_outside: int
    n_bad_segment: int


def open_piece(shown: Shown, options: BidsOptions, cache_dir: Path) -> Piece:
    """The epochs of a run, cut the first time into `cache_dir/derived/bids/KEY/` (4 bytes a value).

    The key holds the options that change the signals, the image events, and path, size and time of change of every file
    of the run. Without `band` a run is read in blocks of 64 MiB; a filter needs the whole run in memory.

    Raises
    ------
    InputError
        If a file is damaged, options do not fit it, a value is NaN or infinite, or the disk is full.
    """
    folder = cache_dir / "derived" / "bids" / _key(shown, options)
    with locked(folder.with_suffix(".lock")):
        record = kept_record(folder, SCHEMA, record=RECORD, signals=SIGNALS)
        if record is None:
            _make(shown, options, folder)
            record = kept_record(folder, SCHEMA, record=RECORD, signals=SIGNALS)
    if record is None:
        raise InputError("was not written", where=folder, hint="give another --cache")
    try:
        return _restore(record, folder, shown.run.where)
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise InputError(f"the derived copy is damaged ({error})", where=folder, hint="remove this folder") from error


def _key(shown: Shown, options: BidsOptions) -> str:
    marks = []
    for path in shown.run.parts():
        status = path.stat()
        marks.append([str(path.resolve()), status.st_size, status.st_mtime_ns])
    signal_options = [
        options.tmin, options.tmax, options.window_baseline, options.sfreq, options.band, options.channels,
        options.bads, options.bad_segments,
    ]  # fmt: skip
    return sha256_json([SCHEMA, marks, signal_options, shown.onsets.tolist(), shown.images])[:32]


def _make(shown: Shown, options: BidsOptions, folder: Path) -> None:
    opened = open_run(shown, options)
    names = [n for n in opened.names if options.bads == "keep" or n not in opened.bads]
    if not names:
        raise InputError(
            "every channel is marked bad", where=shown.run.path, hint="see channels.tsv, or give bads=keep"
        )
    with atomic_write(folder / SIGNALS) as file:
        n_times = _write(file, opened, names, options, shown)
    places = {name: opened.raw.info["chs"][i]["loc"][:3] for i, name in enumerate(opened.raw.ch_names)}
    positions = np.array([places[name] for name in names], dtype=np.float64)
    known = bool(np.isfinite(positions).all() and np.abs(positions).max(initial=0) > 0)
    record = {
        "schema": SCHEMA,
        "source": str(shown.run.path),
        "bytes": file_size(folder / SIGNALS),
        "shape": [len(opened.kept), len(names), n_times],
        "kept": opened.kept.tolist(),
        "names": names,
        "kinds": [kind for name, kind in zip(opened.names, opened.kinds, strict=True) if name in names],
        "bads": opened.bads,
        "ch_pos": positions.tolist() if known else None,
        "sfreq": opened.window.sfreq,
        "tmin": float(epoch_times(opened.recorded, opened.window, 1)[0]),
        "n_outside": opened.n_outside,
        "n_bad_segment": opened.n_bad_segment,
    }
    write_json(folder / RECORD, record)


def _write(file: IO[bytes], opened: Opened, names: list[str], options: BidsOptions, shown: Shown) -> int:
    """Cut epochs in blocks; returns samples of each."""
    n_recorded = opened.window.n_recorded(opened.recorded)
    same = opened.window.sfreq == opened.recorded
    matrix = None if same else resampler(n_recorded, opened.recorded, opened.window.sfreq)
    raw = opened.raw
    with damage(shown.run.path):
        if options.band is not None and len(opened.kept):
            raw = raw.pick(names).load_data(verbose="ERROR").filter(*options.band, verbose="ERROR")
    kinds = dict(zip(opened.names, opened.kinds, strict=True))
    scale = np.array([UNITS[kinds[name]][0] for name in names])[:, None]
    step = max(1, BLOCK_BYTES // (8 * len(raw.ch_names) * n_recorded))
    for start in range(0, len(opened.kept), step):
        with damage(shown.run.path):
            block = _cut(raw, opened.samples[start : start + step], names, options)
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is infinite, refused in the next lines
            narrow = np.ascontiguousarray((block if matrix is None else block @ matrix) * scale, dtype="<f4")
        if not np.isfinite(narrow).all():
            trial, channel = np.argwhere(~np.isfinite(narrow))[0][:2]
            problem = f"NaN or infinity in the signals of this trial, channel '{names[channel]}'"
            hint = f"mark the channel bad in channels.tsv, or mend {shown.run.path.name}"
            raise shown.problem(int(opened.kept[start + trial]), problem, hint)
        file.write(narrow.data)
    return n_recorded if matrix is None else int(matrix.shape[1])


def _cut(raw: Any, samples: NDArray[np.int64], names: list[str], options: BidsOptions) -> NDArray[np.float64]:
    """Epochs of some events as `mne.Epochs` cuts them, baseline subtracted; (n, n_chans, n_times)."""
    import mne

    events = np.zeros((len(samples), 3), dtype=np.int64)
    events[:, 0], events[:, 2] = samples, 1
    epochs = mne.Epochs(
        raw,
        events,
        tmin=options.tmin,
        tmax=options.tmax,
        baseline=options.window_baseline,
        picks=names,
        preload=True,
        reject_by_annotation=False,  # done before, where events are counted
        on_outside="ignore",
        verbose="ERROR",
    )
    if len(epochs) != len(samples):
        raise ValueError(f"{len(samples) - len(epochs)} trials cannot be read")
    # MNE puts the channels into its own order of kinds.
    data: NDArray[np.float64] = epochs.get_data(copy=False)[:, [epochs.ch_names.index(name) for name in names]]
    return data


def _restore(record: dict[str, Any], folder: Path, where: str) -> Piece:
    shape = tuple(int(n) for n in record["shape"])
    if 4 * int(np.prod(shape)) != record["bytes"] or len(record["names"]) != shape[1]:
        raise ValueError(f"shape {shape} does not fit")
    empty = np.empty(shape, dtype=np.float32)
    return Piece(
        where=where,
        signals=np.memmap(folder / SIGNALS, dtype="<f4", mode="r", shape=shape) if 0 not in shape else empty,
        kept=tuple(record["kept"]),
        names=tuple(record["names"]),
        kinds=tuple(record["kinds"]),
        bads=frozenset(record["bads"]),
        ch_pos=None if record["ch_pos"] is None else np.array(record["ch_pos"], dtype=np.float64),
        sfreq=float(record["sfreq"]),
        tmin=float(record["tmin"]),
        n_outside=int(record["n_outside"]),
        n_bad_segment=int(record["n_bad_segment"]),
    )


# --- a subject ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Joined:
    """Epochs of several runs, one behind the other, each read where it lies."""

    pieces: tuple[NDArray[np.float32], ...]
    picks: tuple[NDArray[np.intp], ...]
    starts: NDArray[np.intp]

    @property
    def shape(self) -> tuple[int, ...]:
        """(n_trials, n_chans, n_times)."""
        return (int(self.starts[-1]), len(self.picks[0]), self.pieces[0].shape[2])

    def __getitem__(self, rows: Any, /) -> NDArray[np.float32]:
        wanted = np.asarray(rows, dtype=np.intp)
        result = np.empty((len(wanted), *self.shape[1:]), dtype=np.float32)
        of = np.searchsorted(self.starts, wanted, side="right") - 1
        for piece in np.unique(of):
            here = np.flatnonzero(of == piece)
            result[here] = self.pieces[piece][wanted[here] - self.starts[piece]][:, self.picks[piece]]
        return result


def join_pieces(pieces: Sequence[Piece], options: BidsOptions) -> tuple[Joined, tuple[str, ...]]:
    """Trials of all runs in the channels they share: a channel that is bad in one run is left out of all.

    Returns
    -------
    signals : Joined
    names : tuple of str

    Raises
    ------
    InputError
        If runs differ in rate, window or channels, or no channel is left.
    """
    first = pieces[0]
    bads = frozenset().union(*(piece.bads for piece in pieces)) if options.bads == "drop" else frozenset()
    names = tuple(name for name in first.names if name not in bads)
    if not names:
        problem = "every channel is marked bad in some run"
        raise InputError(problem, where=first.where, hint="see channels.tsv, or give bads=keep")
    for piece in pieces[1:]:
        _check_agrees(first, piece, names, bads)
    rows = [{name: i for i, name in enumerate(piece.names)} for piece in pieces]
    picks = tuple(np.array([row[name] for name in names], dtype=np.intp) for row in rows)
    starts = np.cumsum([0, *(len(piece.signals) for piece in pieces)], dtype=np.intp)
    return Joined(tuple(piece.signals for piece in pieces), picks, starts), names


def _check_agrees(first: Piece, other: Piece, names: tuple[str, ...], bads: frozenset[str]) -> None:
    if other.sfreq != first.sfreq:
        problem = f"has {other.sfreq:g} Hz, {first.where} {first.sfreq:g} Hz"
        raise InputError(problem, where=other.where, hint="give a rate that both reach: --data-option sfreq=HZ")
    if other.signals.shape[2] != first.signals.shape[2] or abs(other.tmin - first.tmin) > 0.5 / first.sfreq:
        problem = f"gives {other.signals.shape[2]} samples a trial, {first.where} {first.signals.shape[2]}"
        raise InputError(problem, where=other.where, hint="choose a window and a rate that fit both")
    there = {name for name in other.names if name not in bads}
    if odd := sorted(there ^ set(names)):
        has, lacks = (other, first) if odd[0] in there else (first, other)
        others = f" (and {len(odd) - 1} others)" if len(odd) > 1 else ""
        problem = f"lacks the channel '{odd[0]}'{others} that {Path(has.where).name} has"
        raise InputError(
            problem, where=lacks.where, hint="name channels that all runs have: --data-option channels=A,B"
        )
