"""Features of many images on disk: one memory map a model, layer, pooling and stimulus transform."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import InputError
from brainalign.features.backbones import Backbone
from brainalign.files import read_json
from brainalign.stimuli import StimulusSet

SCHEMA = "brainalign.features/1"
ARRAY, META = "features.npy", "meta.json"


@dataclass(frozen=True)
class Verification:
    """What recomputing a sample of a bank showed."""

    n_images: int
    max_abs_error: float
    max_rel_error: float


class FeatureBank:
    """Rows of features, joined with images by the sha256 of their bytes.

    Nothing fitted lives here: no standardisation, no components.

    Parameters
    ----------
    folder : path-like
        Holds `features.npy` (n_images, dim) and `meta.json`.

    Raises
    ------
    InputError
        If a file is missing or the array is not what the description says.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.meta: dict[str, Any] = read_json(self.folder / META)
        if self.meta.get("schema") != SCHEMA:
            raise InputError(f"has schema {self.meta.get('schema')!r}, expected {SCHEMA!r}", where=self.folder / META)
        try:
            self.array: NDArray[Any] = np.load(self.folder / ARRAY, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            hint = "remove the folder; the features are then computed again"
            raise InputError(f"is missing or damaged ({error})", where=self.folder / ARRAY, hint=hint) from error
        expected = (len(self.meta["image_ids"]), self.meta["dim"])
        if self.array.shape != expected or self.array.dtype.name != self.meta["dtype"]:
            got = f"{self.array.shape} {self.array.dtype}"
            raise InputError(f"is {got}, expected {expected} {self.meta['dtype']}", where=self.folder / ARRAY)

    @property
    def layer(self) -> str:
        """Name of the layer."""
        return str(self.meta["layer"]["name"])

    @property
    def depth(self) -> float:
        """Relative depth of the layer, 0 to 1."""
        return float(self.meta["layer"]["depth"])

    @property
    def pooling(self) -> str:
        """How the layer was pooled."""
        return str(self.meta["pooling"])

    @functools.cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.meta["image_ids"])}

    def index_of(self, image_ids: Sequence[str]) -> list[int]:
        """Row of each image.

        Raises
        ------
        InputError
            If the bank lacks an image.
        """
        try:
            return [self._rows[name] for name in image_ids]
        except KeyError as error:
            raise InputError(f"lacks image {str(error)[1:13]}", where=self.folder, hint="compute the features again") from None

    def rows(self, image_ids: Sequence[str]) -> NDArray[np.float32]:
        """Features of some images, (n, dim) float32."""
        return np.asarray(self.array[self.index_of(image_ids)], dtype=np.float32)

    def verify(self, stimuli: StimulusSet, backbone: Backbone, *, n: int = 16, seed: int = 0) -> Verification:
        """Recompute a sample of images.

        Raises
        ------
        InputError
            If the model is another one, or a value differs by more than the storage type explains.
        """
        if backbone.weights_hash != self.meta["weights_hash"]:
            raise InputError("was computed with other weights", where=self.folder, hint="remove it and compute it again")
        wanted = set(self.meta["image_ids"])
        rows = [row for row, name in enumerate(stimuli.image_ids) if name in wanted]
        if not rows:
            raise InputError("holds none of these images", where=self.folder)
        sample = np.random.default_rng(seed).choice(rows, size=min(n, len(rows)), replace=False)
        pixels = [backbone.preprocessing.resized(stimuli.image(int(row))) for row in sample]
        layers = backbone.table.resolve(self.layer)
        fresh = backbone.forward_layers(backbone.preprocessing.batch(pixels), layers, [self.pooling])
        expected = fresh[self.layer, self.pooling].float().cpu().numpy()
        stored = self.rows([stimuli.image_ids[row] for row in sample])
        error = np.abs(stored - expected)
        size = float(np.abs(expected).max())
        found = Verification(len(sample), float(error.max()), float(error.max() / max(size, 1e-12)))
        allowed = 2e-3 if self.meta["dtype"] == "float16" else 1e-4
        if not found.max_rel_error <= allowed:
            text = f"differs from a fresh computation by {found.max_rel_error:.2g} of the largest value"
            raise InputError(text, where=self.folder, hint="remove it and compute it again")
        return found
