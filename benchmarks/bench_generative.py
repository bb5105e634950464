"""The whole closed-form fit at the size of THINGS-EEG2, and scoring 200 signals against 200 images; made data.

    python benchmarks/bench_generative.py [--images 16540] [--threads 2] [--chans 17] [--times 250] [--layers 7]
                                          [--width 300] [--repetitions 1]

`floor` is the time that the matrix products of the fit would take at the speed of one large float64 product on this
machine, before or after the fit, whichever was faster; `share_of_floor` divides it by the time the fit took. Of
symmetric products one half is counted. `peak_gb` is the process at its largest, making the data included; `fit_gb` is
what the fit added to what was held before it. With `--repetitions` above 1 the fit learns the noise of a trial and
queries are single trials; the floor then leaves out the eigenvectors that dividing the noise may take. `load_before`
is the load average before the fit began; the one of the machine, at the end, has the benchmark in it.
"""

from __future__ import annotations

import argparse
import os
import resource
import threading
import time
from pathlib import Path

import harness
import numpy as np
import torch

from brainalign.alignment import MixedTargets, Targets
from brainalign.alignment.generative import PENALTIES, PROBED_IMAGES, PROBED_OUTPUTS, GenerativeAligner
from brainalign.protocols import Split
from brainalign.recipes import load_recipe
from brainalign.recordings import Recording
from brainalign.recordings.trial_noise import MAX_STIMULI, SPLITS

VALIDATION = 200


def made(
    n: int, chans: int, times: int, layers: int, width: int, repetitions: int
) -> tuple[Recording, MixedTargets, Split]:
    """Signals that are a noisy linear map of the features."""
    rng = np.random.default_rng(0)
    ids = [f"i{i:05d}" for i in range(n + VALIDATION)]
    rows = {name: row for row, name in enumerate(ids)}
    bands = tuple(
        Targets(rng.standard_normal((len(ids), width), dtype=np.float32), rows, "made", str(i), "mean", i / layers)
        for i in range(layers)
    )
    signals = rng.standard_normal((repetitions, len(ids), chans * times), dtype=np.float32)
    mixing = rng.standard_normal((width, chans * times), dtype=np.float32) / np.sqrt(width)
    for band in bands:
        for trials in signals:
            trials += band.array @ mixing / layers
    recording = Recording.from_arrays(
        signals.reshape(-1, chans, times), ids * repetitions, modality="eeg", sfreq=250.0, check_finite=False
    )
    return (
        recording,
        MixedTargets(bands),
        Split("own/intra/v1", 0, tuple(ids[:n]), tuple(ids[n:]), (), "image-disjoint"),
    )


def operations(n: int, d: int, p: int, repetitions: int) -> float:
    """Floating point operations of the products of a primal fit: sums, penalty, residuals, covariance, shrinkage."""
    repeated = min(n, MAX_STIMULI) * (SPLITS if repetitions > 2 else repetitions - 1)  # differences of half averages
    probed = len(range(0, p, max(1, p // PROBED_OUTPUTS)))
    sums = n * d * (d + 2 * p)  # the Gram matrix is symmetric
    penalty = 2 * min(n, PROBED_IMAGES) * d * (d + len(PENALTIES) * probed)
    residuals = 2 * n * d * (d + p) + n * p * p
    shrinkage = 10 * (p**3 / 3 + p * p * VALIDATION * 2)
    return float(sums + penalty + residuals + shrinkage + 2 * d * d * p + 9 * d**3 + repeated * p * p)


def product_speed() -> float:
    """Operations a second of one large float64 product."""
    a = torch.randn(2048, 2048, dtype=torch.float64)
    a @ a
    fastest = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        a @ a
        fastest = min(fastest, time.perf_counter() - began)
    return 2 * 2048**3 / fastest


class Memory:
    """The largest resident memory while a block runs, above that before it, in GB; sampled every 20 ms."""

    def __enter__(self) -> Memory:
        self.before = self.most = self._resident()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()

    @property
    def added(self) -> float:
        return (self.most - self.before) / 2**30

    def _watch(self) -> None:
        while not self.done.wait(0.02):
            self.most = max(self.most, self._resident())

    @staticmethod
    def _resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (
        ("images", 16540),
        ("threads", 2),
        ("chans", 17),
        ("times", 250),
        ("layers", 7),
        ("width", 300),
        ("repetitions", 1),
    ):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    sizes = (given.images, given.chans, given.times, given.layers, given.width, given.repetitions)
    recording, targets, split = made(*sizes)
    asked = "null" if given.repetitions == 1 else "1"
    words = ["signals.channels=all", "signals.tmin=null", "signals.tmax=null", "target.components=null"]
    words.append(f"evaluation.repetitions={asked}")
    recipe = load_recipe("generative", modality="eeg", overrides=words)
    recipe = recipe.with_target(layer=targets.layer, pooling="mean")
    speed = product_speed()
    load = os.getloadavg()[0]
    aligner = GenerativeAligner(recipe)
    with Memory() as memory:
        began = time.perf_counter()
        fit = aligner.fit([recording], {"image": targets}, split)
        seconds = time.perf_counter() - began
    speed = max(speed, product_speed())
    few = split.validation
    signals, images = recording.average(few, repetitions=1), {"image": targets.of(few)}
    began = time.perf_counter()
    aligner.similarity(signals, images, repetitions=1)
    scoring = time.perf_counter() - began
    floor = operations(given.images, given.layers * given.width, given.chans * given.times, given.repetitions)
    floor /= speed
    suffix = "" if given.repetitions == 1 else f"-repetitions{given.repetitions}"
    harness.write(
        f"generative-images{given.images}{suffix}-threads{given.threads}",
        {
            "fit_s": round(seconds, 1),
            "scoring_200_by_200_s": round(scoring, 2),
            "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
            "held_before_gb": round(memory.before / 2**30, 2),
            "fit_gb": round(memory.added, 2),
            "form": aligner.facts["form"],
            "validation_top1": fit.chosen["validation_top1"],
            "floor_s": round(floor, 1),
            "share_of_floor": round(floor / seconds, 2),
            "float64_gflops": round(speed / 1e9, 1),
            "load_before": round(load, 2),
            "setting": vars(given),
        },
    )


if __name__ == "__main__":
    main()
