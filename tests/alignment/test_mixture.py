"""Targets of several layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from brainalign.alignment import ContrastiveAligner, MixedTargets, Targets
from brainalign.alignment.mixture import LayerMixture
from brainalign.alignment.transforms import BandTransform, TargetTransform
from brainalign.errors import InputError
from brainalign.protocols import Split
from brainalign.recipes import TargetSettings, load_recipe
from brainalign.recordings import Recording

N = 240
IDS = [f"i{i:03d}" for i in range(N)]
SPLIT = Split("own/intra/v1", 0, tuple(IDS[:160]), tuple(IDS[160:200]), tuple(IDS[200:]), "image-disjoint")


def bands(rng, dims=(9, 14, 6)):
    rows = {name: row for row, name in enumerate(IDS)}
    return [
        Targets(rng.normal(size=(N, d)).astype(np.float32), rows, "net", str(i), "mean", i / 2)
        for i, d in enumerate(dims)
    ]


def recipe(*words):
    base = ["training.epochs=60", "training.batch_size=80", "training.lr=0.005", "projector.dim=16"]
    made = load_recipe("shallow-alignment", modality="fmri", overrides=[*base, *words])
    return made.with_target(layer="0+1+2", pooling="mean")


def test_mixed_targets_stand_side_by_side(rng):
    parts = bands(rng)
    mixed = MixedTargets(tuple(parts))
    some = IDS[3:20:4]
    np.testing.assert_array_equal(mixed.of(some), np.hstack([p.array[[IDS.index(i) for i in some]] for p in parts]))
    assert (mixed.dim, mixed.layer, mixed.pooling, mixed.depth) == (29, "0+1+2", "mean", 0.5)
    with pytest.raises(InputError, match="no features"):
        mixed.restrict(IDS[:10]).of(IDS[9:11])
    dealt = mixed.dealt({IDS[0]: IDS[5]})
    np.testing.assert_array_equal(dealt.of(IDS[:2]), mixed.of([IDS[5], IDS[1]]))


def test_mixture_in_plain_numpy(rng):
    torch.manual_seed(0)
    mixture = LayerMixture([4, 3], lambda size: nn.Linear(size, 5))
    mixture.logits.data = torch.tensor([0.3, -1.0])
    x = rng.normal(size=(6, 7)).astype(np.float32)
    share = np.exp([0.3, -1.0]) / np.exp([0.3, -1.0]).sum()
    expected = np.zeros((6, 5))
    for w, columns, layer in zip(share, (slice(0, 4), slice(4, 7)), mixture.projectors, strict=True):
        p = x[:, columns] @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        expected += w * p / np.sqrt((p**2).mean(1, keepdims=True))
    np.testing.assert_allclose(mixture(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mixture.weights.detach().numpy(), share, rtol=1e-6)


def test_every_layer_has_its_own_transform(rng):
    parts = bands(rng)
    features = torch.from_numpy(MixedTargets(tuple(parts)).of(IDS[:100]))
    settings = TargetSettings(components=7)
    together = BandTransform.fit(features, [9, 14, 6], settings)
    apart = [
        TargetTransform.fit(torch.from_numpy(p.of(IDS[:100])), settings)(torch.from_numpy(p.of(IDS))) for p in parts
    ]
    found = together(torch.from_numpy(MixedTargets(tuple(parts)).of(IDS)))
    torch.testing.assert_close(found, torch.cat(apart, dim=1))
    assert together.sizes == [7, 7, 6]
    again = BandTransform.from_tensors(together.tensors())
    torch.testing.assert_close(again(features), together(features))


def test_weights_go_to_the_layer_that_the_signal_follows(rng, tmp_path):
    parts = bands(rng)
    signals = parts[1].array @ rng.normal(size=(14, 30)) + 0.5 * rng.normal(size=(N, 30))
    recording = Recording.from_arrays(signals, IDS, modality="fmri")
    mixed = MixedTargets(tuple(parts))
    aligner = ContrastiveAligner(recipe())
    fit = aligner.fit([recording], {"image": mixed}, SPLIT)
    weights = aligner.layer_weights
    assert sum(weights) == pytest.approx(1, abs=1e-5)
    assert weights[1] == max(weights) and weights[1] > 0.4
    assert fit.chosen["weight_1"] == pytest.approx(weights[1], abs=1e-6)
    x, y = recording.average(SPLIT.test), {"image": mixed.of(SPLIT.test)}
    assert (aligner.similarity(x, y).argmax(1) == np.arange(40)).mean() > 0.8
    aligner.save(tmp_path / "m.safetensors")
    again = ContrastiveAligner.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.similarity(x, y), aligner.similarity(x, y))


def test_uniform_weights_stay_uniform(rng):
    recording = Recording.from_arrays(rng.normal(size=(N, 30)), IDS, modality="fmri")
    aligner = ContrastiveAligner(recipe("target.mixture=uniform", "training.epochs=3"))
    aligner.fit([recording], {"image": MixedTargets(tuple(bands(rng)))}, SPLIT)
    np.testing.assert_allclose(aligner.layer_weights, 1 / 3, rtol=1e-6)


def test_layers_of_different_width_need_a_projector(rng):
    recording = Recording.from_arrays(rng.normal(size=(N, 30)), IDS, modality="fmri")
    with pytest.raises(InputError, match="cannot be added without a projector"):
        ContrastiveAligner(recipe("projector.image=none")).fit(
            [recording], {"image": MixedTargets(tuple(bands(rng)))}, SPLIT
        )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["target.layers=[1, 3, head]"], [1, 3, "head"]),
        (["target.layers=1-13:2"], ["1-13:2"]),
        (["target.layer=2+0.5+head"], [2, 0.5, "head"]),
        (["target.layer=4"], None),
        ([], None),
    ],
)
def test_ways_to_name_a_mixture(words, expected):
    assert load_recipe("shallow-alignment", modality="fmri", overrides=words).target.mixed == expected


def test_an_empty_mixture_is_refused():
    with pytest.raises(InputError, match="at least one layer"):
        load_recipe("shallow-alignment", modality="fmri", overrides=["target.layers=[]"])
