"""From a layer's feature map or tokens to one vector an image."""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor

from brainalign.errors import InputError

GRID_MAX = 32


def check_pooling(pooling: str) -> int | None:
    """The N of `gridN`, or None for `cls`, `mean` and `final`.

    Raises
    ------
    InputError
        If the pooling is none of these.

    Examples
    --------
    >>> check_pooling("grid4"), check_pooling("mean")
    (4, None)
    """
    if pooling in ("cls", "mean", "final"):
        return None
    grid = re.fullmatch(r"grid([1-9]\d?)", pooling)
    if not grid or int(grid[1]) > GRID_MAX:
        raise InputError(f"unknown pooling '{pooling}'", hint=f"use cls, mean, final, or grid1 to grid{GRID_MAX}")
    return int(grid[1])


def pool(feature: Tensor, pooling: str, *, layout: str, n_prefix_tokens: int = 0) -> Tensor:
    """Pool the output of one layer.

    Parameters
    ----------
    feature : Tensor
        (n, c, h, w) for layout NCHW, (n, h, w, c) for NHWC, (n, tokens, c) for NLC, (n, c) for NC.
    pooling : str
        `mean`: over space, or over all tokens with the prefix tokens (the reading of Shallow Alignment in the field's
        code). `cls`: the first token. `gridN`: adaptive N x N average over the spatial grid without prefix tokens,
        flattened channel by channel: cell (i, j) averages rows floor(i h / N) to ceil((i + 1) h / N), columns likewise.
        `final`: a vector as it is.
    layout : {'NCHW', 'NHWC', 'NLC', 'NC'}
    n_prefix_tokens : int
        Class and register tokens ahead of the grid.

    Returns
    -------
    Tensor of shape (n, dim)
        dim is c, or c N^2 for `gridN`.

    Raises
    ------
    InputError
        If the layer has no class token, its tokens form no square grid, or `final` meets a map, or a vector another
        pooling.

    Examples
    --------
    >>> tokens = torch.arange(10.0).reshape(1, 5, 2)  # a class token and a 2 x 2 grid, 2 channels
    >>> pool(tokens, "cls", layout="NLC", n_prefix_tokens=1).tolist()
    [[0.0, 1.0]]
    >>> pool(tokens, "grid1", layout="NLC", n_prefix_tokens=1).tolist()
    [[5.0, 6.0]]
    """
    side = check_pooling(pooling)
    if (layout == "NC") != (pooling == "final"):
        raise InputError("pooling 'final' belongs to layer 'final', and only to it", hint="use cls, mean or grid4")
    if pooling == "final":
        return feature
    if pooling == "mean":
        return feature.mean(dim={"NCHW": (2, 3), "NHWC": (1, 2), "NLC": (1,)}[layout])
    if pooling == "cls":
        if layout != "NLC" or n_prefix_tokens == 0:
            raise InputError("this layer has no class token", where="pooling cls", hint="use mean or grid4")
        return feature[:, 0]
    assert side is not None
    return torch.nn.functional.adaptive_avg_pool2d(_as_map(feature, layout, n_prefix_tokens), side).flatten(1)


def _as_map(feature: Tensor, layout: str, n_prefix_tokens: int) -> Tensor:
    """(n, c, h, w)."""
    if layout == "NCHW":
        return feature
    if layout == "NHWC":
        return feature.permute(0, 3, 1, 2)
    tokens = feature[:, n_prefix_tokens:]
    side = math.isqrt(tokens.shape[1])
    if side * side != tokens.shape[1]:
        raise InputError(f"{tokens.shape[1]} tokens form no square grid", where="pooling gridN", hint="use mean or cls")
    return tokens.transpose(1, 2).reshape(len(tokens), -1, side, side)
