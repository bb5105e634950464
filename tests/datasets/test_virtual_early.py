"""The early pathway's features on pictures whose content is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from brainalign.datasets.virtual.early import CYCLES_PER_IMAGE, early_features

GREY = 128


def maps(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(22, 4, 4): luminance, red-green, blue-yellow, 18 energies, contrast."""
    return early_features(image[None])[0].reshape(22, 4, 4)


def grating(cycles: float, degrees: float, size: int = 128) -> NDArray[np.uint8]:
    y, x = np.mgrid[:size, :size] / size
    turn = np.deg2rad(degrees)
    wave = np.cos(2 * np.pi * cycles * (x * np.cos(turn) + y * np.sin(turn)))
    return np.repeat((GREY + 80 * wave).astype(np.uint8)[:, :, None], 3, axis=2)


@pytest.mark.parametrize("scale", range(3))
@pytest.mark.parametrize("turn", range(6))
def test_a_grating_excites_its_own_filter_most(scale: int, turn: int) -> None:
    found = maps(grating(CYCLES_PER_IMAGE[scale], 30.0 * turn))[3:21].mean(axis=(1, 2))
    assert int(found.argmax()) == scale * 6 + turn


def test_energy_does_not_depend_on_phase() -> None:
    one = grating(10, 0)
    np.testing.assert_allclose(maps(one)[3:21], maps(np.roll(one, 6, axis=1))[3:21], atol=0.02)


def test_colour_luminance_and_contrast_stay_in_their_cell() -> None:
    image = np.full((128, 128, 3), GREY, dtype=np.uint8)
    image[32:64, 96:] = (228, 28, GREY)
    found = maps(image)
    assert found[1, 1, 3] == pytest.approx(200 / 255, abs=1e-5)
    assert np.abs(np.delete(found[1].ravel(), 7)).max() < 1e-6
    assert np.allclose(found[21], 0, atol=1e-6)  # every cell is uniform
    image[::8] = 0
    assert maps(image)[21].min() > 0.05
