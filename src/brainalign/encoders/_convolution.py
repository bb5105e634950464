"""Temporal and spatial convolution as one, for networks without a nonlinearity between the two."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn


def temporal_then_spatial(signals: Tensor, temporal: Tensor, temporal_bias: Tensor, spatial: nn.Conv2d) -> Tensor:
    """Filters along time, then filters across channels, as one convolution.

    Sum over filters first, signals last: the response of every temporal filter in every channel, ``n_filters`` times
    as large as the signal, is never made.

    Parameters
    ----------
    signals : Tensor of shape (n, n_chans, n_times)
    temporal : Tensor of shape (n_filters, kernel_size)
    temporal_bias : Tensor of shape (n_filters,)
    spatial : Conv2d
        Weight of shape (n_out, n_filters, n_chans, 1).

    Returns
    -------
    Tensor of shape (n, n_out, n_times - kernel_size + 1)
    """
    across = spatial.weight.squeeze(-1)
    kernel = torch.einsum("ofc,fk->ock", across, temporal)
    bias = across.sum(2) @ temporal_bias + cast(Tensor, spatial.bias)
    return nn.functional.conv1d(signals, kernel, bias)
