"""HDF5 files of others: what fails while they are open is one clear line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from brainalign.errors import InputError

if TYPE_CHECKING:
    import h5py

AGAIN = "download it again"


@contextlib.contextmanager
def opened(path: Path, *, missing: str) -> Iterator[h5py.File]:
    """An open file; errors of reading it are worded too, as long as it is open.

    Parameters
    ----------
    path : Path
    missing : str
        What to do where there is no such file.

    Raises
    ------
    InputError
        If h5py is not installed, or the file is missing or damaged.
    """
    try:
        import h5py
    except ImportError as error:
        raise InputError("needs h5py", where=path, hint="pip install 'brainalign[fmri]'") from error
    try:
        file = h5py.File(path, "r", locking=False)
    except FileNotFoundError as error:
        raise InputError("no such file", where=path, hint=missing) from error
    except OSError as error:
        raise InputError(f"is not a whole HDF5 file ({_short(error)})", where=path, hint=AGAIN) from error
    with file:
        try:
            yield file
        except InputError:
            raise
        except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
            raise InputError(f"is damaged ({_short(error)})", where=path, hint=AGAIN) from error


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
