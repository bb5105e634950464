"""Resampled means and errors against the textbook formulas on the very same draws."""

from __future__ import annotations

import numpy as np
import pytest

from brainalign.evaluation.resampling import Units, tails


def test_single_values_have_the_usual_standard_error() -> None:
    values = 1e6 + np.random.default_rng(0).standard_normal(50)  # far from 0: sums of squares must not lose the digits
    units = Units.of(values)
    assert units.mean == pytest.approx(values.mean(), rel=1e-12)
    assert units.standard_error == pytest.approx(values.std(ddof=1) / np.sqrt(50), rel=1e-6)


def test_draws_of_single_values() -> None:
    values = np.random.default_rng(1).standard_normal(30)
    drawn = values[np.random.default_rng(2).integers(0, 30, size=(100, 30))]
    deviation, error = Units.of(values).resample(100, np.random.default_rng(2))
    np.testing.assert_allclose(values.mean() + deviation, drawn.mean(axis=1))
    np.testing.assert_allclose(error, drawn.std(axis=1, ddof=1) / np.sqrt(30))


def test_draws_of_groups_are_ratios() -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat(list("abcdefgh"), rng.integers(1, 6, 8))
    values = rng.standard_normal(len(labels))
    members = [values[labels == label] for label in "abcdefgh"]
    deviation, error = Units.of(values, unit=labels).resample(50, np.random.default_rng(4))
    for row, picks in enumerate(np.random.default_rng(4).integers(0, 8, size=(50, 8))):
        drawn = np.concatenate([members[i] for i in picks])
        mean = drawn.mean()
        residual = np.array([np.sum(members[i] - mean) for i in picks])
        assert values.mean() + deviation[row] == pytest.approx(mean)
        assert error[row] == pytest.approx(np.sqrt(8 / 7 * np.sum(residual**2)) / len(drawn))


def test_draws_stay_within_their_stratum() -> None:
    rng = np.random.default_rng(5)
    stratum = np.array([0] * 20 + [1] * 60)
    values = rng.standard_normal(80) + 100 * stratum
    units = Units.of(values, stratum=stratum)
    variance = sum(
        (np.sum(stratum == s) / 80) ** 2 * values[stratum == s].var(ddof=1) / np.sum(stratum == s) for s in (0, 1)
    )
    assert units.standard_error == pytest.approx(np.sqrt(variance))
    deviation, error = units.resample(4000, rng)
    assert deviation.std() == pytest.approx(np.sqrt(variance), rel=0.06)  # the strata's difference of 100 adds nothing
    assert error.mean() == pytest.approx(np.sqrt(variance), rel=0.06)


def test_equal_values_have_no_error_at_all() -> None:
    assert Units.of(np.full(7, 0.1)).standard_error == 0.0
    assert not Units.of(np.full(7, 0.1)).resample(20, np.random.default_rng(0))[1].any()


def test_many_resamples_come_in_blocks() -> None:
    values = np.random.default_rng(6).standard_normal(1000)
    deviation, _ = Units.of(values).resample(2000, np.random.default_rng(7))  # 2 million draws, several blocks
    assert deviation.std() == pytest.approx(values.std() / np.sqrt(1000), rel=0.06)
    assert len(np.unique(deviation)) == 2000


def test_tails_are_draws() -> None:
    assert tails(np.arange(1000.0), 0.95) == (25.0, 974.0)
    assert tails(np.array([-np.inf, 0.0, np.inf]), 0.95) == (-np.inf, np.inf)
