"""One space for people whose channels, samples and images differ."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests_support import damage_model

from brainalign.alignment import Targets
from brainalign.alignment.foundation import FoundationAligner, check_held_out
from brainalign.errors import InputError
from brainalign.protocols import Split
from brainalign.recipes import load_recipe
from brainalign.recordings import Recording

IDS = [f"i{i:03d}" for i in range(240)]
SPLIT = Split("own/intra/v1", 0, tuple(IDS[:160]), tuple(IDS[160:200]), tuple(IDS[200:]), "image-disjoint")


def recipe(**changes):
    words = {"training.epochs": 40, "training.batch_size": 64, "projector.dim": 32, "training.lr": 0.003} | changes
    words |= {"foundation.width": 16, "encoder.options": "{hidden: 64}"}
    made = load_recipe("foundation", modality="fmri", overrides=[f"{k}={v}" for k, v in words.items()])
    return made.with_target(layer=0, pooling="mean")


@pytest.fixture
def people(rng):
    """Two with voxels of different number, two with EEG; all follow the same features."""
    features = rng.normal(size=(len(IDS), 10)).astype(np.float32)
    targets = Targets(features, {name: row for row, name in enumerate(IDS)})
    found = {}
    for name, width in (("a", 20), ("b", 27)):
        signals = features @ rng.normal(size=(10, width)) + 0.5 * rng.normal(size=(len(IDS), width))
        found[name] = Recording.from_arrays(signals, IDS, modality="fmri", subject=name)
    course = np.exp(-0.5 * ((np.arange(12) - 6) / 2) ** 2)
    for name in ("c", "d"):
        maps = (features @ rng.normal(size=(10, 17)))[:, :, None] * course
        signals = maps + rng.normal(size=maps.shape)
        found[name] = Recording.from_arrays(signals, IDS, modality="eeg", sfreq=12.0, subject=name)
    return found, targets


EEG = {
    "foundation.inputs.eeg": "{channels: all, tmin: null, tmax: null, whiten: none}",
    "foundation.encoders.eeg.options": "{dropout: 0.3}",
}


def top1(aligner, recording, targets, source, ids=SPLIT.test):
    similarity = aligner.similarity(recording.average(ids), {"image": targets.of(ids)}, source=source)
    return float((similarity.argmax(1) == np.arange(len(ids))).mean())


def fitted(people, targets, *, names=("a", "b", "c", "d"), **changes):
    aligner = FoundationAligner(recipe(**EEG, **changes))
    fit = aligner.fit_sources({n: people[n] for n in names}, {"image": targets}, dict.fromkeys(names, SPLIT))
    return aligner, fit


def test_everybody_is_decoded_in_one_space(people, tmp_path):
    people, targets = people
    aligner, fit = fitted(people, targets)
    assert all(top1(aligner, people[name], targets, name) > 0.5 for name in people)
    assert {"validation_loss_a", "validation_top1_d"} <= set(fit.history[0])
    mean = np.mean([fit.chosen[f"validation_loss_{name}"] for name in people])
    assert fit.chosen["validation_loss"] == pytest.approx(mean)
    voxels = aligner.embed_brain(people["a"].average(SPLIT.test), source="a")
    eeg = aligner.embed_brain(people["c"].average(SPLIT.test), source="c")
    assert (voxels @ eeg.T).argmax(1).tolist().count(0) < 20
    assert float(((voxels @ eeg.T).argmax(1) == np.arange(40)).mean()) > 0.3  # conversion through the images
    aligner.save(tmp_path / "m")
    again = FoundationAligner.load(tmp_path / "m")
    assert top1(again, people["b"], targets, "b") == top1(aligner, people["b"], targets, "b")
    with pytest.raises(InputError, match="4 sources, none named"):
        again.similarity(people["a"].average(SPLIT.test), {"image": targets.of(SPLIT.test)})
    with pytest.raises(InputError, match="source 'e'"):
        again.embed_brain(people["a"].average(SPLIT.test), source="e")


def test_shuffled_pairs_teach_nothing(people):
    people, targets = people
    dealt = targets.dealt(dict(zip(SPLIT.train, reversed(SPLIT.train))))
    aligner, _ = fitted(people, dealt, names=("a", "c"))
    assert max(top1(aligner, people[name], targets, name) for name in ("a", "c")) < 0.2


def test_images_need_not_be_shared(people):
    """Each of two people trains on half of the images; both are decoded."""
    people, targets = people
    halves = {
        "a": Split("own/intra/v1", 0, SPLIT.train[:80], SPLIT.validation[:20], SPLIT.test, "image-disjoint"),
        "c": Split("own/intra/v1", 0, SPLIT.train[80:], SPLIT.validation[20:], SPLIT.test, "image-disjoint"),
    }
    aligner = FoundationAligner(recipe(**EEG))
    aligner.fit_sources({n: people[n] for n in halves}, {"image": targets}, halves)
    assert all(top1(aligner, people[name], targets, name) > 0.3 for name in halves)


def test_a_new_subject_joins_by_its_layer_alone(people):
    people, targets = people
    aligner, _ = fitted(people, targets, names=("a", "c"))
    before = {k: v.clone() for k, v in aligner.model.state_dict().items()}
    few = Split("own/intra/v1", 0, SPLIT.train[:60], SPLIT.validation, SPLIT.test, "image-disjoint")
    aligner.add_source("b", people["b"], {"image": targets}, few)
    after = aligner.model.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())
    assert set(after) - set(before) == {"layers.b.map.weight", "layers.b.map.bias"}
    assert top1(aligner, people["b"], targets, "b") > 0.3
    with pytest.raises(InputError, match="there already"):
        aligner.add_source("b", people["b"], {"image": targets}, few)
    spikes = Recording.from_arrays(np.abs(people["a"].average(IDS)[:, :, 0]), IDS, modality="spikes")
    with pytest.raises(InputError, match="nobody measured with spikes"):
        aligner.add_source("e", spikes, {"image": targets}, few)


class Killed(Exception):
    pass


def test_a_killed_run_goes_on_to_the_same_weights(people, tmp_path, monkeypatch):
    monkeypatch.setattr("brainalign.alignment.foundation_training.CHECKPOINT_SECONDS", -1.0)
    people, targets = people
    names = ("a", "c")
    how = {"training.epochs": 6, "training.patience": "null", "foundation.cross_modal": 0.5, "training.noise": 0.1}
    whole, expected = fitted(people, targets, names=names, **how)

    def kill(done, total):
        if done == 3:
            raise Killed

    parts = ({n: people[n] for n in names}, {"image": targets}, dict.fromkeys(names, SPLIT))
    file = tmp_path / "training"
    with pytest.raises(Killed):
        FoundationAligner(recipe(**EEG, **how)).fit_sources(*parts, checkpoint=file, progress=kill)
    resumed = FoundationAligner(recipe(**EEG, **how))
    got = resumed.fit_sources(*parts, checkpoint=file)
    assert got.history == expected.history
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_cross_modal_terms_and_regression_change_training(people):
    people, targets = people
    plain = fitted(people, targets, names=("a", "c"), **{"training.epochs": 3})[1]
    crossed = fitted(people, targets, names=("a", "c"), **{"training.epochs": 3, "foundation.cross_modal": 1})[1]
    regressed = fitted(
        people, targets, names=("a", "c"), **{"training.epochs": 3, "losses.brain_image": 0, "losses.regression": 1}
    )[1]
    assert crossed.history[-1]["train_loss"] > plain.history[-1]["train_loss"]
    assert regressed.history[-1]["train_loss"] < regressed.history[0]["train_loss"] < 2


def test_what_is_held_out_for_one_may_not_train_another():
    other = Split("own/intra/v1", 0, SPLIT.test[:5], ("x",), ("y",), "image-disjoint")
    with pytest.raises(InputError, match=r"image 'i200' is in the test part of a and trains b"):
        check_held_out({"a": SPLIT, "b": other})
    check_held_out({"a": SPLIT, "b": SPLIT})


@pytest.mark.parametrize(
    "change",
    [{"shape": None}, {"shape": [1]}, {"shape": {"sources": []}}, {"shape": {"sources": ["a"]}},
     {"shape": {"sources": {"a": "fmri"}}}, {"shape": {"sources": {"a": {"modality": "fmri"}}}},
     {"shape": {"sources": {"a": {"modality": "fmri", "n_chans": 19, "n_times": 1}}}},
     {"shape": {"sources": {"e": {"modality": "fmri", "n_chans": 20, "n_times": 1}}}},
     {"shape": {"target_dims": [9]}}, {"signal.a.mean": torch.zeros(7, 1)}, {"signal.a.whitener": torch.eye(3)},
     {"target.0.scale": torch.ones(4)}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_a_file_whose_parts_do_not_fit_is_refused(people, tmp_path, change):
    people, targets = people
    aligner, _ = fitted(people, targets, names=("a",), **{"training.epochs": 1})
    aligner.save(tmp_path / "m")
    damage_model(tmp_path / "m", change)
    with pytest.raises(InputError, match="do not fit the recipe"):
        FoundationAligner.load(tmp_path / "m")
