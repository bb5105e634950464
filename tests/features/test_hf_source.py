"""Vision models of transformers against transformers itself: hidden states, pooled outputs, image processors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from brainalign.errors import InputError
from brainalign.features import load_backbone
from brainalign.features.hf_source import sizes

transformers = pytest.importorskip("transformers")

SIDE, WIDTH = 32, 48
COMMON = {
    "hidden_size": WIDTH, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": SIDE, "patch_size": 8,
}  # fmt: skip
TEXT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 99}
PROCESSORS = {
    "clip": lambda **k: transformers.CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=SIDE, **k),
    "siglip": lambda **k: transformers.SiglipImageProcessor(size={"height": SIDE, "width": SIDE}, **k),
    "vit": lambda **k: transformers.ViTImageProcessor(size={"height": SIDE, "width": SIDE}, **k),
    "dinov2": lambda **k: transformers.BitImageProcessor(size={"shortest_edge": 37}, crop_size=SIDE, resample=3, **k),
}


def clip():
    vision = {**COMMON, "intermediate_size": 96, "projection_dim": 24}
    config = transformers.CLIPConfig(
        vision_config=vision, text_config={**TEXT, "projection_dim": 24}, projection_dim=24
    )
    return transformers.CLIPModel(config)


def clip_vision_only():
    config = transformers.CLIPVisionConfig(**COMMON, intermediate_size=96, projection_dim=24)
    return transformers.CLIPVisionModelWithProjection(config)


def siglip():
    config = transformers.SiglipConfig(vision_config={**COMMON, "intermediate_size": 96}, text_config=TEXT)
    return transformers.SiglipModel(config)


def dinov2():
    return transformers.Dinov2Model(transformers.Dinov2Config(**COMMON, use_swiglu_ffn=True))


def dinov2_with_registers():
    config = transformers.Dinov2WithRegistersConfig(**COMMON, num_register_tokens=4)
    return transformers.Dinov2WithRegistersModel(config)


def vit():
    return transformers.ViTModel(transformers.ViTConfig(**COMMON, intermediate_size=96))


MODELS = {
    "clip": (clip, "clip", 1, True),
    "clip_vision_only": (clip_vision_only, "clip", 1, True),
    "siglip": (siglip, "siglip", 0, False),
    "dinov2": (dinov2, "dinov2", 1, True),
    "dinov2_with_registers": (dinov2_with_registers, "dinov2", 5, True),
    "vit": (vit, "vit", 1, True),
}


def saved(path: Path, kind: str, **options):
    """A small model with random weights and its processor in a folder; its id, and the model."""
    torch.manual_seed(1)
    model = MODELS[kind][0]().eval()
    with torch.no_grad():
        for weight in model.parameters():  # some start at zero
            weight.add_(torch.randn_like(weight) * 0.02)
    model.save_pretrained(path, **options)
    PROCESSORS[MODELS[kind][1]]().save_pretrained(path)
    return f"hf:{path}", model


def reference(model, images: torch.Tensor, **more):
    """Hidden states behind every block, tokens ahead of pooling, pooled output, as the library itself has them."""
    with torch.no_grad():
        if isinstance(model, transformers.CLIPModel | transformers.CLIPVisionModelWithProjection):
            vision = model.vision_model
            output = vision(pixel_values=images, output_hidden_states=True, **more)
            head = vision.post_layernorm(output.last_hidden_state)
            if isinstance(model, transformers.CLIPModel):
                final = model.get_image_features(pixel_values=images, **more)
                final = final if isinstance(final, torch.Tensor) else final.pooler_output
            else:
                final = model(pixel_values=images, **more).image_embeds
            return output.hidden_states[1:], head, final
        vision = model.vision_model if isinstance(model, transformers.SiglipModel) else model
        output = vision(pixel_values=images, output_hidden_states=True, **more)
        final = output.pooler_output
        if isinstance(model, transformers.ViTModel):
            final = output.last_hidden_state[:, 0]
        return output.hidden_states[1:], output.last_hidden_state, final


@pytest.mark.parametrize("kind", MODELS)
def test_every_layer_equals_transformers_hidden_states(kind, tmp_path, rng) -> None:
    name, model = saved(tmp_path / "m", kind)
    backbone = load_backbone(name)
    assert [layer.name for layer in backbone.layers] == ["0", "1", "2", "head", "final"]
    images = torch.from_numpy(rng.normal(size=(2, 3, SIDE, SIDE)).astype(np.float32))
    states, head, final = reference(model, images)
    assert len(states) == 3
    n_prefix, has_class_token = MODELS[kind][2:]
    found = backbone.forward_layers(images, backbone.layers, ["mean", "grid2", *(["cls"] if has_class_token else [])])
    for layer, tokens in {**dict(zip("012", states, strict=True)), "head": head}.items():
        grid = tokens[:, n_prefix:].reshape(2, 2, 2, 2, 2, WIDTH).mean((2, 4))  # 4 x 4 patches
        expected = {"mean": tokens.mean(1), "grid2": grid.permute(0, 3, 1, 2).flatten(1)}
        if has_class_token:
            expected["cls"] = tokens[:, 0]
        for pooling, rows in expected.items():
            torch.testing.assert_close(found[layer, pooling], rows, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found["final", "final"], final, atol=1e-5, rtol=1e-4)


def test_vits_final_is_what_its_classifier_reads(tmp_path, rng) -> None:
    torch.manual_seed(0)
    classifier = transformers.ViTForImageClassification(transformers.ViTConfig(**COMMON, intermediate_size=96)).eval()
    classifier.save_pretrained(tmp_path)
    PROCESSORS["vit"]().save_pretrained(tmp_path)
    backbone = load_backbone(f"hf:{tmp_path}")
    images = torch.from_numpy(rng.normal(size=(2, 3, SIDE, SIDE)).astype(np.float32))
    found = backbone.forward_pairs(images, [("final", "final")])["final", "final"]
    with torch.no_grad():
        torch.testing.assert_close(classifier.classifier(found), classifier(images).logits, atol=1e-5, rtol=1e-4)


def test_same_weights_in_open_clip_and_transformers_give_the_same_layers(tmp_path, rng) -> None:
    """The two libraries wrote CLIP's vision transformer independently; ids of both must mean the same layers."""
    pytest.importorskip("open_clip")
    from open_clip.transformer import VisionTransformer

    from brainalign.features import Backbone, open_clip_source
    from brainalign.features.layers import layer_table

    name, theirs = saved(tmp_path / "m", "clip_vision_only")
    theirs.config.hidden_act = "gelu"
    theirs.save_pretrained(tmp_path / "m")
    tower = VisionTransformer(SIDE, 8, WIDTH, 3, 4, 2.0, output_dim=24)
    vision, state = theirs.vision_model, {}
    state["class_embedding"] = vision.embeddings.class_embedding
    state["conv1.weight"] = vision.embeddings.patch_embedding.weight
    state["positional_embedding"] = vision.embeddings.position_embedding.weight
    state["proj"] = theirs.visual_projection.weight.T
    for mine, other in (("ln_pre", vision.pre_layrnorm), ("ln_post", vision.post_layernorm)):
        state |= {f"{mine}.weight": other.weight, f"{mine}.bias": other.bias}
    for i, layer in enumerate(vision.encoder.layers):
        at, attention = f"transformer.resblocks.{i}", layer.self_attn
        letters = (attention.q_proj, attention.k_proj, attention.v_proj)
        state[f"{at}.attn.in_proj_weight"] = torch.cat([one.weight for one in letters])
        state[f"{at}.attn.in_proj_bias"] = torch.cat([one.bias for one in letters])
        pairs = (
            ("attn.out_proj", attention.out_proj), ("ln_1", layer.layer_norm1), ("ln_2", layer.layer_norm2),
            ("mlp.c_fc", layer.mlp.fc1), ("mlp.c_proj", layer.mlp.fc2),
        )  # fmt: skip
        for mine, other in pairs:
            state |= {f"{at}.{mine}.weight": other.weight, f"{at}.{mine}.bias": other.bias}
    tower.load_state_dict(state)
    config = {"size": SIDE, "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    one = Backbone(open_clip_source.network("open_clip:x", tower, config, crop="none"), layer_table(3), "random", "0")
    images = torch.from_numpy(rng.normal(size=(2, 3, SIDE, SIDE)).astype(np.float32))
    other = load_backbone(name)
    found, expected = (b.forward_layers(images, b.layers, ["cls", "mean", "grid2"]) for b in (one, other))
    assert found.keys() == expected.keys()
    for key in found:
        torch.testing.assert_close(found[key], expected[key], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["clip", "siglip", "dinov2", "dinov2_with_registers", "vit"])
def test_another_image_size_interpolates_positions(kind, tmp_path, rng) -> None:
    name, model = saved(tmp_path / "m", kind)
    backbone = load_backbone(name, image_size=48)
    images = torch.from_numpy(rng.normal(size=(1, 3, 48, 48)).astype(np.float32))
    more = {} if kind.startswith("dino") else {"interpolate_pos_encoding": True}
    states, _, _ = reference(model, images, **more)
    found = backbone.forward_pairs(images, [("2", "mean")])["2", "mean"]
    torch.testing.assert_close(found, states[-1].mean(1), atol=1e-5, rtol=1e-4)
    assert backbone.preprocessing.size == 48


@pytest.mark.parametrize("kind", ["clip", "siglip", "dinov2", "vit"])
def test_center_is_the_image_processor(kind, tmp_path, rng) -> None:
    """Exactly the processor that resizes with Pillow, within rounding that which resizes tensors."""
    name, _ = saved(tmp_path / "m", kind)
    how = load_backbone(name, crop="center").preprocessing
    backends = {"pil": 1e-5, "torchvision": 4.5 / 255 / min(how.std)}
    y, x = np.mgrid[0:1:98j, 0:1:151j]
    scene = np.stack([np.sin(9 * x) * 127 + 128, 255 * y, 255 * x * y], axis=-1).astype(np.uint8)
    sizes = ((90, 50), (51, 98), (SIDE, SIDE), (20, 21), (63, 200))
    rough = [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes]
    for backend, tolerance in backends.items():
        processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "m", backend=backend)
        for picture in (Image.fromarray(scene), *rough):
            expected = processor(images=picture, return_tensors="pt")["pixel_values"][0]
            found = how.batch([how.resized(picture)])[0]
            torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)


