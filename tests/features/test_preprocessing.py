"""Pictures become inputs as timm's own evaluation transform makes them."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from brainalign.errors import InputError
from brainalign.features.preprocessing import Preprocessing, from_timm


@pytest.fixture
def pictures(rng) -> list[Image.Image]:
    """Smooth and rough, landscape, portrait, square, smaller and larger than the input."""
    sizes = [(300, 200), (201, 333), (500, 500), (90, 50), (256, 256), (160, 160), (182, 182)]
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes]


def prepared(how: Preprocessing, pictures: list[Image.Image]) -> torch.Tensor:
    return how.batch([how.resized(picture) for picture in pictures])


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"crop_pct": 0.875, "interpolation": "bilinear"},
        {"crop_pct": 1.0, "mean": (0.5, 0.4, 0.3), "std": (0.1, 0.2, 0.3)},
        {"crop_pct": 0.9, "crop_mode": "squash"},
        {"input_size": (3, 96, 96), "crop_pct": 0.96},
    ],
)
def test_center_is_the_published_crop(pictures, config) -> None:
    model = timm.create_model("test_efficientnet", pretrained=False, pretrained_cfg_overlay=config)
    reference = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    expected = torch.stack([reference(picture) for picture in pictures])
    torch.testing.assert_close(prepared(from_timm(model, crop="center"), pictures), expected, atol=1e-6, rtol=1e-6)


def test_none_keeps_the_whole_picture(pictures) -> None:
    model = timm.create_model("test_efficientnet", pretrained=False, pretrained_cfg_overlay={"crop_pct": 0.8})
    how = from_timm(model, crop="none")
    assert (how.size, how.crop, how.crop_pct, how.squash) == (160, "none", 1.0, False)
    mean, std = (np.array(values, dtype=np.float32)[:, None, None] for values in (how.mean, how.std))
    for picture, found in zip(pictures, prepared(how, pictures), strict=True):
        pixels = np.asarray(picture.resize((160, 160), Image.Resampling.BICUBIC), dtype=np.float32).transpose(2, 0, 1)
        np.testing.assert_allclose(found.numpy(), (pixels / 255 - mean) / std, atol=1e-6)


def test_batches_have_channels_last_in_memory(pictures) -> None:
    batch = prepared(Preprocessing(32, "bilinear", (0.5,) * 3, (0.5,) * 3), pictures)
    assert batch.shape == (len(pictures), 3, 32, 32)
    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_facts_are_json() -> None:
    facts = Preprocessing(224, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "center", 0.875).facts()
    assert facts == {
        "size": 224, "interpolation": "bicubic", "mean": [0.5] * 3, "std": [0.5] * 3, "crop": "center",
        "crop_pct": 0.875, "squash": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("config", "crop", "problem"),
    [
        ({"input_size": (3, 64, 96)}, "none", "3 x 64 x 96 pixels, not a square RGB picture"),
        ({"input_size": (1, 64, 64)}, "none", "1 x 64 x 64 pixels"),
        ({"interpolation": "lanczos"}, "none", "unknown interpolation 'lanczos'"),
        ({"crop_mode": "border"}, "center", "crop mode 'border' is not supported; use crop none"),
    ],
)
def test_what_is_not_supported(config, crop, problem) -> None:
    model = timm.create_model("test_efficientnet", pretrained=False, pretrained_cfg_overlay=config)
    with pytest.raises(InputError, match=problem):
        from_timm(model, crop=crop)
