"""Score one identification: every metric with interval, chance and permutation p-value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainalign.errors import InputError
from brainalign.evaluation.intervals import bootstrap_interval, proportion_interval
from brainalign.evaluation.metrics import chance_top_k, check_similarity, count_ranks
from brainalign.evaluation.permutation import permutation_test

_NOT_IN_RESULT = ("mrr_ci95", "two_way_ci95", "permuted_top1")


@dataclass(frozen=True)
class RetrievalScores:
    """How well signals find their images in a gallery.

    Attributes
    ----------
    n_way : int
        Images in the gallery.
    n_queries : int
    repetitions : int
        Presentations averaged into one query.
    top1, top5 : float
        Share of queries whose true image is first, or among the first five; ties in expectation.
    top1_ci95, top5_ci95 : list of 2 float
        `proportion_interval` over images.
    mrr, two_way : float
        Mean reciprocal rank; share of (query, distractor) pairs won.
    mrr_ci95, two_way_ci95 : list of 2 float
        `bootstrap_interval` over images.
    median_rank : float
        1-based.
    chance_top1, chance_top5 : float
    permutation_p : float
        Of top1, images shuffled.
    permuted_top1 : float
        Mean top1 over those shuffles: checks the scoring (it must be near chance), not the training.
    """

    n_way: int
    n_queries: int
    repetitions: int
    top1: float
    top1_ci95: list[float]
    top5: float
    top5_ci95: list[float]
    mrr: float
    mrr_ci95: list[float]
    median_rank: float
    two_way: float
    two_way_ci95: list[float]
    chance_top1: float
    chance_top5: float
    permutation_p: float
    permuted_top1: float

    def to_dict(self) -> dict[str, Any]:
        """The fields that `result.json` holds: all but `mrr_ci95`, `two_way_ci95` and `permuted_top1`."""
        return {name: value for name, value in asdict(self).items() if name not in _NOT_IN_RESULT}


def evaluate_retrieval(
    similarity: ArrayLike,
    query_ids: Sequence[str],
    gallery_ids: Sequence[str],
    *,
    repetitions: int = 1,
    seed: int = 0,
    n_resamples: int = 10_000,
    n_permutations: int = 10_000,
) -> RetrievalScores:
    """Score a similarity matrix whose rows and columns are named by stimulus.

    Where an image has several queries, they depend on each other: intervals and permutations then take the image, not
    the query, as the unit.

    Parameters
    ----------
    similarity : array of shape (n_queries, n_gallery)
        Higher is more similar; finite.
    query_ids : sequence of n_queries str
        What each signal showed.
    gallery_ids : sequence of n_gallery str
        All different, holding every query's image.
    repetitions : int
        Presentations averaged into one query; stated in the result, not used.
    seed : int
        Of resamples and permutations.
    n_resamples : int
        For the intervals of `mrr` and `two_way`; those of hit rates are in closed form.
    n_permutations : int

    Returns
    -------
    RetrievalScores

    Raises
    ------
    InputError
        For shapes that do not fit, NaN or infinity, an empty matrix, a gallery of one image, an image twice in the
        gallery, or a query whose image is not in it.

    Examples
    --------
    >>> names = [f"things/{i:03}" for i in range(50)]
    >>> scores = evaluate_retrieval(np.eye(50), names, names, repetitions=80)
    >>> scores.top1, [round(x, 3) for x in scores.top1_ci95], scores.chance_top1
    (1.0, [0.929, 1.0], 0.02)
    """
    matrix = check_similarity(similarity)
    if repetitions < 1:
        raise InputError(f"repetitions must be 1 or more, got {repetitions}")
    targets = _targets(matrix, query_ids, gallery_ids)
    counts = count_ranks(matrix, targets)
    groups = targets if len(np.unique(targets)) < len(targets) else None
    top1, top5 = (proportion_interval(counts.hits(k), groups=groups) for k in (1, 5))
    mrr, two_way = (
        bootstrap_interval(counts.values(metric), n_resamples=n_resamples, seed=seed, groups=groups, bounds=(0.0, 1.0))
        for metric in ("mrr", "two_way")
    )
    permuted = permutation_test(matrix, targets, "top1", n_permutations=n_permutations, seed=seed)
    return RetrievalScores(
        n_way=matrix.shape[1],
        n_queries=matrix.shape[0],
        repetitions=int(repetitions),
        top1=top1.estimate,
        top1_ci95=top1.as_list(),
        top5=top5.estimate,
        top5_ci95=top5.as_list(),
        mrr=mrr.estimate,
        mrr_ci95=mrr.as_list(),
        median_rank=float(np.median(counts.ranks()) + 1),
        two_way=two_way.estimate,
        two_way_ci95=two_way.as_list(),
        chance_top1=chance_top_k(matrix.shape[1], 1),
        chance_top5=chance_top_k(matrix.shape[1], 5),
        permutation_p=permuted.p_value,
        permuted_top1=permuted.null_mean,
    )


def _targets(matrix: NDArray[Any], query_ids: Sequence[str], gallery_ids: Sequence[str]) -> NDArray[np.intp]:
    """Gallery column of each query, after all checks of names and shapes."""
    if matrix.shape != (len(query_ids), len(gallery_ids)):
        expected = f"{len(query_ids)} query ids x {len(gallery_ids)} gallery ids"
        raise InputError(f"similarity has shape {matrix.shape}, the names say {expected}")
    if len(gallery_ids) < 2:
        raise InputError("the gallery holds one image", hint="identification needs 2 images or more to choose from")
    if not np.isfinite(matrix).all():
        row, column = np.argwhere(~np.isfinite(matrix))[0]
        raise InputError(f"similarity is infinite at query {row} ({query_ids[row]}), image {gallery_ids[column]}")
    columns = {name: column for column, name in enumerate(gallery_ids)}
    if len(columns) < len(gallery_ids):
        twice = next(name for column, name in enumerate(gallery_ids) if columns[name] != column)
        raise InputError(f"the gallery holds {twice} more than once", hint="name every gallery image once")
    missing = [name for name in query_ids if name not in columns]
    if missing:
        shown = ", ".join(map(str, missing[:3])) + (", ..." if len(missing) > 3 else "")
        raise InputError(f"{len(missing)} of {len(query_ids)} queries show images that are not in the gallery: {shown}")
    return np.array([columns[name] for name in query_ids], dtype=np.intp)
