"""Features of many images on disk: one memory map a model, layer, pooling and stimulus transform."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import InputError
from brainalign.files import read_json
from brainalign.stimuli import StimulusSet

if TYPE_CHECKING:
    from brainalign.features.backbones import Backbone
    from brainalign.features.preprocessing import StimulusTransform

SCHEMA = "brainalign.features/1"
ARRAY, META = "features.npy", "meta.json"
AGAIN = "remove the folder; the features are then computed again"
# Largest difference from a fresh computation, as a share of the largest value: rounding to float16 alone is 2^-11.
TOLERANCE = {"float16": 1e-3, "float32": 1e-4}
META_TYPES: dict[str, type | tuple[type, ...]] = {
    "backbone": str, "weights_hash": str, "layer": dict, "pooling": str, "preprocessing": dict, "dtype": str,
    "dim": int, "n_images": int, "image_ids": list,
}  # fmt: skip


@dataclass(frozen=True)
class Verification:
    """What recomputing a sample of a bank showed.

    Attributes
    ----------
    n_images : int
        Size of the sample.
    max_abs_error : float
    max_rel_error : float
        As a share of the largest value of the sample.
    """

    n_images: int
    max_abs_error: float
    max_rel_error: float


class FeatureBank:
    """Rows of features, joined with images by the sha256 of their bytes.

    Nothing fitted lives here: no standardisation, no components.

    Parameters
    ----------
    folder : path-like
        Holds `features.npy` (n_images, dim), float16 or float32, and `meta.json`.

    Attributes
    ----------
    array : ndarray of shape (n_images, dim)
        Memory-mapped.
    meta : dict
        Backbone, hashes of its weights and structure, layer, pooling, transform, preprocessing, library versions,
        image ids.

    Raises
    ------
    InputError
        If a file is missing or the array is not what the description says.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.meta = _read_meta(self.folder / META)
        self.array = _read_array(self.folder / ARRAY, (self.meta["n_images"], self.meta["dim"]), self.meta["dtype"])

    def __repr__(self) -> str:
        n_images, dim = self.array.shape
        return f"FeatureBank({self.meta['backbone']}, layer {self.layer}, {self.pooling}: {n_images} x {dim})"

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
        rows = self._rows
        for name in image_ids:
            if name not in rows:
                raise InputError(f"lacks image {name[:12]}", where=self.folder, hint="compute the features again")
        return [rows[name] for name in image_ids]

    def rows(self, image_ids: Sequence[str]) -> NDArray[np.float32]:
        """Features of some images, (n, dim) float32, in the order given.

        Raises
        ------
        InputError
            If the bank lacks an image.
        """
        return np.asarray(self.array[self.index_of(image_ids)], dtype=np.float32)

    def verify(
        self,
        stimuli: StimulusSet,
        backbone: Backbone,
        *,
        n: int = 16,
        seed: int = 0,
        transform: StimulusTransform | None = None,
    ) -> Verification:
        """Recompute a sample of images.

        Parameters
        ----------
        n : int
            Number of images; `seed` picks them.

        Raises
        ------
        InputError
            If the model, its preprocessing or the transform is another one, or a value differs by more than the storage
            type explains.
        """
        asked = {
            "weights_hash": backbone.weights_hash,
            "structure_hash": backbone.structure_hash,
            "preprocessing": backbone.preprocessing.facts(),
            "transform": transform.key if transform is not None else None,
        }
        for name, value in asked.items():
            if self.meta.get(name) != value:
                text = f"has {name} {self.meta.get(name)}, expected {value}"
                raise InputError(text, where=self.folder, hint="load the backbone it was made with")
        known = set(self.meta["image_ids"])
        rows = [row for row, name in enumerate(stimuli.image_ids) if name in known]
        if not rows:
            raise InputError("holds none of these images", where=self.folder)
        sample = np.random.default_rng(seed).choice(rows, size=min(n, len(rows)), replace=False).tolist()
        stored = self.rows([stimuli.image_ids[row] for row in sample])
        return self._compare(stored, self._fresh(stimuli, sample, backbone, transform))

    def _fresh(
        self, stimuli: StimulusSet, rows: list[int], backbone: Backbone, transform: StimulusTransform | None
    ) -> NDArray[np.float32]:
        from brainalign.features.batches import image_batches

        pair = (self.layer, self.pooling)
        batches = image_batches(stimuli, rows, backbone.preprocessing, batch_size=8, transform=transform)
        with contextlib.closing(batches):  # its threads end here, whatever happens
            parts = [backbone.forward_pairs(images, [pair])[pair].float().cpu().numpy() for _, images in batches]
        return np.concatenate(parts)

    def _compare(self, stored: NDArray[np.float32], fresh: NDArray[np.float32]) -> Verification:
        largest = float(np.abs(fresh).max())
        error = float(np.abs(stored - fresh).max())
        found = Verification(len(fresh), error, error / max(largest, 1e-12))
        allowed = TOLERANCE[self.meta["dtype"]]
        if not found.max_rel_error <= allowed:
            text = f"differs from a fresh computation by {found.max_rel_error:.2g} of the largest value"
            raise InputError(f"{text}, more than {allowed:g}", where=self.folder, hint=AGAIN)
        return found


def _read_meta(path: Path) -> dict[str, Any]:
    meta = read_json(path)
    if not isinstance(meta, dict) or meta.get("schema") != SCHEMA:
        raise InputError(f"is not a description of features, schema {SCHEMA}", where=path, hint=AGAIN)
    for name, kind in META_TYPES.items():
        if not isinstance(meta.get(name), kind):
            raise InputError(f"'{name}' is missing or of the wrong type", where=path, hint=AGAIN)
    layer, n_ids = meta["layer"], len({name for name in meta["image_ids"] if isinstance(name, str)})
    if not isinstance(layer.get("name"), str) or not isinstance(layer.get("depth"), int | float):
        raise InputError("'layer' lacks its name or depth", where=path, hint=AGAIN)
    if meta["dtype"] not in TOLERANCE or n_ids != meta["n_images"] or len(meta["image_ids"]) != n_ids:
        text = f"says {meta['n_images']} images of {meta['dtype']}, and names {n_ids} different ones"
        raise InputError(text, where=path, hint=AGAIN)
    return meta


def _read_array(path: Path, shape: tuple[int, int], dtype: str) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"is missing or damaged ({error})", where=path, hint=AGAIN) from error
    if array.shape != shape or array.dtype.name != dtype:
        raise InputError(f"is {array.shape} {array.dtype}, expected {shape} {dtype}", where=path, hint=AGAIN)
    if isinstance(array, np.memmap) and (surplus := path.stat().st_size - array.offset - array.nbytes):
        raise InputError(f"is {surplus} bytes too long", where=path, hint=AGAIN)
    return array
