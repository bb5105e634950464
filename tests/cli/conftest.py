"""A small folder of own recordings that a decoder can learn, and a fast backbone with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

N_IMAGES, N_CHANS = 72, 24


def write_own(folder: Path, *, seed: int = 0) -> Path:
    """Pictures of smooth colour fields; the signal is a linear map of their coarse colours plus noise, two repetitions."""
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


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return write_own(tmp_path / "own")


@pytest.fixture(scope="session")
def cli_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli-cache")


@pytest.fixture(autouse=True)
def _cache(cli_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAINALIGN_CACHE", str(cli_cache))
