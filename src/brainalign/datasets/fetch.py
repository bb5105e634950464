"""Downloading public files: checked by sha256, resumed where they broke off, kept inside one folder.

`pooch` decides what has to be downloaded and checks it; `brainalign.datasets.resume` does the downloading.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from brainalign.datasets.resume import ResumingDownloader, check_room, file_size, format_bytes, partial_path
from brainalign.errors import InputError
from brainalign.files import read_json, sha256_file, sync_folder, write_error, write_json

Progress = Callable[[int, int, str], None]

CHECKSUMS = "checksums.json"
_LOCK = ".fetch.lock"
_OWN_SUFFIXES = (".partial", ".partial.json")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file to download.

    Parameters
    ----------
    url : str
        Where it is: http or https.
    path : str
        Where it goes: relative to the folder, parts joined by ``/``.
    sha256 : str, optional
        Published checksum, 64 hexadecimal digits. Without one, the checksum of the first download is recorded.
    size : int, optional
        Published size in bytes, exact.
    about : int, optional
        Size in bytes, roughly, where none is published: for the question before a download.
    unpack : str, optional
        For a zip archive: the folder below the root that its files belong into.

    Raises
    ------
    InputError
        If the path leaves the folder, or another field is malformed.

    Examples
    --------
    >>> RemoteFile("https://example.org/sub-01.npy", "../sub-01.npy")
    Traceback (most recent call last):
    ...
    brainalign.errors.InputError: ../sub-01.npy: is no path inside the data folder; give a relative path without '..'
    """

    url: str
    path: str
    sha256: str | None = None
    size: int | None = None
    about: int | None = None
    unpack: str | None = None

    def __post_init__(self) -> None:
        parts = self.path.split("/")
        if (
            any(part in ("", ".", "..") for part in parts)
            or not self.path.isprintable()
            or re.search(r"[\\:]", self.path)
        ):
            raise InputError(
                "is no path inside the data folder", where=self.path, hint="give a relative path without '..'"
            )
        if self.path in (CHECKSUMS, _LOCK) or parts[-1].endswith(_OWN_SUFFIXES):
            raise InputError("is a name that downloads need for themselves", where=self.path, hint="give another name")
        if not re.match(r"https?://[^\s/]", self.url):
            raise InputError(f"cannot be downloaded from '{self.url}'", where=self.path, hint="give an http(s) address")
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", self.sha256):
            raise InputError(f"has the sha256 '{self.sha256}'", where=self.path, hint="give 64 hexadecimal digits")
        if self.size is not None and self.size < 0:
            raise InputError(f"has the size {self.size}", where=self.path, hint="give the number of bytes")


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """What became of one file.

    Attributes
    ----------
    path : str
        Relative to the folder.
    sha256 : str
        Of the file on the disk.
    status : {'present', 'downloaded', 'resumed'}
        'resumed' if part of it came from an earlier try.
    check : {'published', 'recorded earlier', 'recorded now'}
        What the checksum was compared with; 'recorded now' means with nothing.
    bytes_received : int
        Bytes of content that came over the network in this call.
    """

    path: str
    sha256: str
    status: str
    check: str
    bytes_received: int


@dataclass(frozen=True, slots=True)
class FetchReport:
    """What `fetch_files` did; `str(report)` says it in one line."""

    root: Path
    files: tuple[FetchedFile, ...]

    def __str__(self) -> str:
        count = Counter(file.status for file in self.files)
        new, received = count["downloaded"] + count["resumed"], sum(file.bytes_received for file in self.files)
        text = f"{new} files downloaded ({count['resumed']} resumed, {format_bytes(received)}), "
        text += f"{count['present']} already there"
        recorded = sum(file.check == "recorded now" for file in self.files)
        return text + (f"; {recorded} without a published sha256, recorded in {CHECKSUMS}" if recorded else "")


def fetch_files(
    files: Sequence[RemoteFile],
    root: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
    max_retries: int = 3,
    timeout: float = 30.0,
) -> FetchReport:
    """Download files into a folder, and only what is missing.

    A file whose checksum is right is left alone; a partial download (``<path>.partial``) is continued; a download takes
    its place only once it is complete, checked and flushed to the disk.

    Parameters
    ----------
    files : sequence of RemoteFile
        What to download, in this order. The first failure ends the call; what came until then stays.
    root : path-like
        The folder. It is made if it is missing.
    progress : callable, optional
        Called as ``progress(done_bytes, total_bytes, path)`` over all files. The total grows when a server names the
        size of a file that had none published.
    max_retries : int
        How often one file is tried again after a time-out, a server error (5xx) or a cut connection. The count starts
        anew whenever a try brought the download further.
    timeout : float
        Longest silence of a server, in seconds.

    Returns
    -------
    FetchReport
        One entry a file, in the order of `files`.

    Raises
    ------
    InputError
        If a file cannot be had (the line names the address and what to do), its checksum is wrong, a path leaves the
        folder, the disk is too small, or another download runs in the folder.
    """
    import requests

    folder = _prepare_folder(files, root)
    tracker = _Tracker(files, progress)
    with _only_one(folder), requests.Session() as session, _quiet_pooch(), _checksums(folder) as recorded:
        done = []
        for file in files:
            known = file.sha256 or recorded.get(file.path)
            downloader = ResumingDownloader(
                folder / file.path,
                session,
                size=file.size,
                can_verify=known is not None,
                on_bytes=functools.partial(tracker, file.path),
                max_retries=max_retries,
                timeout=timeout,
            )
            done.append(_fetch(file, known, downloader))
            recorded.update({file.path: done[-1].sha256} if known is None else {})
            tracker(file.path, file_size(downloader.target), None)
        return FetchReport(folder, tuple(done))


