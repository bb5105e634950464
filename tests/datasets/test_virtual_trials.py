"""Trials on demand: the same bits in any order, and the size and time course the truth names."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from brainalign.datasets.virtual import brain
from brainalign.datasets.virtual.config import POSTERIOR_17, VirtualBrainConfig
from brainalign.datasets.virtual.head import pick_channels, standard_head
from brainalign.datasets.virtual.noise import noise_model
from brainalign.datasets.virtual.trials import VirtualTrials, latency_shifts, virtual_trials
from brainalign.datasets.virtual.truth import planted

SFREQ = 100.0
TIMES = -0.2 + np.arange(120) / SFREQ
PICKS = pick_channels(POSTERIOR_17)
N_IMAGES, EACH = 10, 12


def subject(number: int = 0, each: int = EACH, answering: tuple[int, ...] = (0, 1), **options: Any) -> Any:
    config = VirtualBrainConfig(**options)
    sources = brain.subject_sources(config, standard_head(), PICKS, 2, number)
    noise = noise_model(standard_head(), PICKS, TIMES, SFREQ, 4, brain.generator(config, "noise", number))
    drive = np.random.default_rng(11).standard_normal((N_IMAGES, len(sources.latency_s)))
    drive = (drive - drive.mean(axis=0)) * np.isin(sources.pathway, answering)
    images = np.tile(np.arange(N_IMAGES), each)
    sessions = np.arange(N_IMAGES * each) // N_IMAGES % 4
    return virtual_trials(config, sources, noise, drive, images, sessions, number), sources, drive


@pytest.fixture(scope="module")
def trials() -> VirtualTrials:
    made: VirtualTrials = subject()[0]
    return made


def test_rows_do_not_depend_on_order_company_or_object(trials: VirtualTrials) -> None:
    everything = trials[:]
    assert everything.shape == trials.shape == (120, 17, 120) and everything.dtype == np.float32
    order = np.random.default_rng(0).permutation(120)
    np.testing.assert_array_equal(trials[order], everything[order])
    np.testing.assert_array_equal(trials[np.array([7])][0], everything[7])
    np.testing.assert_array_equal(trials[7], everything[7])
    np.testing.assert_array_equal(trials[-1], everything[-1])
    np.testing.assert_array_equal(trials[np.array([3, 3])], everything[[3, 3]])
    np.testing.assert_array_equal(subject()[0][20:24], everything[20:24])


def test_trials_of_an_image_differ_and_so_do_subjects_and_seeds(trials: VirtualTrials) -> None:
    rows = np.arange(2) * N_IMAGES
    one, two = trials[rows]
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.6
    assert not np.allclose(trials[0], subject(1)[0][0])
    assert not np.allclose(trials[0], subject(seed=1)[0][0])


def test_only_the_rows_asked_for_are_in_memory() -> None:
    big = subject(each=4000)[0]
    full = int(np.prod(big.shape)) * 4
    kept = sum(v.nbytes for v in vars(big).values() if isinstance(v, np.ndarray))
    assert kept < full / 50
    big[:2]
    tracemalloc.start()
    big[np.arange(0, 40000, 4000)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < full / 50


def test_out_of_range_rows_are_refused(trials: VirtualTrials) -> None:
    with pytest.raises(IndexError):
        trials[np.array([120])]


def test_baseline_is_corrected_and_nothing_answers_before_the_stimulus() -> None:
    noisy = subject()[0][:]
    np.testing.assert_allclose(noisy[:, :, TIMES < 0].mean(axis=2), 0, atol=1e-4)
    clean = subject(noise=0.0)[0][:]
    assert not clean[:, :, TIMES <= 0].any()
    assert np.abs(clean).max() > 1


def test_noise_is_the_same_whatever_the_image_shows() -> None:
    made = subject()[0]
    other = replace(made, images=(made.images + 1) % N_IMAGES)
    silent = replace(made, config=replace(made.config, noise=0.0))
    silent_other = replace(silent, images=other.images)
    np.testing.assert_allclose(made[:8] - silent[:8], other[:8] - silent_other[:8], atol=1e-4)


def test_noise_option_scales_the_noise_alone() -> None:
    noise = [subject(noise=n)[0][:20] - subject(noise=0.0)[0][:20] for n in (1.0, 3.0)]
    np.testing.assert_allclose(3 * noise[0], noise[1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("pathway", "low", "high"), [(0, 0.08, 0.14), (1, 0.15, 0.28)])
def test_responses_peak_at_the_planted_latency(pathway: int, low: float, high: float) -> None:
    made, sources, drive = subject(noise=0.0, answering=(pathway,), each=200)
    signals = np.stack([made[made.images == i].mean(axis=0) for i in range(N_IMAGES)])
    power = signals.std(axis=0).mean(axis=0)
    peak = TIMES[power.argmax()]
    truth = planted(made, sources, drive)["pathways"]["late" if pathway else "early"]
    assert low < peak < high
    assert peak == pytest.approx(truth["latency_s"], abs=0.03)
    assert peak == pytest.approx(TIMES[truth["time_course_uv"].argmax()], abs=0.011)


def test_jitter_and_gain_vary_the_response_as_much_as_asked() -> None:
    none = subject(noise=0.0, jitter_s=0.0, gain_sd=0.0)[0]
    assert len(none.shifts) == 1
    gains = none.session_gain[none.sessions][:, :, None]
    once = none[:] / gains
    np.testing.assert_allclose(once[:N_IMAGES], once[N_IMAGES : 2 * N_IMAGES], rtol=1e-4, atol=1e-4)
    gained = subject(noise=0.0, jitter_s=0.0, gain_sd=0.2, each=100)[0]
    first = gained[gained.images == 0] / gained.session_gain[gained.sessions[gained.images == 0]][:, :, None]
    size = first[:, 0, 40] / first[:, 0, 40].mean()
    assert size.std() == pytest.approx(0.2, rel=0.2)


def test_latency_shifts_never_precede_the_stimulus() -> None:
    np.testing.assert_allclose(latency_shifts(0.0), [0.0])
    shifts = latency_shifts(0.05)
    assert shifts[0] == pytest.approx(-0.04) and shifts[-1] == pytest.approx(0.2)
    np.testing.assert_allclose(latency_shifts(0.005)[[0, -1]], [-0.02, 0.02])


def test_signal_to_noise_ratio_is_that_of_simulated_trials() -> None:
    made, sources, drive = subject(each=300, signal=2.0)
    truth = planted(made, sources, drive)
    made = replace(made, session_gain=np.ones_like(made.session_gain))
    after = TIMES >= 0
    grouped = np.stack([made[made.images == i][:, :, after] for i in range(N_IMAGES)]).astype(np.float64)
    within = grouped.var(axis=1, ddof=1).mean(axis=(0, 2))
    between = grouped.mean(axis=1).var(axis=0).mean(axis=1) - within / 300 * (N_IMAGES - 1) / N_IMAGES
    np.testing.assert_allclose(within, truth["noise_variance_uv2"], rtol=0.08)
    strong = truth["snr"] > 0.5 * truth["snr"].max()
    np.testing.assert_allclose((between / within)[strong], truth["snr"][strong], rtol=0.15)
    halves = truth["pathways"]
    assert np.corrcoef(halves["early"]["snr"] + halves["late"]["snr"], truth["snr"])[0, 1] > 0.9


def test_truth_names_only_pathways_that_answer() -> None:
    made, sources, drive = subject(answering=(1,))
    assert list(planted(made, sources, drive)["pathways"]) == ["late"]
    made, sources, drive = subject(answering=())
    truth = planted(made, sources, drive)
    assert truth["pathways"] == {} and not truth["snr"].any()
