"""Ridge in both forms against scikit-learn, himalaya and brute force; float64, within 1e-8."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge

from brainalign.alignment.band_weights import loo_loss
from brainalign.alignment.ridge import DualRidge, GramStatistics, PrimalRidge
from brainalign.errors import InputError

TIGHT = {"rtol": 1e-8, "atol": 1e-9}


def data(rng, n, d, p=4):
    x = rng.normal(size=(n, d)) + 3
    return x, x @ rng.normal(size=(d, p)) + rng.normal(size=(n, p)) + 5


def primal(x, y, chunk=7):
    statistics = GramStatistics(x.shape[1], y.shape[1])
    for start in range(0, len(x), chunk):
        statistics.add(torch.from_numpy(x[start : start + chunk]), torch.from_numpy(y[start : start + chunk]))
    return PrimalRidge(statistics)


def chunks(x, y, size=5):
    return [(torch.from_numpy(x[i : i + size]), torch.from_numpy(y[i : i + size])) for i in range(0, len(x), size)]


@pytest.mark.parametrize("shape", [(25, 60), (60, 12)], ids=["wide", "tall"])
@pytest.mark.parametrize("penalty", [0.05, 3.0])
def test_coefficients_and_predictions_equal_scikit_learn(rng, shape, penalty):
    x, y = data(rng, *shape)
    expected = Ridge(alpha=penalty, solver="cholesky").fit(x, y)
    a = torch.from_numpy(x)
    found = [
        primal(x, y).map(penalty),
        DualRidge.of_features(a, torch.from_numpy(y)).map(penalty, [a[:, :5], a[:, 5:]]),
    ]
    new = rng.normal(size=(9, shape[1]))
    for fitted in found:
        np.testing.assert_allclose(fitted.coefficients.numpy(), expected.coef_.T, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(fitted.intercept.numpy(), expected.intercept_, rtol=1e-7)
        np.testing.assert_allclose(fitted(torch.from_numpy(new)).numpy(), expected.predict(new), rtol=1e-7, atol=2e-8)


def test_kernel_form_equals_himalaya_on_centred_data(rng):
    from himalaya.kernel_ridge import KernelRidge as Himalaya

    x, y = data(rng, 30, 80)
    x, y = x - x.mean(0), y - y.mean(0)
    new = rng.normal(size=(6, 80))
    expected = Himalaya(alpha=2.0, kernel="linear").fit(x, y).predict(new)
    ridge = DualRidge.of_features(torch.from_numpy(x), torch.from_numpy(y))
    np.testing.assert_allclose(ridge.predict(torch.from_numpy(new @ x.T), 2.0).numpy(), expected, rtol=1e-6)
    plain = KernelRidge(alpha=2.0, kernel="linear").fit(x, y).predict(new)
    np.testing.assert_allclose(ridge.predict(torch.from_numpy(new @ x.T), 2.0).numpy(), plain, **TIGHT)


@pytest.mark.parametrize("shape", [(20, 45), (40, 8)], ids=["wide", "tall"])
def test_residuals_equal_refits_without_each_image(rng, shape):
    x, y = data(rng, *shape)
    expected = np.empty_like(y)
    for i in range(len(x)):
        rest = np.arange(len(x)) != i
        expected[i] = y[i] - Ridge(alpha=1.3, solver="cholesky").fit(x[rest], y[rest]).predict(x[i : i + 1])[0]
    dual = DualRidge.of_features(torch.from_numpy(x), torch.from_numpy(y)).loo_residuals(1.3)
    streamed = torch.cat(list(primal(x, y).loo_residuals(chunks(x, y), 1.3)))
    np.testing.assert_allclose(dual.numpy(), expected, **TIGHT)
    np.testing.assert_allclose(streamed.numpy(), expected, **TIGHT)


def test_leverage_is_the_diagonal_of_the_hat_matrix(rng):
    x, y = data(rng, 18, 7)
    a = np.hstack([np.ones((18, 1)), x])
    shrink = np.diag([0.0] + [0.7] * 7)
    hat = np.diag(a @ np.linalg.solve(a.T @ a + shrink, a.T))
    np.testing.assert_allclose(
        DualRidge.of_features(torch.from_numpy(x), torch.from_numpy(y)).leverage(0.7), hat, **TIGHT
    )
    np.testing.assert_allclose(primal(x, y).leverage(torch.from_numpy(x), 0.7), hat, **TIGHT)


def test_sums_do_not_depend_on_chunks_and_can_be_merged(rng):
    x, y = data(rng, 50, 9)
    whole, parts = primal(x, y, chunk=50), primal(x, y, chunk=3)
    first = GramStatistics(9, 4).add(torch.from_numpy(x[:20]), torch.from_numpy(y[:20]))
    second = GramStatistics(9, 4).add(torch.from_numpy(x[20:]), torch.from_numpy(y[20:]))
    merged = PrimalRidge(first.merge(second))
    for other in (parts, merged):
        np.testing.assert_allclose(other.map(0.4).coefficients, whole.map(0.4).coefficients, **TIGHT)
        np.testing.assert_allclose(other.map(0.4).intercept, whole.map(0.4).intercept, **TIGHT)
    penalties = (0.1, 0.4, 5.0)
    some = whole.loo_errors(chunks(x, y), penalties, slice(1, None, 2))
    residuals = [torch.cat(list(whole.loo_residuals(chunks(x, y), p)))[:, 1::2] for p in penalties]
    np.testing.assert_allclose(some, [float(r.square().mean()) for r in residuals], **TIGHT)


def test_too_few_images_and_unequal_rows_are_refused(rng):
    with pytest.raises(InputError, match="too few"):
        DualRidge.of_features(torch.zeros(2, 5), torch.zeros(2, 1))
    with pytest.raises(InputError, match="too few"):
        PrimalRidge(GramStatistics(3, 1).add(torch.zeros(2, 3), torch.zeros(2, 1)))
    with pytest.raises(InputError, match="one row"):
        DualRidge(torch.zeros(5, 5), torch.zeros(4, 1))


def test_loo_loss_equals_brute_force_and_its_gradient_is_right(rng):
    bands = [rng.normal(size=(22, d)) for d in (6, 10)]
    bands = [b - b.mean(0) for b in bands]
    y = rng.normal(size=(22, 3))
    y -= y.mean(0)
    weights, penalty = np.array([0.3, 0.7]), 0.8
    x = np.hstack([np.sqrt(w) * b for w, b in zip(weights, bands, strict=True)])
    left = np.empty_like(y)
    for i in range(22):
        rest = np.arange(22) != i
        left[i] = y[i] - Ridge(alpha=penalty, solver="cholesky").fit(x[rest], y[rest]).predict(x[i : i + 1])[0]
    kernels = torch.from_numpy(np.stack([b @ b.T for b in bands]))
    w = torch.tensor(weights, requires_grad=True)
    p = torch.tensor(penalty, dtype=torch.float64, requires_grad=True)
    assert float(loo_loss(w, p, kernels, torch.from_numpy(y)).detach()) == pytest.approx(
        np.log((left**2).mean(0)).mean(), rel=1e-9
    )
    assert torch.autograd.gradcheck(lambda a, b: loo_loss(a, b, kernels, torch.from_numpy(y)), (w, p))
