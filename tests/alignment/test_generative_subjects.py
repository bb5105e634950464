"""The generative aligner on several training subjects: refits by scikit-learn, and made subjects that are left out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.linear_model import Ridge

from brainalign.alignment import Targets
from brainalign.alignment.calibration import calibrated_band, calibration_error, fit_temperature
from brainalign.alignment.feature_map import FeatureMap
from brainalign.alignment.generative import GenerativeAligner
from brainalign.alignment.generative_choice import common_temperature
from brainalign.alignment.generative_inputs import Inputs
from brainalign.alignment.generative_solvers import build_solver
from brainalign.alignment.group import GroupRidge, Observations, held_out_residuals
from brainalign.alignment.left_out import LeftOutSubjects
from brainalign.alignment.ridge import DualRidge
from brainalign.alignment.transforms import SignalTransform
from brainalign.errors import InputError
from brainalign.protocols import Split
from brainalign.recipes import load_recipe
from brainalign.recordings import Recording
from brainalign.recordings.trial_noise import trial_noise_covariance
from brainalign.recordings.whitening import noise_covariance, whitening_matrix

D, P = 5, 4
IDS = tuple(f"i{i:03d}" for i in range(40))
SPLIT = Split("own/leave-subject-out/v1", 0, IDS[:24], IDS[24:32], IDS[32:], "image-disjoint")
KNOWN = (*SPLIT.train, *SPLIT.validation)
FORMS = ["dual", "primal"]
# Who was shown what: everybody everything; half of it or more; nothing that another subject was shown.
SHOWN = {
    "the same": lambda number, row: True,
    "overlapping": lambda number, row: row % (number + 2) != 0,
    "different": lambda number, row: row % 3 == number,
}


def recipe(*words, modality="fmri"):
    return load_recipe("generative", modality=modality, overrides=list(words)).with_target(layer="0", pooling="mean")


def small(rng, shown="the same", n_subjects=3):
    """Rows of nothing but noise: equations hold for those too."""
    features = rng.normal(size=(len(IDS), D)).astype(np.float32)
    subjects = []
    for number in range(n_subjects):
        ids = [name for row, name in enumerate(IDS) if SHOWN[shown](number, row)]
        signals = 2 + rng.normal(size=(len(ids), P))
        subjects.append(Recording.from_arrays(signals, ids, modality="fmri", subject=str(number)))
    return tuple(subjects), Targets(features, {name: row for row, name in enumerate(IDS)})


def inputs(subjects, targets, chunk=2048):
    bare = SignalTransform(False, torch.empty(0, 0), torch.zeros(1, 1), torch.ones(1, 1))
    return Inputs(subjects, targets, SPLIT, bare, torch.device("cpu"), chunk)


def solver(data, form, **options):
    features = FeatureMap.fit(lambda: [data.images(data.train)], [D])
    return LeftOutSubjects(data, features, form, **options), features


def rows_of(subject, ids):
    known = [name for name in ids if name in subject.index]
    return known, subject.average(known)[:, :, 0].astype(float)


def refit(subjects, phi, penalty, *, ids=SPLIT.train, without=None):
    """Ridge on the rows of all subjects; a penalty is one of means over subjects, so it grows with rows an image."""
    rows = [rows_of(subject, ids) for subject in subjects]
    names = [name for known, _ in rows for name in known]
    alpha = penalty * len(names) / len(set(names))
    keep = [name != without for name in names]
    x = np.array([phi[name] for name in names])[keep]
    return Ridge(alpha=alpha).fit(x, np.concatenate([y for _, y in rows])[keep])


def features_by_name(features, targets):
    with torch.no_grad():
        values = features(torch.from_numpy(targets.of(IDS))).numpy()
    return dict(zip(IDS, values, strict=True))


def others(subjects, number):
    return [*subjects[:number], *subjects[number + 1 :]]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shown", SHOWN)
@pytest.mark.parametrize("chunk", [7, 2048])
def test_left_out_subjects_and_images_equal_refits(rng, form, shown, chunk):
    subjects, targets = small(rng, shown)
    data = inputs(subjects, targets, chunk)
    fit, features = solver(data, form)
    phi, penalty = features_by_name(features, targets), 0.7
    found = [[], [], []]
    for number, residuals in fit.loo_residuals(penalty):
        found[number].append(residuals)
    for number, subject in enumerate(subjects):
        known, y = rows_of(subject, SPLIT.train)
        rest = others(subjects, number)
        expected = [
            signal - refit(rest, phi, penalty, without=name).predict(phi[name][None])[0]
            for name, signal in zip(known, y, strict=True)
        ]
        np.testing.assert_allclose(torch.cat(found[number]), expected, atol=1e-8)
        predicted = refit(rest, phi, penalty).predict([phi[name] for name in data.validation])
        np.testing.assert_allclose(fit.validation(penalty)[number], predicted, atol=1e-8)
    whole, linear = refit(subjects, phi, penalty), fit.map(penalty)
    np.testing.assert_allclose(linear.coefficients, whole.coef_.T, atol=1e-8)
    np.testing.assert_allclose(linear.intercept, whole.intercept_, atol=1e-8)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shown", SHOWN)
def test_errors_at_a_penalty_are_the_mean_square_of_the_residuals(rng, form, shown):
    subjects, targets = small(rng, shown)
    penalties = [0.01, 1.0, 30.0]
    data = inputs(subjects, targets)
    whole, some = solver(data, form)[0], solver(data, form, probed_images=8, probed_outputs=2)[0]
    probed = data.train[:: -(-len(data.train) // 8)]
    for at, penalty in enumerate(penalties):
        residuals = list(whole.loo_residuals(penalty))
        every = torch.cat([rows for _, rows in residuals])
        assert whole.loo_errors(penalties)[at] == pytest.approx(float(every.square().mean()), rel=1e-9)
        few = torch.cat([rows[[name in probed for name in rows_of(subjects[number], SPLIT.train)[0]]][:, ::2]
                         for number, rows in residuals])  # fmt: skip
        assert some.loo_errors(penalties)[at] == pytest.approx(float(few.square().mean()), rel=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_is_the_group_model_without_departures(rng, form):
    """Its penalty is one of rows: each image has those of two other subjects."""
    subjects, targets = small(rng)
    fit, features = solver(inputs(subjects, targets), form)
    phi = features(torch.from_numpy(targets.of(SPLIT.train)))
    observed = [
        Observations(phi, torch.from_numpy(rows_of(one, SPLIT.train)[1]), tuple(SPLIT.train)) for one in subjects
    ]
    group = GroupRidge([one.statistics() for one in observed])
    expected = held_out_residuals(group, observed, 2 * 0.7, math.inf)
    for number, residuals in fit.loo_residuals(0.7):
        torch.testing.assert_close(residuals, expected[number], atol=1e-8, rtol=0)


def test_one_decomposition_serves_subjects_who_saw_the_same(rng, monkeypatch):
    calls = []
    real = torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda *given: calls.append(1) or real(*given))
    for shown, expected in (("the same", 1), ("overlapping", 4)):
        calls.clear()
        fit = solver(inputs(*small(rng, shown)), "primal")[0]
        list(fit.loo_residuals(1.0)), fit.loo_errors([0.1, 1.0]), fit.validation(2.0), fit.map(3.0)
        assert len(calls) == expected


def test_the_whole_model_in_plain_numpy(rng):
    """What is tried, chosen and scored: maps by scikit-learn, residuals by refits, densities by scipy."""
    subjects, targets = small(rng, "overlapping")
    penalty, amount = 0.7, 0.4
    words = [f"generative.ridge={penalty}", f"generative.shrinkage={amount}", "signals.scale=feature"]
    aligner = GenerativeAligner(recipe(*words))
    fit = aligner.fit(subjects, {"image": targets}, SPLIT)
    x = targets.of([name for name in SPLIT.train if any(name in one.index for one in subjects)]).astype(float)
    phi = dict(zip(IDS, (targets.of(IDS) - x.mean(0)) / (x.std(0) * np.sqrt(D)), strict=True))
    pooled = np.concatenate([rows_of(one, SPLIT.train)[1] for one in subjects])
    mean, scale = pooled.mean(0), pooled.std(0)
    scaled = tuple(
        Recording.from_arrays((one.average(list(one.index))[:, :, 0] - mean) / scale, list(one.index), modality="fmri")
        for one in subjects
    )
    residuals = []
    for number, subject in enumerate(scaled):
        known, y = rows_of(subject, SPLIT.train)
        rest = others(scaled, number)
        residuals.append(
            [v - refit(rest, phi, penalty, without=i).predict(phi[i][None])[0] for i, v in zip(known, y, strict=True)]
        )

    def covariance(parts):
        rows = np.concatenate(parts)
        second = rows.T @ rows / len(rows)
        return (1 - amount) * second + amount * np.diag(np.diag(second))

    def densities(signals, predicted, covariance):
        return np.array([[multivariate_normal(m, covariance).logpdf(s) for m in predicted] for s in signals])

    validation = []
    for number, subject in enumerate(scaled):
        known, y = rows_of(subject, SPLIT.validation)
        predicted = refit(others(scaled, number), phi, penalty).predict([phi[name] for name in known])
        validation.append(densities(y, predicted, covariance(others(residuals, number))))
    losses = [(logsumexp(one, axis=1) - one.diagonal()).mean() for one in validation]
    assert fit.chosen["validation_loss"] == pytest.approx(np.mean(losses), abs=1e-5)
    assert aligner.temperature == pytest.approx(common_temperature([torch.from_numpy(v) for v in validation]), rel=1e-4)
    signals = subjects[0].average(list(subjects[0].index)[:3])
    predicted = refit(scaled, phi, penalty).predict([phi[name] for name in SPLIT.test])
    expected = densities((signals[:, :, 0] - mean) / scale, predicted, covariance(residuals))
    np.testing.assert_allclose(aligner.log_density(signals, targets.of(SPLIT.test)), expected, rtol=1e-4, atol=1e-4)


def test_one_recording_is_fitted_as_one_subject(rng):
    subjects, targets = small(rng)
    aligner = GenerativeAligner(recipe("generative.ridge=0.7", "generative.form=dual"))
    aligner.fit(subjects[:1], {"image": targets}, SPLIT, trials=subjects[:1])
    phi = aligner.feature_map(torch.from_numpy(targets.of(SPLIT.train)))
    y = torch.from_numpy(aligner.transform(subjects[0].average(SPLIT.train)))
    ridge = DualRidge.of_features(phi, y)
    residuals = ridge.loo_residuals(0.7)
    torch.testing.assert_close(aligner.covariance, residuals.T @ residuals / len(y), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(aligner.map.coefficients, ridge.map(0.7, [phi]).coefficients, rtol=1e-5, atol=1e-6)
    assert aligner.facts["subjects"] == ["0"]
    with pytest.raises(InputError, match="subject 1 has no trial of stimulus"):
        aligner.fit([small(rng, "overlapping")[0][1]], {"image": targets}, SPLIT)


@pytest.mark.parametrize("form", FORMS)
def test_a_subject_given_twice_teaches_nothing_new(rng, form):
    """A left-out subject is then predicted by its double, without the image: the same residuals, settings and map."""
    (subject, *_), targets = small(rng)
    words = [f"generative.form={form}"]
    one, two = GenerativeAligner(recipe(*words)), GenerativeAligner(recipe(*words))
    alone = one.fit([subject], {"image": targets}, SPLIT)
    twice = two.fit([subject, subject], {"image": targets}, SPLIT)
    assert one.facts["ridge"] == two.facts["ridge"]
    torch.testing.assert_close(two.map.coefficients, one.map.coefficients, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(two.map.intercept, one.map.intercept, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(two.covariance, one.covariance, rtol=1e-5, atol=1e-6)
    for a, b in zip(alone.history, twice.history, strict=True):
        assert a == pytest.approx(b, rel=1e-6)


def test_both_forms_and_any_chunks_give_one_model(rng, monkeypatch):
    subjects, targets = small(rng, "overlapping")
    found = {}
    for form in FORMS:
        for chunk in (2048, 5):
            monkeypatch.setattr("brainalign.alignment.generative.CHUNK", chunk)
            aligner = GenerativeAligner(recipe(f"generative.form={form}", "generative.ridge=loo"))
            aligner.fit(subjects, {"image": targets}, SPLIT)
            assert aligner.facts["form"] == form
            found[form, chunk] = aligner.map.coefficients, aligner.covariance
    for maps, covariance in found.values():
        torch.testing.assert_close(maps, found["dual", 2048][0], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(covariance, found["dual", 2048][1], rtol=1e-4, atol=1e-6)


def test_one_temperature_for_several_sets_is_that_of_all_queries(rng):
    """Queries whose galleries are apart, written as one matrix with nothing off the blocks."""
    blocks = [3 * (rng.normal(size=(n, n)) + np.eye(n)) for n in (12, 20, 7)]
    whole = np.full((39, 39), -np.inf)
    start = 0
    for block in blocks:
        whole[start : start + len(block), start : start + len(block)] = block
        start += len(block)
    found = common_temperature([torch.from_numpy(block) for block in blocks])
    assert found == pytest.approx(fit_temperature(torch.from_numpy(whole)), rel=1e-6)


N_BIG, P_BIG = 420, 24
BIG = tuple(f"i{i:03d}" for i in range(N_BIG))
BIG_SPLIT = Split("own/leave-subject-out/v1", 0, BIG[:240], BIG[240:320], BIG[320:], "image-disjoint")
BIG_KNOWN = (*BIG_SPLIT.train, *BIG_SPLIT.validation)


def planted(seed, n_subjects, *, n_new=6, departure=0.6, repetitions=4, shown=lambda number, row: True):
    """Subjects whose maps scatter around a shared one, with noise that channels share; training ones, then new ones."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(N_BIG, 10)).astype(np.float32)
    shared, misfit = rng.normal(size=(10, P_BIG)), 0.5 * rng.normal(size=(N_BIG, P_BIG))
    mixing = rng.normal(size=(P_BIG, P_BIG)) / np.sqrt(P_BIG)
    subjects = []
    for number in range(n_subjects + n_new):
        own = shared + departure * rng.normal(size=shared.shape)
        clean = features @ own + 0.3 * rng.normal(size=P_BIG) + misfit
        noise = [4 * (rng.normal(size=clean.shape) @ mixing + 0.5 * rng.normal(size=clean.shape))
                 for _ in range(repetitions)]  # fmt: skip
        whole = Recording.from_arrays(
            np.concatenate([clean + one for one in noise]), BIG * repetitions, modality="fmri", subject=str(number)
        )
        seen = [name for row, name in enumerate(BIG_KNOWN) if shown(number, row)]
        subjects.append(whole.restrict(seen) if number < n_subjects else whole)
    targets = Targets(features, {name: row for row, name in enumerate(BIG)})
    return subjects[:n_subjects], subjects[n_subjects:], targets


