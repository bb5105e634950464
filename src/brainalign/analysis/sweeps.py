"""Rows of finished sweeps, typed and checked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from brainalign.errors import InputError
from brainalign.evaluation.hits import hits_of_run
from brainalign.evaluation.result import Result, read_result
from brainalign.files import read_json

BEYOND = ("head", "final")
MIXTURE = "+"
TABLE_BYTES_MAX = 16 * 2**20
SCORES = ("validation_top1", "validation_mrr", "validation_loss", "test_top1", "test_top5", "chance_top1")
WORDS = ("recipe", "dataset", "subject", "split", "seed", "backbone", "layer", "pooling", "encoder", "run", "chosen")
CONDITIONS = ("subject", "split", "seed")


class _Axis(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    choice: bool
    values: list[Any] = Field(min_length=1)

    @property
    def compared(self) -> bool:
        """Whether its values are methods that are compared with each other: a choice is made within each."""
        return not self.choice and self.name not in CONDITIONS


class _Summary(BaseModel):
    """The part of `sweep.json` that an analysis needs."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    schema_: Literal["brainalign.sweep/1"] = Field(alias="schema")
    dataset: str
    protocol: str
    budget: str
    virtual: bool
    chosen_by: Literal["validation_loss", "validation_mrr", "validation_top1"]
    axes: list[_Axis]
    test_reads: int


@dataclass(frozen=True)
class SweepRow:
    """One run of a sweep.

    Attributes
    ----------
    folder : Path
        Of the run.
    depth : float
        Relative depth of the layer, 0 to 1; of a mixture the mean of its layers.
    scores : dict
        `validation_top1`, `validation_mrr`, `validation_loss`, `test_top1`, `test_top5`, `chance_top1`.
    chosen : bool
        Whether its sweep chose it, on validation.
    headline : bool
        Whether it is of the method that its sweep stands for, not of one that this is compared with.
    compared : tuple of (str, str)
        Values of the axes whose values are compared with each other, such as `ablation`.
    extra : tuple of (str, str)
        Values of the sweep's other axes of choice.
    """

    folder: Path
    recipe: str
    subject: str
    split: int
    seed: int
    backbone: str
    layer: str
    depth: float
    pooling: str
    encoder: str
    scores: dict[str, float]
    chosen: bool
    headline: bool = True
    compared: tuple[tuple[str, str], ...] = ()
    extra: tuple[tuple[str, str], ...] = ()

    @property
    def condition(self) -> tuple[str, int, int]:
        """Subject, split, seed."""
        return (self.subject, self.split, self.seed)

    @property
    def model(self) -> tuple[Any, ...]:
        """Everything that was compared or chosen but layer and pooling."""
        return (self.recipe, self.backbone, self.encoder, *self.compared, *self.extra)

    @property
    def method(self) -> str:
        """Its values of compared axes, in words; '' where its sweep compares none."""
        return ", ".join(f"{name} {value}" for name, value in self.compared)

    @property
    def kind(self) -> Literal["block", "beyond", "mixture"]:
        """A block of the model, `head` or `final` beyond the blocks, or several layers mixed."""
        if MIXTURE in self.layer:
            return "mixture"
        return "beyond" if self.layer in BEYOND else "block"

    @cached_property
    def hits(self) -> tuple[tuple[str, ...], np.ndarray[Any, np.dtype[np.float64]]]:
        """Ids of the test queries, and whether each found its image first."""
        return hits_of_run(self.folder, 1)

    @cached_property
    def result(self) -> Result:
        """The run's own result."""
        return read_result(self.folder)


@dataclass(frozen=True)
class Sweeps:
    """Rows of one or more sweeps on the same data set and protocol.

    Attributes
    ----------
    rule : str
        The validation score that layers were chosen by; of sweeps with several rules, `validation_mrr`.
    """

    paths: tuple[Path, ...]
    dataset: str
    protocol: str
    budget: str
    virtual: bool
    rule: str
    test_reads: int
    rows: tuple[SweepRow, ...]

    def method(self, row: SweepRow) -> str:
        """What tells a row's method from the others': its recipe, where there are several, and compared values."""
        several = len({other.recipe for other in self.rows}) > 1
        return ", ".join(filter(None, (row.recipe if several else "", row.method)))

    @property
    def headline(self) -> Sweeps:
        """The same without the methods that each sweep's own is compared with."""
        return replace(self, rows=tuple(row for row in self.rows if row.headline))

    @property
    def facts(self) -> dict[str, str]:
        """What was analysed, in words."""
        methods = dict.fromkeys(row.method for row in self.rows if row.compared)
        subjects = sorted({row.subject for row in self.rows})
        shown = ", ".join(subjects[:12]) + (f" and {len(subjects) - 12} more" if len(subjects) > 12 else "")
        return {
            "Data set": self.dataset + (" (VIRTUAL)" if self.virtual else ""),
            "Protocol": self.protocol,
            "Budget": self.budget,
            **({"Methods": "; ".join(methods)} if methods else {}),
            "Subjects": shown,
            "Conditions (subject, split, seed)": str(len({row.condition for row in self.rows})),
            "Runs": str(len(self.rows)),
            "Chosen by": self.rule,
            "Test set opened": f"{self.test_reads} time(s) by a run; not again for this page",
        }


