"""How often the test sets of a run or sweep were opened, over all the times its command was given."""

from __future__ import annotations

import csv
import io
import os
from datetime import UTC, datetime
from pathlib import Path

from brainalign.files import write_error

FILE = "openings.csv"


def record_opening(folder: Path, dataset: str, subject: str, split: int) -> None:
    """Add one opening, ahead of it: a program that is killed while it scores has opened the test set all the same.

    One short line at the end of the file: processes beside each other do not get in each other's way.

    Raises
    ------
    InputError
        If the folder cannot be written to.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(
        [datetime.now(UTC).isoformat(timespec="seconds"), dataset, subject, split]
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / FILE, "a", encoding="utf-8", newline="") as file:
            file.write(text.getvalue())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise write_error(error, folder / FILE) from error


def count_openings(folder: Path, dataset: str, subject: str, split: int) -> int:
    """How often a test set was opened so far."""
    if not (folder / FILE).is_file():
        return 0
    with open(folder / FILE, encoding="utf-8", newline="") as file:
        return sum(row[1:] == [dataset, subject, str(split)] for row in csv.reader(file))
