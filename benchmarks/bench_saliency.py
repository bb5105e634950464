"""Visual saliency extraction of a batch against the same equations written plainly, picture by picture.

    python benchmarks/bench_saliency.py [--threads 1] [--rounds 9] [--images 64] [--size 224]

`scipy`: numpy and scipy.ndimage, one picture after another, every Gaussian on its own (six for three scales). `opencv`:
the same with OpenCV's filters, where it is installed. `maps`: `visual_saliency`, all maps of the batch. `enhance`: the
enhanced pictures alone. `single`: `enhance`, one picture at a time. `transform`: what a recipe's `vse` does to pictures
of this size, 8-bit in and out. All in float32. `per_s` are pictures a second by the median round; the target is 100.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import harness
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from brainalign.stimuli.saliency import VisualSaliency, enhance, visual_saliency

SCALES, WEIGHT, GAMMA, ETA, TARGET = (1, 2, 4), 0.5, 1.2, 1.0, 100
SMOOTH = np.array([1, 6, 15, 20, 15, 6, 1], dtype=np.float32)
DERIVE = np.array([-1, -4, -5, 0, 5, 4, 1], dtype=np.float32)
RAMP = float(2**11)
Map = NDArray[np.float32]
Gradient = Callable[[Map, int], Map]
Blur = Callable[[Map, float], Map]


def written_out(picture: Map, gradient: Gradient, blur: Blur) -> dict[str, Map]:
    """Equations 1 to 3, 10 and 11 for a picture (h, w, 3)."""
    grey = picture @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    edges = np.sqrt(gradient(grey, 0) ** 2 + gradient(grey, 1) ** 2)
    luminance, contrast = np.abs(grey - grey.mean()), np.abs(grey - grey.std())
    red, green, blue = picture[..., 0], picture[..., 1], picture[..., 2]
    color = 2 * (np.abs(red - green) + np.abs(red - blue) + np.abs(green - blue))
    exogenous = (luminance + contrast + color) / 3
    saliency = gate(edges) - gate(exogenous) + ETA
    response = sum(blur(saliency, scale) - WEIGHT * blur(saliency, 2 * scale) for scale in SCALES) / len(SCALES)
    antagonism = normalized(np.abs(response) ** GAMMA)
    return {"edges": edges, "antagonism": antagonism, "enhanced": picture * antagonism[..., None]}


def normalized(values: Map) -> Map:
    low = values.min()
    return (values - low) / (values.max() - low)


def gate(values: Map) -> Map:
    return 1 / (1 + np.exp(-normalized(values)))


def scipy_gradient(grey: Map, axis: int) -> Map:
    along = ndimage.correlate1d(grey, DERIVE, axis=axis, mode="mirror")
    return ndimage.correlate1d(along, SMOOTH, axis=1 - axis, mode="mirror") / RAMP


def scipy_blur(values: Map, sigma: float) -> Map:
    return ndimage.gaussian_filter(values, sigma, mode="mirror", truncate=4)


def opencv_filters(threads: int) -> tuple[Gradient, Blur] | None:
    """OpenCV's filters, None where it is not installed."""
    try:
        import cv2
    except ImportError:
        return None
    cv2.setNumThreads(threads)
    border = cv2.BORDER_REFLECT_101

    def gradient(grey: Map, axis: int) -> Map:
        return cv2.Sobel(grey, cv2.CV_32F, axis, 1 - axis, ksize=7, scale=1 / RAMP, borderType=border)

    def blur(values: Map, sigma: float) -> Map:
        return cv2.GaussianBlur(values, (0, 0), sigma, borderType=border)

    return gradient, blur


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--size", type=int, default=224)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    coarse = torch.rand(given.images, 3, 16, 16)
    images = torch.nn.functional.interpolate(coarse, (given.size, given.size), mode="bicubic").clamp_(0, 1)
    arrays = [image.permute(1, 2, 0).contiguous().numpy() for image in images]
    pictures = [Image.fromarray((array * 255).astype(np.uint8)) for array in arrays]
    transform = VisualSaliency(size=given.size)
    ways: dict[str, Callable[[], object]] = {
        "scipy": lambda: [written_out(array, scipy_gradient, scipy_blur) for array in arrays],
        "maps": lambda: visual_saliency(images),
        "enhance": lambda: enhance(images),
        "single": lambda: [enhance(image[None]) for image in images],
        "transform": lambda: [transform(picture) for picture in pictures],
    }
    checked = {"scipy": (scipy_gradient, scipy_blur)}
    filters = opencv_filters(given.threads)
    if filters is not None:
        ways["opencv"] = lambda: [written_out(array, *filters) for array in arrays]
        checked["opencv"] = filters
    ours = enhance(images[:1])[0].permute(1, 2, 0).numpy()
    for name, pair in checked.items():  # the same thing is timed
        difference = float(np.abs(written_out(arrays[0], *pair)["enhanced"] - ours).max())
        if difference > 1e-4:
            raise SystemExit(f"{name} differs from enhance by {difference}")
    found: dict[str, Any] = harness.compare(ways, baseline="scipy", rounds=given.rounds)
    for times in found.values():
        times["per_s"] = round(given.images / times["median_s"])
    found["within_target"] = found["maps"]["per_s"] >= TARGET
    found["setting"] = {"images": given.images, "size": given.size, "dtype": "float32", "target_per_s": TARGET}
    harness.write(f"saliency-threads{given.threads}", found)


if __name__ == "__main__":
    main()
