"""From a name in a recipe to a change of every picture ahead of the model: `vse`, `vse?eta=0.5`, `blur?level=low`."""

from __future__ import annotations

import collections.abc
import dataclasses
import importlib
import re
import types
import typing
from typing import TYPE_CHECKING, Any

from brainalign.errors import InputError, unknown_name

if TYPE_CHECKING:
    from brainalign.features.preprocessing import StimulusTransform

# name -> "module:class", imported when asked for. The class is a frozen dataclass: its fields are the options.
TRANSFORMS: dict[str, str] = {
    "blur": "brainalign.stimuli.blur:FovealBlur",
    "vse": "brainalign.stimuli.saliency:VisualSaliency",
}
SYNTAX = "write name?option=value&option=value, such as vse?eta=0.5"
NOTHING = ("none", "null")
SWITCH = {"true": True, "false": False}
BETWEEN_ITEMS = re.compile(r",|(?<![eE])\+")  # a sweep splits its values at commas: 1+2+4 says the same as 1,2,4
EXPECTED = {int: "a whole number", float: "a number", bool: "true or false"}


def stimulus_transform(name_and_options: str | None) -> StimulusTransform | None:
    """The transform that a recipe's `target.transform` names.

    Parameters
    ----------
    name_and_options : str or None
        A name of `TRANSFORMS`, then its options: `name?key=value&key=value`. Several numbers of one option have commas
        or plus signs between them (`scales=1,2,4`, `scales=1+2+4`). The `key` of a transform is such a text too, with
        every option in it. None: pictures stay as they are.

    Returns
    -------
    StimulusTransform or None

    Raises
    ------
    InputError
        If the name or an option is unknown (the nearest one is given), given twice, or its value cannot be used.

    Examples
    --------
    >>> stimulus_transform("vse?eta=0.5&scales=1,2").scales
    (1.0, 2.0)
    >>> stimulus_transform("blur?level=low").level
    'low'
    """
    if name_and_options is None:
        return None
    name, mark, tail = name_and_options.partition("?")
    if not name:
        raise InputError("names no image transform", where=f"'{name_and_options}'", hint=SYNTAX)
    if name not in TRANSFORMS:
        raise unknown_name("image transform", name, TRANSFORMS)
    module, _, attribute = TRANSFORMS[name].partition(":")
    kind = getattr(importlib.import_module(module), attribute)
    hints = typing.get_type_hints(kind)
    known = {field.name: hints[field.name] for field in dataclasses.fields(kind) if field.init}
    options: dict[str, Any] = {}
    for word in tail.split("&") if mark else []:
        key, equals, text = word.partition("=")
        if not key or not equals or not text:
            raise InputError(f"'{word}' is not option=value", where=name_and_options, hint=SYNTAX)
        if key not in known:
            raise unknown_name("option", key, known, where=name)
        if key in options:
            raise InputError(f"option '{key}' is given twice", where=name_and_options)
        options[key] = _value(text, known[key], f"{name}?{word}")
    found: StimulusTransform = kind(**options)
    return found


def _value(text: str, kind: Any, where: str) -> Any:
    """A value as the option's type says: text, number, switch, numbers; None where that is allowed."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        kinds = [one for one in typing.get_args(kind) if one is not type(None)]
        if len(kinds) < len(typing.get_args(kind)) and text.lower() in NOTHING:
            return None
        kind = kinds[0]
    if typing.get_origin(kind) in (tuple, collections.abc.Sequence):
        return tuple(_value(item, typing.get_args(kind)[0], where) for item in BETWEEN_ITEMS.split(text))
    if kind not in EXPECTED:
        return text
    try:
        return SWITCH[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        raise InputError(f"'{text}' is not {EXPECTED[kind]}", where=where) from None
