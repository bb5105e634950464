"""What tasks write: a table (.csv, .jsonl), a document (.json), arrays (.npz) or a page (.html)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brainalign.errors import InputError
from brainalign.files import atomic_write, write_json, write_text
from brainalign.report.page import csv_text


def check_output(path: str | Path, kinds: Sequence[str]) -> Path:
    """A file that may be written, before anything is computed.

    Raises
    ------
    InputError
        If its ending is none of those allowed, or it is a folder.
    """
    file = Path(path)
    if file.suffix.lower() not in kinds:
        raise InputError(f"ends in '{file.suffix}', expected {', '.join(kinds)}", where=path, hint="rename --out")
    if file.is_dir():
        raise InputError("is a folder", where=path, hint="give a file")
    return file


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> None:
    """Write a table by the ending of its file; a `.csv` or `.jsonl` has its facts beside it, in `NAME.facts.json`."""
    if path.suffix.lower() == ".json":
        write_json(path, {**facts, "rows": list(rows)})
        return
    text = csv_text(rows) if path.suffix.lower() == ".csv" else _lines(rows)
    write_text(path, text)
    write_json(path.with_name(f"{path.stem}.facts.json"), facts)


def write_arrays(path: Path, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Write arrays and, as the text `facts`, what they are; no pickle."""
    with atomic_write(path) as file:
        np.savez_compressed(file, facts=np.array(json.dumps(facts)), **arrays)


def _lines(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(dict(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
