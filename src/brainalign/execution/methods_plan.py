"""Which recipes are measured under which protocols, with what settings, and why others cannot be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from brainalign.alignment.families import SEEDLESS
from brainalign.datasets import Dataset
from brainalign.errors import InputError, unknown_name
from brainalign.execution.cells import Place
from brainalign.protocols.registry import PROTOCOLS
from brainalign.recipes import Recipe, load_recipe, recipe_names

# The target that most published systems share; `--set` puts another one in its place, for all methods alike.
MATCHED = (
    "target.backbone=pip:efficientnet-lite0",
    "target.layer=final",
    "target.layers=null",
    "target.pooling=final",
    "target.components=null",
    "target.standardize=true",
    "target.transform=null",
    "uncertainty.levels=[]",
    "generative.field=flat",
)
SCOPES = ("intra", "inter")
# Families that no sweep over one data set can run.
ELSEWHERE = {"foundation": "aligns several data sets in one space; use brainalign train foundation"}


@dataclass(frozen=True)
class MethodCell:
    """One method under one protocol.

    Attributes
    ----------
    recipe : str
        As asked for.
    protocol : str
    settings : list of str
    resolved : Recipe or None
        None where it cannot run; `reason` then says why.
    """

    recipe: str
    protocol: str
    settings: list[str]
    resolved: Recipe | None
    reason: str = ""

    @property
    def slug(self) -> str:
        """Name of its folder."""
        return re.sub(r"[^A-Za-z0-9.-]+", "-", f"{'-'.join(self.protocol.split('/')[1:])}_{self.recipe}")

    def over(self, subjects: Sequence[str], seeds: Sequence[int]) -> list[str]:
        """Axes of its sweep; one seed where a seed plays no part."""
        assert self.resolved is not None
        own = seeds[:1] if self.resolved.family in SEEDLESS else seeds
        return [f"subject={','.join(subjects)}", f"seed={','.join(map(str, own))}"]

    def request(self, dataset: Dataset, subjects: Sequence[str], seeds: Sequence[int], split: int) -> dict[str, Any]:
        """What decides the sweep, to tell whether a finished one answers it."""
        assert self.resolved is not None
        return {
            "recipe": self.resolved.facts(),
            "protocol": self.protocol,
            "over": self.over(subjects, seeds),
            "split": split,
            "dataset": dataset.facts(),
        }


def plan_methods(
    place: Place, recipes: Sequence[str], protocols: Sequence[str], settings: Sequence[str], *, match: bool = False
) -> list[MethodCell]:
    """Every recipe under every protocol, protocol after protocol, in the order asked for.

    Parameters
    ----------
    recipes : sequence of str
        All that ship where empty.
    protocols : sequence of str
        Versioned names, `intra` or `inter`; both of the data set where empty.
    match : bool
        Give all methods one image target.

    Raises
    ------
    InputError
        If a recipe or protocol is unknown or named twice, or the settings suit no recipe.
    """
    assert place.dataset is not None
    names = list(recipes) or list(recipe_names())
    for name in names:
        if not name.endswith((".yaml", ".yml")) and name.partition("/")[0] not in recipe_names():
            raise unknown_name("recipe", name, recipe_names(), where="--recipes")
    if len(set(names)) < len(names):
        raise InputError("names a recipe twice", where="--recipes")
    wanted = [*(MATCHED if match else ()), *settings]
    resolved = {name: _resolve(name, place.dataset.info.modality, wanted) for name in names}
    failed = [found for found in resolved.values() if isinstance(found, InputError)]
    if len(failed) == len(names):
        raise failed[0]
    return [
        _cell(name, protocol, wanted, resolved[name])
        for protocol in find_protocols(place.dataset, protocols)
        for name in names
    ]


def find_protocols(dataset: Dataset, asked: Sequence[str]) -> list[str]:
    """Versioned protocols: those asked for, else the data set's own and the one that leaves its subjects out.

    Raises
    ------
    InputError
        If there is none of that name, or one named twice.
    """
    own = dataset.info.protocol
    left_out = f"{own.partition('/')[0]}/inter/v1"
    if not asked:
        both = left_out in PROTOCOLS and len(dataset.subjects) > 1
        return [own, left_out] if both and left_out != own else [own]
    found = []
    for name in asked:
        full = {"intra": own, "inter": left_out}.get(name, name)
        if full not in PROTOCOLS:
            raise unknown_name("protocol", full, [*SCOPES, *PROTOCOLS], where="--protocol")
        if full == left_out and len(dataset.subjects) < 2:
            text = f"{dataset.name} has one subject, so none can be left out"
            raise InputError(text, where="--protocol", hint="use intra")
        found.append(full)
    if len(set(found)) < len(found):
        raise InputError("names a protocol twice", where="--protocol")
    return found


def _resolve(name: str, modality: str, settings: Sequence[str]) -> Recipe | InputError:
    try:
        return load_recipe(name, modality=modality, overrides=settings)
    except InputError as error:
        return error


def _cell(name: str, protocol: str, settings: list[str], found: Recipe | InputError) -> MethodCell:
    if isinstance(found, InputError):
        return MethodCell(name, protocol, settings, None, str(found))
    if found.family in ELSEWHERE:
        return MethodCell(name, protocol, settings, None, ELSEWHERE[found.family])
    return MethodCell(name, protocol, settings, found)
