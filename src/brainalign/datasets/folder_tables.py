"""The small files of a folder of own recordings: `dataset.yaml`, `stimuli.csv`, `trials.csv`, `channels.csv`.

Every reader takes `report`, which is called with each problem that need not stop it: `raise_problem` stops at the
first, `list.append` collects them all. What leaves nothing to go on with is raised; `attempt` reports that too.
"""

from __future__ import annotations

import csv
import difflib
import math
import reprlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ParamSpec, TypeVar

import pandas as pd
import yaml

from brainalign.errors import InputError, unknown_name
from brainalign.plain_yaml import parse_yaml
from brainalign.recordings.trials import MODALITIES, TRIAL_COLUMNS
from brainalign.stimuli import StimulusSet

P = ParamSpec("P")
T = TypeVar("T")
Report = Callable[[InputError], None]
SMALL_BYTES_MAX = 64 * 2**20
SETTINGS_FILE, STIMULI_FILE, TRIALS_FILE, CHANNELS_FILE = "dataset.yaml", "stimuli.csv", "trials.csv", "channels.csv"
STIMULI_COLUMNS = ("stimulus_id", "path", "concept", "category", "caption", "presentation")
PART_NAMES = ("", "train", "test")
_COUNTED = ("repetition", "n_averaged")


def raise_problem(problem: InputError) -> None:
    """Stop at the first problem."""
    raise problem


class Reported(Exception):
    """Every problem was reported, and nothing usable is left."""


def attempt(report: Report, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """What `read` gives; where it raises a problem, that is reported and nothing given."""
    try:
        return read(*args, **kwargs)
    except InputError as problem:
        report(problem)
    except Reported:
        pass
    return None


@dataclass(frozen=True)
class Settings:
    """What `dataset.yaml` says.

    Attributes
    ----------
    sfreq : float, optional
        Samples a second.
    tmin : float, optional
        First sample, seconds from stimulus onset.
    """

    modality: str
    name: str = ""
    sfreq: float | None = None
    tmin: float | None = None
    unit: str = ""
    licence: str = ""
    citation: str = ""


def read_small(path: Path) -> str:
    """Text of a small file in UTF-8 (a byte-order mark is dropped).

    Raises
    ------
    InputError
        If it is missing, large, or in another encoding.
    """
    try:
        if path.stat().st_size > SMALL_BYTES_MAX:
            raise InputError(
                f"is larger than {SMALL_BYTES_MAX >> 20} MiB", where=path, hint="this is not a small table"
            )
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise InputError(f"line {line} is not UTF-8", where=path, hint="save the file as UTF-8") from error
    except FileNotFoundError as error:
        raise InputError("no such file", where=path, hint="see docs/own-recordings.md for the layout") from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=path, hint="check the path") from error


# --- dataset.yaml ---------------------------------------------------------------------------------------------------


def read_settings(root: Path, report: Report) -> Settings:
    """Read `dataset.yaml`; unknown keys are problems, and so are values of another type.

    Raises
    ------
    InputError
        If the file is no mapping or names no modality, and for the first problem unless `report` collects them.
    Reported
        If `report` collects problems and they leave nothing usable.
    """
    path = root / SETTINGS_FILE
    try:
        content = parse_yaml(read_small(path))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1} " if mark else ""
        problem = f"{line}is not YAML ({getattr(error, 'problem', error)})"
        raise InputError(problem, where=path, hint="write key: value lines") from error
    if not isinstance(content, dict):
        raise InputError("holds no keys", where=path, hint="give at least modality, sfreq and tmin")
    known = tuple(Settings.__dataclass_fields__)
    for key in content:
        if key not in known:
            report(unknown_name("key", str(key)[:80], known, where=path))
    given = {key: content[key] for key in known if content.get(key) is not None}
    values: dict[str, Any] = {key: attempt(report, _setting, key, value, path) for key, value in given.items()}
    if "modality" not in given:
        raise InputError("has no modality", where=path, hint=f"add modality: one of {', '.join(MODALITIES)}")
    if None in values.values():
        raise Reported
    return Settings(**values)


def _setting(key: str, value: Any, path: Path) -> Any:
    if key in ("sfreq", "tmin"):
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or (key == "sfreq" and value <= 0):
            wanted, example = ("a positive number of Hz", 250) if key == "sfreq" else ("a number of seconds", -0.2)
            problem = f"{key} is {reprlib.repr(value)}, expected {wanted}"
            raise InputError(problem, where=path, hint=f"for example {key}: {example}")
        return float(value)
    if not isinstance(value, str):
        raise InputError(f"{key} is {reprlib.repr(value)}, expected text", where=path, hint="put it in quotes")
    if key == "modality" and value not in MODALITIES:
        raise unknown_name("modality", value, MODALITIES, where=path)
    return value


