"""The table of trials of THINGS-MEG, checked against the triggers that the recording itself holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainalign.datasets.things_photos import photo_id, photo_stem
from brainalign.errors import InputError

CATCH_EVENT = 999999
PARTS = {"exp": "train", "test": "test"}  # what is neither is a catch trial: an artificial image, to keep people awake
KINDS = (*PARTS, "catch")
COLUMNS = ("trial_type", "image_path")
TABLE_BYTES_MAX = 64 * 2**20


def read_table(path: Path) -> pd.DataFrame:
    """Read `sample_attributes_P1.csv`.

    Raises
    ------
    InputError
        If it is missing, not a table, or lacks a column.
    """
    try:
        if path.stat().st_size > TABLE_BYTES_MAX:
            raise InputError("is larger than 64 MiB", where=path, hint="this is no table of trials")
        table = pd.read_csv(path)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=path, hint="check the path") from error
    except (ValueError, UnicodeDecodeError, pd.errors.ParserError) as error:
        problem = f"is not a table of comma-separated values ({' '.join(str(error).split())[:120]})"
        raise InputError(problem, where=path, hint="get it anew") from error
    return check_columns(table, path)


def check_columns(table: pd.DataFrame, where: Path) -> pd.DataFrame:
    """Refuse a table without the columns needed."""
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        problem = f"has no column '{missing[0]}'"
        raise InputError(problem, where=where, hint=f"it has {', '.join(map(str, table.columns[:20]))}")
    return table


def trial_rows(table: pd.DataFrame, codes: NDArray[np.int64], where: Path) -> pd.DataFrame:
    """The trials that showed a photo.

    Parameters
    ----------
    table : DataFrame
        One row an epoch.
    codes : array of shape (n_epochs,)
        Trigger of each epoch: one number a photo, 999999 for catch trials.
    where : Path
        Named in errors.

    Returns
    -------
    DataFrame
        Columns `row` (of the epoch), `stimulus_id`, `part`, `session`, `run`.

    Raises
    ------
    InputError
        If table and triggers contradict each other: every trial would get another photo's name.
    """
    kinds = table["trial_type"].astype(str).str.strip().to_numpy()
    unknown = [kind for kind in pd.unique(kinds) if kind not in KINDS]
    if unknown:
        raise InputError(f"has the trial_type '{unknown[0]}'", where=where, hint=f"expected {', '.join(KINDS)}")
    wrong = np.flatnonzero((kinds == "catch") != (codes == CATCH_EVENT))
    if len(wrong):
        row = int(wrong[0])
        problem = f"row {row} is a {kinds[row]} trial, the recording has the trigger {codes[row]} there"
        raise InputError(problem, where=where, hint="table and recording do not belong together: get both anew")
    keep = np.flatnonzero(kinds != "catch")
    if not len(keep):
        raise InputError("holds catch trials only", where=where, hint="get the file anew")
    paths = table["image_path"].to_numpy()[keep]
    stems = [photo_stem(str(path), where) for path in paths]
    _check_codes(stems, codes[keep], where)
    rows = pd.DataFrame({"row": keep, "stimulus_id": [photo_id(s) for s in stems]})
    rows["part"] = [PARTS[kind] for kind in kinds[keep]]
    for column, source in (("session", "session_nr"), ("run", "run_nr")):
        rows[column] = _whole(table[source].to_numpy()[keep], source, where) if source in table.columns else 1
    return rows


def _check_codes(stems: list[str], codes: NDArray[np.int64], where: Path) -> None:
    """One trigger a photo, one photo a trigger."""
    for first, second, kind in ((stems, codes.tolist(), "photo"), (codes.tolist(), stems, "trigger")):
        seen: dict[object, object] = {}
        for a, b in zip(first, second, strict=True):
            if seen.setdefault(a, b) != b:
                problem = f"has {kind} {a} with both {seen[a]} and {b}"
                raise InputError(problem, where=where, hint="table and recording do not belong together: get both anew")


def _whole(values: NDArray[np.generic], name: str, where: Path) -> NDArray[np.int64]:
    numbers = pd.to_numeric(pd.Series(values), errors="coerce").to_numpy(dtype=np.float64)
    if not np.isfinite(numbers).all() or (numbers != np.round(numbers)).any():
        raise InputError(f"has a {name} that is no whole number", where=where, hint="get the table anew")
    return numbers.astype(np.int64)
