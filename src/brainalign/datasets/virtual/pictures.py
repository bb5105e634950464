"""The pictures virtual subjects see: rendered scenes, written once below the cache."""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainalign.datasets.virtual.config import Shown
from brainalign.files import atomic_write
from brainalign.stimuli import StimulusSet
from brainalign.stimuli.scenes import Scene, caption, render_scene, scene, scene_concepts

Progress = Callable[[int, int], None]

PIXELS = 128


def shown_scenes(preset: Shown) -> list[Scene]:
    """Training scenes, concept by concept, then one scene of each test concept.

    Test concepts are the first ones of the table in every preset; training concepts follow them. The table mixes
    categories evenly, so both parts hold all of them and no concept is in both.
    """
    concepts = scene_concepts()
    training = concepts[preset.n_test : preset.n_test + preset.n_concepts]
    shown = [scene(concept, exemplar) for concept in training for exemplar in range(preset.n_exemplars)]
    return shown + [scene(concept, 0) for concept in concepts[: preset.n_test]]


@functools.cache
def renderer_version() -> str:
    """Hash of the renderer's source: a changed renderer writes to another folder."""
    digest = hashlib.sha256(str(PIXELS).encode())
    for file in sorted(resources.files("brainalign.stimuli.scenes").iterdir(), key=lambda f: f.name):
        if file.name.endswith(".py"):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def picture_folder(preset: Shown, cache_dir: Path) -> Path:
    """Where a preset's pictures lie: one folder for all modalities, named after the first of them."""
    return cache_dir / "datasets" / f"virtual-eeg-{preset.name}" / renderer_version()


def write_pictures(preset: Shown, cache_dir: Path, progress: Progress | None = None) -> StimulusSet:
    """Render what is missing and return the table of all pictures.

    Every file is written whole or not at all, so a killed program goes on where it stopped.

    Parameters
    ----------
    progress : callable, optional
        Called with (done, total).
    """
    folder = picture_folder(preset, cache_dir)
    scenes = shown_scenes(preset)
    names = [f"{s.stimulus_id.removeprefix('virtual/')}.png" for s in scenes]
    there = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    missing = [(name, one) for name, one in zip(names, scenes, strict=True) if name not in there]
    for done, (name, one) in enumerate(missing, 1):
        with atomic_write(folder / name) as file:
            file.write(_png(render_scene(one, PIXELS)))
        if progress is not None:
            progress(len(names) - len(missing) + done, len(names))
    columns = {
        "stimulus_id": [s.stimulus_id for s in scenes],
        "path": names,
        "concept": [s.concept.name for s in scenes],
        "category": [s.concept.category for s in scenes],
        "caption": [caption(s) for s in scenes],
    }
    return StimulusSet(pd.DataFrame(columns), folder)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
