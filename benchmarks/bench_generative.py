"""The whole closed-form fit at the size of THINGS-EEG2, and scoring 200 signals against 200 images; made data.

    python benchmarks/bench_generative.py [--images 16540] [--threads 2] [--chans 17] [--times 250] [--layers 7]
                                          [--width 300]

`floor` is the time that the matrix products of the fit would take at the speed of one large float64 product on this
machine; `share_of_floor` divides it by the time the fit took. Peak memory is that of the process, the data included.
"""

from __future__ import annotations

import argparse
import resource
import time

import harness
import numpy as np
import torch

from brainalign.alignment import MixedTargets, Targets
from brainalign.alignment.generative import PENALTIES, PROBED_IMAGES, PROBED_OUTPUTS, GenerativeAligner
from brainalign.protocols import Split
from brainalign.recipes import load_recipe
from brainalign.recordings import Recording

VALIDATION = 200


def made(n: int, chans: int, times: int, layers: int, width: int) -> tuple[Recording, MixedTargets, Split]:
    """Signals that are a noisy linear map of the features."""
    rng = np.random.default_rng(0)
    ids = [f"i{i:05d}" for i in range(n + VALIDATION)]
    rows = {name: row for row, name in enumerate(ids)}
    bands = tuple(
        Targets(rng.standard_normal((len(ids), width), dtype=np.float32), rows, "made", str(i), "mean", i / layers)
        for i in range(layers)
    )
    signals = rng.standard_normal((len(ids), chans * times), dtype=np.float32)
    mixing = rng.standard_normal((width, chans * times), dtype=np.float32) / np.sqrt(width)
    for band in bands:
        signals += band.array @ mixing / layers
    recording = Recording.from_arrays(
        signals.reshape(len(ids), chans, times), ids, modality="eeg", sfreq=250.0, check_finite=False
    )
    return (
        recording,
        MixedTargets(bands),
        Split("own/intra/v1", 0, tuple(ids[:n]), tuple(ids[n:]), (), "image-disjoint"),
    )


def operations(n: int, d: int, p: int) -> float:
    """Floating point operations of the products of a primal fit: sums, penalty, residuals, covariance, shrinkage."""
    probed = len(range(0, p, max(1, p // PROBED_OUTPUTS)))
    sums = n * d * (d + 2 * p)  # the Gram matrix is symmetric
    penalty = 2 * min(n, PROBED_IMAGES) * d * (d + len(PENALTIES) * probed)
    residuals = 2 * n * d * (d + p) + n * p * p
    shrinkage = 10 * (p**3 / 3 + p * p * VALIDATION * 2)
    return float(sums + penalty + residuals + shrinkage + 2 * d * d * p + 9 * d**3)


def product_speed() -> float:
    """Operations a second of one large float64 product."""
    a = torch.randn(2048, 2048, dtype=torch.float64)
    a @ a
    began = time.perf_counter()
    a @ a
    return 2 * 2048**3 / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (
        ("images", 16540),
        ("threads", 2),
        ("chans", 17),
        ("times", 250),
        ("layers", 7),
        ("width", 300),
    ):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    recording, targets, split = made(given.images, given.chans, given.times, given.layers, given.width)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    words = ["signals.channels=all", "signals.tmin=null", "signals.tmax=null", "target.components=null"]
    recipe = load_recipe("generative", modality="eeg", overrides=words)
    recipe = recipe.with_target(layer=targets.layer, pooling="mean")
    speed = product_speed()
    aligner = GenerativeAligner(recipe)
    began = time.perf_counter()
    fit = aligner.fit([recording], {"image": targets}, split)
    seconds = time.perf_counter() - began
    few = split.validation
    signals, images = recording.average(few), {"image": targets.of(few)}
    began = time.perf_counter()
    aligner.similarity(signals, images)
    scoring = time.perf_counter() - began
    floor = operations(given.images, given.layers * given.width, given.chans * given.times) / speed
    harness.write(
        f"generative-images{given.images}-threads{given.threads}",
        {
            "fit_s": round(seconds, 1),
            "scoring_200_by_200_s": round(scoring, 2),
            "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
            "data_gb": round(before / 2**20, 2),
            "form": aligner.facts["form"],
            "validation_top1": fit.chosen["validation_top1"],
            "floor_s": round(floor, 1),
            "share_of_floor": round(floor / seconds, 2),
            "float64_gflops": round(speed / 1e9, 1),
            "setting": vars(given),
        },
    )


if __name__ == "__main__":
    main()
