"""InternViT in its published file format, against the published equations written out in plain torch."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from brainalign.errors import InputError
from brainalign.features import load_backbone

transformers = pytest.importorskip("transformers")

# config.json of OpenGVLab/InternViT-6B-448px-V1-5 with small numbers; the class names point to code that is not there
CONFIG = {
    "architectures": ["InternVisionModel"], "model_type": "intern_vit_6b",
    "auto_map": {
        "AutoConfig": "configuration_intern_vit.InternVisionConfig",
        "AutoModel": "modeling_intern_vit.InternVisionModel",
    },
    "attention_dropout": 0.0, "drop_path_rate": 0.1, "dropout": 0.0, "hidden_act": "gelu", "hidden_size": 40,
    "image_size": 56, "initializer_factor": 0.1, "initializer_range": 1e-10, "intermediate_size": 72,
    "layer_norm_eps": 1e-3, "norm_type": "rms_norm", "num_attention_heads": 5, "num_channels": 3,
    "num_hidden_layers": 3, "patch_size": 14, "qk_normalization": True, "qkv_bias": False, "torch_dtype": "bfloat16",
    "use_flash_attn": True,
}  # fmt: skip
PROCESSOR = {
    "crop_size": 56, "do_center_crop": True, "do_normalize": True, "do_resize": True, "resample": 3, "size": 56,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
}  # fmt: skip


def weights(config: dict) -> dict[str, torch.Tensor]:
    """Random weights under the official names; every tensor differs from what it starts with."""
    draw = torch.Generator().manual_seed(4)
    width, inner = config["hidden_size"], config["intermediate_size"]

    def rand(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=draw) * 0.3

    norms = config["norm_type"] == "layer_norm"
    held = {
        "embeddings.class_embedding": rand(1, 1, width),
        "embeddings.patch_embedding.weight": rand(width, 3, 14, 14) * 0.1,
        "embeddings.patch_embedding.bias": rand(width),
        "embeddings.position_embedding": rand(1, (config["image_size"] // 14) ** 2 + 1, width),
    }
    for i in range(config["num_hidden_layers"]):
        at = f"encoder.layers.{i}"
        held |= {
            f"{at}.attn.qkv.weight": rand(3 * width, width), f"{at}.attn.proj.weight": rand(width, width),
            f"{at}.attn.proj.bias": rand(width), f"{at}.mlp.fc1.weight": rand(inner, width),
            f"{at}.mlp.fc1.bias": rand(inner), f"{at}.mlp.fc2.weight": rand(width, inner),
            f"{at}.mlp.fc2.bias": rand(width), f"{at}.norm1.weight": 1 + rand(width),
            f"{at}.norm2.weight": 1 + rand(width), f"{at}.ls1": 1 + rand(width), f"{at}.ls2": 1 + rand(width),
        }  # fmt: skip
        if config["qk_normalization"]:
            held |= {f"{at}.attn.{n}_norm.weight": 1 + rand(width) for n in "qk"}
        if config["qkv_bias"]:
            held[f"{at}.attn.qkv.bias"] = rand(3 * width)
        if norms:
            held |= {f"{at}.norm{n}.bias": rand(width) for n in (1, 2)}
    return held


def forward(w: dict[str, torch.Tensor], config: dict, images: torch.Tensor) -> list[torch.Tensor]:
    """Tokens behind every block, from the equations."""
    n, width, heads, eps = len(images), config["hidden_size"], config["num_attention_heads"], config["layer_norm_eps"]

    def rms(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return scale * x / torch.sqrt((x**2).mean(-1, keepdim=True) + eps)

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        if config["norm_type"] == "rms_norm":
            return rms(x, w[f"{name}.weight"])
        centred = x - x.mean(-1, keepdim=True)
        return w[f"{name}.weight"] * centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + eps) + w[f"{name}.bias"]

    side = images.shape[-1] // 14
    patches = images.reshape(n, 3, side, 14, side, 14).permute(0, 2, 4, 1, 3, 5).reshape(n, side * side, -1)
    x = patches @ w["embeddings.patch_embedding.weight"].flatten(1).T + w["embeddings.patch_embedding.bias"]
    x = torch.cat([w["embeddings.class_embedding"].expand(n, 1, width), x], 1) + w["embeddings.position_embedding"]
    states = []
    for i in range(config["num_hidden_layers"]):
        at = f"encoder.layers.{i}"
        qkv = norm(x, f"{at}.norm1") @ w[f"{at}.attn.qkv.weight"].T + w.get(f"{at}.attn.qkv.bias", 0)
        q, k, v = qkv[..., :width], qkv[..., width : 2 * width], qkv[..., 2 * width :]
        if config["qk_normalization"]:  # over the whole width, ahead of the split into heads
            q, k = rms(q, w[f"{at}.attn.q_norm.weight"]), rms(k, w[f"{at}.attn.k_norm.weight"])
        q, k, v = (one.reshape(n, -1, heads, width // heads).transpose(1, 2) for one in (q, k, v))
        mixed = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(width // heads), -1) @ v
        mixed = mixed.transpose(1, 2).reshape(n, -1, width) @ w[f"{at}.attn.proj.weight"].T + w[f"{at}.attn.proj.bias"]
        x = x + w[f"{at}.ls1"] * mixed
        y = norm(x, f"{at}.norm2") @ w[f"{at}.mlp.fc1.weight"].T + w[f"{at}.mlp.fc1.bias"]
        y = y * 0.5 * (1 + torch.erf(y / math.sqrt(2)))
        x = x + w[f"{at}.ls2"] * (y @ w[f"{at}.mlp.fc2.weight"].T + w[f"{at}.mlp.fc2.bias"])
        states.append(x)
    return states


def saved(folder: Path, *, shards: int = 1, held: dict[str, torch.Tensor] | None = None, **change) -> str:
    """A repository as it is published; its id."""
    folder.mkdir(exist_ok=True)
    config = CONFIG | change
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    held = weights(config) if held is None else held
    if shards == 1:
        save_file(held, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        names = [f"model-{i + 1:05d}-of-{shards:05d}.safetensors" for i in range(shards)]
        place = {key: names[number % shards] for number, key in enumerate(held)}
        for name in names:
            save_file({key: held[key] for key in held if place[key] == name}, folder / name, metadata={"format": "pt"})
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": place}))
    return f"hf:{folder}"


@pytest.mark.parametrize(
    "change",
    [
        {},  # the 6B models
        {"norm_type": "layer_norm", "qk_normalization": False, "qkv_bias": True},  # the 300M ones
        {"qkv_bias": True, "layer_norm_eps": 1e-6},
    ],
)
def test_every_layer_equals_the_published_equations(change, tmp_path, rng) -> None:
    name, config = saved(tmp_path / "m", **change), CONFIG | change
    backbone = load_backbone(name)
    images = torch.from_numpy(rng.normal(size=(2, 3, 56, 56)).astype(np.float32))
    states = forward(weights(config), config, images)
    found = backbone.forward_layers(images, backbone.layers, ["cls", "mean", "grid2"])
    assert [layer.name for layer in backbone.table.blocks] == ["0", "1", "2"]
    for layer, x in {**dict(zip("012", states, strict=True)), "head": states[-1]}.items():
        scale = float(x.abs().max())
        grid = x[:, 1:].reshape(2, 2, 2, 2, 2, 40).mean((2, 4)).permute(0, 3, 1, 2).flatten(1)
        for pooling, rows in (("cls", x[:, 0]), ("mean", x.mean(1)), ("grid2", grid)):
            torch.testing.assert_close(found[layer, pooling] / scale, rows / scale, atol=2e-6, rtol=0)
    torch.testing.assert_close(found["final", "final"], states[-1][:, 0], atol=1e-4, rtol=1e-4)


def test_the_check_is_sharp() -> None:
    """The check above (2e-6) would notice another epsilon, missing norms of q and k, other heads."""
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 3, 56, 56)).astype(np.float32))
    held = weights(CONFIG)
    expected = forward(held, CONFIG, images)[-1]
    for change in ({"layer_norm_eps": 1e-6}, {"qk_normalization": False}, {"num_attention_heads": 4}):
        assert (forward(held, CONFIG | change, images)[-1] - expected).abs().max() > 1e-4 * expected.abs().max()


def test_no_code_of_the_repository_runs(tmp_path) -> None:
    name = saved(tmp_path / "m")
    for file in ("configuration_intern_vit", "modeling_intern_vit"):
        ran = f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"
        (tmp_path / "m" / f"{file}.py").write_text(ran)
    load_backbone(name)
    load_backbone(f"{name}?trust_remote_code")  # nothing of it is needed
    assert not (tmp_path / "ran").exists()


def test_preprocessing_is_imagenets_at_the_checkpoints_size(tmp_path) -> None:
    how = load_backbone(saved(tmp_path / "m")).preprocessing
    assert (how.size, how.mean, how.interpolation) == (56, (0.485, 0.456, 0.406), "bicubic")


def test_sharded_pickled_and_half_precision_files_give_the_same_model(tmp_path) -> None:
    held = {key: value.to(torch.bfloat16) for key, value in weights(CONFIG).items()}
    one, three = saved(tmp_path / "one", held=held), saved(tmp_path / "three", shards=3, held=held)
    old = saved(tmp_path / "old", held=held)
    (tmp_path / "old" / "model.safetensors").unlink()
    torch.save(held, tmp_path / "old" / "pytorch_model.bin")
    backbones = [load_backbone(name) for name in (one, three, old)]
    assert len({backbone.weights_hash for backbone in backbones}) == 1
    assert {weight.dtype for weight in backbones[0].model.parameters()} == {torch.float32}
    half = load_backbone(f"{three}?dtype=bfloat16")
    assert {weight.dtype for weight in half.model.parameters()} == {torch.bfloat16}
    images = torch.zeros(1, 3, 56, 56)
    layers = half.layers
    full, other = (b.forward_layers(images, layers, ["mean"]) for b in (backbones[0], half))
    for key, rows in full.items():
        torch.testing.assert_close(other[key], rows, atol=0.05 * float(rows.abs().max()), rtol=0)


def test_another_size_interpolates_positions(tmp_path, rng) -> None:
    """Bicubic, as the repository's code does it."""
    name = saved(tmp_path / "m")
    backbone = load_backbone(name, image_size=84)
    held = weights(CONFIG)
    positions = held["embeddings.position_embedding"]
    grid = positions[:, 1:].reshape(1, 4, 4, 40).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(grid, size=(6, 6), mode="bicubic", align_corners=False)
    held["embeddings.position_embedding"] = torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2)], 1)
    images = torch.from_numpy(rng.normal(size=(1, 3, 84, 84)).astype(np.float32))
    expected = forward(held, CONFIG, images)[-1].mean(1)
    found = backbone.forward_pairs(images, [("2", "mean")])["2", "mean"]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_the_6b_model_has_its_published_size() -> None:
    """5.54 billion parameters in 45 blocks (Shallow Alignment, table of backbones), from the defaults alone."""
    from brainalign.features import internvit

    with torch.device("meta"):
        model = internvit.build({"num_hidden_layers": 45, "image_size": 448}, where="x")
    assert round(sum(weight.numel() for weight in model.parameters()) / 1e9, 2) == 5.54
    attention = model.encoder.layer[44].attention
    assert (attention.num_heads, tuple(attention.q_norm.weight.shape)) == (25, (3200,))
    assert attention.q_proj.bias is None


