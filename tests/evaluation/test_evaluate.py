"""The score card: agreement with single metrics, the contract of result.json, refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score, top_k_accuracy_score

from brainalign.errors import InputError
from brainalign.evaluation import evaluate_retrieval
from brainalign.evaluation.result import Scores

FloatArray = NDArray[np.float64]
NAMES = [f"virtual/c{i:03}_00" for i in range(80)]


@pytest.fixture
def similarity() -> FloatArray:
    return np.random.default_rng(0).standard_normal((60, 80)) + 2 * np.eye(60, 80, k=20)


def test_scores_are_those_of_other_libraries(similarity: FloatArray) -> None:
    scores = evaluate_retrieval(similarity, NAMES[20:], NAMES, repetitions=40, n_permutations=500)
    truth = np.arange(20, 80)
    assert scores.top1 == pytest.approx(top_k_accuracy_score(truth, similarity, k=1, labels=np.arange(80)))
    assert scores.top5 == pytest.approx(top_k_accuracy_score(truth, similarity, k=5, labels=np.arange(80)))
    areas = [roc_auc_score(np.arange(80) == t, row) for row, t in zip(similarity, truth, strict=True)]
    assert scores.two_way == pytest.approx(np.mean(areas))
    place = 1 + np.sum(similarity > similarity[np.arange(60), truth][:, None], axis=1)
    assert scores.mrr == pytest.approx(np.mean(1 / place))
    assert scores.median_rank == np.median(place)
    assert (scores.n_way, scores.n_queries, scores.repetitions) == (80, 60, 40)
    assert (scores.chance_top1, scores.chance_top5) == (1 / 80, 5 / 80)
    assert scores.permutation_p == 1 / 501
    assert scores.permuted_top1 == pytest.approx(1 / 60, abs=0.01)
    for value, interval in (
        (scores.top1, scores.top1_ci95),
        (scores.top5, scores.top5_ci95),
        (scores.mrr, scores.mrr_ci95),
        (scores.two_way, scores.two_way_ci95),
    ):
        assert 0 <= interval[0] < value < interval[1] <= 1


def test_the_dict_is_what_result_json_holds(similarity: FloatArray) -> None:
    found = evaluate_retrieval(similarity, NAMES[20:], NAMES, n_permutations=50).to_dict()
    assert set(found) == set(Scores.model_fields)
    assert Scores.model_validate(json.loads(json.dumps(found))).top1 == found["top1"]


def test_the_order_of_gallery_and_queries_does_not_matter(similarity: FloatArray) -> None:
    rng = np.random.default_rng(1)
    rows, columns = rng.permutation(60), rng.permutation(80)
    names = np.array(NAMES)
    first = evaluate_retrieval(similarity, NAMES[20:], NAMES, n_permutations=200)
    moved = evaluate_retrieval(similarity[rows][:, columns], names[20:][rows], names[columns], n_permutations=200)
    for field in ("top1", "top1_ci95", "top5", "mrr", "median_rank", "two_way", "permutation_p"):
        assert getattr(moved, field) == pytest.approx(getattr(first, field))


def test_noise_scores_chance() -> None:
    noise = np.random.default_rng(2).standard_normal((80, 80))
    scores = evaluate_retrieval(noise, NAMES, NAMES, n_permutations=500)
    assert scores.top1_ci95[0] <= scores.chance_top1 <= scores.top1_ci95[1]
    assert scores.top5_ci95[0] <= scores.chance_top5 <= scores.top5_ci95[1]
    assert scores.two_way_ci95[0] <= 0.5 <= scores.two_way_ci95[1]
    assert scores.permutation_p > 0.05


def test_a_constant_similarity_is_chance_and_no_finding() -> None:
    scores = evaluate_retrieval(np.ones((80, 80)), NAMES, NAMES, n_permutations=100)
    assert scores.top1 == pytest.approx(1 / 80)
    assert scores.top1_ci95[0] < 1 / 80 < scores.top1_ci95[1]
    assert (scores.two_way, scores.median_rank, scores.permutation_p) == (0.5, 40.5, 1.0)


def test_repeated_queries_do_not_shorten_the_interval(similarity: FloatArray) -> None:
    once = evaluate_retrieval(similarity, NAMES[20:], NAMES, n_permutations=200)
    often = evaluate_retrieval(np.repeat(similarity, 10, axis=0), np.repeat(NAMES[20:], 10), NAMES, n_permutations=200)
    assert often.top1 == pytest.approx(once.top1)
    for field in ("top1_ci95", "top5_ci95", "mrr_ci95", "two_way_ci95"):
        short, long = getattr(often, field), getattr(once, field)
        assert short[1] - short[0] == pytest.approx(long[1] - long[0], rel=0.1)


def test_one_query_says_little_but_is_scored() -> None:
    scores = evaluate_retrieval(np.eye(1, 80), NAMES[:1], NAMES, n_permutations=100)
    assert scores.top1 == 1.0 and scores.top1_ci95[0] < 0.25
    assert scores.permutation_p == 1.0
    repeated = evaluate_retrieval(np.eye(80)[[0, 0, 0]], [NAMES[0]] * 3, NAMES, n_permutations=100)
    assert repeated.top1_ci95 == pytest.approx(scores.top1_ci95)


def test_the_seed_decides(similarity: FloatArray) -> None:
    first, again = (evaluate_retrieval(similarity, NAMES[20:], NAMES, seed=4, n_permutations=99) for _ in range(2))
    assert first == again


@pytest.mark.parametrize(
    ("matrix", "queries", "gallery", "message"),
    [
        (np.zeros((2, 3)), ["a", "b"], ["a", "b"], r"shape \(2, 3\), the names say 2 query ids x 2 gallery ids"),
        (np.zeros((2, 3)), ["a"], ["a", "b", "c"], "1 query ids x 3"),
        (np.zeros((2, 3)), ["a", "b"], ["a", "b", "a"], "holds a more than once"),
        (np.zeros((2, 3)), ["a", "x"], ["a", "b", "c"], "1 of 2 queries show images that are not in the gallery: x"),
        (np.full((1, 2), np.nan), ["a"], ["a", "b"], "NaN"),
        (np.array([[0.0, np.inf]]), ["a"], ["a", "b"], r"infinite at query 0 \(a\), image b"),
        (np.zeros((1, 0)), ["a"], [], "empty"),
        (np.zeros((0, 2)), [], ["a", "b"], "empty"),
        (np.zeros((1, 1)), ["a"], ["a"], "one image"),
    ],
)
def test_bad_input_is_named(matrix: FloatArray, queries: list[str], gallery: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate_retrieval(matrix, queries, gallery)


def test_repetitions_are_counted_from_one() -> None:
    with pytest.raises(InputError, match="repetitions"):
        evaluate_retrieval(np.eye(2), ["a", "b"], ["a", "b"], repetitions=0)
