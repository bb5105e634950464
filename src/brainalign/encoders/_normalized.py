"""Temporal filters with the BatchNorm after them folded in."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from brainalign.encoders._temporal_spatial import window_moments
from brainalign.errors import InputError


def normalized_filters(
    signals: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d, stride: int, *, training: bool, where: str
) -> tuple[Tensor, Tensor]:
    """Filters and biases whose responses are those of `conv` after `norm`.

    Mean and variance of each filter's response follow from the mean and the covariance of the windows that it sees, so
    the responses themselves need not be made. In training, the running statistics of `norm` move as in its own forward.

    Parameters
    ----------
    signals : Tensor of shape (n, n_chans, n_samples)
    conv : Conv2d
        Of one map, with a weight of shape (n_filters, 1, 1, kernel_size) and a bias.
    norm : BatchNorm2d
        Of n_filters maps.
    stride : int
        Samples from one window to the next.
    training : bool
        Whether to use (and count) the statistics of these signals instead of the running ones.
    where : str
        The encoder, for errors.

    Returns
    -------
    kernel : Tensor of shape (n_filters, kernel_size)
    bias : Tensor of shape (n_filters,)

    Raises
    ------
    InputError
        If there is a single window, which has no variance.
    """
    weight, bias = conv.weight.flatten(1), cast(Tensor, conv.bias)
    if training or norm.running_mean is None or norm.running_var is None:
        size = weight.shape[1]
        count, window_mean, covariance = window_moments(signals, size, stride, per_gram=max(1, size // stride - 1))
        exact = weight.to(covariance.dtype)
        mean = exact @ window_mean + bias
        var = ((exact @ covariance) * exact).sum(1).clamp(min=0)
        _update_statistics(norm, mean, var, count, where)
    else:
        mean, var = norm.running_mean, norm.running_var
    gain = norm.weight * torch.rsqrt(var + norm.eps)
    return (weight * gain[:, None]).to(weight.dtype), ((bias - mean) * gain + norm.bias).to(weight.dtype)


@torch.no_grad()
def _update_statistics(norm: nn.BatchNorm2d, mean: Tensor, var: Tensor, count: int, where: str) -> None:
    """Move running mean and (unbiased) variance as `torch.nn.BatchNorm2d` does."""
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    if count < 2:
        raise InputError("one window in a batch has no variance", where=where, hint="train with more than one trial")
    norm.num_batches_tracked.add_(1)
    momentum = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), momentum)
    norm.running_var.lerp_((var * (count / (count - 1))).to(norm.running_var.dtype), momentum)
