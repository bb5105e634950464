"""`channels.csv` of a folder of recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from brainalign.datasets.folder_tables import Report, need_columns, read_csv
from brainalign.errors import InputError

_METRES_MAX = 1.0


def read_channels(path: Path, report: Report) -> pd.DataFrame:
    """The channel table: `name`, positions `x,y,z` in metres (all or none), and any other column.

    Raises
    ------
    InputError
        For a position without all three axes, and for a name that is empty or given twice.
    """
    table = read_csv(path, ("name", "x", "y", "z"), report)
    need_columns(table, ("name",))
    names = table.columns["name"]
    frame = pd.DataFrame({name: _numbers_or_text(values) for name, values in table.columns.items()})
    frame["name"] = names
    for row, name in enumerate(names):
        if not name or name in names[:row]:
            raise table.problem(row, f"channel name '{name}' is {'given twice' if name else 'empty'}")
    axes = [axis for axis in "xyz" if axis in frame]
    if axes and len(axes) < 3:
        raise InputError(f"has {', '.join(axes)} of x, y, z", where=path, hint="give all three, in metres")
    for axis in axes:
        values = pd.to_numeric(frame[axis], errors="coerce").to_numpy(dtype=float)
        bad = np.flatnonzero(~(np.abs(values) <= _METRES_MAX))
        if len(bad):
            text = f"{axis} of channel '{names[bad[0]]}' is '{table.columns[axis][bad[0]]}'"
            raise table.problem(int(bad[0]), text, "positions are numbers in metres from the centre of the head")
    return frame


def _numbers_or_text(values: list[str]) -> list[float] | list[str]:
    try:
        return [float(value) for value in values]
    except ValueError:
        return values
