"""Identification metrics against torchmetrics, scikit-learn, scipy and every possible tie-break."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from brainalign.errors import InputError
from brainalign.evaluation import (
    chance_top_k,
    count_ranks,
    mean_reciprocal_rank,
    median_rank,
    ranks,
    top_k_accuracy,
    top_k_hits,
    two_way_identification,
)

FloatArray = NDArray[np.float64]


@pytest.fixture
def scored() -> tuple[FloatArray, NDArray[np.intp]]:
    """120 queries x 60 gallery images without ties, images repeated, of a decoder that half works."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 60, 120)
    similarity = rng.standard_normal((120, 60))
    similarity[np.arange(120), targets] += 1.5
    return similarity, targets


@pytest.mark.parametrize("k", [1, 2, 5, 60])
def test_top_k_is_scikit_learns_and_torchmetrics(scored: tuple[FloatArray, NDArray[np.intp]], k: int) -> None:
    import torch
    from sklearn.metrics import top_k_accuracy_score
    from torchmetrics.functional.classification import multiclass_accuracy

    similarity, targets = scored
    ours = top_k_accuracy(similarity, targets, k)
    if k < 60:  # scikit-learn warns where k is all classes
        assert ours == pytest.approx(top_k_accuracy_score(targets, similarity, k=k, labels=np.arange(60)))
    theirs = multiclass_accuracy(
        torch.from_numpy(similarity), torch.from_numpy(targets), num_classes=60, average="micro", top_k=k
    )
    assert ours == pytest.approx(float(theirs))


def test_reciprocal_rank_is_torchmetrics(scored: tuple[FloatArray, NDArray[np.intp]]) -> None:
    import torch
    from torchmetrics.functional.retrieval import retrieval_reciprocal_rank

    similarity, targets = scored
    theirs = [
        float(retrieval_reciprocal_rank(torch.from_numpy(row), torch.arange(60) == int(target)))
        for row, target in zip(np.exp(similarity), targets, strict=True)  # torchmetrics takes scores <= 0 as no answer
    ]
    np.testing.assert_allclose(count_ranks(similarity, targets).reciprocal_ranks(), theirs, rtol=1e-6)
    assert mean_reciprocal_rank(similarity, targets) == pytest.approx(np.mean(theirs))


@pytest.mark.parametrize("ties", [False, True])
def test_two_way_is_the_mean_area_under_each_querys_roc_curve(
    scored: tuple[FloatArray, NDArray[np.intp]], ties: bool
) -> None:
    from sklearn.metrics import roc_auc_score

    similarity, targets = scored
    if ties:
        similarity = similarity.round()
    areas = [roc_auc_score(np.arange(60) == t, row) for row, t in zip(similarity, targets, strict=True)]
    assert two_way_identification(similarity, targets) == pytest.approx(np.mean(areas))


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (700, 1000), (5, 300_000)])  # the last two take several blocks
def test_ranks_are_scipys(shape: tuple[int, int]) -> None:
    from scipy.stats import rankdata

    rng = np.random.default_rng(1)
    similarity = rng.standard_normal(shape).astype(np.float32).round(2)  # rounded: with ties
    targets = rng.integers(0, shape[1], shape[0])
    expected = rankdata(-similarity, axis=1)[np.arange(shape[0]), targets]
    np.testing.assert_array_equal(ranks(similarity, targets), expected - 1)
    assert median_rank(similarity, targets) == np.median(expected)


def test_ties_are_the_mean_over_every_order_of_the_gallery() -> None:
    similarity = np.random.default_rng(2).integers(0, 3, size=(40, 5)).astype(float)
    targets = np.random.default_rng(3).integers(0, 5, 40)
    places = []  # 0-based place of the truth, for each order of the columns, ties broken by that order
    for order in itertools.permutations(range(5)):
        shuffled = np.argsort(-similarity[:, order], axis=1, kind="stable")
        places.append(np.argmax(np.array(order)[shuffled] == targets[:, None], axis=1))
    place = np.array(places)
    np.testing.assert_allclose(ranks(similarity, targets), place.mean(axis=0))
    for k in (1, 2, 3, 5):
        np.testing.assert_allclose(top_k_hits(similarity, targets, k), (place < k).mean(axis=0))
    assert mean_reciprocal_rank(similarity, targets) == pytest.approx((1 / (place + 1)).mean())
    assert two_way_identification(similarity, targets) == pytest.approx(1 - (place / 4).mean())


def test_a_constant_matrix_scores_chance() -> None:
    similarity, targets = np.full((7, 20), 0.25), np.arange(7)
    assert top_k_accuracy(similarity, targets, 1) == pytest.approx(chance_top_k(20, 1)) == pytest.approx(0.05)
    assert top_k_accuracy(similarity, targets, 5) == pytest.approx(chance_top_k(20, 5)) == pytest.approx(0.25)
    assert two_way_identification(similarity, targets) == 0.5
    assert median_rank(similarity, targets) == 10.5
    assert mean_reciprocal_rank(similarity, targets) == pytest.approx(np.mean(1 / np.arange(1, 21)))


def test_k_beyond_the_gallery_always_hits() -> None:
    assert top_k_accuracy(np.eye(3), [2, 1, 0], k=5) == chance_top_k(3, 5) == 1.0


def test_infinities_are_ordered() -> None:
    similarity = np.array([[-np.inf, 0.0, np.inf], [-np.inf, -np.inf, 1.0]])
    assert ranks(similarity, [2, 0]).tolist() == [0.0, 1.5]


def test_nan_is_refused_where_it_stands() -> None:
    similarity = np.zeros((3, 4), dtype=np.float32)
    similarity[1, 2] = np.nan
    with pytest.raises(InputError, match="query 1, gallery column 2"):
        top_k_accuracy(similarity, [0, 1, 2], 1)


@pytest.mark.parametrize(
    ("similarity", "targets", "message"),
    [
        (np.zeros(3), [0], r"matrix of real numbers, got shape \(3,\)"),
        (np.zeros((0, 3)), np.zeros(0, dtype=int), "empty"),
        (np.zeros((2, 0)), [0, 0], "empty"),
        (np.zeros((2, 3), dtype=complex), [0, 0], "complex"),
        (np.zeros((2, 3)), [0], r"2 gallery columns"),
        (np.zeros((2, 3)), [0.0, 1.0], "integers"),
        (np.zeros((2, 3)), [0, 3], r"target 3 of query 1 is outside the gallery's columns 0\.\.2"),
        (np.zeros((2, 3)), [-1, 0], "target -1 of query 0"),
    ],
)
def test_bad_input_is_named(similarity: FloatArray, targets: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ranks(similarity, targets)


def test_other_refusals() -> None:
    with pytest.raises(InputError, match="k must be a whole number"):
        top_k_hits(np.eye(2), [0, 1], 0)
    with pytest.raises(InputError, match="2 images or more"):
        two_way_identification(np.zeros((2, 1)), [0, 0])
    with pytest.raises(InputError, match="unknown metric 'top-1'; did you mean 'top1'"):
        count_ranks(np.eye(2), [0, 1]).values("top-1")
