"""Helpers that several test files call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

# Settings that make a run on own recordings quick: a tiny backbone with random weights, a few epochs.
FAST = [
    "--set", "target.backbone=timm:test_resnet", "--set", "target.weights=random", "--set", "target.pooling=grid2",
    "--set", "signals.channels=all", "--set", "signals.tmin=null", "--set", "signals.tmax=null",
    "--set", "training.epochs=12", "--set", "training.batch_size=32", "--set", "evaluation.n_resamples=200",
    "--set", "evaluation.n_permutations=200",
]  # fmt: skip


def write_images(folder: Path, n: int, *, size: int = 24, seed: int = 0, concepts: int = 0) -> list[str]:
    """Write n distinct random PNG files; names as `StimulusSet.from_folder` gives them."""
    generator = np.random.default_rng(seed)
    names = []
    for i in range(n):
        name = f"c{i % concepts:02d}/i{i:03d}" if concepts else f"i{i:03d}"
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(path)
        names.append(name)
    return names
