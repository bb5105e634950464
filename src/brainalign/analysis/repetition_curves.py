"""Scores of a finished run when only k trials of every test image are averaged, before the model or after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainalign.analysis.reopened import Reopened
from brainalign.analysis.stored_score import check_score
from brainalign.errors import InputError
from brainalign.evaluation import Interval, bootstrap_interval, chance_top_k, paired_bootstrap, top_k_hits
from brainalign.evaluation.paired import PairedComparison
from brainalign.execution.progress import Tick
from brainalign.recordings import Recording
from brainalign.recordings.selection import select_signals

WAYS = ("signals", "predictions")
BLOCK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Point:
    """The score at one number of repetitions.

    Attributes
    ----------
    way : {'signals', 'predictions'}
        What is averaged over the k trials.
    k : int
    top1, top5 : Interval
        Mean over draws and images; over images.
    spread : float
        Standard deviation of top-1 over draws of trials; 0 where all trials are taken.
    hits : array of shape (n_images,)
        Share of draws in which an image was found first.
    """

    way: str
    k: int
    top1: Interval
    top5: Interval
    spread: float
    lowest: float
    highest: float
    hits: NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """Scores of one run over the number of repetitions.

    Attributes
    ----------
    n_trials : int
        Trials an image has (the fewest).
    stored_mean : int
        Presentations behind one stored trial; above 1 where the data hold averages.
    differences : dict of int to PairedComparison
        Averaged signals minus averaged predictions, image by image.
    """

    name: str
    points: tuple[Point, ...]
    differences: dict[int, PairedComparison]
    n_trials: int
    stored_mean: int
    n_images: int
    chance_top1: float
    chance_top5: float
    stored_top1: float
    all_top1: float

    def of(self, way: str) -> list[Point]:
        """Points of one way, few repetitions first."""
        return [point for point in self.points if point.way == way]

    def needed(self, share: float) -> int:
        """The fewest averaged trials that reach a share of the way from chance to the score of the most trials."""
        points = self.of("signals")
        if points[-1].top1.estimate <= self.chance_top1:
            return points[-1].k
        goal = self.chance_top1 + share * (points[-1].top1.estimate - self.chance_top1)
        return next(p.k for p in points if p.top1.estimate >= goal)


def numbers_of_repetitions(asked: Sequence[int], available: int) -> list[int]:
    """Powers of two up to what there is and that itself, or the numbers asked for.

    Raises
    ------
    InputError
        If there is one trial an image, or more are asked for than there are.

    Examples
    --------
    >>> numbers_of_repetitions([], 80)
    [1, 2, 4, 8, 16, 32, 64, 80]
    """
    if available < 2:
        text = "the test images have one stored trial: there is nothing to average"
        raise InputError(text, where="analyze repetitions", hint="a data set with single trials is needed")
    if not asked:
        return sorted({2**i for i in range(available.bit_length()) if 2**i < available} | {available})
    if max(asked) > available or min(asked) < 1:
        text = f"{min(asked) if min(asked) < 1 else max(asked)} repetitions asked for, the test images have {available}"
        raise InputError(text, where="--repetitions", hint=f"ask for 1 to {available}")
    return sorted(set(asked))


def measure(run: Reopened, asked: Sequence[int], n_draws: int, seed: int, tick: Tick) -> Curve:
    """Score a run at every number of repetitions; opens the test set, unless its session has done so.

    Draws are nested: the k trials of a draw are the first k of one random order, so that a draw's curve is that of a
    recording that goes on. Both ways take the same trials.
    """
    result, recipe = run.result, run.recipe
    trials, ids, gallery, whole = _open(run)
    groups = [trials.trials_of(name) for name in ids]
    available = min(map(len, groups))
    ks = numbers_of_repetitions(asked, available)
    images = {"image": run.targets.of(gallery)}
    stored_mean = int(trials.trials["n_averaged"].max())
    similarity = np.empty((len(WAYS), len(ks), n_draws, len(ids), len(gallery)), np.float32)
    row_bytes = 4 * trials.n_chans * trials.n_times * (max(map(len, groups)) + len(ks) * n_draws)
    block = max(1, BLOCK_BYTES // row_bytes)
    for start in range(0, len(ids), block):
        part = range(start, min(start + block, len(ids)))
        found = _similarities(run, trials, [groups[i] for i in part], part, images, ks, n_draws, seed, stored_mean)
        similarity[..., part.start : part.stop, :] = found
        tick(part[-1] + 1, len(ids))
    places = np.array([gallery.index(name) for name in ids])
    # Means of everything come by the run's own path, not by ours: the two must agree.
    again = run.aligner.similarity(whole[0], images, repetitions=whole[1])
    all_top1 = float(top_k_hits(again, places, 1).mean())
    stored = result.metrics.test.top1
    if recipe.evaluation.repetitions is None and recipe.evaluation.gallery == "shown":
        check_score(run.folder, "test", stored, all_top1, len(ids))
    points = [
        _point(way, k, similarity[w, i, : 1 if k == max(map(len, groups)) else n_draws], places, seed)
        for w, way in enumerate(WAYS)
        for i, k in enumerate(ks)
    ]
    by = {(p.way, p.k): p.hits for p in points}
    differences = {k: paired_bootstrap(by["signals", k], by["predictions", k], seed=seed) for k in ks}
    return Curve(
        run.name, tuple(points), differences, available, stored_mean, len(ids), chance_top_k(len(gallery), 1),
        chance_top_k(len(gallery), 5), stored, all_top1,
    )  # fmt: skip


def _open(
    run: Reopened,
) -> tuple[Recording, tuple[str, ...], tuple[str, ...], tuple[NDArray[np.float32], tuple[int, ...]]]:
    """Single test trials as the run's model takes them, what they are found among, and the run's own averages."""
    held: list[Recording] = []

    def select(recording: Recording) -> Recording:
        held.append(select_signals(recording, run.recipe.signals))
        return held[-1]

    data = run.session.open_test(run.result.subject, run.result.split).data(select=select)
    return held[0], data.query_ids, data.gallery_ids, (data.signals, data.counts)


def _similarities(
    run: Reopened,
    trials: Recording,
    groups: Sequence[NDArray[np.intp]],
    numbers: Sequence[int],
    images: dict[str, NDArray[np.float32]],
    ks: Sequence[int],
    n_draws: int,
    seed: int,
    stored_mean: int,
) -> NDArray[np.float32]:
    """Similarities of some images' signals to the gallery, (2, n_ks, n_draws, n_images, n_gallery)."""
    signals = trials.read(np.concatenate(groups))
    single = run.aligner.similarity(signals, images, repetitions=(stored_mean,) * len(signals))
    ends = np.cumsum([len(group) for group in groups])
    averaged = np.empty((len(ks), n_draws, len(groups), *signals.shape[1:]), np.float32)
    after = np.empty((len(ks), n_draws, len(groups), single.shape[1]), np.float32)
    for place, (number, end) in enumerate(zip(numbers, ends, strict=True)):
        rows = slice(end - len(groups[place]), end)
        for draw in range(n_draws):
            order = np.random.default_rng([seed, draw, number]).permutation(rows.stop - rows.start)
            averaged[:, draw, place] = means_of_first(signals[rows][order], ks)
            after[:, draw, place] = means_of_first(single[rows][order], ks)
    before = np.stack([
        run.aligner.similarity(
            block.reshape(-1, *signals.shape[1:]), images, repetitions=(k * stored_mean,) * (n_draws * len(groups))
        ).reshape(n_draws, len(groups), -1)
        for k, block in zip(ks, averaged, strict=True)
    ])  # fmt: skip
    return np.stack([before, after])


def means_of_first(values: NDArray[np.float32], ks: Sequence[int]) -> NDArray[np.float64]:
    """Means of the first k of n values, for every k: (n, ...) to (n_ks, ...).

    Examples
    --------
    >>> means_of_first(np.array([[1.0], [3.0], [5.0]], np.float32), [1, 3]).ravel().tolist()
    [1.0, 3.0]
    """
    sums = np.cumsum(values, axis=0, dtype=np.float64)
    return np.stack([sums[k - 1] / k for k in ks])


def _point(way: str, k: int, similarity: NDArray[np.float32], places: NDArray[np.intp], seed: int) -> Point:
    """Score of (n_draws, n_images, n_gallery)."""
    first = np.stack([top_k_hits(draw, places, 1) for draw in similarity])
    fifth = np.stack([top_k_hits(draw, places, 5) for draw in similarity])
    by_draw = first.mean(1)
    spread = float(by_draw.std(ddof=1)) if len(by_draw) > 1 else 0.0
    hits = first.mean(0)
    top1, top5 = (bootstrap_interval(v, bounds=(0, 1), seed=seed) for v in (hits, fifth.mean(0)))
    return Point(way, k, top1, top5, spread, float(by_draw.min()), float(by_draw.max()), hits)
