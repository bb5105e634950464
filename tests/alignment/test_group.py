"""The joint fit against one dense ridge problem in block features, leave-one-out against refits, planted groups."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from brainalign.alignment.adaptation import Adaptation, adapt, learning_curve, residual_scale
from brainalign.alignment.calibration import identification
from brainalign.alignment.covariance import ResidualMoments, cholesky, shrink
from brainalign.alignment.group import GroupRidge, Observations, held_out_residuals, select_penalties
from brainalign.alignment.ridge import GramStatistics, PrimalRidge
from brainalign.errors import InputError

D, P = 7, 4
SIZES = (12, 5, 20)
PENALTIES = [(0.3, 2.0), (5.0, 0.1), (1e-3, 40.0)]


def subjects(sizes=SIZES, *, d=D, p=P, seed=0, images=True):
    """Random rows; subjects share some images (the same features), one of them an image twice."""
    rng = np.random.default_rng(seed)
    pool = rng.normal(size=(25, d)) + 0.5
    found = []
    for n in sizes:
        shown = rng.choice(25, n, replace=False)
        shown[1] = shown[0]
        outputs = rng.normal(size=(n, p)) + 2.0
        names = tuple(f"i{k}" for k in shown) if images else ()
        found.append(Observations(torch.from_numpy(pool[shown]), torch.from_numpy(outputs), names))
    return found


def group_of(observations, **options):
    return GroupRidge([one.statistics() for one in observations], **options)


def dense(observations, group_penalty, subject_penalty, *, constant=1.0):
    """Coefficients (1 + n_subjects, d + 1, p) of the block ridge problem, by least squares on stacked rows."""
    n_subjects, width = len(observations), observations[0].features.shape[1] + 1
    blocks, outputs = [], []
    for s, one in enumerate(observations):
        a = np.column_stack([one.features.numpy(), np.full(len(one.features), constant)])
        row = np.zeros((len(a), (1 + n_subjects) * width))
        row[:, :width] = a
        row[:, (1 + s) * width : (2 + s) * width] = a
        blocks.append(row)
        outputs.append(one.outputs.numpy())
    penalty = np.full((1 + n_subjects, width), float(subject_penalty))
    penalty[0], penalty[0, -1] = group_penalty, 0.0
    design = np.concatenate([*blocks, np.diag(np.sqrt(penalty.ravel()))])
    right = np.concatenate([*outputs, np.zeros((penalty.size, outputs[0].shape[1]))])
    solved = np.linalg.lstsq(design, right, rcond=None)[0]
    return solved.reshape(1 + n_subjects, width, -1)


def assert_map(found, expected, *, constant=1.0, atol=1e-8):
    np.testing.assert_allclose(found.coefficients.numpy(), expected[:-1], atol=atol, rtol=0)
    np.testing.assert_allclose(found.intercept.numpy(), constant * expected[-1], atol=atol, rtol=0)


@pytest.mark.parametrize(("group_penalty", "subject_penalty"), PENALTIES)
@pytest.mark.parametrize("constant", [1.0, 0.3])
def test_equals_the_dense_block_problem(group_penalty, subject_penalty, constant):
    observations = subjects()
    fit = group_of(observations, constant=constant).fit(group_penalty, subject_penalty)
    expected = dense(observations, group_penalty, subject_penalty, constant=constant)
    assert_map(fit.map, expected[0], constant=constant)
    for s in range(len(SIZES)):
        assert_map(fit.subject(s), expected[0] + expected[1 + s], constant=constant)


def test_infinite_penalty_of_departures_is_pooled_ridge():
    observations = subjects()
    pooled = GramStatistics(D, P)
    for one in observations:
        pooled.merge(one.statistics())
    expected = PrimalRidge(pooled).map(1.7)
    for penalty, atol in ((math.inf, 1e-10), (1e9, 1e-6)):
        fit = group_of(observations).fit(1.7, penalty)
        for found in (fit.map, fit.subject(0), fit.subject(2)):
            torch.testing.assert_close(found.coefficients, expected.coefficients, atol=atol, rtol=0)
            torch.testing.assert_close(found.intercept, expected.intercept, atol=atol, rtol=0)


def test_infinite_penalty_of_the_group_is_separate_ridge():
    observations = subjects()
    for penalty in (math.inf, 1e9):
        # A large constant column: the departures' intercepts are free, as those of separate fits.
        fit = group_of(observations, constant=1e4).fit(penalty, 1.7)
        assert float(fit.map.coefficients.abs().max()) < 1e-6
        for s, one in enumerate(observations):
            expected = PrimalRidge(one.statistics()).map(1.7)
            torch.testing.assert_close(fit.subject(s).coefficients, expected.coefficients, atol=1e-5, rtol=0)
            torch.testing.assert_close(fit.subject(s).intercept, expected.intercept, atol=1e-5, rtol=0)


def test_subjects_join_and_leave():
    observations = subjects()
    whole = group_of(observations)
    joined = group_of(observations[:2]).add(observations[2].statistics())
    torch.testing.assert_close(joined.fit(1.0, 2.0).shared, whole.fit(1.0, 2.0).shared, atol=0, rtol=0)
    without = whole.fit(1.0, 2.0, without=1)
    expected = dense([observations[0], observations[2]], 1.0, 2.0)
    assert_map(without.map, expected[0])
    assert_map(without.subject(1), expected[0] + expected[2])


def keep(one, name):
    rows = [row for row, image in enumerate(one.images) if image != name]
    return Observations(one.features[rows], one.outputs[rows], tuple(one.images[row] for row in rows))


@pytest.mark.parametrize(("group_penalty", "subject_penalty"), PENALTIES)
def test_leave_one_image_out_equals_refits(group_penalty, subject_penalty):
    observations = subjects()
    found = group_of(observations).fit(group_penalty, subject_penalty).loo_residuals(observations)
    for name in sorted({name for one in observations for name in one.images}):
        refitted = dense([keep(one, name) for one in observations], group_penalty, subject_penalty)
        for s, one in enumerate(observations):
            for row in [row for row, image in enumerate(one.images) if image == name]:
                a = np.append(one.features[row].numpy(), 1.0)
                expected = one.outputs[row].numpy() - a @ (refitted[0] + refitted[1 + s])
                np.testing.assert_allclose(found[s][row].numpy(), expected, atol=1e-8)


def test_rows_without_names_are_different_images():
    observations = subjects(images=False)
    found = group_of(observations).fit(0.5, 1.5).loo_residuals(observations)
    one = observations[1]
    rest = Observations(one.features[1:], one.outputs[1:])
    refitted = dense([observations[0], rest, observations[2]], 0.5, 1.5)
    expected = one.outputs[0].numpy() - np.append(one.features[0].numpy(), 1.0) @ (refitted[0] + refitted[2])
    np.testing.assert_allclose(found[1][0].numpy(), expected, atol=1e-8)


@pytest.mark.parametrize(("group_penalty", "subject_penalty"), PENALTIES)
def test_held_out_subjects_equal_refits(group_penalty, subject_penalty):
    observations = subjects()
    found = held_out_residuals(group_of(observations), observations, group_penalty, subject_penalty)
    for s, one in enumerate(observations):
        others = [*observations[:s], *observations[s + 1 :]]
        for row, name in enumerate(one.images):
            refitted = dense([keep(other, name) for other in others], group_penalty, subject_penalty)
            expected = one.outputs[row].numpy() - np.append(one.features[row].numpy(), 1.0) @ refitted[0]
            np.testing.assert_allclose(found[s][row].numpy(), expected, atol=1e-8)


def test_penalties_are_chosen_by_left_out_images():
    rng = np.random.default_rng(3)
    shared, x = rng.normal(size=(D, P)), rng.normal(size=(200, D))
    alike, apart = [], []
    for s in range(4):
        rows, own = torch.from_numpy(x[50 * s : 50 * s + 12]), rng.normal(size=(D, P))
        noise = 0.5 * torch.from_numpy(rng.normal(size=(12, P)))
        alike.append(Observations(rows, rows @ torch.from_numpy(shared) + noise))
        apart.append(Observations(rows, rows @ torch.from_numpy(own) + noise))
    grid = [0.1, 1.0, 10.0, 100.0, 1e4]
    best = select_penalties(group_of(alike), alike, [0.1, 1.0], grid)
    assert best[0]["subject_penalty"] >= 100
    assert [row["loo_error"] for row in best] == sorted(row["loo_error"] for row in best)
    assert len(best) == 10
    assert select_penalties(group_of(apart), apart, [0.1, 1.0], grid)[0]["subject_penalty"] <= 1.0


def test_no_images_leave_the_group():
    fit = group_of(subjects()).fit(1.0, 2.0)
    from_sums = adapt(fit, GramStatistics(D, P))
    nothing = torch.empty(0, D), torch.empty(0, P)
    identity = torch.eye(P, dtype=torch.float64)
    for found in (from_sums, Adaptation(fit.shared, *nothing).choose(identity)):
        assert torch.equal(found.map.coefficients, fit.map.coefficients)
        assert torch.equal(found.map.intercept, fit.map.intercept)
    x = torch.randn(5, D, dtype=torch.float64)
    torch.testing.assert_close(from_sums.spread(x), 1 + (x.square().sum(1) + 1) / 2.0)


@pytest.mark.parametrize("k", [1, 4, 30])
@pytest.mark.parametrize("constant", [1.0, 0.4])
def test_adaptation_equals_bayes(k, constant):
    """Posterior mean and predictive covariance of a Gaussian linear model, written out as one Gaussian per output."""
    rng = np.random.default_rng(k)
    observations = subjects()
    fit = group_of(observations, constant=constant).fit(1.0, 2.0)
    x, y, new = rng.normal(size=(k, D)), rng.normal(size=(k, P)), rng.normal(size=(6, D))
    penalty = 1.3
    a, b = (np.column_stack([v, np.full(len(v), constant)]) for v in (x, new))
    prior = fit.shared.numpy()
    gain = b @ a.T @ np.linalg.inv(a @ a.T + penalty * np.eye(k))  # the Gaussian-process form
    expected = b @ prior + gain @ (y - a @ prior)
    spread = 1 + np.diag(b @ b.T - gain @ a @ b.T) / penalty
    rows = torch.from_numpy(x), torch.from_numpy(y)
    from_rows = Adaptation(fit.shared, *rows, constant=constant).at(penalty)
    from_sums = adapt(fit, Observations(*rows).statistics(), penalty)
    for found in (from_rows, from_sums):
        np.testing.assert_allclose(found.map(torch.from_numpy(new)).numpy(), expected, atol=1e-8)
        np.testing.assert_allclose(found.spread(torch.from_numpy(new)).numpy(), spread, atol=1e-8)
    covariance = np.cov(rng.normal(size=(20, P)), rowvar=False)
    density = from_rows.log_density(rows[1], torch.from_numpy(new), torch.linalg.cholesky(torch.from_numpy(covariance)))
    for i in range(k):
        for j in range(6):
            law = multivariate_normal(expected[j], spread[j] * covariance)
            assert float(density[i, j]) == pytest.approx(law.logpdf(y[i]), abs=1e-8)


def test_leave_one_out_likelihood_equals_refits():
    rng = np.random.default_rng(4)
    fit = group_of(subjects()).fit(1.0, 2.0)
    x, y = torch.from_numpy(rng.normal(size=(9, D))), torch.from_numpy(rng.normal(size=(9, P)))
    covariance = torch.from_numpy(np.cov(rng.normal(size=(20, P)), rowvar=False))
    factor = torch.linalg.cholesky(covariance)
    for penalty in (0.2, 3.0, math.inf):
        expected = []
        for i in range(9):
            rest = [j for j in range(9) if j != i]
            left = Adaptation(fit.shared, x[rest], y[rest]).at(penalty)
            mean, spread = left.map(x[[i]]).numpy()[0], float(left.spread(x[[i]]))
            expected.append(multivariate_normal(mean, spread * covariance.numpy()).logpdf(y[i].numpy()))
        own = Adaptation(fit.shared, x, y)
        assert own.loo_log_likelihood(penalty, factor) == pytest.approx(np.mean(expected), abs=1e-8)
        assert own.loo_log_likelihood(penalty, 2 * factor, scale=0.25) == pytest.approx(np.mean(expected), abs=1e-8)


def test_a_scale_makes_the_density_that_of_the_scaled_covariance():
    """To the power of the scale: what an exaggerated covariance says is kept, what a spread costs is put right."""
    rng = np.random.default_rng(6)
    fit = group_of(subjects()).fit(1.0, 2.0)
    x, y = torch.from_numpy(rng.normal(size=(9, D))), torch.from_numpy(rng.normal(size=(9, P)))
    factor = 5 * torch.eye(P, dtype=torch.float64)
    found = Adaptation(fit.shared, x, y).choose(factor, penalties=[1.0], scale=0.3)
    density = found.log_density(y, x, factor)
    for i, j in ((0, 0), (3, 7)):
        law = multivariate_normal(found.map(x)[j].numpy(), float(found.spread(x)[j]) * 0.3 * 25 * np.eye(P))
        assert float(density[i, j]) == pytest.approx(0.3 * law.logpdf(y[i].numpy()), abs=1e-8)


def test_residual_scale_is_one_for_their_own_covariance():
    rng = np.random.default_rng(8)
    residuals = torch.from_numpy(rng.normal(size=(50, P)) @ rng.normal(size=(P, P)))
    own = residuals.T @ residuals / 50
    assert residual_scale([residuals[:20], residuals[20:]], torch.linalg.cholesky(own)) == pytest.approx(1)
    shrunk = 0.7 * own + 0.3 * torch.diag(own.diagonal())
    expected = np.trace(np.linalg.solve(shrunk.numpy(), own.numpy())) / P
    assert residual_scale([residuals], torch.linalg.cholesky(shrunk)) == pytest.approx(expected)


def test_a_shrunk_covariance_does_not_forbid_adaptation():
    """Noise in few directions, as of EEG: most directions of the shrunk covariance are far too large."""
    rng = np.random.default_rng(9)
    d, p, n = 12, 60, 400
    shared, mixing = rng.normal(size=(d, p)), rng.normal(size=(4, p))

    def subject():
        x, own = rng.normal(size=(n, d)), shared + 0.7 * rng.normal(size=(d, p))
        noise = 6 * rng.normal(size=(n, 4)) @ mixing + 1.5 * rng.normal(size=(n, p))
        return Observations(torch.from_numpy(x), torch.from_numpy(0.3 * x @ own + noise))

    *old, new = (subject() for _ in range(5))
    fit = group_of(old).fit(1.0, 10.0)
    residuals = fit.loo_residuals(old)
    factor = cholesky(shrink(ResidualMoments.of(residuals).second, 0.5))
    scale = residual_scale(residuals, factor)
    assert scale < 0.5
    own = Adaptation(fit.shared, new.features[:60], new.outputs[:60])
    with_scale, without = own.choose(factor, scale=scale), own.choose(factor)
    assert with_scale.penalty < without.penalty
    losses = [
        identification(found.log_density(new.outputs[200:], new.features[200:], factor))["validation_loss"]
        for found in (with_scale, without, own.at(math.inf))
    ]
    assert losses[0] < losses[1] <= losses[2] + 1e-9


def planted(seed=0, n_subjects=5, d=30, p=12, *, departure=0.5, noise=1.0):
    """Subjects whose maps scatter around a shared one; the last is new."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(d, p))
    found = []
    for _ in range(n_subjects + 1):
        x = rng.normal(size=(260, d)) / np.sqrt(d)
        own = shared + departure * rng.normal(size=(d, p))
        y = x @ own * np.sqrt(d) / 3 + noise * rng.normal(size=(260, p))
        found.append(Observations(torch.from_numpy(x), torch.from_numpy(y)))
    return found


