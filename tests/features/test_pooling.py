"""Poolings against plain numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from brainalign.errors import InputError
from brainalign.features import pool
from brainalign.features.pooling import check_pooling


def grid_by_hand(maps: np.ndarray, n: int) -> np.ndarray:
    """Adaptive average of (batch, c, h, w), cell by cell."""
    batch, channels, height, width = maps.shape
    out = np.empty((batch, channels, n, n))
    for i in range(n):
        for j in range(n):
            rows = slice(math.floor(i * height / n), math.ceil((i + 1) * height / n))
            columns = slice(math.floor(j * width / n), math.ceil((j + 1) * width / n))
            out[:, :, i, j] = maps[:, :, rows, columns].mean(axis=(2, 3))
    return out.reshape(batch, -1)


@pytest.mark.parametrize(("side", "n"), [(7, 4), (8, 4), (14, 4), (7, 1), (5, 3), (2, 4)])
def test_grid_of_maps(rng, side, n) -> None:
    maps = rng.normal(size=(3, 5, side, side)).astype(np.float32)
    expected = grid_by_hand(maps, n)
    nchw = torch.from_numpy(maps)
    np.testing.assert_allclose(pool(nchw, f"grid{n}", layout="NCHW"), expected, atol=1e-6)
    last = nchw.contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(pool(last, f"grid{n}", layout="NCHW"), expected, atol=1e-6)
    np.testing.assert_allclose(pool(nchw.permute(0, 2, 3, 1), f"grid{n}", layout="NHWC"), expected, atol=1e-6)


def test_four_by_four_on_seven_by_seven_overlaps() -> None:
    """Rows 0-1, 1-3, 3-5, 5-6: worked out by hand on a map that counts its rows."""
    counting = torch.arange(7.0).view(1, 1, 7, 1).expand(1, 1, 7, 7)
    assert pool(counting, "grid4", layout="NCHW").view(4, 4)[:, 0].tolist() == [0.5, 2.0, 4.0, 5.5]


@pytest.mark.parametrize("n_prefix", [0, 1, 5])
def test_grid_of_tokens_leaves_prefix_out(rng, n_prefix) -> None:
    tokens = rng.normal(size=(2, n_prefix + 49, 6)).astype(np.float32)
    maps = tokens[:, n_prefix:].reshape(2, 7, 7, 6).transpose(0, 3, 1, 2)
    found = pool(torch.from_numpy(tokens), "grid4", layout="NLC", n_prefix_tokens=n_prefix)
    np.testing.assert_allclose(found, grid_by_hand(maps, 4), atol=1e-6)


def test_mean_and_cls(rng) -> None:
    maps = rng.normal(size=(2, 5, 6, 6)).astype(np.float32)
    np.testing.assert_allclose(pool(torch.from_numpy(maps), "mean", layout="NCHW"), maps.mean((2, 3)), atol=1e-6)
    nhwc = torch.from_numpy(maps.transpose(0, 2, 3, 1).copy())
    np.testing.assert_allclose(pool(nhwc, "mean", layout="NHWC"), maps.mean((2, 3)), atol=1e-6)
    tokens = rng.normal(size=(2, 10, 4)).astype(np.float32)
    every = pool(torch.from_numpy(tokens), "mean", layout="NLC", n_prefix_tokens=1)
    np.testing.assert_allclose(every, tokens.mean(1), atol=1e-6)  # with the class token
    first = pool(torch.from_numpy(tokens), "cls", layout="NLC", n_prefix_tokens=1)
    np.testing.assert_array_equal(first, tokens[:, 0])


def test_final_is_kept_as_it_is() -> None:
    vector = torch.randn(3, 8)
    assert pool(vector, "final", layout="NC") is vector


@pytest.mark.parametrize(
    ("size", "pooling", "layout", "n_prefix", "problem"),
    [
        ((1, 4, 7, 7), "cls", "NCHW", 0, "no class token"),
        ((1, 49, 4), "cls", "NLC", 0, "no class token"),
        ((1, 50, 4), "grid2", "NLC", 0, "50 tokens form no square grid"),
        ((1, 4, 7, 7), "final", "NCHW", 0, "belongs to layer 'final'"),
        ((1, 4), "mean", "NC", 0, "belongs to layer 'final'"),
    ],
)
def test_what_cannot_be_pooled(size, pooling, layout, n_prefix, problem) -> None:
    with pytest.raises(InputError, match=problem):
        pool(torch.zeros(size), pooling, layout=layout, n_prefix_tokens=n_prefix)


@pytest.mark.parametrize("pooling", ["grid0", "grid33", "grid", "grid04", "max", "", "Mean"])
def test_unknown_poolings(pooling) -> None:
    with pytest.raises(InputError, match="unknown pooling"):
        check_pooling(pooling)
