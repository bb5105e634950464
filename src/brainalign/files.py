"""Writing files so that a killed program leaves either the old file or the new one, never half of one."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from brainalign.errors import InputError

JSON_BYTES_MAX = 256 * 2**20
PIECES, PIECE_BYTES = 64, 64 * 2**10


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`; on success flush it to the disk and rename it to `path`.

    Parameters
    ----------
    path : path-like
        The file to write. Its folder is made if it is missing.
    mode : {'wb', 'w'}
        Binary, or text in UTF-8.

    Raises
    ------
    InputError
        If the folder cannot be written or the disk is full. The temporary file is removed; `path` stays as it was.
    """
    target = Path(path)
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
        temporary = Path(name)
        with os.fdopen(handle, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
        sync_folder(target.parent)
    except BaseException as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise write_error(error, target) from error
        raise


def write_error(error: OSError, path: str | os.PathLike[str]) -> InputError:
    """Word an operating-system error met while writing `path`."""
    if error.errno == errno.ENOSPC:
        free = shutil.disk_usage(existing_parent(Path(path))).free
        return InputError(
            f"the disk is full ({free / 2**20:.0f} MiB free)", where=path, hint="free space or write elsewhere"
        )
    reason = error.strerror or str(error)
    return InputError(f"cannot be written: {reason}", where=path, hint="give a folder you may write to")


def existing_parent(path: Path) -> Path:
    """The nearest folder above `path` that exists."""
    while not path.is_dir():
        path = path.parent
    return path


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Make renames inside `folder` durable (a no-op where folders cannot be opened)."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` in UTF-8, atomically."""
    with atomic_write(path, "w") as file:
        file.write(text)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as indented JSON, atomically; NaN is refused."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Raises
    ------
    InputError
        If the file is missing, larger than 256 MiB, or not JSON.
    """
    source = Path(path)
    try:
        if source.stat().st_size > JSON_BYTES_MAX:
            raise InputError(
                f"is larger than {JSON_BYTES_MAX} bytes", where=path, hint="this is not one of our JSON files"
            )
        return json.loads(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=path, hint="check the path") from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"is not JSON ({error})", where=path, hint="the file is damaged; make it anew") from error


def sha256_file(path: str | os.PathLike[str]) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(path: str | os.PathLike[str]) -> str:
    """sha256 over a file's size and content; of a file above 8 MiB over 64 pieces of it, from end to end.

    A recording that was filtered, scaled or cut anew differs everywhere: the pieces tell it without reading it all.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    try:
        status = os.stat(path)
        return _fingerprint(os.fspath(path), status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=path, hint="check the path") from error


@functools.lru_cache(maxsize=4096)
def _fingerprint(path: str, size: int, _changed_ns: int) -> str:
    digest = hashlib.sha256(str(size).encode())
    whole = size <= PIECES * PIECE_BYTES * 2
    with open(path, "rb") as file:
        for piece in range(1 if whole else PIECES):
            file.seek(piece * (size - PIECE_BYTES) // (PIECES - 1))
            digest.update(file.read(-1 if whole else PIECE_BYTES))
    return digest.hexdigest()


def sha256_json(value: Any) -> str:
    """The sha256 of a JSON value in canonical form (sorted keys, no spaces)."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    ).hexdigest()
