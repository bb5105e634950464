"""Rows of sweeps gathered into curves over depth, every point with its scores, losses and concept accuracy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.analysis.concepts import TOP, Labels, concept_accuracy, concept_chance, find_labels
from brainalign.analysis.pooling import Pooled, Queries, pool_queries, pool_scores
from brainalign.analysis.sweeps import BEYOND, SweepRow, Sweeps
from brainalign.errors import InputError
from brainalign.evaluation.result import read_predictions

FloatArray = NDArray[np.float64]
KINDS = ("block", "beyond", "mixture")


@dataclass(frozen=True)
class Point:
    """All runs of one curve at one layer.

    Attributes
    ----------
    kind : {'block', 'beyond', 'mixture'}
    test : Pooled
        Top-1.
    validation : Pooled
        The score that layers were chosen by.
    train_loss : Pooled or None
        At the epoch that was chosen; None of closed-form fits, which have no training loss.
    validation_loss : Pooled
        At the epoch or setting that was chosen.
    concept : Pooled or None
        Concept accuracy; None where it was not measured.
    """

    layer: str
    depth: float
    kind: str
    rows: tuple[SweepRow, ...]
    test: Pooled
    validation: Pooled
    train_loss: Pooled | None
    validation_loss: Pooled
    concept: Pooled | None

    @property
    def n_chosen(self) -> int:
        """In how many conditions the sweep chose it."""
        return sum(row.chosen for row in self.rows)


@dataclass(frozen=True)
class Curve:
    """Layers of one backbone, encoder, pooling and whatever else a sweep compared or chose along.

    Attributes
    ----------
    name : str
        What tells it from the other curves; '' for a single one.
    model : tuple
        As `SweepRow.model`.
    points : tuple of Point
        Blocks by depth, then `head` and `final`, then mixtures.
    """

    name: str
    model: tuple[Any, ...]
    pooling: str
    points: tuple[Point, ...]

    @property
    def encoder(self) -> str:
        """Of all its runs; of families without encoders the name of the family."""
        return self.points[0].rows[0].encoder

    def of(self, kind: str) -> list[Point]:
        """Points of a kind."""
        return [point for point in self.points if point.kind == kind]


@dataclass(frozen=True)
class Concepts:
    """Labels by subject, or why there are none.

    Attributes
    ----------
    column : str
        'category' or 'concept'; '' where there are none.
    chance : float or None
        Mean over queries.
    """

    labels: Mapping[str, Labels]
    missing: str
    column: str = ""
    chance: float | None = None


def gather(sweeps: Sweeps, concepts: Concepts) -> list[Curve]:
    """Curves of all rows; `final` has a pooling of its own, so it belongs to every curve of its model."""
    models: dict[tuple[Any, ...], list[SweepRow]] = {}
    for row in sweeps.rows:
        models.setdefault(row.model, []).append(row)
    keys = [
        (model, pooling)
        for model, rows in models.items()
        for pooling in (dict.fromkeys(row.pooling for row in rows if row.layer != "final") or {"final": None})
    ]
    names = _names(keys)
    return [
        Curve(name, model, pooling, _points(sweeps.rule, models[model], pooling, concepts))
        for (model, pooling), name in zip(keys, names, strict=True)
    ]


def _names(keys: Sequence[tuple[tuple[Any, ...], str]]) -> list[str]:
    """The parts of each key in which the keys differ."""
    parts = [[*(part if isinstance(part, str) else f"{part[0]} {part[1]}" for part in m), pool] for m, pool in keys]
    if len({len(part) for part in parts}) > 1:  # sweeps along different axes
        return [", ".join(part) for part in parts]
    varying = [place for place in range(len(parts[0])) if len({part[place] for part in parts}) > 1]
    return [", ".join(part[place] for place in varying) for part in parts]


def _points(rule: str, rows: Sequence[SweepRow], pooling: str, concepts: Concepts) -> tuple[Point, ...]:
    layers: dict[str, list[SweepRow]] = {}
    for row in rows:
        if row.pooling == pooling or row.layer == "final":
            layers.setdefault(row.layer, []).append(row)
    found = [_point(rule, layer, mine, concepts) for layer, mine in layers.items()]
    return tuple(sorted(found, key=_order))


def _order(point: Point) -> tuple[int, float, int]:
    beyond = BEYOND.index(point.layer) if point.layer in BEYOND else 0
    return (KINDS.index(point.kind), point.depth, beyond)


def _point(rule: str, layer: str, rows: Sequence[SweepRow], concepts: Concepts) -> Point:
    subjects = [row.subject for row in rows]
    losses = [chosen_losses(row) for row in rows]
    training = [train for train, _ in losses]

    def pooled(values: Sequence[float]) -> Pooled:
        return pool_scores(subjects, values)

    kinds = [_concept_queries(row, concepts.labels[row.subject]) for row in rows] if concepts.labels else []
    return Point(
        layer=layer,
        depth=rows[0].depth,
        kind=rows[0].kind,
        rows=tuple(rows),
        test=pool_queries([Queries(row.subject, *row.hits) for row in rows], hits=True),
        validation=pooled([row.scores[rule] for row in rows]),
        train_loss=None if None in training else pooled([train for train in training if train is not None]),
        validation_loss=pooled([validation for _, validation in losses]),
        concept=pool_queries(kinds, hits=False) if kinds else None,
    )


def chosen_losses(row: SweepRow) -> tuple[float | None, float]:
    """Training and validation loss of a run at its chosen epoch.

    A closed-form fit has no epochs: its validation loss is that of the setting it chose, a training loss it has none.

    Raises
    ------
    InputError
        If `history.csv` is missing, damaged, or lacks the epoch.
    """
    import pandas as pd

    epoch = row.result.selection.epoch
    if epoch is None:
        return None, row.scores["validation_loss"]
    path = row.folder / "history.csv"
    try:
        table = pd.read_csv(path, usecols=["epoch", "train_loss", "validation_loss"], dtype=np.float64)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=path, hint="is the run finished?") from error
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"is not a history ({error})", where=path, hint="run it again elsewhere") from error
    values = table.loc[table["epoch"] == epoch, ["train_loss", "validation_loss"]].to_numpy()
    if len(values) != 1 or not np.isfinite(values).all():
        raise InputError(f"does not hold epoch {epoch} once, with its losses", where=path, hint="the file is damaged")
    return float(values[0, 0]), float(values[0, 1])


def find_concepts(sweeps: Sweeps, open_stimuli: Callable[[str], Any]) -> Concepts:
    """Labels of the test galleries.

    Parameters
    ----------
    open_stimuli : callable
        Gives the stimulus table of a subject, or raises InputError where it is not at hand.
    """
    labels: dict[str, Labels] = {}
    chances = []
    galleries: dict[str, dict[int, SweepRow]] = {}  # one row a subject and split: its other rows have the same gallery
    for row in sweeps.rows:
        galleries.setdefault(row.subject, {}).setdefault(row.split, row)
    for subject, by_split in galleries.items():
        stored = [read_predictions(row.folder) for row in by_split.values()]
        if (smallest := min(len(one["gallery_ids"]) for one in stored)) <= TOP:
            return Concepts({}, f"the gallery holds {smallest} images, {TOP + 1} are needed")
        everything = list(dict.fromkeys(name for one in stored for name in one["gallery_ids"]))
        try:
            found = find_labels(open_stimuli(subject), everything)
        except InputError as error:
            return Concepts({}, f"the data set's stimulus table is not at hand ({error})")
        if isinstance(found, str):
            return Concepts({}, found)
        labels[subject] = found
        chances += [concept_chance(_targets(one), found.codes(one["gallery_ids"])) for one in stored]
    if any(np.isnan(chance).all() for chance in chances):
        return Concepts({}, "no image of a gallery is of the same kind as another one")
    columns = {found.column for found in labels.values()}
    if len(columns) > 1:
        return Concepts({}, "subjects differ in whether their images have a category")
    return Concepts(labels, "", columns.pop(), float(np.mean([np.nanmean(chance) for chance in chances])))


def _targets(stored: Mapping[str, Any]) -> NDArray[np.intp]:
    """Gallery column of each query."""
    where = {name: column for column, name in enumerate(stored["gallery_ids"])}
    return np.array([where[name] for name in stored["query_ids"]], dtype=np.intp)


def _concept_queries(row: SweepRow, labels: Labels) -> Queries:
    stored = read_predictions(row.folder)
    values = concept_accuracy(stored["similarity"], _targets(stored), labels.codes(stored["gallery_ids"]))
    known = np.isfinite(values)  # queries alone of their kind are left out
    ids = tuple(name for name, keep in zip(stored["query_ids"], known, strict=True) if keep)
    return Queries(row.subject, ids, values[known])
