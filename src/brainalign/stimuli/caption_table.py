"""Tables of captions: .csv, .tsv or .jsonl, a row a stimulus."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from brainalign.errors import InputError
from brainalign.files import write_text

SUFFIXES = (".csv", ".tsv", ".jsonl")
BYTES_MAX = 256 * 2**20
ROWS_MAX = 2_000_000
CAPTION_MAX = 20_000
ID, CAPTION = "stimulus_id", "caption"


def check_table_path(path: str | Path) -> Path:
    """Refuse a name that says no format, ahead of any work.

    Raises
    ------
    InputError
        If the suffix is none of .csv, .tsv, .jsonl, or the path is a folder.
    """
    found = Path(path)
    if found.suffix.lower() not in SUFFIXES:
        raise InputError(f"has the suffix '{found.suffix}'", where=path, hint=f"use {', '.join(SUFFIXES)}")
    if found.is_dir():
        raise InputError("is a folder", where=path, hint="give a file")
    return found


def write_table(path: str | Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write rows with equal columns, atomically; the format is the suffix's.

    Raises
    ------
    InputError
        If the suffix says no format, or the file cannot be written.
    """
    found = check_table_path(path)
    text = io.StringIO()
    if found.suffix.lower() == ".jsonl":
        text.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        writer = csv.DictWriter(
            text, list(rows[0]) if rows else [ID, CAPTION], delimiter=_mark(found), lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(rows)
    write_text(found, text.getvalue())


def read_captions(path: str | Path) -> dict[str, str]:
    """Captions by stimulus id, line breaks and repeated spaces made one space.

    Parameters
    ----------
    path : path-like
        Columns (or keys) `stimulus_id` and `caption`; others are passed over.

    Raises
    ------
    InputError
        If the file is missing, too large or damaged, lacks a column, or gives a stimulus two different captions.
    """
    found = check_table_path(path)
    captions: dict[str, str] = {}
    for number, row in _rows(found):
        name, caption = row.get(ID), row.get(CAPTION)
        if not isinstance(name, str) or not isinstance(caption, str):
            raise InputError(f"line {number} has no text in '{ID}' or '{CAPTION}'", where=path, hint="mend that line")
        words = " ".join(caption.split())
        if len(words) > CAPTION_MAX:
            raise InputError(f"line {number} has a caption of {len(words)} characters", where=path, hint="shorten it")
        if captions.setdefault(name, words) != words:
            raise InputError(f"gives '{name}' two captions (line {number})", where=path, hint="keep one")
        if len(captions) > ROWS_MAX:
            raise InputError(f"holds more than {ROWS_MAX} captions", where=path, hint="this is no table of captions")
    if not captions:
        raise InputError("holds no caption", where=path, hint=f"columns {ID} and {CAPTION}, a row a stimulus")
    return captions


def _mark(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        size = path.stat().st_size
        if size > BYTES_MAX:
            text = f"has {size >> 20} MiB, more than {BYTES_MAX >> 20}"
            raise InputError(text, where=path, hint="this is no table of captions")
        with open(path, encoding="utf-8-sig", newline="") as file:
            yield from _json_rows(file, path) if path.suffix.lower() == ".jsonl" else _csv_rows(file, path)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=path, hint="check the path") from error
    except UnicodeDecodeError as error:
        raise InputError("is not text in UTF-8", where=path, hint="save it as UTF-8") from error


def _json_rows(file: io.TextIOWrapper, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise InputError(f"line {number} is not JSON ({error})", where=path, hint="one object a line") from error
        if not isinstance(row, dict):
            raise InputError(
                f"line {number} is no object", where=path, hint='one {"stimulus_id": ..., "caption": ...} a line'
            )
        yield number, row


def _csv_rows(file: io.TextIOWrapper, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(file, delimiter=_mark(path), strict=True)
    try:
        for column in (ID, CAPTION):
            if column not in (reader.fieldnames or ()):
                text = f"has no column '{column}', it has {', '.join(map(str, reader.fieldnames or ())) or 'none'}"
                raise InputError(text[:300], where=path, hint=f"columns {ID} and {CAPTION}")
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise InputError(f"line {reader.line_num} is damaged ({error})", where=path, hint="mend that line") from error
