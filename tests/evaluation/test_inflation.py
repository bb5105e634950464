"""The inflation gap by hand, and its size under pure luck by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from brainalign.errors import InputError
from brainalign.evaluation import expected_inflation_of_noise, inflation_gap


def test_gap_by_hand() -> None:
    assert inflation_gap(0.30, [0.25, 0.30, 0.38]) == pytest.approx(0.08)
    assert inflation_gap(0.30, [0.30]) == 0.0
    assert inflation_gap(0.30, [0.1, 0.2]) == 0.0  # the chosen one is a candidate, listed or not


@pytest.mark.parametrize(("chosen", "candidates"), [(0.3, []), (0.3, [0.1, np.nan]), (np.nan, [0.1])])
def test_gap_refuses_what_is_no_score(chosen: float, candidates: list[float]) -> None:
    with pytest.raises(InputError):
        inflation_gap(chosen, candidates)


@pytest.mark.parametrize(("n_queries", "p", "n_candidates"), [(200, 0.3, 50), (200, 0.005, 20), (20, 0.9, 3)])
def test_luck_is_the_mean_of_simulated_maxima(n_queries: int, p: float, n_candidates: int) -> None:
    best = np.random.default_rng(0).binomial(n_queries, p, size=(20_000, n_candidates)).max(axis=1) / n_queries
    expected = expected_inflation_of_noise(n_queries, p, n_candidates)
    assert expected == pytest.approx(best.mean() - p, abs=4 * best.std() / np.sqrt(20_000))


def test_one_candidate_or_certain_hits_leave_no_luck() -> None:
    assert expected_inflation_of_noise(200, 0.3, 1) == pytest.approx(0, abs=1e-12)
    assert expected_inflation_of_noise(200, 1.0, 9) == expected_inflation_of_noise(200, 0.0, 9) == 0.0


def test_luck_refuses_impossible_counts() -> None:
    with pytest.raises(InputError, match="n_candidates 0"):
        expected_inflation_of_noise(200, 0.3, 0)
