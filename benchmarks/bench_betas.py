"""Memory and time of turning the betas of one THINGS-fMRI subject, voxels x trials, into a map read trial by trial.

The file is made here: its dataset is declared and never written, so that it reads as zeros and takes no room, while
the map made from it is written in full (half the size of the betas). The conversion runs in a process of its own, whose
peak of resident memory is that of the conversion and of the imports.

    python benchmarks/bench_betas.py --gigabytes 5
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from harness import write

from brainalign.datasets.things_fmri import ThingsFMRI

N_TRAIN, N_TEST, N_REPEATS = 8640, 100, 12
N_TRIALS = N_TRAIN + N_TEST * N_REPEATS


def make(folder: Path, n_voxels: int) -> None:
    """A subject with the published number of trials."""
    import h5py

    folder.mkdir(parents=True)
    with h5py.File(folder / "sub-01_ResponseData.h5", "w") as file:
        group = file.create_group("ResponseData")
        group.create_dataset("block0_values", (n_voxels, N_TRIALS), "f8", chunks=(16, N_TRIALS))
        group["block1_items"] = np.array([b"voxel_id"])
        group["block1_values"] = np.arange(n_voxels)[:, None]
    stems = [f"thing{i // 12}_{i % 12 + 1:02d}b" for i in range(N_TRAIN)]
    stems += [f"thing{i}_13b" for i in range(N_TEST) for _ in range(N_REPEATS)]
    kinds = ["train"] * N_TRAIN + ["test"] * (N_TEST * N_REPEATS)
    trials = pd.DataFrame({"trial_type": kinds, "session": 1, "run": 1, "stimulus": [f"{stem}.jpg" for stem in stems]})
    trials["trial_id"] = np.arange(N_TRIALS)
    trials.to_csv(folder / "sub-01_StimulusMetadata.csv", index=False)
    voxels = pd.DataFrame({"voxel_id": np.arange(n_voxels), "nc_testset": 1.0, "V1": np.arange(n_voxels) < 1000})
    voxels.to_csv(folder / "sub-01_VoxelMetadata.csv", index=False)


def convert(root: str, results: Any) -> None:
    """In a process of its own: open a subject whose map is not made yet, then once more, and read a hundred trials."""
    base = _peak_bytes()
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        recording = ThingsFMRI(Path(root) / "data", cache_dir=Path(root) / "cache").recording("01")
        seconds.append(time.perf_counter() - start)
    peak = _peak_bytes()
    start = time.perf_counter()
    rows = np.random.default_rng(0).choice(len(recording), 100, replace=False)
    recording.read(rows)
    results.put((base, peak, *seconds, time.perf_counter() - start))


def _peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=5.0, help="size of the betas")
    parser.add_argument("--folder", type=Path, help="where the files are made; half as many GB must be free")
    asked = parser.parse_args()
    n_voxels = round(asked.gigabytes * 1e9 / (8 * N_TRIALS))
    with tempfile.TemporaryDirectory(dir=asked.folder) as root:
        make(Path(root) / "data/betas_csv", n_voxels)
        context = multiprocessing.get_context("spawn")
        results = context.Queue()
        process = context.Process(target=convert, args=(root, results))
        process.start()
        base, peak, first, again, hundred = results.get()
        process.join()
    write(
        "betas",
        {
            "betas_gb": round(8 * n_voxels * N_TRIALS / 1e9, 2),
            "voxels": n_voxels,
            "trials": N_TRIALS,
            "imports_peak_mb": round(base / 1e6),
            "peak_mb": round(peak / 1e6),
            "first_opening_s": round(first, 1),
            "later_opening_s": round(again, 2),
            "reading_100_trials_s": round(hundred, 3),
        },
    )
    if peak > 1e9:
        raise SystemExit(f"peak of {peak / 1e9:.2f} GB, more than 1 GB")


if __name__ == "__main__":
    main()
