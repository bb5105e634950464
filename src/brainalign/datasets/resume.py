"""A downloader for `pooch` that continues where the last try ended.

pooch's own downloaders start anew after every cut; this one asks for the missing bytes only (HTTP range requests,
RFC 9110, section 14).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from brainalign.errors import InputError
from brainalign.files import existing_parent, read_json, sha256_file, write_json

if TYPE_CHECKING:
    import requests

BACKOFF_S = 1.0
BACKOFF_MAX_S = 30.0
CHUNK_BYTES = 2**18
UNANNOUNCED_BYTES_MAX = 64 * 2**30


def partial_path(target: Path) -> Path:
    """Where the part of a download that has come so far is kept."""
    return target.with_name(target.name + ".partial")


def file_size(path: Path) -> int:
    """Bytes in a file; 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


def check_room(
    folder: Path,
    needed: int,
    *,
    what: str = "the download",
    hint: str = "free space, fetch fewer subjects, or give another root",
) -> None:
    """Raise InputError if the disk of `folder` has fewer than `needed` bytes free."""
    free = shutil.disk_usage(existing_parent(folder)).free
    if needed > free:
        problem = f"{what} needs {format_bytes(needed)}, the disk has {format_bytes(free)} free"
        raise InputError(problem, where=folder, hint=hint)


def format_bytes(count: int) -> str:
    """Word a number of bytes.

    Examples
    --------
    >>> format_bytes(3 * 2**29)
    '1.5 GiB'
    """
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


class _TryAgainError(Exception):
    """A failure that may pass: time-out, server error, cut connection."""


