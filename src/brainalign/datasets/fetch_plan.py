"""What a download will take, before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from brainalign.datasets.fetch import RemoteFile
from brainalign.datasets.resume import file_size, format_bytes, partial_path

ASK_ABOVE_BYTES = 100 * 2**20
_HEAD_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class FetchPlan:
    """Files to fetch and what is missing of them; `str(plan)` says it in one line.

    Attributes
    ----------
    n_missing : int
        Files that are not there yet.
    n_bytes : int
        Bytes missing, as far as known.
    exact : bool
        Whether every size is published or was told by the server.
    n_unknown : int
        Missing files of which nothing is known.
    unpacked : bool
        Whether archives are unpacked afterwards, which takes room beside them.
    """

    root: Path
    files: tuple[RemoteFile, ...]
    n_missing: int
    n_bytes: int
    exact: bool
    n_unknown: int
    unpacked: bool

    @property
    def asks(self) -> bool:
        """Whether this is more than one starts without a question."""
        return self.n_bytes > ASK_ABOVE_BYTES or self.n_unknown > 0

    def __str__(self) -> str:
        size = f"{'' if self.exact else 'about '}{format_bytes(self.n_bytes)}"
        unknown = f" and {self.n_unknown} files of unknown size" if self.n_unknown else ""
        room = "; archives are unpacked beside themselves, which takes as much room again" if self.unpacked else ""
        there = len(self.files) - self.n_missing
        return f"{self.n_missing} files to download into {self.root}: {size}{unknown}; {there} already there{room}"


def plan_fetch(files: Sequence[RemoteFile], root: str | Path) -> FetchPlan:
    """Look at the folder, and ask the servers for sizes that nobody published."""
    folder = Path(root)
    missing = [file for file in files if not (folder / file.path).is_file()]
    asked = _ask([file for file in missing if file.size is None])
    total, exact, unknown = 0, True, 0
    for file in missing:
        size = file.size if file.size is not None else asked.get(file.url)
        exact &= size is not None
        size = file.about if size is None else size
        unknown += size is None
        total += max((size or 0) - file_size(partial_path(folder / file.path)), 0)
    unpacked = any(file.unpack is not None for file in missing)
    return FetchPlan(folder, tuple(files), len(missing), total, exact, unknown, unpacked)


def _ask(files: Sequence[RemoteFile]) -> dict[str, int]:
    """Sizes that the servers announce; a server that does not answer is not asked again."""
    import requests

    sizes, silent = {}, set()
    with requests.Session() as session:
        for file in files:
            host = file.url.split("/")[2]
            if host in silent:
                continue
            try:
                headers = {"Accept-Encoding": "identity"}
                answer = session.head(file.url, timeout=_HEAD_TIMEOUT_S, allow_redirects=True, headers=headers)
            except requests.RequestException:
                silent.add(host)
                continue
            length = answer.headers.get("Content-Length", "")
            if answer.status_code == 200 and length.isdecimal() and int(length):
                sizes[file.url] = int(length)
    return sizes
