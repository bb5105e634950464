"""One array of an HDF5 file, opened without trusting the file."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from brainalign.datasets.hdf5 import AGAIN, opened
from brainalign.errors import InputError

if TYPE_CHECKING:
    import h5py

CHUNK_BYTES_MAX = 512 * 2**20  # a chunk is unpacked as a whole


@contextlib.contextmanager
def open_array(path: Path, name: str, dtype: str, shape: tuple[int | None, ...]) -> Iterator[h5py.Dataset]:
    """Open an array; nothing of it is read yet, and what fails while it is read is worded too.

    Parameters
    ----------
    path : Path
    name : str
        Of the array, at the top of the file.
    dtype : str
        For example 'int16'; either byte order.
    shape : tuple of int or None
        None for axes of any length.

    Raises
    ------
    InputError
        If the file is missing, damaged, holds no such array, one of another type or shape, or one whose numbers lie in
        other files.
    """
    with opened(path, missing="see brainalign datasets check nsd") as file:
        yield _checked(file, path, name, dtype, shape)


def _checked(file: h5py.File, path: Path, name: str, dtype: str, shape: tuple[int | None, ...]) -> h5py.Dataset:
    import h5py

    if name not in file:
        raise InputError(f"holds {', '.join(list(file)[:8]) or 'nothing'}, expected '{name}'", where=path, hint=AGAIN)
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):  # a link could name any file of this machine
        raise InputError(f"'{name}' is a link to elsewhere", where=path, hint="do not trust this file; get it anew")
    data = file[name]
    if not isinstance(data, h5py.Dataset):
        raise InputError(f"'{name}' is a group, expected an array", where=path, hint=AGAIN)
    if data.dtype.newbyteorder("=") != dtype:
        raise InputError(f"'{name}' is of {data.dtype}, expected {dtype}", where=path, hint="get the published file")
    if data.is_virtual or data.external:
        problem = f"'{name}' takes its numbers from other files"
        raise InputError(problem, where=path, hint="do not trust this file; get it anew")
    if data.chunks and math.prod(data.chunks) * data.dtype.itemsize > CHUNK_BYTES_MAX:
        raise InputError(f"'{name}' is cut into chunks of {data.chunks}", where=path, hint="get the published file")
    wanted = tuple("any" if n is None else n for n in shape)
    fits = data.ndim == len(shape) and all(n in (None, got) for n, got in zip(shape, data.shape, strict=True))
    if not fits or 0 in data.shape:
        listed = ", ".join(map(str, wanted))
        raise InputError(f"'{name}' has shape {data.shape}, expected ({listed})", where=path, hint=AGAIN)
    return data
