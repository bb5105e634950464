"""Copies of signals that a reader keeps in the cache: whether one is whole, and whether the disk has room for it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from brainalign.datasets.resume import check_room, file_size
from brainalign.errors import InputError
from brainalign.files import read_json


def kept_record(
    folder: Path, schema: str, *, record: str = "trials.json", signals: str = "trials.npy"
) -> dict[str, Any] | None:
    """What the record of a copy says; None if nothing whole was kept (the record is written last).

    Parameters
    ----------
    folder : Path
        Of the copy.
    schema : str
        That the record must name.
    record, signals : str
        Its files; the record holds the size of the other as `bytes`.
    """
    with contextlib.suppress(InputError):
        found = read_json(folder / record)
        if isinstance(found, dict) and found.get("schema") == schema:
            return found if file_size(folder / signals) == found.get("bytes") else None
    return None


def check_copy_room(folder: Path, needed: int) -> None:
    """Raise InputError if the disk of the cache has fewer than `needed` bytes free."""
    check_room(folder, needed, what="the copy", hint="free space, or give another --cache")
