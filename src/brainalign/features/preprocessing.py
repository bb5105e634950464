"""From a picture to a model's input, as the model's own configuration says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brainalign.errors import InputError, unknown_name

if TYPE_CHECKING:
    from PIL import Image

CROPS = ("none", "center")


class StimulusTransform(Protocol):
    """A change to every picture ahead of the model: a blur, a saliency mask.

    Attributes
    ----------
    key : str
        Names the change and all its settings; it enters the key of every bank.
    """

    key: str

    def __call__(self, image: Image.Image) -> Image.Image:
        """The changed RGB picture. Called from several threads at once."""


@dataclass(frozen=True)
class Preprocessing:
    """Resize and normalise.

    Attributes
    ----------
    size : int
        Height and width of the input, pixels.
    interpolation : {'bicubic', 'bilinear'}
        Antialiased (Pillow).
    mean, std : tuple of float
        Of each channel, for pixels in [0, 1].
    crop : {'none', 'center'}
        none: the whole picture, as the subject saw it, is resized to the input's size, whatever its aspect ratio.
        center: the model's published evaluation crop, a share `crop_pct` of the shorter side.
    crop_pct : float
    squash : bool
        Whether the published crop ignores the aspect ratio.
    """

    size: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: str = "none"
    crop_pct: float = 1.0
    squash: bool = False

    def resized(self, image: Image.Image) -> NDArray[np.uint8]:
        """(size, size, 3) pixels of an RGB picture."""
        from PIL import Image

        scaled = math.floor(self.size / self.crop_pct)
        width, height = image.size
        if self.crop == "none" or self.squash:
            target = (scaled, scaled)
        else:
            short = min(width, height)
            target = (scaled * width // short, scaled * height // short)
        method = Image.Resampling.BILINEAR if self.interpolation == "bilinear" else Image.Resampling.BICUBIC
        if target != image.size:
            image = image.resize(target, method)
        left, top = round((target[0] - self.size) / 2), round((target[1] - self.size) / 2)
        return np.asarray(image.crop((left, top, left + self.size, top + self.size)))

    def batch(self, pixels: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Normalised (n, 3, size, size), float32, channels last in memory."""
        stacked = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float().div_(255)
        mean, std = torch.tensor(self.mean).view(3, 1, 1), torch.tensor(self.std).view(3, 1, 1)
        return stacked.sub_(mean).div_(std)

    def facts(self) -> dict[str, Any]:
        """What enters a feature key, as JSON has it."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def from_timm(model: Any, *, crop: str) -> Preprocessing:
    """Preprocessing of a timm model, from its own configuration.

    Raises
    ------
    InputError
        If the model's input is not square, or its published crop is of a kind that is not supported.
    """
    import timm

    config = timm.data.resolve_model_data_config(model)  # type: ignore[attr-defined, no-untyped-call]
    channels, height, width = config["input_size"]
    where = f"timm:{model.pretrained_cfg.get('architecture', type(model).__name__)}"
    if height != width or channels != 3:
        raise InputError(f"takes {channels} x {height} x {width} pixels, not a square RGB picture", where=where)
    if config["interpolation"] not in ("bicubic", "bilinear"):
        raise unknown_name("interpolation", str(config["interpolation"]), ("bicubic", "bilinear"), where=where)
    if crop == "center" and config["crop_mode"] not in ("center", "squash"):
        raise InputError(f"crop mode '{config['crop_mode']}' is not supported", where=where, hint="use crop none")
    return Preprocessing(
        int(height),
        str(config["interpolation"]),
        tuple(map(float, config["mean"])),
        tuple(map(float, config["std"])),
        crop,
        float(config["crop_pct"]) if crop == "center" else 1.0,
        crop == "center" and config["crop_mode"] == "squash",
    )
