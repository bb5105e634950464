"""Fill feature banks: every layer asked for in one pass over the images, resumable after a kill."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from brainalign.errors import InputError, unknown_name
from brainalign.features.aliases import resolve_alias
from brainalign.features.backbones import Backbone, Key, pooling_pairs
from brainalign.features.bank import META, SCHEMA, TOLERANCE, FeatureBank
from brainalign.features.batches import image_batches
from brainalign.features.facts import BackboneFacts, BackboneLoader, library_versions
from brainalign.features.layers import Layer, LayerSpec
from brainalign.features.pooling import check_pooling
from brainalign.features.preprocessing import StimulusTransform
from brainalign.features.writing import BankWriter, check_room
from brainalign.files import sha256_json, sync_folder
from brainalign.locks import locked
from brainalign.stimuli import StimulusSet

# On CPUs small batches keep the maps of early layers in the processor's cache: EfficientNet-Lite runs 2 times faster.
CPU_BATCH, DEVICE_BATCH = 8, 64
Progress = Callable[[int, int], None]


class FeatureSet(Mapping[Key, FeatureBank]):
    """Banks of several layers and poolings over the same images, by (layer name, pooling), in model order.

    Attributes
    ----------
    backbone : str
        The id asked for; the full one behind a short name.
    layers : tuple of Layer
        Those that are here, in model order.
    """

    def __init__(self, backbone: str, layers: Sequence[Layer], banks: Mapping[Key, FeatureBank]) -> None:
        self.backbone = backbone
        self.layers = tuple(layers)
        self._banks = dict(banks)

    def __getitem__(self, key: Key) -> FeatureBank:
        return self._banks[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._banks)

    def __len__(self) -> int:
        return len(self._banks)

    def __repr__(self) -> str:
        return f"FeatureSet({self.backbone}: {', '.join(f'{layer}/{pooling}' for layer, pooling in self)})"

    def depth(self, layer: str) -> float:
        """Relative depth of a layer, 0 to 1.

        Raises
        ------
        InputError
            If the layer is not here.
        """
        depths = {one.name: one.depth for one in self.layers}
        if layer not in depths:
            raise unknown_name("layer", layer, depths)
        return depths[layer]


def extract_features(
    stimuli: StimulusSet,
    backbone: str | Backbone,
    layers: LayerSpec | Sequence[LayerSpec],
    poolings: Sequence[str],
    *,
    cache_dir: str | Path,
    device: str = "cpu",
    batch_size: int | None = None,
    dtype: str = "float16",
    crop: str = "none",
    weights: str = "pretrained",
    image_size: int | None = None,
    transform: StimulusTransform | None = None,
    progress: Progress | None = None,
) -> FeatureSet:
    """Features of every image, from the cache where they are, computed in one pass where they are not.

    Memory does not grow with the number of images. A killed program goes on where it stopped.

    Parameters
    ----------
    stimuli : StimulusSet
        Equal files are computed once.
    backbone : str or Backbone
        An id, or a model that is loaded already; `device`, `crop`, `weights` and `image_size` then say nothing.
    layers : layer or sequence of layers
        As `LayerTable.resolve` takes them.
    poolings : sequence of str
        `cls`, `mean`, `gridN`. Layer `final` has only its own pooling; a pooling that a layer does not allow (`cls` in
        a convolutional network) is left out if the layer allows another one of the list.
    cache_dir : path-like
        Banks lie below `features/`.
    batch_size : int, optional
        Images a pass of the model; 8 on CPUs, 64 on other devices.
    dtype : {'float16', 'float32'}
        How features are stored. A layer with values beyond float16 is stored as float32.
    transform : StimulusTransform, optional
        A change to every picture ahead of the model; its `key` enters the key of the bank.
    progress : callable, optional
        Called as `progress(images done, images)`.

    Returns
    -------
    FeatureSet

    Raises
    ------
    InputError
        If the backbone, a layer, a pooling or an image cannot be used, or the disk has no room.
    """
    _check(poolings, dtype, batch_size)
    root, name = Path(cache_dir), resolve_alias(backbone) if isinstance(backbone, str) else backbone.id
    slug = folder_name(name)
    loader = BackboneLoader(backbone, root, slug=slug, device=device, weights=weights, crop=crop, image_size=image_size)
    ids = sorted(set(stimuli.image_ids))

    def plan(facts: BackboneFacts) -> _Plan:
        return _Plan(facts, root / "features" / slug, ids, layers, poolings, dtype, transform)

    found = plan(loader.facts())
    if found.missing():
        with locked(root / "features" / f"{slug}.lock"):
            if found.missing():  # else another program has made them meanwhile
                found = plan(loader.fresh_facts())
                found.fill(stimuli, loader.backbone(), batch_size, progress)
    return FeatureSet(name, found.layers, {key: FeatureBank(folder) for key, folder in found.folders.items()})


def folder_name(backbone: str) -> str:
    """An id as the name of a folder; a long path keeps its end, made unique by its hash."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", backbone)
    return plain if len(plain) <= 120 else f"{sha256_json(backbone)[:12]}_{plain[-100:]}"


