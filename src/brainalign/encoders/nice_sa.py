"""NICE-SA: self-attention over channels, then TSConv."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from brainalign.encoders._checks import check_dropout, check_sizes
from brainalign.encoders._initial import normal_weights
from brainalign.encoders._smoothing import smooth
from brainalign.encoders.base import BrainEncoder
from brainalign.encoders.tsconv import TSConv, check_options

_SAMPLES_PER_SCALE = 30  # the `inter` of the published code, which enters the attention's scale alone


class NiceSA(BrainEncoder):
    """``x + Dropout(Attention(LayerNorm(x)))`` over channels, then `TSConv`.

    The spatial module of NICE (Song et al., ICLR 2024, arXiv 2308.13234, and its code), before the convolutions:

    ``LayerNorm(n_times)``; queries and keys ``Dropout(LayerNorm(Linear(n_chans, n_chans)))`` of each sample; weights
    ``softmax(queries @ keys.T / sqrt(n_times // 30))``, one a pair of channels; values are the normed signals; then
    ``Dropout(LayerNorm(Linear(n_chans, n_chans)))`` of each sample and ``Dropout``, all of them 0.3.

    In the released code each channel is multiplied by the sum of its attention weights, which is 1, in place of the
    weighted sum over channels: the weights have no effect, and queries and keys learn nothing. ``as_released=True``
    does the same. The default is attention as the paper describes it.

    Convolutions, linear maps and the scales of BatchNorms start as in the published code, from normal distributions of
    standard deviation 0.02. The moving average of `TSConv` acts after the attention, so that nothing can be prepared.

    Parameters
    ----------
    n_chans, n_times, dim : int
        Channels and samples of a signal; width of the embedding.
    n_filters, kernel_size, pool_size, pool_stride, dropout
        As in `TSConv`.
    attention_dropout : float
        In the spatial module.
    as_released : bool
        Whether the attention weights are without effect, as in the released code.

    Raises
    ------
    InputError
        If a size is below 1, a dropout is outside [0, 1), or a signal is shorter than ``kernel_size + pool_size - 1``.

    Examples
    --------
    >>> import torch
    >>> NiceSA(n_chans=17, n_times=250, dim=32)(torch.zeros(4, 17, 250)).shape
    torch.Size([4, 32])
    """

    def __init__(
        self,
        *,
        n_chans: int,
        n_times: int,
        dim: int,
        n_filters: int = 40,
        kernel_size: int = 25,
        pool_size: int = 51,
        pool_stride: int = 5,
        dropout: float = 0.5,
        attention_dropout: float = 0.3,
        as_released: bool = False,
    ) -> None:
        super().__init__()
        check_sizes("nice-sa", n_chans, n_times, dim)
        check_dropout("nice-sa", attention_dropout, name="attention_dropout")
        check_options("nice-sa", n_times, n_filters, kernel_size, pool_size, pool_stride, dropout)
        self.as_released = as_released
        self.scale = max(1, n_times // _SAMPLES_PER_SCALE) ** -0.5
        self.norm = nn.LayerNorm(n_times)
        self.query = _map_of_channels(n_chans, attention_dropout)
        self.key = _map_of_channels(n_chans, attention_dropout)
        self.project = _map_of_channels(n_chans, attention_dropout)
        self.dropout = nn.Dropout(attention_dropout)
        self.tsconv = TSConv(
            n_chans=n_chans,
            n_times=n_times,
            dim=dim,
            n_filters=n_filters,
            kernel_size=kernel_size,
            pool_size=pool_size,
            pool_stride=pool_stride,
            dropout=dropout,
        )
        self.apply(normal_weights)

    def embed(self, prepared: Tensor) -> Tensor:
        """(n, n_chans, n_times) to (n, dim)."""
        return self.tsconv.embed(smooth(prepared + self.attend(prepared), self.tsconv.pool_size))

    def attend(self, signals: Tensor) -> Tensor:
        """What the attention adds to the signals, (n, n_chans, n_times) to the same."""
        samples = self.norm(signals).transpose(1, 2)  # (n, n_times, n_chans)
        mixed = samples
        if not self.as_released:
            weights = torch.softmax(self.query(samples).transpose(1, 2) @ self.key(samples) * self.scale, dim=-1)
            mixed = samples @ weights.transpose(1, 2)
        attended: Tensor = self.dropout(self.project(mixed).transpose(1, 2))
        return attended


def _map_of_channels(n_chans: int, dropout: float) -> nn.Sequential:
    linear = nn.Linear(n_chans, n_chans)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(linear, nn.LayerNorm(n_chans), nn.Dropout(dropout))
