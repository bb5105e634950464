"""Several training subjects: one encoder for all, a left-out subject scored with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brainalign.alignment import ContrastiveAligner, Targets
from brainalign.alignment.preparation import Preparation, check_alike
from brainalign.errors import InputError
from brainalign.protocols import Split
from brainalign.recipes import load_recipe
from brainalign.recordings import Recording
from brainalign.recordings.whitening import noise_covariance

IDS = [f"i{i:03d}" for i in range(240)]
SPLIT = Split("own/inter/v1", 0, tuple(IDS[:160]), tuple(IDS[160:200]), tuple(IDS[200:]), "image-disjoint")


def recipe(**changes):
    words = {"training.epochs": 40, "training.batch_size": 64, "projector.dim": 32, "training.lr": 0.003} | changes
    made = load_recipe("shallow-alignment", modality="fmri", overrides=[f"{k}={v}" for k, v in words.items()])
    return made.with_target(layer=0, pooling="mean")


@pytest.fixture
def people(rng):
    """Four people who share most of a map from features to signals, two trials an image."""
    features = rng.normal(size=(len(IDS), 10)).astype(np.float32)
    shared = rng.normal(size=(10, 16))
    recordings = []
    for number in range(4):
        signals = features @ (shared + 0.3 * rng.normal(size=shared.shape))
        trials = np.concatenate([signals, signals]) + 0.5 * rng.normal(size=(2 * len(IDS), 16))
        recordings.append(Recording.from_arrays(trials, IDS + IDS, modality="fmri", subject=str(number + 1)))
    return recordings, Targets(features, {name: row for row, name in enumerate(IDS)})


def top1(aligner, recording, targets, ids):
    similarity = aligner.similarity(recording.average(ids), {"image": targets.of(ids)})
    return float((similarity.argmax(1) == np.arange(len(ids))).mean())


def test_a_left_out_subject_is_read_with_the_others_model(people):
    recordings, targets = people
    aligner = ContrastiveAligner(recipe())
    aligner.fit(recordings[:3], {"image": targets}, SPLIT)
    assert aligner.facts["subjects"] == ["1", "2", "3"]
    assert top1(aligner, recordings[3], targets, SPLIT.test) > 0.5
    dealt = targets.dealt(dict(zip(SPLIT.train + SPLIT.validation, reversed(SPLIT.train + SPLIT.validation))))
    nothing = ContrastiveAligner(recipe())
    nothing.fit(recordings[:3], {"image": dealt}, SPLIT)
    assert top1(nothing, recordings[3], targets, SPLIT.test) < 0.2


def test_saved_and_loaded_alike(people, tmp_path):
    recordings, targets = people
    aligner = ContrastiveAligner(recipe(**{"training.epochs": 2}))
    aligner.fit(recordings[:3], {"image": targets}, SPLIT)
    aligner.save(tmp_path / "m.safetensors")
    again = ContrastiveAligner.load(tmp_path / "m.safetensors")
    signals, images = recordings[3].average(SPLIT.test), {"image": targets.of(SPLIT.test)}
    assert np.array_equal(aligner.similarity(signals, images), again.similarity(signals, images))


def test_subjects_may_have_seen_different_images(people):
    recordings, targets = people
    part = recordings[1].restrict([*SPLIT.train[:50], *SPLIT.validation])
    preparation = Preparation([recordings[0], part], SPLIT, torch.device("cpu"))
    rows = preparation.rows("training", recipe())
    assert rows.images.tolist() == [*range(160), *range(50)]
    assert rows.subjects.tolist() == [0] * 160 + [1] * 50
    assert len(preparation.signals(recipe()).training) == 210
    fit = ContrastiveAligner(recipe(**{"training.epochs": 2})).fit([recordings[0], part], {"image": targets}, SPLIT)
    assert len(fit.history) == 2


def test_single_trials_are_rows_of_their_own(people):
    recordings, _ = people
    single = recipe(**{"training.trials": "single"})
    preparation = Preparation(recordings[:1], SPLIT, torch.device("cpu"))
    rows, side = preparation.rows("training", single), preparation.signals(single)
    assert rows.images.tolist() == list(np.repeat(np.arange(160), 2))
    raw = recordings[0].read(np.concatenate([recordings[0].trials_of(name) for name in SPLIT.train]))
    assert np.allclose(side.training, side.transform(torch.from_numpy(raw)))
    assert len(side.validation) == 40


def test_whitening_takes_the_mean_noise_of_the_training_subjects(people):
    recordings, _ = people
    preparation = Preparation(recordings[:3], SPLIT, torch.device("cpu"))
    whitener = preparation.signals(recipe(**{"signals.whiten": "mvnn"})).transform.whitener.double()
    mean = np.mean([noise_covariance(r, SPLIT.train) for r in recordings[:3]], axis=0)
    assert np.allclose(whitener @ torch.from_numpy(mean) @ whitener, np.eye(16), atol=1e-4)


def test_validation_is_the_mean_over_subjects(people):
    recordings, targets = people
    aligner = ContrastiveAligner(recipe(**{"training.epochs": 3}))
    fit = aligner.fit(recordings[:3], {"image": targets}, SPLIT)
    scores = [top1(aligner, recording, targets, SPLIT.validation) for recording in recordings[:3]]
    assert fit.chosen["validation_top1"] == pytest.approx(np.mean(scores), abs=1e-6)


@pytest.mark.parametrize(
    ("axis", "words"),
    [
        ({"sfreq": 200.0}, "subjects 1 and 2 differ: samples at 100 Hz from -0.1 s and 200 Hz from -0.1 s"),
        ({"tmin": 0.0}, "subjects 1 and 2 differ: samples at 100 Hz from -0.1 s and 100 Hz from 0 s"),
        ({"tmin": -0.106}, "100 Hz from -0.106 s"),
        ({"tmin": -0.104}, None),  # less than half a sample apart: rates that were rounded
        ({}, None),
    ],
)
def test_subjects_with_other_time_axes_do_not_train_one_encoder(rng, axis, words):
    given = {"modality": "eeg", "sfreq": 100.0, "tmin": -0.1}
    signals = rng.normal(size=(4, 2, 20))
    one = Recording.from_arrays(signals, list("abab"), subject="1", **given)
    two = Recording.from_arrays(signals, list("abab"), subject="2", **given | axis)
    if words is None:
        check_alike([one, two])
        return
    with pytest.raises(InputError) as caught:
        check_alike([one, two])
    assert words in str(caught.value) and "\n" not in str(caught.value)
