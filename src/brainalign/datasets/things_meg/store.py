"""Epochs of a subject as one memory map, made once: `.fif` parts are streamed, never held in memory as a whole."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainalign.datasets.derived import check_copy_room, kept_record
from brainalign.datasets.resume import file_size
from brainalign.datasets.things_meg.files import SubjectFiles
from brainalign.datasets.things_meg.trials import CATCH_EVENT, COLUMNS, check_columns, read_table, trial_rows
from brainalign.errors import InputError
from brainalign.files import atomic_write, sha256_json, write_json
from brainalign.locks import locked

if TYPE_CHECKING:
    import mne

SCHEMA = "brainalign.things-meg/1"
BLOCK_BYTES = 64 * 2**20
_TESLA_BELOW = 1e-6  # the published epochs are z-scored to the baseline; in tesla they would be about 1e-13

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Epochs:
    """What a recording is made from.

    Attributes
    ----------
    signals : array of shape (n_trials, n_chans, n_times), float32, memory-mapped
    trials : DataFrame
        `stimulus_id`, `part`, `session`, `run`.
    n_catch : int
        Catch trials left out.
    """

    signals: NDArray[np.float32]
    trials: pd.DataFrame
    ch_names: tuple[str, ...]
    ch_pos: NDArray[np.float64] | None
    sfreq: float
    tmin: float
    unit: str
    n_catch: int


def open_epochs(files: SubjectFiles, cache_dir: Path, progress: Progress | None = None) -> Epochs:
    """Open a subject; the first time its epochs are copied into `cache_dir/derived/things-meg/KEY/`.

    The key holds path, size and time of change of every file. The copy takes 4 bytes a value on the disk (8.2 GB for a
    published subject) and about 150 MB of memory while it is made.

    Raises
    ------
    InputError
        If a file is missing or damaged, the table contradicts the recording, a value is NaN or infinite, or the disk is
        too small.
    """
    folder = cache_dir / "derived" / "things-meg" / _key(files)
    with locked(folder.with_suffix(".lock")):
        record = kept_record(folder, SCHEMA)
        if record is None:
            _make(files, folder, progress)
            record = kept_record(folder, SCHEMA)
    if record is None:
        raise InputError("was not written", where=folder, hint="give another --cache")
    try:
        return _restore(record, folder)
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise InputError(f"the derived copy is damaged ({error})", where=folder, hint="remove this folder") from error


def describe_epochs(files: SubjectFiles) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Trials and facts of a subject without reading its signals; the errors are those of `open_epochs`."""
    with _damage(files.parts[0]):
        source = _read_epochs(files)
    trials = _trials(source, files)
    facts = {
        "n_epochs": len(source),
        "n_chans": len(_picks(source, files.parts[0])),
        "n_times": len(source.times),
        "sfreq": float(source.info["sfreq"]),
        "tmin": float(source.tmin),
        "tmax": float(source.tmax),
        "n_catch": int((source.events[:, 2] == CATCH_EVENT).sum()),
    }
    return trials, facts


def _key(files: SubjectFiles) -> str:
    marks = [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in files.all]
    return sha256_json([SCHEMA, marks])[:32]


