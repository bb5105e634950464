"""The generative aligner: learns what is there, knows its noise, and says how sure it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import eigh
from scipy.stats import multivariate_normal
from sklearn.linear_model import Ridge

from brainalign.alignment import Aligner, ContrastiveAligner, MixedTargets, Targets
from brainalign.alignment.checkpoint import load_tensors, save_tensors
from brainalign.alignment.families import build_aligner, load_aligner
from brainalign.alignment.generative import GenerativeAligner
from brainalign.errors import InputError
from brainalign.protocols import Split
from brainalign.recipes import load_recipe
from brainalign.recordings import Recording

N, P = 150, 20
IDS = [f"i{i:03d}" for i in range(N)]
SPLIT = Split("own/intra/v1", 0, tuple(IDS[:90]), tuple(IDS[90:120]), tuple(IDS[120:]), "image-disjoint")


def recipe(*words, layer="0", modality="fmri"):
    made = load_recipe("generative", modality=modality, overrides=list(words))
    return made.with_target(layer=layer, pooling="mean")


def problem(rng, *, noise=0.5, shuffled=False, repetitions=1):
    features = rng.normal(size=(N, 12)).astype(np.float32)
    clean = features @ rng.normal(size=(12, P))
    correlated = rng.normal(size=(P, P)) / np.sqrt(P)
    signals, ids = [], []
    for _ in range(repetitions):
        signals.append(clean + noise * (rng.normal(size=(N, P)) @ correlated + 0.3 * rng.normal(size=(N, P))))
        ids += IDS
    stacked = np.concatenate(signals)
    if shuffled:
        stacked = stacked[rng.permutation(len(stacked))]
    recording = Recording.from_arrays(stacked, ids, modality="fmri")
    return recording, Targets(features, {name: row for row, name in enumerate(IDS)}), SPLIT


def fitted(problem, *words, **options):
    recording, targets, split = problem
    aligner = GenerativeAligner(recipe(*words, **options))
    fit = aligner.fit([recording], {"image": targets}, split)
    return aligner, fit


def hits(aligner, recording, targets, ids):
    similarity = aligner.similarity(recording.average(ids), {"image": targets.of(ids)})
    return float((similarity.argmax(1) == np.arange(len(ids))).mean())


def test_learns_a_linear_relation_and_not_a_shuffled_one(rng):
    data = problem(rng)
    aligner, fit = fitted(data)
    assert isinstance(aligner, Aligner)
    assert not aligner.has_epochs
    assert hits(aligner, *data[:2], SPLIT.test) > 0.95
    assert fit.chosen["validation_loss"] == min(row["validation_loss"] for row in fit.history)
    data = problem(rng, shuffled=True)
    assert hits(fitted(data)[0], *data[:2], SPLIT.test) < 0.2


def test_fit_reads_no_test_stimulus(rng):
    recording, targets, _ = data = problem(rng)
    known = [*SPLIT.train, *SPLIT.validation]
    a = fitted(data)[0]
    b = fitted((recording.restrict(known), targets.restrict(known), SPLIT))[0]
    assert torch.equal(a.map.coefficients, b.map.coefficients)
    assert torch.equal(a.covariance, b.covariance)
    assert a.temperature == b.temperature


def test_the_whole_model_in_plain_numpy(rng):
    """Prediction by scikit-learn's ridge, residuals by refits, density by scipy."""
    recording, targets, _ = data = problem(rng)
    aligner, _ = fitted(data, "generative.ridge=0.7", "generative.shrinkage=0.4")
    x, y = targets.of(SPLIT.train).astype(float), recording.average(SPLIT.train)[:, :, 0].astype(float)
    mean, scale = x.mean(0), x.std(0) * np.sqrt(12)
    y_mean, y_scale = y.mean(0), y.std(0)
    phi, z = (x - mean) / scale, (y - y_mean) / y_scale
    residuals = np.empty_like(z)
    for i in range(len(z)):
        rest = np.arange(len(z)) != i
        residuals[i] = z[i] - Ridge(alpha=0.7).fit(phi[rest], z[rest]).predict(phi[i : i + 1])[0]
    covariance = residuals.T @ residuals / len(z)
    covariance = 0.6 * covariance + 0.4 * np.diag(np.diag(covariance))
    predicted = Ridge(alpha=0.7).fit(phi, z).predict((targets.of(SPLIT.test) - mean) / scale)
    signals = recording.average(SPLIT.test)
    measured = (signals[:, :, 0] - y_mean) / y_scale
    expected = [[multivariate_normal(m, covariance).logpdf(s) for m in predicted] for s in measured]
    found = aligner.log_density(signals, targets.of(SPLIT.test))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-3)  # coefficients are kept in float32
    np.testing.assert_allclose(
        aligner.predict_signal(targets.of(SPLIT.test))[:, :, 0], predicted * y_scale + y_mean, rtol=1e-3, atol=1e-3
    )


