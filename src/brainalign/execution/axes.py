"""The axes of a sweep: what varies from run to run."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from brainalign.errors import InputError, unknown_name
from brainalign.execution.job import Job
from brainalign.execution.session import Session
from brainalign.files import sha256_json
from brainalign.plain_yaml import parse_yaml
from brainalign.recipes import Recipe, recipe_keys, validate_recipe
from brainalign.recipes.load import FULL, ablate, recipe_ablations, reset_options

# Axes that name a condition a score is reported for; every other axis is a choice made on validation.
CONDITIONS = ("subject", "split", "seed")
# Axes whose values are compared with each other: a choice is made within each of them.
COMPARED = ("ablation", "text_prior")
SHORT = {
    "layer": "target.layer",
    "pooling": "target.pooling",
    "backbone": "target.backbone",
    "encoder": "encoder.name",
    "text_prior": "text.prior",
}


@dataclass(frozen=True)
class Axis:
    """One axis and its values in order.

    Attributes
    ----------
    only : dict
        Of an axis `layer` without values of its own, beside an axis `backbone`: the layers that each backbone has.
    """

    name: str
    values: tuple[Any, ...]
    only: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The recipe key behind it (conditions have none)."""
        return SHORT.get(self.name, self.name)


def parse_axis(text: str, session: Session, recipe: Recipe, subject: str) -> Axis:
    """Read `name` or `name=v1,v2,a-b`.

    Without values, `layer` takes the recipe's candidate layers from first to last, `pooling` its candidate poolings,
    `subject` all subjects of the data set, `ablation` the full recipe and all that it has, `text_prior` those that need
    no captioner.

    Raises
    ------
    InputError
        If the axis is unknown, has no values of its own, or a value cannot be read.
    """
    name, mark, listed = text.partition("=")
    name = name.strip()
    keys = [k for k in recipe_keys() if k not in ("name", "profile", "summary", "source", "family")]
    known = list(dict.fromkeys([*CONDITIONS, *COMPARED, *SHORT, *keys]))
    if name not in known:
        raise unknown_name("sweep axis", name, known, where="--over")
    as_text = name in ("subject", *COMPARED)  # 01 is a name, not the number 1
    values = tuple(_values(listed, as_text=as_text)) if mark else _default_values(name, session, recipe, subject)
    if not values:
        raise InputError(f"axis '{name}' has no values", where="--over", hint=f"for example --over {name}=a,b")
    if name in ("split", "seed") and not all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in values):
        raise InputError(
            f"axis '{name}' takes whole numbers, got {listed!r}", where="--over", hint=f"--over {name}=0,1,2"
        )
    if name == "subject":
        values = tuple(session.dataset.require_subject(str(v)) for v in values)
    if len(set(map(str, values))) < len(values):
        raise InputError(f"axis '{name}' names a value twice", where="--over")
    return Axis(name, values)


def _values(listed: str, *, as_text: bool = False) -> Iterator[Any]:
    for word in filter(None, (w.strip() for w in listed.split(","))):
        if as_text:
            yield word.strip("'\"")
        elif span := re.fullmatch(r"(\d+)-(\d+)", word):
            yield from range(int(span[1]), int(span[2]) + 1)
        else:
            try:
                yield parse_yaml(word)
            except yaml.YAMLError as error:
                raise InputError(f"'{word}' is not YAML", where="--over", hint="quote it") from error


def _default_values(name: str, session: Session, recipe: Recipe, subject: str) -> tuple[Any, ...]:
    if name == "subject":
        return session.dataset.subjects
    if name == "pooling":
        return tuple(recipe.target.poolings)
    if name == "ablation":
        known = recipe_ablations(recipe.name)
        if not known:
            raise InputError(
                f"recipe '{recipe.name}' has no ablations", where="--over", hint="vary a key of the recipe"
            )
        return (FULL, *known)
    if name == "text_prior":
        return ("none", "label", "captions")
    if name == "layer":
        target = recipe.target.model_copy(update={"layer": "auto", "layers": None})
        # The pooled features differ by pooling, the layers do not.
        layers = dict.fromkeys(layer for layer, _ in session.targets(subject, target))
        return tuple(int(n) if n.isdigit() else n for n in layers)
    return ()


def parse_axes(texts: Sequence[str], session: Session, recipe: Recipe, subject: str) -> list[Axis]:
    """Read all axes; layers without values are those of each backbone, where backbones are an axis too.

    Raises
    ------
    InputError
        As `parse_axis` does.
    """
    axes = [parse_axis(text, session, recipe, subject) for text in texts]
    backbones = next((axis.values for axis in axes if axis.name == "backbone"), ())
    if not backbones or not any(text.strip() == "layer" for text in texts):
        return axes
    targets = {str(b): recipe.target.model_copy(update={"backbone": str(b), "layers": None}) for b in backbones}
    only = {
        b: _default_values("layer", session, recipe.model_copy(update={"target": target}), subject)
        for b, target in targets.items()
    }
    names = dict.fromkeys(name for values in only.values() for name in values)
    ordered = tuple(
        sorted(names, key=lambda n: (isinstance(n, str), n if isinstance(n, int) else list(names).index(n)))
    )
    return [replace(axis, values=ordered, only=only) if axis.name == "layer" else axis for axis in axes]


def expand(
    axes: Sequence[Axis], recipe: Recipe, subject: str, split: int, seed: int
) -> list[tuple[Job, dict[str, Any]]]:
    """Jobs of the product of all axes, the last axis fastest, each with its axis values.

    Raises
    ------
    InputError
        If two axes have one name, or a value does not suit its recipe key.
    """
    names = [axis.name for axis in axes]
    if len(set(names)) < len(names):
        raise InputError(f"an axis is given twice: {', '.join(names)}", where="--over")
    jobs = []
    for values in itertools.product(*(axis.values for axis in axes)):
        at = dict(zip(names, values, strict=True))
        if any(axis.only and at[axis.name] not in axis.only[str(at["backbone"])] for axis in axes):
            continue
        document = ablate(recipe, str(at.get("ablation", FULL))).model_dump(mode="json")
        for axis in axes:
            if axis.name not in (*CONDITIONS, "ablation"):
                if axis.key == "encoder.name":
                    document = reset_options(document, {"encoder": {"name": at[axis.name]}})
                _set(document, axis.key, at[axis.name])
                if axis.key == "target.layer":
                    document["target"]["layers"] = None  # the axis names the layers
        changed = validate_recipe(document, where="--over")
        who = str(at.get("subject", subject))
        jobs.append((Job(changed, who, int(at.get("split", split)), int(at.get("seed", seed))), at))
    return jobs


def _set(document: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        document = document[part]
    document[last] = value


def slugs(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A folder name for each row, such as `layer-3_split-0`; rows that would share one carry a piece of their hash.

    Examples
    --------
    >>> slugs([{"layer": 3, "split": 0}])
    ['layer-3_split-0']
    """
    names = [_slug(at) for at in rows]
    shared = {name for name, count in Counter(names).items() if count > 1}
    return [f"{name}_{sha256_json(at)[:8]}" if name in shared else name for name, at in zip(names, rows, strict=True)]


def _slug(at: dict[str, Any]) -> str:
    return "_".join(f"{name}-{re.sub(r'[^A-Za-z0-9.]+', '-', str(value)).strip('-')}" for name, value in at.items())
