"""The two filters of visual saliency extraction: Sobel edges and differences of Gaussians, on batches of maps.

Ke, Ye, Liang, Shang: NeuroAlign, manuscript, equations 2, 10, 12 and 13. Pixels beyond the edge are those inside it,
mirrored about the outermost (OpenCV's reflect-101), however far a kernel reaches.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

DEVIATIONS = 4  # a Gaussian kernel reaches this far to each side: OpenCV's own size for floating-point pictures


def edge_map(grey: Tensor, sobel_size: int = 7) -> Tensor:
    """F_e of eq. 10: the Sobel gradient's magnitude, in grey levels a pixel.

    A Sobel kernel is a binomial one (sums of two neighbours, size - 1 times) along one side and, along the other, a
    shorter binomial one and a difference of neighbours two apart; both directions share the shorter sums.

    Parameters
    ----------
    grey : Tensor of shape (n, h, w)
    sobel_size : int

    Returns
    -------
    Tensor of shape (n, h, w)
    """
    values = _padded(grey, sobel_size // 2)
    for dim in (1, 2):
        for _ in range(sobel_size - 3):
            values = _neighbours(values, dim)
    across = _neighbours(_neighbours(values, 1), 1)
    down = _neighbours(_neighbours(values, 2), 2)
    gradient_x, gradient_y = across[:, :, 2:] - across[:, :, :-2], down[:, 2:] - down[:, :-2]
    ramp = 2.0 ** (2 * sobel_size - 3)  # what the kernels give for a ramp of 1 a pixel
    return gradient_x.square_().addcmul_(gradient_y, gradient_y).sqrt_().div_(ramp)


def _neighbours(values: Tensor, dim: int) -> Tensor:
    """Sums of neighbours along a side."""
    last = values.shape[dim] - 1
    return values.narrow(dim, 0, last) + values.narrow(dim, 1, last)


def _padded(values: Tensor, reach: int) -> Tensor:
    """Maps with `reach` mirrored pixels on each side; mirrored again and again where the maps are smaller than that."""
    if reach < min(values.shape[1:]):
        return torch.nn.functional.pad(values[:, None], [reach] * 4, mode="reflect")[:, 0]
    for dim in (1, 2):
        period = max(1, 2 * (values.shape[dim] - 1))
        places = torch.arange(-reach, values.shape[dim] + reach, device=values.device).remainder(period)
        values = values.index_select(dim, torch.minimum(places, period - places) % values.shape[dim])
    return values


def gaussian_kernel(sigma: float) -> Tensor:
    """A Gaussian sampled at whole pixels (eq. 12, 13 along one side), summing to 1, float64.

    Its size is the odd number nearest to 2 x `DEVIATIONS` x sigma + 1 from above, as OpenCV chooses it: radius 4 s for
    whole deviations s.

    Examples
    --------
    >>> [len(gaussian_kernel(sigma)) for sigma in (0.5, 1, 2, 4, 8)]
    [5, 9, 17, 33, 65]
    """
    reach = (round(2 * DEVIATIONS * sigma + 1) | 1) // 2
    places = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-places.square() / (2 * sigma**2))
    return weights / weights.sum()


def difference_of_gaussians(values: Tensor, scales: Sequence[float], surround_weight: float) -> Tensor:
    """Mean over scales s of G_s * values - lambda G_2s * values, the inner part of eq. 2.

    With mirrored borders a symmetric kernel multiplies each cosine of `_cosines` by a number. So all scales together,
    however many and however wide, are one change to that basis along each side, one multiplication, and the way back.
    Every second cosine is symmetric about the middle, the others antisymmetric: sums and differences of opposite pixels
    halve the work along each side.

    Parameters
    ----------
    values : Tensor of shape (n, h, w)
    scales : sequence of float
        Deviations of the centre, pixels.
    surround_weight : float
        lambda.

    Returns
    -------
    Tensor of shape (n, h, w)
    """
    n, height, width = values.shape
    rows, columns = (_half_cosines(side, values.dtype, values.device) for side in (height, width))
    gains = _gains(height, width, tuple(map(float, scales)), surround_weight, values.dtype, values.device)
    halves = []
    for i, half in enumerate(_folded(values, 1)):
        waves = torch.bmm(rows[i][0].expand(n, -1, -1), half)
        quarters = [
            (quarter @ columns[j][0].T).mul_(gains[i][j]) @ columns[j][1].T
            for j, quarter in enumerate(_folded(waves, 2))
        ]
        halves.append(torch.bmm(rows[i][1].expand(n, -1, -1), _unfolded(quarters, 2)))
    return _unfolded(halves, 1)


def _folded(values: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Sums and differences of opposite places, from the outermost to the middle (which is doubled in the sums)."""
    side, turned = values.shape[dim], values.flip(dim)
    sums, differences = side - side // 2, side // 2
    return (
        values.narrow(dim, 0, sums) + turned.narrow(dim, 0, sums),
        values.narrow(dim, 0, differences) - turned.narrow(dim, 0, differences),
    )


