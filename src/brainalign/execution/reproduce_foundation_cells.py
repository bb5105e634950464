"""Cells of Ferrante et al. 2024: which data answer them, our score, and what stands beside it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from brainalign.execution.cells import Place
from brainalign.execution.reproduce_foundation_scores import (
    Direction,
    Source,
    class_hits,
    decoding_two_way,
    direction,
    encoding_two_way,
    pooled,
)
from brainalign.execution.reproduce_scores import TOP, Score, not_comparable
from brainalign.recipes.published_tables import Cell, PublishedTable

CONVERSION, ENCODING = "conversion", "encoding"
BETWEEN = "-to-"
THEIRS = ("eeg", "meg", "fmri")
LIKENESS = "clip_two_way"


@dataclass(frozen=True)
class Looked:
    """Finished runs and the images that a judge looked at.

    Attributes
    ----------
    runs : tuple of tuples of Source
        One a seed.
    judge : str
        Backbone whose final output images are compared by.
    asked : bool
        Whether the judge was asked for; else it is the anchor of the runs.
    random : bool
        Whether its weights are.
    places : tuple of Place
    """

    runs: tuple[tuple[Source, ...], ...]
    judge: str
    asked: bool
    random: bool
    places: tuple[Place, ...]

    @functools.cached_property
    def directions(self) -> tuple[Direction, ...]:
        """All conversions between two modalities."""
        kinds = list(dict.fromkeys(one.result.modality for one in self.runs[0]))
        return tuple(direction(self.runs, a, b) for a in kinds for b in kinds if a != b)

    def described(self) -> list[dict[str, Any]]:
        """All directions as the document holds them; shares."""
        return [
            {
                "source": one.source,
                "target": one.target,
                "n_pairs": one.n_pairs,
                "pool": one.pool,
                "same_images": one.same_images,
                "two_way": one.two_way,
                "target_two_way": one.target_two_way,
                "normalised": one.normalised.estimate,
                "normalised_ci95": one.normalised.as_list(),
                "chance_normalised": 0.5 / one.target_two_way,
            }
            for one in self.directions
        ]


def is_conversion(cell: Cell) -> bool:
    """Whether a cell is about two modalities or more."""
    return cell.condition == CONVERSION


def modalities_of(cell: Cell) -> tuple[str, ...]:
    """Modalities that a cell is about: of a conversion source and target, or all three."""
    if not is_conversion(cell):
        return (cell.run.modality or "",)
    return tuple(cell.row.split(BETWEEN)) if BETWEEN in cell.row else THEIRS


def missing_modalities(cell: Cell, places: Sequence[Place]) -> list[str]:
    """What a conversion lacks; of "all directions" two of the three modalities will do."""
    here = {place.dataset.info.modality for place in places if place.dataset is not None and place.subjects}
    wanted = modalities_of(cell)
    missing = [name for name in wanted if name not in here]
    return [] if BETWEEN not in cell.row and len(wanted) - len(missing) >= 2 else missing


def place_of(cell: Cell, places: Sequence[Place]) -> Place | None:
    """The data set that answers a cell: the paper's own, or else the first of its modality."""
    own = [place for place in places if place.base == cell.run.dataset]
    alike = [p for p in places if p.dataset is not None and p.dataset.info.modality == cell.run.modality]
    return next(iter([*own, *alike]), None)


def score_of(cell: Cell, looked: Looked) -> Score | str:
    """Our score of a cell, or why there is none."""
    return _converted(cell, looked) if is_conversion(cell) else _retrieved(cell, looked)


def _sources(cell: Cell, looked: Looked) -> list[Source]:
    place = place_of(cell, looked.places)
    assert place is not None and place.dataset is not None
    return [one for run in looked.runs for one in run if one.result.dataset == place.dataset.name]


def _retrieved(cell: Cell, looked: Looked) -> Score | str:
    sources = _sources(cell, looked)
    if cell.metric == LIKENESS:
        of = encoding_two_way if cell.condition == ENCODING else decoding_two_way
        values, chance = [of(one) for one in sources], 0.5
    elif not all(one.classes for one in sources):
        return f"the images of {sources[0].result.dataset} have no classes"
    else:
        found = [class_hits(one, TOP[cell.metric]) for one in sources]
        values, chance = [hits for hits, _ in found], float(np.mean([share for _, share in found]))
    who = [one.result.subject for one in sources]
    n_way = len(sources[0].ids) if cell.condition == ENCODING else len(sources[0].gallery)
    return _score(sources, pooled(values, [one.ids for one in sources], who), chance, n_way)