def _prepare_folder(files: Sequence[RemoteFile], root: str | os.PathLike[str]) -> Path:
    folder = Path(root).resolve()
    for path, count in Counter(file.path for file in files).items():
        if count > 1:
            raise InputError(f"is asked for {count} times", where=path, hint="name every file once")
    targets = [_inside(folder, file.path) for file in files]
    missing = ((file.size or 0, target) for file, target in zip(files, targets, strict=True) if not target.exists())
    check_room(folder, sum(max(size - file_size(partial_path(target)), 0) for size, target in missing))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(error, folder) from error
    return folder


def _inside(folder: Path, path: str) -> Path:
    """The file's place, unless a symbolic link leads out of the folder."""
    target = folder / path
    for place in (target, partial_path(target)):
        if not place.resolve().is_relative_to(folder) or place.is_dir():
            problem = "leads out of the data folder, or is a folder"
            raise InputError(problem, where=place, hint="remove it or give another root")
    return target


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        problem = "another download runs in this folder"
        raise InputError(problem, where=folder, hint="wait until it has ended") from error
    except OSError as error:
        raise write_error(error, folder) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _quiet_pooch() -> Iterator[None]:
    import pooch

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _checksums(folder: Path) -> Iterator[dict[str, str]]:
    """The recorded checksums by path; what is added is written at the end, also after a failure."""
    path = folder / CHECKSUMS
    content = read_json(path) if path.exists() else {"sha256": {}}
    recorded = content.get("sha256") if isinstance(content, dict) else None
    sums = recorded.values() if isinstance(recorded, dict) else [None]
    if not isinstance(recorded, dict) or not all(re.fullmatch("[0-9a-f]{64}", str(value)) for value in sums):
        raise InputError("is not a list of recorded checksums", where=path, hint="delete it; they are recorded anew")
    before = dict(recorded)
    try:
        yield recorded
    finally:
        if recorded != before:
            write_json(path, {"schema": "brainalign.checksums/1", "sha256": recorded})


def _fetch(file: RemoteFile, known: str | None, downloader: ResumingDownloader) -> FetchedFile:
    target = downloader.target
    if known is None and target.exists() and file.size not in (None, file_size(target)):
        problem = f"holds {file_size(target)} bytes, {file.size} are published"
        raise InputError(problem, where=target, hint="delete it and fetch again")
    try:
        _retrieve(file, known, downloader)
    except OSError as error:
        raise write_error(error, target) from error
    sync_folder(target.parent)
    sha256 = known or downloader.sha256 or sha256_file(target)
    status = "present" if not downloader.called else "resumed" if downloader.resumed else "downloaded"
    check = "published" if file.sha256 else "recorded earlier" if known else "recorded now"
    return FetchedFile(file.path, sha256.lower(), status, check, downloader.bytes_received)


def _retrieve(file: RemoteFile, known: str | None, downloader: ResumingDownloader) -> None:
    import pooch

    target = downloader.target
    for last in (False, True):
        try:
            pooch.retrieve(file.url, known, fname=target.name, path=target.parent, downloader=downloader)
            return
        except InputError:
            raise
        except ValueError as error:  # pooch: the checksum is wrong; it has removed the file
            if last or not downloader.resumed:
                _refuse_checksum(file, known, downloader.sha256, error)


def _refuse_checksum(file: RemoteFile, known: str | None, got: str, error: Exception) -> NoReturn:
    if file.sha256:
        hint = "the file has changed, or something on the way changes it: try another network, or report it"
        raise InputError(f"has the sha256 {got}, published is {known}", where=file.url, hint=hint) from error
    problem = f"has the sha256 {got}, at the first download of {file.path} it was {known}"
    hint = f"the file has changed; to accept it, delete its entry in {CHECKSUMS}"
    raise InputError(problem, where=file.url, hint=hint) from error


class _Tracker:
    """Bytes done and in total over all files, for the progress callback."""

    def __init__(self, files: Iterable[RemoteFile], report: Progress | None) -> None:
        self._total = {file.path: file.size or 0 for file in files}
        self._done = dict.fromkeys(self._total, 0)
        self._all_done, self._all_total = 0, sum(self._total.values())
        self._report = report

    def __call__(self, path: str, done: int, total: int | None) -> None:
        total = max(total or self._total[path], done)
        self._all_done += done - self._done[path]
        self._all_total += total - self._total[path]
        self._done[path], self._total[path] = done, total
        if self._report:
            self._report(self._all_done, self._all_total, path)