def _check(poolings: Sequence[str], dtype: str, batch_size: int | None) -> None:
    if isinstance(poolings, str):
        raise InputError(f"poolings is the text '{poolings}', expected a list", hint=f"write ['{poolings}']")
    for pooling in poolings:
        check_pooling(pooling)
    if dtype not in TOLERANCE:
        raise unknown_name("dtype of features", dtype, TOLERANCE)
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size is {batch_size}, expected at least 1")


class _Plan:
    """Which banks are wanted, where they lie and what describes them."""

    def __init__(
        self,
        facts: BackboneFacts,
        folder: Path,
        ids: list[str],
        layers: LayerSpec | Sequence[LayerSpec],
        poolings: Sequence[str],
        dtype: str,
        transform: StimulusTransform | None,
    ) -> None:
        self.facts, self.folder, self.ids, self.dtype, self.transform = facts, folder, ids, dtype, transform
        self.layers = facts.table.resolve(layers)
        self._layer = {layer.name: layer for layer in self.layers}
        images = sha256_json(ids)
        self.folders = {}
        for key in pooling_pairs(self.layers, poolings, facts.shapes):
            digest = sha256_json({**self._meta(key), "dtype": dtype, "images": images})
            self.folders[key] = folder / f"{key[0]}_{key[1]}_{digest[:20]}"

    def _meta(self, key: Key) -> dict[str, Any]:
        """All that decides the values of a bank."""
        layer, pooling = key
        return {
            "schema": SCHEMA,
            "backbone": self.facts.id,
            "weights": self.facts.weights,
            "weights_hash": self.facts.weights_hash,
            "structure_hash": self.facts.structure_hash,
            "layer": asdict(self._layer[layer]),
            "pooling": pooling,
            "transform": self.transform.key if self.transform is not None else None,
            "preprocessing": self.facts.preprocessing,
            "versions": library_versions(self.facts.id),
        }

    def missing(self) -> list[Key]:
        """Banks that are not there yet."""
        return [key for key, folder in self.folders.items() if not (folder / META).is_file()]

    def fill(self, stimuli: StimulusSet, backbone: Backbone, batch_size: int | None, progress: Progress | None) -> None:
        """Compute the missing banks in one pass; a second one where float16 turned out too narrow."""
        if batch_size is None:
            batch_size = CPU_BATCH if backbone.device.type == "cpu" else DEVICE_BATCH
        row_of = {name: row for row, name in enumerate(stimuli.image_ids)}
        rows = [row_of[name] for name in self.ids]
        shapes = backbone.shapes
        writers = {
            key: BankWriter(
                self.folders[key],
                n_images=len(rows),
                dim=shapes[key[0]].dim(key[1]),
                dtype=self.dtype,
                batch_size=batch_size,
            )
            for key in self.missing()
        }
        while writers:
            check_room(writers.values(), self.folder)
            start = min(writer.done for writer in writers.values())
            batches = image_batches(
                stimuli, rows, backbone.preprocessing, batch_size=batch_size, start=start, transform=self.transform
            )
            _pass(writers, backbone, batches, len(rows), progress)
            for key in [key for key, writer in writers.items() if writer.is_complete]:
                meta = {**self._meta(key), "image_ids": self.ids}
                writers.pop(key).finish(meta)
        sync_folder(self.folder)


def _pass(
    writers: Mapping[Key, BankWriter],
    backbone: Backbone,
    batches: Generator[tuple[int, Any], None, None],
    n_images: int,
    progress: Progress | None,
) -> None:
    """One pass over the images; a bank whose values outgrow float16 leaves it."""
    active = dict(writers)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(batches))  # its threads end here, whatever happens
        for writer in writers.values():
            writer.open()
            stack.callback(writer.close)
        for first, images in batches:
            pooled = backbone.forward_pairs(images, active.keys())
            for key, rows in pooled.items():
                if not active[key].append(first, rows.float().cpu().numpy()):
                    del active[key]
            if progress is not None:
                progress(first + len(images), n_images)
            if not active:
                break
