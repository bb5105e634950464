"""Small own recordings of several modalities that saw the same pictures, and what makes a joint run quick."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from tests_support import N_CHANS, N_IMAGES, write_own

MEG_CHANS, MEG_TIMES = 20, 4
QUICK = [
    "target.weights=random", "target.pooling=grid2", "training.batch_size=32", "training.lr=0.003",
    "evaluation.n_resamples=200", "evaluation.n_permutations=200", "foundation.dropout=0",
]  # fmt: skip


def write_pair(folder: Path) -> Path:
    """`scanner` (fMRI, subjects 01 and 02) and `helmet` (MEG, subject 01): every image shown twice to each."""
    scanner = write_own(folder / "scanner")
    rng = np.random.default_rng(8)
    signals = np.load(scanner / "sub-01/signals.npy")[:, :, 0]
    shutil.copytree(scanner / "sub-01", scanner / "sub-02")
    mixed = signals @ rng.normal(size=(N_CHANS, N_CHANS + 3)) / np.sqrt(N_CHANS)
    np.save(scanner / "sub-02/signals.npy", mixed[:, :, None].astype(np.float32))
    helmet = folder / "helmet"
    (helmet / "sub-01").mkdir(parents=True)
    shutil.copytree(scanner / "images", helmet / "images")
    shutil.copy(scanner / "sub-01/trials.csv", helmet / "sub-01/trials.csv")
    fields = signals @ rng.normal(size=(N_CHANS, MEG_CHANS)) / np.sqrt(N_CHANS)
    course = np.array([0.5, 1.0, 0.8, 0.2])
    trials = fields[:, :, None] * course + 0.3 * rng.normal(size=(len(fields), MEG_CHANS, MEG_TIMES))
    np.save(helmet / "sub-01/signals.npy", trials.astype(np.float32))
    (helmet / "dataset.yaml").write_text("modality: meg\nunit: fT\nsfreq: 10\ntmin: 0.0\n")
    return folder


def give_classes(data: Path, n: int) -> list[str]:
    """Move the images into n subfolders, one a class; returns the class of every image, in order of their numbers."""
    classes = [f"c{i % n}" for i in range(N_IMAGES)]
    for i, name in enumerate(classes):
        place = data / "images" / name
        place.mkdir(exist_ok=True)
        (data / f"images/i{i:03d}.png").rename(place / f"i{i:03d}.png")
    for trials in data.glob("sub-*/trials.csv"):
        head, *rows = trials.read_text().splitlines()
        trials.write_text("\n".join([head, *(f"{classes[int(row[1:4])]}/{row}" for row in rows)]) + "\n")
    return classes


def two_way(similarity: np.ndarray) -> np.ndarray:
    """Share of other columns below the diagonal entry, row by row; ties half."""
    own = np.diag(similarity)[:, None]
    below = (similarity < own).sum(axis=1) + ((similarity == own).sum(axis=1) - 1) / 2
    return below / (similarity.shape[1] - 1)
