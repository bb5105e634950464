"""The file of an aligner: what is read back, and what is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from brainalign.alignment.checkpoint import FACTS_KEY, read_aligner, save_tensors
from brainalign.errors import InputError
from brainalign.recipes.load import load_recipe

SCHEMA = "brainalign/made/1"


def recipe() -> dict[str, Any]:
    return load_recipe("ridge", modality="eeg").model_dump(mode="json")


def test_tensors_come_back_by_their_part(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    tensors = {"map.weight": torch.ones(2, 3), "map.inner.bias": torch.arange(3), "signal.mean": torch.zeros(4)}
    save_tensors(path, tensors, {"schema": SCHEMA, "recipe": recipe(), "seed": 5, "shape": {"n_chans": 4}})
    saved = read_aligner(path, SCHEMA)
    assert (saved.seed, saved.facts["shape"], saved.recipe) == (5, {"n_chans": 4}, load_recipe("ridge", modality="eeg"))
    assert set(saved.parts) == {"map", "signal"}
    assert set(saved.parts["map"]) == {"weight", "inner.bias"}
    assert torch.equal(saved.parts["map"]["weight"], torch.ones(2, 3))
    assert saved.parts["not there"] == {}


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ([1, 2], "no mapping"),
        ("text", "no mapping"),
        ({"schema": "brainalign/other/1"}, "expected 'brainalign/made/1'"),
        ({"schema": SCHEMA, "seed": 0}, "names no recipe and seed"),
        ({"schema": SCHEMA, "recipe": recipe()}, "names no recipe and seed"),
        ({"schema": SCHEMA, "recipe": recipe(), "seed": "many"}, "names no recipe and seed"),
        ({"schema": SCHEMA, "recipe": recipe(), "seed": None}, "names no recipe and seed"),
        ({"schema": SCHEMA, "recipe": 3, "seed": 0}, "names no recipe and seed"),
        ({"schema": SCHEMA, "recipe": {"nmae": "ridge"}, "seed": 0}, "unknown recipe key"),
    ],
)
def test_a_header_that_cannot_be_ours_is_one_clear_line(tmp_path: Path, facts: object, said: str) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"map.weight": torch.ones(1)}, str(path), metadata={FACTS_KEY: json.dumps(facts)})
    with pytest.raises(InputError, match=said) as caught:
        read_aligner(path, SCHEMA)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {FACTS_KEY: "{not json"}])
def test_a_file_of_another_program_is_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.ones(1)}, str(path), metadata=metadata)
    with pytest.raises(InputError, match="not a whole checkpoint"):
        read_aligner(path, SCHEMA)


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_tensors(path, {"map.weight": torch.ones(64)}, {"schema": SCHEMA, "recipe": recipe(), "seed": 0})
    path.write_bytes(path.read_bytes()[:-16])
    with pytest.raises(InputError, match="not a whole checkpoint"):
        read_aligner(path, SCHEMA)
