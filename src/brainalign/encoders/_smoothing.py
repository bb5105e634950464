"""The moving average as a layer, for encoders that change the signal before they filter it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from brainalign.encoders._temporal_spatial import box_filter


def smooth(signals: Tensor, size: int) -> Tensor:
    """Mean of each `size` neighbouring samples, (n, n_chans, n_times) to (n, n_chans, n_times - size + 1).

    The values are those of `box_filter`. The gradient is one moving average too, where differentiating `box_filter`
    would go back through each of its partial sums.
    """
    averaged: Tensor = _Smooth.apply(signals, size)
    return averaged


class _Smooth(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, signals: Tensor, size: int) -> Tensor:
        ctx.size = size
        return box_filter(signals, size)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        # Each sample is in the `size` averages that end at it and after it.
        return box_filter(nn.functional.pad(grad, (ctx.size - 1, ctx.size - 1)), ctx.size), None
