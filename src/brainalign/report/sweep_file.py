"""What a sweep's folder says: `sweep.json`, `sweep.csv` and the chosen runs, checked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from brainalign.errors import InputError
from brainalign.evaluation import Interval, proportion_interval
from brainalign.evaluation.hits import hits_of_run
from brainalign.evaluation.result import Result, read_result
from brainalign.files import read_json
from brainalign.report.page import number, read_table

Ends = tuple[float, float]
CONDITION_KEYS = ("subject", "split", "seed")
NUMBERS = (
    "depth",
    "validation_top1",
    "validation_mrr",
    "validation_loss",
    "test_top1",
    "test_top1_ci_lo",
    "test_top1_ci_hi",
    "test_top5",
    "chance_top1",
    "total_s",
)


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False, populate_by_name=True)


class AxisOf(_Part):
    """An axis of the sweep; `choice` says whether it was chosen on validation (else it is a condition or compared)."""

    name: str
    values: list[Any] = Field(min_length=1)
    choice: bool


class Condition(_Part):
    """One subject, split and seed, and the row chosen there."""

    subject: str
    split: int
    seed: int
    chosen: dict[str, Any]
    run: str
    test_top1: float
    test_top1_ci95: Ends
    test_top5: float
    best_row_on_test: float
    inflation_gap_top1: float


class Mean(_Part):
    """Means over conditions."""

    test_top1: float
    test_top5: float
    inflation_gap_top1: float


class Comparison(_Part):
    """Chosen rows against the rows of another layer, images paired; `a`, `b` are their top-1."""

    against: str = "another layer"
    conditions: int
    a: float
    b: float
    difference: float
    ci95: Ends
    p: float


class Summary(_Part):
    """What `sweep.json` holds, as far as the report needs it."""

    schema_: Literal["brainalign.sweep/1"] = Field(alias="schema")
    recipe: str
    profile: str = ""
    budget: str
    dataset: str
    virtual: bool
    protocol: str
    axes: list[AxisOf]
    chosen_by: Literal["validation_loss", "validation_mrr", "validation_top1"]
    conditions: list[Condition] = Field(min_length=1)
    mean: Mean
    comparisons: list[Comparison]
    test_reads: int


@dataclass(frozen=True)
class SweepFile:
    """A sweep as read from its folder.

    Attributes
    ----------
    rows : list of dict
        Of `sweep.csv`: text, with the number columns read; `chosen` is a bool. Every compared method has its own
        chosen rows.
    results : list of Result
        The chosen run of each condition, in the summary's order.
    """

    folder: Path
    summary: Summary
    rows: list[dict[str, Any]]
    results: list[Result]

    @property
    def choices(self) -> list[AxisOf]:
        """Axes that were chosen along, on validation."""
        return [axis for axis in self.summary.axes if axis.choice]

    @property
    def compared(self) -> list[AxisOf]:
        """Axes whose values are methods that are compared with each other: a choice is made within each."""
        return [axis for axis in self.summary.axes if not axis.choice and axis.name not in CONDITION_KEYS]

    @property
    def headline(self) -> list[dict[str, Any]]:
        """Rows of the method that the sweep stands for: of the first value of every compared axis."""
        return [row for row in self.rows if all(row[axis.name] == str(axis.values[0]) for axis in self.compared)]

    @property
    def method(self) -> str:
        """The method of `headline` in words; '' where no others are compared with it."""
        return ", ".join(f"{axis.name} {axis.values[0]}" for axis in self.compared if len(axis.values) > 1)

    def run(self, condition: Condition) -> Path:
        """Folder of a condition's chosen run."""
        return self.folder / condition.run

    @cached_property
    def interval(self) -> Interval | None:
        """Interval of the mean top-1: queries of one image count together, conditions are taken as they are.

        None where conditions differ in their number of queries, so that no pooled rate equals the mean.
        """
        found = [hits_of_run(self.run(condition)) for condition in self.summary.conditions]
        if len({len(ids) for ids, _ in found}) > 1:
            return None
        ids = np.concatenate([np.array(ids, dtype=object) for ids, _ in found])
        hits = np.concatenate([hits for _, hits in found])
        groups = ids if len(set(ids)) < len(ids) else None
        return proportion_interval(hits, groups=groups)


def read_sweep(folder: str | Path) -> SweepFile:
    """Read a finished sweep.

    Raises
    ------
    InputError
        If the sweep is not finished, or a file is missing, damaged or of another version.
    """
    place = Path(folder)
    path = place / "sweep.json"
    try:
        summary = Summary.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(f"{key}: {first['msg']}", where=path, hint="the schema is brainalign.sweep/1") from error
    for condition in summary.conditions:
        _inside(condition.run, path)
    table = place / "sweep.csv"
    rows: list[dict[str, Any]] = [
        {**row, **{key: number(row, key, table) for key in NUMBERS}, "chosen": row.get("chosen") == "1"}
        for row in read_table(table)
    ]
    missing = [key for key in (*CONDITION_KEYS, "layer", "pooling", "backbone") if key not in rows[0]]
    missing += [axis.name for axis in summary.axes if axis.name not in rows[0]]
    if missing:
        raise InputError(f"has no column '{missing[0]}'", where=table, hint="the file is of another version")
    return SweepFile(place, summary, rows, [read_result(place / c.run) for c in summary.conditions])


def _inside(run: str, path: Path) -> None:
    """A run's folder lies in the sweep's: a damaged or foreign file must not lead elsewhere."""
    if Path(run).is_absolute() or ".." in Path(run).parts:
        raise InputError(f"names the run '{run}' outside the sweep", where=path, hint="the file is damaged")
