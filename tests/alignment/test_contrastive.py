"""The contrastive aligner: learns what is there, nothing where nothing is, and survives being killed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests_support import damage_model

from brainalign.alignment import Aligner, ContrastiveAligner, Targets
from brainalign.alignment.model import ContrastiveModel
from brainalign.alignment.pairs import Pairs
from brainalign.alignment.training import Run, train, validate
from brainalign.errors import InputError
from brainalign.protocols import Split
from brainalign.recipes import load_recipe
from brainalign.recordings import Recording


def problem(rng, *, n=260, noise=0.3, shuffled=False):
    """Signals that are a linear map of half the features, plus noise."""
    ids = [f"i{i:03d}" for i in range(n)]
    features = rng.normal(size=(n, 12)).astype(np.float32)
    signals = features @ rng.normal(size=(12, 20)) + noise * rng.normal(size=(n, 20))
    if shuffled:
        signals = signals[rng.permutation(n)]
    recording = Recording.from_arrays(signals, ids, modality="fmri")
    split = Split("own/intra/v1", 0, tuple(ids[:180]), tuple(ids[180:220]), tuple(ids[220:]), "image-disjoint")
    return recording, Targets(features, {name: row for row, name in enumerate(ids)}), split


def recipe(**changes):
    words = {"training.epochs": 40, "training.batch_size": 64, "projector.dim": 32, "encoder.options": "{dropout: 0.2}"}
    words |= {"training.lr": 0.003} | changes
    made = load_recipe("shallow-alignment", modality="fmri", overrides=[f"{k}={v}" for k, v in words.items()])
    return made.with_target(layer=0, pooling="mean")


def top1(aligner, recording, targets, ids):
    similarity = aligner.similarity(recording.average(ids), {"image": targets.of(ids)})
    return float((similarity.argmax(1) == np.arange(len(ids))).mean())


def test_learns_a_linear_relation_and_not_a_shuffled_one(rng):
    recording, targets, split = problem(rng)
    aligner = ContrastiveAligner(recipe())
    fit = aligner.fit([recording], {"image": targets}, split)
    assert isinstance(aligner, Aligner)
    assert top1(aligner, recording, targets, split.test) > 0.9
    assert fit.history[fit.epoch - 1]["validation_loss"] == min(r["validation_loss"] for r in fit.history)
    recording, targets, split = problem(rng, shuffled=True)
    nothing = ContrastiveAligner(recipe())
    nothing.fit([recording], {"image": targets}, split)
    assert top1(nothing, recording, targets, split.test) < 0.2


def test_fit_reads_no_test_stimulus(rng):
    recording, targets, split = problem(rng)
    known = [*split.train, *split.validation]
    sealed, hidden = recording.restrict(known), targets.restrict(known)
    a, b = ContrastiveAligner(recipe()), ContrastiveAligner(recipe())
    a.fit([recording], {"image": targets}, split)
    b.fit([sealed], {"image": hidden}, split)
    for (name, one), two in zip(a.model.state_dict().items(), b.model.state_dict().values(), strict=True):
        assert torch.equal(one, two), name


def test_similarity_is_the_cosine_of_the_embeddings(rng):
    recording, targets, split = problem(rng)
    aligner = ContrastiveAligner(recipe(**{"training.epochs": 2}))
    aligner.fit([recording], {"image": targets}, split)
    x, y = recording.average(split.test), targets.of(split.test)
    brain, image = aligner.embed_brain(x), aligner.embed_image(y)
    np.testing.assert_allclose(np.linalg.norm(brain, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(aligner.similarity(x, {"image": y}), brain @ image.T, atol=1e-5)


def test_save_and_load_give_the_same_similarities(rng, tmp_path):
    recording, targets, split = problem(rng)
    aligner = ContrastiveAligner(recipe(**{"training.epochs": 3}), seed=4)
    aligner.fit([recording], {"image": targets}, split)
    aligner.save(tmp_path / "m.safetensors")
    again = ContrastiveAligner.load(tmp_path / "m.safetensors")
    x, y = recording.average(split.test), {"image": targets.of(split.test)}
    np.testing.assert_array_equal(again.similarity(x, y), aligner.similarity(x, y))
    assert again.recipe == aligner.recipe


def test_seed_decides_everything_and_global_random_state_nothing(rng):
    recording, targets, split = problem(rng)
    losses = []
    for seed, before in ((1, 0), (1, 99), (2, 0)):
        torch.manual_seed(before)
        state = torch.random.get_rng_state()
        aligner = ContrastiveAligner(recipe(**{"training.epochs": 3}), seed=seed)
        losses.append([r["train_loss"] for r in aligner.fit([recording], {"image": targets}, split).history])
        assert torch.equal(state, torch.random.get_rng_state())
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


class Killed(Exception):
    pass


@pytest.mark.parametrize("encoder", ["linear", "eegproject"])
def test_a_killed_training_goes_on_to_the_same_weights(rng, tmp_path, monkeypatch, encoder):
    monkeypatch.setattr("brainalign.alignment.training.CHECKPOINT_SECONDS", -1.0)
    recording, targets, split = problem(rng)
    settings = recipe(**{"training.epochs": 8, "encoder.name": encoder, "training.patience": "null"})
    whole = ContrastiveAligner(settings)
    expected = whole.fit([recording], {"image": targets}, split)

    def kill(done, total):
        if done == 5:
            raise Killed

    file = tmp_path / "training"
    with pytest.raises(Killed):
        ContrastiveAligner(settings).fit([recording], {"image": targets}, split, checkpoint=file, progress=kill)
    assert file.is_file()
    resumed = ContrastiveAligner(settings)
    seen = []
    got = resumed.fit([recording], {"image": targets}, split, checkpoint=file, progress=lambda d, t: seen.append(d))
    assert seen == [6, 7, 8]
    assert got.history == expected.history
    assert got.candidates.keys() == expected.candidates.keys()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_patience_stops_and_candidates_are_spread(rng):
    recording, targets, split = problem(rng, shuffled=True)
    fit = ContrastiveAligner(
        recipe(**{"training.epochs": 200, "training.patience": 5, "selection.candidates": 10})
    ).fit([recording], {"image": targets}, split)
    losses = [r["validation_loss"] for r in fit.history]
    assert len(losses) == fit.epoch + 5
    assert all(epoch % 20 == 0 for epoch in fit.candidates)


def test_validation_scores_ties_at_chance():
    made = recipe()
    model = ContrastiveModel(made, n_chans=3, n_times=1, target_dims=[4])
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    pairs = Pairs(torch.randn(10, 3, 1), torch.randn(10, 4))
    (scores,) = validate(model, pairs)
    assert scores["validation_top1"] == 0.0
    assert scores["validation_loss"] == pytest.approx(np.log(10), rel=1e-5)


def test_one_training_image_and_divergence_are_refused(rng):
    made = recipe()
    model = ContrastiveModel(made, n_chans=3, n_times=1, target_dims=[4])
    one = Pairs(torch.randn(1, 3, 1), torch.randn(1, 4))
    with pytest.raises(InputError, match="1 training image"):
        train(Run(model, one, one, made, 0))
    recording, targets, split = problem(rng)
    wild = ContrastiveAligner(recipe(**{"training.lr": 1e30}))
    with pytest.raises(InputError, match="lower the learning rate"):
        wild.fit([recording], {"image": targets}, split)


def test_wrong_shapes_and_files_are_refused(rng, tmp_path):
    recording, targets, split = problem(rng)
    aligner = ContrastiveAligner(recipe(**{"training.epochs": 1}))
    with pytest.raises(InputError, match="has not been fitted"):
        aligner.embed_brain(np.zeros((1, 20, 1)))
    aligner.fit([recording], {"image": targets}, split)
    with pytest.raises(InputError, match=r"shape \(1, 19, 1\), expected \(n, 20, 1\)"):
        aligner.embed_brain(np.zeros((1, 19, 1)))
    with pytest.raises(InputError, match=r"shape \(1, 3\), expected \(n, 12\)"):
        aligner.embed_image(np.zeros((1, 3)))
    with pytest.raises(InputError, match="no recording to train on"):
        aligner.fit([], {"image": targets}, split)
    other = recording.pick(recording.ch_names[:-1])
    with pytest.raises(InputError, match=r"differ: 20 channels x 1 samples and 19 x 1"):
        aligner.fit([recording, other], {"image": targets}, split)
    path = tmp_path / "m.safetensors"
    aligner.save(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match="not a whole checkpoint"):
        ContrastiveAligner.load(path)
    with pytest.raises(InputError, match="no such file"):
        ContrastiveAligner.load(tmp_path / "none")


@pytest.mark.parametrize(
    "change",
    [{"shape": None}, {"shape": [1]}, {"shape": {"n_chans": 19}}, {"shape": {"n_chans": "many"}},
     {"shape": {"n_times": None}}, {"shape": {"target_dims": 12}}, {"shape": {"target_dims": [11]}},
     {"shape": {"text_dim": 3}}, {"signal.mean": torch.zeros(7, 1)}, {"signal.scale": torch.ones(20, 4)},
     {"target.0.mean": torch.zeros(5)}, {"target.0.scale": torch.ones(2, 12)}, {"text.0.mean": torch.zeros(3)}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_a_file_whose_parts_do_not_fit_is_refused(rng, tmp_path, change):
    recording, targets, split = problem(rng)
    aligner = ContrastiveAligner(recipe(**{"training.epochs": 1}))
    aligner.fit([recording], {"image": targets}, split)
    aligner.save(tmp_path / "m")
    damage_model(tmp_path / "m", change)
    with pytest.raises(InputError, match="do not fit the recipe"):
        ContrastiveAligner.load(tmp_path / "m")


def test_unequal_batches_never_hold_one_image(rng):
    from brainalign.alignment.pairs import batches

    for n in range(2, 80):
        for size in (2, 3, 7, 64):
            assert min(map(len, batches(torch.arange(n), size))) >= (2 if n >= 2 and size > 2 else 1)