def test_few_own_images_beat_group_only_and_own_only():
    *old, new = planted()
    group = group_of(old)
    best = select_penalties(group, old, [0.1, 1.0, 10.0], [0.3, 3.0, 30.0, 300.0])[0]
    fit = group.fit(best["group_penalty"], best["subject_penalty"])
    residuals = torch.cat(fit.loo_residuals(old))
    factor = torch.linalg.cholesky(residuals.T @ residuals / len(residuals))
    pool = Observations(new.features[:160], new.outputs[:160])
    held = Observations(new.features[160:], new.outputs[160:])
    rows = learning_curve(fit, pool, held, [0, 5, 20, 80, 160], factor, draws=4)
    mean = {
        (arm, n): {
            key: float(np.mean([r[key] for r in rows if r["arm"] == arm and r["n_images"] == n]))
            for key in ("error", "validation_loss", "validation_top1")
        }
        for arm, n in {(r["arm"], r["n_images"]) for r in rows}
    }
    for key in ("error", "validation_loss"):
        for n in (5, 20, 80):
            assert mean["adapted", n][key] < mean["own", n][key]
        for n in (20, 80, 160):
            assert mean["adapted", n][key] < mean["group", n][key]
        assert mean["adapted", 5][key] < 1.1 * mean["group", 5][key]  # five images choose a penalty badly
        assert mean["adapted", 160][key] < mean["adapted", 20][key] < mean["adapted", 0][key] + 1e-12
    assert mean["adapted", 80]["validation_top1"] > mean["group", 80]["validation_top1"] + 0.1
    assert mean["group", 20] == pytest.approx(mean["group", 160])
    assert ("own", 0) not in mean


