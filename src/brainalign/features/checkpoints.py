"""Read a checkpoint folder tensor by tensor, without running anything it holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from brainalign.errors import InputError
from brainalign.features.hub import cannot
from brainalign.files import read_json

INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SINGLES = ("model.safetensors", "pytorch_model.bin")


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights, safetensors ahead of pickled ones.

    Raises
    ------
    InputError
        If there are none, or an index names a file that is not in the folder.
    """
    for index, single in zip(INDEXES, SINGLES):
        if (folder / single).is_file():
            return [folder / single]
        if (folder / index).is_file():
            return _indexed(folder / index)
    raise InputError("no weights", where=folder, hint=f"expected {SINGLES[0]} or {INDEXES[0]} with its files")


def _indexed(index: Path) -> list[Path]:
    held = read_json(index)
    names = held.get("weight_map") if isinstance(held, dict) else None
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise InputError("holds no 'weight_map'", where=index)
    files = []
    for name in sorted(set(names.values())):
        if Path(name).name != name:
            raise InputError(f"names the file '{name[:80]}', which is not beside it", where=index)
        if not (index.parent / name).is_file():
            raise InputError(f"the file {name} is missing", where=index.parent, hint="download the model again")
        files.append(index.parent / name)
    return files


def read_tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of a checkpoint, one at a time, so that a large one is never in memory twice.

    Pickled files are read with `weights_only`: plain tensors, or an error.

    Raises
    ------
    InputError
        If there are none, or a file cannot be read as plain tensors.
    """
    for path in weight_files(folder):
        try:
            yield from _safe(path) if path.suffix == ".safetensors" else _pickled(path)
        except InputError:
            raise
        except Exception as error:  # safetensors and the unpickler raise their own types
            raise cannot(str(path), "cannot be read as plain tensors", error, "download it again") from error


def _safe(path: Path) -> Iterator[tuple[str, Tensor]]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - not a dict
            yield name, file.get_tensor(name)


def _pickled(path: Path) -> Iterator[tuple[str, Tensor]]:
    held = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(held, dict) or not all(isinstance(value, Tensor) for value in held.values()):
        raise InputError("holds no dictionary of tensors", where=path)
    yield from held.items()