@pytest.mark.parametrize(
    ("change", "drop", "add", "problem"),
    [
        ({}, "encoder.layers.1.ls1", {}, r"1 weights are missing \(encoder\.layer\.1\.lambda_1"),
        ({}, "", {"encoder.layers.0.attn.qkv.bias": torch.zeros(120)}, "has no place in the network of config.json"),
        ({}, "", {"encoder.layers.9.ls1": torch.zeros(40)}, r"encoder\.layers\.9\.ls1 has no place"),
        ({}, "", {"head.weight": torch.zeros(2)}, "head.weight is not one of InternViT's"),
        ({}, "", {"encoder.layers.0.ls1": torch.zeros(41)}, r"has shape \(41,\), expected \(40,\)"),
        ({"norm_type": "batch_norm"}, "", {}, "unknown norm_type 'batch_norm'"),
        ({"num_attention_heads": 7}, "", {}, "config.json cannot be used"),
        ({"hidden_act": "nosuch"}, "", {}, "config.json cannot be used"),
    ],
)
def test_what_does_not_fit_is_refused(change, drop, add, problem, tmp_path) -> None:
    held = {key: value for key, value in weights(CONFIG).items() if key != drop} | add
    name = saved(tmp_path / "m", held=held, **change)
    with pytest.raises(InputError, match=problem) as caught:
        load_backbone(name)
    assert "\n" not in str(caught.value)