def collapsed(subjects, known=BIG_KNOWN):
    return [one.collapse([name for name in known if name in one.index]) for one in subjects]


def answers(aligner, subjects, targets, repetitions, *, dealt=None):
    """Confidence in the first choice, and whether it was right, of every query of every subject."""
    ids = list(BIG_SPLIT.test)
    confidence, right = [], []
    for subject in subjects:
        signals = subject.average(ids, repetitions=repetitions)
        signals = signals if dealt is None else signals[dealt.permutation(len(ids))]
        posterior = aligner.posterior(signals, targets.of(ids), repetitions=repetitions)
        confidence.append(posterior.max(1))
        right.append(posterior.argmax(1) == np.arange(len(ids)))
    return np.concatenate(confidence), np.concatenate(right)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("repetitions", [1, 4])
def test_a_left_out_subject_is_found_with_the_confidence_that_is_due(seed, repetitions):
    old, new, targets = planted(seed, 8)
    aligner = GenerativeAligner(recipe(f"evaluation.repetitions={repetitions}"))
    aligner.fit(collapsed(old), {"image": targets}, BIG_SPLIT, trials=old)
    confidence, right = answers(aligner, new, targets, repetitions)
    assert right.mean() > 0.3  # chance is 0.01
    high = calibrated_band(confidence, n_draws=500)[1]
    assert calibration_error(confidence, right) < high
    confidence, right = answers(aligner, new, targets, repetitions, dealt=np.random.default_rng(seed))
    assert right.mean() < 0.05
    assert calibration_error(confidence, right) > 5 * high


