"""What was planted in a virtual brain comes out of the analyses: when, how strong; and nothing where nothing is."""

from __future__ import annotations

import numpy as np
import pytest

from brainalign.alignment import Targets
from brainalign.alignment.generative import GenerativeAligner
from brainalign.datasets import open_dataset
from brainalign.evaluation.encoding import median_correlation
from brainalign.evaluation.noise_ceiling import covariance, variance_ceiling
from brainalign.execution.train import open_session
from brainalign.features import extract_features
from brainalign.recipes import load_recipe
from brainalign.recordings.selection import select_signals

SUBJECT = "1"


def pathway_features(dataset, pathway):
    """What drives a pathway: the filters of the early one, the planted layers of the late one."""
    stimuli = dataset.stimuli(SUBJECT)
    if pathway == "early":
        return dataset._early_features
    layers = list(dataset.config.layers)
    banks = extract_features(stimuli, dataset.config.backbone, layers, ["grid4"], cache_dir=dataset.cache_dir)
    return np.concatenate([bank.rows(stimuli.image_ids) for bank in banks.values()], axis=1)


def encode(cache, name, pathway):
    """Test signals, and those that the closed-form model expects from a pathway's own features."""
    session = open_session(name, device="cpu", cache=cache)
    ids = session.stimuli(SUBJECT).ids
    features = pathway_features(session.dataset, pathway)
    targets = Targets(features, {one: row for row, one in enumerate(ids)})
    settings = ["target.layer=0", "target.pooling=grid4", "target.layers=null", "signals.tmin=-0.1", "signals.tmax=0.5"]
    recipe = load_recipe("generative", modality="eeg", overrides=settings)
    aligner, split = GenerativeAligner(recipe), session.split(SUBJECT, 0)
    where = (SUBJECT, 0, recipe.signals)
    noise = session.noise(SUBJECT, 0, recipe)
    aligner.fit(session.development(*where), {"image": targets}, split, noise=noise, trials=session.trials(*where))
    data = session.test_data(SUBJECT, 0, recipe)
    times = select_signals(session.recording(SUBJECT), recipe.signals).times
    return session, times, aligner.predict_signal(targets.of(data.query_ids)), data.signals


@pytest.fixture(scope="module")
def trials(shared_cache):
    """Test trials (200 images, 80 repetitions, 17 channels, 120 samples), those after the picture, the truth."""
    dataset = open_dataset("virtual-eeg:small", None, cache_dir=shared_cache)
    recording = dataset.recording(SUBJECT).part("test")
    read = np.stack([recording.read(recording.trials_of(name)) for name in recording.index])
    return read, recording.times >= 0, dataset.truth(SUBJECT)


@pytest.mark.parametrize("pathway", ["early", "late"])
def test_encoding_from_a_pathways_own_features_peaks_when_it_answers(shared_cache, pathway):
    session, times, expected, recorded = encode(shared_cache, f"virtual-eeg:small:pathways={pathway}", pathway)
    (planted,) = session.dataset.truth(SUBJECT)["pathways"].values()
    explained = covariance(expected, recorded).mean(axis=0)
    assert times[explained.argmax()] == pytest.approx(planted["latency_s"], abs=0.02)
    assert explained[times < 0].max() < 0.1 * explained.max()
    near = np.abs(times - planted["latency_s"]) < 0.03
    assert median_correlation(expected[..., near], recorded[..., near], n_resamples=200).p < 0.01


def test_encoding_of_a_brain_without_pathways_holds_nothing(shared_cache):
    _, times, expected, recorded = encode(shared_cache, "virtual-eeg:small:pathways=none", "late")
    answering = (times > 0.08) & (times < 0.26)  # where both pathways of the default brain answer
    found = median_correlation(expected[..., answering], recorded[..., answering], n_resamples=200)
    assert found.p > 0.01
    assert abs(found.median) < 0.05


@pytest.mark.parametrize("repetitions", [20, 80])
def test_repetitions_tell_the_planted_signal_to_noise_ratio(trials, repetitions):
    read, after, truth = trials
    found = variance_ceiling(read[:, :: 80 // repetitions])  # of every session alike
    ratio = found.signal[:, after].mean(axis=1) / found.noise[:, after].mean(axis=1)
    assert np.corrcoef(ratio, truth["snr"])[0, 1] > 0.9
    strong = truth["snr"] > 0.01  # estimates below 0 are cut, which lifts the weak ones
    assert np.median(ratio[strong] / truth["snr"][strong]) == pytest.approx(1, abs=0.25)
    # The mean over k trials has k times the ratio of one: reliability k s / (1 + k s).
    s = found.signal / found.noise
    np.testing.assert_allclose(found.reliability(), repetitions * s / (1 + repetitions * s), rtol=1e-6)


def test_shuffled_images_leave_no_signal_to_noise(trials, rng):
    read, after, truth = trials
    dealt = rng.permuted(np.arange(read.shape[0] * 20)).reshape(read.shape[0], 20)
    flat = read[:, :20].reshape(-1, *read.shape[2:])
    found = variance_ceiling(flat[dealt])
    ratio = found.signal[:, after].mean(axis=1) / found.noise[:, after].mean(axis=1)
    assert np.median(ratio / truth["snr"]) < 0.4