def _unfolded(parts: Sequence[Tensor], dim: int) -> Tensor:
    """The sum of a symmetric and an antisymmetric part, both given by their first halves."""
    symmetric, antisymmetric = parts
    pairs, middle = antisymmetric.shape[dim], symmetric.shape[dim] - antisymmetric.shape[dim]
    first = symmetric.narrow(dim, 0, pairs)
    last = (first - antisymmetric).flip(dim)
    return torch.cat([first + antisymmetric, symmetric.narrow(dim, pairs, middle), last], dim)


@functools.lru_cache(maxsize=16)
def _half_cosines(side: int, dtype: torch.dtype, device: torch.device) -> tuple[tuple[Tensor, Tensor], ...]:
    """For symmetric and for antisymmetric cosines: from folded places to cosines, and back to the first half."""
    matrix, half = _cosines(side), side - side // 2
    there = matrix[:, :half].clone()
    if side % 2:
        there[:, -1] /= 2  # the middle came doubled
    even = there[::2], matrix[:half, ::2]
    odd = there[1::2, : side // 2], matrix[: side // 2, 1::2]
    return tuple(tuple(m.to(device=device, dtype=dtype).contiguous() for m in pair) for pair in (even, odd))  # type: ignore[misc]


def _cosines(side: int) -> Tensor:
    """(side, side): the cosine transform of mirrored lines (DCT-I), scaled so that it is its own inverse; float64."""
    places = torch.arange(side, dtype=torch.float64)
    period = max(1, side - 1)
    matrix = torch.cos(math.pi * (torch.outer(places, places) % (2 * period)) / period)
    if side > 1:
        matrix *= math.sqrt(2 / period)
        matrix[:, [0, -1]] /= 2
    return matrix


@functools.lru_cache(maxsize=16)
def _gains(
    height: int, width: int, scales: tuple[float, ...], weight: float, dtype: torch.dtype, device: torch.device
) -> list[list[Tensor]]:
    """What the difference of Gaussians multiplies pairs of cosines by: [even or odd rows][even or odd columns]."""
    shares: dict[float, float] = {}  # a surround may be the centre of the next scale
    for scale in scales:
        shares[scale] = shares.get(scale, 0.0) + 1 / len(scales)
        shares[2 * scale] = shares.get(2 * scale, 0.0) - weight / len(scales)
    total = torch.zeros(height, width, dtype=torch.float64)
    for sigma, share in shares.items():
        total += share * torch.outer(_response(height, sigma), _response(width, sigma))
    total = total.to(device=device, dtype=dtype)
    return [[total[i::2, j::2].contiguous() for j in (0, 1)] for i in (0, 1)]


def _response(side: int, sigma: float) -> Tensor:
    """What a Gaussian multiplies each cosine of `_cosines` by, (side,)."""
    kernel = gaussian_kernel(sigma)
    places = torch.arange(len(kernel), dtype=torch.float64) - len(kernel) // 2
    return torch.cos(math.pi * torch.outer(torch.arange(side).double(), places) / max(1, side - 1)) @ kernel
