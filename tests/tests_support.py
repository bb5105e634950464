"""Helpers that several test files call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from brainalign.alignment.checkpoint import load_tensors, save_tensors

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


N_IMAGES, N_CHANS = 72, 24


def write_own(folder: Path, *, seed: int = 0) -> Path:
    """Pictures of smooth colour fields; signals are a linear map of their coarse colours plus noise, shown twice."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    (folder / "sub-01").mkdir()
    coarse = rng.uniform(0, 255, (N_IMAGES, 3, 3, 3))
    for i, field in enumerate(coarse):
        image = Image.fromarray(field.astype(np.uint8)).resize((32, 32), Image.Resampling.BICUBIC)
        image.save(folder / f"images/i{i:03d}.png")
    pattern = (coarse.reshape(N_IMAGES, -1) - 128) / 74
    clean = pattern @ rng.normal(size=(27, N_CHANS))
    signals = np.concatenate([clean, clean]) + 0.5 * rng.normal(size=(2 * N_IMAGES, N_CHANS))
    np.save(folder / "sub-01/signals.npy", signals[:, :, None].astype(np.float32))
    rows = [f"i{i:03d}.png,{r}" for r in (1, 2) for i in range(N_IMAGES)]
    (folder / "sub-01/trials.csv").write_text("image,repetition\n" + "\n".join(rows) + "\n")
    (folder / "dataset.yaml").write_text("modality: fmri\nunit: percent\n")
    return folder


def damage_model(path: Path, change: dict[str, Any]) -> None:
    """Write a saved aligner anew with other tensors, or with another `shape` in its header (None: without one)."""
    tensors, facts = load_tensors(path)
    shape = change.get("shape", {})
    if shape is None:
        del facts["shape"]
    else:
        facts["shape"] = shape if isinstance(shape, list) else facts["shape"] | shape
    save_tensors(path, tensors | {k: v for k, v in change.items() if k != "shape"}, facts)
