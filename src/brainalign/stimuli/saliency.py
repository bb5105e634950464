"""NeuroAlign's visual saliency extraction: what stands out in a picture stays bright, the rest goes dark.

Ke, Ye, Liang, Shang: NeuroAlign, manuscript, section 3.2 and appendix A.2.1, equations 1 to 3 and 10 to 13, algorithm 1
lines 5 to 8, settings of Table 3. `docs/saliency.md` says how the places are read that the manuscript leaves open.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from brainalign.errors import InputError, unknown_name
from brainalign.stimuli.saliency_filters import difference_of_gaussians, edge_map

if TYPE_CHECKING:
    from PIL import Image

MAPS = ("edges", "luminance", "contrast", "color", "exogenous", "saliency", "antagonism", "enhanced")
NORMALIZATIONS = ("minmax", "zscore")
GREY = (0.299, 0.587, 0.114)  # of red, green, blue: ITU-R BT.601
FLAT = 1e-6  # a map whose range (or deviation) is at most this share of its unit holds rounding, which is not blown up
SOBEL_MAX, SCALE_MAX, SIDE_MAX, SHAPE_MAX = 31, 256.0, 8192, 16
ALPHA_MAX, POWER_MAX, ETA_MAX = 1e6, 10.0, 100.0  # within these, float32 does not overflow
CPU_PIXELS, DEVICE_PIXELS = 8 * 224 * 224, 2**24  # handled at once: on a processor, what its cache holds
THIRDS = (1 / 3, 1 / 3, 1 / 3)


def visual_saliency(
    images: Tensor,
    sobel_size: int = 7,
    scales: Sequence[float] = (1, 2, 4),
    surround_weight: float = 0.5,
    exponent: float = 1.2,
    alphas: Sequence[float] = THIRDS,
    eta: float = 1.0,
    normalize: str = "minmax",
) -> dict[str, Tensor]:
    r"""All maps of the extraction.

    .. math:: E_d = \sqrt{(\nabla_x I_g)^2 + (\nabla_y I_g)^2}, \quad
              S_l = |I_g - \mu|, \quad S_d = |I_g - \sigma_l|, \quad S_c = \sum_{i \ne j} |C_i - C_j|

    .. math:: S_a = \sigma(N(E_d)) - \sigma(N(\sum_j \alpha_j S_j)) + \eta, \quad
              R_a = N(|\mathrm{mean}_s [G_s * S_a - \lambda\, G_{2s} * S_a]|^\gamma), \quad I_a = I \cdot R_a

    I_g is grey, mu and sigma_l its mean and standard deviation over the picture, sigma(.) the logistic function, N the
    normalisation, G_s a Gaussian of deviation s. Pixels beyond the edge are those inside it, mirrored about the
    outermost, however wide a kernel is.

    Parameters
    ----------
    images : Tensor of shape (n, 3, h, w)
        RGB in [0, 1], float32 or float64, on any device.
    sobel_size : int
        Side of the Sobel kernels, pixels, odd, 3 to 31.
    scales : sequence of float
        Deviations s of the centre Gaussians, pixels, at most 256; those of the surround are 2 s.
    surround_weight : float
        lambda, 0 to 10.
    exponent : float
        gamma, above 0, at most 10.
    alphas : three float
        Weights of luminance, contrast and colour, 0 to 1e6. Colour counts every pair of channels twice, as written.
    eta : float
        Constant of the gate, -100 to 100. With `minmax` and lambda of 0.5, at 0.7 and above nothing is negative ahead
        of the absolute value: edges get bright, colour and light without an edge dark. At 0 it is the other way round.
    normalize : {'minmax', 'zscore'}
        N, within each picture: to [0, 1], or to mean 0 and deviation 1 (R_a then has negative values too). A flat map
        becomes 0: a picture of one colour ends black.

    Returns
    -------
    dict of str to Tensor
        `edges` E_d (eq. 10; grey levels a pixel: a ramp of 1 a pixel has 1), `luminance` S_l, `contrast` S_d, `color`
        S_c (eq. 11), `exogenous` E_x = sum alpha_j S_j, `saliency` S_a (eq. 1), `antagonism` R_a (eq. 2), each of shape
        (n, h, w); `enhanced` I_a (eq. 3), of shape (n, 3, h, w).

    Raises
    ------
    InputError
        If `images` is no such tensor or an option is out of its range.

    Examples
    --------
    >>> maps = visual_saliency(torch.rand(2, 3, 32, 48))
    >>> maps["antagonism"].shape, float(maps["antagonism"].amax())
    (torch.Size([2, 32, 48]), 1.0)
    """
    options = _Options(sobel_size, scales, surround_weight, exponent, alphas, eta, normalize)
    return _in_parts(images, options, MAPS)


def enhance(images: Tensor, **options: Any) -> Tensor:
    """The enhanced pictures I_a alone (eq. 3), computed in less time and memory than all maps.

    Parameters
    ----------
    images : Tensor of shape (n, 3, h, w)
    **options
        Those of `visual_saliency`.

    Returns
    -------
    Tensor of shape (n, 3, h, w)

    Raises
    ------
    InputError
        As `visual_saliency`; for an unknown option too.
    """
    known = [field.name for field in fields(_Options)]
    for name in options:
        if name not in known:
            raise unknown_name("option", name, known, where="vse")
    return _in_parts(images, _Options(**options), ("enhanced",))["enhanced"]


@dataclass(frozen=True)
class _Options:
    """Options of `visual_saliency`, checked; Table 3 where it names them."""

    sobel_size: int = 7
    scales: Sequence[float] = (1.0, 2.0, 4.0)
    surround_weight: float = 0.5
    exponent: float = 1.2
    alphas: Sequence[float] = THIRDS
    eta: float = 1.0
    normalize: str = "minmax"

    def __post_init__(self) -> None:
        for name in ("scales", "alphas", "surround_weight", "exponent", "eta"):
            given = getattr(self, name)
            try:
                number = float(given) if name not in ("scales", "alphas") else tuple(map(float, given))
            except (TypeError, ValueError):
                expected = "numbers" if name in ("scales", "alphas") else "a number"
                raise InputError(f"{name} is {given!r}, expected {expected}", where="vse") from None
            object.__setattr__(self, name, number)  # 1 and 1.0 are one key
        size = self.sobel_size
        if not isinstance(size, int) or size % 2 != 1 or not 3 <= size <= SOBEL_MAX:
            raise InputError(f"sobel_size is {size}, expected an odd number from 3 to {SOBEL_MAX}", where="vse")
        if not self.scales or not all(0 < scale <= SCALE_MAX for scale in self.scales):
            text = f"scales are {_plain(self.scales)}, expected one or more above 0, at most {SCALE_MAX:g} pixels"
            raise InputError(text, where="vse")
        if len(self.alphas) != 3 or not all(0 <= alpha <= ALPHA_MAX for alpha in self.alphas):
            text = f"alphas are {_plain(self.alphas)}, expected three numbers from 0 to {ALPHA_MAX:g}"
            raise InputError(text, where="vse", hint="give the weights of luminance, contrast and color")
        if not 0 <= self.surround_weight <= POWER_MAX:
            raise InputError(f"surround_weight is {self.surround_weight:g}, expected 0 to {POWER_MAX:g}", where="vse")
        if not 0 < self.exponent <= POWER_MAX:
            raise InputError(f"exponent is {self.exponent:g}, expected above 0, at most {POWER_MAX:g}", where="vse")
        if not abs(self.eta) <= ETA_MAX:
            raise InputError(f"eta is {self.eta:g}, expected -{ETA_MAX:g} to {ETA_MAX:g}", where="vse")
        if self.normalize not in NORMALIZATIONS:
            raise unknown_name("normalization", self.normalize, NORMALIZATIONS, where="vse")


def _plain(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values) or "none"


@torch.no_grad()
def _in_parts(images: Tensor, options: _Options, names: Collection[str]) -> dict[str, Tensor]:
    """Maps of a batch, as many pictures at once as the cache of a processor (the memory of a device) takes."""
    _check_images(images)
    n, _, height, width = images.shape
    at_once = max(1, (CPU_PIXELS if images.device.type == "cpu" else DEVICE_PIXELS) // (height * width))
    shape = (n, height, width)
    found = {name: images.new_empty(images.shape if name == "enhanced" else shape) for name in names}
    for first in range(0, n, at_once):
        part = slice(first, first + at_once)
        _fill({name: values[part] for name, values in found.items()}, images[part], options)
    return found


def _check_images(images: Tensor) -> None:
    found = f"{tuple(images.shape)} of {str(images.dtype).removeprefix('torch.')}"
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape[2:]:
        raise InputError(f"got {found}, expected pictures (n, 3, height, width)", where="vse")
    if images.dtype not in (torch.float32, torch.float64):
        raise InputError(
            f"got {found}, expected float32 or float64 in [0, 1]", where="vse", hint="divide pixels by 255"
        )
    if max(images.shape[2:]) > SIDE_MAX:
        raise InputError(f"got {found}, expected sides of at most {SIDE_MAX} pixels", where="vse", hint="resize them")
    if not len(images):
        return
    low, high = map(float, torch.aminmax(images))
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # NaN too; resizing may leave the range by rounding
        raise InputError(
            f"pixels lie in {low:g} to {high:g}, expected 0 to 1", where="vse", hint="divide pixels by 255"
        )


def _fill(out: Mapping[str, Tensor], images: Tensor, options: _Options) -> None:
    """Compute the maps that are in `out`; within, each is written over by the next."""

    def keep(name: str, values: Tensor) -> Tensor:
        if name in out:
            out[name].copy_(values)
        return values

    grey = images[:, 0] * GREY[0]
    for channel in (1, 2):
        grey.add_(images[:, channel], alpha=GREY[channel])
    gate = _gate(keep("edges", edge_map(grey, options.sobel_size)), options, 1.0)
    exogenous = torch.zeros_like(grey)
    for (name, values), alpha in zip(feature_maps(images, grey).items(), options.alphas, strict=True):
        exogenous.add_(keep(name, values), alpha=alpha)
    # This is S_a - eta: kernels sum to 1, so eta is added after them.
    gate.sub_(_gate(keep("exogenous", exogenous), options, sum(options.alphas)))
    if "saliency" in out:
        torch.add(gate, options.eta, out=out["saliency"])
    response = difference_of_gaussians(gate, options.scales, options.surround_weight)
    response.add_((1 - options.surround_weight) * options.eta).abs_().pow_(options.exponent)
    keep("antagonism", _normalize(response, options, response.amax((1, 2), keepdim=True)))
    if "enhanced" in out:
        torch.mul(images, response[:, None], out=out["enhanced"])


def _gate(values: Tensor, options: _Options, unit: float) -> Tensor:
    """sigma(N(values)), in place."""
    return _normalize(values, options, unit).sigmoid_()


def _normalize(values: Tensor, options: _Options, unit: float | Tensor) -> Tensor:
    """N within each picture, in place; 0 where values of size `unit` differ by rounding alone."""
    if options.normalize == "minmax":
        low = values.amin((1, 2), keepdim=True)
        spread = values.amax((1, 2), keepdim=True).sub_(low)
    else:
        low = values.mean((1, 2), keepdim=True)
        spread = _deviation(values - low)
    return values.sub_(low).div_(spread.masked_fill_(spread <= FLAT * unit, math.inf))


def _deviation(centred: Tensor) -> Tensor:
    """Standard deviation of centred pictures (divided by the number of pixels), (n, 1, 1)."""
    return centred.square().mean((1, 2), keepdim=True).sqrt_()


def feature_maps(images: Tensor, grey: Tensor) -> dict[str, Tensor]:
    """S_l, S_d and S_c of eq. 11, (n, h, w) each, of RGB pictures (n, 3, h, w) and their grey ones (n, h, w)."""
    luminance = grey - grey.mean((1, 2), keepdim=True)
    contrast = (grey - _deviation(luminance)).abs_()
    # |a - b| + |b - c| + |a - c| is twice the range of three numbers; i != j counts each pair in both orders.
    color = images.amax(1).sub_(images.amin(1)).mul_(4)
    return {"luminance": luminance.abs_(), "contrast": contrast, "color": color}


@dataclass(frozen=True)
class VisualSaliency(_Options):
    """`enhance` as a change to pictures ahead of a model (a `StimulusTransform`); `vse` in recipes.

    Parameters
    ----------
    sobel_size, scales, surround_weight, exponent, alphas, eta, normalize
        See `visual_saliency`.
    size : int or None
        Pictures are first resized so that their shorter side has this many pixels (bilinear, antialiased, the aspect
        ratio kept): what the kernels' pixels are pixels of, 224 in Table 3. None: pictures keep their size.

    Raises
    ------
    InputError
        If an option is out of its range.

    Examples
    --------
    >>> VisualSaliency(eta=0.5, scales=(1, 2), alphas=(1, 1, 0)).key
    'vse?sobel_size=7&scales=1.0,2.0&surround_weight=0.5&exponent=1.2&alphas=1.0,1.0,0.0&eta=0.5&normalize=minmax&size=224'
    """

    size: int | None = 224

    name: ClassVar[str] = "vse"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size is not None and not 16 <= self.size <= SIDE_MAX // SHAPE_MAX:
            raise InputError(f"size is {self.size}, expected 16 to {SIDE_MAX // SHAPE_MAX} pixels", where=self.name)

    @property
    def options(self) -> Mapping[str, Any]:
        """Those of `visual_saliency`."""
        return {field.name: getattr(self, field.name) for field in fields(_Options)}

    @property
    def key(self) -> str:
        """The transform and all its settings."""
        settings = {**self.options, "size": self.size}
        texts = {k: ",".join(map(str, v)) if isinstance(v, tuple) else str(v) for k, v in settings.items()}
        return f"{self.name}?" + "&".join(f"{name}={text}" for name, text in texts.items())

    def pixels(self, image: Image.Image) -> Tensor:
        """A picture as (1, 3, h, w) in [0, 1], float32, resized.

        Raises
        ------
        InputError
            If one side is more than 16 times the other.
        """
        from PIL import Image

        image = image.convert("RGB")
        short, long = sorted(image.size)
        if long > SHAPE_MAX * short:
            text = f"a picture has {image.width} x {image.height} pixels, one side above {SHAPE_MAX} times the other"
            raise InputError(text, where=self.name)
        if self.size is not None and short != self.size:
            target = (self.size * image.width // short, self.size * image.height // short)
            image = image.resize(target, Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float().div_(255)

    def __call__(self, image: Image.Image) -> Image.Image:
        """The enhanced RGB picture, cut to what 8 bits can hold."""
        from PIL import Image

        found = enhance(self.pixels(image), **self.options)[0].mul_(255).round_().clamp_(0, 255)
        return Image.fromarray(found.byte().permute(1, 2, 0).contiguous().numpy())
