"""YAML of others: plain values are read, what could fill the memory or crash is one YAML error."""

from __future__ import annotations

import datetime

import pytest
import yaml

from brainalign.errors import InputError
from brainalign.execution import axes
from brainalign.options import parse_options
from brainalign.plain_yaml import parse_yaml
from brainalign.recipes import load_recipe
from brainalign.recipes.published_tables import read_table

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 12))
REFUSED = {
    "bomb": (BOMB, "aliases stand for more than 100000 values"),
    "bomb of merges": (MERGES, "aliases stand for more than 100000 values"),
    "loop": ("a: &a [*a]", "an alias stands for itself"),
    "no date": ("name: 2024-13-45", "month must be in 1..12"),
    "401 digits": (f"sfreq: {'9' * 401}", "too many digits"),
    "5001 digits": (f"sfreq: {'9' * 5001}", "digits"),
    "hexadecimal": (f"sfreq: 0x{'f' * 5001}", "too many digits"),
    "deep": ("[" * 5000, "nested too deep"),
    "object": ("!!python/object/apply:os.getcwd []", "could not determine a constructor"),
}


def test_plain_values_are_read():
    text = "a: &mark [1, -2.5, true, null, ~]\nb: {c: 'text', d: 2024-02-03}\ne: 99999999999999999999\n"
    assert parse_yaml(text) == {
        "a": [1, -2.5, True, None, None],
        "b": {"c": "text", "d": datetime.date(2024, 2, 3)},
        "e": 99999999999999999999,
    }


def test_aliases_may_repeat_a_part():
    text = "a: &a {b: 1}\nc: [*a, *a]\nd:\n  <<: *a\n  e: 2\n"
    assert parse_yaml(text) == {"a": {"b": 1}, "c": [{"b": 1}, {"b": 1}], "d": {"b": 1, "e": 2}}
    assert len(parse_yaml("[" + "1, " * 150_000 + "]")) == 150_000, "what is written out has no bound but the file's"


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_meant_is_a_yaml_error(case):
    text, words = REFUSED[case]
    with pytest.raises(yaml.YAMLError) as caught:
        parse_yaml(text)
    assert words in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("case", REFUSED)
def test_files_and_options_of_others_are_refused_in_one_line(case, tmp_path):
    text, _ = REFUSED[case]
    path = tmp_path / "given.yaml"
    path.write_text(text)
    word = text.partition("\n")[0].partition(": ")[2] or text
    reads = [lambda: load_recipe(str(path), modality="eeg"), lambda: read_table(str(path))]
    if "bomb" not in case:  # a line of these alone is plain
        reads.append(lambda: parse_options([f"noise={word}"]))
        reads.append(lambda: load_recipe("ridge", modality="eeg", overrides=[f"training.lr={word}"]))
        reads.append(lambda: list(axes._values(word)))
    for read in reads:
        with pytest.raises(InputError) as caught:
            read()
        assert "\n" not in str(caught.value)
