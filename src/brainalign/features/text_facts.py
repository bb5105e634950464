"""What must be known of a text encoder to find its bank without loading it."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from brainalign import __version__
from brainalign.errors import InputError
from brainalign.features.hub import local_folder
from brainalign.features.structure import structure_hash
from brainalign.features.text_towers import TextTower, load_text_tower, parse_text_id
from brainalign.files import read_json, sha256_json, write_json

LIBRARIES = ("torch", "transformers", "tokenizers", "open_clip_torch")
TOKENIZER_SUFFIXES = (".json", ".txt", ".model")
TOKENIZER_BYTES_MAX = 64 * 2**20


@dataclass(frozen=True)
class TextFacts:
    """Everything about a loaded text encoder that enters the key of its banks.

    Attributes
    ----------
    files : str
        sha256 of the settings and vocabulary of an encoder in a folder: the same weights with another tokenizer give
        other features. Empty for other encoders, whose id says which tokenizer they have.
    """

    id: str
    weights: str
    weights_hash: str
    structure_hash: str
    dim: int
    files: str


class TextLoader:
    """Loads a text encoder once, and only if something must be computed; remembers its facts below `backbones/`.

    Facts are believed as long as the libraries that made them are the ones here and, for an encoder in a folder
    or file, its files have the same names, sizes and times.

    Parameters
    ----------
    encoder : str or TextTower
        An id, or an encoder that is loaded already (`device`, `weights` and `seed` then say nothing).
    cache_dir : Path
    """

    def __init__(
        self, encoder: str | TextTower, cache_dir: Path, *, slug: str, device: str, weights: str, seed: int
    ) -> None:
        self._loaded = encoder if isinstance(encoder, TextTower) else None
        self._id = encoder.id if isinstance(encoder, TextTower) else ":".join(parse_text_id(encoder))
        self._how: dict[str, Any] = {"weights": weights, "seed": seed}
        self._device = device
        files = [*_files(_folder(self._id)), *_checkpoint(self._id)]
        state = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
        key = sha256_json({"text": self._id, **self._how, "files": state})
        self._memory = None if self._loaded else cache_dir / "backbones" / f"text_{slug}.{key[:12]}.json"

    def tower(self) -> TextTower:
        """The encoder, loaded at the first call."""
        if self._loaded is None:
            self._loaded = load_text_tower(self._id, device=self._device, **self._how)
        return self._loaded

    def facts(self) -> TextFacts:
        """From the cache, else from the encoder."""
        return self._remembered() or self.fresh_facts()

    def fresh_facts(self) -> TextFacts:
        """From the encoder, and into the cache."""
        tower = self.tower()
        facts = TextFacts(
            tower.id,
            tower.weights,
            tower.weights_hash,
            structure_hash(tower.model),
            tower.dim,
            _files_hash(_folder(tower.id)),
        )
        if self._memory is not None:
            write_json(self._memory, {"versions": text_versions(), **asdict(facts)})
        return facts

    def _remembered(self) -> TextFacts | None:
        if self._memory is None or self._loaded is not None or not self._memory.is_file():
            return None
        try:
            kept = read_json(self._memory)
            if kept.pop("versions") != text_versions():
                return None
            facts = TextFacts(**kept)
        except (InputError, KeyError, TypeError, AttributeError):  # damaged: the encoder says it again
            return None
        return facts if {k: type(v) for k, v in kept.items()} == TYPES else None


TYPES = {"id": str, "weights": str, "weights_hash": str, "structure_hash": str, "dim": int, "files": str}


def text_versions() -> dict[str, str]:
    """Versions of the libraries that decide text features."""
    found = {"brainalign": __version__}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # banks can be read where the package that made them is not installed
            found[name] = "not installed"
    return found


def _folder(encoder: str) -> Path | None:
    """The folder that an encoder lies in, if it lies in one."""
    folder = local_folder(encoder.partition(":")[2].partition("?")[0].removeprefix("local-dir:"))
    return folder if folder is not None and folder.is_dir() else None


def _checkpoint(encoder: str) -> list[Path]:
    """The file that an id names as its weights, if it names one (`slip:ViT-B-16?checkpoint=FILE`)."""
    _, mark, option = encoder.partition("?checkpoint=")
    path = Path(option).expanduser()
    return [path] if mark and path.is_file() else []


def _files(folder: Path | None) -> list[Path]:
    return [] if folder is None else sorted(path for path in folder.rglob("*") if path.is_file())


def _files_hash(folder: Path | None) -> str:
    if folder is None:
        return ""
    digest = hashlib.sha256()
    for path in _files(folder):
        if path.suffix in TOKENIZER_SUFFIXES and path.stat().st_size <= TOKENIZER_BYTES_MAX:
            digest.update(f"{path.relative_to(folder)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
