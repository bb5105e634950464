"""A small THINGS-EEG2 in the published layout (Gifford et al.: a pickled dict a part), which a decoder can learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

# The last 17 channels of the published order are the posterior ones; a few of them do here.
CHANNELS = ["P7", "P3", "Pz", "P4", "P8", "PO7", "POz", "PO8", "O1", "Oz", "O2", "P1", "P2", "P5", "P6"]
N_CONCEPTS, N_EACH, N_TIMES, SFREQ = 40, 4, 12, 100.0
# Settings that make a cell quick: a tiny model's random weights, one coarse map, few epochs.
QUICK = [
    "target.weights=random", "target.pooling=grid2", "training.epochs=8", "training.batch_size=32",
    "training.lr=0.003", "evaluation.n_resamples=200", "evaluation.n_permutations=200",
]  # fmt: skip


def write_things_eeg2(root: Path, *, n_test: int = 20, subjects: tuple[str, ...] = ("01", "02"), seed: int = 0) -> Path:
    """Photos of smooth colour fields; signals are a linear map of their coarse colours, in time, plus noise."""
    rng = np.random.default_rng(seed)
    train = [f"{c + 1:05d}_thing{c}/thing{c}_{i:02d}b.jpg" for c in range(N_CONCEPTS) for i in range(N_EACH)]
    test = [f"{c + 1:05d}_other{c}/other{c}_01b.jpg" for c in range(n_test)]
    coarse = {}
    for folder, names in (("training_images", train), ("test_images", test)):
        for name in names:
            field = rng.uniform(0, 255, (3, 3, 3))
            coarse[name] = (field.ravel() - 128) / 74
            path = root / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(field.astype(np.uint8)).resize((32, 32), Image.Resampling.BICUBIC).save(path, quality=95)
    for subject in subjects:
        mixing = rng.normal(size=(27, len(CHANNELS) * N_TIMES)) / 5
        (root / f"sub-{subject}").mkdir()
        for part, names, repetitions in (("training", train, 2), ("test", test, 4)):
            clean = np.stack([coarse[name] for name in names]) @ mixing
            trials = clean[:, None] + 0.5 * rng.normal(size=(len(names), repetitions, clean.shape[1]))
            shape = (len(names), repetitions, len(CHANNELS), N_TIMES)
            content = {
                "preprocessed_eeg_data": trials.reshape(shape),
                "ch_names": CHANNELS,
                "times": np.arange(N_TIMES) / SFREQ,
            }
            np.save(root / f"sub-{subject}" / f"preprocessed_eeg_{part}.npy", content)
    return root
