"""Aligners by the family a recipe names."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from brainalign.alignment.checkpoint import load_tensors
from brainalign.errors import InputError, unknown_name
from brainalign.recipes.recipe import Recipe

FAMILIES = {
    "contrastive": "brainalign.alignment.contrastive:ContrastiveAligner",
    "generative": "brainalign.alignment.generative:GenerativeAligner",
    "bravl": "brainalign.alignment.bravl.aligner:BravlAligner",
    "foundation": "brainalign.alignment.foundation:FoundationAligner",
    "ridge": "brainalign.alignment.regression:RidgeAligner",
    "random": "brainalign.alignment.guess:RandomAligner",
}


# Closed forms: the same data give the same model, whatever the seed.
SEEDLESS = frozenset({"generative", "ridge"})


def build_aligner(recipe: Recipe, *, seed: int = 0, device: str = "cpu") -> Any:
    """An aligner that has learnt nothing yet."""
    return _family(recipe.family)(recipe, seed=seed, device=device)


def load_aligner(path: str | Path, *, device: str = "cpu") -> Any:
    """Read a saved aligner of any family.

    Raises
    ------
    InputError
        If the file is missing, damaged, or of no family known here.
    """
    facts = load_tensors(path)[1]
    try:
        name = str(facts["recipe"]["family"])
    except (KeyError, TypeError) as error:
        raise InputError("names no recipe", where=path, hint="train again") from error
    return _family(name, path).load(path, device=device)


def _family(name: str, where: object = "family") -> Any:
    if name not in FAMILIES:
        raise unknown_name("family of recipes", name, FAMILIES, where=where)
    module, _, kind = FAMILIES[name].partition(":")
    return getattr(importlib.import_module(module), kind)
