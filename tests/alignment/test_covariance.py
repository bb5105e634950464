"""Covariances, their shrinkage and likelihoods against scipy and plain numpy; float64, within 1e-8."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import eigh
from scipy.stats import multivariate_normal

from brainalign.alignment.covariance import ResidualMoments, cholesky, log_likelihood, shrink, split_noise
from brainalign.errors import InputError


def positive(rng, p):
    a = rng.normal(size=(p, p))
    return a @ a.T + 0.5 * np.eye(p)


def test_log_likelihood_equals_scipy(rng):
    covariance, y, m = positive(rng, 6), rng.normal(size=(5, 6)) + 100, rng.normal(size=(8, 6)) + 100
    found = log_likelihood(*(torch.from_numpy(v) for v in (y, m)), cholesky(torch.from_numpy(covariance)))
    expected = [[multivariate_normal(mean, covariance).logpdf(signal) for mean in m] for signal in y]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-8)


def test_log_likelihood_tells_images_apart_far_from_zero(rng):
    """Signals a million deviations from 0 and close to their predictions keep the digits of the differences."""
    covariance, offset = positive(rng, 4), 1e6
    y, m = rng.normal(size=(3, 4)), rng.normal(size=(7, 4))
    factor = cholesky(torch.from_numpy(covariance))
    near = log_likelihood(torch.from_numpy(y), torch.from_numpy(m), factor)
    far = log_likelihood(torch.from_numpy(y + offset), torch.from_numpy(m + offset), factor)
    np.testing.assert_allclose(far, near, rtol=1e-7)


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
    white = ResidualMoments.of([torch.from_numpy(rng.normal(size=(200, 40)))])
    shared = rng.normal(size=(4000, 1)) + 0.3 * rng.normal(size=(4000, 10))
    assert white.analytic_shrinkage() > 0.9
    assert 0 < ResidualMoments.of([torch.from_numpy(shared)]).analytic_shrinkage() < 0.001
    few = [ResidualMoments.of([torch.from_numpy(rng.normal(size=(3, 6)))]).analytic_shrinkage() for _ in range(50)]
    assert min(few) >= 0 and max(few) == 1
    assert ResidualMoments.of([torch.from_numpy(shared[:, :1])]).analytic_shrinkage() == 0


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


def test_split_noise_gives_back_the_planted_model(rng):
    model, trial = positive(rng, 5), positive(rng, 5)
    left = split_noise(torch.from_numpy(model + trial / 8), torch.from_numpy(trial), 1 / 8)
    np.testing.assert_allclose(left.numpy(), model, rtol=1e-8)


def test_too_much_noise_leaves_each_direction_its_share(rng):
    """The directions are those of the generalised eigenproblem of noise and total, here scipy's."""
    for scale in (0.3, 1.0, 5.0):
        total, trial = positive(rng, 6), scale * positive(rng, 6)
        shares, vectors = eigh(trial / 4, total)  # vectors' total vectors = 1
        back = np.linalg.inv(vectors)
        expected = back.T @ np.diag(1 - np.minimum(shares, 0.95)) @ back
        left = split_noise(torch.from_numpy(total), torch.from_numpy(trial), 1 / 4).numpy()
        np.testing.assert_allclose(left, expected, rtol=1e-8, atol=1e-9)
        assert eigh(left, total, eigvals_only=True).min() >= 0.05 * (1 - 1e-8)
    greedy = split_noise(torch.from_numpy(total), torch.from_numpy(50 * total), 1.0)
    np.testing.assert_allclose(greedy.numpy(), 0.05 * total, rtol=1e-8)


def test_noise_is_taken_out_of_a_singular_total_too(rng):
    flat = rng.normal(size=(6, 3))
    total = flat @ flat.T
    left = split_noise(torch.from_numpy(total), torch.from_numpy(0.5 * total), 1.0).numpy()
    np.testing.assert_allclose(left, 0.5 * total, atol=1e-6 * total.max())
    assert np.linalg.eigvalsh(left).min() > -1e-8 * total.max()


def test_many_outputs_are_multiplied_in_blocks_to_the_same_sums(rng, monkeypatch):
    r = rng.normal(size=(40, 23)) + 1
    monkeypatch.setattr("brainalign.alignment.covariance.BLOCK", 4)
    moments = ResidualMoments.of([torch.from_numpy(r[:11]), torch.from_numpy(r[11:])])
    np.testing.assert_allclose(moments.second, r.T @ r / 40, rtol=1e-10)
    np.testing.assert_allclose(moments.fourth, (r**2).T @ r**2 / 40, rtol=1e-10)
    assert torch.equal(moments.second, moments.second.T)
    with pytest.raises(InputError, match="no residuals"):
        ResidualMoments.of([])
