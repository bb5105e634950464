"""Ridge in both forms against scikit-learn, himalaya and brute force; float64, within 1e-8."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge

from brainalign.alignment.band_weights import learn_weights, loo_loss
from brainalign.alignment.feature_map import FeatureMap
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
        np.testing.assert_allclose(fitted.coefficients.numpy(), expected.coef_.T, **TIGHT)
        np.testing.assert_allclose(fitted.intercept.numpy(), expected.intercept_, **TIGHT)
        np.testing.assert_allclose(fitted(torch.from_numpy(new)).numpy(), expected.predict(new), **TIGHT)


def test_kernel_form_equals_himalaya_on_centred_data(rng):
    from himalaya.kernel_ridge import KernelRidge as Himalaya

    x, y = data(rng, 30, 80)
    x, y = x - x.mean(0), y - y.mean(0)
    new = rng.normal(size=(6, 80))
    expected = Himalaya(alpha=2.0, kernel="linear").fit(x, y).predict(new)
    ridge = DualRidge.of_features(torch.from_numpy(x), torch.from_numpy(y))
    np.testing.assert_allclose(ridge.predict(torch.from_numpy(new @ x.T), 2.0).numpy(), expected, **TIGHT)
    plain = KernelRidge(alpha=2.0, kernel="linear").fit(x, y).predict(new)
    np.testing.assert_allclose(ridge.predict(torch.from_numpy(new @ x.T), 2.0).numpy(), plain, **TIGHT)


def test_linear_form_equals_himalaya_with_an_intercept(rng):
    from himalaya.ridge import Ridge as Himalaya

    x, y = data(rng, 40, 9)
    expected = Himalaya(alpha=0.6, fit_intercept=True).fit(x, y)
    found = primal(x, y).map(0.6)
    np.testing.assert_allclose(found.coefficients, expected.coef_, **TIGHT)
    np.testing.assert_allclose(found.intercept, expected.intercept_, **TIGHT)


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


def test_each_penalty_gives_its_own_fit_whatever_was_asked_before(rng):
    x, y = data(rng, 30, 6)
    ridge = primal(x, y)
    for penalty in (0.5, 20.0, 0.5, 0.5, 3.0):
        expected = Ridge(alpha=penalty, solver="cholesky").fit(x, y)
        np.testing.assert_allclose(ridge.map(penalty).coefficients, expected.coef_.T, **TIGHT)


def test_many_features_are_summed_in_blocks(rng, monkeypatch):
    monkeypatch.setattr("brainalign.alignment.covariance.BLOCK", 4)
    x, y = data(rng, 30, 11)
    statistics = GramStatistics(11, 4)
    for start in range(0, 30, 8):
        statistics.add(torch.from_numpy(x[start : start + 8]), torch.from_numpy(y[start : start + 8]))
        seen = x[: start + 8]
        np.testing.assert_allclose(statistics.gram, seen.T @ seen, rtol=1e-12)
        assert torch.equal(statistics.gram, statistics.gram.T)
    np.testing.assert_allclose(statistics.cross, x.T @ y, rtol=1e-12)


@pytest.mark.parametrize("penalty", [1e-3, 1.0])
def test_features_that_repeat_or_never_change_do_no_harm(rng, penalty):
    x, y = data(rng, 40, 6)
    x = np.hstack([x, x[:, :2], np.full((40, 1), 5.0)])
    expected = Ridge(alpha=penalty, solver="svd").fit(x, y).predict(x)
    a = torch.from_numpy(x)
    for fitted in (primal(x, y).map(penalty), DualRidge.of_features(a, torch.from_numpy(y)).map(penalty, [a])):
        np.testing.assert_allclose(fitted(a), expected, **TIGHT)


def test_an_image_that_alone_fixes_a_coefficient(rng):
    """Its leverage is 1 but for the penalty: the residual is a ratio of two small numbers, and still right."""
    x, y = data(rng, 20, 3)
    x = np.hstack([x, np.eye(20)[:, :1]])
    left = DualRidge.of_features(torch.from_numpy(x), torch.from_numpy(y)).loo_residuals(1e-6)
    streamed = torch.cat(list(primal(x, y).loo_residuals(chunks(x, y), 1e-6)))
    rest = Ridge(alpha=1e-6, solver="svd").fit(x[1:], y[1:])
    for found in (left, streamed):
        np.testing.assert_allclose(found[0], y[0] - rest.predict(x[:1])[0], rtol=1e-4)
        assert torch.isfinite(found).all()


def test_the_band_that_drives_the_signals_gets_the_weight(rng):
    n, dims = 120, (8, 8, 8)
    x = rng.normal(size=(n, sum(dims)))
    ids = [str(i) for i in range(n)]
    features = FeatureMap.fit(lambda: [torch.from_numpy(x)], dims)
    rows = {name: row for row, name in enumerate(ids)}
    for driver in range(3):
        y = torch.from_numpy(x[:, 8 * driver : 8 * driver + 8] @ rng.normal(size=(8, 10)) + rng.normal(size=(n, 10)))
        weights = learn_weights(
            features,
            lambda some: torch.from_numpy(x[[rows[i] for i in some]]),
            lambda some, y=y: y[[rows[i] for i in some]],
            ids,
        )
        assert sum(weights) == pytest.approx(1)
        assert np.argmax(weights) == driver
        assert weights[driver] > 0.9


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
