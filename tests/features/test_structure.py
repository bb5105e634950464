"""The same weights under other settings are another model: their features never come from its banks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tests_support import write_images
from torch import nn

from brainalign.features import extract_features
from brainalign.features.structure import structure_hash
from brainalign.stimuli import StimulusSet


def attention(heads: int, **how) -> nn.Module:
    torch.manual_seed(0)
    return nn.TransformerEncoderLayer(16, heads, 32, **how)


def test_settings_count_where_weights_are_the_same():
    one, other = attention(2), attention(4)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    assert structure_hash(one) == structure_hash(attention(2))
    assert len({structure_hash(m) for m in (one, other, attention(2, layer_norm_eps=1e-3))}) == 3
    padded = [nn.Conv2d(1, 1, 3, padding=1, padding_mode=mode) for mode in ("zeros", "reflect")]
    assert structure_hash(padded[0]) != structure_hash(padded[1])


def test_weights_training_mode_and_passes_do_not_count():
    one, other = nn.Sequential(nn.Linear(3, 2), nn.GELU()), nn.Sequential(nn.Linear(3, 2), nn.GELU()).eval()
    one(torch.ones(1, 3))
    assert structure_hash(one) == structure_hash(other)


@pytest.fixture(scope="module")
def vit(tmp_path_factory) -> Path:
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("hub") / "vit"
    torch.manual_seed(1)
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8, intermediate_size=64
    )
    model = transformers.ViTModel(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    model.save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture
def stimuli(tmp_path) -> StimulusSet:
    write_images(tmp_path / "images", 3, size=32)
    return StimulusSet.from_folder(tmp_path / "images")


def features(stimuli: StimulusSet, folder: Path, cache: Path):
    bank = extract_features(stimuli, f"hf:{folder}", ["1"], ["mean"], cache_dir=cache)["1", "mean"]
    return bank.folder, bank.rows(stimuli.image_ids)


def test_another_number_of_heads_makes_another_bank(vit, stimuli, tmp_path):
    folder = shutil.copytree(vit, tmp_path / "model")
    first = features(stimuli, folder, tmp_path / "cache")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_attention_heads": 4, "hidden_act": "relu"}))
    again = features(stimuli, folder, tmp_path / "cache")
    assert again[0] != first[0]
    assert np.abs(again[1] - first[1]).max() > 1e-2
    np.testing.assert_array_equal(again[1], features(stimuli, folder, tmp_path / "fresh")[1])


def test_a_model_in_another_folder_is_the_same_model(vit, tmp_path):
    from brainalign.features import load_backbone

    moved = shutil.copytree(vit, tmp_path / "moved")
    one, other = (load_backbone(f"hf:{folder}") for folder in (vit, moved))
    assert one.structure_hash == other.structure_hash


def test_other_library_versions_make_other_banks(vit, stimuli, tmp_path, monkeypatch):
    first = features(stimuli, vit, tmp_path / "cache")[0]
    assert features(stimuli, vit, tmp_path / "cache")[0] == first
    newer = {"brainalign": "99", "torch": "99"}
    monkeypatch.setattr("brainalign.features.facts.library_versions", lambda backbone="": newer)
    monkeypatch.setattr("brainalign.features.extract.library_versions", lambda backbone="": newer)
    assert features(stimuli, vit, tmp_path / "cache")[0] != first