# --- csv ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """Rows of a CSV file as text, with the line each stands on.

    Attributes
    ----------
    columns : dict of str to list of str
        Values by column.
    lines : list of int
        Line of each row in the file.
    """

    path: Path
    columns: dict[str, list[str]]
    lines: list[int]

    def __len__(self) -> int:
        return len(self.lines)

    def problem(self, row: int, text: str, hint: str | None = None) -> InputError:
        """A problem of one row, worded with its line."""
        return InputError(f"line {self.lines[row]}: {text}", where=self.path, hint=hint)


def read_csv(path: Path, known: Iterable[str], report: Report) -> Table:
    """Read a CSV file with a header line; blank lines are skipped, a column that looks misspelt is a problem.

    Raises
    ------
    InputError
        If the file is empty or cannot be read, and for the first problem unless `report` collects them.
    Reported
        If `report` collects problems and they leave nothing usable.
    """
    columns = ",".join(known)
    rows = list(_csv_rows(path))
    if not rows:
        raise InputError("is empty", where=path, hint=f"give a header line with some of {columns}")
    header, body = [name.strip() for name in rows[0][1]], rows[1:]
    problem = _header_problem(header, known) or (None if body else "has a header and no row")
    if problem is not None:
        raise InputError(problem, where=path, hint=f"known columns, separated by commas: {columns}")
    bad = [(line, len(row)) for line, row in body if len(row) != len(header)]
    for line, n in bad:
        report(InputError(f"line {line} has {n} fields, the header {len(header)}", where=path, hint="fix the line"))
    if bad:
        raise Reported
    values = {name: [row[i].strip() for _, row in body] for i, name in enumerate(header)}
    return Table(path, values, [line for line, _ in body])


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(read_small(path).splitlines(keepends=True), strict=True)
    try:
        for row in reader:
            if any(field.strip() for field in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise InputError(f"line {reader.line_num} is not CSV ({error})", where=path, hint="save it as CSV") from error


def _header_problem(header: list[str], known: Iterable[str]) -> str | None:
    twice = next((name for i, name in enumerate(header) if name in header[:i]), None)
    if twice is not None:
        return f"has the column '{twice}' twice"
    for name in header:
        missing = [k for k in known if k not in header]
        near = difflib.get_close_matches(name.lower(), missing, n=1, cutoff=0.8) if name not in known else []
        if near:
            return f"has a column '{name}', did you mean '{near[0]}'?"
    return None


# --- stimuli.csv, or the folder of images ---------------------------------------------------------------------------


def read_stimuli(root: Path, report: Report) -> StimulusSet:
    """The images: rows of `stimuli.csv`, or every image below `images/`.

    Raises
    ------
    InputError
        For the first problem, unless `report` collects them.
    Reported
        If `report` collects problems and they leave nothing usable.
    """
    images = root / "images"
    found = StimulusSet.from_folder(images)
    if not (root / STIMULI_FILE).is_file():
        return found
    table = read_csv(root / STIMULI_FILE, STIMULI_COLUMNS, report)
    need_columns(table, ("stimulus_id", "path"))
    on_disk = dict(zip(found.table["path"], found.table["concept"], strict=True))
    paths = [image_path(text) for text in table.columns["path"]]
    problems = list(_stimulus_problems(table, paths, on_disk))
    for problem in problems:
        report(problem)
    if problems:
        raise Reported
    rows = table.columns | {"path": paths}
    rows.setdefault("concept", [on_disk[path] for path in paths])
    return StimulusSet(pd.DataFrame(rows), images)


def image_path(text: str) -> str:
    """A path relative to `images/`, however it is spelt (from the root, or with backslashes)."""
    return PurePosixPath(text.replace("\\", "/")).as_posix().removeprefix("images/") if text else ""


def _stimulus_problems(table: Table, paths: list[str], on_disk: dict[str, str]) -> Iterator[InputError]:
    first_id: dict[str, int] = {}
    first_path: dict[str, int] = {}
    for row, (name, path) in enumerate(zip(table.columns["stimulus_id"], paths, strict=True)):
        if not name:
            yield table.problem(row, "has no stimulus_id")
        elif first_id.setdefault(name, row) != row:
            line = table.lines[first_id[name]]
            yield table.problem(row, f"stimulus_id '{name}' stands in line {line} too", "give every image its own id")
        if path not in on_disk:
            yield table.problem(row, f"there is no image images/{path}", "give the path below images/")
        elif first_path.setdefault(path, row) != row:
            line = table.lines[first_path[path]]
            yield table.problem(row, f"image {path} stands in line {line} too", "give every image one row")


def need_columns(table: Table, names: Iterable[str]) -> None:
    """Refuse a table without some columns.

    Raises
    ------
    InputError
        Naming the first one that is missing.
    """
    missing = next((name for name in names if name not in table.columns), None)
    if missing is not None:
        hint = f"it has {', '.join(table.columns)}; separate columns by commas"
        raise InputError(f"has no column '{missing}'", where=table.path, hint=hint)


# --- trials.csv -----------------------------------------------------------------------------------------------------


def read_trials(folder: Path, stimuli: StimulusSet, report: Report) -> dict[str, list[Any]]:
    """Columns of `trials.csv`, `stimulus_id` among them.

    Raises
    ------
    InputError
        If no column says which image was shown, and for the first problem unless `report` collects them.
    Reported
        If `report` collects problems and they leave nothing usable.
    """
    table = read_csv(folder / TRIALS_FILE, (*TRIAL_COLUMNS, "image"), report)
    named = [name for name in ("stimulus_id", "image") if name in table.columns]
    if len(named) != 1:
        text = "has both 'stimulus_id' and 'image'" if named else "has neither 'stimulus_id' nor 'image'"
        raise InputError(text, where=table.path, hint=f"give one of them; it has {', '.join(table.columns)}")
    problems: list[InputError] = []
    columns: dict[str, list[Any]] = {"stimulus_id": _shown(table, named[0], stimuli, problems.append)}
    for name in TRIAL_COLUMNS[1:]:
        if name in table.columns:
            columns[name] = _trial_column(table, name, problems.append)
    if not problems:
        _check_parts(table, columns, problems.append)
        _check_repetitions(table, columns, problems.append)
    for problem in problems:
        report(problem)
    if problems:
        raise Reported
    return columns


def _shown(table: Table, name: str, stimuli: StimulusSet, report: Report) -> list[str]:
    """Stimulus id of every trial."""
    if name == "image":
        known = dict(zip(stimuli.table["path"], stimuli.ids, strict=True))
        given = [image_path(text) for text in table.columns[name]]
    else:
        known = {stimulus: stimulus for stimulus in stimuli.ids}
        given = table.columns[name]
    for row, text in enumerate(given):
        if not text:
            report(table.problem(row, "names no image"))
        elif text not in known:
            near = difflib.get_close_matches(text, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else "check images/ and stimuli.csv"
            report(table.problem(row, f"there is no {name} '{text}'", hint))
    return [known.get(text, "") for text in given]


def _trial_column(table: Table, name: str, report: Report) -> list[Any]:
    values = table.columns[name]
    if name == "part":
        for row, value in enumerate(values):
            if value not in PART_NAMES:
                report(table.problem(row, f"part is '{value}'", "expected train, test or nothing"))
        return list(values)
    whole = [int(v) if v.isascii() and v.isdigit() else None for v in values]
    if name not in _COUNTED and None in whole:  # sessions and runs may have names
        for row, value in enumerate(values):
            if not value:
                report(table.problem(row, f"{name} is empty"))
        return list(values)
    for row, number in enumerate(whole):
        if name in _COUNTED and not number:
            report(table.problem(row, f"{name} is '{values[row]}'", "expected a whole number from 1"))
    return list(whole)


def _check_parts(table: Table, columns: dict[str, list[Any]], report: Report) -> None:
    """An image belongs to one part, and where one trial has a part, all have."""
    parts: list[str] = columns.get("part", [])
    if "" in parts and any(parts):
        report(
            table.problem(
                parts.index(""), "part is empty while other trials have one", "write train or test everywhere"
            )
        )
    first: dict[str, str] = {}
    for row, (stimulus, part) in enumerate(zip(columns["stimulus_id"], parts, strict=False)):
        if first.setdefault(stimulus, part) != part:
            problem = f"'{stimulus}' is shown in the {part} part and in the {first[stimulus]} part"
            report(table.problem(row, problem, "a test image must not train"))
            return


def _check_repetitions(table: Table, columns: dict[str, list[Any]], report: Report) -> None:
    if "repetition" not in columns:
        return
    seen: dict[tuple[Any, ...], int] = {}
    keys = [columns[name] for name in ("stimulus_id", "session", "run", "repetition", "part") if name in columns]
    for row, key in enumerate(zip(*keys, strict=True)):
        if seen.setdefault(key, row) != row:
            problem = (
                f"repetition {columns['repetition'][row]} of '{key[0]}' stands in line {table.lines[seen[key]]} too"
            )
            report(table.problem(row, problem, "count repetitions from 1, or leave the column out"))
