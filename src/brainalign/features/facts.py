"""What must be known of a backbone to find its banks without loading it."""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from brainalign import __version__
from brainalign.errors import InputError
from brainalign.features.aliases import resolve_alias
from brainalign.features.backbones import Backbone, load_backbone
from brainalign.features.hub import local_folder
from brainalign.features.layers import Layer, LayerTable
from brainalign.features.shapes import FeatureShape
from brainalign.features.sources import parse_id
from brainalign.files import read_json, sha256_json, write_json


@dataclass(frozen=True)
class BackboneFacts:
    """Everything about a loaded backbone that enters the keys of its banks."""

    id: str
    table: LayerTable
    shapes: dict[str, FeatureShape]
    weights: str
    weights_hash: str
    structure_hash: str
    preprocessing: dict[str, Any]

    @classmethod
    def of(cls, backbone: Backbone) -> BackboneFacts:
        """Facts of a loaded backbone."""
        return cls(
            backbone.id,
            backbone.table,
            backbone.shapes,
            backbone.weights,
            backbone.weights_hash,
            backbone.structure_hash,
            backbone.preprocessing.facts(),
        )

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> BackboneFacts:
        """Facts as `asdict` writes them."""
        table = LayerTable(tuple(Layer(**layer) for layer in kept["table"]["layers"]), dict(kept["table"]["aliases"]))
        shapes = {str(name): FeatureShape(**shape) for name, shape in kept["shapes"].items()}
        if shapes.keys() != {layer.name for layer in table.layers}:
            raise KeyError("shapes")
        words = {name: str(kept[name]) for name in ("id", "weights", "weights_hash", "structure_hash")}
        return cls(table=table, shapes=shapes, preprocessing=dict(kept["preprocessing"]), **words)


class BackboneLoader:
    """Loads a backbone once, and only if something must be computed; remembers its facts below `backbones/`.

    Facts are believed as long as the libraries that made them are the ones here: a backbone whose banks all exist is
    then not loaded at all. Weights that changed under the same name (a hub's file was replaced) are noticed when the
    model is next loaded, which any missing bank causes: the facts are then written anew and all banks are looked for
    under them.

    Parameters
    ----------
    backbone : str or Backbone
        An id, or a model that is loaded already (the other parameters then say nothing).
    cache_dir : Path
    """

    def __init__(
        self,
        backbone: str | Backbone,
        cache_dir: Path,
        *,
        slug: str,
        device: str,
        weights: str,
        crop: str,
        image_size: int | None,
    ) -> None:
        self._loaded = backbone if isinstance(backbone, Backbone) else None
        self._id = resolve_alias(backbone) if isinstance(backbone, str) else backbone.id
        self._device = device
        self._how: dict[str, Any] = {"weights": weights, "crop": crop, "image_size": image_size}
        key = sha256_json({"id": self._id, **self._how, **_files_of(self._id)})
        self._memory = None if self._loaded else cache_dir / "backbones" / f"{slug}.{key[:12]}.json"
        if self._loaded is None:
            parse_id(self._id)

    def backbone(self) -> Backbone:
        """The model, loaded at the first call."""
        if self._loaded is None:
            self._loaded = load_backbone(self._id, device=self._device, **self._how)
        return self._loaded

    def facts(self) -> BackboneFacts:
        """From the cache, else from the model."""
        return self._remembered() or self.fresh_facts()

    def fresh_facts(self) -> BackboneFacts:
        """From the model, and into the cache."""
        facts = BackboneFacts.of(self.backbone())
        if self._memory is not None:
            write_json(self._memory, {"versions": library_versions(self._id), **asdict(facts)})
        return facts

    def _remembered(self) -> BackboneFacts | None:
        if self._memory is None or self._loaded is not None or not self._memory.is_file():
            return None
        try:
            kept = read_json(self._memory)
            return BackboneFacts.from_json(kept) if kept["versions"] == library_versions(self._id) else None
        except (InputError, KeyError, TypeError, AttributeError):  # damaged: the model says it again
            return None


def _files_of(backbone: str) -> dict[str, Any]:
    """Names, sizes and times of the files of a model that lies in a local folder: other files are another model."""
    _, _, option = backbone.partition("?checkpoint=")
    if backbone.startswith("slip:") and option and (file := Path(option).expanduser()).is_file():
        return {"files": [[file.name, file.stat().st_size, file.stat().st_mtime_ns]]}
    folder = local_folder(backbone.partition(":")[2].partition("?")[0].removeprefix("local-dir:"))
    if folder is None or not folder.is_dir():
        return {}
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return {"files": [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]}


LIBRARIES = ("torch", "timm", "pillow", "numpy")
EXTRA_LIBRARIES = {"open_clip": ("open_clip_torch",), "hf": ("transformers",)}


@functools.cache
def library_versions(backbone: str = "") -> dict[str, str]:
    """Versions of the libraries that decide features of a backbone."""
    libraries = LIBRARIES + EXTRA_LIBRARIES.get(backbone.partition(":")[0], ())
    return {"brainalign": __version__} | {name: _version(name) for name in libraries}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # banks can be read where the package that made them is not installed
        return "not installed"
