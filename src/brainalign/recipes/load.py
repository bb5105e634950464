"""From a recipe's name (or a YAML file) and `key=value` overrides to a checked `Recipe`."""

from __future__ import annotations

import copy
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from brainalign.errors import InputError, unknown_name
from brainalign.plain_yaml import parse_yaml
from brainalign.recipes.recipe import Recipe

RECIPE_BYTES_MAX = 2**20
FULL = "full"
BY_MODALITY = "by_modality"


def recipe_names() -> tuple[str, ...]:
    """Names of the recipes that ship with brainalign."""
    folder = resources.files("brainalign.recipes") / "systems"
    return tuple(sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")))


def recipe_profiles(name: str) -> tuple[str, ...]:
    """Profiles of a recipe: kinds of data ('eeg', 'spikes', ...) and variants such as 'paper'."""
    return tuple(_document(name)[0].get("profiles", {}))


def recipe_ablations(name: str) -> dict[str, dict[str, Any]]:
    """Changes that take a part out of a method (or put one in), by name; none for a recipe read from a file.

    Examples
    --------
    >>> sorted(recipe_ablations("neuroalign"))
    ['no-dla', 'no-sga', 'no-vse']
    """
    base = name.partition("/")[0]
    return dict(_document(base)[0].get("ablations", {})) if base in recipe_names() else {}


def ablate(recipe: Recipe, name: str) -> Recipe:
    """A recipe with one of its ablations; `full` is the recipe itself.

    Raises
    ------
    InputError
        If it has no such ablation.
    """
    if name == FULL:
        return recipe
    known = recipe_ablations(recipe.name)
    if name not in known:
        raise unknown_name(f"ablation of recipe '{recipe.name}'", name, [FULL, *known], where="--over")
    return validate_recipe(_overlay(recipe.model_dump(mode="json"), known[name]), where="--over")


def load_recipe(name: str, *, modality: str, overrides: Iterable[str] = ()) -> Recipe:
    """Resolve a recipe for one kind of data.

    Parameters
    ----------
    name : str
        `shallow-alignment` takes the profile of `modality`; `shallow-alignment/paper` takes that one instead, with
        what it says of the modality itself (`by_modality`); a path to a YAML file (such as the `recipe.yaml` of a run)
        is read as it is.
    modality : str
        'eeg', 'meg', 'fmri', 'spikes', ...
    overrides : iterable of str
        `key.sub=value`, values in YAML; applied last.

    Raises
    ------
    InputError
        If the recipe, a profile or a key is unknown (the nearest is named), or a value is refused.

    Examples
    --------
    >>> load_recipe("shallow-alignment", modality="spikes", overrides=["training.epochs=3"]).training.epochs
    3
    """
    document, profile, where = _document(name)
    base, _, asked = name.partition("/") if where is None else (str(document.get("name", name)), "", "")
    profiles = document.pop("profiles", {})
    budgets = document.pop("budgets", {})
    document.pop("ablations", None)
    if where is None:
        if asked and asked not in profiles:
            raise unknown_name(f"profile of recipe '{base}'", asked, profiles)
        profile = asked or (modality if modality in profiles else "")
        if profile:
            chosen = dict(profiles[profile])
            own = chosen.pop(BY_MODALITY, {}).get(modality, {})
            for part in (chosen, own):
                document = _overlay(reset_options(document, part), part)
        document |= {"name": f"{base}/{asked}" if asked else base, "profile": profile}
    changes = _parse_overrides(overrides)
    budget = changes.get("budget", document.get("budget", "full"))
    if isinstance(budget, str) and budget in budgets and where is None:
        document = _overlay(document, budgets[budget])
    document = reset_options(document, changes)
    document = _overlay(document, changes, key_by_key=True)
    return validate_recipe(document, where=where or "--set" if changes or where else f"recipe {name}")


def reset_options(document: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe without its encoder's options where the changes name another encoder: meant for the old one."""
    encoder, wanted = document.get("encoder"), changes.get("encoder")
    if not isinstance(encoder, Mapping) or not isinstance(wanted, Mapping):
        return dict(document)
    if wanted.get("name", encoder.get("name")) == encoder.get("name"):
        return dict(document)
    return {**document, "encoder": {**encoder, "options": {}}}


def save_recipe(recipe: Recipe) -> str:
    """YAML text of a resolved recipe; `load_recipe` reads it back to an equal one."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


def validate_recipe(document: Mapping[str, Any], *, where: object) -> Recipe:
    """Check a plain mapping.

    Raises
    ------
    InputError
        For the first unknown key (with the nearest one) or refused value.
    """
    for path in _unknown_keys(document, Recipe):
        raise unknown_name("recipe key", path, recipe_keys(), where=where)
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(
            str(part) for part in first["loc"] if not str(part).startswith(("function-", "literal", "list["))
        )
        said = f"{key}: {first['msg']}" if key else first["msg"].removeprefix("Value error, ")
        given = first.get("input")
        if not isinstance(given, Mapping):  # settings that do not go together: the message names them
            said += f", got {given!r}"
        raise InputError(said, where=where) from error


def recipe_keys(model: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[str]:
    """Every key that `--set` takes, dotted."""
    for name, info in model.model_fields.items():
        inner, mapped = _inner_model(info.annotation), _mapped_model(info.annotation)
        if mapped is not None:
            yield from recipe_keys(mapped, f"{prefix}{name}.MODALITY.")
        elif inner is None:
            yield f"{prefix}{name}"
        else:
            yield from recipe_keys(inner, f"{prefix}{name}.")


def _document(name: str) -> tuple[dict[str, Any], str, Path | None]:
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        return _read_yaml(path), "", path
    base = name.partition("/")[0]
    if base not in recipe_names():
        raise unknown_name("recipe", base, recipe_names())
    text = (resources.files("brainalign.recipes") / "systems" / f"{base}.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text), "", None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > RECIPE_BYTES_MAX:
            raise InputError("is larger than 1 MiB", where=path, hint="this is not a recipe")
        document = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=path, hint="check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"is not plain YAML ({error})", where=path, hint="see a run's recipe.yaml") from error
    if not isinstance(document, dict):
        raise InputError("is not a mapping of settings", where=path, hint="see a run's recipe.yaml")
    return document


def _overlay(base: Mapping[str, Any], change: Mapping[str, Any], *, key_by_key: bool = False) -> dict[str, Any]:
    """Lay one nested mapping over another; lists are replaced as a whole, and so are `options` but for `key_by_key`."""
    result = dict(copy.deepcopy(dict(base)))
    for key, value in change.items():
        old = result.get(key)
        inside = isinstance(value, Mapping) and (isinstance(old, Mapping) or old is None)
        if inside and (key != "options" or key_by_key):
            result[key] = _overlay(old or {}, value, key_by_key=key_by_key)
        else:
            result[key] = copy.deepcopy(value)
    return result


def _parse_overrides(overrides: Iterable[str]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for text in overrides:
        key, mark, value = text.partition("=")
        if not mark or not key.strip():
            raise InputError(f"'{text}' is not key=value", where="--set", hint="for example --set training.epochs=50")
        try:
            parsed = parse_yaml(value)
        except yaml.YAMLError as error:
            raise InputError(f"the value of '{key}' is not YAML", where="--set", hint="quote it") from error
        parts = key.strip().split(".")
        at = changes
        for part in parts[:-1]:
            at = at.setdefault(part, {})
            if not isinstance(at, dict):
                raise InputError(f"'{key}' reaches into a value set before", where="--set")
        at[parts[-1]] = parsed
    return changes


def _unknown_keys(document: Mapping[str, Any], model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for key, value in document.items():
        if key not in model.model_fields:
            yield f"{prefix}{key}"
            continue
        annotation = model.model_fields[key].annotation
        inner, mapped = _inner_model(annotation), _mapped_model(annotation)
        if mapped is not None and isinstance(value, Mapping):
            for name, one in value.items():
                if isinstance(one, Mapping):
                    yield from _unknown_keys(one, mapped, f"{prefix}{key}.{name}.")
        elif inner is not None and isinstance(value, Mapping):
            yield from _unknown_keys(value, inner, f"{prefix}{key}.")


def _mapped_model(annotation: Any) -> type[BaseModel] | None:
    """The settings that a mapping by name holds, such as those of each modality."""
    if typing.get_origin(annotation) is dict:
        return _inner_model(typing.get_args(annotation)[1])
    return None


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if (
        isinstance(annotation, type)
        and not isinstance(annotation, types.GenericAlias)
        and issubclass(annotation, BaseModel)
    ):
        return annotation
    for part in typing.get_args(annotation):
        found = _inner_model(part)
        if found is not None:
            return found
    return None