def read_sweeps(paths: Sequence[Path]) -> Sweeps:
    """Read finished sweeps that can be shown together.

    Raises
    ------
    InputError
        If a sweep is not finished or damaged, the sweeps differ in data set, protocol or budget, or hold one run twice.
    """
    summaries = [_summary(path) for path in paths]
    for key in ("dataset", "protocol", "budget"):
        first = getattr(summaries[0], key)
        for path, summary in zip(paths, summaries, strict=True):
            if getattr(summary, key) != first:
                text = f"has {key} '{getattr(summary, key)}', {paths[0]} has '{first}'"
                raise InputError(text, where=path, hint="analyse them one by one")
    rows = [row for path, summary in zip(paths, summaries, strict=True) for row in _rows(path, summary)]
    rules = {summary.chosen_by for summary in summaries}
    return Sweeps(
        tuple(paths),
        summaries[0].dataset,
        summaries[0].protocol,
        summaries[0].budget,
        any(summary.virtual for summary in summaries),
        rules.pop() if len(rules) == 1 else "validation_mrr",
        max(summary.test_reads for summary in summaries),
        tuple(_distinct(rows)),
    )


def _summary(folder: Path) -> _Summary:
    path = folder / "sweep.json"
    if not path.is_file():
        text = "is a single run, not a sweep" if (folder / "result.json").is_file() else "holds no finished sweep"
        raise InputError(text, where=folder, hint="give a folder that `brainalign sweep` wrote to the end")
    try:
        return _Summary.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(f"{key}: {first['msg']}", where=path, hint="the schema is brainalign.sweep/1") from error


def _rows(folder: Path, summary: _Summary) -> Iterable[SweepRow]:
    path = folder / "sweep.csv"
    table = _table(path, [axis.name for axis in summary.axes])
    known = {"backbone", "layer", "pooling", "encoder", "target.layer", "target.pooling", "target.backbone"}
    others = [axis.name for axis in summary.axes if axis.choice and axis.name not in known]
    compared = [axis for axis in summary.axes if axis.compared]
    for record in table:
        if Path(record["run"]).is_absolute() or ".." in Path(record["run"]).parts:
            raise InputError(f"names the run '{record['run']}' outside the sweep", where=path, hint="it is damaged")
        yield SweepRow(
            folder=folder / record["run"],
            recipe=record["recipe"],
            subject=record["subject"],
            split=int(_number(record, "split", path)),
            seed=int(_number(record, "seed", path)),
            backbone=record["backbone"],
            layer=record["layer"],
            depth=_number(record, "depth", path),
            pooling=record["pooling"],
            encoder=record["encoder"],
            scores={key: _number(record, key, path) for key in SCORES},
            chosen=record["chosen"] == "1",
            headline=all(record[axis.name] == str(axis.values[0]) for axis in compared),
            compared=tuple((axis.name, record[axis.name]) for axis in compared),
            extra=tuple((name, record[name]) for name in others),
        )


def _table(path: Path, axes: Sequence[str]) -> list[dict[str, str]]:
    """A CSV file as text, its columns checked."""
    import pandas as pd

    try:
        if path.stat().st_size > TABLE_BYTES_MAX:
            raise InputError(f"is larger than {TABLE_BYTES_MAX} bytes", where=path, hint="this is not one of our files")
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, na_filter=False, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=path, hint="is the sweep finished?") from error
    except (ValueError, UnicodeDecodeError) as error:  # pandas' own errors are ValueErrors
        raise InputError(f"is not a table ({error})", where=path, hint="run the sweep again elsewhere") from error
    missing = [name for name in (*WORDS, "depth", *SCORES, *axes) if name not in frame.columns]
    if missing or frame.empty:
        text = f"has no column '{missing[0]}'" if missing else "holds no row"
        raise InputError(text, where=path, hint="the file is of another version")
    return [{str(key): str(value) for key, value in record.items()} for record in frame.to_dict("records")]


def _number(record: dict[str, str], key: str, path: Path) -> float:
    try:
        value = float(record[key])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"column '{key}' holds {record[key]!r}, expected a number", where=path, hint="it is damaged")
    return value


def _distinct(rows: Iterable[SweepRow]) -> Iterable[SweepRow]:
    """Rows once each: `final` has one pooling, so a sweep over poolings trains it several times alike."""
    seen: dict[tuple[Any, ...], SweepRow] = {}
    for row in rows:
        key = (row.condition, row.model, row.layer, row.pooling)
        held = seen.get(key)
        if held is not None and held.folder.parents[1] != row.folder.parents[1]:
            what = f"subject {row.subject}, split {row.split}, seed {row.seed}, layer {row.layer}, {row.pooling}"
            raise InputError(f"holds {what}, which {held.folder.parents[1]} holds too", where=row.folder.parents[1])
        if held is None or (row.chosen and not held.chosen):
            seen[key] = row
    return seen.values()


def best_on_validation(rows: Sequence[SweepRow], rule: str) -> SweepRow:
    """The row a sweep would choose among these: by its rule, ties by validation loss, then by order.

    A row that its sweep did choose is taken as it is: the table's scores are rounded by another path than the choice's.
    """
    flagged = [row for row in rows if row.chosen]
    if len(flagged) == 1:
        return flagged[0]
    sign = 1.0 if rule == "validation_loss" else -1.0
    return min(rows, key=lambda row: (sign * row.scores[rule], row.scores["validation_loss"]))
