"""Covariances, likelihoods and calibration against scipy, torchmetrics and plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import multivariate_normal

from brainalign.alignment.calibration import (
    PRIOR_SD,
    calibrated_band,
    calibration_error,
    fit_temperature,
    identification,
)
from brainalign.alignment.covariance import ResidualMoments, cholesky, log_likelihood, shrink, split_noise
from brainalign.errors import InputError
from brainalign.recordings import Recording
from brainalign.recordings.trial_noise import has_trials, trial_noise_covariance


def positive(rng, p):
    a = rng.normal(size=(p, p))
    return a @ a.T + 0.5 * np.eye(p)


def test_log_likelihood_equals_scipy(rng):
    covariance, y, m = positive(rng, 6), rng.normal(size=(5, 6)) + 100, rng.normal(size=(8, 6)) + 100
    found = log_likelihood(*(torch.from_numpy(v) for v in (y, m)), cholesky(torch.from_numpy(covariance)))
    expected = [[multivariate_normal(mean, covariance).logpdf(signal) for mean in m] for signal in y]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-8)


def test_moments_in_chunks_and_analytic_shrinkage_in_plain_loops(rng):
    r = rng.normal(size=(30, 5)) @ rng.normal(size=(5, 5))
    moments = ResidualMoments.of([torch.from_numpy(r[:13]), torch.from_numpy(r[13:])])
    np.testing.assert_allclose(moments.second, r.T @ r / 30, rtol=1e-10)
    z = r / np.sqrt((r**2).mean(0))
    above = below = 0.0
    for i in range(5):
        for j in range(5):
            if i != j:
                w = z[:, i] * z[:, j]
                above += ((w - w.mean()) ** 2).sum() / (30 * 29)
                below += w.mean() ** 2
    assert moments.analytic_shrinkage() == pytest.approx(min(1, above / below), rel=1e-8)


def test_analytic_shrinkage_knows_noise_from_structure(rng):
    white = ResidualMoments.of([torch.from_numpy(rng.normal(size=(20, 40)))])
    shared = rng.normal(size=(4000, 1)) + 0.3 * rng.normal(size=(4000, 10))
    assert white.analytic_shrinkage() > 0.7
    assert ResidualMoments.of([torch.from_numpy(shared)]).analytic_shrinkage() < 0.01


def test_shrinking_keeps_the_variances(rng):
    c = torch.from_numpy(positive(rng, 4))
    np.testing.assert_allclose(shrink(c, 1.0), torch.diag(c.diagonal()), atol=1e-12)
    np.testing.assert_allclose(shrink(c, 0.3), 0.7 * c + 0.3 * torch.diag(c.diagonal()), rtol=1e-12)
    with pytest.raises(InputError, match="outside 0 to 1"):
        shrink(c, 1.2)


def test_a_singular_covariance_is_loaded_just_enough():
    v = torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64)
    factor = cholesky(v @ v.T)
    np.testing.assert_allclose(factor @ factor.T, v @ v.T, atol=1e-6)


def test_noise_is_taken_out_and_never_too_much(rng):
    model, trial = positive(rng, 5), positive(rng, 5)
    left = split_noise(torch.from_numpy(model + trial / 8), torch.from_numpy(trial), 1 / 8)
    np.testing.assert_allclose(left.numpy(), model, rtol=1e-8)
    greedy = split_noise(torch.from_numpy(model), torch.from_numpy(50 * model), 1.0)
    np.testing.assert_allclose(greedy.numpy(), 0.05 * model, rtol=1e-8)


def flat(signals):
    return signals.reshape(len(signals), -1).astype(float)


def test_trial_noise_is_recovered_from_repetitions(rng):
    noise = positive(rng, 3)
    ids = [f"i{i}" for i in range(150) for _ in range(5 + i % 2)]
    means = {name: rng.normal(size=3) * 10 for name in ids}
    trials = np.stack([means[name] for name in ids]) + rng.multivariate_normal(np.zeros(3), noise, size=len(ids))
    recording = Recording.from_arrays(trials, ids, modality="fmri")
    names = list(dict.fromkeys(ids))
    found = trial_noise_covariance(recording, names, flat)
    np.testing.assert_allclose(found, noise, atol=0.25 * np.abs(noise).max())
    pairs = [trials[[k for k, n in enumerate(ids) if n == name]] for name in names]
    within = sum((t - t.mean(0)).T @ (t - t.mean(0)) for t in pairs) / sum(len(t) - 1 for t in pairs)
    np.testing.assert_allclose(found, within, atol=0.12 * np.abs(within).max())


def test_two_trials_by_hand_and_stored_averages_do_not_count():
    recording = Recording.from_arrays(np.array([[1.0], [4.0], [0.0]]), ["a", "a", "b"], modality="fmri")
    # Halves of one trial each: the difference is 3, its variance 9 is that of two trials.
    assert trial_noise_covariance(recording, ["a", "b"], flat) == pytest.approx(np.array([[4.5]]))
    assert has_trials(recording, ["a"]) and not has_trials(recording, ["b"])
    averages = Recording.from_arrays(np.array([[1.0], [4.0]]), ["a", "a"], modality="fmri", n_averaged=[4, 4])
    assert not has_trials(averages, ["a"])
    with pytest.raises(InputError, match="was repeated"):
        trial_noise_covariance(averages, ["a"], flat)


def test_temperature_equals_scipy(rng):
    density = torch.from_numpy(rng.normal(size=(40, 40)) + 4 * np.eye(40))

    def objective(log_factor):
        s = np.exp(log_factor) * density.numpy()
        surprise = (np.log(np.exp(s).sum(1)) - np.diag(s)).sum()
        return surprise + 0.5 * (log_factor / PRIOR_SD) ** 2

    best = minimize_scalar(objective, bounds=(-4, 4), method="bounded", options={"xatol": 1e-10}).x
    assert fit_temperature(density) == pytest.approx(np.exp(best), rel=1e-5)


def test_all_right_is_no_licence_for_boundless_confidence():
    sure = torch.from_numpy(50 * np.eye(60))
    assert fit_temperature(sure) < 2


def test_identification_by_hand():
    density = torch.tensor([[2.0, 1.0, 0.0], [3.0, 1.0, 1.0], [0.0, 5.0, 9.0]], dtype=torch.float64)
    found = identification(density)
    assert found["validation_top1"] == pytest.approx(2 / 3)
    assert found["validation_mrr"] == pytest.approx((1 + 1 / 2.5 + 1) / 3)
    rows = np.exp(density.numpy())
    assert found["validation_loss"] == pytest.approx(-np.log(np.diag(rows) / rows.sum(1)).mean())


def test_calibration_error_equals_torchmetrics(rng):
    from torchmetrics.functional.classification import multiclass_calibration_error

    logits = rng.normal(size=(300, 6)) * 2
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    truth = rng.integers(0, 6, 300)
    expected = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(truth), num_classes=6, n_bins=10, norm="l1"
    )
    found = calibration_error(probabilities.max(1), probabilities.argmax(1) == truth)
    assert found == pytest.approx(float(expected), abs=1e-6)
    with pytest.raises(InputError, match="outside 0 to 1"):
        calibration_error(np.array([1.2]), np.array([True]))


def test_the_band_holds_calibrated_models(rng):
    inside = 0
    for _ in range(200):
        confidence = rng.uniform(0.05, 1, 150)
        error = calibration_error(confidence, rng.random(150) < confidence)
        low, high = calibrated_band(confidence, n_draws=400, seed=1)
        inside += low <= error <= high
    assert 180 <= inside <= 199
    overconfident = calibration_error(np.full(150, 0.95), rng.random(150) < 0.6)
    assert overconfident > calibrated_band(np.full(150, 0.95), n_draws=400)[1]