def test_save_and_load_give_the_same_similarities(rng, tmp_path):
    recording, targets, _ = data = problem(rng, repetitions=3)
    aligner, _ = fitted(data)
    aligner.save(tmp_path / "m.safetensors")
    again = load_aligner(tmp_path / "m.safetensors")
    x, y = recording.average(SPLIT.test), {"image": targets.of(SPLIT.test)}
    for count in (None, 1, 3):
        np.testing.assert_array_equal(
            again.similarity(x, y, repetitions=count), aligner.similarity(x, y, repetitions=count)
        )
    assert again.recipe == aligner.recipe
    assert type(build_aligner(again.recipe)) is GenerativeAligner
    with pytest.raises(InputError, match="schema"):
        ContrastiveAligner.load(tmp_path / "m.safetensors")


def relative(similarity):
    """Up to a constant a row, in units of how far the images' scores lie apart."""
    centred = similarity - similarity.mean(1, keepdims=True)
    return centred / centred.std()


def test_both_forms_give_one_model(rng):
    recording, targets, _ = data = problem(rng)
    words = ["generative.ridge=0.7", "generative.shrinkage=0.3"]
    a, b = (fitted(data, f"generative.form={form}", *words)[0] for form in ("dual", "primal"))
    assert (a.facts["form"], b.facts["form"]) == ("dual", "primal")
    x, y = recording.average(SPLIT.test), {"image": targets.of(SPLIT.test)}
    np.testing.assert_allclose(relative(a.similarity(x, y)), relative(b.similarity(x, y)), atol=1e-6)


@pytest.mark.parametrize("form", ["dual", "primal"])
def test_chunks_of_images_and_blocks_of_outputs_do_not_matter(rng, monkeypatch, form):
    recording, targets, _ = data = problem(rng, repetitions=2)
    words = [f"generative.form={form}", "generative.ridge=loo", "generative.shrinkage=analytic"]
    whole = fitted(data, *words)[0]
    monkeypatch.setattr("brainalign.alignment.generative.CHUNK", 13)
    monkeypatch.setattr("brainalign.alignment.covariance.BLOCK", 7)
    parts = fitted(data, *words)[0]
    assert parts.facts["ridge"] == whole.facts["ridge"]
    assert parts.facts["shrinkage"] == pytest.approx(whole.facts["shrinkage"], rel=1e-6)
    x, y = recording.average(SPLIT.test), {"image": targets.of(SPLIT.test)}
    np.testing.assert_allclose(relative(parts.similarity(x, y)), relative(whole.similarity(x, y)), atol=1e-5)


@pytest.mark.parametrize("form", ["dual", "primal"])
def test_a_weak_signal_gets_a_large_penalty(rng, form):
    """Independent features, one explained variance v for all: the best penalty is about (1 - v) / v, here 200."""
    n, explained = 1000, 0.005
    ids = [f"i{i}" for i in range(n)]
    x = rng.normal(size=(n, 10)).astype(np.float32)
    y = np.sqrt(explained / 10) * x @ rng.normal(size=(10, 120)) + rng.normal(size=(n, 120))
    split = Split("own/intra/v1", 0, tuple(ids[:900]), tuple(ids[900:960]), tuple(ids[960:]), "image-disjoint")
    data = Recording.from_arrays(y, ids, modality="fmri"), Targets(x, {k: i for i, k in enumerate(ids)}), split
    aligner, _ = fitted(data, f"generative.form={form}", "generative.ridge=loo")
    assert 100 < aligner.facts["ridge"] < 400


def test_the_posterior_is_bayes_rule(rng):
    recording, targets, _ = data = problem(rng, noise=4.0)
    aligner, _ = fitted(data)
    x, y = recording.average(SPLIT.test), targets.of(SPLIT.test)
    flat = aligner.posterior(x, y)
    np.testing.assert_allclose(flat.sum(1), 1, rtol=1e-10)
    soft = np.exp(aligner.similarity(x, {"image": y}).astype(float))
    np.testing.assert_allclose(flat, soft / soft.sum(1, keepdims=True), rtol=1e-4, atol=1e-7)
    prior = rng.uniform(0.1, 3, len(y))
    expected = flat * prior
    np.testing.assert_allclose(
        aligner.posterior(x, y, prior=prior), expected / expected.sum(1, keepdims=True), rtol=1e-6
    )
    with pytest.raises(InputError, match="positive weights"):
        aligner.posterior(x, y, prior=prior[:-1])