def test_none_keeps_the_whole_picture(tmp_path) -> None:
    how = load_backbone(saved(tmp_path / "m", "dinov2")[0]).preprocessing
    assert (how.size, how.crop, how.crop_pct, how.squash, how.floor_crop) == (SIDE, "none", 1.0, False, False)
    assert how.interpolation == "bicubic"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"size": {"height": 30, "width": 40}}, "expected a square or a shortest edge"),
        ({"resample": 1}, "resampling 1 is not supported"),
        ({"rescale_factor": 1.0}, "does not scale pixels"),
        ({"do_resize": False}, "resizes to"),
        ({"image_processor_type": "NoSuchProcessor"}, r"preprocessor_config\.json cannot be had"),
    ],
)
def test_processors_that_do_something_else(change, problem, tmp_path) -> None:
    name, _ = saved(tmp_path / "m", "vit")
    file = tmp_path / "m" / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(InputError, match=problem) as caught:
        load_backbone(name)
    assert "\n" not in str(caught.value)


def test_old_configurations_give_sizes_as_numbers(tmp_path) -> None:
    name, _ = saved(tmp_path / "m", "clip")
    (tmp_path / "m" / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "crop_size": SIDE, "do_center_crop": True, "do_normalize": True, "do_resize": True, "resample": 3,
                "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": [0.485, 0.456, 0.406],
                "image_std": [0.229, 0.224, 0.225], "size": 40,
            }
        )
    )  # fmt: skip
    how = load_backbone(name, crop="center").preprocessing
    assert (how.size, how.crop_pct, how.mean) == (SIDE, 0.8, (0.485, 0.456, 0.406))


