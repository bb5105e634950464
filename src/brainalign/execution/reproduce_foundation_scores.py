"""What Ferrante et al. 2024 score, from a finished foundation run: classes and likeness of what was retrieved.

Nothing is opened again: similarities and embeddings of the test signals were kept when the run opened its test sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import InputError
from brainalign.evaluation import Interval, bootstrap_interval
from brainalign.evaluation.result import Result, read_predictions, read_result
from brainalign.evaluation.retrieved import (
    class_top_k_chance,
    class_top_k_hits,
    normalised_conversion,
    two_way_of_retrieved,
)
from brainalign.execution.foundation_scoring import read_embedded

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Source:
    """One subject of a finished foundation run, and its test images as a judge sees them.

    Attributes
    ----------
    result : Result
    similarity : array of shape (n_signals, n_gallery)
    embedded : array of shape (n_signals, shared)
        Unit norm.
    shown : int array of shape (n_signals,)
        Gallery column of the image of each signal.
    gallery : tuple of str
        Stimulus ids.
    judged : array of shape (n_gallery, dim)
        Features that images are compared by.
    classes : tuple of str
        Of the gallery images; empty where they have none.
    """

    result: Result
    similarity: Array
    embedded: Array
    shown: NDArray[np.intp]
    gallery: tuple[str, ...]
    judged: Array
    classes: tuple[str, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        """Image of each test signal."""
        return tuple(self.gallery[column] for column in self.shown)


def gallery_of(folder: Path) -> tuple[str, ...]:
    """Gallery of a source's folder, whose images a judge has to see."""
    found: tuple[str, ...] = read_predictions(folder)["gallery_ids"]
    return found


def read_source(folder: Path, judged: NDArray[Any], classes: Sequence[str] = ()) -> Source:
    """A source of a finished run.

    Parameters
    ----------
    folder : Path
        Below `sources/`.
    judged : array of shape (n_gallery, dim)
    classes : n_gallery class names, or nothing

    Raises
    ------
    InputError
        If a file is missing or damaged, or they do not belong together.
    """
    stored = read_predictions(folder)
    embedded, ids = read_embedded(folder)
    if ids != stored["query_ids"]:
        raise InputError("embeddings and predictions are of other signals", where=folder, hint="train again")
    column = {name: place for place, name in enumerate(stored["gallery_ids"])}
    return Source(
        read_result(folder),
        np.asarray(stored["similarity"], dtype=np.float64),
        np.asarray(embedded, dtype=np.float64),
        np.array([column[name] for name in ids], dtype=np.intp),
        stored["gallery_ids"],
        np.asarray(judged, dtype=np.float64),
        tuple(classes),
    )


def class_hits(source: Source, k: int) -> tuple[Array, float]:
    """Decoding: whether an image of the right class is among the first k retrieved, (n_signals,), and its chance."""
    order = np.argsort(-source.similarity, axis=1, kind="stable")[:, :k]
    retrieved = [[source.classes[column] for column in row] for row in order]
    true = [source.classes[column] for column in source.shown]
    return class_top_k_hits(retrieved, true, k), class_top_k_chance(source.classes, true, k)


def decoding_two_way(source: Source) -> Array:
    """Two-way share of the first retrieved image of every signal, among the images that were shown, (n_signals,)."""
    first = source.similarity.argmax(axis=1)
    return two_way_of_retrieved(source.judged[source.shown], source.judged[first])


def encoding_two_way(source: Source) -> Array:
    """Two-way share of the image of the recorded signal nearest to every shown image, (n_signals,)."""
    asked = source.similarity[:, source.shown]
    nearest = asked.argmax(axis=0)
    return two_way_of_retrieved(source.judged[source.shown], source.judged[source.shown[nearest]])


def conversion_two_way(source: Source, target: Source) -> Array:
    """Two-way share of the image of the target signal nearest to every source signal, (n_source_signals,).

    Both may have seen other images: what is compared is the likeness of the two images, among those of the source.
    """
    nearest = (source.embedded @ target.embedded.T).argmax(axis=1)
    return two_way_of_retrieved(source.judged[source.shown], target.judged[target.shown[nearest]])


def pooled(values: Sequence[Array], ids: Sequence[Sequence[str]], who: Sequence[str]) -> Interval:
    """Mean over subjects and images, with an interval that counts both as samples where all saw the same images.

    Parameters
    ----------
    values : sequence of arrays
        One a run (subject and seed), each a share a signal.
    ids : sequence of sequences of str
        The image of each signal.
    who : sequence of str
        Subject of each run; runs of one subject (seeds) are averaged first.
    """
    bounds = (0.0, 1.0)
    if all(sorted(one) == sorted(ids[0]) for one in ids):
        rows = [v[np.argsort(np.array(one), kind="stable")] for v, one in zip(values, ids, strict=True)]
        if len(rows) == 1:
            return bootstrap_interval(rows[0], bounds=bounds)
        return bootstrap_interval(np.stack(rows), groups=np.array(who), bounds=bounds)
    counts = [len(v) for v in values]
    return bootstrap_interval(np.concatenate(values), groups=np.repeat(np.array(who), counts), bounds=bounds)


@dataclass(frozen=True)
class Direction:
    """Conversion from one modality to another, over all pairs of subjects (and seeds).

    Attributes
    ----------
    normalised : Interval
        Two-way of the conversion divided by two-way of the target's own decoding; over images alone.
    two_way, target_two_way : float
    pool : int
        Target signals to choose from (the smallest number over subjects).
    n_pairs : int
    same_images : bool
        Whether both sides were tested on the same images.
    """

    source: str
    target: str
    normalised: Interval
    two_way: float
    target_two_way: float
    pool: int
    n_pairs: int
    same_images: bool


def direction(runs: Sequence[Sequence[Source]], source: str, target: str) -> Direction:
    """Score the conversion from one modality to another.

    Parameters
    ----------
    runs : sequence of sequences of Source
        Sources of every run (seed); only those of one run share a space.
    source, target : str
        Modalities; both were measured.
    """
    pairs = [
        (a, b) for run in runs for a in run for b in run if a.result.modality == source and b.result.modality == target
    ]
    targets = [one for run in runs for one in run if one.result.modality == target]
    ids, conversion = _by_image([(a.ids, conversion_two_way(a, b)) for a, b in pairs])
    own_ids, decoding = _by_image([(b.ids, decoding_two_way(b)) for b in targets])
    same = ids == own_ids
    return Direction(
        source,
        target,
        normalised_conversion(conversion, decoding, paired=same),
        float(conversion.mean()),
        float(decoding.mean()),
        min(len(b.ids) for b in targets),
        len(pairs),
        same,
    )


def _by_image(rows: Sequence[tuple[Sequence[str], Array]]) -> tuple[list[str], Array]:
    """Mean value of every image over all that saw it, in the order of their names."""
    found: dict[str, list[float]] = {}
    for ids, values in rows:
        for name, value in zip(ids, values, strict=True):
            found.setdefault(name, []).append(float(value))
    names = sorted(found)
    return names, np.array([np.mean(found[name]) for name in names])