def _asked(cell: Cell, looked: Looked) -> list[Direction]:
    wanted = modalities_of(cell)
    if BETWEEN in cell.row:
        return [one for one in looked.directions if (one.source, one.target) == wanted]
    return [one for one in looked.directions if one.source in wanted and one.target in wanted]


def _converted(cell: Cell, looked: Looked) -> Score:
    """The conversion asked for; of several directions the lowest: the paper says that all lie above."""
    lowest = min(_asked(cell, looked), key=lambda one: one.normalised.estimate)
    sources = [one for run in looked.runs for one in run if one.result.modality in (lowest.source, lowest.target)]
    return _score(sources, lowest.normalised, 0.5 / lowest.target_two_way, lowest.pool)


def _score(sources: Sequence[Source], interval: Any, chance: float, n_way: int) -> Score:
    results = [one.result for one in sources]
    labels = [result.target.label for result in results]
    return Score(
        interval=interval,
        subjects=tuple(dict.fromkeys(result.subject for result in results)),
        seeds=tuple(dict.fromkeys(result.seed for result in results)),
        layers={name: labels.count(name) for name in dict.fromkeys(labels)},
        depth=float(np.mean([result.target.depth for result in results])),
        chance=chance,
        n_way=n_way,
        n_train=min(result.n_train for result in results),
        repetitions=min(result.metrics.test.repetitions for result in results),
        test_reads=max(result.test_reads for result in results),
        exploratory=None,
    )


def not_comparable_here(cell: Cell, score: Score, table: PublishedTable, looked: Looked) -> str:
    """Why our score and theirs are not to be subtracted; empty if they are."""
    own = {one.run.modality: one.run.dataset for one in table.cells if not is_conversion(one)}
    if not is_conversion(cell):
        place = place_of(cell, looked.places)
        assert place is not None
        return not_comparable(cell, score, place) or _no_clip(cell, looked)
    used = [p for p in looked.places if p.dataset is not None and p.dataset.info.modality in modalities_of(cell)]
    if any(place.virtual for place in used):
        return "virtual data"
    others = [p.name for p in used if p.dataset is not None and p.base != own.get(p.dataset.info.modality)]
    if others:
        return f"other data ({', '.join(others)})"
    return cell.run.not_comparable or _no_clip(cell, looked)


def _no_clip(cell: Cell, looked: Looked) -> str:
    """A two-way by another model than a CLIP is another score."""
    if cell.metric != LIKENESS:
        return ""
    if looked.random:
        return "images compared by random weights"
    return "" if "clip" in looked.judge.lower() else f"images compared by {looked.judge}, which is no CLIP"


def remarks(cell: Cell, score: Score, marks: Sequence[str], looked: Looked) -> list[str]:
    """What our number was got otherwise, and what whoever reads it must know."""
    said = list(marks)
    if is_conversion(cell):
        used, kinds = (
            [one for one in looked.runs[0] if one.result.modality in modalities_of(cell)],
            _asked(cell, looked),
        )
        said += _directions(cell, kinds)
    else:
        used = [one for one in _sources(cell, looked) if one.result.seed == score.seeds[0]]
        said.append(f"chance {100 * score.chance:.1f}, {score.n_way} to choose from")
        several = len(score.subjects) > 1
        said.append(f"subjects {', '.join(score.subjects)}" if several else "interval over images alone")
    if cell.metric in TOP:
        said.append(f"an image of the right class among the first {TOP[cell.metric]}")
    if cell.condition == ENCODING:
        said.append("the nearest recorded test signal alone")
    if cell.metric == LIKENESS:
        own = "" if looked.asked else ", the anchor of the run itself"
        said.append(f"images compared by {looked.judge}, final output{own}")
    if len(looked.places) > 1:
        said.append(f"one space trained on {', '.join(place.name for place in looked.places)}")
    if score.test_reads > 1:
        said.append(f"test set opened {score.test_reads} times")
    return [*said, *sorted({text for one in used for text in one.result.always_said})]


def _directions(cell: Cell, kinds: Sequence[Direction]) -> list[str]:
    """The conversions behind a cell, each with its numbers, and what the interval is."""
    told = [
        f"{one.source} to {one.target}: {100 * one.normalised.estimate:.1f} = two-way {100 * one.two_way:.1f} of the "
        f"conversion / {100 * one.target_two_way:.1f} of the target's own decoding, {one.pool} signals in the pool"
        f" (chance {50 / one.target_two_way:.1f})"
        + ("" if one.same_images else ", source and target tested on different images")
        for one in kinds
    ]
    said = ["interval over images alone", *told]
    if BETWEEN in cell.row:
        return said
    n_all = len(THEIRS) * (len(THEIRS) - 1)
    return [f"the lowest of {len(kinds)} directions (of the paper's {n_all}), with its own interval", *said]
