"""Parts of pages that are read from the program when the pages are built, so that they cannot go stale.

A comment `<!-- made: KIND -->` or `<!-- made: KIND NAME -->` on a line of its own is replaced.
"""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

MARK = re.compile(r"^<!-- made: (\w+)(?: ([\w-]+))? -->$", re.MULTILINE)
WIDTH = 78  # of a help text, in the characters that a page is wide


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs for every page."""
    return MARK.sub(lambda m: MAKERS[m[1]](*filter(None, [m[2]])), markdown)


def commands() -> str:
    """Help of every command, analyses among them."""
    import typer

    from brainalign.cli.main import app

    root = typer.main.get_command(app)
    context = _context(root, None, "brainalign")
    return "\n\n".join(_command(*found) for found in _commands(root, context, 2))


def command_names() -> list[str]:
    """Every command as it is typed, without the program's name: `train`, `analyze layers`, ..."""
    import typer

    from brainalign.cli.main import app

    root = typer.main.get_command(app)
    found = _commands(root, _context(root, None, "brainalign"), 2)
    return [context.command_path.partition(" ")[2] for _, context, _ in found]


def _commands(group: Any, context: Any, level: int) -> Iterator[tuple[Any, Any, int]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        inner = _context(command, context, name)
        yield command, inner, level
        if hasattr(command, "list_commands"):
            yield from _commands(command, inner, level + 1)


def _context(command: Any, parent: Any, name: str) -> Any:
    return command.context_class(
        command, parent=parent, info_name=name, terminal_width=WIDTH, max_content_width=WIDTH,
        help_option_names=["-h", "--help"],
    )  # fmt: skip


def _command(command: Any, context: Any, level: int) -> str:
    name = context.command_path.partition(" ")[2]
    told, _, example = context.command.get_help(context).rpartition("\n\n")
    if not re.match(r"\s*Examples?:", example):
        told, example = f"{told}\n\n{example}", ""
    parts = [f"{'#' * level} {name}", f"```text\n{told.strip()}\n```"]
    if command.epilog:
        lines = re.sub(r"^Examples?: ", "", command.epilog).split(" | brainalign ")
        parts.append("```console\n" + "\n".join("$ " + _with_program(line) for line in lines) + "\n```")
    return "\n\n".join(parts)


def _with_program(line: str) -> str:
    return line if shlex.split(line)[0] == "brainalign" else f"brainalign {line}"


def settings() -> str:
    """Every key of a recipe with its values, default and meaning."""
    from brainalign.recipes import Recipe

    parts = []
    for name, field in Recipe.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            doc = inspect.getdoc(field.annotation) or ""
            parts.append(f"## {name}\n\n{doc}\n\n{_table(list(_keys(field.annotation, f'{name}.')))}")
    return "\n\n".join(parts)


def _keys(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _keys(kind, f"{prefix}{name}.")
            continue
        default = field.get_default(call_default_factory=True)
        shown = "" if default is PydanticUndefined else yaml.safe_dump(default, default_flow_style=True, width=200)
        yield f"`{prefix}{name}`", _values(kind, field.metadata), _code(shown), field.description or ""


def _values(kind: Any, limits: list[Any]) -> str:
    """What a setting may be, in words."""
    marks = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    bounds = [f"{marks[key]} {getattr(limit, key):g}" for limit in limits for key in marks if hasattr(limit, key)]
    return ", ".join([_kind(kind), *bounds])


def _kind(kind: Any) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _kind(inner[0])
    if origin is Literal:
        return " or ".join(f"`{word}`" for word in inner)
    if origin in (list, tuple, dict):
        return {list: "list", tuple: "two numbers", dict: "mapping"}[origin]
    if inner:  # a union
        return " or ".join(dict.fromkeys(_kind(one) for one in inner))
    words = {str: "text", int: "whole number", float: "number", bool: "`true` or `false`", type(None): "`null`"}
    return words[kind]


def recipe(name: str) -> str:
    """What the file of a recipe says, and its profiles side by side where they differ from it."""
    from brainalign.recipes import recipe_profiles

    profiles = recipe_profiles(name)
    said = f"Profiles: {', '.join(f'`{one}`' for one in profiles)}. " if profiles else ""
    return (
        f"{said}Printed with every default filled in by `brainalign recipes {name}`; any key can be set with "
        f'`--set KEY=VALUE` ([every setting](settings.md)).\n\n```yaml\n--8<-- "{name}.yaml"\n```'
    )


def recipes() -> str:
    """The list of recipes."""
    from brainalign.recipes import load_recipe, recipe_names, recipe_profiles

    rows = []
    for name in recipe_names():
        found = load_recipe(name, modality="eeg")
        profiles = ", ".join(f"`{one}`" for one in recipe_profiles(name)) or "none"
        rows.append((f"[`{name}`]({name}.md)", found.summary, found.family, profiles))
    return _table(rows, ("recipe", "what it is", "family", "profiles"))


def datasets() -> str:
    """The list of data sets."""
    from brainalign.datasets.commands import overview

    rows = []
    for found in overview():
        page = "virtual" if found["name"].startswith("virtual-") else found["name"]
        rows.append(
            (f"[`{found['name']}`]({page}.md)", found["title"], found["signal"], found["subjects"], found["size"])
        )
    return _table(rows, ("name", "what it is", "signal", "subjects", "size"))


def _table(rows: list[Any], head: tuple[str, ...] = ("key", "values", "default", "meaning")) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)])


def _code(text: str) -> str:
    text = text.strip().removesuffix("...").strip()
    return f"`{text}`" if text else ""


MAKERS = {"commands": commands, "settings": settings, "recipe": recipe, "recipes": recipes, "datasets": datasets}
