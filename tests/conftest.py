"""Shared fixtures: real recordings where they are at hand, small made ones everywhere else."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from tests_support import write_images


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Two test processes share two cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real recordings, from BRAINALIGN_TEST_DATA."""
    folder = os.environ.get("BRAINALIGN_TEST_DATA")
    if not folder:
        pytest.skip("BRAINALIGN_TEST_DATA is not set: real recordings are not at hand")
    return Path(folder)


@pytest.fixture(scope="session")
def v4(real_data: Path) -> Path:
    """The macaque-v4 folder."""
    return real_data / "macaque-v4"


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A cache for features and rendered scenes, shared by the tests of one process (or of the whole CI run)."""
    given = os.environ.get("BRAINALIGN_CACHE")
    return Path(given) if given else tmp_path_factory.mktemp(f"cache-{worker_id}")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def image_folder(tmp_path: Path) -> tuple[Path, list[str]]:
    folder = tmp_path / "images"
    return folder, write_images(folder, 12)
