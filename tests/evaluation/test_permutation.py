"""The permutation test against full enumeration, and its error rate where there is nothing to find."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from brainalign.errors import InputError
from brainalign.evaluation import (
    count_ranks,
    mean_reciprocal_rank,
    permutation_test,
    top_k_accuracy,
    two_way_identification,
)
from brainalign.evaluation.permutation import rank_counts_of

SCORES = {
    "top1": lambda s, t: top_k_accuracy(s, t, 1),
    "top2": lambda s, t: top_k_accuracy(s, t, 2),
    "mrr": mean_reciprocal_rank,
    "two_way": two_way_identification,
}


@pytest.mark.parametrize("metric", SCORES)
@pytest.mark.parametrize("ties", [False, True])
def test_p_and_null_mean_are_those_of_all_permutations(metric: str, ties: bool) -> None:
    similarity = np.random.default_rng(4).standard_normal((6, 9)) + 0.7 * np.eye(6, 9)[:, ::-1]
    similarity = similarity.round() if ties else similarity
    targets = np.array([8, 7, 6, 5, 4, 3])
    null = np.array([SCORES[metric](similarity, targets[list(order)]) for order in itertools.permutations(range(6))])
    observed = SCORES[metric](similarity, targets)
    found = permutation_test(similarity, targets, metric, n_permutations=20_000, seed=0)
    exact = np.mean(null >= observed - 1e-9)
    assert found.observed == pytest.approx(observed)
    assert found.p_value == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 20_000) + 1e-4)
    assert found.null_mean == pytest.approx(null.mean(), abs=4 * null.std() / np.sqrt(20_000))
    assert found.null_std == pytest.approx(null.std(), rel=0.05)


def test_ranks_of_every_column_are_those_of_that_column_as_target() -> None:
    similarity = np.random.default_rng(5).integers(0, 4, size=(8, 12)).astype(np.float32)
    every = rank_counts_of(similarity, np.arange(12))
    for column in range(12):
        one = count_ranks(similarity, np.full(8, column))
        np.testing.assert_array_equal(every.above[:, column], one.above)
        np.testing.assert_array_equal(every.tied[:, column], one.tied)


@pytest.mark.parametrize(("metric", "lowest"), [("mrr", 0.025), ("two_way", 0.025), ("top1", 0.0)])
def test_noise_is_rejected_no_more_often_than_promised(metric: str, lowest: float) -> None:
    rng = np.random.default_rng(6)
    p = [
        permutation_test(rng.standard_normal((40, 40)), np.arange(40), metric, n_permutations=199, seed=i).p_value
        for i in range(400)
    ]
    rejected = np.mean(np.array(p) <= 0.05)
    assert lowest <= rejected <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def test_repetitions_of_an_image_are_moved_together() -> None:
    """Queries that resemble each other within an image, no more: shuffling single queries would reject often."""
    rng = np.random.default_rng(7)
    targets = np.repeat(np.arange(12), 20)
    p = []
    for i in range(200):
        similarity = rng.standard_normal((12, 12))[targets] + 0.1 * rng.standard_normal((240, 12))
        p.append(permutation_test(similarity, targets, "mrr", n_permutations=199, seed=i).p_value)
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


def test_a_preferred_image_gains_nothing() -> None:
    """A decoder that always answers the same tested image hits once, whatever the labels."""
    similarity = np.zeros((30, 100))
    similarity[:, 3] = 1
    found = permutation_test(similarity, np.arange(30), n_permutations=500)
    assert found.p_value == 1.0
    assert found.null_mean == pytest.approx(found.observed) == pytest.approx(1 / 30)


def test_the_smallest_p_counts_the_identity() -> None:
    assert permutation_test(np.eye(30), np.arange(30), n_permutations=99).p_value == 0.01


def test_the_seed_decides() -> None:
    similarity = np.random.default_rng(8).standard_normal((30, 30))
    first, again, other = (
        permutation_test(similarity, np.arange(30), "mrr", n_permutations=300, seed=s) for s in (1, 1, 2)
    )
    assert first == again
    assert first.null_mean != other.null_mean


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="n_permutations"):
        permutation_test(np.eye(3), [0, 1, 2], n_permutations=0)
    with pytest.raises(InputError, match="unknown metric"):
        permutation_test(np.eye(3), [0, 1, 2], "accuracy")
    with pytest.raises(InputError, match="NaN"):
        permutation_test(np.full((3, 3), np.nan), [0, 1, 2])
