"""Corrected tests and onsets against brute force and simulation."""

from __future__ import annotations

import numpy as np
import pytest

from brainalign.analysis.onset import AboveChance, difference, onset, outcomes, peak, resampled_means
from brainalign.errors import InputError
from brainalign.evaluation import top_k_hits, two_way_identification


def made(n_windows, n, strength, seed):
    """Similarities whose true pairs stand out by `strength[window]`."""
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(n_windows, n, n)).astype(np.float32)
    found[:, np.arange(n), np.arange(n)] += np.asarray(strength, np.float32)[:, None]
    return found


def corrected(similarity, metric, **options):
    test = AboveChance(np.arange(similarity.shape[1]), **options)
    hits = np.stack([test.add(outcomes(window, metric)) for window in similarity])
    return hits, test.result()


@pytest.mark.parametrize("metric", ["top1", "top5", "two_way"])
def test_outcomes_are_the_metrics_of_every_column(metric):
    rng = np.random.default_rng(0)
    similarity = rng.integers(0, 6, (12, 12)).astype(np.float32)  # many ties
    found = outcomes(similarity, metric)
    for column in range(12):
        targets = np.full(12, column)
        if metric == "two_way":
            assert found[:, column].mean() == pytest.approx(two_way_identification(similarity, targets))
        else:
            np.testing.assert_allclose(found[:, column], top_k_hits(similarity, targets, int(metric[-1])))


def test_p_is_the_share_of_largest_scores():
    similarity = made(3, 20, [0, 0.7, 2], 1)
    values = np.stack([outcomes(window, "two_way") for window in similarity])
    _, found = corrected(similarity, "two_way", n_permutations=199, seed=4)
    rng = np.random.default_rng(4)
    largest = []
    for _ in range(199):
        deal = rng.permutation(np.arange(20))
        largest.append(max(np.mean([window[i, deal[i]] for i in range(20)]) for window in values))
    scores = [np.mean(np.diag(window)) for window in values]
    np.testing.assert_allclose(found.scores, scores)
    expected = [(1 + sum(m >= s - 1e-9 for m in largest)) / 200 for s in scores]
    np.testing.assert_allclose(found.p, expected)
    np.testing.assert_array_equal(found.scores > found.threshold, found.p <= 0.05)


def test_false_alarms_are_held_over_all_windows():
    alarms = [corrected(made(8, 12, np.zeros(8), s), "two_way", n_permutations=99, seed=s)[1].p.min() <= 0.05
              for s in range(80)]  # fmt: skip
    assert np.mean(alarms) < 0.13  # 0.05 and three standard errors


def test_queries_of_one_image_stay_together():
    """Six copies of each query are no new evidence: p must not fall as if they were."""
    similarity = made(1, 12, [0.5], 3)[0]
    _, single = corrected(similarity[None], "two_way", n_permutations=999)
    test = AboveChance(np.repeat(np.arange(12), 6), n_permutations=999)
    test.add(outcomes(np.repeat(similarity, 6, axis=0), "two_way"))
    assert test.result().p[0] == pytest.approx(single.p[0], abs=1e-12)
    with pytest.raises(InputError, match="too few"):
        AboveChance(np.arange(4))


def test_onset_finds_where_signals_begin():
    places = np.arange(10) / 10
    similarity = made(10, 60, [0, 0, 0, 0, 2, 2.5, 3, 3, 0, 0], 5)
    hits, found = corrected(similarity, "two_way", n_permutations=499)
    first = onset(hits, np.arange(60), places, found.threshold, n_resamples=300)
    assert first.index == 4
    assert first.found == 1.0
    assert first.lo <= 0.4 <= first.hi
    best = peak(hits, np.arange(60), places, n_resamples=300)
    assert best.index in (5, 6, 7)
    assert 0.5 <= best.lo <= best.hi <= 0.7
    nothing = onset(hits[:4], np.arange(60), places[:4], 0.99, n_resamples=100)
    assert (nothing.index, nothing.lo, nothing.found) == (None, None, 0.0)


def test_an_onset_needs_windows_in_a_row():
    # The last window ends the search: a run that reaches it counts, however short.
    hits = np.array([[0.0] * 8, [1] * 8, [0] * 8, [1] * 8, [1] * 8, [0] * 8, [1] * 8])
    for consecutive, expected in ((1, 1), (2, 3), (3, 6)):
        found = onset(hits, np.arange(8), np.arange(7.0), 0.5, consecutive=consecutive, n_resamples=20)
        assert found.index == expected


def test_resampling_draws_images_with_their_queries():
    targets = np.array([0, 0, 0, 1])  # a mean of images would be 0.5, of queries 0.75
    means = resampled_means(np.array([[1.0, 1, 1, 0]]), targets, 2000, 0)[:, 0]
    values, counts = np.unique(np.round(means, 6), return_counts=True)
    np.testing.assert_allclose(values, [0, 0.75, 1])
    np.testing.assert_allclose(counts / 2000, [0.25, 0.5, 0.25], atol=0.04)


def test_differences_are_corrected_and_signed():
    rng = np.random.default_rng(6)
    second = rng.uniform(size=(5, 80))
    first = second + 0.02 * rng.normal(size=(5, 80))
    first[3] += 0.1
    found = difference(first, second, np.arange(80), n_resamples=499)
    np.testing.assert_allclose(found.difference, (first - second).mean(1))
    assert found.p[3] == pytest.approx(1 / 500)
    assert (found.p[[0, 1, 2, 4]] > 0.05).all()
    assert found.lo[3] < 0.1 < found.hi[3] + 0.01
    same = difference(second, second, np.arange(80), n_resamples=99)
    assert (same.p == 1).all()
