"""Our score of a published cell, read from a finished sweep, and how far it lies from theirs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from brainalign.evaluation import Interval
from brainalign.evaluation.result import read_result
from brainalign.execution.cells import Place, pooled_interval
from brainalign.execution.reproduce_plan import Group, same_subject
from brainalign.recipes.published_tables import Cell, PublishedTable, Value
from brainalign.report.sweep_file import SweepFile

Row = dict[str, Any]
Z95 = 1.959963984540054
TOP = {"top1": 1, "top5": 5}


@dataclass(frozen=True)
class Exploratory:
    """What the paper's own way of choosing would have claimed: the layer that is best on the test set."""

    layer: str
    value: float


@dataclass(frozen=True)
class Score:
    """Our number for a cell; shares between 0 and 1.

    Attributes
    ----------
    interval : Interval
        Over subjects and images (seeds averaged); over images alone where there is one subject.
    layers : dict
        Chosen layer to the number of runs that chose it.
    """

    interval: Interval
    subjects: tuple[str, ...]
    seeds: tuple[int, ...]
    layers: dict[str, int]
    depth: float
    chance: float
    n_way: int
    n_train: int
    repetitions: int
    test_reads: int
    exploratory: Exploratory | None


def score_cell(cell: Cell, sweep: SweepFile, place: Place) -> Score:
    """Choose each subject's and seed's row on validation, and pool the hits of the chosen rows."""
    rows = [row for row in sweep.rows if _answers(row, cell)]
    if cell.subject is not None:
        who = same_subject(cell.subject, place.subjects)
        rows = [row for row in rows if row["subject"] == who]
    chosen = _chosen(rows, sweep.summary.chosen_by)
    results = [read_result(sweep.folder / row["run"]) for row in chosen]
    layers = [row["layer"] for row in chosen]
    first = results[0].metrics.test
    return Score(
        interval=pooled_interval(
            [sweep.folder / row["run"] for row in chosen], [row["subject"] for row in chosen], TOP[cell.metric]
        ),
        subjects=tuple(dict.fromkeys(row["subject"] for row in chosen)),
        seeds=tuple(dict.fromkeys(int(row["seed"]) for row in chosen)),
        layers={name: layers.count(name) for name in dict.fromkeys(layers)},
        depth=float(np.mean([row["depth"] for row in chosen])),
        chance=first.chance_top1 if cell.metric == "top1" else first.chance_top5,
        n_way=first.n_way,
        n_train=results[0].n_train,
        repetitions=first.repetitions,
        test_reads=max(result.test_reads for result in results),
        exploratory=_exploratory(rows, cell.metric) if cell.run.layer == "best" else None,
    )


def _answers(row: Row, cell: Cell) -> bool:
    """Whether a row of a sweep is a candidate for a cell: `best` leaves out the final output, `final` is it alone."""
    if cell.run.layer == "given":
        return True
    return bool((row["layer"] == "final") == (cell.run.layer == "final"))


def _chosen(rows: Sequence[Row], chosen_by: str) -> list[Row]:
    """The best row on validation of every subject and seed; ties by validation loss, as in every sweep."""

    def key(row: Row) -> tuple[float, float]:
        loss = float(row["validation_loss"])
        return (loss, loss) if chosen_by == "validation_loss" else (-float(row[chosen_by]), loss)

    best: dict[tuple[str, str], Row] = {}
    for row in rows:
        at = (row["subject"], row["seed"])
        if at not in best or key(row) < key(best[at]):
            best[at] = row
    return list(best.values())


def _exploratory(rows: Sequence[Row], metric: str) -> Exploratory:
    """One layer for all subjects and seeds, by its mean top-1 on the test set: the paper's way."""
    by_layer: dict[str, list[Row]] = {}
    for row in rows:
        by_layer.setdefault(row["layer"], []).append(row)
    best = max(by_layer, key=lambda layer: _mean(by_layer[layer], "test_top1"))
    return Exploratory(best, _mean(by_layer[best], f"test_{metric}"))


def _mean(rows: Sequence[Row], key: str) -> float:
    return float(np.mean([row[key] for row in rows]))


def not_comparable(cell: Cell, score: Score, place: Place) -> str:
    """Why our score and theirs are not to be subtracted; empty if they are."""
    if place.virtual:
        return "virtual data"
    if place.base != cell.run.dataset:
        return f"other data ({place.name} instead of {cell.run.dataset})"
    if cell.run.n_way is not None and score.n_way != cell.run.n_way:
        return f"another gallery ({score.n_way} images instead of {cell.run.n_way})"
    if cell.run.not_comparable:
        return cell.run.not_comparable
    return "the print allows several readings" if cell.published.value is None else ""


def difference(interval: Interval, published: Value) -> tuple[float, float, float]:
    """Ours minus theirs in percentage points, and the ends of its 95 % interval.

    Theirs is a constant, unless a deviation is printed beside it: that is taken as its standard error (which is at most
    as large), and both halves of our interval are widened by 1.96 of it in quadrature.

    Examples
    --------
    >>> ours = Interval(0.5, 0.46, 0.53, 0.95, "clopper-pearson")
    >>> tuple(round(x, 6) for x in difference(ours, Value(value=48.0)))
    (2.0, -2.0, 5.0)
    """
    theirs = published.value or 0.0
    apart = 100 * interval.estimate - theirs
    spread = Z95 * (published.sd or 0.0)
    below, above = 100 * (interval.estimate - interval.lo), 100 * (interval.hi - interval.estimate)
    return apart, apart - math.hypot(below, spread), apart + math.hypot(above, spread)


def marks_of(cell: Cell, score: Score, group: Group, table: PublishedTable) -> list[str]:
    """What our number was got otherwise, to stand beside it."""
    marks = list(group.marks)
    if cell.subject is None and len(score.subjects) < len(table.subjects):
        marks.append(f"{len(score.subjects)} of {len(table.subjects)} subjects ({', '.join(score.subjects)})")
    if len(score.subjects) == 1 and cell.subject is None:
        marks.append("interval over images alone")
    if table.seeds is not None and len(score.seeds) != table.seeds:
        marks.append(f"{len(score.seeds)} {'seed' if len(score.seeds) == 1 else 'seeds'}, theirs {table.seeds}")
    if score.test_reads > 1:
        marks.append(f"test set opened {score.test_reads} times")
    return marks
