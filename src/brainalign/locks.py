"""Two programs that want to make the same file go one after the other."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from brainalign.files import write_error


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file; a second program waits here until the first one is done.

    Parameters
    ----------
    path : Path
        The lock file. Its folder is made if it is missing.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    from filelock import FileLock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        lock.acquire()
    except OSError as error:
        raise write_error(error, path.parent) from error
    try:
        yield
    finally:
        lock.release()
