"""Stacked weights against scipy's optimiser, planted models, cross-validation against refits by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from brainalign.alignment.stacking import StackedScores, cross_validate, surprise
from brainalign.errors import InputError


def model(rng, n, strength, *, m=None, truth=None, size=1.0):
    """Scores that find the truth the better the larger `strength`."""
    m = n if m is None else m
    truth = np.arange(n) if truth is None else truth
    scores = rng.normal(size=(n, m))
    scores[np.arange(n), truth] += strength
    return size * scores


def loss_of(weights, scores, truth):
    logits = sum(w * np.asarray(s) for w, s in zip(weights, scores, strict=True))
    return -log_softmax(logits, axis=1)[np.arange(len(truth)), truth].mean()


def by_scipy(scores, truth, prior_sd):
    scales = [np.sqrt(np.square(s - s.mean(1, keepdims=True)).mean()) for s in scores]
    n = len(truth)

    def objective(u):
        return loss_of([a / b for a, b in zip(u, scales, strict=True)], scores, truth) + (u @ u) / (2 * n * prior_sd**2)

    starts = [np.full(len(scores), 0.3), np.full(len(scores), 2.0)]
    options = {"ftol": 1e-15, "gtol": 1e-10, "maxiter": 5000}
    bounds = [(0, None)] * len(scores)
    found = [minimize(objective, x, bounds=bounds, method="L-BFGS-B", options=options) for x in starts]
    best = min(found, key=lambda f: f.fun)
    return best.x / scales, best.fun, objective


@pytest.mark.parametrize("prior_sd", [0.5, 10.0, 50.0])
@pytest.mark.parametrize("seed", range(4))
def test_equals_scipy(seed, prior_sd):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 25, size=40)
    strengths = rng.uniform(-1, 3, size=4)
    scores = [model(rng, 40, s, m=25, truth=truth, size=10 ** rng.uniform(-2, 2)) for s in strengths]
    scores.append(scores[0] + 0.3 * rng.normal(size=(40, 25)) * scores[0].std())
    expected, value, objective = by_scipy(scores, truth, prior_sd)
    found = StackedScores.fit(scores, truth, prior_sd=prior_sd)
    sizes = np.array(found.scales)
    np.testing.assert_allclose(found.weights * sizes, expected * sizes, atol=2e-4)
    assert objective(found.weights * sizes) <= value + 1e-10
    assert found.loss == pytest.approx(loss_of(found.weights, scores, truth), abs=1e-12)
    np.testing.assert_allclose(
        surprise(found.combine(scores), truth).mean(), loss_of(found.weights, scores, truth), atol=1e-12
    )


def test_a_single_model_is_a_temperature():
    rng = np.random.default_rng(1)
    scores = model(rng, 60, 2.0, size=7.0)
    grid = np.geomspace(0.001, 10, 20001)
    losses = [loss_of([w], [scores], np.arange(60)) for w in grid[::20]]
    found = StackedScores.fit([scores], prior_sd=1e6)
    assert found.weights[0] == pytest.approx(grid[::20][int(np.argmin(losses))], rel=0.01)
    assert found.shares == (1.0,)


def test_noise_gets_about_no_weight():
    rng = np.random.default_rng(2)
    good = model(rng, 400, 2.5, size=20.0)
    alone = StackedScores.fit([good])
    found = StackedScores.fit([good, rng.normal(size=(400, 400)), -model(rng, 400, 1.0)])
    assert found.shares[1] < 0.05
    assert found.weights[2] == 0.0
    assert found.weights[0] == pytest.approx(alone.weights[0], rel=0.02)


def test_two_views_of_the_truth_are_better_than_one():
    rng = np.random.default_rng(3)
    fitted = [model(rng, 150, 2.0, size=s) for s in (1.0, 50.0)]
    fresh = [model(rng, 150, 2.0, size=s) for s in (1.0, 50.0)]
    found = StackedScores.fit(fitted)
    assert found.shares == pytest.approx((0.5, 0.5), abs=0.1)
    truth = np.arange(150)
    stacked = surprise(found.combine(fresh), truth).mean()
    singles = [surprise(StackedScores.fit([a]).combine([b]), truth).mean() for a, b in zip(fitted, fresh, strict=True)]
    assert stacked < 0.8 * min(singles)


@pytest.mark.parametrize("seed", range(12))
def test_validation_loss_is_never_above_that_of_the_best_single_model(seed):
    """As scored by itself (weight 1), and with a weight fitted to it alone, whatever the models are like."""
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(5, 80)), int(rng.integers(2, 6))
    scores = [model(rng, n, rng.uniform(-1, 6), size=10 ** rng.uniform(-1, 1)) for _ in range(k)]
    scores.append(model(rng, n, 2.0))
    truth = np.arange(n)
    found = StackedScores.fit(scores)
    penalties = np.square(np.array(found.weights) * found.scales).sum() / (2 * n * 10.0**2)
    for index, one in enumerate(scores):
        assert found.loss + penalties <= loss_of([1.0], [one], truth) + found.scales[index] ** 2 / (200 * n) + 1e-10
        try:
            alone = StackedScores.fit([one])
        except InputError:  # worse than chance
            continue
        mine = (alone.weights[0] * alone.scales[0]) ** 2 / (200 * n)
        assert found.loss + penalties <= alone.loss + mine + 1e-10
        assert found.loss <= alone.loss + 0.002


def test_models_that_say_the_same_share_the_weight():
    rng = np.random.default_rng(4)
    one = model(rng, 80, 2.0)
    found = StackedScores.fit([one, one, one + 5.0])
    alone = StackedScores.fit([one])
    assert found.weights == pytest.approx([sum(found.weights) / 3] * 3, rel=1e-6)
    assert sum(found.weights) == pytest.approx(alone.weights[0], rel=0.02)


def test_solved_validation_keeps_weights_finite():
    scores = 100 * np.eye(30)
    found = StackedScores.fit([scores, scores + np.random.default_rng(0).normal(size=(30, 30))])
    sizes = np.array(found.weights) * found.scales
    assert np.isfinite(sizes).all()
    assert sizes.sum() < 50
    assert found.loss < 0.01


def test_what_images_share_in_a_row_does_not_matter():
    rng = np.random.default_rng(5)
    scores = [model(rng, 40, 2.0), model(rng, 40, 1.0)]
    shifted = [s + 1e4 * rng.normal(size=(40, 1)) for s in scores]
    assert StackedScores.fit(shifted).weights == pytest.approx(StackedScores.fit(scores).weights, rel=1e-6)
    found = StackedScores.fit(scores)
    np.testing.assert_allclose(found.combine(shifted), found.combine(scores), atol=1e-8)


def test_the_same_twice():
    rng = np.random.default_rng(6)
    scores = [model(rng, 50, s) for s in (1.0, 2.0, 0.0)]
    assert StackedScores.fit(scores) == StackedScores.fit(scores)
    first, second = cross_validate(scores), cross_validate(scores)
    assert first.loss == second.loss
    np.testing.assert_array_equal(first.logits, second.logits)


def test_leave_one_image_out_equals_refits():
    rng = np.random.default_rng(7)
    truth = np.repeat(np.arange(9), 2)  # two queries an image: both are left out
    scores = [model(rng, 18, s, m=12, truth=truth) for s in (1.5, 0.8)]
    found = cross_validate(scores, truth, n_folds=99)
    assert found.n_folds == 9
    losses = []
    for image in range(9):
        rest, held = truth != image, truth == image
        fit = StackedScores.fit([s[rest] for s in scores], truth[rest])
        logits = fit.combine([s[held] for s in scores])
        np.testing.assert_allclose(found.logits[held], logits, atol=1e-8)
        losses += list(-log_softmax(logits, axis=1)[:, image])
    assert found.loss == pytest.approx(np.mean(losses), abs=1e-10)


def test_cross_validation_is_not_optimistic():
    """Eight models that know nothing fit 20 queries better than chance; left-out queries do not."""
    fitted, left_out, optimism = [], [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        scores = [rng.normal(size=(20, 20)) for _ in range(8)]
        found = cross_validate(scores, n_folds=20)
        fitted.append(StackedScores.fit(scores).loss)
        left_out.append(found.loss)
        optimism.append(found.loss - fitted[-1])
        assert len(found.single_losses) == 8
    assert np.mean(fitted) < np.log(20)
    assert np.mean(left_out) > np.log(20)
    assert min(optimism) > 0


@pytest.mark.parametrize(
    ("scores", "truth", "words"),
    [
        ([], None, "no scores to stack"),
        ([np.eye(3), np.eye(4)], None, r"of one shape, got \(3, 3\), \(4, 4\)"),
        ([np.ones(3)], None, "must be matrices"),
        ([np.ones((3, 1))], [0, 0, 0], "must be matrices"),
        ([np.empty((0, 0))], None, "must be matrices"),
        ([np.eye(3)[:2]], None, "the truth is not the diagonal"),
        ([np.eye(3)], [0, 1, 3], "one of 3 columns for each of 3 queries"),
        ([np.eye(3)], [0, -1, 2], "one of 3 columns"),
        ([np.eye(3)], [0.0, 1.0, 2.0], "one of 3 columns"),
        ([np.eye(3)], [0, 1], "one of 3 columns"),
        ([np.eye(3), np.full((3, 3), np.nan)], None, "model 1 hold NaN"),
        ([np.eye(3), np.ones((3, 3))], None, "model 1 are the same for every image"),
        ([-np.eye(3)], None, "better than chance: every weight is 0"),
    ],
)
def test_what_cannot_be_used_is_refused(scores, truth, words):
    with pytest.raises(InputError, match=words):
        StackedScores.fit(scores, truth)


def test_other_refusals():
    rng = np.random.default_rng(0)
    scores = [model(rng, 10, 2.0)]
    with pytest.raises(InputError, match="prior's deviation must be positive"):
        StackedScores.fit(scores, prior_sd=0.0)
    with pytest.raises(InputError, match="2 matrices of scores for 1 models"):
        StackedScores.fit(scores).combine([*scores, *scores])
    with pytest.raises(InputError, match="cannot be cross-validated"):
        cross_validate(scores, n_folds=1)
    with pytest.raises(InputError, match="1 images in 10 folds"):
        cross_validate(scores, np.zeros(10, dtype=int))