def test_a_subject_like_the_group_is_hardly_moved():
    *old, new = planted(seed=1, departure=0.0)
    fit = group_of(old).fit(0.5, math.inf)
    residuals = torch.cat(fit.loo_residuals(old))
    factor = torch.linalg.cholesky(residuals.T @ residuals / len(residuals))
    own = Adaptation(fit.shared, new.features[:40], new.outputs[:40])
    assert own.choose(factor).penalty >= 10
    held = Observations(new.features[100:], new.outputs[100:])
    chosen = own.choose_on(held, factor)
    scores = {p: identification(own.at(p).log_density(held.outputs, held.features, factor)) for p in (0.01, math.inf)}
    found = identification(chosen.log_density(held.outputs, held.features, factor))["validation_loss"]
    assert found <= min(score["validation_loss"] for score in scores.values()) + 1e-12


def test_held_out_residuals_are_as_large_as_a_new_subjects():
    """On images that nobody was fitted on, the error for a new subject is what leaving out subject and image says."""
    *old, new = planted(seed=2, n_subjects=8)
    group = group_of(old)
    expected = torch.cat(held_out_residuals(group, old, 1.0, 3.0)).square().mean()
    fit = group.fit(1.0, 3.0)
    measured = (new.outputs - fit.map(new.features)).square().mean()
    known = torch.cat(fit.loo_residuals(old)).square().mean()
    assert float(measured) == pytest.approx(float(expected), rel=0.1)
    assert float(known) < 0.8 * float(expected)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: GroupRidge([]), "a group needs a subject"),
        (lambda: GroupRidge([GramStatistics(2, 2)]), "subject 0 has no images"),
        (lambda: GroupRidge([subjects()[0].statistics()], constant=0.0), "constant column must be positive"),
        (lambda: group_of([*subjects(), *subjects(d=3)]), r"subject 3 has \(3, 4\) features and outputs, not \(7, 4\)"),
        (lambda: group_of(subjects()).fit(0.0, 1.0), "penalties must be positive"),
        (lambda: group_of(subjects()).fit(1.0, math.nan), "penalties must be positive"),
        (lambda: group_of(subjects()).fit(1.0, 1.0, without=3), "no subject 3 among 3"),
        (lambda: group_of(subjects()[:1]).fit(1.0, 1.0, without=0), "no subject is left"),
        (lambda: group_of(subjects()).fit(1.0, 1.0).loo_residuals(subjects()[:2]), "2|rows"),
        (lambda: Observations(torch.ones(3, 2), torch.ones(2, 2)), "one row of outputs a row of features"),
        (lambda: Observations(torch.ones(2, 2), torch.ones(2, 2), ("a",)), "1 names of images for 2 rows"),
        (lambda: adapt(group_of(subjects()).fit(1.0, 1.0), GramStatistics(3, P)), "the group"),
        (lambda: adapt(group_of(subjects()).fit(1.0, 1.0), GramStatistics(D, P), -1.0), "scales must be positive"),
        (lambda: Adaptation(torch.zeros(3, 1), torch.ones(2, 3), torch.ones(2, 1)), "do not fit the group's map"),
    ],
)
def test_what_cannot_be_used_is_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()


def test_learning_curve_refuses_more_images_than_there_are():
    observations = subjects()
    fit = group_of(observations).fit(1.0, 1.0)
    with pytest.raises(InputError, match="21 own images asked for, the pool has 20"):
        learning_curve(fit, observations[2], observations[0], [21], torch.eye(P, dtype=torch.float64))
