"""Text sides of image-text models against open_clip and transformers themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from brainalign.errors import InputError
from brainalign.features import load_backbone, load_text_tower

TEXTS = ["a photo of an aardvark", "Two cats", "", "a " * 300]
VIT = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}


def check_equal(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert (found[0] - found[1]).abs().max() > 1e-3  # texts are told apart


@pytest.fixture(params=["CLIP", "CustomTextCLIP"])
def open_clip_folder(request, tmp_path) -> str:
    open_clip = pytest.importorskip("open_clip")
    model_cfg = {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": TEXT}
    torch.manual_seed(0)
    model = getattr(open_clip, request.param)(**model_cfg)
    if request.param == "CustomTextCLIP":
        model_cfg["custom_text"] = True
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_cfg, "preprocess_cfg": {}}))
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    return f"local-dir:{tmp_path}"


def test_open_clip(open_clip_folder) -> None:
    import open_clip

    tower = load_text_tower(f"open_clip:{open_clip_folder}")
    reference = open_clip.create_model(open_clip_folder).eval()
    with torch.no_grad():
        expected = reference.encode_text(open_clip.get_tokenizer(open_clip_folder)(TEXTS))
    check_equal(tower.encode(TEXTS), expected)
    check_equal(tower.encode(TEXTS, batch_size=3), expected)
    assert tower.dim == 24
    assert not any(name.startswith("visual") for name, _ in tower.model.named_parameters())  # the image side is let go
    image = load_backbone(f"open_clip:{open_clip_folder}")
    assert image.shapes["final"].channels == tower.dim


def test_random_weights_come_from_the_seed(open_clip_folder) -> None:
    name = f"open_clip:{open_clip_folder}"
    one, same, other = (load_text_tower(name, weights="random", seed=seed) for seed in (1, 1, 2))
    assert one.weights_hash == same.weights_hash != other.weights_hash
    assert one.weights == "random, seed 1"


def test_a_short_name_needs_no_download_for_random_weights() -> None:
    pytest.importorskip("open_clip")
    tower = load_text_tower("rn50", weights="random")
    assert tower.id == "open_clip:RN50/openai"
    assert tower.encode(["x"]).shape == (1, tower.dim) == (1, 1024)


def tokenizer(folder: Path) -> None:
    """Words as tokens, a start and an end around them."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["<pad>", "<unk>", "<s>", "</s>", "a", "photo", "of", "an", "aardvark", "two", "cats"]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)])
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)


SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 16,
    "max_position_embeddings": 12, "eos_token_id": 3, "bos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
VISION = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 16}


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_transformers(kind, tmp_path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    if kind == "clip":
        text, vision = SIZES | {"projection_dim": 24}, VISION | {"projection_dim": 24}
        config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
        model = transformers.CLIPModel(config).eval()
    else:
        config = transformers.SiglipConfig(text_config=SIZES | {"projection_size": 24}, vision_config=VISION)
        model = transformers.SiglipModel(config).eval()
    model.save_pretrained(tmp_path)
    tokenizer(tmp_path)
    tower = load_text_tower(f"hf:{tmp_path}")
    # by hand: unknown words are 1; full length; the end is kept where a text is cut
    rows = [[2, 4, 5, 6, 7, 8, 3], [2, 9 if kind == "siglip" else 1, 10, 3], [2, 3], [2, *[4] * 10, 3]]
    ids = torch.tensor([row + [0] * (12 - len(row)) for row in rows])
    with torch.no_grad():
        expected = model.get_text_features(input_ids=ids, attention_mask=None)
    expected = expected if isinstance(expected, torch.Tensor) else expected.pooler_output
    check_equal(tower.encode(TEXTS), expected)
    assert tower.dim == 24
    assert tower.id == f"hf:{tmp_path}"
    again = load_text_tower(f"hf:{tmp_path}", weights="random", seed=1)
    assert again.encode(TEXTS).shape == (4, 24)
    assert again.weights_hash != tower.weights_hash


def test_no_texts_and_no_list(open_clip_folder) -> None:
    tower = load_text_tower(f"open_clip:{open_clip_folder}")
    assert tower.encode([]).shape == (0, 24)
    with pytest.raises(InputError, match=r"expected a list of texts; write \['a photo of a cat'\]"):
        tower.encode("a photo")
    with pytest.raises(InputError, match="expected a list of texts"):
        tower.encode([1, 2])  # type: ignore[list-item]
    with pytest.raises(InputError, match="batch_size is 0"):
        tower.encode(["a"], batch_size=0)


def test_refusals(tmp_path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "dinov2"}))
    for name, options, problem in [
        ("timm:resnet50", {}, "timm:resnet50: has no text side; use an open_clip: or hf: model"),
        (f"hf:{tmp_path}", {}, "model type 'dinov2' has no text side; supported: clip, siglip"),
        ("open_clip:RN50", {"weights": "some"}, "unknown kind of weights 'some'"),
        ("open_clip:RN50", {"weights": "random", "device": "nosuch"}, "device nosuch: cannot be used"),
    ]:
        with pytest.raises(InputError, match=problem) as caught:
            load_text_tower(name, **options)
        assert "\n" not in str(caught.value)


def test_no_tokenizer(tmp_path) -> None:
    transformers = pytest.importorskip("transformers")
    transformers.CLIPTextModelWithProjection(transformers.CLIPTextConfig(**SIZES)).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="its tokenizer cannot be had") as caught:
        load_text_tower(f"hf:{tmp_path}")
    assert "\n" not in str(caught.value)