def test_random_weights_come_from_the_seed(tmp_path) -> None:
    name, _ = saved(tmp_path / "m", "clip")
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    one, same, other = (load_backbone(name, weights="random", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(2), expected)
    assert one.weights_hash == same.weights_hash != other.weights_hash
    assert not one.model.training


def test_sharded_and_pickled_weights(tmp_path, rng) -> None:
    name, model = saved(tmp_path / "one", "dinov2")
    many, _ = saved(tmp_path / "many", "dinov2", max_shard_size="100KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 1
    old, _ = saved(tmp_path / "old", "dinov2")
    (tmp_path / "old" / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "old" / "pytorch_model.bin")
    assert len({load_backbone(one).weights_hash for one in (name, many, old)}) == 1


def test_a_pickle_that_runs_code_is_refused(tmp_path) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    name, _ = saved(tmp_path / "m", "dinov2")
    (tmp_path / "m" / "model.safetensors").unlink()
    torch.save({"embeddings.cls_token": Evil()}, tmp_path / "m" / "pytorch_model.bin")
    with pytest.raises(InputError, match="pretrained weights cannot be had"):
        load_backbone(name)
    assert not (tmp_path / "ran").exists()


def test_a_weight_that_is_missing_is_not_made_up(tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    name, _ = saved(tmp_path / "m", "clip")
    held = load_file(tmp_path / "m" / "model.safetensors")
    del held["visual_projection.weight"]
    save_file(held, tmp_path / "m" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"1 weights are missing or of another shape \(visual_projection\.weight\)"):
        load_backbone(name)


def test_half_precision(tmp_path, rng) -> None:
    name, model = saved(tmp_path / "m", "siglip")
    backbone = load_backbone(f"{name}?dtype=bfloat16")
    assert {weight.dtype for weight in backbone.model.parameters()} == {torch.bfloat16}
    images = torch.from_numpy(rng.normal(size=(2, 3, SIDE, SIDE)).astype(np.float32))
    found = backbone.forward_layers(images, backbone.layers, ["mean"])
    states, _, _ = reference(model, images)
    for layer, tokens in zip("012", states, strict=True):
        assert found[layer, "mean"].dtype == torch.float32
        torch.testing.assert_close(found[layer, "mean"], tokens.mean(1), atol=0.05, rtol=0.05)


CODE = """
import pathlib
import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

pathlib.Path(__file__).parent.joinpath("ran").touch()


class HomeConfig(PretrainedConfig):
    model_type = "home_made"
    num_hidden_layers, image_size = 2, 32


class HomeModel(PreTrainedModel):
    config_class = HomeConfig
    main_input_name = "pixel_values"

    def __init__(self, config):
        super().__init__(config)
        self.patches = torch.nn.Conv2d(3, 8, 16, 16)
        self.start = torch.nn.Parameter(torch.zeros(1, 1, 8))
        self.blocks = torch.nn.ModuleList(torch.nn.Linear(8, 8) for _ in range(2))
        self.post_init()

    def forward(self, pixel_values):
        tokens = self.patches(pixel_values).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.start.expand(len(tokens), 1, 8), tokens], 1)
        for block in self.blocks:
            tokens = block(tokens)
        return BaseModelOutputWithPooling(last_hidden_state=tokens, pooler_output=tokens[:, 0])
"""


@pytest.fixture
def home_made(tmp_path, monkeypatch) -> Path:
    """A repository with code of its own."""
    from safetensors.torch import save_file

    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "home.py").write_text(CODE)
    auto = {"AutoConfig": "home.HomeConfig", "AutoModel": "home.HomeModel"}
    (folder / "config.json").write_text(json.dumps({"model_type": "home_made", "auto_map": auto}))
    PROCESSORS["vit"]().save_pretrained(folder)
    weights = {"patches.weight": torch.rand(8, 3, 16, 16), "patches.bias": torch.rand(8), "start": torch.rand(1, 1, 8)}
    for i in range(2):
        weights |= {f"blocks.{i}.weight": torch.rand(8, 8), f"blocks.{i}.bias": torch.rand(8)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    import transformers.dynamic_module_utils as dynamic

    monkeypatch.setattr(dynamic, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    return folder


def test_code_of_a_repository_runs_only_when_the_id_says_so(home_made, rng) -> None:
    with pytest.raises(
        InputError, match=r"needs code from its repository, which is not run; .*home\?trust_remote_code"
    ):
        load_backbone(f"hf:{home_made}")
    assert not list(home_made.parent.rglob("ran"))
    backbone = load_backbone(f"hf:{home_made}?trust_remote_code")
    assert list(home_made.parent.rglob("ran"))
    assert backbone.id.endswith("?trust_remote_code")
    images = torch.from_numpy(rng.normal(size=(2, 3, 32, 32)).astype(np.float32))
    found = backbone.forward_layers(images, backbone.layers, ["cls"])
    torch.testing.assert_close(found["1", "cls"], found["final", "final"])


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"model_type": "bert"}, "model type 'bert' is not supported; supported: clip"),
        ({"model_type": "siglip2"}, "SigLIP 2 NaFlex takes patches"),
        ({"hidden_size": 8}, "config.json holds no 'model_type'"),
        ({"model_type": "dinov2", "hidden_size": "many"}, "cannot be used|cannot be had"),
    ],
)
def test_configurations_that_cannot_be_used(config, problem, tmp_path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    PROCESSORS["vit"]().save_pretrained(tmp_path)
    with pytest.raises(InputError, match=problem) as caught:
        load_backbone(f"hf:{tmp_path}", weights="random")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("/no/such/folder", "hf:/no/such/folder: no such folder"),
        ("org/name?trust_remote_cod", "unknown option 'trust_remote_cod'; did you mean 'trust_remote_code'"),
        ("org/name?trust_remote_code=no", "option 'trust_remote_code' takes no value, got 'no'"),
        ("org/name?dtype=float16&dtype=float32", "option 'dtype' is given twice"),
    ],
)
def test_refusals(name, problem) -> None:
    with pytest.raises(InputError, match=problem):
        load_backbone(f"hf:{name}")


def test_a_folder_without_configuration(tmp_path) -> None:
    with pytest.raises(InputError, match=r"config\.json cannot be had .*the folder must hold it") as caught:
        load_backbone(f"hf:{tmp_path}")
    assert "\n" not in str(caught.value)


def test_without_a_network_it_says_so_in_one_line(no_network, capfd) -> None:
    with pytest.raises(InputError, match=r"hf:facebook/dinov2-giant: config\.json cannot be had") as caught:
        load_backbone("dinov2-g")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_sizes_of_a_model_on_this_machine(tmp_path) -> None:
    name, _ = saved(tmp_path / "m", "siglip")
    backbone = load_backbone(name)
    assert sizes(name.removeprefix("hf:")) == (backbone.n_parameters, 3)
    assert sizes(f"{tmp_path}/nothing") == (None, None)
