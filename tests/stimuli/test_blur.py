"""Foveal blur against scipy, torchvision and numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import correlate1d

from brainalign.errors import InputError
from brainalign.features import extract_features
from brainalign.stimuli import StimulusSet
from brainalign.stimuli.blur import LEVELS, FovealBlur, foveal_blur, gaussian_blur, gaussian_sigma, sharp_share


def kernel(size: int) -> np.ndarray:
    """Eq. 3 along one axis, summing to 1, with OpenCV's deviation for a size."""
    sigma = 0.3 * ((size - 1) * 0.5 - 1) + 0.8
    places = np.arange(size) - (size - 1) / 2
    weights = np.exp(-(places**2) / (2 * sigma**2))
    return weights / weights.sum()


@pytest.mark.parametrize(("size", "shape"), [(51, (64, 80)), (45, (224, 224)), (7, (9, 5)), (1, (4, 4)), (5, (3, 1))])
def test_even_blur_is_scipys(size, shape, rng) -> None:
    picture = rng.random((3, *shape))
    expected = correlate1d(
        correlate1d(picture, kernel(size), axis=1, mode="mirror"), kernel(size), axis=2, mode="mirror"
    )
    found = gaussian_blur(torch.from_numpy(picture)[None], size)[0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_even_blur_is_torchvisions(rng) -> None:
    functional = pytest.importorskip("torchvision.transforms.functional")
    pictures = torch.from_numpy(rng.random((2, 3, 60, 70)).astype(np.float32))
    for size, sigma in ((45, 7.1), (51, 8.0), (57, 8.9)):
        assert gaussian_sigma(size) == pytest.approx(sigma)
        torch.testing.assert_close(
            gaussian_blur(pictures, size), functional.gaussian_blur(pictures, size, sigma), atol=2e-6, rtol=1e-5
        )


def test_kernel_wider_than_the_picture(rng) -> None:
    """Mirrored more than once: scipy does it too."""
    picture = rng.random((5, 6))
    found = gaussian_blur(torch.from_numpy(picture)[None, None], 51)[0, 0]
    once = correlate1d(picture, kernel(51), axis=0, mode="mirror")
    np.testing.assert_allclose(found.numpy(), correlate1d(once, kernel(51), axis=1, mode="mirror"), atol=1e-6)


def test_share_of_the_sharp_picture_by_hand() -> None:
    share = sharp_share(224, 224)
    farthest = math.sqrt(111**2 + 111**2)  # from (112, 112) to (223, 223)
    assert float(share[112, 112]) == 0.5
    assert float(share[223, 223]) == pytest.approx(0.5 * math.exp(-3))
    assert float(share[0, 0]) == pytest.approx(0.5 * math.exp(-3))  # further away, and no less sharp
    assert float(share[112, 212]) == pytest.approx(0.5 * math.exp(-3 * 100 / farthest))
    assert float(share[152, 142]) == pytest.approx(0.5 * math.exp(-3 * 50 / farthest))  # 3-4-5
    assert float(sharp_share(224, 224, steepness=4, center=1)[82, 152]) == pytest.approx(math.exp(-4 * 50 / farthest))
    assert torch.equal(sharp_share(30, 30, steepness=0, center=1), torch.ones(30, 30))
    assert torch.equal(sharp_share(1, 1, center=1), torch.ones(1, 1))
    # not square: the corner is 6 down, 9 to the right
    assert float(sharp_share(14, 20, center=1)[7 + 4, 10 + 3]) == pytest.approx(math.exp(-3 * 5 / math.sqrt(36 + 81)))


def test_other_curves_by_hand() -> None:
    x = 50 / math.sqrt(2 * 111**2)
    for curve, expected in [
        ("linear", 1 - x), ("quadratic", 1 - x * x), ("log", 1 - math.log(1 + (math.e - 1) * x)),
    ]:  # fmt: skip
        share = sharp_share(224, 224, curve=curve, center=1)
        assert float(share[152, 142]) == pytest.approx(expected, abs=1e-6)
        assert (float(share[112, 112]), float(share[223, 223])) == (1, pytest.approx(0, abs=1e-6))


def test_blend(rng) -> None:
    pictures = torch.from_numpy(rng.random((2, 3, 60, 60)))
    blurred = torch.from_numpy(
        correlate1d(correlate1d(pictures.numpy(), kernel(21), axis=2, mode="mirror"), kernel(21), axis=3, mode="mirror")
    )
    found = foveal_blur(pictures, kernel_size=21)
    for row, column in ((30, 30), (0, 0), (10, 45), (59, 59)):
        x = min(1.0, math.hypot(row - 30, column - 30) / math.hypot(29, 29))
        share = 0.5 * math.exp(-3 * x)
        expected = share * pictures[..., row, column] + (1 - share) * blurred[..., row, column]
        torch.testing.assert_close(found[..., row, column], expected, atol=1e-6, rtol=0)
    assert found.dtype == torch.float64
    # the equation's centre, and flat pictures, do not change
    sharp = foveal_blur(pictures, kernel_size=21, center=1)
    assert torch.equal(sharp[..., 30, 30], pictures[..., 30, 30])
    flat = torch.full((1, 3, 40, 40), 0.3)
    torch.testing.assert_close(foveal_blur(flat), flat)
    torch.testing.assert_close(foveal_blur(pictures, kernel_size=1), pictures)


def test_levels_and_keys() -> None:
    assert [FovealBlur(level).kernel for level in LEVELS] == [45, 51, 57]
    assert [FovealBlur(level, kernel_size=21, step=10).kernel for level in LEVELS] == [11, 21, 31]
    varied = [
        FovealBlur(), FovealBlur("low"), FovealBlur("high"), FovealBlur(kernel_size=11), FovealBlur(steepness=4),
        FovealBlur(curve="log"), FovealBlur(center=1), FovealBlur(step=4), FovealBlur(size=None), FovealBlur(size=448),
    ]  # fmt: skip
    assert len({blur.key for blur in varied}) == len(varied)
    assert FovealBlur(steepness=3).key == FovealBlur(steepness=3.0).key
    assert FovealBlur.name == "blur" and varied[0] == FovealBlur(level="medium")


def photograph(rng, width=300, height=200) -> Image.Image:
    coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def test_picture(rng) -> None:
    """Resized first, bilinear, then blurred and rounded."""
    image = photograph(rng)
    found = np.asarray(FovealBlur("high")(image))
    small = np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR)).astype(float)
    blurred = correlate1d(correlate1d(small, kernel(57), axis=0, mode="mirror"), kernel(57), axis=1, mode="mirror")
    y, x = np.mgrid[:224, :224]
    share = 0.5 * np.exp(-3 * np.minimum(1, np.hypot(y - 112, x - 112) / math.hypot(111, 111)))[..., None]
    expected = share * small + (1 - share) * blurred
    assert found.shape == (224, 224, 3) and found.dtype == np.uint8
    assert np.abs(found - expected).max() < 0.5001  # rounding
    assert np.asarray(FovealBlur(size=None)(image)).shape == (200, 300, 3)
    grey = FovealBlur()(image.convert("L"))
    assert grey.mode == "RGB" and grey.size == (224, 224)
    edges = [np.abs(np.diff(np.asarray(FovealBlur(level)(image)).astype(float), axis=1)).mean() for level in LEVELS]
    assert edges[0] > edges[1] > edges[2]


