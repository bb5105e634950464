"""Betas turned trial by trial: made once, in blocks of voxels, into a memory map in the cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainalign.datasets.derived import check_copy_room, kept_record
from brainalign.datasets.resume import file_size
from brainalign.datasets.things_fmri.betas import Betas, open_betas
from brainalign.datasets.things_fmri.tables import SubjectFiles, read_trials, read_voxels
from brainalign.errors import InputError
from brainalign.files import atomic_write, sha256_json, write_json
from brainalign.locks import locked

SCHEMA = "brainalign.things-fmri/1"
BLOCK_BYTES = 64 * 2**20

Progress = Callable[[int, int], None]


def open_trials(
    files: SubjectFiles, cache_dir: Path, progress: Progress | None = None
) -> tuple[NDArray[np.float32], pd.DataFrame, pd.DataFrame]:
    """Betas, trials and voxels of a subject.

    The file lies voxel by voxel; the first time it is turned into `cache_dir/derived/things-fmri/KEY/trials.npy` (4
    bytes a value: 7.4 to 8.9 GB for a published subject), in blocks that take about 250 MB of memory.

    Returns
    -------
    signals : array of shape (n_trials, n_voxels, 1), float32, memory-mapped
    trials : DataFrame
        See `read_trials`; one row a row of `signals`.
    voxels : DataFrame
        See `read_voxels`; one row a channel, and `empty` marks voxels that hold no number in any trial (zeros here).

    Raises
    ------
    InputError
        If a file is missing or damaged, the three do not fit together, or the disk is too small.
    """
    trials, voxels = read_trials(files.stimuli), read_voxels(files.voxels)
    folder = cache_dir / "derived" / "things-fmri" / _key(files)
    with locked(folder.with_suffix(".lock")):
        record = kept_record(folder, SCHEMA)
        if record is None:
            _make(files, trials, voxels, folder, progress)
            record = kept_record(folder, SCHEMA)
    if record is None:
        raise InputError("was not written", where=folder, hint="give another --cache")
    try:
        signals = np.load(folder / "trials.npy", mmap_mode="r", allow_pickle=False)
        voxels["empty"] = np.isin(np.arange(len(voxels)), record["empty"])
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise InputError(f"the derived copy is damaged ({error})", where=folder, hint="remove this folder") from error
    if signals.shape != (len(trials), len(voxels), 1):
        raise InputError(f"the derived copy has shape {signals.shape}", where=folder, hint="remove this folder")
    return signals, trials, voxels


def check_fit(betas: Betas, voxels: pd.DataFrame, files: SubjectFiles) -> None:
    """Refuse betas and a voxel table of different voxels.

    Raises
    ------
    InputError
        Naming the first difference.
    """
    if betas.n_voxels != len(voxels):
        problem = f"has {len(voxels)} voxels, {files.responses.name} has {betas.n_voxels}"
        raise InputError(problem, where=files.voxels, hint="both must be of one subject and version")
    ids = voxels["voxel_id"].to_numpy()
    if betas.voxel_ids is not None and (betas.voxel_ids != ids).any():
        row = int((betas.voxel_ids != ids).argmax())
        problem = f"row {row} is voxel {ids[row]}, in {files.responses.name} it is voxel {betas.voxel_ids[row]}"
        raise InputError(problem, where=files.voxels, hint="both must be of one subject and version")


def _key(files: SubjectFiles) -> str:
    marks = []
    for path in files.all:
        try:
            status = path.stat()
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}", where=path, hint="get it too") from error
        marks.append([str(path.resolve()), status.st_size, status.st_mtime_ns])
    return sha256_json([SCHEMA, marks])[:32]


def _make(
    files: SubjectFiles, trials: pd.DataFrame, voxels: pd.DataFrame, folder: Path, progress: Progress | None
) -> None:
    with open_betas(files.responses, trials.attrs["n_columns"]) as betas:
        check_fit(betas, voxels, files)
        check_copy_room(folder, 4 * len(trials) * betas.n_voxels)
        with atomic_write(folder / "trials.npy") as file:
            empty = _turn(file, betas, trials["column"].to_numpy(), files.responses, progress)
        if len(empty) == betas.n_voxels:
            raise InputError("holds no beta at all", where=files.responses, hint="get it anew")
    record = {"schema": SCHEMA, "sources": [str(p) for p in files.all], "bytes": file_size(folder / "trials.npy")}
    write_json(folder / "trials.json", record | {"empty": empty})


def _turn(file: IO[bytes], betas: Betas, columns: NDArray[np.intp], path: Path, progress: Progress | None) -> list[int]:
    """Write trial by trial what lies voxel by voxel; returns the rows of voxels that hold no number (0 is written)."""
    shape = (len(columns), betas.n_voxels, 1)
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    begin = file.tell()
    empty: list[int] = []
    for start, stop in _steps(betas):
        with np.errstate(over="ignore"):  # an overflow becomes infinity, refused in the next line
            block = np.ascontiguousarray(betas.read(start, stop)[:, columns].T, dtype="<f4")
        hollow = _empty_voxels(block, start, columns, path)
        block[:, hollow] = 0
        empty += (start + hollow).tolist()
        for trial in range(len(columns)):
            file.seek(begin + 4 * (trial * betas.n_voxels + start))
            file.write(block[trial].data)
        if progress is not None:
            progress(stop, betas.n_voxels)
    return empty


def _steps(betas: Betas) -> list[tuple[int, int]]:
    """Blocks of voxels; whole chunks of a chunked file, which are then decompressed once."""
    row = betas.n_trials * max(betas.values.dtype.itemsize, 4)
    step = max(1, BLOCK_BYTES // row)
    chunk = betas.values.chunks[0] if betas.values.chunks else 1
    if chunk * row <= BLOCK_BYTES:
        step -= step % chunk
    return [(at, min(at + step, betas.n_voxels)) for at in range(0, betas.n_voxels, step)]


def _empty_voxels(block: NDArray[np.float32], start: int, columns: NDArray[np.intp], path: Path) -> NDArray[np.intp]:
    """Columns of the block that are NaN in every trial; one that is in some only is damage."""
    bad = np.logical_not(np.isfinite(block))
    count = bad.sum(axis=0)
    broken = np.flatnonzero((count > 0) & (count < len(block)))
    if len(broken):
        voxel = int(broken[0])
        problem = f"holds NaN or infinity, first in row {start + voxel}, trial {columns[bad[:, voxel].argmax()]}"
        raise InputError(problem, where=path, hint="download it again")
    return np.flatnonzero(count)
