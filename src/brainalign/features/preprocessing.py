"""From a picture to a model's input, as the model's own configuration says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
    """A change to every picture ahead of the model: a blur, a saliency mask."""

    @property
    def key(self) -> str:
        """Names the change and all its settings; it enters the key of every bank."""

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
    floor_crop : bool
        Whether an odd margin leaves the smaller half at the top and left (transformers) instead of the half that
        Python's `round` gives (torchvision).
    """

    size: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: str = "none"
    crop_pct: float = 1.0
    squash: bool = False
    floor_crop: bool = False

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
        half = math.floor if self.floor_crop else round
        left, top = half((target[0] - self.size) / 2), half((target[1] - self.size) / 2)
        return np.asarray(image.crop((left, top, left + self.size, top + self.size)))

    def batch(self, pixels: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Normalised (n, 3, size, size), float32, channels last in memory."""
        stacked = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float().div_(255)
        mean, std = torch.tensor(self.mean).view(3, 1, 1), torch.tensor(self.std).view(3, 1, 1)
        return stacked.sub_(mean).div_(std)

    def facts(self) -> dict[str, Any]:
        """What enters a feature key, as JSON has it."""
        facts = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        if not self.floor_crop:  # added later: the keys of banks made before stay as they are
            del facts["floor_crop"]
        return facts


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


def from_open_clip(config: Mapping[str, Any], *, crop: str, where: str) -> Preprocessing:
    """Preprocessing of an open_clip model, from its own configuration.

    Parameters
    ----------
    config : mapping
        With the keys of open_clip's `PreprocessCfg`.

    Raises
    ------
    InputError
        If the model's input is not square, or its published crop is of a kind that is not supported.
    """
    size, mode = config["size"], str(config["resize_mode"])
    height, width = (size, size) if isinstance(size, int) else (size[0], size[-1])
    if height != width:
        raise InputError(f"takes {height} x {width} pixels, not a square picture", where=where)
    if crop == "center" and mode not in ("shortest", "squash"):
        raise InputError(f"resize mode '{mode}' is not supported", where=where, hint="use crop none")
    return Preprocessing(
        int(height),
        "bilinear" if config["interpolation"] == "bilinear" else "bicubic",  # open_clip's own reading of 'random'
        tuple(map(float, config["mean"])),
        tuple(map(float, config["std"])),
        crop,
        squash=crop == "center" and mode == "squash",
    )


def from_transformers(processor: Any, *, crop: str, image_size: int | None, where: str) -> Preprocessing:
    """Preprocessing as an image processor of transformers does it.

    Parameters
    ----------
    processor
        With the attributes `size`, `crop_size`, `resample`, `image_mean`, ... that all of the library's have.
    image_size : int, optional
        Side of the input in place of the processor's; the share of the picture that is kept stays.

    Raises
    ------
    InputError
        If the processor does something else than to resize, crop at the center and normalise a square RGB picture.
    """
    side, short, squash = _sides(processor, where)
    resample = int(getattr(processor, "resample", None) or 0)
    if resample not in (2, 3):
        raise InputError(f"resampling {resample} is not supported, expected 2 (bilinear) or 3 (bicubic)", where=where)
    mean = tuple(map(float, processor.image_mean if processor.do_normalize else (0, 0, 0)))
    std = tuple(map(float, processor.image_std if processor.do_normalize else (1, 1, 1)))
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise InputError(f"normalises by {mean} and {std}, not an RGB picture", where=where)
    if not processor.do_rescale or not math.isclose(processor.rescale_factor, 1 / 255, rel_tol=1e-6):
        raise InputError("does not scale pixels to [0, 1]", where=where, hint="choose another backbone")
    if image_size is not None:
        side, short = image_size, round(short * image_size / side)
    interpolation = "bilinear" if resample == 2 else "bicubic"
    if crop != "center":
        return Preprocessing(side, interpolation, mean, std, crop)
    return Preprocessing(side, interpolation, mean, std, crop, _share(side, short), squash, floor_crop=True)


def _sides(processor: Any, where: str) -> tuple[int, int, bool]:
    """Side of the input, side the picture is resized to ahead of the crop, whether that ignores the aspect ratio."""
    size, cut = _plain(processor.size), _plain(getattr(processor, "crop_size", None))
    short = size.get("shortest_edge") or size.get("height")
    squash = not size.get("shortest_edge")
    if not processor.do_resize or not short or (squash and size.get("width") != short):
        raise InputError(f"resizes to {size or 'nothing'}, expected a square or a shortest edge", where=where)
    if not getattr(processor, "do_center_crop", False):
        if not squash:
            raise InputError("keeps the aspect ratio and does not crop: its input is not square", where=where)
        return int(short), int(short), True
    side = cut.get("height") or cut.get("shortest_edge")
    if not side or cut.get("width", side) != side or side > short:
        raise InputError(f"crops {cut or 'nothing'} out of {short} pixels, expected a square", where=where)
    return int(side), int(short), squash


def _plain(size: Any) -> dict[str, int]:
    """Sizes that are given, by name."""
    if size is None:
        return {}
    if isinstance(size, int):
        return {"height": size, "width": size}
    return {str(key): int(value) for key, value in dict(size).items() if value is not None}


def _share(side: int, short: int) -> float:
    """The share `crop_pct` with floor(side / crop_pct) = short exactly."""
    share = side / short
    while math.floor(side / share) < short:
        share = math.nextafter(share, 0.0)
    return share
