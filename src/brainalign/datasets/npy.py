"""Arrays of numbers in `.npy` files that nobody vouches for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.datasets.safe_pickle import load_untrusted_npy
from brainalign.errors import InputError

_MAGIC = b"\x93NUMPY"


def read_numbers(path: Path, *, hint: str, mapped: bool = False) -> NDArray[Any]:
    """Read or map a plain array; the size that the header claims is compared with the file's before any is reserved.

    Parameters
    ----------
    path : Path
    hint : str
        What to do about a damaged file.
    mapped : bool
        Map the array instead of reading it.

    Returns
    -------
    array
        As stored, any shape, no objects.

    Raises
    ------
    InputError
        If the file cannot be read, is damaged or cut off, or holds anything but an array of a plain type.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.npy"
    >>> np.save(path, np.arange(3.0))
    >>> read_numbers(path, hint="save it again").tolist()
    [0.0, 1.0, 2.0]
    """
    try:
        with open(path, "rb") as file:
            magic = file.read(len(_MAGIC))
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", where=path, hint="check the path") from error
    if magic != _MAGIC:
        what = "it is empty" if not magic else "it is a zip archive" if magic[:2] == b"PK" else "it is of another kind"
        raise InputError(f"is not a whole .npy file of numbers ({what})", where=path, hint=hint)
    try:
        found = load_untrusted_npy(path, mmap_mode="r" if mapped else None)
    except InputError as error:
        raise InputError(f"is not a whole .npy file of numbers ({error.problem})", where=path, hint=hint) from error
    if not isinstance(found, np.ndarray):
        raise InputError("is not a whole .npy file of numbers (it holds objects)", where=path, hint=hint)
    return found
