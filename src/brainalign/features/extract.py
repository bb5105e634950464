"""Fill feature banks: every layer asked for in one pass over the images, resumable after a kill."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import InputError
from brainalign.features.backbones import Backbone, load_backbone, parse_id
from brainalign.features.bank import ARRAY, META, SCHEMA, FeatureBank
from brainalign.features.layers import Layer, LayerSpec, LayerTable
from brainalign.features.pooling import check_pooling
from brainalign.files import existing_parent, read_json, sha256_json, sync_folder, write_error, write_json
from brainalign.stimuli import StimulusSet

FLUSH_SECONDS = 5.0
Key = tuple[str, str]


class FeatureSet(Mapping[Key, FeatureBank]):
    """Banks of several layers and poolings over the same images, by (layer name, pooling), in model order."""

    def __init__(self, backbone: str, banks: Mapping[Key, FeatureBank]) -> None:
        self.backbone = backbone
        self._banks = dict(banks)

    def __getitem__(self, key: Key) -> FeatureBank:
        return self._banks[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._banks)

    def __len__(self) -> int:
        return len(self._banks)

    def depth(self, layer: str) -> float:
        """Relative depth of a layer."""
        return next(bank.depth for (name, _), bank in self._banks.items() if name == layer)


@dataclass(frozen=True)
class _Facts:
    """What must be known of a backbone to find its banks without loading it."""

    table: LayerTable
    weights_hash: str
    preprocessing: dict[str, Any]


def extract_features(
    stimuli: StimulusSet,
    backbone: str,
    layers: LayerSpec | Sequence[LayerSpec],
    poolings: Sequence[str],
    *,
    cache_dir: str | Path,
    device: str = "cpu",
    batch_size: int = 64,
    crop: str = "none",
    weights: str = "pretrained",
    image_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FeatureSet:
    """Features of every image, from the cache where they are, computed in one pass where they are not.

    Parameters
    ----------
    layers : layer or sequence of layers
        As `LayerTable.resolve` takes them.
    poolings : sequence of str
        Layer `final` has only its own pooling.
    cache_dir : path-like
        Banks lie below `features/`.
    batch_size : int
        Images a pass of the model.

    Returns
    -------
    FeatureSet

    Raises
    ------
    InputError
        If the backbone, a layer, a pooling or an image cannot be used, or the disk has no room.
    """
    from filelock import FileLock

    for pooling in poolings:
        check_pooling(pooling)
    root = Path(cache_dir)
    slug = re.sub(r"[^A-Za-z0-9._-]+", "_", backbone)
    names = {"id": backbone, "crop": crop, "weights": weights, "image_size": image_size}
    loader = _Loader(names, device, root / "backbones" / f"{slug}.{sha256_json(names)[:12]}.json")
    facts = loader.facts()
    wanted = _wanted(facts.table, layers, poolings)
    ids = sorted(set(stimuli.image_ids))
    folders = {key: root / "features" / slug / _bank_key(backbone, facts, key, ids)[:24] for key in wanted}
    lock = root / "features" / f"{slug}.lock"
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(error, lock.parent) from error
    with FileLock(lock):  # two processes that want the same banks: the second finds them made
        missing = {key: folder for key, folder in folders.items() if not (folder / META).is_file()}
        if missing:
            _compute(stimuli, ids, loader.backbone(), wanted, missing, batch_size, progress)
    return FeatureSet(backbone, {key: FeatureBank(folder) for key, folder in folders.items()})


class _Loader:
    """Loads a backbone once, and only if something must be computed; remembers its facts on disk."""

    def __init__(self, names: dict[str, Any], device: str, memory: Path) -> None:
        self.names, self.device, self.memory = names, device, memory
        self._backbone: Backbone | None = None

    def backbone(self) -> Backbone:
        if self._backbone is None:
            n = self.names
            self._backbone = load_backbone(
                n["id"], device=self.device, weights=n["weights"], crop=n["crop"], image_size=n["image_size"]
            )
        return self._backbone

    def facts(self) -> _Facts:
        """From the cache, if the libraries that made it are the ones here; else from the model."""
        versions = library_versions()
        parse_id(self.names["id"])
        if self.memory.is_file():
            kept = read_json(self.memory)
            if kept.get("versions") == versions:
                table = LayerTable(tuple(Layer(**layer) for layer in kept["layers"]), kept["aliases"])
                return _Facts(table, kept["weights_hash"], kept["preprocessing"])
        found = self.backbone()
        facts = {
            "versions": versions,
            "layers": [asdict(layer) for layer in found.layers],
            "aliases": found.table.aliases,
            "weights_hash": found.weights_hash,
            "preprocessing": _plain(found.preprocessing.facts()),
        }
        write_json(self.memory, facts)
        return _Facts(found.table, found.weights_hash, facts["preprocessing"])  # type: ignore[arg-type]


def library_versions() -> dict[str, str]:
    """Versions of the libraries that decide features."""
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "timm", "pillow", "numpy")}


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in value.items()}


def _wanted(table: LayerTable, layers: LayerSpec | Sequence[LayerSpec], poolings: Sequence[str]) -> dict[Key, Layer]:
    keys: dict[Key, Layer] = {}
    for layer in table.resolve(layers):
        if layer.name == "final":
            keys["final", "final"] = layer
        else:
            keys |= {(layer.name, pooling): layer for pooling in poolings if pooling != "final"}
    if not keys:
        raise InputError("pooling 'final' belongs to layer 'final'", hint="add a pooling such as mean, or ask for final")
    return keys


def _bank_key(backbone: str, facts: _Facts, key: Key, ids: Sequence[str]) -> str:
    return sha256_json(
        {
            "schema": SCHEMA,
            "backbone": backbone,
            "weights_hash": facts.weights_hash,
            "layer": key[0],
            "pooling": key[1],
            "transform": None,
            "preprocessing": facts.preprocessing,
            "images": sha256_json(list(ids)),
        }
    )


def _compute(
    stimuli: StimulusSet,
    ids: list[str],
    backbone: Backbone,
    wanted: dict[Key, Layer],
    missing: dict[Key, Path],
    batch_size: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """One pass over the images that fills all missing banks; rows are sorted by image id."""
    row_of = {name: row for row, name in enumerate(stimuli.image_ids)}
    order = [row_of[name] for name in ids]
    layers = list(dict.fromkeys(wanted[key] for key in missing))
    poolings = list(dict.fromkeys(pooling for _, pooling in missing))
    writers = {key: _Writer(folder, len(ids), batch_size) for key, folder in missing.items()}
    start = min(writer.done for writer in writers.values())
    flushed = time.monotonic()
    for first, batch in _batches(stimuli, order, backbone, start, batch_size):
        pooled = backbone.forward_layers(batch, layers, poolings)
        for key, writer in writers.items():
            writer.write(first, pooled[key].float().cpu().numpy())
        done = first + len(batch)
        if time.monotonic() - flushed > FLUSH_SECONDS:
            for writer in writers.values():
                writer.flush(done)
            flushed = time.monotonic()
        if progress is not None:
            progress(done, len(ids))
    for key, writer in writers.items():
        layer = wanted[key]
        meta = {
            "schema": SCHEMA,
            "backbone": backbone.id,
            "weights_hash": backbone.weights_hash,
            "layer": asdict(layer),
            "pooling": key[1],
            "transform": None,
            "preprocessing": backbone.preprocessing.facts(),
            "versions": library_versions(),
            "image_ids": ids,
        }
        writer.finish(meta)


def _batches(
    stimuli: StimulusSet, order: list[int], backbone: Backbone, start: int, size: int
) -> Iterator[tuple[int, Any]]:
    """Preprocessed batches from row `start` on, decoded one batch ahead of the model."""
    prepare = backbone.preprocessing

    def load(first: int) -> Any:
        return prepare.batch([prepare.resized(stimuli.image(row)) for row in order[first : first + size]])

    with ThreadPoolExecutor(max_workers=1) as pool:
        firsts = range(start, len(order), size)
        ahead = pool.submit(load, firsts[0]) if firsts else None
        for number, first in enumerate(firsts):
            assert ahead is not None
            batch = ahead.result()
            if number + 1 < len(firsts):
                ahead = pool.submit(load, firsts[number + 1])
            yield first, batch


class _Writer:
    """Rows of one bank on their way to the disk, in `<folder>.partial` until all are there."""

    def __init__(self, folder: Path, n_images: int, batch_size: int) -> None:
        self.folder, self.n_images, self.batch_size = folder, n_images, batch_size
        self.partial = folder.with_name(folder.name + ".partial")
        self.array: NDArray[Any] | None = None
        self.done = 0
        state = self.partial / "progress.json"
        if state.is_file():
            kept = read_json(state)
            # Other batch boundaries could change the last bits: start again.
            if kept["batch_size"] == batch_size and (self.partial / ARRAY).is_file():
                self.array = np.lib.format.open_memmap(self.partial / ARRAY, mode="r+")
                self.done = int(kept["rows"]) if len(self.array) == n_images else 0

    def write(self, first: int, rows: NDArray[np.float32]) -> None:
        """Write a batch; the first one decides the width."""
        if self.array is None or self.array.shape != (self.n_images, rows.shape[1]):
            self.array = self._create(rows.shape[1], np.float16)
        if self.array.dtype == np.float16 and not bool((np.abs(rows) <= np.finfo(np.float16).max).all()):
            if not np.isfinite(rows).all():
                raise InputError("the model gave NaN or infinite features", where=self.folder.parent.name)
            self._widen()
        self.array[first : first + len(rows)] = rows

    def _create(self, dim: int, dtype: Any) -> NDArray[Any]:
        size = self.n_images * dim * np.dtype(dtype).itemsize
        try:
            free = shutil.disk_usage(existing_parent(self.partial)).free
            if size > free:
                text = f"{size / 2**20:.0f} MiB needed, {free / 2**20:.0f} MiB free"
                raise InputError(text, where=self.folder, hint="free space, give another --cache, or ask for fewer layers")
            self.partial.mkdir(parents=True, exist_ok=True)
            return np.lib.format.open_memmap(self.partial / ARRAY, mode="w+", dtype=dtype, shape=(self.n_images, dim))
        except OSError as error:
            raise write_error(error, self.partial) from error

    def _widen(self) -> None:
        """Features beyond float16: keep what is there in float32."""
        assert self.array is not None
        kept = np.array(self.array, dtype=np.float32)
        self.array = self._create(kept.shape[1], np.float32)
        self.array[:] = kept

    def flush(self, done: int) -> None:
        """Make the rows so far durable."""
        if isinstance(self.array, np.memmap):
            self.array.flush()
        write_json(self.partial / "progress.json", {"rows": done, "batch_size": self.batch_size})

    def finish(self, meta: dict[str, Any]) -> None:
        """Describe the bank and move it to its place."""
        assert isinstance(self.array, np.memmap)
        self.array.flush()
        meta = {**meta, "dim": self.array.shape[1], "dtype": self.array.dtype.name, "n_images": self.n_images}
        write_json(self.partial / META, meta)
        (self.partial / "progress.json").unlink(missing_ok=True)
        self.array = None
        os.replace(self.partial, self.folder)
        sync_folder(self.folder.parent)
