"""Options at the end of a backbone's name: `hf:OpenGVLab/InternViT-6B-448px-V1-5?dtype=bfloat16`."""

from __future__ import annotations

from collections.abc import Collection

import torch

from brainalign.errors import InputError, unknown_name

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def split_options(name: str, known: Collection[str], *, where: str) -> tuple[str, dict[str, str]]:
    """Split `name?option&option=value`; an option without a value has the empty one.

    Raises
    ------
    InputError
        If an option is unknown or given twice.

    Examples
    --------
    >>> split_options("org/model?trust_remote_code&dtype=bfloat16", ["trust_remote_code", "dtype"], where="hf")
    ('org/model', {'trust_remote_code': '', 'dtype': 'bfloat16'})
    """
    bare, mark, tail = name.partition("?")
    options: dict[str, str] = {}
    for word in tail.split("&") if mark else []:
        key, _, value = word.partition("=")
        if key not in known:
            raise unknown_name("option", key, known, where=where)
        if key in options:
            raise InputError(f"option '{key}' is given twice", where=where)
        options[key] = value
    return bare, options


def flag(options: dict[str, str], key: str, *, where: str) -> bool:
    """Whether an option that takes no value is there.

    Raises
    ------
    InputError
        If it was given a value.
    """
    if options.get(key):
        raise InputError(f"option '{key}' takes no value, got '{options[key]}'", where=where)
    return key in options


def chosen_dtype(options: dict[str, str], *, where: str) -> torch.dtype:
    """The number format the model is to run in, float32 unless said otherwise.

    Raises
    ------
    InputError
        If it is unknown.
    """
    name = options.get("dtype", "float32")
    if name not in DTYPES:
        raise unknown_name("dtype", name, DTYPES, where=where)
    return DTYPES[name]
