"""Conversion against conditioning written out with numpy and scipy, on planted pairs of modalities."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm

from brainalign.alignment import Targets
from brainalign.alignment.conversion import Conversion, GalleryConversion, GaussianConversion
from brainalign.alignment.generative import GenerativeAligner
from brainalign.errors import InputError
from brainalign.protocols import Split
from brainalign.recipes import load_recipe
from brainalign.recordings import Recording

N, DIM = 300, 8
N_TRAIN, N_VALIDATION = 200, 30


def tensor(values):
    return torch.from_numpy(np.asarray(values, dtype=np.float64))


def covariance(rng, p):
    root = rng.normal(size=(p, p))
    return root @ root.T / p + 0.1 * np.eye(p)


@pytest.mark.parametrize(("p1", "p2"), [(5, 3), (3, 6), (1, 1)])
def test_equals_conditioning_of_the_joint_covariance(p1, p2):
    rng = np.random.default_rng(p1)
    m = rng.normal(size=(60, 4)) @ rng.normal(size=(4, p1 + p2)) + 3
    sigma1, sigma2 = covariance(rng, p1), covariance(rng, p2)
    joint = np.cov(m, rowvar=False)
    joint[:p1, :p1] += sigma1
    joint[p1:, p1:] += sigma2
    gain = joint[p1:, :p1] @ np.linalg.inv(joint[:p1, :p1])
    law = GaussianConversion.fit(m[:, :p1], m[:, p1:]).given(tensor(sigma1), tensor(sigma2))
    signals, recorded = 3 + rng.normal(size=(7, p1)), 3 + rng.normal(size=(9, p2))
    expected = m[:, p1:].mean(0) + (signals - m[:, :p1].mean(0)) @ gain.T
    left = joint[p1:, p1:] - gain @ joint[:p1, p1:]
    np.testing.assert_allclose(law.predict(tensor(signals)).numpy(), expected, atol=1e-8)
    np.testing.assert_allclose(law.of_signal.numpy(), left, atol=1e-8)
    np.testing.assert_allclose(law.of_mean.numpy(), left - sigma2, atol=1e-8)
    found = law.log_density(tensor(signals), tensor(recorded)).numpy()
    for i in range(7):
        np.testing.assert_allclose(found[i], multivariate_normal(expected[i], left).logpdf(recorded), atol=1e-8)
    # A second way: the density of both signals together over that of the source by itself.
    both = multivariate_normal(m.mean(0), joint)
    alone = multivariate_normal(m[:, :p1].mean(0), joint[:p1, :p1])
    pair = both.logpdf(np.concatenate([signals[0], recorded[0]])) - alone.logpdf(signals[0])
    assert found[0, 0] == pytest.approx(pair, abs=1e-8)


def test_fewer_images_than_values():
    rng = np.random.default_rng(0)
    m1, m2 = rng.normal(size=(6, 40)), rng.normal(size=(6, 30))
    law = GaussianConversion.fit(m1, m2).given(tensor(0.5 * np.eye(40)), tensor(0.5 * np.eye(30)))
    assert float(torch.linalg.eigvalsh(law.of_mean).min()) > -1e-10
    assert float(torch.linalg.eigvalsh(law.of_signal).min()) > 0.5 - 1e-10


def record(rng, latent, shape, noise, modality, scale=1.0, **options):
    """Signals (n, *shape) linear in the latent, shown twice each; per-trial noise mixed over channels."""
    p = math.prod(shape)
    clean = latent @ rng.normal(size=(DIM, p))
    mixing = np.linalg.cholesky(covariance(rng, p))
    trials = [clean + noise * rng.normal(size=clean.shape) @ mixing.T for _ in range(2)]
    signals = (scale * np.concatenate(trials) + 4).reshape(-1, *shape).astype(np.float32)
    ids = [f"i{k:03d}" for k in range(len(latent))]
    return Recording.from_arrays(signals, ids * 2, modality=modality, repetition=[1] * N + [2] * N, **options)


@pytest.fixture(scope="module")
def planted():
    """Two fitted aligners of different modality, channels, features; and the features of all images for either."""
    rng = np.random.default_rng(5)
    latent = rng.normal(size=(N, DIM))
    ids = [f"i{k:03d}" for k in range(N)]
    parts = tuple(ids[:N_TRAIN]), tuple(ids[N_TRAIN : N_TRAIN + N_VALIDATION]), tuple(ids[N_TRAIN + N_VALIDATION :])
    split = Split("own/intra/v1", 0, *parts, "image-disjoint")
    aligners, features, recordings = [], [], []
    for modality, shape, width in (("fmri", (20, 1), DIM), ("eeg", (6, 5), 12)):
        options = {"sfreq": 100.0} if modality == "eeg" else {}
        recording = record(rng, latent, shape, 1.5, modality, scale=3.0, **options)
        x = (latent @ np.linalg.qr(rng.normal(size=(width, DIM)))[0].T).astype(np.float32)
        channels = ["signals.channels=all", "signals.tmin=null", "signals.tmax=null"] if modality == "eeg" else []
        recipe = load_recipe("generative", modality=modality, overrides=channels).with_target(layer=0, pooling="mean")
        aligner = GenerativeAligner(recipe)
        aligner.fit([recording], {"image": Targets(x, {name: row for row, name in enumerate(ids)})}, split)
        aligners.append(aligner)
        features.append(x)
        recordings.append(recording)
    return aligners, features, recordings, split


def signals_of(recording, ids, **options):
    return recording.average(ids, **options)


def test_matches_the_aligners(planted):
    (source, target), (x1, x2), (r1, r2), split = planted
    found = Conversion(source, target, x1[:N_TRAIN], x2[:N_TRAIN])
    m = np.column_stack([source.predict_transformed(x1[:N_TRAIN]), target.predict_transformed(x2[:N_TRAIN])])
    p = source.noise().shape[0]
    joint = np.cov(m, rowvar=False)
    joint[:p, :p] += source.noise(2).numpy()
    joint[p:, p:] += target.noise(1).numpy()
    gain = joint[p:, :p] @ np.linalg.inv(joint[:p, :p])
    left = joint[p:, p:] - gain @ joint[:p, p:]
    sources, targets = signals_of(r1, split.test), signals_of(r2, split.test, repetitions=1)
    expected = m[:, p:].mean(0) + (source.transform(sources) - m[:, :p].mean(0)) @ gain.T
    np.testing.assert_allclose(found.predict_transformed(sources, repetitions=2), expected, atol=1e-8)
    scores = found.similarity(sources[:4], targets[:6], source_repetitions=2, target_repetitions=1)
    z = target.transform(targets[:6])
    for i in range(4):
        np.testing.assert_allclose(scores[i], multivariate_normal(expected[i], left).logpdf(z), atol=1e-7)


def top1(scores):
    return float((scores.argmax(1) == np.arange(len(scores))).mean())


def test_finds_the_recorded_target_and_not_when_pairs_are_shuffled(planted):
    (source, target), (x1, x2), (r1, r2), split = planted
    sources, targets = signals_of(r1, split.test), signals_of(r2, split.test)
    n, rng = len(split.test), np.random.default_rng(0)
    for found in (
        Conversion(source, target, x1[:N_TRAIN], x2[:N_TRAIN]),
        GalleryConversion(source, target, x1, x2),
    ):
        scores = found.similarity(sources, targets)
        assert top1(scores) > 0.6
        hits = np.mean([top1(scores[:, rng.permutation(n)]) for _ in range(40)])
        assert hits < 3 / n  # chance is 1 / n
    # A conversion that was told of wrong pairs knows nothing.
    wrong = Conversion(source, target, x1[:N_TRAIN], x2[rng.permutation(N_TRAIN)])
    assert top1(wrong.similarity(sources, targets)) < 6 / n


def test_generated_signals_follow_the_recorded_ones(planted):
    (source, target), (x1, x2), (r1, r2), split = planted
    found = Conversion(source, target, x1[:N_TRAIN], x2[:N_TRAIN])
    sources, targets = signals_of(r1, split.test), signals_of(r2, split.test)
    made = found.convert(sources, source_repetitions=2, target_repetitions=2, level=0.9)
    assert made.expected.shape == targets.shape == made.low.shape
    share = 1 - np.square(targets - made.expected).sum() / np.square(targets - targets.mean(0)).sum()
    assert share > 0.5  # of the variance, noise of the recorded signals included
    inside = ((made.low < targets) & (targets < made.high)).mean()
    assert inside == pytest.approx(0.9, abs=0.03)
    single = found.convert(sources, source_repetitions=2, target_repetitions=1, level=0.9)
    trial = signals_of(r2, split.test, repetitions=1)
    assert ((single.low < trial) & (trial < single.high)).mean() == pytest.approx(0.9, abs=0.03)
    assert (single.high - single.low).mean() > 1.1 * (made.high - made.low).mean()
    np.testing.assert_allclose(single.expected, made.expected)


def interval_by_hand(aligner, law, z, level):
    """Ends in recorded units through the whole un-whitening matrix, (n, n_chans * n_times)."""
    transform, n_chans, n_times = aligner.signal_transform, aligner.facts["n_chans"], aligner.facts["n_times"]
    scale = np.broadcast_to(transform.scale.numpy().astype(float), (n_chans, n_times)).ravel()
    mean = np.broadcast_to(transform.mean.numpy().astype(float), (n_chans, n_times)).ravel()
    back = np.kron(np.linalg.inv(transform.whitener.numpy().astype(float)), np.eye(n_times)) @ np.diag(scale)
    centre = z @ back.T + np.kron(np.linalg.inv(transform.whitener.numpy().astype(float)), np.eye(n_times)) @ mean
    spread = norm.ppf((1 + level) / 2) * np.sqrt(np.diag(back @ law.of_signal.numpy() @ back.T))
    return centre, centre - spread, centre + spread


@pytest.mark.parametrize("sqrt", [False, True])
def test_intervals_through_noise_whitening(planted, sqrt, monkeypatch):
    (source, target), (x1, x2), (r1, _), split = planted
    from dataclasses import replace

    white = torch.from_numpy(np.random.default_rng(1).normal(size=(6, 6)) + 3 * np.eye(6)).float()
    monkeypatch.setattr(target, "signal_transform", replace(target.signal_transform, sqrt=sqrt, whitener=white))
    found = Conversion(source, target, x1[:N_TRAIN], x2[:N_TRAIN])
    sources = signals_of(r1, split.test)[:3]
    law = found.given()
    z = law.predict(tensor(source.transform(sources))).numpy()
    expected = interval_by_hand(target, law, z, 0.8)
    made = found.convert(sources, level=0.8)
    for mine, theirs in zip((made.expected, made.low, made.high), expected, strict=True):
        by_hand = np.maximum(theirs, 0) ** 2 if sqrt else theirs
        np.testing.assert_allclose(mine.reshape(3, -1), by_hand, rtol=1e-5, atol=1e-5)


def test_mixture_equals_the_sum_over_images(planted):
    (source, target), (x1, x2), (r1, r2), split = planted
    prior = np.random.default_rng(2).uniform(0.5, 2, size=40)
    found = GalleryConversion(source, target, x1[-40:], x2[-40:], prior=prior)
    sources, targets = signals_of(r1, split.test[-5:]), signals_of(r2, split.test[-6:])
    posterior = source.posterior(sources, x1[-40:], prior=prior)
    np.testing.assert_allclose(found.posterior(sources), posterior, atol=1e-12)
    m, noise = target.predict_transformed(x2[-40:]), target.noise().numpy()
    z = target.transform(targets)
    parts = np.array([multivariate_normal(one, noise).logpdf(z) for one in m])  # (image, target)
    scores = found.similarity(sources, targets)
    expected = logsumexp(parts[None], b=posterior[:, :, None], axis=1)
    np.testing.assert_allclose(scores, expected, atol=1e-7)
    np.testing.assert_allclose(found.predict_transformed(sources), posterior @ m, atol=1e-10)
    spread = found.covariance(sources)
    second = noise + np.einsum("j,ja,jb->ab", posterior[1], m, m) - np.outer(posterior[1] @ m, posterior[1] @ m)
    np.testing.assert_allclose(spread[1], second, atol=1e-9)


def test_mixture_in_blocks_is_the_same(planted, monkeypatch):
    (source, target), (x1, x2), (r1, r2), split = planted
    found = GalleryConversion(source, target, x1[-30:], x2[-30:])
    sources, targets = signals_of(r1, split.test[:7]), signals_of(r2, split.test[:7])
    whole = found.similarity(sources, targets)
    monkeypatch.setattr("brainalign.alignment.conversion.CHUNK_NUMBERS", 1)
    np.testing.assert_array_equal(found.similarity(sources, targets), whole)


def test_what_cannot_be_used_is_refused(planted):
    (source, target), (x1, x2), (r1, _), split = planted
    with pytest.raises(InputError, match="same images for both models"):
        Conversion(source, target, x1[:10], x2[:9])
    with pytest.raises(InputError, match="2 images are too few"):
        Conversion(source, target, x1[:2], x2[:2])
    with pytest.raises(InputError, match="expected"):
        Conversion(source, target, x2[:10], x2[:10])
    with pytest.raises(InputError, match="prior needs 10 positive weights"):
        GalleryConversion(source, target, x1[:10], x2[:10], prior=np.zeros(10))
    found = Conversion(source, target, x1[:50], x2[:50])
    sources = signals_of(r1, split.test[:3])
    with pytest.raises(InputError, match="between 0 and 1"):
        found.convert(sources, level=1.0)
    with pytest.raises(InputError, match="expected \\(n, 20, 1\\)"):
        found.predict_transformed(sources[:, :4])
