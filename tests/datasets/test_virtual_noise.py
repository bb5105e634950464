"""Spectrum, rhythm, space and size of the noise against what the model says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from brainalign.datasets.virtual import noise as noises
from brainalign.datasets.virtual.config import POSTERIOR_17
from brainalign.datasets.virtual.head import pick_channels, standard_head

SFREQ = 100.0
PICKS = pick_channels(POSTERIOR_17)


def model(times: NDArray[np.float64]) -> noises.NoiseModel:
    return noises.noise_model(standard_head(), PICKS, times, SFREQ, 4, np.random.default_rng(5))


@pytest.fixture(scope="module")
def long_model() -> noises.NoiseModel:
    return model(np.arange(800) / SFREQ)


def sample(made: noises.NoiseModel, n: int, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    normals = rng.standard_normal((n, made.n_normals)).astype(np.float32)
    return made.mix(normals, np.full((n, 2), 0.99), np.zeros(n, dtype=np.intp))


def spectrum(x: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    from scipy.signal import welch

    frequency, power = welch(x, SFREQ, nperseg=400)
    return frequency, power.mean(axis=0)


def without(made: noises.NoiseModel, **silent: float) -> noises.NoiseModel:
    return replace(made, **{name: getattr(made, name) * np.float32(0) for name in silent})


def test_background_falls_as_one_over_f(long_model: noises.NoiseModel) -> None:
    only = without(long_model, alpha_space=0, session_slope=0, sensor_sd=0)
    only = replace(only, times=only.times * 0)  # no drift
    frequency, power = spectrum(sample(only, 40))
    band = (frequency >= 4) & (frequency <= 40)
    slope = np.polyfit(np.log(frequency[band]), np.log(power.mean(axis=0)[band]), 1)[0]
    # With a knee k at 1 Hz the local slope is -X f^X / (k^X + f^X): a little flatter than -X.
    expected = -noises.BACKGROUND_EXPONENT * np.mean(frequency[band] ** 1.3 / (1 + frequency[band] ** 1.3))
    assert slope == pytest.approx(expected, abs=0.12)


def test_alpha_stands_out_over_the_back_of_the_head(long_model: noises.NoiseModel) -> None:
    frequency, power = spectrum(sample(long_model, 40))
    pz, band = power[POSTERIOR_17.index("POz")], (frequency >= 8) & (frequency <= 12)
    sides = ((frequency >= 4) & (frequency < 7)) | ((frequency > 14) & (frequency <= 18))
    assert pz[band].max() > 2 * pz[sides].max()
    assert 8 <= frequency[np.argmax(np.where(frequency > 4, pz, 0))] <= 12


def test_alpha_has_no_fixed_phase(long_model: noises.NoiseModel) -> None:
    only = without(long_model, background_space=0, sensor_sd=0)
    trials = sample(only, 200)
    # 200 random phases leave 1 / sqrt(200) of the rhythm in the mean; a fixed phase would leave all of it.
    np.testing.assert_allclose(trials.mean(axis=0).std(axis=1) * np.sqrt(200) / trials.std(axis=(0, 2)), 1, atol=0.3)


def test_neighbours_record_similar_noise(long_model: noises.NoiseModel) -> None:
    trials = sample(without(long_model, alpha_space=0), 30)
    found = np.corrcoef(np.moveaxis(trials, 1, 0).reshape(17, -1))
    at = {name: i for i, name in enumerate(POSTERIOR_17)}
    near = np.mean([found[at[a], at[b]] for a, b in (("PO3", "POz"), ("P5", "P7"), ("O1", "Oz"), ("P6", "P8"))])
    far = np.mean([found[at[a], at[b]] for a, b in (("P7", "P8"), ("PO7", "P8"), ("P7", "PO8"))])
    assert near > 0.7 and near > far + 0.3
    distance = np.linalg.norm(
        standard_head().positions[PICKS][:, None] - standard_head().positions[PICKS][None], axis=2
    )
    pairs = np.triu_indices(17, 1)
    assert np.corrcoef(distance[pairs], found[pairs])[0, 1] < -0.7


def test_variance_is_that_of_samples() -> None:
    times = -0.2 + np.arange(60) / SFREQ
    made = model(times)
    rng = np.random.default_rng(1)
    n = 6000
    normals = rng.standard_normal((n, made.n_normals)).astype(np.float32)
    x = made.mix(normals, rng.random((n, 2)), np.arange(n) % 4)
    x = x - x[:, :, times < 0].mean(axis=2, keepdims=True)
    found = (x[:, :, times >= 0].astype(np.float64) ** 2).mean(axis=(0, 2))
    np.testing.assert_allclose(found, made.variance(), rtol=0.06)


def test_correlation_of_a_flat_band_is_a_sinc() -> None:
    grid = noises.frequencies(SFREQ)
    times = np.arange(30) / SFREQ
    found = noises.correlation((grid < 20).astype(float), grid, times)
    np.testing.assert_allclose(found[0], np.sinc(2 * 20 * times), atol=2e-3)
    np.testing.assert_allclose(found, found.T)


def test_symmetric_root() -> None:
    x = np.random.default_rng(0).normal(size=(5, 9))
    root = noises.symmetric_root(x @ x.T)
    np.testing.assert_allclose(root @ root, x @ x.T)
    np.testing.assert_allclose(root, root.T)


def test_blinks_are_frontal_short_and_rare() -> None:
    field = noises.blink_topography(standard_head())
    assert field[:2].mean() == pytest.approx(noises.BLINK_UV)
    assert np.abs(field[PICKS]).max() < 0.3 * noises.BLINK_UV
    times = -0.2 + np.arange(120) / SFREQ
    shape = noises.blink_shape(times, 0.5)
    assert shape.max() == pytest.approx(1, abs=0.02) and (shape > 0).sum() / SFREQ == pytest.approx(0.3, abs=0.02)
    made = model(times)
    quiet = np.zeros((2, made.n_normals), dtype=np.float32)
    quiet_slope = replace(made, session_slope=made.session_slope * 0)
    x = quiet_slope.mix(quiet, np.array([[0.001, 0.5], [0.5, 0.5]]), np.zeros(2, dtype=np.intp))
    np.testing.assert_allclose(x[0], field[PICKS][:, None] * shape, rtol=1e-4, atol=1e-5)
    assert not x[1].any()