@contextlib.contextmanager
def _damage(path: Path) -> Iterator[None]:
    """What MNE raises on damaged files, in one line."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        missing = Path(str(error).partition('"')[2].partition('"')[0] or str(error)).name
        raise InputError(f"goes on in {missing}, which is not there", where=path, hint="get every part") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        problem = f"is not a whole file of epochs ({reason})"
        raise InputError(problem, where=path, hint="get it and its further parts anew") from error


def _read_epochs(files: SubjectFiles) -> mne.BaseEpochs:
    try:
        import mne
    except ImportError as error:
        raise InputError("needs MNE", where=files.parts[0], hint="pip install 'brainalign[meeg]'") from error
    source = mne.read_epochs(files.parts[0], proj=False, preload=False, verbose="ERROR")
    if not len(source):
        raise InputError("holds no epoch", where=files.parts[0], hint="get it anew")
    return source


def _picks(source: mne.BaseEpochs, where: Path) -> NDArray[np.int64]:
    import mne

    picks: NDArray[np.int64] = mne.pick_types(source.info, meg=True, ref_meg=False, exclude="bads")
    if not len(picks):
        raise InputError(
            f"holds no MEG channel, only {sorted(set(source.get_channel_types()))}", where=where, hint="get it anew"
        )
    return picks


def _trials(source: mne.BaseEpochs, files: SubjectFiles) -> pd.DataFrame:
    """From the table that the epochs carry, else from the file beside them."""
    carried = source.metadata
    if carried is not None and all(name in carried.columns for name in COLUMNS):
        table, where = check_columns(carried, files.parts[0]), files.parts[0]
    elif files.table is not None:
        table, where = read_table(files.table), files.table
    else:
        name = files.parts[0].name.replace("preprocessed", "sample_attributes").replace("-epo.fif", ".csv")
        raise InputError("carries no table of trials", where=files.parts[0], hint=f"put {name} into sourcedata/")
    if len(table) != len(source):
        problem = f"has {len(table)} rows, the recording has {len(source)} epochs"
        raise InputError(problem, where=where, hint="parts are missing, or both are of different versions")
    return trial_rows(table, np.asarray(source.events[:, 2], dtype=np.int64), where)


def _make(files: SubjectFiles, folder: Path, progress: Progress | None) -> None:
    first = files.parts[0]
    with _damage(first):
        source = _read_epochs(files)
        picks = _picks(source, first)
    trials = _trials(source, files)
    shape = (len(trials), len(picks), len(source.times))
    check_copy_room(folder, 4 * int(np.prod(shape)))
    with atomic_write(folder / "trials.npy") as file:
        scale = _write(file, source, trials, picks, shape, first, progress)
    positions = np.array([source.info["chs"][p]["loc"][:3] for p in picks], dtype=np.float64)
    known = bool(np.isfinite(positions).all() and np.abs(positions).max(initial=0) > 0)
    record = {
        "schema": SCHEMA,
        "sources": [str(path) for path in files.all],
        "bytes": file_size(folder / "trials.npy"),
        "ch_names": [source.ch_names[p] for p in picks],
        "ch_pos": positions.tolist() if known else None,
        "sfreq": float(source.info["sfreq"]),
        "tmin": float(source.tmin),
        "unit": "fT" if scale != 1 else "z",
        "n_catch": int((source.events[:, 2] == CATCH_EVENT).sum()),
        "trials": {name: trials[name].tolist() for name in ("stimulus_id", "part", "session", "run")},
    }
    write_json(folder / "trials.json", record)


def _write(
    file: IO[bytes],
    source: mne.BaseEpochs,
    trials: pd.DataFrame,
    picks: NDArray[np.int64],
    shape: tuple[int, ...],
    where: Path,
    progress: Progress | None,
) -> float:
    """Copy trials in blocks; returns the factor they were multiplied by."""
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    rows = trials["row"].to_numpy()
    step = max(1, BLOCK_BYTES // (8 * len(source.ch_names) * shape[2]))
    scale = 0.0
    for start in range(0, len(rows), step):
        wanted = rows[start : start + step]
        with _damage(where):
            block = source.get_data(item=wanted, copy=False, verbose="ERROR")[:, picks]
        scale = scale or (1e15 if np.median(np.abs(block)) < _TESLA_BELOW and block.any() else 1.0)
        with np.errstate(over="ignore"):  # an overflow becomes infinity, refused in the next lines
            narrow = np.ascontiguousarray(block * scale if scale != 1 else block, dtype="<f4")
        if not np.isfinite(narrow).all():
            trial, channel = np.argwhere(~np.isfinite(narrow))[0][:2]
            place = f"epoch {wanted[trial]}, channel '{source.ch_names[picks[channel]]}'"
            raise InputError(f"holds NaN or infinity, first in {place}", where=where, hint="get the file anew")
        file.write(narrow.data)
        if progress is not None:
            progress(min(start + step, len(rows)), len(rows))
    return scale


def _restore(record: dict[str, Any], folder: Path) -> Epochs:
    return Epochs(
        signals=np.load(folder / "trials.npy", mmap_mode="r", allow_pickle=False),
        trials=pd.DataFrame(record["trials"]),
        ch_names=tuple(record["ch_names"]),
        ch_pos=None if record["ch_pos"] is None else np.array(record["ch_pos"], dtype=np.float64),
        sfreq=float(record["sfreq"]),
        tmin=float(record["tmin"]),
        unit=str(record["unit"]),
        n_catch=int(record["n_catch"]),
    )
