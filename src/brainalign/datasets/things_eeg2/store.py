"""Opening a part lazily: pickles are converted once into a plain `.npy` in the cache, then mapped."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from brainalign.datasets.things_eeg2.layouts import Part, read_part
from brainalign.errors import InputError
from brainalign.files import atomic_write, read_json, sha256_json, write_json
from brainalign.locks import locked

SCHEMA = "brainalign.things-eeg2/1"
CHUNK_BYTES = 64 * 2**20


def open_part(path: Path, cache_dir: Path) -> Part:
    """Open one file of a subject so that trials are read from disk as they are asked for.

    A plain `.npy` is mapped where it lies. A pickle or a torch file is read whole the first time (it needs memory of
    about its size) and written to `cache_dir/derived/things-eeg2/KEY/`; the key holds path, size and time of change.

    Parameters
    ----------
    path : Path
        A file of one of the four layouts.
    cache_dir : Path
        Folder for derived files.

    Raises
    ------
    InputError
        If the file cannot be used, holds NaN or infinity, or the cache cannot be written.
    """
    folder = cache_dir / "derived" / "things-eeg2" / _key(path)
    with locked(folder.with_suffix(".lock")):
        record = _read_record(folder)
        if record is None:
            part = read_part(path)
            _keep(part, path, folder)
            if part.in_place:
                return part
            del part  # the whole file is in memory: let go of it, the copy on disk is mapped below
            record = _read_record(folder) or {}
    if record.get("in_place"):
        return read_part(path)
    try:
        return _restore(record, folder)
    except (KeyError, TypeError, ValueError, OSError) as error:
        problem = f"the derived copy of {path} is damaged ({error})"
        raise InputError(problem, where=folder, hint="remove this folder") from error


def _key(path: Path) -> str:
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=path, hint="check the path") from error
    return sha256_json([SCHEMA, str(path.resolve()), status.st_size, status.st_mtime_ns])[:32]


def _read_record(folder: Path) -> dict[str, Any] | None:
    """What was kept of a part; None if nothing whole was (the record is written last)."""
    if not (folder / "part.json").is_file():
        return None
    try:
        record = read_json(folder / "part.json")
    except InputError:
        return None
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        return None
    whole = record.get("in_place") or _size(folder / "trials.npy") == record.get("bytes")
    return record if whole else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _keep(part: Part, path: Path, folder: Path) -> None:
    """Check every value once, and write the trials unless the file itself can be mapped."""
    record: dict[str, Any] = {"schema": SCHEMA, "source": str(path), "in_place": part.in_place}
    if part.in_place:
        check_finite(part, path)
    else:
        with atomic_write(folder / "trials.npy") as file:
            _write_npy(file, part, path)
        record |= {
            "bytes": _size(folder / "trials.npy"),
            "n_repetitions": part.n_repetitions,
            "ch_names": list(part.ch_names),
            "times": part.times.tolist(),
            "images": None if part.images is None else list(part.images),
            "sessions": None if part.sessions is None else part.sessions.tolist(),
            "per_concept": part.per_concept,
        }
    write_json(folder / "part.json", record)


def check_finite(part: Part, path: Path) -> None:
    """Read every value.

    Raises
    ------
    InputError
        If one is NaN or infinite; names the image, repetition and channel.
    """
    for start, block in _blocks(part.trials):
        _refuse_nan(block, start, part, path)


def _blocks(trials: NDArray[Any]) -> list[tuple[int, NDArray[Any]]]:
    step = max(1, CHUNK_BYTES // max(1, trials[0].nbytes))
    return [(start, trials[start : start + step]) for start in range(0, len(trials), step)]


def _refuse_nan(block: NDArray[Any], start: int, part: Part, path: Path) -> None:
    if np.isfinite(block).all():
        return
    row, channel = np.argwhere(~np.isfinite(block))[0][:2]
    image, repetition = divmod(start + int(row), part.n_repetitions)
    place = f"image {image}, repetition {repetition}, channel '{part.ch_names[channel]}'"
    raise InputError(f"holds NaN or infinity, first in {place}", where=path, hint="get the file anew")


def _write_npy(file: IO[bytes], part: Part, path: Path) -> None:
    """float64 becomes float32, which every computation uses; float16 and float32 stay."""
    dtype = np.dtype("<f2" if part.trials.dtype.itemsize == 2 else "<f4")
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": part.trials.shape}
    np.lib.format.write_array_header_1_0(file, header)
    for start, block in _blocks(part.trials):
        with np.errstate(over="ignore"):  # an overflow becomes infinity, refused in the next line
            narrow = np.ascontiguousarray(block, dtype=dtype)
        _refuse_nan(narrow, start, part, path)
        file.write(narrow.data)


def _restore(record: dict[str, Any], folder: Path) -> Part:
    images, sessions = record["images"], record["sessions"]
    return Part(
        trials=np.load(folder / "trials.npy", mmap_mode="r", allow_pickle=False),
        n_repetitions=int(record["n_repetitions"]),
        ch_names=tuple(record["ch_names"]),
        times=np.array(record["times"], dtype=np.float64),
        images=None if images is None else tuple(images),
        sessions=None if sessions is None else np.array(sessions, dtype=np.int64),
        per_concept=record["per_concept"],
    )