def test_in_a_feature_bank(image_folder, tmp_path) -> None:
    folder, _ = image_folder
    stimuli = StimulusSet.from_folder(folder)
    how = {"cache_dir": tmp_path / "cache", "weights": "random", "image_size": 64}
    plain, low, high = (
        extract_features(stimuli, "timm:test_efficientnet", "final", ["final"], transform=transform, **how)
        for transform in (None, FovealBlur("low"), FovealBlur("high"))
    )
    banks = [found["final", "final"] for found in (plain, low, high)]
    rows = [np.asarray(bank.array, dtype=float) for bank in banks]
    assert np.abs(rows[0] - rows[1]).max() > np.abs(rows[1] - rows[2]).max() > 0
    assert len({bank.folder for bank in banks}) == 3


def test_refusals() -> None:
    pictures = torch.zeros(1, 3, 8, 8)
    for call, problem in [
        (lambda: foveal_blur(pictures, kernel_size=50), "kernel_size is 50, expected an odd number"),
        (lambda: foveal_blur(pictures, kernel_size=-1), "kernel_size is -1"),
        (lambda: foveal_blur(pictures, curve="expp"), "unknown curve 'expp'; did you mean 'exp'"),
        (lambda: foveal_blur(pictures, steepness=-1), "steepness is -1"),
        (lambda: foveal_blur(pictures, steepness=math.nan), "steepness is nan"),
        (lambda: foveal_blur(pictures, center=1.5), "center is 1.5, expected 0 to 1"),
        (lambda: foveal_blur(pictures[0]), r"got \(3, 8, 8\) of torch.float32, expected pictures"),
        (lambda: foveal_blur(pictures.byte()), "torch.uint8, expected pictures"),
        (lambda: FovealBlur("strong"), "unknown level of blur 'strong'"),
        (lambda: FovealBlur(step=5), "step is 5, expected an even number from 0 to 50"),
        (lambda: FovealBlur(kernel_size=5), "step is 6, expected an even number from 0 to 4"),
        (lambda: FovealBlur(size=3), "size is 3, expected 16 to 4096"),
    ]:
        with pytest.raises(InputError, match=problem) as caught:
            call()
        assert "\n" not in str(caught.value)
