"""Noise ceilings against plain numpy, planted variances, and rsatoolbox where it is installed."""

from __future__ import annotations

import numpy as np
import pytest

from brainalign.errors import InputError
from brainalign.evaluation.ceilings_of import ceilings_of
from brainalign.evaluation.encoding import median_correlation
from brainalign.evaluation.noise_ceiling import (
    correlation,
    noise_corrected,
    split_half_reliability,
    variance_ceiling,
)
from brainalign.recordings import Recording


def made(rng, n=400, repetitions=6, signal=(1.0, 0.5, 0.0), noise=2.0):
    clean = rng.normal(size=(n, 1, len(signal))) * np.sqrt(signal)
    return clean + np.sqrt(noise) * rng.normal(size=(n, repetitions, len(signal)))


def test_variances_by_the_equation(rng):
    trials = made(rng, n=30, repetitions=3)
    found = variance_ceiling(trials)
    for channel in range(3):
        noise = np.mean([np.var(rows, ddof=1) for rows in trials[:, :, channel]])
        signal = max(0.0, np.var(trials[:, :, channel].mean(1), ddof=1) - noise / 3)
        assert found.noise[channel] == pytest.approx(noise)
        assert found.signal[channel] == pytest.approx(signal)
        assert found.reliability()[channel] == pytest.approx(signal / (signal + noise / 3))


def test_one_way_analysis_of_variance_gives_the_same(rng):
    from scipy.stats import f_oneway

    trials = made(rng, n=50, repetitions=4)[:, :, 0]
    ratio = f_oneway(*trials).statistic  # (R signal + noise) / noise in expectation
    assert variance_ceiling(trials[..., None]).reliability()[0] == pytest.approx(1 - 1 / ratio)


def test_planted_reliability_comes_out_of_both(rng):
    trials = made(rng, n=4000)
    truth = np.array([1.0, 0.5, 0.0]) / (np.array([1.0, 0.5, 0.0]) + 2.0 / 6)
    assert variance_ceiling(trials).reliability() == pytest.approx(truth, abs=0.03)
    assert split_half_reliability(trials, n_splits=10) == pytest.approx(truth, abs=0.04)


def test_missing_trials(rng):
    trials = made(rng, n=4000)
    trials[::2, 4:] = np.nan
    found = variance_ceiling(trials)
    assert found.noise == pytest.approx([2.0, 2.0, 2.0], rel=0.05)
    assert found.signal == pytest.approx([1.0, 0.5, 0.0], abs=0.06)
    assert found.repetitions == pytest.approx(1 / np.mean([1 / 4, 1 / 6]))
    halves = split_half_reliability(trials, n_splits=5)
    assert halves == pytest.approx(found.reliability(), abs=0.09)


def test_two_trials_are_split_one_way(rng):
    trials = made(rng, n=50, repetitions=2)
    r = np.array([np.corrcoef(trials[:, 0, c], trials[:, 1, c])[0, 1] for c in range(3)])
    found = split_half_reliability(trials, n_splits=400)
    assert found == pytest.approx(2 * r / (1 + r), abs=0.15)  # which of the two comes first is dealt by image


def test_noise_against_rsatoolbox(rng):
    noise = pytest.importorskip("rsatoolbox.data.noise")
    data = pytest.importorskip("rsatoolbox.data")
    trials = made(rng, n=40, repetitions=5)
    flat = trials.reshape(-1, 3)
    conditions = np.repeat(np.arange(40), 5)
    dataset = data.Dataset(flat, obs_descriptors={"image": conditions})
    # Its own default divides by (images - 1) * repetitions; what varies freely is images * (repetitions - 1).
    covariance = noise.cov_from_measurements(dataset, "image", dof=40 * 4, method="full")
    assert variance_ceiling(trials).noise == pytest.approx(np.diag(covariance))


def test_correlation_is_numpys(rng):
    a, b = rng.normal(size=(20, 2, 3)), rng.normal(size=(20, 2, 3))
    found = correlation(a, b)
    assert found[1, 2] == pytest.approx(np.corrcoef(a[:, 1, 2], b[:, 1, 2])[0, 1])
    assert correlation(np.ones((5, 1)), rng.normal(size=(5, 1))).tolist() == [0.0]


def test_corrected_correlation_is_that_with_the_clean_signal(rng):
    clean = rng.normal(size=(20000, 1))
    trials = clean[:, None] + 2 * rng.normal(size=(20000, 4, 1))
    model = clean + rng.normal(size=clean.shape)
    found = noise_corrected(correlation(model, trials.mean(1)), variance_ceiling(trials).reliability())
    assert found[0] == pytest.approx(correlation(model, clean)[0], abs=0.02)


def test_median_and_its_control(rng):
    clean = rng.normal(size=(150, 6, 1))
    found = median_correlation(clean + rng.normal(size=clean.shape), clean, n_resamples=200)
    assert found.ci95[0] < found.median < found.ci95[1]
    assert found.median == pytest.approx(np.sqrt(0.5), abs=0.08)
    assert abs(found.shuffled) < 0.03 and found.p == pytest.approx(1 / 201)
    nothing = median_correlation(rng.normal(size=clean.shape), clean, n_resamples=200)
    assert nothing.p > 0.01
    corrected = median_correlation(clean, clean, np.full((6, 1), 0.25), n_resamples=50)
    assert corrected.median == pytest.approx(2.0)


def test_resampled_correlation_is_the_weighted_one(rng):
    from brainalign.evaluation.encoding import _weighted

    x, y = rng.normal(size=(12, 2)), rng.normal(size=(12, 2))
    rows = rng.integers(0, 12, size=12)
    weights = np.bincount(rows, minlength=12)[None] / 12
    assert _weighted(x, y, weights)[0] == pytest.approx(correlation(x[rows], y[rows]))


def test_recordings(rng):
    trials = made(rng, n=30, repetitions=4).astype(np.float32)
    ids = [f"i{i:02d}" for i in range(30)]
    recording = Recording.from_arrays(trials.reshape(-1, 3), np.repeat(ids, 4).tolist(), modality="spikes")
    found = ceilings_of(recording, ids)
    assert found.by_variance[:, 0] == pytest.approx(variance_ceiling(trials).reliability(), abs=1e-5)
    assert ceilings_of(recording, ids, repetitions=2).repetitions == 2
    averages = Recording.from_arrays(trials.mean(1), ids, modality="spikes", n_averaged=[4] * 30)
    assert ceilings_of(averages, ids) is None


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: variance_ceiling(np.ones((3, 1, 2))), "no image was repeated"),
        (lambda: variance_ceiling(np.ones(3)), "expected (n_images, n_repetitions"),
        (lambda: variance_ceiling(np.array([[[1.0, np.nan]], [[1.0, 2.0]]])), "some channels only"),
        (lambda: split_half_reliability(np.ones((2, 2, 1))), "3 or more"),
        (lambda: median_correlation(np.ones((5, 2)), np.ones((5, 3))), "shapes"),
        (lambda: median_correlation(np.ones((5, 2)), np.ones((5, 2)), np.zeros(2)), "no channel is reliable"),
        (lambda: noise_corrected(np.ones(2), np.ones(3)), "do not belong"),
    ],
)
def test_refused(call, words):
    with pytest.raises(InputError, match=words.replace("(", r"\(")):
        call()