def test_a_single_trial_is_scored_with_a_single_trials_noise(rng):
    recording, targets, _ = data = problem(rng, noise=5.0, repetitions=8)
    aligner, _ = fitted(data)
    whole, one = aligner.noise(8), aligner.noise(1)
    trial = aligner.trial_noise
    np.testing.assert_allclose((one - whole).diagonal(), (trial * (1 - 1 / 8)).diagonal(), rtol=0.2, atol=0.05)
    plain, _ = fitted(data, "generative.trial_noise=false")
    assert plain.trial_noise is None
    x, y = recording.average(SPLIT.test, repetitions=1), {"image": targets.of(SPLIT.test)}
    surprise = {}
    for name, found in {"aware": aligner, "plain": plain}.items():
        s = found.similarity(x, y, repetitions=1).astype(float)
        surprise[name] = (np.log(np.exp(s).sum(1)) - np.diag(s)).mean()
    assert surprise["aware"] < surprise["plain"]
    mixed = aligner.similarity(x, y, repetitions=[1] * 15 + [8] * 15)
    np.testing.assert_array_equal(mixed[:15], aligner.similarity(x[:15], y, repetitions=1))
    np.testing.assert_array_equal(mixed[15:], aligner.similarity(x[15:], y, repetitions=8))


def test_the_noise_of_an_average_is_the_models_and_a_share_of_a_trials(rng):
    aligner, _ = fitted(problem(rng, noise=1.0, repetitions=4), "generative.shrinkage=0.25")
    total, trial = aligner.covariance.numpy(), aligner.trial_noise.numpy()
    assert aligner.facts["training_repetitions"] == 4
    shares, vectors = eigh(trial / 4, total)
    back = np.linalg.inv(vectors)
    model = back.T @ np.diag(1 - shares.clip(0, 0.95)) @ back
    for count in (1, 3, 4, 100):
        expected = total if count == 4 else model + trial / count
        expected = 0.75 * expected + 0.25 * np.diag(np.diag(expected))
        np.testing.assert_allclose(aligner.noise(count), expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(aligner.noise(), aligner.noise(4), rtol=0)


def test_noise_follows_what_the_aligner_holds_now(rng):
    """A second fit must not be scored with what was worked out for the first."""
    first, second = problem(rng, noise=1.0, repetitions=4), problem(rng, noise=3.0, repetitions=4)
    aligner, _ = fitted(first)
    before = aligner.noise(1)
    aligner.fit([second[0]], {"image": second[1]}, SPLIT)
    assert not torch.allclose(aligner.noise(1), before, rtol=0.1)
    assert torch.equal(aligner.noise(1), fitted(second)[0].noise(1))


@pytest.mark.parametrize("word", ["signals.whiten=mvnn", "signals.transform=sqrt"])
def test_predictions_come_back_through_whitening_or_square_root(rng, word):
    features = rng.normal(size=(N, 5)).astype(np.float32)
    rate = 4 + features @ rng.normal(size=(5, 6)) / 5
    trials = np.square(np.concatenate([rate + 0.1 * rng.normal(size=rate.shape) for _ in range(3)]))
    recording = Recording.from_arrays(trials.reshape(-1, 3, 2), IDS * 3, modality="meg", sfreq=100.0)
    targets = Targets(features, {name: row for row, name in enumerate(IDS)})
    words = ["signals.whiten=none", "signals.transform=none", word, "signals.scale=feature"]
    words += ["signals.channels=all", "signals.tmin=null", "signals.tmax=null"]
    made = load_recipe("generative", modality="meg", overrides=words).with_target(layer="0", pooling="mean")
    aligner = GenerativeAligner(made)
    aligner.fit([recording], {"image": targets}, SPLIT)
    z = aligner.predict_transformed(targets.of(SPLIT.test)).reshape(-1, 3, 2)
    held = aligner.signal_transform
    values = z * held.scale.numpy() + held.mean.numpy()
    by_hand = np.square(values) if held.sqrt else np.linalg.inv(held.whitener.numpy().astype(float)) @ values
    found = aligner.predict_signal(targets.of(SPLIT.test))
    np.testing.assert_allclose(found, by_hand, rtol=1e-5)
    truth = recording.average(SPLIT.test)
    assert np.abs(found - truth).mean() < 0.2 * np.abs(truth - truth.mean(0)).mean()


def test_predictions_come_in_the_units_of_the_recording(rng):
    features = rng.normal(size=(N, 12)).astype(np.float32)
    counts = np.square(2 + 0.3 * features @ rng.normal(size=(12, P)) / 3)
    recording = Recording.from_arrays(counts, IDS, modality="spikes")
    targets = Targets(features, {name: row for row, name in enumerate(IDS)})
    aligner = GenerativeAligner(recipe(modality="spikes"))
    aligner.fit([recording], {"image": targets}, SPLIT)
    found = aligner.predict_signal(targets.of(SPLIT.test))[:, :, 0]
    truth = recording.average(SPLIT.test)[:, :, 0]
    assert np.corrcoef(found.ravel(), truth.ravel())[0, 1] > 0.98
    assert np.abs(found - truth).mean() < 0.1 * truth.mean()
    z = aligner.transform(recording.average(SPLIT.train))
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(z.std(0), 1, atol=1e-3)


def test_layers_are_weighted_as_asked(rng):
    recording, targets, _ = problem(rng)
    noise = Targets(rng.normal(size=(N, 30)).astype(np.float32), targets.rows, "", "1", "mean")
    mixed = MixedTargets((targets, noise))
    equal, _ = fitted((recording, mixed, SPLIT), layer="0+1")
    given, _ = fitted((recording, mixed, SPLIT), "generative.bands=[3, 1]", layer="0+1")
    learned, _ = fitted((recording, mixed, SPLIT), "generative.bands=learned", layer="0+1")
    assert equal.layer_weights == [0.5, 0.5]
    assert given.layer_weights == [0.75, 0.25]
    assert learned.layer_weights[0] > 0.8
    with pytest.raises(InputError, match="1 weights for 2 layers"):
        fitted((recording, mixed, SPLIT), "generative.bands=[3]", layer="0+1")


def test_principal_components_and_analytic_shrinkage_work_too(rng):
    data = problem(rng)
    aligner, fit = fitted(data, "target.components=8", "generative.shrinkage=analytic", "generative.ridge=loo")
    assert aligner.feature_map.size == 8
    assert len(fit.history) == 1
    assert 0 <= fit.chosen["shrinkage"] <= 1
    assert hits(aligner, *data[:2], SPLIT.test) > 0.5


def test_wrong_shapes_and_settings_are_refused(rng):
    recording, targets, _ = data = problem(rng)
    with pytest.raises(InputError, match="has not been fitted"):
        GenerativeAligner(recipe()).predict_signal(np.zeros((1, 12)))
    aligner, _ = fitted(data)
    with pytest.raises(InputError, match=r"shape \(1, 19, 1\), expected \(n, 20, 1\)"):
        aligner.transform(np.zeros((1, 19, 1)))
    with pytest.raises(InputError, match=r"shape \(1, 3\), expected \(n, 12\)"):
        aligner.predict_signal(np.zeros((1, 3)))
    for count in (0, -2, 1.5, [1, 2], [[1]] * len(SPLIT.test)):
        with pytest.raises(InputError, match="one positive count each"):
            aligner.log_density(recording.average(SPLIT.test), targets.of(SPLIT.test), repetitions=count)


@pytest.mark.parametrize(
    "word",
    ["ridge=-1", "ridge=0", "ridge=best", "shrinkage=1.5", "shrinkage=-0.1", "bands=[-1, 2]", "bands=[]",
     "bands=[0, 0]", "bands=some", "form=tall", "field=curved", "ridges=1", "trial_noise=perhaps"],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(word):
    with pytest.raises(InputError, match=word.partition("=")[0]):
        recipe(f"generative.{word}")


def tampered(path, **changes):
    tensors, facts = load_tensors(path)
    save_tensors(path, tensors | {k: v for k, v in changes.items() if k != "shape"},
                 facts | {"shape": facts["shape"] | changes.get("shape", {})})  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [{"covariance.total": torch.eye(P - 1)}, {"covariance.total": torch.zeros(0)}, {"covariance.trial": torch.eye(3)},
     {"map.intercept": torch.zeros(P + 2)}, {"map.coefficients": torch.zeros(11, P)},
     {"signal.mean": torch.zeros(7, 9)},
     {"features.0.mean": torch.zeros(5)}, {"shape": {"n_chans": P - 1}}, {"shape": {"n_chans": "many"}}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_a_file_whose_parts_do_not_fit_is_refused(rng, tmp_path, change):
    aligner, _ = fitted(problem(rng, repetitions=3))
    aligner.save(tmp_path / "m.safetensors")
    tampered(tmp_path / "m.safetensors", **change)
    with pytest.raises(InputError, match="do not fit the recipe"):
        load_aligner(tmp_path / "m.safetensors")
