"""Weights of grid cells: found where they are planted, and what they do to the kernel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brainalign.alignment import MixedTargets, Targets
from brainalign.alignment.feature_map import FeatureMap
from brainalign.alignment.generative import GenerativeAligner
from brainalign.alignment.receptive_field import grid_side, learn_cells, with_cells
from brainalign.errors import InputError
from brainalign.protocols import Split
from brainalign.recipes import load_recipe
from brainalign.recordings import Recording

N, SIDE = 150, 2
IDS = [f"i{i:03d}" for i in range(N)]
SPLIT = Split("own/intra/v1", 0, tuple(IDS[:90]), tuple(IDS[90:120]), tuple(IDS[120:]), "image-disjoint")


def layers(rng, pooling="grid2"):
    rows = {name: row for row, name in enumerate(IDS)}
    return MixedTargets(tuple(
        Targets(rng.normal(size=(N, c * SIDE**2)).astype(np.float32), rows, "net", str(i), pooling, i / 2)
        for i, c in enumerate((6, 9))
    ))  # fmt: skip


def measured(rng, targets, cell, noise=0.5):
    """Signals that follow both layers, but only in one cell."""
    seen = np.hstack([band.array.reshape(N, -1, SIDE**2)[:, :, cell] for band in targets.bands])
    return seen @ rng.normal(size=(seen.shape[1], 25)) + noise * rng.normal(size=(N, 25))


def fitted(targets):
    return FeatureMap.fit(lambda: [torch.from_numpy(targets.of(IDS))], [band.dim for band in targets.bands])


def test_the_planted_cell_gets_the_weight(rng):
    for cell in (1, 2):
        targets = layers(rng)
        signals = torch.from_numpy(measured(rng, targets, cell))
        weights = learn_cells(
            fitted(targets), SIDE, lambda ids, t=targets: torch.from_numpy(t.of(ids)),
            lambda ids, s=signals: s[[IDS.index(i) for i in ids]], IDS,
        )  # fmt: skip
        assert np.argmax(weights) == cell
        assert weights[cell] > 2.5
        assert np.mean(weights) == pytest.approx(1)


def test_without_a_signal_no_cell_stands_out(rng):
    targets = layers(rng)
    noise = torch.from_numpy(rng.normal(size=(N, 25)))
    weights = learn_cells(
        fitted(targets), SIDE, lambda ids: torch.from_numpy(targets.of(ids)),
        lambda ids: noise[[IDS.index(i) for i in ids]], IDS,
    )  # fmt: skip
    assert max(weights) < 2


def test_weights_act_on_the_kernel_cell_by_cell(rng):
    targets, weights = layers(rng), [0.4, 2.0, 1.2, 0.4]
    features = torch.from_numpy(targets.of(IDS))
    phi = with_cells(fitted(targets), weights)(features).numpy()
    expected = np.zeros((N, N))
    for band in targets.bands:
        z = (band.array - band.array.mean(0)) / band.array.std(0)
        z = z.reshape(N, -1, SIDE**2).astype(float)
        for cell, weight in enumerate(weights):
            expected += weight * z[:, :, cell] @ z[:, :, cell].T / (z.shape[1] * SIDE**2) / len(targets.bands)
    np.testing.assert_allclose(phi @ phi.T, expected, rtol=1e-4, atol=1e-5)
    assert np.trace(phi @ phi.T) / N == pytest.approx(1, rel=1e-5)


def test_which_targets_have_a_grid(rng):
    assert grid_side(layers(rng)) == 2
    assert grid_side(layers(rng, "mean")) is None
    assert grid_side(layers(rng, "grid1")) is None
    mixed = MixedTargets((layers(rng).bands[0], layers(rng, "grid4").bands[1]))
    assert grid_side(mixed) is None


def test_an_aligner_with_a_field_identifies_better_and_says_where(rng, tmp_path):
    targets = layers(rng)
    recording = Recording.from_arrays(measured(rng, targets, 3, noise=4.0), IDS, modality="fmri")
    scores = {}
    for field in ("flat", "learned"):
        recipe = load_recipe("generative", modality="fmri", overrides=[f"generative.field={field}"])
        aligner = GenerativeAligner(recipe.with_target(layer="0+1", pooling="grid2"))
        scores[field] = aligner.fit([recording], {"image": targets}, SPLIT).chosen["validation_loss"]
    assert scores["learned"] < scores["flat"]
    assert np.argmax(aligner.cell_weights) == 3
    aligner.save(tmp_path / "m.safetensors")
    again = GenerativeAligner.load(tmp_path / "m.safetensors")
    assert again.cell_weights == aligner.cell_weights
    x, y = recording.average(SPLIT.test), {"image": targets.of(SPLIT.test)}
    np.testing.assert_array_equal(again.similarity(x, y), aligner.similarity(x, y))


def test_a_field_needs_a_grid(rng):
    targets = layers(rng, "mean")
    recording = Recording.from_arrays(rng.normal(size=(N, 25)), IDS, modality="fmri")
    recipe = load_recipe("generative", modality="fmri", overrides=["generative.field=learned"])
    with pytest.raises(InputError, match="pooled by one gridN"):
        GenerativeAligner(recipe.with_target(layer="0+1", pooling="mean")).fit([recording], {"image": targets}, SPLIT)
