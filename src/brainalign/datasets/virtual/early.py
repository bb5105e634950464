"""What the first visual areas see: oriented contrast energy, local contrast and colour, on a coarse grid."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SIZE = 64
GRID = 4
ORIENTATIONS = 6
CYCLES_PER_IMAGE = (5.0, 10.0, 20.0)


def early_features(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Features of the early pathway.

    For each of 4 x 4 cells: root of the quadrature energy of 3 x 6 oriented filters, standard deviation of the
    luminance, means of luminance and of the two opponent colours (red-green, blue-yellow).

    Parameters
    ----------
    images : array of shape (n_images, height, width, 3), uint8
        Height and width are multiples of 64.

    Returns
    -------
    array of shape (n_images, 352), float32

    Examples
    --------
    >>> import numpy as np
    >>> early_features(np.zeros((2, 64, 64, 3), np.uint8)).shape
    (2, 352)
    """
    return np.stack([_one(image) for image in images]).astype(np.float32)


def early_cells() -> NDArray[np.intp]:
    """Cell of the picture that each feature describes, row by row from the top left, (352,)."""
    n_cells = GRID * GRID
    return np.tile(np.arange(n_cells), 4 + ORIENTATIONS * len(CYCLES_PER_IMAGE))


def _one(image: NDArray[np.uint8]) -> Array:
    side = image.shape[0] // SIZE
    small = image.reshape(SIZE, side, SIZE, -1, 3).mean(axis=(1, 3)) / 255.0
    red, green, blue = np.moveaxis(small, 2, 0)
    luminance = 0.299 * red + 0.587 * green + 0.114 * blue
    spectrum = np.fft.fft2(luminance - luminance.mean())
    energy = np.abs(np.fft.ifft2(spectrum * oriented_filters())) ** 2
    maps = np.concatenate([np.stack([luminance, red - green, blue - (red + green) / 2]), energy])
    means = _cells(maps).mean(axis=(-2, -1))
    contrast = _cells(luminance[None]).std(axis=(-2, -1))
    means[3:] = np.sqrt(means[3:])
    return np.concatenate([means, contrast]).ravel()


def _cells(maps: Array) -> Array:
    """Cut maps into a 4 x 4 grid: (n, 64, 64) to (n, 4, 4, 16, 16)."""
    step = SIZE // GRID
    return maps.reshape(len(maps), GRID, step, GRID, step).transpose(0, 1, 3, 2, 4)


@functools.cache
def oriented_filters() -> Array:
    """Transfer functions that pass one octave and one orientation, on one half plane, (18, 64, 64).

    On one half plane the filtered image is complex: its squared modulus is the energy of a quadrature pair.
    """
    fy, fx = np.meshgrid(np.fft.fftfreq(SIZE) * SIZE, np.fft.fftfreq(SIZE) * SIZE, indexing="ij")
    radius, angle = np.hypot(fx, fy), np.arctan2(fy, fx)
    bank = []
    for centre in CYCLES_PER_IMAGE:
        octaves = np.log2(np.maximum(radius, 1e-9) / centre)
        for turn in np.arange(ORIENTATIONS) * np.pi / ORIENTATIONS:
            away = np.angle(np.exp(1j * (angle - turn)))
            bank.append(np.exp(-0.5 * (octaves / 0.5) ** 2 - 0.5 * (away / (np.pi / ORIENTATIONS / 1.2)) ** 2))
    return np.stack(bank)
