"""Identification, temperature and calibration error against scipy, torchmetrics and cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from brainalign.alignment.calibration import (
    PRIOR_SD,
    calibrated_band,
    calibration_error,
    fit_temperature,
    identification,
)
from brainalign.errors import InputError


def surprise(density, log_factor):
    s = np.exp(log_factor) * density
    top = s.max(1, keepdims=True)
    return (np.log(np.exp(s - top).sum(1)) + top[:, 0] - np.diag(s)).sum()


@pytest.mark.parametrize("spread", [0.3, 1.0, 20.0])
@pytest.mark.parametrize("prior_sd", [PRIOR_SD, 5.0])
def test_temperature_equals_scipy(rng, spread, prior_sd):
    density = spread * (rng.normal(size=(40, 40)) + 1.5 * np.eye(40))
    found = fit_temperature(torch.from_numpy(density), prior_sd=prior_sd)
    best = minimize_scalar(
        lambda u: surprise(density, u) + 0.5 * (u / prior_sd) ** 2,
        bounds=(np.log(0.01), np.log(100)), method="bounded", options={"xatol": 1e-10},
    ).x  # fmt: skip
    assert found == pytest.approx(np.exp(best), rel=1e-5)


def test_temperature_knows_a_model_that_is_too_sure(rng):
    """Densities three times as sharp as the truth they were drawn from."""
    logits = 2 * rng.normal(size=(400, 400))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    truth = np.array([rng.choice(400, p=row) for row in p])
    swapped = logits.copy()
    swapped[np.arange(400), truth], swapped[np.arange(400), np.arange(400)] = (
        logits.diagonal(),
        logits[range(400), truth],
    )
    assert fit_temperature(torch.from_numpy(3 * swapped), prior_sd=10.0) == pytest.approx(1 / 3, rel=0.1)


def test_all_right_is_no_licence_for_boundless_confidence():
    assert fit_temperature(torch.from_numpy(50 * np.eye(60))) < 2


def test_identification_by_hand():
    density = torch.tensor([[2.0, 1.0, 0.0], [3.0, 1.0, 1.0], [0.0, 5.0, 9.0]], dtype=torch.float64)
    found = identification(density)
    assert found["validation_top1"] == pytest.approx(2 / 3)
    assert found["validation_mrr"] == pytest.approx((1 + 1 / 2.5 + 1) / 3)
    rows = np.exp(density.numpy())
    assert found["validation_loss"] == pytest.approx(-np.log(np.diag(rows) / rows.sum(1)).mean())


def test_calibration_error_by_hand():
    confidence = np.array([0.55, 0.55, 0.95, 0.95, 1.0, 0.0])
    correct = np.array([True, False, True, False, True, False])
    # Bin .5-.6: mean .55, right .5; bin .9-1: mean 2.9 / 3, right 2 / 3; bin 0-.1: no gap.
    assert calibration_error(confidence, correct) == pytest.approx((2 * 0.05 + 3 * 0.3) / 6)
    assert calibration_error(np.ones(4), np.ones(4, dtype=bool)) == 0
    assert calibration_error(np.ones(4), np.zeros(4, dtype=bool)) == 1


@pytest.mark.parametrize("n_bins", [5, 10, 15])
def test_calibration_error_equals_torchmetrics(rng, n_bins):
    from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

    logits = rng.normal(size=(300, 6)) * 2
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    truth = rng.integers(0, 6, 300)
    found = calibration_error(p.max(1), p.argmax(1) == truth, n_bins=n_bins)
    expected = multiclass_calibration_error(
        torch.from_numpy(p), torch.from_numpy(truth), num_classes=6, n_bins=n_bins, norm="l1"
    )
    assert found == pytest.approx(float(expected), abs=1e-6)
    # Its binary form compares the probability of class 1, given as such, with how often class 1 is true.
    confidence, correct = rng.uniform(0.01, 0.99, 300), rng.random(300) < 0.4
    expected = binary_calibration_error(
        torch.from_numpy(confidence), torch.from_numpy(correct.astype(int)), n_bins=n_bins, norm="l1"
    )
    assert calibration_error(confidence, correct, n_bins=n_bins) == pytest.approx(float(expected), abs=1e-6)


def test_what_is_no_probability_is_refused():
    right = np.array([True, False])
    with pytest.raises(InputError, match="outside 0 to 1"):
        calibration_error(np.array([1.2, 0.5]), right)
    with pytest.raises(InputError, match="outside 0 to 1"):
        calibration_error(np.array([np.nan, 0.5]), right)
    with pytest.raises(InputError, match="do not belong together"):
        calibration_error(np.array([0.2]), right)
    with pytest.raises(InputError, match="do not belong together"):
        calibration_error(np.array([]), np.array([], dtype=bool))


def test_the_band_holds_95_of_100_calibrated_models(rng):
    confidence = rng.uniform(0.05, 1, 150)
    low, high = calibrated_band(confidence, n_draws=2000, seed=1)
    errors = [calibration_error(confidence, rng.random(150) < confidence) for _ in range(2000)]
    inside = np.mean([low <= error <= high for error in errors])
    assert 0.93 <= inside <= 0.97  # 2,000 draws on either side: a standard error of .007
    overconfident = calibration_error(np.full(150, 0.95), rng.random(150) < 0.6)
    assert overconfident > calibrated_band(np.full(150, 0.95), n_draws=400)[1]
