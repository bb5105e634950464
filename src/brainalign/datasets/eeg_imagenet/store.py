"""Signals of every subject as memory maps, made once: 440 samples a trial, as the published program cuts them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.datasets.derived import check_copy_room
from brainalign.datasets.eeg_imagenet.items import AGAIN, N_CHANS, N_SUBJECTS, WINDOW, Items, read_items
from brainalign.datasets.eeg_imagenet.tensors import load_tensors
from brainalign.datasets.resume import file_size
from brainalign.errors import InputError
from brainalign.files import atomic_write, read_json, sha256_json, write_json
from brainalign.locks import locked

SCHEMA = "brainalign.eeg-imagenet/1"
SAMPLES = WINDOW[1] - WINDOW[0]

Progress = Callable[[int, int], None]


def open_store(path: Path, cache_dir: Path, *, raw: bool, progress: Progress | None = None) -> tuple[Path, Items]:
    """Open a file of signals; the first time all six subjects are copied to `cache_dir/derived/eeg-imagenet/KEY/`.

    The copy takes 2.7 GB on the disk. In memory there is one trial at a time if the file is in today's `.pth` format,
    the whole file (3.1 GB) if it is in the older one.

    Parameters
    ----------
    path : Path
    cache_dir : Path
    raw : bool
        Whether samples are standardised with the file's own `means` and `stddevs`.

    Returns
    -------
    folder : Path
        See `subject_signals`.
    items : Items

    Raises
    ------
    InputError
        If the file is missing or damaged, a sample used is NaN or infinite, or the disk or memory is too small.
    """
    folder = store_folder(path, cache_dir, raw=raw)
    with locked(folder.with_suffix(".lock")):
        items = stored_items(folder)
        if items is None:
            loaded = load_tensors(path)
            items = read_items(loaded, path)
            _make(loaded, items, path, folder, raw, progress)
    return folder, items


def store_folder(path: Path, cache_dir: Path, *, raw: bool) -> Path:
    """Where the copy of a file lies; the name holds its path, size and time of change.

    Raises
    ------
    InputError
        If there is no such file.
    """
    try:
        status = path.stat()
    except OSError as error:
        hint = "see brainalign datasets check eeg-imagenet"
        raise InputError(f"cannot be read: {error.strerror}", where=path, hint=hint) from error
    marks = [str(path.resolve()), status.st_size, status.st_mtime_ns]
    return cache_dir / "derived" / "eeg-imagenet" / sha256_json([SCHEMA, marks, raw])[:32]


def subject_signals(folder: Path, items: Items, subject: str) -> NDArray[np.float32]:
    """Signals of a subject's used items, (n, 128, 440), memory-mapped, in the order of the file.

    Raises
    ------
    InputError
        If the subject has none, or the copy is damaged.
    """
    count = int((items.used & (items.subject == int(subject))).sum())
    if not count:
        raise InputError(f"subject {subject} has no trial of usable length", where=folder, hint=AGAIN)
    try:
        signals: NDArray[np.float32] = np.load(folder / _name(int(subject)), mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as error:
        raise InputError(f"the derived copy is damaged ({error})", where=folder, hint="remove this folder") from error
    if signals.shape != (count, N_CHANS, SAMPLES):
        raise InputError(f"the derived copy has shape {signals.shape}", where=folder, hint="remove this folder")
    return signals


def stored_items(folder: Path) -> Items | None:
    """What was kept of the items; None if nothing whole was (the record is written last)."""
    with contextlib.suppress(InputError, KeyError, TypeError, ValueError, AttributeError):
        record = read_json(folder / "items.json")
        if record["schema"] != SCHEMA or any(file_size(folder / n) != size for n, size in record["files"].items()):
            return None
        numbers = {key: np.array(record[key], dtype=np.int64) for key in ("subject", "image", "label", "samples")}
        return Items(**numbers, images=tuple(record["images"]), labels=tuple(record["labels"]))
    return None


def _name(subject: int) -> str:
    return f"subject-{subject}.npy"


def _make(loaded: Any, items: Items, path: Path, folder: Path, raw: bool, progress: Progress | None) -> None:
    scale = _scale(loaded, path) if raw else None
    used = np.flatnonzero(items.used)
    if not len(used):
        raise InputError("holds no trial of usable length", where=path, hint=AGAIN)
    check_copy_room(folder, 4 * len(used) * N_CHANS * SAMPLES)
    people = [subject for subject in range(1, N_SUBJECTS + 1) if (items.subject[used] == subject).any()]
    with contextlib.ExitStack() as stack:
        files = {subject: stack.enter_context(atomic_write(folder / _name(subject))) for subject in people}
        for subject, file in files.items():
            shape = (int((items.subject[used] == subject).sum()), N_CHANS, SAMPLES)
            np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for done, number in enumerate(used, start=1):
            block = _window(loaded["dataset"][number]["eeg"], scale, int(number), path)
            files[int(items.subject[number])].write(block.data)
            if progress is not None and (done % 64 == 0 or done == len(used)):
                progress(done, len(used))
    record: dict[str, Any] = {"schema": SCHEMA, "source": str(path)}
    record["files"] = {_name(subject): file_size(folder / _name(subject)) for subject in people}
    for key in ("subject", "image", "label", "samples"):
        record[key] = getattr(items, key).tolist()
    write_json(folder / "items.json", record | {"images": list(items.images), "labels": list(items.labels)})


def _window(eeg: Any, scale: tuple[NDArray[Any], NDArray[Any]] | None, number: int, path: Path) -> NDArray[np.float32]:
    """Samples 20 to 459 of an item, (128, 440), standardised where asked for."""
    block = eeg[:, WINDOW[0] : WINDOW[1]].double().numpy()
    if scale is not None:
        block = (block - scale[0]) / scale[1]
    with np.errstate(over="ignore"):  # an overflow becomes infinity, refused in the next lines
        narrow = np.ascontiguousarray(block, dtype="<f4")
    if not np.isfinite(narrow).all():
        channel, sample = np.argwhere(~np.isfinite(narrow))[0]
        problem = f"holds NaN or infinity, first in item {number}, channel {channel}, sample {sample + WINDOW[0]}"
        raise InputError(problem, where=path, hint=AGAIN)
    return narrow


def _scale(loaded: Any, path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mean and standard deviation of each channel, (128, 1) each, as the raw file publishes them."""
    import torch

    found = []
    for key in ("means", "stddevs"):
        values = loaded.get(key)
        if not isinstance(values, torch.Tensor) or values.numel() != N_CHANS or values.is_complex():
            raise InputError(f"has no '{key}' of {N_CHANS} channels", where=path, hint=AGAIN)
        found.append(values.double().numpy().reshape(N_CHANS, 1))
    mean, spread = found
    if not (np.isfinite(mean).all() and np.isfinite(spread).all() and (spread > 0).all()):
        raise InputError("'means' or 'stddevs' hold NaN, or no positive spread", where=path, hint=AGAIN)
    return mean, spread
