"""Finding layers by index, name, depth and range."""

from __future__ import annotations

import numpy as np
import pytest

from brainalign.errors import InputError
from brainalign.features.layers import layer_table


@pytest.fixture
def table():
    return layer_table(16, aliases={"stage1": "2"})


def names(layers) -> list[str]:
    return [layer.name for layer in layers]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("blocks", [str(i) for i in range(16)]),
        (0, ["0"]),
        (-1, ["15"]),
        ("-16", ["0"]),
        ("3", ["3"]),
        ("head", ["head"]),
        ("3-7", ["3", "4", "5", "6", "7"]),
        ("final, 2,1-3", ["1", "2", "3", "final"]),
        (["head", 4, "0.0"], ["0", "4", "head"]),
        ("stage1", ["2"]),
        (np.int64(5), ["5"]),
        # depths of 16 blocks are i / 15: 0.5 lies between 7 (0.4667) and 8 (0.5333), 0.6 is exactly block 9
        (0.6, ["9"]),
        (0.98, ["15"]),
        (np.float32(1.0), ["15"]),
        ("0.0", ["0"]),
    ],
)
def test_resolves(table, spec, expected) -> None:
    assert names(table.resolve(spec)) == expected


def test_all_are_blocks_then_head_then_final(table) -> None:
    assert names(table.resolve("all")) == [*(str(i) for i in range(16)), "head", "final"]


@pytest.mark.parametrize("spec", [16, -17, "16", "7-3", "3-16", 1.5, -0.1, "stage5", "", "heads", [0, "x"]])
def test_names_what_exists(table, spec) -> None:
    with pytest.raises(InputError, match="blocks 0 to 15, head, final, stage1"):
        table.resolve(spec)


def test_no_layer_at_all(table) -> None:
    with pytest.raises(InputError, match="no layer is asked for"):
        table.resolve([])


def test_depth_counts_from_the_first_block_to_the_last() -> None:
    depths = {layer.name: layer.depth for layer in layer_table(5).layers}
    assert depths == {"0": 0.0, "1": 0.25, "2": 0.5, "3": 0.75, "4": 1.0, "head": 1.0, "final": 1.0}
    assert layer_table(1).layers[0].depth == 0.0
