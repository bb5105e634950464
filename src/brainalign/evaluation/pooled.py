"""One permutation test for the mean score of several runs (subjects, seeds) that share their test images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from brainalign.errors import InputError
from brainalign.evaluation.metrics import FloatArray
from brainalign.evaluation.permutation import PermutationTest, rank_counts_of
from brainalign.evaluation.result import read_predictions

_BLOCK = 2**18  # entries of permutations held at once


def pooled_permutation(
    runs: Sequence[tuple[FloatArray, Sequence[str], Sequence[str]]],
    metric: str = "top1",
    *,
    n_permutations: int = 10_000,
    seed: int = 0,
) -> PermutationTest:
    """Shuffle images once for all runs, and count how often the mean score over runs is as good.

    Runs that tested the same images get the same shuffle: what makes two subjects (or two seeds of one model) hit the
    same wrong pairs is kept under the hypothesis, so that more runs do not pass for more evidence than they are. Runs
    on other images are shuffled independently. See `permutation_test` for a single run.

    Parameters
    ----------
    runs : sequence of (similarity, query_ids, gallery_ids)
        Similarity of shape (n_queries, n_gallery); ids name its rows and columns.
    metric : str
        As in `permutation_test`.
    n_permutations : int
    seed : int

    Returns
    -------
    PermutationTest
        Of the mean over runs, each run counting alike.

    Raises
    ------
    InputError
        If there is no run, or fewer than one permutation.

    Examples
    --------
    >>> ids = [f"image{i}" for i in range(20)]
    >>> test = pooled_permutation([(np.eye(20), ids, ids), (np.eye(20), ids, ids)], n_permutations=999)
    >>> round(test.observed, 6), test.p_value
    (1.0, 0.001)
    """
    if not runs or n_permutations < 1:
        raise InputError(f"needs a run and a permutation, got {len(runs)} and {n_permutations}")
    together: dict[tuple[str, ...], FloatArray] = {}
    for similarity, queries, gallery in runs:
        images = tuple(sorted(set(queries)))
        values = _by_image(np.asarray(similarity), queries, gallery, images, metric) / (len(queries) * len(runs))
        together[images] = together[images] + values if images in together else values
    rng = np.random.default_rng(seed)
    observed = float(sum(np.trace(values) for values in together.values()))
    null = np.sum([_shuffled(values, n_permutations, rng) for values in together.values()], axis=0)
    as_good = int(np.count_nonzero(null >= observed - 1e-9))  # sums in another order differ in the last digits
    p = (1 + as_good) / (1 + n_permutations)
    return PermutationTest(metric, observed, p, float(null.mean()), float(null.std()), n_permutations)


def pooled_permutation_of_runs(folders: Sequence[Path], *, n_permutations: int = 10_000) -> PermutationTest:
    """The same of the stored similarities of finished runs, for top-1."""
    stored = [read_predictions(folder) for folder in folders]
    runs = [(one["similarity"], one["query_ids"], one["gallery_ids"]) for one in stored]
    return pooled_permutation(runs, n_permutations=n_permutations)


def _by_image(
    similarity: FloatArray, queries: Sequence[str], gallery: Sequence[str], images: Sequence[str], metric: str
) -> FloatArray:
    """Summed score of all queries of image i if they had shown image j, (n_images, n_images)."""
    column = {name: at for at, name in enumerate(gallery)}
    row = {name: at for at, name in enumerate(images)}
    scores = rank_counts_of(similarity, np.array([column[name] for name in images], dtype=np.intp)).values(metric)
    found = np.zeros((len(images), len(images)))
    np.add.at(found, [row[name] for name in queries], scores)
    return found


def _shuffled(values: FloatArray, n_permutations: int, rng: np.random.Generator) -> FloatArray:
    """Sum of values[i, permutation(i)] over i, (n_permutations,)."""
    n, sums = len(values), []
    step = max(1, _BLOCK // n)
    for start in range(0, n_permutations, step):
        tiles = np.tile(np.arange(n), (min(step, n_permutations - start), 1))
        sums.append(values[np.arange(n), rng.permuted(tiles, axis=1)].sum(axis=1))
    return np.concatenate(sums)
