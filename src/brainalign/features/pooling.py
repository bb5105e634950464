"""From a layer's feature map or tokens to one vector an image."""

from __future__ import annotations

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
    """
    if pooling in ("cls", "mean", "final"):
        return None
    grid = re.fullmatch(r"grid(\d{1,2})", pooling)
    if not grid or not 1 <= int(grid[1]) <= GRID_MAX:
        raise InputError(f"unknown pooling '{pooling}'", hint=f"cls, mean, final, or grid1 to grid{GRID_MAX}")
    return int(grid[1])


def pool(feature: Tensor, pooling: str, *, layout: str, n_prefix_tokens: int = 0) -> Tensor:
    """Pool the output of one layer.

    Parameters
    ----------
    feature : Tensor
        (n, c, h, w) for layout NCHW, (n, h, w, c) for NHWC, (n, tokens, c) for NLC.
    pooling : str
        `mean`: over space, or over all tokens with the prefix tokens (the reading of Shallow Alignment in the field's
        code). `cls`: the first token. `gridN`: adaptive N x N average over the spatial grid without prefix tokens,
        flattened channel by channel.
    n_prefix_tokens : int
        Class and register tokens ahead of the grid.

    Returns
    -------
    Tensor of shape (n, dim)

    Raises
    ------
    InputError
        If the layer has no class token, or its tokens form no square grid.
    """
    grid = check_pooling(pooling)
    if pooling == "mean":
        axes = {"NCHW": (2, 3), "NHWC": (1, 2), "NLC": (1,)}[layout]
        return feature.mean(dim=axes)
    if pooling == "cls":
        if layout != "NLC" or n_prefix_tokens == 0:
            raise InputError("this model has no class token", where="pooling cls", hint="use mean or grid4")
        return feature[:, 0]
    if grid is None:
        raise InputError("pooling 'final' belongs to layer 'final'", hint="use cls, mean or grid4 for other layers")
    return torch.nn.functional.adaptive_avg_pool2d(_as_map(feature, layout, n_prefix_tokens), grid).flatten(1)


def _as_map(feature: Tensor, layout: str, n_prefix_tokens: int) -> Tensor:
    if layout == "NCHW":
        return feature
    if layout == "NHWC":
        return feature.permute(0, 3, 1, 2)
    tokens = feature[:, n_prefix_tokens:]
    side = round(tokens.shape[1] ** 0.5)
    if side * side != tokens.shape[1]:
        raise InputError(f"{tokens.shape[1]} tokens form no square grid", where="pooling gridN", hint="use mean or cls")
    return tokens.transpose(1, 2).unflatten(2, (side, side))
