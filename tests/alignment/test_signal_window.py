"""Signals outside of a window are zero: in the transform, in its file, in training and in scoring."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brainalign.alignment import Targets
from brainalign.alignment.contrastive import ContrastiveAligner
from brainalign.alignment.transforms import SignalTransform, window_samples
from brainalign.errors import InputError
from brainalign.protocols import Split
from brainalign.recipes import load_recipe
from brainalign.recipes.recipe import SignalSettings
from brainalign.recordings import Recording

TIMES = -0.1 + np.arange(40) / 100  # -0.1 to 0.29 s
IDS = [f"i{n:02d}" for n in range(48)]
SPLIT = Split("own/intra/v1", 0, tuple(IDS[:32]), tuple(IDS[32:40]), tuple(IDS[40:]), "image-disjoint")


@pytest.mark.parametrize("window", [(0.0, 0.1), (-1.0, 0.05), (0.123, 9.0), (0.1, 0.11)])
def test_samples_are_those_that_crop_keeps(window):
    recording = Recording.from_arrays(np.zeros((1, 1, 40)), ["a"], modality="eeg", sfreq=100.0, tmin=-0.1)
    start, stop = window_samples(recording.times, window)
    np.testing.assert_allclose(recording.times[start:stop], recording.crop(*window).times)


def test_a_window_zeroes_transformed_signals(rng):
    signals = torch.from_numpy(rng.normal(5, 2, (30, 3, 40)).astype(np.float32))
    bare = SignalTransform.fit(signals, SignalSettings())
    expected = (signals.numpy() - signals.numpy().mean((0, 2))[:, None]) / signals.numpy().std((0, 2))[:, None]
    expected[:, :, (TIMES < -1e-9) | (TIMES >= 0.1 - 1e-9)] = 0
    masked = bare.windowed(TIMES, (0.0, 0.1))
    np.testing.assert_allclose(masked(signals), expected, rtol=1e-3, atol=1e-5)
    again = SignalTransform.from_tensors({k: v.clone() for k, v in masked.tensors().items()})
    assert torch.equal(again(signals), masked(signals))


def test_without_a_window_nothing_changes(rng):
    signals = torch.from_numpy(rng.normal(size=(10, 2, 40)).astype(np.float32))
    bare = SignalTransform.fit(signals, SignalSettings())
    assert bare.windowed(TIMES, None) is bare
    assert set(bare.tensors()) == {"sqrt", "whitener", "mean", "scale"}  # what files of earlier runs hold
    assert torch.equal(SignalTransform.from_tensors(bare.tensors())(signals), bare(signals))


def test_windows_that_cannot_be():
    with pytest.raises(InputError, match=r"no sample between 0\.5 and 0\.6 s"):
        window_samples(TIMES, (0.5, 0.6))
    with pytest.raises(InputError, match="one sample has no time axis"):
        window_samples(np.zeros(1), (0.0, 1.0))
    good = SignalTransform(False, torch.empty(0, 0), torch.zeros(1, 1), torch.ones(1, 1)).tensors()
    for bad in (torch.tensor([3, 1]), torch.tensor([1]), torch.tensor([0.0, 1.0])):
        with pytest.raises(KeyError):
            SignalTransform.from_tensors(good | {"window": bad})


def test_recipes_read_windows():
    def load(text, recipe="shallow-alignment"):
        return load_recipe(recipe, modality="eeg", overrides=[f"signals.window={text}"])

    assert load("[0, 0.2]").signals.window == (0.0, 0.2)
    assert load("0..0.2").signals.window == (0.0, 0.2)  # as one value of a sweep's axis
    assert load("-0.1..0.2").facts()["signals"]["window"] == [-0.1, 0.2]
    assert "window" not in load("null").facts()["signals"]  # earlier runs keep their hash
    for text in ("[0.2, 0.1]", "0.2", "a..b", "[1, 2, 3]", "0..1..2"):
        with pytest.raises(InputError, match="window"):
            load(text)
    with pytest.raises(InputError, match=r"signals\.tmin"):
        load("[0, 0.2]", "generative")


def _fitted(rng, window, encoder):
    clean = rng.normal(size=(48, 6))
    x = rng.normal(size=(48, 4, 40))
    x[:, :, 15:25] += np.einsum("nf,fc->nc", clean, rng.normal(size=(6, 4)))[:, :, None]
    recording = Recording.from_arrays(x, IDS, modality="eeg", sfreq=100.0, tmin=-0.1)
    settings = [
        f"signals.window={window}", "signals.channels=all", "signals.tmin=null", "signals.tmax=null",
        f"encoder.name={encoder}",
        "training.epochs=2", "training.batch_size=16", "signals.whiten=none",
    ]  # fmt: skip
    if encoder == "tsconv":
        settings += ["encoder.options={kernel_size: 5, pool_size: 7, pool_stride: 3}"]
    recipe = load_recipe("shallow-alignment", modality="eeg", overrides=settings)
    targets = Targets(clean.astype(np.float32), {name: row for row, name in enumerate(IDS)})
    aligner = ContrastiveAligner(recipe.with_target(layer=0, pooling="mean"))
    aligner.fit([recording], {"image": targets}, SPLIT)
    return aligner, x.astype(np.float32), clean.astype(np.float32)


@pytest.mark.parametrize("encoder", ["eegproject", "tsconv"])
def test_what_lies_outside_changes_neither_training_nor_scores(encoder, tmp_path):
    aligner, x, images = _fitted(np.random.default_rng(0), "0..0.1", encoder)
    other = x.copy()
    other[:, :, :10] = 99.0  # before 0 s
    other[:, :, 20:] = -99.0  # from 0.1 s on
    first = aligner.similarity(x[40:], {"image": images[40:]})
    np.testing.assert_array_equal(aligner.similarity(other[40:], {"image": images[40:]}), first)
    inside = x.copy()
    inside[:, :, 12] += 3.0
    assert np.abs(aligner.similarity(inside[40:], {"image": images[40:]}) - first).max() > 1e-6
    aligner.save(tmp_path / "model.safetensors")
    loaded = ContrastiveAligner.load(tmp_path / "model.safetensors")
    assert loaded.recipe.signals.window == (0.0, 0.1)
    np.testing.assert_array_equal(loaded.similarity(other[40:], {"image": images[40:]}), first)


def test_a_window_of_everything_is_no_window():
    plain, x, images = _fitted(np.random.default_rng(1), "null", "eegproject")
    whole, _, _ = _fitted(np.random.default_rng(1), "-1..1", "eegproject")
    a, b = (one.similarity(x[40:], {"image": images[40:]}) for one in (plain, whole))
    np.testing.assert_array_equal(a, b)
