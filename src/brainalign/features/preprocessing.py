"""From a picture to a model's input, as the model's own configuration says."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Preprocessing:
    """Resize and normalise.

    Attributes
    ----------
    size : tuple of int
        (height, width) of the input.
    interpolation : str
        'bicubic' or 'bilinear', antialiased.
    mean, std : tuple of float
        Of each channel, for pixels in [0, 1].
    crop : {'none', 'center'}
        none: the whole picture, as the subject saw it, is resized to the input's size. center: the model's published
        evaluation crop, a share `crop_pct` of the shorter side.
    """

    size: tuple[int, int]
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop: str = "none"
    crop_pct: float = 1.0

    def resized(self, image: Image.Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """(height, width, 3) pixels."""
        from PIL import Image

        method = Image.Resampling.BILINEAR if self.interpolation == "bilinear" else Image.Resampling.BICUBIC
        height, width = self.size
        if self.crop == "center":
            scale = max(math.floor(height / self.crop_pct) / image.height, math.floor(width / self.crop_pct) / image.width)
            image = image.resize((round(image.width * scale), round(image.height * scale)), method)
            left, top = round((image.width - width) / 2), round((image.height - height) / 2)
            return np.asarray(image.crop((left, top, left + width, top + height)))
        return np.asarray(image if image.size == (width, height) else image.resize((width, height), method))

    def batch(self, pixels: list[np.ndarray[Any, np.dtype[np.uint8]]]) -> Tensor:
        """Normalised (n, 3, height, width), float32."""
        stacked = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float().div_(255)
        mean, std = torch.tensor(self.mean).view(3, 1, 1), torch.tensor(self.std).view(3, 1, 1)
        return (stacked - mean) / std

    def facts(self) -> dict[str, Any]:
        """What enters a feature key."""
        return asdict(self)


def from_timm(model: Any, *, crop: str) -> Preprocessing:
    """Preprocessing of a timm model, from its own configuration."""
    import timm

    config = timm.data.resolve_model_data_config(model)
    _, height, width = config["input_size"]
    return Preprocessing(
        (int(height), int(width)),
        str(config["interpolation"]),
        tuple(map(float, config["mean"])),
        tuple(map(float, config["std"])),
        crop,
        float(config["crop_pct"]) if crop == "center" else 1.0,
    )
