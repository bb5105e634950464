"""UBP's foveal blur: a picture fades into its blurred self with distance from its centre.

Wu, Li, Zhang, He, Ying: Bridging the Vision-Brain Gap with an Uncertainty-Aware Blur Prior, CVPR 2025, arXiv
2503.04207, section 4.1, equations 2 to 5. Where the paper and the authors' code differ (`docs/blur.md`), the defaults
are the code's: the published numbers come from it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from brainalign.errors import InputError, unknown_name

if TYPE_CHECKING:
    from PIL import Image

LEVELS = ("low", "medium", "high")
CURVES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "exp": lambda x, steepness: torch.exp(-steepness * x),
    "linear": lambda x, _: 1 - x,
    "quadratic": lambda x, _: 1 - x**2,
    "log": lambda x, _: 1 - torch.log1p((math.e - 1) * x),
}


def gaussian_sigma(kernel_size: int) -> float:
    """The deviation of a Gaussian that is given by the size of its kernel alone, in pixels (OpenCV's rule).

    Examples
    --------
    >>> [round(gaussian_sigma(size), 2) for size in (45, 51, 57)]
    [7.1, 8.0, 8.9]
    """
    return 0.3 * ((kernel_size - 1) / 2 - 1) + 0.8


def gaussian_blur(images: Tensor, kernel_size: int) -> Tensor:
    """Blur evenly; pixels beyond the edge are those inside it, mirrored about the outermost.

    Parameters
    ----------
    images : Tensor of shape (..., height, width)
        Floating point.
    kernel_size : int
        Side of the kernel, pixels, odd; its deviation is `gaussian_sigma`.

    Returns
    -------
    Tensor of the same shape

    Raises
    ------
    InputError
        If the kernel's size is even or below 1.
    """
    _check_kernel(kernel_size)
    height, width = images.shape[-2:]
    rows, columns = (_blur_matrix(side, kernel_size).to(images) for side in (height, width))
    return rows @ images @ columns.T


@functools.lru_cache(maxsize=16)
def _blur_matrix(side: int, kernel_size: int) -> Tensor:
    """(side, side): a blurred line is this times the line. One product is faster than a convolution this wide."""
    half = kernel_size // 2
    offsets = torch.arange(-half, half + 1)
    weights = torch.exp(-(offsets.double() ** 2) / (2 * gaussian_sigma(kernel_size) ** 2))
    places = torch.arange(side)[:, None] + offsets
    period = max(1, 2 * (side - 1))
    places = places.remainder(period)
    places = torch.minimum(places, period - places) if side > 1 else places * 0
    matrix = torch.zeros(side, side, dtype=torch.float64)
    matrix.scatter_add_(1, places, (weights / weights.sum()).expand(side, -1))
    return matrix.float()


def sharp_share(height: int, width: int, *, curve: str = "exp", steepness: float = 3.0, center: float = 0.5) -> Tensor:
    """How much of the sharp picture is kept at each pixel, eq. 5 times `center`.

    The fovea is pixel (height // 2, width // 2); a distance of 1 is from there to the last pixel (the first corner is a
    pixel further away in both directions, and counts as 1 too).

    Parameters
    ----------
    height, width : int
        Pixels.
    curve : {'exp', 'linear', 'quadratic', 'log'}
        How the share falls with distance x: exp(-steepness x), 1 - x, 1 - x^2, 1 - ln(1 + (e - 1) x).
    steepness : float
        The paper's lambda; of `exp` alone.
    center : float
        The share at the fovea, 0 to 1: 1 as in the equation, 0.5 as in the code.

    Returns
    -------
    Tensor of shape (height, width)
        float32, 0 to 1.

    Raises
    ------
    InputError
        If the curve is unknown or a number is out of its range.
    """
    _check_share(curve, steepness, center)
    y = torch.arange(height, dtype=torch.float64) - height // 2
    x = torch.arange(width, dtype=torch.float64) - width // 2
    farthest = math.hypot(height - height // 2 - 1, width - width // 2 - 1)
    distance = torch.hypot(y[:, None], x[None, :]) / max(farthest, 1.0)
    return (center * CURVES[curve](distance.clamp(max=1), steepness)).float()


def foveal_blur(
    images: Tensor, *, kernel_size: int = 51, curve: str = "exp", steepness: float = 3.0, center: float = 0.5
) -> Tensor:
    r"""Blend pictures with their blurred selves.

    .. math:: \tilde x = \alpha x + (1 - \alpha) (G * x), \qquad
              \alpha(i, j) = c \exp(-\lambda \, d(i, j) / L)

    with G a Gaussian of `kernel_size` pixels (eq. 2, 3), d the distance from the centre, L its maximum, lambda the
    `steepness` and c the share of the sharp picture at the `center` (eq. 4, 5 have c = 1).

    Parameters
    ----------
    images : Tensor of shape (n, channels, height, width)
        Floating point, such as pixels in [0, 1].
    kernel_size : int
        Side of the kernel, pixels, odd; the published settings are for pictures of 224 x 224.
    curve, steepness, center
        See `sharp_share`.

    Returns
    -------
    Tensor of shape (n, channels, height, width)

    Raises
    ------
    InputError
        If `images` is no such tensor, the kernel is even, or another setting is out of its range.

    Examples
    --------
    >>> picture = torch.rand(1, 3, 224, 224)
    >>> kept = foveal_blur(picture, center=1.0)
    >>> bool(kept[0, 0, 112, 112] == picture[0, 0, 112, 112])  # the fovea is sharp
    True
    """
    if images.ndim != 4 or not images.is_floating_point() or 0 in images.shape:
        found = f"{tuple(images.shape)} of {images.dtype}"
        raise InputError(f"got {found}, expected pictures (n, channels, height, width) of floating point", where="blur")
    share = sharp_share(*images.shape[-2:], curve=curve, steepness=steepness, center=center).to(images)
    blurred = gaussian_blur(images, kernel_size)
    return torch.lerp(blurred, images, share)


@dataclass(frozen=True)
class FovealBlur:
    """`foveal_blur` as a change to pictures ahead of a model (a `StimulusTransform`), at one of three levels.

    Parameters
    ----------
    level : {'low', 'medium', 'high'}
        The kernel: `kernel_size` less `step`, as it is, or plus `step`. Test images are blurred at medium level.
    kernel_size : int
        Of the medium level, pixels, odd.
    steepness, curve, center
        See `sharp_share`.
    step : int
        Pixels, even.
    size : int or None
        Pictures are first resized to this side (bilinear, whatever their aspect ratio), as the published pipeline does:
        what the kernel's pixels are pixels of. None: pictures keep their size.

    Raises
    ------
    InputError
        If the level or curve is unknown or a number is out of its range.

    Examples
    --------
    >>> [FovealBlur(level).kernel for level in LEVELS]
    [45, 51, 57]
    >>> FovealBlur("low").key
    'blur?level=low&kernel_size=51&steepness=3.0&curve=exp&center=0.5&step=6&size=224'
    """

    level: str = "medium"
    kernel_size: int = 51
    steepness: float = 3.0
    curve: str = "exp"
    center: float = 0.5
    step: int = 6
    size: int | None = 224

    name: ClassVar[str] = "blur"

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise unknown_name("level of blur", self.level, LEVELS, where=self.name)
        _check_kernel(self.kernel_size)
        _check_share(self.curve, self.steepness, self.center)
        if self.step < 0 or self.step % 2 or self.step >= self.kernel_size:
            problem = f"step is {self.step}, expected an even number from 0 to {self.kernel_size - 1}"
            raise InputError(problem, where=self.name)
        if self.size is not None and not 16 <= self.size <= 4096:
            raise InputError(f"size is {self.size}, expected 16 to 4096 pixels", where=self.name)

    @property
    def kernel(self) -> int:
        """Side of this level's kernel, pixels."""
        return self.kernel_size + (LEVELS.index(self.level) - 1) * self.step

    @property
    def key(self) -> str:
        """The transform and all its settings."""
        settings = {
            "level": self.level,
            "kernel_size": self.kernel_size,
            "steepness": float(self.steepness),
            "curve": self.curve,
            "center": float(self.center),
            "step": self.step,
            "size": self.size,
        }
        return f"{self.name}?" + "&".join(f"{name}={value}" for name, value in settings.items())

    def __call__(self, image: Image.Image) -> Image.Image:
        """The blurred RGB picture."""
        from PIL import Image

        if self.size is not None and image.size != (self.size, self.size):
            image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None].float()
        blurred = foveal_blur(
            pixels, kernel_size=self.kernel, curve=self.curve, steepness=self.steepness, center=self.center
        )
        return Image.fromarray(blurred[0].round_().clamp_(0, 255).byte().permute(1, 2, 0).contiguous().numpy())


def _check_kernel(kernel_size: int) -> None:
    if kernel_size < 1 or kernel_size % 2 != 1:
        raise InputError(f"kernel_size is {kernel_size}, expected an odd number of pixels, at least 1", where="blur")


def _check_share(curve: str, steepness: float, center: float) -> None:
    if curve not in CURVES:
        raise unknown_name("curve", curve, CURVES, where="blur")
    if not (math.isfinite(steepness) and steepness >= 0):
        raise InputError(f"steepness is {steepness}, expected a number of at least 0", where="blur")
    if not 0 <= center <= 1:
        raise InputError(f"center is {center}, expected 0 to 1", where="blur")
