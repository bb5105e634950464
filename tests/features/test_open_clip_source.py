"""Image towers of open_clip against open_clip itself: hooks, intermediates, embeddings, transforms."""

from __future__ import annotations

import json
import logging
import operator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from brainalign.errors import InputError
from brainalign.features import Backbone, list_backbones, load_backbone, open_clip_source
from brainalign.features.layers import layer_table
from brainalign.features.sources import Network

open_clip = pytest.importorskip("open_clip")

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "layers": 3, "width": 48, "head_width": 16, "patch_size": 8, "patch_dropout": 0.5}
VISION = {
    "vit": VIT,
    "vit-pooled-mean": {**VIT, "pool_type": "avg", "final_ln_after_pool": True, "ls_init_value": 0.1},
    "vit-qk-norm": {**VIT, "qk_norm": True, "block_type": "custom"},
    "vit-attention-pool": {**VIT, "attentional_pool": True, "attn_pooler_queries": 4, "attn_pooler_heads": 2},
    "resnet": {"image_size": 64, "layers": [1, 2, 1, 1], "width": 16, "head_width": 16, "patch_size": None},
    "eva": {
        "timm_model_name": "eva02_tiny_patch14_224",
        "timm_pool": "token",
        "timm_proj": "linear",
        "image_size": 224,
    },
    "convnext": {"timm_model_name": "test_convnext", "timm_pool": "", "timm_proj": "linear", "image_size": 160},
}
PLACES = {
    **{name: [f"transformer.resblocks.{i}" for i in range(3)] for name in VISION if name.startswith("vit")},
    "resnet": ["layer1.0", "layer2.0", "layer2.1", "layer3.0", "layer4.0"],
    "eva": [f"trunk.blocks.{i}" for i in range(12)],
    "convnext": [f"trunk.stages.{s}.blocks.{b}" for s, n in enumerate((1, 2, 4, 2)) for b in range(n)],
}
CONFIG = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25], "interpolation": "bicubic", "resize_mode": "shortest"}


def folder(path: Path, kind: str, *, weights: bool = True, **config) -> str:
    """A model as open_clip saves it; its id."""
    model_cfg = {"embed_dim": 24, "vision_cfg": VISION[kind], "text_cfg": TEXT}
    path.mkdir(exist_ok=True)
    (path / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": model_cfg, "preprocess_cfg": {**CONFIG, **config}})
    )
    if weights:
        torch.manual_seed(5)
        model = open_clip.CLIP(**model_cfg)
        for name, value in model.visual.named_parameters():  # blocks of a new ResNet add nothing, else
            if name.endswith("bn3.weight"):
                torch.nn.init.uniform_(value)
        save_file(model.state_dict(), path / "open_clip_model.safetensors")
    return f"open_clip:local-dir:{path}"


@pytest.mark.parametrize("kind", VISION)
def test_every_layer_equals_hooks_on_open_clips_own_model(kind, tmp_path, rng) -> None:
    backbone = load_backbone(folder(tmp_path / "m", kind))
    reference = open_clip.create_model(f"local-dir:{tmp_path / 'm'}").eval()
    assert [layer.module for layer in backbone.table.blocks] == PLACES[kind]
    size = VISION[kind]["image_size"]
    images = torch.from_numpy(rng.normal(size=(2, 3, size, size)).astype(np.float32))

    seen: list[torch.Tensor] = []
    for place in PLACES[kind]:
        operator.attrgetter(place)(reference.visual).register_forward_hook(lambda _m, _i, out: seen.append(out))
    with torch.no_grad():
        embedding = reference.encode_image(images)
    has_class_token = kind.startswith("vit") or kind == "eva"
    found = backbone.forward_layers(images, backbone.layers, ["mean", "grid1", *(["cls"] if has_class_token else [])])
    for layer, map_ in enumerate(seen):
        tokens = map_ if map_.ndim == 3 else map_.flatten(2).transpose(1, 2)
        assert tokens.shape[0] == 2
        expected = {"mean": tokens.mean(1), "grid1": tokens[:, 1:].mean(1) if has_class_token else tokens.mean(1)}
        if has_class_token:
            expected["cls"] = tokens[:, 0]
        for pooling, rows in expected.items():
            torch.testing.assert_close(found[str(layer), pooling], rows, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found["final", "final"], embedding, atol=1e-5, rtol=1e-4)
    assert len(seen) == len(PLACES[kind])
    assert backbone.n_parameters == sum(p.numel() for p in reference.visual.parameters())


