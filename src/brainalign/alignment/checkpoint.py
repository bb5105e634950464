"""Tensors and JSON facts in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from brainalign.errors import InputError
from brainalign.files import atomic_write

FACTS_KEY = "brainalign"


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors, with JSON facts in the header, atomically."""
    from safetensors.torch import save

    held = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with atomic_write(path) as file:
        file.write(save(held, metadata={FACTS_KEY: json.dumps(facts, allow_nan=False)}))


def load_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote.

    Raises
    ------
    InputError
        If the file is missing, damaged, or not one of ours.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            facts = json.loads((file.metadata() or {})[FACTS_KEY])
            # Cloned: a tensor that still pointed into the file's map would change with the file.
            return {name: file.get_tensor(name).clone() for name in file.keys()}, facts  # noqa: SIM118
    except FileNotFoundError as error:
        raise InputError("no such file", where=path, hint="check the path") from error
    except (SafetensorError, KeyError, OSError, json.JSONDecodeError) as error:
        raise InputError(
            f"is not a whole checkpoint of brainalign ({error})", where=path, hint="train again"
        ) from error
