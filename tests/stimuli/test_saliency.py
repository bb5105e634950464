"""Visual saliency against plain numpy with scipy's and OpenCV's filters, and numbers worked out by hand."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from brainalign.errors import InputError
from brainalign.features import extract_features
from brainalign.stimuli import StimulusSet, saliency
from brainalign.stimuli.saliency import MAPS, VisualSaliency, enhance, visual_saliency

SOBEL = {  # size: (smoothing, derivative), what OpenCV documents
    3: ([1, 2, 1], [-1, 0, 1]),
    5: ([1, 4, 6, 4, 1], [-1, -2, 0, 2, 1]),
    7: ([1, 6, 15, 20, 15, 6, 1], [-1, -4, -5, 0, 5, 4, 1]),
}
REACH = {0.7: 3, 1: 4, 1.4: 6, 2: 8, 3: 12, 4: 16, 6: 24, 8: 32, 20: 80, 40: 160}  # 4 deviations to each side


class Scipy:
    """Filters of scipy.ndimage; 'mirror' is reflection about the outermost pixel."""

    @staticmethod
    def sobel(grey: np.ndarray, size: int, axis: int) -> np.ndarray:
        smoothing, derivative = (np.array(taps, dtype=float) for taps in SOBEL[size])
        ramp = smoothing.sum() * (derivative @ np.arange(size))
        found = ndimage.correlate1d(grey, derivative, axis=axis, mode="mirror")
        return ndimage.correlate1d(found, smoothing, axis=1 - axis, mode="mirror") / ramp

    @staticmethod
    def gaussian(values: np.ndarray, sigma: float) -> np.ndarray:
        return ndimage.gaussian_filter(values, sigma, mode="mirror", radius=REACH[sigma])


class OpenCV:
    """Filters of OpenCV, kernel sizes chosen by itself."""

    @staticmethod
    def sobel(grey: np.ndarray, size: int, axis: int) -> np.ndarray:
        cv2 = pytest.importorskip("cv2")
        smoothing, derivative = (np.array(taps, dtype=float) for taps in SOBEL[size])
        ramp = smoothing.sum() * (derivative @ np.arange(size))
        border = cv2.BORDER_REFLECT_101
        return cv2.Sobel(grey, cv2.CV_64F, axis, 1 - axis, ksize=size, borderType=border) / ramp

    @staticmethod
    def gaussian(values: np.ndarray, sigma: float) -> np.ndarray:
        cv2 = pytest.importorskip("cv2")
        return cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)


def written_out(
    picture: np.ndarray,
    filters: type,
    sobel_size=7,
    scales=(1, 2, 4),
    surround_weight=0.5,
    exponent=1.2,
    alphas=(1 / 3, 1 / 3, 1 / 3),
    eta=1.0,
    normalize="minmax",
) -> dict[str, np.ndarray]:
    """The equations one after another for one picture (3, h, w)."""

    def norm(x: np.ndarray) -> np.ndarray:
        return (x - x.min()) / (x.max() - x.min()) if normalize == "minmax" else (x - x.mean()) / x.std()

    def gate(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-norm(x)))

    def scaled(s: float) -> np.ndarray:
        return filters.gaussian(salient, s) - surround_weight * filters.gaussian(salient, 2 * s)

    grey = 0.299 * picture[0] + 0.587 * picture[1] + 0.114 * picture[2]
    across, down = filters.sobel(grey, sobel_size, 1), filters.sobel(grey, sobel_size, 0)
    edges = np.sqrt(across**2 + down**2)
    luminance, contrast = np.abs(grey - grey.mean()), np.abs(grey - grey.std())
    color = sum(np.abs(picture[i] - picture[j]) for i in range(3) for j in range(3) if i != j)
    exogenous = alphas[0] * luminance + alphas[1] * contrast + alphas[2] * color
    salient = gate(edges) - gate(exogenous) + eta
    antagonism = norm(np.abs(np.mean([scaled(s) for s in scales], axis=0)) ** exponent)
    return {
        "edges": edges, "luminance": luminance, "contrast": contrast, "color": color, "exogenous": exogenous,
        "saliency": salient, "antagonism": antagonism, "enhanced": picture * antagonism,
    }  # fmt: skip


VARIED = {
    "Table 3": {},
    "other filters": {"sobel_size": 3, "scales": (0.7, 3), "surround_weight": 0.8, "exponent": 2.0},
    "other gate": {"sobel_size": 5, "alphas": (0.2, 0.0, 0.7), "eta": 0.05},
    "z-scores": {"normalize": "zscore", "eta": 0.5},
    "wide kernels": {"scales": (2, 20)},
    "no surround": {"scales": (3,), "surround_weight": 0.0},
}


@pytest.mark.parametrize("filters", [Scipy, OpenCV])
@pytest.mark.parametrize("options", VARIED.values(), ids=VARIED)
@pytest.mark.parametrize("shape", [(31, 44), (24, 17), (9, 5)])
def test_equations(shape, options, filters, rng) -> None:
    pictures = rng.random((2, 3, *shape))
    pictures[1, 2] = 0.4  # one channel constant
    found = visual_saliency(torch.from_numpy(pictures), **options)
    single = visual_saliency(torch.from_numpy(pictures.astype(np.float32)), **options)
    assert tuple(found) == MAPS
    for i, picture in enumerate(pictures):
        for name, expected in written_out(picture, filters, **options).items():
            np.testing.assert_allclose(found[name][i].numpy(), expected, rtol=1e-6, atol=1e-12, err_msg=name)
            np.testing.assert_allclose(single[name][i].numpy(), expected, rtol=1e-4, atol=2e-5, err_msg=name)


def test_a_picture_of_the_usual_size(rng) -> None:
    picture = ndimage.gaussian_filter(rng.random((3, 224, 224)), (0, 3, 3))
    picture = (picture - picture.min()) / np.ptp(picture)
    found = visual_saliency(torch.from_numpy(picture)[None])
    for name, expected in written_out(picture, Scipy).items():
        np.testing.assert_allclose(found[name][0].numpy(), expected, rtol=1e-6, atol=1e-12, err_msg=name)
    fast = enhance(torch.from_numpy(picture).float()[None])[0]
    np.testing.assert_allclose(fast.numpy(), found["enhanced"][0].numpy(), atol=2e-5)


def test_two_pixels_by_hand() -> None:
    """Black beside red of .5: without edges (mirrored, no gradient), so colour and light alone decide."""
    pictures = torch.zeros(1, 3, 1, 2, dtype=torch.float64)
    pictures[0, 0, 0, 1] = 0.5
    grey = 0.299 * 0.5
    found = visual_saliency(pictures, scales=(0.1,), surround_weight=0.0)  # so narrow that pixels stay alone
    half = grey / 2  # mean and deviation of (0, grey)
    assert found["edges"].flatten().tolist() == [0, 0]
    for name in ("luminance", "contrast"):
        assert found[name].flatten().tolist() == pytest.approx([half, half])
    assert found["color"].flatten().tolist() == [0, 2]  # |R - G| and |R - B|, in both orders
    assert found["exogenous"].flatten().tolist() == pytest.approx([2 * half / 3, (2 * half + 2) / 3])
    assert found["saliency"].flatten().tolist() == pytest.approx([1, 1.5 - 1 / (1 + math.exp(-1))])
    assert found["antagonism"].flatten().tolist() == [1, 0]  # what stands out without an edge falls back
    assert found["enhanced"].flatten().tolist() == [0] * 6
    folded = visual_saliency(pictures, scales=(0.1,), surround_weight=0.0, eta=0.0)
    assert folded["antagonism"].flatten().tolist() == [0, 1]  # |-.23| is more than 0: eta decides
    assert folded["enhanced"].flatten().tolist() == [0, 0.5, 0, 0, 0, 0]


def test_edges_by_hand() -> None:
    ramp = torch.arange(12, dtype=torch.float64).expand(9, 12) / 20
    for size in (3, 5, 7):
        reach = size // 2
        edges = visual_saliency(ramp.expand(1, 3, 9, 12), sobel_size=size)["edges"][0, :, reach:-reach]
        torch.testing.assert_close(edges, torch.full_like(edges, 1 / 20))  # grey levels a pixel
    step = torch.tensor([0.0, 0, 1, 1], dtype=torch.float64).expand(1, 3, 4, 4)
    found = visual_saliency(step, sobel_size=3)["edges"]
    torch.testing.assert_close(found[0], torch.tensor([0, 0.5, 0.5, 0], dtype=torch.float64).expand(4, 4))


@pytest.mark.parametrize("normalize", ["minmax", "zscore"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_flat_pictures_end_black_whatever_their_size(normalize, dtype, rng) -> None:
    for height, width in ((1, 1), (7, 13), (64, 64), (33, 101)):
        color = torch.from_numpy(rng.random((3, 3, 1, 1))).to(dtype)
        for options in ({}, {"eta": 0.0}, {"eta": 100.0, "alphas": (50, 100, 200)}, {"exponent": 10}):
            found = visual_saliency(color.expand(3, 3, height, width), normalize=normalize, **options)
            assert float(found["edges"].max()) < 1e-6
            assert float(found["luminance"].max()) < 1e-6
            assert bool((found["saliency"] == options.get("eta", 1.0)).all())  # both gates are open by half
            for name in ("antagonism", "enhanced"):
                assert float(found[name].abs().max()) == 0, "rounding was blown up"


def test_an_edge_stays_bright_and_flat_ground_goes_dark() -> None:
    picture = torch.full((1, 3, 64, 64), 0.35)
    picture[:, :, 20:44, 20:44] = torch.tensor([0.9, 0.8, 0.1])[:, None, None]
    response = visual_saliency(picture)["antagonism"][0]
    edge, ground, inside = float(response[32, 20]), float(response[4, 4]), float(response[32, 32])
    assert edge > 0.75 > ground > inside  # inside: much colour, no edge


def test_a_batch_is_its_pictures_one_by_one(rng, monkeypatch) -> None:
    pictures = torch.from_numpy(rng.random((7, 3, 20, 26)))
    together = visual_saliency(pictures)
    assert {name: tuple(found.shape) for name, found in together.items()} == {
        name: (7, 3, 20, 26) if name == "enhanced" else (7, 20, 26) for name in MAPS
    }
    single = [visual_saliency(picture[None]) for picture in pictures]
    monkeypatch.setattr(saliency, "CPU_PIXELS", 3 * 20 * 26)  # three at once, then the last alone
    parts = visual_saliency(pictures)
    assert set(parts) == set(MAPS)
    for name, found in together.items():
        torch.testing.assert_close(found, torch.cat([one[name] for one in single]), rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(found, parts[name], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(enhance(pictures), together["enhanced"], rtol=1e-10, atol=1e-12)
    assert visual_saliency(pictures[:0])["antagonism"].shape == (0, 20, 26)


def test_pictures_are_left_as_they_were(rng) -> None:
    pictures = torch.from_numpy(rng.random((2, 3, 12, 12)))
    before = pictures.clone()
    visual_saliency(pictures)
    enhance(pictures)
    assert torch.equal(pictures, before)
    turned = pictures.permute(0, 1, 3, 2)  # any order in memory
    torch.testing.assert_close(enhance(turned), enhance(turned.contiguous()))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu(rng) -> None:
    pictures = torch.from_numpy(rng.random((5, 3, 40, 56)))
    here, there = visual_saliency(pictures), visual_saliency(pictures.cuda())
    for name in MAPS:
        assert there[name].is_cuda
        torch.testing.assert_close(there[name].cpu(), here[name], rtol=1e-8, atol=1e-10)
    rounded = visual_saliency(pictures.float().cuda())["enhanced"].cpu()
    torch.testing.assert_close(rounded, here["enhanced"].float(), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"sobel_size": 4}, "sobel_size is 4, expected an odd number from 3 to 31"),
        ({"sobel_size": 33}, "sobel_size is 33"),
        ({"sobel_size": 7.0}, "sobel_size is 7.0"),
        ({"scales": ()}, "scales are none, expected one or more"),
        ({"scales": (1, 0)}, "scales are 1,0, expected one or more above 0, at most 256"),
        ({"scales": (300,)}, "at most 256 pixels"),
        ({"scales": 2}, "scales is 2, expected numbers"),
        ({"alphas": (1, 1)}, "alphas are 1,1, expected three numbers"),
        ({"alphas": (1, 1, -1)}, "alphas are 1,1,-1"),
        ({"surround_weight": -0.5}, "surround_weight is -0.5"),
        ({"alphas": (1, 1, math.nan)}, "alphas are 1,1,nan, expected three numbers from 0 to"),
        ({"surround_weight": math.nan}, "surround_weight is nan, expected 0 to 10"),
        ({"exponent": 0}, "exponent is 0"),
        ({"exponent": 11}, "exponent is 11, expected above 0, at most 10"),
        ({"eta": math.nan}, "eta is nan, expected -100 to 100"),
        ({"eta": -200}, "eta is -200"),
        ({"eta": "much"}, "eta is 'much', expected a number"),
        ({"normalize": "min-max"}, "unknown normalization 'min-max'; did you mean 'minmax'"),
    ],
)
def test_options_refused(options, problem) -> None:
    pictures = torch.rand(1, 3, 8, 8)
    for call in (lambda: visual_saliency(pictures, **options), lambda: VisualSaliency(**options)):
        with pytest.raises(InputError, match=problem) as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pictures", "problem"),
    [
        (torch.rand(3, 8, 8), r"got \(3, 8, 8\) of float32, expected pictures \(n, 3, height, width\)"),
        (torch.rand(2, 1, 8, 8), r"got \(2, 1, 8, 8\)"),
        (torch.rand(2, 3, 0, 8), r"got \(2, 3, 0, 8\)"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "of uint8, expected float32 or float64"),
        (torch.rand(2, 3, 8, 8).half(), "of float16, expected float32 or float64"),
        (torch.full((1, 3, 8, 8), 255.0), "pixels lie in 255 to 255, expected 0 to 1; divide pixels by 255"),
        (torch.full((1, 3, 8, 8), math.nan), "pixels lie in nan to nan"),
        (torch.zeros(1, 3, 1, 8193), "sides of at most 8192"),
    ],
)
def test_pictures_refused(pictures, problem) -> None:
    with pytest.raises(InputError, match=problem):
        enhance(pictures)


def test_extreme_options_do_not_overflow(rng) -> None:
    pictures = torch.from_numpy(rng.random((1, 3, 16, 16)).astype(np.float32))
    for weight in (0, 10):
        found = visual_saliency(pictures, exponent=10, eta=-100, surround_weight=weight, alphas=(1e6, 1e6, 1e6))
        assert all(bool(values.isfinite().all()) for values in found.values())
        assert float(found["antagonism"].max()) == 1


def test_unknown_option_of_the_fast_path() -> None:
    with pytest.raises(InputError, match=r"unknown option 'gamma'.*exponent"):
        enhance(torch.rand(1, 3, 8, 8), gamma=1.2)


def photograph(rng, width=150, height=100) -> Image.Image:
    coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def test_transform_of_a_picture(rng) -> None:
    """The shorter side is resized first, then the equations, then rounding to 8 bits."""
    image = photograph(rng)
    found = np.asarray(VisualSaliency(size=64)(image))
    small = np.asarray(image.resize((96, 64), Image.Resampling.BILINEAR)).astype(float) / 255
    expected = written_out(small.transpose(2, 0, 1), Scipy)["enhanced"].transpose(1, 2, 0) * 255
    assert found.shape == (64, 96, 3)
    assert found.dtype == np.uint8
    assert np.abs(found - expected).max() < 0.51
    assert VisualSaliency(size=None)(image).size == (150, 100)
    assert VisualSaliency()(image).size == (336, 224)
    grey = VisualSaliency(size=32)(image.convert("L"))
    assert grey.mode == "RGB"
    negative = np.asarray(VisualSaliency(size=32, normalize="zscore")(image))  # cut at 0, not wrapped around
    assert (negative == 0).mean() > 0.2
    with pytest.raises(InputError, match="has 5 x 100 pixels, one side above 16 times"):
        VisualSaliency()(Image.new("RGB", (5, 100)))
    with pytest.raises(InputError, match="size is 3, expected 16 to 512"):
        VisualSaliency(size=3)


def test_threads_share_a_transform(rng) -> None:
    images = [photograph(rng, 40 + i, 40) for i in range(12)]
    transform = VisualSaliency(size=32)
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(transform, images))
    for image, found in zip(images, together, strict=True):
        assert np.array_equal(np.asarray(found), np.asarray(transform(image)))


OTHERS = {
    "sobel_size": 5, "scales": (1, 2), "surround_weight": 0.4, "exponent": 1.0, "alphas": (1, 0, 0), "eta": 0.5,
    "normalize": "zscore", "size": None,
}  # fmt: skip


def test_key_holds_every_option() -> None:
    varied = [VisualSaliency(), *(VisualSaliency(**{name: value}) for name, value in OTHERS.items())]
    assert len({transform.key for transform in varied}) == len(varied) == 9
    assert VisualSaliency(scales=[1, 2, 4], eta=1) == VisualSaliency()
    assert VisualSaliency(scales=[1, 2, 4], eta=1).key == VisualSaliency().key
    assert hash(VisualSaliency(scales=[1, 2])) == hash(VisualSaliency(scales=(1.0, 2.0)))
    assert VisualSaliency.name == "vse"


def test_in_a_feature_bank(image_folder, tmp_path) -> None:
    folder, _ = image_folder
    stimuli = StimulusSet.from_folder(folder)
    how = {"cache_dir": tmp_path / "cache", "weights": "random", "image_size": 64}
    banks = [
        extract_features(stimuli, "timm:test_efficientnet", "final", ["final"], transform=transform, **how)[
            "final", "final"
        ]
        for transform in (None, VisualSaliency(), VisualSaliency(eta=0.1))
    ]
    assert len({bank.folder for bank in banks}) == 3
    rows = [np.asarray(bank.array, dtype=float) for bank in banks]
    assert np.abs(rows[0] - rows[1]).max() > 0.01
    assert np.abs(rows[1] - rows[2]).max() > 0