class ResumingDownloader:
    """A pooch downloader that continues a partial file beside the target.

    A partial file is continued only if the outcome can be checked: by a known sha256, or else by the server, which is
    asked to continue only if the file's validator (ETag or date, kept in ``<target>.partial.json``) is still the same.

    Parameters
    ----------
    target : Path
        The file wanted; ``<target>.partial`` holds what has come so far.
    session : requests.Session
        Connections to use.
    size : int or None
        Published size in bytes; a server that announces another is refused.
    can_verify : bool
        Whether the caller compares the outcome with a known sha256.
    on_bytes : callable
        Called as ``on_bytes(done, total)`` after each piece; the total is None while unknown.
    max_retries : int
        Failures in a row, without progress, that are borne.
    timeout : float
        Longest silence of the server, in seconds.

    Attributes
    ----------
    called, resumed : bool
        Whether pooch asked for a download, and whether it went on from an earlier part.
    bytes_received : int
        Bytes of content that came over the network.
    sha256 : str
        Of what was handed to pooch last.
    """

    def __init__(
        self,
        target: Path,
        session: requests.Session,
        *,
        size: int | None,
        can_verify: bool,
        on_bytes: Callable[[int, int | None], None],
        max_retries: int,
        timeout: float,
    ) -> None:
        self.target, self.session = target, session
        self.size, self.can_verify, self.on_bytes = size, can_verify, on_bytes
        self.max_retries, self.timeout = max_retries, timeout
        self.partial = partial_path(target)
        self.validator = target.with_name(target.name + ".partial.json")
        self.url = ""
        self.called = self.resumed = False
        self.bytes_received = 0
        self.sha256 = ""

    def __call__(self, url: str, output_file: str, pooch: object, check_only: bool = False) -> None:
        """Download `url` to `output_file`, as pooch asks.

        Raises
        ------
        InputError
            If the download cannot succeed, or has failed too often.
        """
        self.url, self.called, self.resumed = url, True, False
        failures, furthest = 0, file_size(self.partial)
        while True:
            try:
                self._try()
                break
            except _TryAgainError as error:
                reached = file_size(self.partial)
                failures = 1 if reached > furthest else failures + 1
                furthest = max(furthest, reached)
                if failures > self.max_retries:
                    hint = "try again later: the download goes on where it ended"
                    self._fail(f"{error} ({failures} tries without progress)", hint, error)
                time.sleep(min(BACKOFF_S * 2 ** (failures - 1), BACKOFF_MAX_S))
        os.replace(self.partial, output_file)
        self.validator.unlink(missing_ok=True)

    def _fail(self, problem: str, hint: str, cause: Exception | None = None) -> NoReturn:
        raise InputError(problem, where=self.url, hint=hint) from cause

    def _try(self) -> None:
        headers = self._headers()
        start = file_size(self.partial) if "Range" in headers else 0
        self.resumed = start > 0
        if not start or start != self.size:  # else it is complete: the program ended before it was checked
            with self._request(headers) as response:
                changed = response.status_code == 416 and start > 0
                if not changed:
                    self._take(response, start)
            if changed:  # the remote file is shorter now
                self.partial.unlink()
                return self._try()
        self.sha256 = sha256_file(self.partial)

    def _take(self, response: requests.Response, start: int) -> None:
        self._check_status(response)
        if response.status_code == 206:
            total = self._continued_total(response, start)
        else:
            start, total = 0, self._announced(response.headers.get("Content-Length"))
            self._remember(response)
        self.resumed = start > 0
        check_room(self.partial.parent, (total or start) - start)
        self._receive(response, start, total)

    def _headers(self) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity"}  # ranges and checksums are those of the file, not of its compression
        start = file_size(self.partial)
        validator = None if self.can_verify else self._remembered()
        if start and (self.can_verify or validator):
            headers["Range"] = f"bytes={start}-"
            if validator:
                headers["If-Range"] = validator
        return headers

    def _remember(self, response: requests.Response) -> None:
        """Keep what identifies this version of the file; weak ETags do not (RFC 9110, section 13.1.5)."""
        tag, date = response.headers.get("ETag"), response.headers.get("Last-Modified")
        validator = tag if tag and not tag.startswith("W/") else date
        self.validator.unlink(missing_ok=True)
        if validator and not self.can_verify:
            write_json(self.validator, {"url": self.url, "validator": validator})

    def _remembered(self) -> str | None:
        with contextlib.suppress(InputError):
            kept = read_json(self.validator)
            if isinstance(kept, dict) and kept.get("url") == self.url and isinstance(kept.get("validator"), str):
                return str(kept["validator"])
        return None

    def _request(self, headers: dict[str, str]) -> requests.Response:
        import requests
        import urllib3

        try:
            return self.session.get(self.url, headers=headers, stream=True, timeout=self.timeout)
        except requests.Timeout as error:
            raise _TryAgainError(f"no answer within {self.timeout:g} s") from error
        except requests.ConnectionError as error:
            if error.args and isinstance(error.args[0], urllib3.exceptions.ProtocolError):
                raise _TryAgainError("the connection was cut") from error
            self._fail(f"cannot be reached ({_reason(error)})", "check the address and the network", error)
        except requests.RequestException as error:
            self._fail(f"cannot be downloaded ({_reason(error)})", "check the address", error)

    def _check_status(self, response: requests.Response) -> None:
        code = response.status_code
        if code >= 500:
            raise _TryAgainError(f"the server answers {code} {response.reason}")
        if code not in (200, 206):
            hints = dict.fromkeys((401, 403), "it needs an account or an agreement: download it by hand")
            hints[429] = "it asks for a pause: try again in some minutes"
            moved = "the file has moved: look for its new address on the data set's page"
            self._fail(f"the server answers {code} {response.reason}", hints.get(code, moved))
        page = response.headers.get("Content-Type", "").startswith("text/html")
        if page and not self.can_verify and self.target.suffix not in (".html", ".htm"):
            self._fail("the server sends a web page instead of the file", "open the address in a browser")

    def _continued_total(self, response: requests.Response, start: int) -> int | None:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not start or not match or int(match[1]) != start:
            self.partial.unlink(missing_ok=True)
            raise _TryAgainError("the server continues at another place than asked")
        return self._announced(match[2])

    def _announced(self, number: str | None) -> int | None:
        """The size the server names, which must be the published one."""
        total = int(number) if number and number.isdecimal() else None
        if total is not None and self.size is not None and total != self.size:
            self.partial.unlink(missing_ok=True)
            problem = f"the server announces {total} bytes, published are {self.size}"
            self._fail(problem, "the file has changed: look for news on the data set's page")
        return self.size if total is None else total

    def _receive(self, response: requests.Response, start: int, total: int | None) -> None:
        import urllib3

        done, limit = start, UNANNOUNCED_BYTES_MAX if total is None else total
        with open(self.partial, "r+b" if start else "wb") as file:
            file.seek(start)
            try:
                for chunk in response.raw.stream(CHUNK_BYTES, decode_content=False):
                    done += len(chunk)
                    if done > limit:
                        break
                    file.write(chunk)
                    self.bytes_received += len(chunk)
                    self.on_bytes(done, total)
            except urllib3.exceptions.ReadTimeoutError as error:
                raise _TryAgainError(f"silence of {self.timeout:g} s after {done} bytes") from error
            except urllib3.exceptions.HTTPError as error:
                raise _cut(done, total) from error
            file.flush()
            os.fsync(file.fileno())
        if done > limit:
            self.partial.unlink()
            problem = f"the server sends more than the announced {limit} bytes"
            self._fail(problem, "do not trust this address; report it")
        if total is not None and done < total:
            raise _cut(done, total)


def _cut(done: int, total: int | None) -> _TryAgainError:
    return _TryAgainError(f"the connection was cut after {done} of {total or 'unknown'} bytes")


def _reason(error: BaseException) -> str:
    """The innermost cause, without addresses of objects."""
    while error.__context__ is not None:
        error = error.__context__
    return str(getattr(error, "strerror", None) or error)[:200]
