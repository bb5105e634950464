"""Words of `--data-option`."""

from __future__ import annotations

import pytest

from brainalign.errors import InputError
from brainalign.options import parse_options


def test_values_are_yaml_but_labels_stay():
    assert parse_options(["noise=2.5", "run=012", "task=a=b", "channels=[Oz, O1]", "band=null"]) == {
        "noise": 2.5, "run": "012", "task": "a=b", "channels": ["Oz", "O1"], "band": None,
    }  # fmt: skip
    assert parse_options(None) == {}


@pytest.mark.parametrize("word", ["noise", "=2", "noise=[", "x={a", "d=2020-13-45"])
def test_what_cannot_be_read_is_told_in_one_line(word):
    with pytest.raises(InputError, match="--data-option"):
        parse_options([word])