@pytest.mark.parametrize("kind", ["vit", "resnet", "convnext"])
def test_agrees_with_open_clips_intermediates(kind, tmp_path, rng) -> None:
    backbone = load_backbone(folder(tmp_path / "m", kind))
    size = VISION[kind]["image_size"]
    images = torch.from_numpy(rng.normal(size=(2, 3, size, size)).astype(np.float32))
    with torch.no_grad():
        theirs = backbone.model.forward_intermediates(images, output_fmt="NCHW")
    at = {"vit": ["0", "1", "2"], "resnet": ["stage1", "stage2", "stage3", "stage4"], "convnext": ["0", "2", "6", "8"]}[
        kind
    ]
    maps = theirs["image_intermediates"][-len(at) :]
    for layer, map_ in zip(at, maps, strict=True):
        name = backbone.resolve_layers(layer)[0].name
        found = backbone.forward_pairs(images, [(name, "grid1")])
        torch.testing.assert_close(found[name, "grid1"], map_.mean((2, 3)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("kind", "normed"), [("vit", True), ("vit-pooled-mean", False), ("vit-attention-pool", False)])
def test_head_is_what_the_pooling_finds(kind, normed, tmp_path, rng) -> None:
    backbone = load_backbone(folder(tmp_path / "m", kind))
    images = torch.from_numpy(rng.normal(size=(1, 3, 32, 32)).astype(np.float32))
    held = {}
    backbone.model.transformer.register_forward_hook(lambda _m, _i, out: held.update(last=out))
    found = backbone.forward_pairs(images, [("head", "cls")])["head", "cls"]
    last = held["last"][:, 0]
    expected = torch.nn.functional.layer_norm(last, (48,)) if normed else last  # a new norm has weight 1, bias 0
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_tokens_ahead_of_images_are_turned(rng) -> None:
    """Older towers run as (tokens, images, channels)."""
    from open_clip.transformer import VisionTransformer

    towers = {}
    for batch_first in (True, False):
        torch.manual_seed(0)
        tower = VisionTransformer(32, 8, 48, 2, 3, 4.0, output_dim=24)
        tower.transformer.batch_first = batch_first
        for block in tower.transformer.resblocks:
            block.attn.batch_first = batch_first
        tower.image_size = 32
        config = {**CONFIG, "size": 32}
        network = open_clip_source.network("open_clip:x", tower, config, crop="none")
        assert network.batch_first is batch_first
        towers[batch_first] = backbone_of(network)
    images = torch.from_numpy(rng.normal(size=(3, 3, 32, 32)).astype(np.float32))
    one, other = (towers[b].forward_layers(images, towers[b].layers, ["mean", "cls"]) for b in (True, False))
    assert one.keys() == other.keys()
    for key in one:
        torch.testing.assert_close(one[key], other[key], atol=1e-5, rtol=1e-4)


def backbone_of(network: Network) -> Backbone:
    return Backbone(network, layer_table(len(network.blocks)), "random", "0" * 64)


@pytest.mark.parametrize("mode", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_center_is_open_clips_own_transform(mode, interpolation, tmp_path, rng) -> None:
    how = load_backbone(
        folder(tmp_path / "m", "vit", resize_mode=mode, interpolation=interpolation), crop="center"
    ).preprocessing
    reference = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'm'}")[2]
    for width, height in ((90, 50), (51, 98), (32, 32), (20, 20)):
        picture = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        torch.testing.assert_close(how.batch([how.resized(picture)])[0], reference(picture), atol=1e-6, rtol=1e-6)


def test_none_keeps_the_whole_picture(tmp_path) -> None:
    how = load_backbone(folder(tmp_path / "m", "vit")).preprocessing
    assert (how.size, how.crop, how.squash, how.mean, how.std) == (
        32, "none", False, (0.5, 0.4, 0.3), (0.2, 0.3, 0.25),
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["vit", "resnet", "eva"])
def test_random_weights_come_from_the_seed(kind, tmp_path) -> None:
    name = folder(tmp_path / "m", kind, weights=False)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    one, same, other = (load_backbone(name, weights="random", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(2), expected)
    assert one.weights_hash == same.weights_hash != other.weights_hash
    assert not one.model.training


def test_a_listed_model_with_random_weights_has_the_preprocessing_of_its_tag() -> None:
    backbone = load_backbone("open_clip:ViT-B-16-SigLIP/webli", weights="random", crop="center")
    how = backbone.preprocessing
    assert (how.size, how.mean, how.std, how.squash) == (224, (0.5,) * 3, (0.5,) * 3, True)
    assert backbone.id == "open_clip:ViT-B-16-SigLIP/webli"
    assert len(backbone.table.blocks) == 12


def test_activation_is_the_one_the_weights_were_trained_with() -> None:
    """OpenAI's weights want the quick approximation of GELU, though the model's own entry does not say so."""
    kinds = {}
    for tag in ("openai", "laion2b_s34b_b88k"):
        tower = load_backbone(f"open_clip:ViT-B-16/{tag}", weights="random").model
        kinds[tag] = type(tower.transformer.resblocks[0].mlp.gelu).__name__
    assert kinds == {"openai": "QuickGELU", "laion2b_s34b_b88k": "GELU"}


def test_image_size_can_be_chosen(tmp_path) -> None:
    for kind, size in (("vit", 48), ("eva", 112)):
        name = folder(tmp_path / kind, kind)
        for weights in ("pretrained", "random"):
            backbone = load_backbone(name, weights=weights, image_size=size)
            assert backbone.preprocessing.size == size
            assert backbone.shapes["0"].has_grid


def test_half_precision(tmp_path, rng) -> None:
    name = folder(tmp_path / "m", "vit")
    images = torch.from_numpy(rng.normal(size=(2, 3, 32, 32)).astype(np.float32))
    full, half = load_backbone(name), load_backbone(f"{name}?dtype=bfloat16")
    assert next(half.model.parameters()).dtype == torch.bfloat16
    assert half.id == f"{name}?dtype=bfloat16"
    assert half.weights_hash != full.weights_hash
    one, other = (b.forward_layers(images, b.layers, ["mean"]) for b in (full, half))
    for key, rows in one.items():
        assert other[key].dtype == torch.float32
        torch.testing.assert_close(other[key], rows, atol=0.1, rtol=0.1)


def test_a_pickle_that_runs_code_is_refused(tmp_path) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    name = folder(tmp_path / "m", "vit", weights=False)
    torch.save({"visual.proj": Evil()}, tmp_path / "m" / "open_clip_model.bin")
    torch.save({"visual.proj": Evil()}, tmp_path / "m" / "pytorch_model.bin")
    with pytest.raises(InputError, match="pretrained weights cannot be had"):
        load_backbone(name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("ViT-B-17/openai", "unknown open_clip model 'ViT-B-17'; did you mean 'ViT-B-1"),
        ("ViT-B-16/open_ai", "unknown weights of ViT-B-16 'open_ai'; did you mean 'openai'"),
        ("RN50", r"open_clip:RN50: no weights are named; write open_clip:RN50/TAG; tags: openai, yfcc15m"),
        ("RN50/openai?dtype=int8", "unknown dtype 'int8'"),
        ("RN50/openai?dtyp=float16", "unknown option 'dtyp'; did you mean 'dtype'"),
        ("local-dir:/no/such/folder", "pretrained weights cannot be had .*; check the folder"),
    ],
)
def test_refusals(name, problem) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        load_backbone(f"open_clip:{name}")
    assert "\n" not in str(caught.value)


def test_without_a_network_it_says_so_in_one_line_and_installs_no_log_handler(no_network, capfd) -> None:
    root = logging.getLogger()
    before = list(root.handlers), root.level
    with pytest.raises(InputError, match="open_clip:RN50/openai: pretrained weights cannot be had") as caught:
        load_backbone("rn50")
    assert "\n" not in str(caught.value)
    assert (list(root.handlers), root.level) == before
    assert capfd.readouterr().err == ""


def test_sizes_are_true_and_need_no_weights() -> None:
    found = {one.id: one for one in list_backbones("open_clip:RN50/*")}
    assert set(found) == {"open_clip:RN50/openai", "open_clip:RN50/yfcc15m", "open_clip:RN50/cc12m"}
    built = load_backbone("open_clip:RN50/openai", weights="random")
    one = found["open_clip:RN50/openai"]
    assert (one.n_parameters, one.n_layers) == (built.n_parameters, len(built.table.blocks)) == (38_316_896, 16)
