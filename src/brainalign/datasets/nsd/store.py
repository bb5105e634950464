"""Betas of a subject, z-scored within sessions: one memory map a session, made once in blocks of trials.

Sessions are kept one by one, so that an interrupted copy goes on and a session that is added later is copied alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainalign.datasets.derived import check_copy_room, kept_record
from brainalign.datasets.nsd.design import TRIALS_A_SESSION
from brainalign.datasets.nsd.hdf5 import open_array
from brainalign.datasets.resume import file_size
from brainalign.errors import InputError
from brainalign.files import atomic_write, sha256_json, write_json
from brainalign.locks import locked

SCHEMA = "brainalign.nsd/1"
BETAS = "betas"
SCALE = 300.0  # betas are stored as percent signal change times 300
BLOCK_BYTES = 64 * 2**20

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SessionStack:
    """Sessions one after another as one source of trials.

    Attributes
    ----------
    sessions : sequence of arrays of shape (750, n_voxels, 1), memory-mapped
    """

    sessions: Sequence[NDArray[np.float32]]

    @property
    def shape(self) -> tuple[int, ...]:
        """(n_trials, n_voxels, 1)."""
        return (TRIALS_A_SESSION * len(self.sessions), *self.sessions[0].shape[1:])

    def __getitem__(self, rows: Any, /) -> NDArray[np.float32]:
        """Trials by an integer array, (len(rows), n_voxels, 1)."""
        wanted = np.asarray(rows, dtype=np.intp)
        session, trial = np.divmod(wanted, TRIALS_A_SESSION)
        found = np.empty((len(wanted), *self.shape[1:]), dtype=np.float32)
        for number in np.unique(session):
            chosen = session == number
            found[chosen] = self.sessions[number][trial[chosen]]
        return found


def volume_shape(path: Path) -> tuple[int, int, int]:
    """Shape (z, y, x) of the volumes of a session; reads no beta.

    Raises
    ------
    InputError
        If the file is damaged or holds no such volumes.
    """
    with open_array(path, BETAS, "int16", (TRIALS_A_SESSION, None, None, None)) as betas:
        z, y, x = betas.shape[1:]
        return int(z), int(y), int(x)


def open_sessions(
    betas: Sequence[Path],
    voxels: pd.DataFrame,
    shape: tuple[int, int, int],
    train: NDArray[np.bool_],
    cache_dir: Path,
    progress: Progress | None = None,
) -> tuple[SessionStack, NDArray[np.bool_]]:
    """Open a subject's sessions; those not yet in `cache_dir/derived/nsd/` are copied there.

    Parameters
    ----------
    betas : sequence of n Path
    voxels : DataFrame
        See `read_voxels`.
    shape : tuple of 3 int
        Of the volumes, (z, y, x).
    train : bool array of shape (750 n,)
        Trials whose mean and standard deviation make the z-scores of their session: those of images that are not
        tested, so that no statistic of test signals reaches them.

    Returns
    -------
    signals : SessionStack
    varies : bool array of shape (n_voxels,)
        Voxels that are not constant in every session. A constant one is 0 in that session.

    Raises
    ------
    InputError
        If a file is damaged or of another shape, holds no signal, or the disk is too small.
    """
    signals, varies = [], np.zeros(len(voxels), dtype=bool)
    missing = sum(
        not kept_record(_folder(path, voxels, part, cache_dir), SCHEMA) for path, part in _pairs(betas, train)
    )
    check_copy_room(cache_dir, 4 * TRIALS_A_SESSION * len(voxels) * missing)
    for number, (path, part) in enumerate(_pairs(betas, train), start=1):
        folder = _folder(path, voxels, part, cache_dir)
        with locked(folder.with_suffix(".lock")):
            if kept_record(folder, SCHEMA) is None:
                _make(path, voxels["flat"].to_numpy(), shape, part, folder)
        record = kept_record(folder, SCHEMA)
        if record is None:
            raise InputError("was not written", where=folder, hint="give another --cache")
        found, varied = _restore(folder, record, len(voxels))
        signals.append(found)
        varies |= varied
        if progress is not None:
            progress(number, len(betas))
    return SessionStack(signals), varies


def _pairs(betas: Sequence[Path], train: NDArray[np.bool_]) -> list[tuple[Path, NDArray[np.bool_]]]:
    return list(zip(betas, train.reshape(len(betas), TRIALS_A_SESSION), strict=True))


def _folder(path: Path, voxels: pd.DataFrame, train: NDArray[np.bool_], cache_dir: Path) -> Path:
    """The name holds path, size and time of change of the session, its voxels, and its training trials."""
    status = path.stat()
    marks = [str(path.resolve()), status.st_size, status.st_mtime_ns]
    key = sha256_json([SCHEMA, marks, voxels["flat"].tolist(), np.flatnonzero(train).tolist()])[:32]
    return cache_dir / "derived" / "nsd" / key


def _restore(folder: Path, record: dict[str, Any], n_voxels: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    try:
        signals: NDArray[np.float32] = np.load(folder / "trials.npy", mmap_mode="r", allow_pickle=False)
        varies = np.logical_not(np.isin(np.arange(n_voxels), record["constant"]))
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise InputError(f"the derived copy is damaged ({error})", where=folder, hint="remove this folder") from error
    if signals.shape != (TRIALS_A_SESSION, n_voxels, 1):
        raise InputError(f"the derived copy has shape {signals.shape}", where=folder, hint="remove this folder")
    return signals, varies


def _make(
    path: Path, flat: NDArray[np.intp], shape: tuple[int, int, int], train: NDArray[np.bool_], folder: Path
) -> None:
    values = _read(path, flat, shape)
    if train.sum() < 2:
        raise InputError(f"holds {train.sum()} training trials, z-scores need two", where=path, hint="get the design")
    known = values[train]
    constant = known.max(axis=0) == known.min(axis=0)
    if constant.all():
        raise InputError("is constant in every voxel of nsdgeneral", where=path, hint="download it again")
    mean, spread = known.mean(axis=0, dtype=np.float64), known.std(axis=0, dtype=np.float64)
    spread[constant] = 1
    values -= mean.astype(np.float32)
    values /= spread.astype(np.float32)
    values[:, constant] = 0
    with atomic_write(folder / "trials.npy") as file:
        np.save(file, values[:, :, None], allow_pickle=False)
    record = {"schema": SCHEMA, "source": str(path), "bytes": file_size(folder / "trials.npy")}
    write_json(folder / "trials.json", record | {"constant": np.flatnonzero(constant).tolist()})


def _read(path: Path, flat: NDArray[np.intp], shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Percent signal change of the voxels wanted, (750, n_voxels), read in blocks of the box that holds them."""
    places = np.stack(np.unravel_index(flat, shape))
    first, last = places.min(axis=1), places.max(axis=1)
    (_, y0, x0), (_, y1, x1) = first, last
    values = np.empty((TRIALS_A_SESSION, len(flat)), dtype=np.float32)
    with open_array(path, BETAS, "int16", (TRIALS_A_SESSION, *shape)) as betas:
        for trials, slab in _blocks(betas.chunks, int(first[0]), int(last[0]) + 1, int((y1 - y0 + 1) * (x1 - x0 + 1))):
            inside = np.flatnonzero((places[0] >= slab.start) & (places[0] < slab.stop))
            if len(inside):
                z, y, x = places[:, inside]
                block = betas[trials, slab, y0 : y1 + 1, x0 : x1 + 1]
                values[trials, inside] = block[:, z - slab.start, y - y0, x - x0]
    values /= np.float32(SCALE)
    return values


def _blocks(chunks: tuple[int, ...] | None, start: int, stop: int, plane: int) -> list[tuple[slice, slice]]:
    """Trials and z that are read together: whole chunks where they fit, so that each is decompressed once.

    Chunks that span many trials are read slab by slab in z, others (and files without chunks) in runs of trials.
    """
    step = max(1, BLOCK_BYTES // (2 * plane * (stop - start)))
    if chunks is None or chunks[0] <= step:
        step -= step % (chunks[0] if chunks else 1)
        edges = range(0, TRIALS_A_SESSION, step)
        return [(slice(at, min(at + step, TRIALS_A_SESSION)), slice(start, stop)) for at in edges]
    step = max(1, BLOCK_BYTES // (2 * plane * TRIALS_A_SESSION))
    step = max(chunks[1], step - step % chunks[1])
    first = start - start % chunks[1]
    return [(slice(0, TRIALS_A_SESSION), slice(at, min(at + step, stop))) for at in range(first, stop, step)]
