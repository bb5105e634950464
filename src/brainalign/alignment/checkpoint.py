"""Tensors and JSON facts in one safetensors file, and what the files of all aligners have in common."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from brainalign.errors import InputError
from brainalign.files import atomic_write
from brainalign.recipes.load import validate_recipe
from brainalign.recipes.recipe import Recipe

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
            if not isinstance(facts, dict):
                raise ValueError("its facts are no mapping")
            # Cloned: a tensor that still pointed into the file's map would change with the file.
            return {name: file.get_tensor(name).clone() for name in file.keys()}, facts  # noqa: SIM118
    except FileNotFoundError as error:
        raise InputError("no such file", where=path, hint="check the path") from error
    except (SafetensorError, KeyError, OSError, ValueError) as error:
        raise InputError(
            f"is not a whole checkpoint of brainalign ({error})", where=path, hint="train again"
        ) from error


@dataclass(frozen=True)
class SavedAligner:
    """What the file of an aligner holds.

    Attributes
    ----------
    recipe : Recipe
    seed : int
    facts : dict
        Of the header, `shape` among them.
    parts : mapping of str to dict of str to Tensor
        Tensors by the part of their name ahead of the first dot, under the rest of it; empty for a part that is not
        there.
    """

    recipe: Recipe
    seed: int
    facts: dict[str, Any]
    parts: Mapping[str, dict[str, Tensor]]


def read_aligner(path: str | Path, schema: str) -> SavedAligner:
    """Read what an aligner saved.

    Raises
    ------
    InputError
        If the file is missing or damaged, of another schema, or without a valid recipe and a seed.
    """
    tensors, facts = load_tensors(path)
    if facts.get("schema") != schema:
        raise InputError(f"has schema {facts.get('schema')!r}, expected {schema!r}", where=path, hint="train again")
    parts: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        parts[kind][rest] = value
    try:
        given, seed = dict(facts["recipe"]), int(facts["seed"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"names no recipe and seed ({error})", where=path, hint="train again") from error
    return SavedAligner(validate_recipe(given, where=path), seed, facts, parts)
