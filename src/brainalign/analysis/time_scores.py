"""Scores of a run over windows of time, against chance and against another run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from brainalign.analysis.onset import (
    AboveChance,
    Corrected,
    Difference,
    Latency,
    Values,
    difference,
    onset,
    outcomes,
    peak,
)
from brainalign.analysis.windows import Ridged, Window
from brainalign.errors import InputError
from brainalign.evaluation import Interval, bootstrap_interval, chance_top_k
from brainalign.execution.progress import Tick
from brainalign.protocols.sealed import TestData

FINE = "two_way"  # moves with every rank, so it finds weak signals that top-1 misses


class Scorer(Protocol):
    """A model a window."""

    def similarity(self, window: Window, images: str, tick: Tick) -> tuple[NDArray[np.float32], TestData]:
        """Similarities (n_queries, n_gallery) and what they are of."""


@dataclass(frozen=True)
class Settings:
    """How scores are tested.

    Attributes
    ----------
    metric : str
        One of `onset.METRICS`.
    """

    images: str
    metric: str
    alpha: float
    n_permutations: int
    n_resamples: int
    consecutive: int
    seed: int


@dataclass(frozen=True)
class Scored:
    """One metric over the windows of one kind.

    Attributes
    ----------
    hits : array of shape (n_windows, n_queries)
    intervals : tuple of Interval
        Over images, a window each, not corrected for their number.
    onset : Latency
        Of shrinking windows the last start that is still above chance.
    """

    metric: str
    hits: Values
    chance: float
    corrected: Corrected
    intervals: tuple[Interval, ...]
    onset: Latency
    peak: Latency


@dataclass(frozen=True)
class Curve:
    """One run over the windows of one kind.

    Attributes
    ----------
    model : {'retrain', 'ridge'}
    scored, fine : Scored
        The metric asked for, and two-way identification.
    """

    name: str
    kind: str
    model: str
    windows: tuple[Window, ...]
    query_ids: tuple[str, ...]
    n_gallery: int
    repetitions: int
    targets: NDArray[np.intp]
    scored: Scored
    fine: Scored

    @property
    def places(self) -> Values:
        """Where the scores are drawn, seconds."""
        return np.array([window.at for window in self.windows])


@dataclass(frozen=True)
class Generalised:
    """Ridge maps of every window tried on every window.

    Attributes
    ----------
    scores, p : arrays of shape (n_windows, n_windows)
        Rows: trained; columns: tested. `p` is corrected for all cells.
    """

    name: str
    windows: tuple[Window, ...]
    metric: str
    chance: float
    scores: Values
    p: Values


def score(
    name: str, kind: str, model: str, windows: Sequence[Window], scorer: Scorer, settings: Settings, tick: Tick
) -> Curve:
    """Score a run in windows of one kind."""
    tests: dict[str, AboveChance] = {}
    hits: dict[str, list[Values]] = {settings.metric: [], FINE: []}
    data: TestData | None = None
    for number, window in enumerate(windows, start=1):
        similarity, data = scorer.similarity(window, settings.images, tick)
        for metric in hits:
            if metric not in tests:
                tests[metric] = _test(data, settings)
            hits[metric].append(tests[metric].add(outcomes(similarity, metric)))
        tick(number, len(windows))
    assert data is not None
    targets = tests[FINE].targets
    made = {
        metric: _scored(metric, np.stack(rows), tests[metric], windows, kind, len(data.gallery_ids), settings)
        for metric, rows in hits.items()
    }
    return Curve(
        name, kind, model, tuple(windows), tuple(data.query_ids), len(data.gallery_ids), data.repetitions, targets,
        made[settings.metric], made[FINE],
    )  # fmt: skip


def generalise(name: str, windows: Sequence[Window], ridged: Ridged, settings: Settings, tick: Tick) -> Generalised:
    """Train at every window, test at every window (King and Dehaene 2014)."""
    test: AboveChance | None = None
    n, n_gallery = len(windows), 0
    for row, trained in enumerate(windows):
        for tested in windows:
            similarity, data = ridged.similarity(trained, settings.images, tick, at=tested)
            test, n_gallery = test or _test(data, settings), len(data.gallery_ids)
            test.add(outcomes(similarity, settings.metric))
        tick(row + 1, n)
    assert test is not None
    found = test.result(settings.alpha)
    chance = chance_of(settings.metric, n_gallery)
    return Generalised(name, tuple(windows), settings.metric, chance, found.scores.reshape(n, n), found.p.reshape(n, n))


def compare(first: Curve, second: Curve, settings: Settings) -> Difference:
    """First minus second, window by window, image by image.

    Raises
    ------
    InputError
        If the two were scored on other images or windows.
    """
    if first.query_ids != second.query_ids or first.windows != second.windows:
        text = f"{first.name} and {second.name} were scored on other images or windows"
        raise InputError(text, where="analyze time", hint="compare runs of one subject, split and time axis")
    return difference(
        first.scored.hits, second.scored.hits, first.targets, n_resamples=settings.n_resamples, seed=settings.seed
    )


def chance_of(metric: str, n_gallery: int) -> float:
    """Score of a guess."""
    return 0.5 if metric == "two_way" else chance_top_k(n_gallery, {"top1": 1, "top5": 5}[metric])


def _test(data: TestData, settings: Settings) -> AboveChance:
    column = {name: number for number, name in enumerate(data.gallery_ids)}
    targets = np.array([column[name] for name in data.query_ids], dtype=np.intp)
    return AboveChance(targets, n_permutations=settings.n_permutations, seed=settings.seed)


def _scored(
    metric: str,
    hits: Values,
    test: AboveChance,
    windows: Sequence[Window],
    kind: str,
    n_gallery: int,
    settings: Settings,
) -> Scored:
    corrected, places = test.result(settings.alpha), np.array([window.at for window in windows])
    dealt: dict[str, Any] = {"n_resamples": settings.n_resamples, "seed": settings.seed}
    # Shrinking windows are searched from the shortest: the last start that is still above chance.
    order = slice(None, None, -1) if kind == "shrinking" else slice(None)
    first = onset(
        hits[order], test.targets, places[order], corrected.threshold, consecutive=settings.consecutive, **dealt
    )
    if kind == "shrinking" and first.index is not None:
        first = Latency(len(windows) - 1 - first.index, first.lo, first.hi, first.found)
    groups = None if len(np.unique(test.targets)) == len(test.targets) else test.targets
    intervals = tuple(bootstrap_interval(row, groups=groups, bounds=(0, 1), **dealt) for row in hits)
    return Scored(
        metric,
        hits,
        chance_of(metric, n_gallery),
        corrected,
        intervals,
        first,
        peak(hits, test.targets, places, **dealt),
    )