def test_the_covariance_is_that_of_new_subjects():
    """It holds how subjects differ: residuals of new ones are as large, those within a subject are smaller."""
    old, new, targets = planted(3, 8, departure=0.8)
    words = ["generative.ridge=1", "generative.shrinkage=0"]
    aligner, within = GenerativeAligner(recipe(*words)), GenerativeAligner(recipe(*words))
    aligner.fit(collapsed(old), {"image": targets}, BIG_SPLIT)
    ids = list(BIG_SPLIT.test)
    error = np.concatenate(
        [aligner.transform(one.average(ids)) - aligner.predict_transformed(targets.of(ids)) for one in new]
    )
    assert float(aligner.covariance.trace()) == pytest.approx(np.square(error).sum(1).mean(), rel=0.1)
    within.fit(collapsed(old[:1]), {"image": targets}, BIG_SPLIT)
    scale = (within.signal_transform.scale / aligner.signal_transform.scale).flatten().double()
    assert float((within.covariance.diagonal() * scale.square()).sum()) < 0.7 * float(aligner.covariance.trace())


def test_more_subjects_serve_a_new_one_better():
    old, new, targets = planted(4, 8)
    right = {}
    for count in (2, 8):
        aligner = GenerativeAligner(recipe())
        aligner.fit(collapsed(old[:count]), {"image": targets}, BIG_SPLIT)
        right[count] = answers(aligner, new, targets, None)[1].mean()
    assert right[8] > right[2] + 0.05


