"""Events of a run that showed an image: the rows of `*_events.tsv` whose `stim_file` is one."""

from __future__ import annotations

import csv
import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
from numpy.typing import NDArray

from brainalign.datasets.bids.layout import STIMULI, Run
from brainalign.datasets.bids.options import BidsOptions
from brainalign.datasets.folder_tables import Table, read_small
from brainalign.errors import InputError, unknown_name
from brainalign.stimuli.images import IMAGE_SUFFIXES

STIM_FILE, ONSET = "stim_file", "onset"
EMPTY = ("", "n/a", "N/A", "nan")


@dataclass(frozen=True)
class Shown:
    """The image events of one run, in the order of their onsets.

    Attributes
    ----------
    onsets : array of shape (n,)
        Seconds from the start of the recording.
    images : tuple of n str
        Paths below `stimuli/`.
    rows : tuple of n int
        Their rows in `table`.
    skipped : dict of str to int
        Events left out, by reason.
    """

    run: Run
    table: Table
    onsets: NDArray[np.float64]
    images: tuple[str, ...]
    rows: tuple[int, ...]
    skipped: dict[str, int]

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> list[str]:
        """A column of the events, one value an image event; empty where it says n/a."""
        values = self.table.columns[name]
        return ["" if values[row] in EMPTY else values[row] for row in self.rows]

    def problem(self, event: int, text: str, hint: str | None = None) -> InputError:
        """A problem of one image event, worded with its line."""
        return self.table.problem(self.rows[event], text, hint)


def read_shown(run: Run, options: BidsOptions) -> Shown | None:
    """The image events of a run; None if it has no events or they have no column `stim_file`.

    Raises
    ------
    InputError
        If the events are damaged, or a path in `stim_file` leads out of `stimuli/`.
    """
    path = run.beside("events.tsv")
    table = read_tsv(path) if path is not None else None
    if table is None or STIM_FILE not in table.columns:
        return None
    if ONSET not in table.columns:
        raise InputError("has no column 'onset'", where=table.path, hint=f"it has {', '.join(table.columns)}")
    skipped: Counter[str] = Counter()
    kept: list[tuple[float, int, str]] = []
    for row, text in enumerate(table.columns[STIM_FILE]):
        reason = _left_out(text) or _not_chosen(table, row, options)
        if reason:
            skipped[reason] += 1
            continue
        image = image_name(table, row, text, run.root)
        kept.append((_onset(table, row), row, image))
    kept.sort(key=lambda event: event[:2])
    for before, event in itertools.pairwise(kept):
        if event[0] == before[0]:
            problem = f"begins when line {table.lines[before[1]]} does"
            hint = "one image at a time; choose the rows with where=COLUMN=VALUE"
            raise table.problem(event[1], problem, hint)
    return Shown(
        run,
        table,
        np.array([onset for onset, _, _ in kept], dtype=np.float64),
        tuple(image for _, _, image in kept),
        tuple(row for _, row, _ in kept),
        dict(skipped),
    )


def _left_out(text: str) -> str:
    """Why an event shows no image; empty if it shows one."""
    if text in EMPTY:
        return "without stim_file"
    return "" if PurePosixPath(text.replace("\\", "/")).suffix.lower() in IMAGE_SUFFIXES else "not an image"


def _not_chosen(table: Table, row: int, options: BidsOptions) -> str:
    """Why the option `where` leaves an event out; empty if it does not."""
    column, wanted = options.where_pair
    if column and column not in table.columns:
        raise unknown_name("column", column, table.columns, where=table.path)
    return "not chosen" if column and table.columns[column][row] != wanted else ""


def _onset(table: Table, row: int) -> float:
    text = table.columns[ONSET][row]
    try:
        onset = float(text)
    except ValueError:
        onset = math.nan
    if not math.isfinite(onset):
        raise table.problem(row, f"onset is '{text}'", "expected seconds from the start of the recording")
    return onset


def image_name(table: Table, row: int, text: str, root: Path) -> str:
    """A path below `stimuli/` that stays there.

    A leading `stimuli/`, which BIDS does not want, is dropped where there is no such folder inside.

    Raises
    ------
    InputError
        If the path is absolute, climbs with `..`, or follows a link out of the data set.
    """
    path = PurePosixPath(text.replace("\\", "/"))
    if not text.isprintable() or ":" in text or path.is_absolute() or PureWindowsPath(text).drive:
        raise table.problem(row, f"stim_file is {text!a}", f"expected a path below {STIMULI}/, such as cat/01.png")
    if ".." in path.parts:
        raise table.problem(row, f"stim_file '{text}' leads out of {STIMULI}/", "remove '..' from it")
    if path.parts[0] == STIMULI and not (root / STIMULI / STIMULI).is_dir():
        path = PurePosixPath(*path.parts[1:])
    place = root / STIMULI / path
    if place.is_symlink() or place.exists():
        _refuse_link(table, row, place, root)
    return path.as_posix()


def _refuse_link(table: Table, row: int, place: Path, root: Path) -> None:
    """Links inside the data set are fine (DataLad makes them), links out of it are not followed."""
    try:
        inside = place.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a link to itself
        inside = False
    if not inside:
        problem = f"stim_file '{place.name}' is a link that leaves the data set"
        raise table.problem(row, problem, f"put the image itself into {STIMULI}/")


# --- tables ---------------------------------------------------------------------------------------------------------


def read_tsv(path: Path) -> Table:
    """A table of BIDS: UTF-8, tabs, a header, no column twice, as many fields in every line.

    Raises
    ------
    InputError
        With the line, if it is not so.
    """
    rows = list(_rows(path))
    if not rows:
        raise InputError("is empty", where=path, hint="expected a line of column names, and more lines")
    header = [name.strip() for name in rows[0][1]]
    if len(header) == 1 and ("," in header[0] or ";" in header[0]):
        raise InputError("is not separated by tabs", where=path, hint="BIDS tables are tab-separated (.tsv)")
    if "" in header or len(set(header)) < len(header):
        twice = next((name for i, name in enumerate(header) if name in header[:i]), "")
        problem = f"has the column '{twice}' twice" if twice else "has a column without a name"
        raise InputError(problem, where=path, hint="name every column once")
    for line, fields in rows[1:]:
        if len(fields) != len(header):
            hint = "is the file cut off? write n/a for what is missing"
            raise InputError(f"line {line} has {len(fields)} fields, the header {len(header)}", where=path, hint=hint)
    columns = {name: [fields[i].strip() for _, fields in rows[1:]] for i, name in enumerate(header)}
    return Table(path, columns, [line for line, _ in rows[1:]])


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    text = read_small(path)
    if "\0" in text:
        raise InputError("holds zero bytes", where=path, hint="the file is damaged; get it anew")
    reader = csv.reader(text.splitlines(keepends=True), delimiter="\t", strict=True)
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                yield reader.line_num, fields
    except csv.Error as error:
        raise InputError(f"line {reader.line_num} is not tab-separated ({error})", where=path) from error
