"""What a run retrieved: ranks, the best, random and worst queries, and images that come first too often."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import InputError
from brainalign.evaluation import count_ranks
from brainalign.evaluation.result import read_predictions

N_NEIGHBOURS = 5


@dataclass(frozen=True)
class Neighbour:
    """A gallery image near a query.

    Attributes
    ----------
    similarity : float
        Cosine.
    shown : bool
        Whether it is the image that was shown.
    """

    stimulus_id: str
    similarity: float
    shown: bool


@dataclass(frozen=True)
class Retrieval:
    """One query and what it found.

    Attributes
    ----------
    rank : float
        Of the shown image, from 1; halves where images tie.
    similarity : float
        To the shown image.
    margin : float
        `similarity` minus that of the best other image: positive at rank 1.
    """

    stimulus_id: str
    rank: float
    similarity: float
    margin: float
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True)
class Confusion:
    """An image that was taken for another one: the other came first when it had been shown.

    Attributes
    ----------
    shown, taken_for : str
    queries : int
        How often; more than once only where an image has several queries.
    mutual : bool
        Whether the other one was taken for this one, too.
    deficit : float
        How far the other one was ahead, in standard deviations of the query's similarities; the mean over queries.
    """

    shown: str
    taken_for: str
    queries: int
    mutual: bool
    deficit: float


@dataclass(frozen=True)
class Hub:
    """A gallery image that came first for queries that showed something else."""

    stimulus_id: str
    wrongly_first: int


class Retrievals:
    """The stored similarities of a run, looked at query by query.

    Parameters
    ----------
    folder : path-like
        Folder of a finished run.

    Raises
    ------
    InputError
        If `predictions.npz` is missing or damaged, or a query's image is not in its gallery.
    """

    def __init__(self, folder: str | Path) -> None:
        stored = read_predictions(folder)
        self.similarity: NDArray[Any] = stored["similarity"]
        self.query_ids: tuple[str, ...] = stored["query_ids"]
        self.gallery_ids: tuple[str, ...] = stored["gallery_ids"]
        columns = {name: column for column, name in enumerate(self.gallery_ids)}
        missing = [name for name in self.query_ids if name not in columns]
        if missing:
            where = Path(folder) / "predictions.npz"
            raise InputError(
                f"query '{missing[0]}' is not in the gallery", where=where, hint="run it again in another folder"
            )
        self.targets = np.array([columns[name] for name in self.query_ids], dtype=np.intp)
        self.counts = count_ranks(self.similarity, self.targets)
        self.ranks = self.counts.ranks() + 1
        truth = self.similarity[np.arange(len(self.targets)), self.targets]
        others = self.similarity.copy()
        others[np.arange(len(self.targets)), self.targets] = -np.inf
        self._truth, self._margin = truth, truth - others.max(axis=1)

    @property
    def top1(self) -> float:
        """Share of queries whose image came first, as the stored similarities have it."""
        return float(self.counts.hits(1).mean())

    def best(self, n: int) -> list[Retrieval]:
        """Image first, by the largest margins."""
        order = np.lexsort((-self._margin, self.ranks))
        return self._take([q for q in order if self.ranks[q] == 1], n)

    def worst(self, n: int) -> list[Retrieval]:
        """Image farthest from first; ties by the largest deficit."""
        return self._take([q for q in np.lexsort((self._margin, -self.ranks)) if self.ranks[q] > 1], n)

    def drawn(self, n: int) -> list[Retrieval]:
        """Queries drawn blindly, the same at every call."""
        return self._take(np.random.default_rng(0).permutation(len(self.query_ids)), n)

    def hubs(self, n: int) -> list[Hub]:
        """Images that came first wrongly at least twice, most often first."""
        first = self.similarity.argmax(axis=1)
        wrong = first[first != self.targets]
        counts = np.bincount(wrong, minlength=len(self.gallery_ids))
        order = np.argsort(-counts, kind="stable")[:n]
        return [Hub(self.gallery_ids[c], int(counts[c])) for c in order if counts[c] > 1]

    def confusions(self, n: int) -> list[Confusion]:
        """Pairs that were taken for one another: mutual ones first, then the frequent, then the clearest."""
        first = self.similarity.argmax(axis=1)
        spread = np.maximum(self.similarity.std(axis=1), 1e-12)
        deficits: dict[tuple[int, int], list[float]] = {}
        for query in np.flatnonzero(self._margin < 0):  # a tie confuses nothing
            pair = (int(self.targets[query]), int(first[query]))
            deficits.setdefault(pair, []).append(float(-self._margin[query] / spread[query]))
        found, listed = [], set[tuple[int, int]]()
        for (shown, other), values in deficits.items():
            if (other, shown) not in listed:
                listed.add((shown, other))
                back = deficits.get((other, shown), [])
                both = [*values, *back]
                names = self.gallery_ids[shown], self.gallery_ids[other]
                found.append(Confusion(*names, len(both), bool(back), float(np.mean(both))))
        return sorted(found, key=lambda c: (not c.mutual, -c.queries, -c.deficit))[:n]

    def nearest(self, query: int, n: int) -> NDArray[np.intp]:
        """Columns of the gallery images nearest to a query, nearest first."""
        return np.argsort(-self.similarity[query], kind="stable")[:n]

    def margin(self, query: int) -> float:
        """Similarity to the shown image minus that to the best other one."""
        return float(self._margin[query])

    def cumulative(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """For k = 1 ... gallery size (thinned where large): share of queries with their image among the first k."""
        size = len(self.gallery_ids)
        ks = np.unique(np.geomspace(1, size, 120).round().astype(np.int64)) if size > 400 else np.arange(1, size + 1)
        return ks, np.array([self.counts.hits(int(k)).mean() for k in ks])

    def _take(self, queries: Any, n: int) -> list[Retrieval]:
        """The first n queries that show different images."""
        chosen: dict[str, int] = {}
        for query in queries:
            chosen.setdefault(self.query_ids[query], int(query))
            if len(chosen) == n:
                break
        return [self._one(query) for query in chosen.values()]

    def _one(self, query: int) -> Retrieval:
        row = self.similarity[query]
        nearest = np.argsort(-row, kind="stable")[:N_NEIGHBOURS]
        found = (Neighbour(self.gallery_ids[c], float(row[c]), bool(c == self.targets[query])) for c in nearest)
        rank, truth, margin = (float(x[query]) for x in (self.ranks, self._truth, self._margin))
        return Retrieval(self.query_ids[query], rank, truth, margin, tuple(found))