@pytest.mark.parametrize("form", FORMS)
def test_subjects_with_different_stimuli(form):
    """Each image is seen by one of three subjects, or by two; some by nobody."""
    old, new, targets = planted(5, 3, departure=0.3, shown=lambda number, row: row % 5 in (number, number + 1))
    assert not any(BIG[4] in one.index for one in old)
    aligner = GenerativeAligner(recipe(f"generative.form={form}"))
    fit = aligner.fit(collapsed(old), {"image": targets}, BIG_SPLIT, trials=old)
    assert aligner.trial_noise is not None
    assert fit.chosen["validation_top1"] > 0.5
    assert answers(aligner, new, targets, 4)[1].mean() > 0.5


def test_trial_noise_and_scaling_are_pooled_over_subjects():
    old, _, targets = planted(6, 2, n_new=0, repetitions=3)
    old[1] = old[1].restrict(BIG_KNOWN[::2])
    aligner = GenerativeAligner(recipe("signals.scale=feature"))
    aligner.fit(collapsed(old), {"image": targets}, BIG_SPLIT, trials=old)
    train = [[name for name in BIG_SPLIT.train if name in one.index] for one in old]
    rows = np.concatenate([one.average(ids)[:, :, 0] for one, ids in zip(old, train, strict=True)])
    np.testing.assert_allclose(aligner.signal_transform.mean[:, 0], rows.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(aligner.signal_transform.scale[:, 0], rows.std(0), rtol=1e-4)
    found = [
        trial_noise_covariance(one, ids, lambda signals: signals[:, :, 0] / rows.std(0))
        for one, ids in zip(old, train, strict=True)
    ]
    np.testing.assert_allclose(aligner.trial_noise, np.mean(found, axis=0), rtol=1e-3, atol=1e-4)
    assert aligner.facts["training_repetitions"] == pytest.approx(3)
    # One subject shown less often: the harmonic mean over all rows, 240 of 3 trials and 120 of 1.
    seldom = Recording.from_arrays(old[1].average(BIG_KNOWN[::2]), BIG_KNOWN[::2], modality="fmri", subject="1")
    aligner.fit([collapsed(old)[0], seldom], {"image": targets}, BIG_SPLIT, trials=[old[0], seldom])
    assert aligner.facts["training_repetitions"] == pytest.approx(360 / (240 / 3 + 120))
    scale = aligner.signal_transform.scale.numpy()[:, 0]
    alone = trial_noise_covariance(old[0], train[0], lambda signals: signals[:, :, 0] / scale)
    np.testing.assert_allclose(aligner.trial_noise, alone, rtol=1e-3, atol=1e-4)


def test_whitening_takes_the_mean_noise_of_the_subjects(rng):
    old = []
    for number in range(2):
        signals = rng.normal(size=(3 * len(KNOWN), 3, 2)) * (1 + number) + rng.normal(size=(3 * len(KNOWN), 1, 2))
        old.append(Recording.from_arrays(signals, KNOWN * 3, modality="meg", sfreq=100.0, subject=str(number)))
    targets = small(rng)[1]
    words = ["signals.whiten=mvnn", "signals.channels=all", "signals.tmin=null", "signals.tmax=null"]
    settings = recipe(*words, modality="meg")
    noise = np.mean([noise_covariance(one, SPLIT.train) for one in old], axis=0)
    given, own = GenerativeAligner(settings), GenerativeAligner(settings)
    given.fit(collapsed(old, KNOWN), {"image": targets}, SPLIT, noise=noise, trials=old)
    own.fit(old, {"image": targets}, SPLIT)
    for aligner in (given, own):
        np.testing.assert_allclose(aligner.signal_transform.whitener, whitening_matrix(noise), rtol=1e-5)


def test_save_and_load_give_the_same_similarities(rng, tmp_path):
    subjects, targets = small(rng, "overlapping")
    aligner = GenerativeAligner(recipe())
    aligner.fit(subjects, {"image": targets}, SPLIT)
    aligner.save(tmp_path / "m.safetensors")
    again = GenerativeAligner.load(tmp_path / "m.safetensors")
    signals, images = subjects[0].average(list(subjects[0].index)[:9]), {"image": targets.of(SPLIT.test)}
    np.testing.assert_array_equal(again.similarity(signals, images), aligner.similarity(signals, images))
    assert again.facts["subjects"] == ["0", "1", "2"]


def test_what_cannot_be_used_is_refused(rng):
    subjects, targets = small(rng)

    def fit(*recordings, **options):
        GenerativeAligner(recipe()).fit(recordings, {"image": targets}, SPLIT, **options)

    with pytest.raises(InputError, match="no recording"):
        fit()
    with pytest.raises(InputError, match="subjects 0 and 1 differ"):
        fit(subjects[0], subjects[1].pick(subjects[1].ch_names[:3]))
    with pytest.raises(InputError, match="1 recordings of trials for 2 subjects"):
        fit(*subjects[:2], trials=subjects[:1])
    with pytest.raises(InputError, match="without subject 0 2 training images"):
        fit(subjects[0], subjects[1].restrict([*SPLIT.train[:2], *SPLIT.validation]))
    with pytest.raises(InputError, match="no training subject has signals of two validation images"):
        fit(subjects[0].restrict([*SPLIT.train, IDS[24]]), subjects[1].restrict(SPLIT.train))
    data = inputs(subjects, targets)
    features = FeatureMap.fit(lambda: [data.images(data.train)], [D])
    assert isinstance(build_solver("auto", data, features), LeftOutSubjects)