class TestFiles:
    def test_an_index_cannot_point_elsewhere(self, tmp_path) -> None:
        name = saved(tmp_path / "m", shards=2)
        index = tmp_path / "m" / "model.safetensors.index.json"
        held = json.loads(index.read_text())
        held["weight_map"]["embeddings.class_embedding"] = "../secret.safetensors"
        index.write_text(json.dumps(held))
        with pytest.raises(InputError, match="which is not beside it"):
            load_backbone(name)

    def test_a_shard_that_is_missing_is_named(self, tmp_path) -> None:
        name = saved(tmp_path / "m", shards=2)
        (tmp_path / "m" / "model-00002-of-00002.safetensors").unlink()
        with pytest.raises(InputError, match=r"the file model-00002-of-00002\.safetensors is missing"):
            load_backbone(name)

    def test_no_weights(self, tmp_path) -> None:
        name = saved(tmp_path / "m")
        (tmp_path / "m" / "model.safetensors").unlink()
        with pytest.raises(InputError, match=r"no weights; expected model\.safetensors"):
            load_backbone(name)

    @pytest.mark.parametrize("content", [b"", b"not weights", b"\xff" * 64])
    def test_damaged(self, content, tmp_path) -> None:
        name = saved(tmp_path / "m")
        (tmp_path / "m" / "model.safetensors").write_bytes(content)
        with pytest.raises(InputError, match="cannot be read as plain tensors") as caught:
            load_backbone(name)
        assert "\n" not in str(caught.value)

    def test_a_pickle_that_runs_code_is_refused(self, tmp_path) -> None:
        class Evil:
            def __reduce__(self):
                return (Path.touch, (tmp_path / "ran",))

        name = saved(tmp_path / "m")
        (tmp_path / "m" / "model.safetensors").unlink()
        torch.save({"embeddings.class_embedding": Evil()}, tmp_path / "m" / "pytorch_model.bin")
        with pytest.raises(InputError, match="cannot be read as plain tensors"):
            load_backbone(name)
        assert not (tmp_path / "ran").exists()
