"""Captions that were made already: one growing file a captioner, prompt and way of decoding.

The first line says what made the captions; each further line is one picture's. Lines are added batch by batch and
brought to the disk, so a killed program loses at most the batch it was at; half a line at the end is cut off.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from brainalign.errors import InputError
from brainalign.files import write_error, write_text
from brainalign.stimuli.captioners.decoding import CaptionKey

FOLDER = ("derived", "captions")
BYTES_MAX = 2**30
AGAIN = "remove it; the captions are then made again"
Asked = tuple[str, str]
"""image_id, and the prompt as it was put for this picture."""


class CaptionLog:
    """The captions of one key.

    Parameters
    ----------
    cache_dir : Path
    key : CaptionKey

    Attributes
    ----------
    captions : dict
        From (image_id, filled prompt) to caption.

    Raises
    ------
    InputError
        If the file is there and is none of ours.
    """

    def __init__(self, cache_dir: Path, key: CaptionKey) -> None:
        self.key = key
        self.path = cache_dir.joinpath(*FOLDER) / f"{_slug(key.captioner)}_{key.digest[:20]}.jsonl"
        self.captions: dict[Asked, str] = {}
        self._file: IO[bytes] | None = None
        self._size = 0
        if self.path.is_file():
            found, self.captions, self._size = read_log(self.path)
            if found != key:
                raise InputError("holds captions of another kind than its name says", where=self.path, hint=AGAIN)

    @property
    def lock(self) -> Path:
        """File that is locked while captions are added."""
        return self.path.with_suffix(".lock")

    def __enter__(self) -> CaptionLog:
        """Open for writing; read again what another program may have added meanwhile."""
        try:
            if self.path.is_file():
                _, self.captions, self._size = read_log(self.path)
            else:
                write_text(self.path, _line(self.key.facts()))
                self._size = self.path.stat().st_size
            self._file = open(self.path, "r+b")  # closed by `__exit__`
            self._file.truncate(self._size)
            self._file.seek(0, os.SEEK_END)
        except OSError as error:
            raise write_error(error, self.path) from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def add(self, asked: Sequence[Asked], captions: Sequence[str]) -> None:
        """Write a batch.

        Raises
        ------
        InputError
            If the disk is full.
        """
        assert self._file is not None, "open it first"
        rows = [
            {"image_id": one, "prompt": prompt, "caption": caption}
            for (one, prompt), caption in zip(asked, captions, strict=True)
        ]
        try:
            self._file.write("".join(map(_line, rows)).encode())
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise write_error(error, self.path) from error
        self.captions.update(zip(asked, captions))


def read_log(path: Path) -> tuple[CaptionKey, dict[Asked, str], int]:
    """What a file says made its captions, the captions, and the number of bytes in whole lines.

    Raises
    ------
    InputError
        If it is too large or damaged elsewhere than at its end.
    """
    lines = _lines(path)
    key = _key(next(lines, (b"", 0))[0], path)
    captions: dict[Asked, str] = {}
    size = 0
    for number, (line, end) in enumerate(_lines(path), start=1):
        size = end
        if number > 1:
            try:
                row = json.loads(line)
                asked, caption = (row["image_id"], row["prompt"]), row["caption"]
                if not all(isinstance(one, str) for one in (*asked, caption)):
                    raise TypeError("not a text")
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise InputError(f"line {number} is damaged ({error})", where=path, hint=AGAIN) from error
            captions[asked] = caption
    return key, captions, size


def find_keys(cache_dir: Path, captioner: str) -> Iterator[tuple[Path, CaptionKey]]:
    """Files that hold captions of a captioner, and what made them."""
    for path in sorted(cache_dir.joinpath(*FOLDER).glob(f"{_slug(captioner)}_*.jsonl")):
        key = _key(next(_lines(path), (b"", 0))[0], path)
        if key.captioner == captioner:
            yield path, key


def _key(line: bytes, path: Path) -> CaptionKey:
    try:
        return CaptionKey.from_facts(json.loads(line))
    except (ValueError, RecursionError) as error:  # InputError is one
        raise InputError(f"its first line is damaged ({error})", where=path, hint=AGAIN) from error


def _lines(path: Path) -> Iterator[tuple[bytes, int]]:
    """Whole lines, and where each ends."""
    try:
        if path.stat().st_size > BYTES_MAX:
            raise InputError(f"is larger than {BYTES_MAX >> 20} MiB", where=path, hint="this is no file of captions")
        with open(path, "rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield line, file.tell()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=path, hint="check its rights") from error


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=True) + "\n"  # ASCII: no character can break a line


def _slug(captioner: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "_", captioner)[-80:]


def missing(asked: Iterable[Asked], captions: dict[Asked, str]) -> list[Asked]:
    """What is not captioned yet, each once, in order."""
    return list(dict.fromkeys(one for one in asked if one not in captions))
