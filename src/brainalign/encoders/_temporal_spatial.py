"""The costly part of TSConv: windows, temporal filters, ELU and spatial filters without a large tensor in between."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_ROWS_PER_BLOCK = 4096
_TRIALS_PER_BLOCK = 64


def box_filter(signals: Tensor, size: int) -> Tensor:
    """Mean of each `size` neighbouring samples, (n, n_chans, n_times) to (n, n_chans, n_times - size + 1).

    Sums of 2, 4, 8, ... samples are built from one another, so the cost grows with log(size) and rounding errors stay
    those of a pairwise sum.
    """
    blocks = [_moving_sum(block, size) / size for block in _blocks(signals, _TRIALS_PER_BLOCK)]
    return torch.cat(blocks) if len(blocks) > 1 else blocks[0]


def _blocks(x: Tensor, size: int) -> list[Tensor]:
    return [x[i : i + size] for i in range(0, max(len(x), 1), size)]


def _moving_sum(x: Tensor, size: int) -> Tensor:
    n_out = x.shape[-1] - size + 1
    total, start, width = None, 0, 1
    while True:
        if size & width:
            part = x[..., start : start + n_out]
            total = part if total is None else total + part
            start += width
        if start == size:
            assert total is not None
            return total
        x = x[..., :-width] + x[..., width:]
        width *= 2


def window_moments(signals: Tensor, kernel_size: int, stride: int, *, per_gram: int = 4) -> tuple[int, Tensor, Tensor]:
    """Mean and covariance of all windows of `kernel_size` samples at every `stride`, in float64.

    Parameters
    ----------
    signals : Tensor of shape (n, n_chans, n_samples)
    per_gram : int
        Windows that share one matrix product; about ``kernel_size / stride - 1`` makes the least work.

    Returns
    -------
    count : int
        Windows of all trials and channels.
    mean : Tensor of shape (kernel_size,)
    covariance : Tensor of shape (kernel_size, kernel_size)
        Divided by `count`.
    """
    rows = signals.flatten(0, 1)
    count = ((rows.shape[1] - kernel_size) // stride + 1) * len(rows)
    total, gram = _Sums.apply(rows, kernel_size, stride, per_gram)
    mean = total.unfold(0, kernel_size, stride).sum(0) / count
    return count, mean, gram / count - torch.outer(mean, mean)


class _Sums(torch.autograd.Function):
    """Sum of all rows, (n_samples,), and of each window's product with itself, (kernel_size, kernel_size)."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, kernel_size: int, stride: int, per_gram: int) -> tuple[Tensor, Tensor]:
        # Smoothed signals make a nearly singular covariance: float32 would lose the variance of a filter that removes
        # slow waves. MPS has no float64.
        dtype = torch.float32 if rows.device.type == "mps" else torch.float64
        total = rows.new_zeros(rows.shape[1], dtype=dtype)
        gram = rows.new_zeros(kernel_size, kernel_size, dtype=dtype)
        for block in _blocks(rows, _ROWS_PER_BLOCK):
            exact = block.to(dtype)
            total += exact.sum(0)
            for start, end in _spans(rows.shape[1], kernel_size, stride, per_gram):
                gram += _diagonal_blocks(exact[:, start:end].T @ exact[:, start:end], kernel_size, stride)
        ctx.save_for_backward(rows)
        ctx.stride, ctx.per_gram = stride, per_gram
        return total, gram

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_total: Tensor, d_gram: Tensor) -> tuple[Tensor, None, None, None]:
        (rows,) = ctx.saved_tensors
        both, size = (d_gram + d_gram.T).to(rows.dtype), len(d_gram)
        d_rows = d_total.to(rows.dtype).repeat(len(rows), 1)
        for start, end in _spans(rows.shape[1], size, ctx.stride, ctx.per_gram):
            # Each window's gradient is the window times `both`; windows of a span overlap.
            square = both.new_zeros(end - start, end - start)
            for w in range(0, end - start - size + 1, ctx.stride):
                square[w : w + size, w : w + size] += both
            for block, d_block in zip(_blocks(rows, _ROWS_PER_BLOCK), _blocks(d_rows, _ROWS_PER_BLOCK), strict=True):
                d_block[:, start:end] += block[:, start:end] @ square
        return d_rows, None, None, None


