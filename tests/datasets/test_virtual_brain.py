"""Drives, kernels and anatomy of the virtual brain against plain arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from brainalign.datasets.virtual import brain
from brainalign.datasets.virtual.config import POSTERIOR_17, VirtualBrainConfig
from brainalign.datasets.virtual.head import pick_channels, standard_head

TRAINING = np.arange(60)


def features(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(80, 12)) @ rng.normal(size=(12, 30)) * rng.uniform(0.1, 9, 30)).astype(np.float32)


def test_drives_are_standard_on_training_images_and_linear_in_the_features() -> None:
    found = brain.drives(features(), TRAINING, 9, np.random.default_rng(1))
    assert found.shape == (80, 9)
    np.testing.assert_allclose(found[TRAINING].mean(axis=0), 0, atol=1e-10)
    np.testing.assert_allclose(found[TRAINING].std(axis=0), 1)
    design = np.column_stack([features(), np.ones(80)])
    weights, *_ = np.linalg.lstsq(design[TRAINING], found[TRAINING], rcond=None)
    np.testing.assert_allclose(design @ weights, found, atol=1e-4)


def test_other_images_do_not_touch_the_statistics() -> None:
    changed = features()
    changed[60:] *= 100
    one = brain.drives(features(), TRAINING, 9, np.random.default_rng(1))
    two = brain.drives(changed, TRAINING, 9, np.random.default_rng(1))
    np.testing.assert_allclose(one[TRAINING], two[TRAINING])


def test_constant_features_are_ignored() -> None:
    padded = np.column_stack([features(), np.full(80, 3.0, np.float32)])
    np.testing.assert_allclose(
        brain.drives(padded, TRAINING, 4, np.random.default_rng(1)),
        brain.drives(features(), TRAINING, 4, np.random.default_rng(1)),
        atol=1e-8,
    )


def test_saturation_bounds_the_drive_and_gain_zero_is_linear() -> None:
    drive = brain.standardised(features().astype(float), TRAINING)
    np.testing.assert_allclose(brain.saturate(drive, 0.0, TRAINING), drive, atol=1e-12)
    strong = brain.saturate(drive, 10.0, TRAINING)
    assert np.abs(strong).max() < 2.0 < np.abs(drive).max()
    for k in range(drive.shape[1]):  # monotone
        assert (np.diff(strong[np.argsort(drive[:, k]), k]) >= 0).all()


def test_concept_codes_are_shared_within_a_concept_and_half_within_a_category() -> None:
    config = VirtualBrainConfig()
    codes = brain.concept_codes(["a", "a", "b", "c"], ["x", "x", "x", "y"], 4000, config)
    np.testing.assert_array_equal(codes[0], codes[1])
    found = np.corrcoef(codes)
    assert found[0, 2] == pytest.approx(0.5, abs=0.06) and found[0, 3] == pytest.approx(0, abs=0.06)
    assert codes.std() == pytest.approx(1, abs=0.05)


def test_kernel_is_the_written_formula() -> None:
    times = np.linspace(-0.2, 1.0, 1201)
    found = brain.evoked_kernel(times, *(np.array(v) for v in (0.2, 0.09, 3.0, 7.0)))
    assert not found[times <= 0.09].any()
    assert times[np.abs(found).argmax()] == pytest.approx(0.2, abs=1e-3) and found.max() == pytest.approx(1)
    x = (0.3 - 0.09) / (0.2 - 0.09)
    by_hand = x**3 * np.exp(3 * (1 - x)) * np.cos(2 * np.pi * 7 * 0.1)
    assert found[np.argmin(np.abs(times - 0.3))] == pytest.approx(by_hand)


def test_anatomy_is_posterior_and_subjects_are_variants_of_it() -> None:
    config, head, all_picks = VirtualBrainConfig(), standard_head(), np.arange(63)
    one, two = (brain.subject_sources(config, head, all_picks, 2, s) for s in (0, 1))
    posterior = pick_channels(POSTERIOR_17)
    power = (one.topographies**2).sum(axis=1)
    assert power[posterior].mean() > 3 * np.delete(power, posterior).mean()
    likeness = [np.corrcoef(one.topographies[:, k], two.topographies[:, k])[0, 1] for k in range(len(one.latency_s))]
    assert 0.5 < np.mean(likeness) < 0.99
    np.testing.assert_allclose(np.ptp((one.latency_s - two.latency_s)[one.pathway == 1]), 0, atol=1e-12)
    assert 0 < abs((one.latency_s - two.latency_s)[-1]) < 0.03


def test_latencies_lie_in_the_windows_and_deeper_layers_answer_later() -> None:
    sources = brain.subject_sources(VirtualBrainConfig(), standard_head(), np.arange(63), 2, 0)
    for code, pathway in enumerate((brain.EARLY, brain.LATE)):
        latency = sources.latency_s[sources.pathway == code]
        assert pathway.window_s[0] - 0.013 < latency.min() and latency.max() < pathway.window_s[1] + 0.013
    late = sources.latency_s[sources.pathway == 1]
    dealt = brain.source_layers(len(late), 2)
    assert late[dealt == 0].max() < late[dealt == 1].min()


def test_seed_changes_everything_and_nothing_else_does() -> None:
    def draw(config: VirtualBrainConfig, *numbers: int) -> float:
        return float(brain.generator(config, "x", *numbers).random())

    assert draw(VirtualBrainConfig(seed=1), 2) == draw(VirtualBrainConfig(seed=1, noise=3.0), 2)
    assert len({draw(VirtualBrainConfig(seed=s), n) for s in (0, 1) for n in (0, 1)}) == 4
