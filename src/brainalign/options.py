"""`--data-option` words of the command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from brainalign.errors import InputError

HINT = "for example --data-option noise=2"


def parse_options(words: Sequence[str] | None) -> dict[str, Any]:
    """`key=value` words to a mapping, values in YAML; a label such as 012 is no octal number.

    Raises
    ------
    InputError
        If a word has no '=', or its value is no YAML.

    Examples
    --------
    >>> parse_options(["noise=2", "run=012"])
    {'noise': 2, 'run': '012'}
    """
    import yaml

    from brainalign.plain_yaml import parse_yaml

    found = {}
    for word in words or ():
        key, mark, value = word.partition("=")
        if not mark or not key:
            raise InputError(f"'{word}' is not key=value", where="--data-option", hint=HINT)
        try:
            found[key] = value if re.fullmatch(r"0\d+", value) else parse_yaml(value)
        except yaml.YAMLError as error:
            raise InputError(f"'{value}' is no value of '{key}'", where="--data-option", hint=HINT) from error
    return found