def _spans(n_samples: int, size: int, stride: int, per_span: int) -> list[tuple[int, int]]:
    """First and last sample (exclusive) of each `per_span` windows of `size` samples at every `stride`."""
    n_windows = (n_samples - size) // stride + 1
    firsts = range(0, n_windows, per_span)
    return [(first * stride, (min(first + per_span, n_windows) - 1) * stride + size) for first in firsts]


def _diagonal_blocks(square: Tensor, size: int, stride: int) -> Tensor:
    """Sum of the (size, size) blocks that start at every `stride` along the diagonal."""
    blocks = square.unfold(0, size, stride).unfold(1, size, stride)
    return blocks.diagonal().sum(-1)


def temporal_spatial(signals: Tensor, kernel: Tensor, bias: Tensor, spatial: Tensor, stride: int) -> Tensor:
    """Temporal filters on each window, ELU, spatial filters.

    Parameters
    ----------
    signals : Tensor of shape (n, n_chans, n_samples)
    kernel : Tensor of shape (n_filters, kernel_size)
    bias : Tensor of shape (n_filters,)
        Of the temporal filters.
    spatial : Tensor of shape (n_chans, n_filters, n_out)
    stride : int
        Samples from one window to the next.

    Returns
    -------
    Tensor of shape (n_windows, n, n_out)
    """
    signals = signals.contiguous()
    device = signals.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        signals, kernel, bias, spatial = (t.to(dtype) for t in (signals, kernel, bias, spatial))
    filtered: Tensor = _TemporalSpatial.apply(
        signals, kernel, bias, spatial.flatten(0, 1), stride, torch.is_grad_enabled()
    )
    return filtered


class _TemporalSpatial(torch.autograd.Function):
    """One window at a time, so that each step works on what the processor's cache still holds.

    Kept for the backward pass is the response of all filters, (n_windows, n * n_chans, n_filters), after its ELU: one
    tensor where layers one by one keep the output of each, the first of them at the full sampling rate.
    """

    @staticmethod
    def forward(
        ctx: Any, signals: Tensor, kernel: Tensor, bias: Tensor, spatial: Tensor, stride: int, keep: bool
    ) -> Tensor:
        windows = _windows(signals, kernel.shape[1], stride)
        out = signals.new_empty(len(windows), len(signals), spatial.shape[1])
        responses = []
        for w, window in enumerate(windows):
            response = nn.functional.elu_(torch.addmm(bias, window, kernel.T))
            torch.mm(response.view(len(signals), -1), spatial, out=out[w])
            if keep:
                responses.append(response)
        ctx.save_for_backward(signals, kernel, spatial, *responses)
        ctx.stride = stride
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        signals, kernel, spatial, *responses = ctx.saved_tensors
        windows = _windows(signals, kernel.shape[1], ctx.stride)
        d_signals = torch.zeros_like(signals) if ctx.needs_input_grad[0] else None
        # Sums over windows, in float32 at least.
        dtype = torch.promote_types(signals.dtype, torch.float32)
        d_kernel, d_spatial = (torch.zeros_like(t.T, dtype=dtype) for t in (kernel, spatial))
        d_bias = torch.zeros_like(kernel[:, 0], dtype=dtype)
        d_response = signals.new_empty(windows[0].shape[0], len(kernel))
        into = [] if d_signals is None else _windows(d_signals, kernel.shape[1], ctx.stride)
        for w, (window, response) in enumerate(zip(windows, responses, strict=True)):
            d_spatial += grad[w].T @ response.view(len(signals), -1)
            torch.mm(grad[w], spatial.T, out=d_response.view(len(signals), -1))
            _elu_backward(d_response, response)
            d_kernel += window.T @ d_response
            d_bias += d_response.sum(0)
            if into:
                into[w] += d_response @ kernel
        sums = (d_kernel.T.to(kernel.dtype), d_bias.to(kernel.dtype), d_spatial.T.to(spatial.dtype))
        return d_signals, *sums, None, None


def _windows(signals: Tensor, size: int, stride: int) -> list[Tensor]:
    """Windows (n * n_chans, size) at every `stride`, as views."""
    rows = signals.view(-1, signals.shape[-1])
    return [rows[:, start : start + size] for start in range(0, rows.shape[1] - size + 1, stride)]


def _elu_backward(grad: Tensor, result: Tensor) -> None:
    """Turn the gradient of ELU's result into that of its input, in place."""
    torch.ops.aten.elu_backward.grad_input(grad, 1, 1, 1, True, result, grad_input=grad)
