"""NICE-GA: graph attention over channels, then TSConv."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from brainalign.encoders._checks import check_dropout, check_sizes
from brainalign.encoders._initial import normal_weights
from brainalign.encoders._smoothing import smooth
from brainalign.encoders.base import BrainEncoder
from brainalign.encoders.tsconv import TSConv, check_options

_NEGATIVE_SLOPE = 0.2


class NiceGA(BrainEncoder):
    """``x + Dropout(GraphAttention(x))`` over channels, then `TSConv`.

    The spatial module of NICE (Song et al., ICLR 2024, arXiv 2308.13234, and its code), before the convolutions: one
    head of graph attention (Velickovic et al., ICLR 2018, arXiv 1710.10903, equations 1 to 4 without their outer
    nonlinearity) with channels as nodes, their samples as features, all pairs of channels and each with itself as
    edges:

    ``h = W x``; weight of channel j for channel i is the softmax over j of ``LeakyReLU(a_to . h_i + a_from . h_j)``,
    slope 0.2; output ``sum_j weight_ij h_j + bias``; then ``Dropout(0.3)``.

    The released code hands all channels of a batch to the graph as one list of nodes and wires the first 64 of them:
    the first trial of a batch is mixed (with one channel of the second, as the data have 63), all others are only
    mapped. Here every trial has its own complete graph.

    Convolutions, linear maps and the scales of BatchNorms start as in the published code, from normal distributions of
    standard deviation 0.02, the attention vectors uniformly (Glorot). The moving average of `TSConv` acts after the
    attention, so that nothing can be prepared.

    Parameters
    ----------
    n_chans, n_times, dim : int
        Channels and samples of a signal; width of the embedding.
    n_filters, kernel_size, pool_size, pool_stride, dropout
        As in `TSConv`.
    attention_dropout : float
        After the graph attention.

    Raises
    ------
    InputError
        If a size is below 1, a dropout is outside [0, 1), or a signal is shorter than ``kernel_size + pool_size - 1``.

    Examples
    --------
    >>> import torch
    >>> NiceGA(n_chans=17, n_times=250, dim=32)(torch.zeros(4, 17, 250)).shape
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
    ) -> None:
        super().__init__()
        check_sizes("nice-ga", n_chans, n_times, dim)
        check_dropout("nice-ga", attention_dropout, name="attention_dropout")
        check_options("nice-ga", n_times, n_filters, kernel_size, pool_size, pool_stride, dropout)
        self.features = nn.Linear(n_times, n_times, bias=False)
        self.attend_from = nn.Parameter(torch.empty(n_times))
        self.attend_to = nn.Parameter(torch.empty(n_times))
        for vector in (self.attend_from, self.attend_to):
            nn.init.xavier_uniform_(vector[None])
        self.bias = nn.Parameter(torch.zeros(n_times))
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
        return self.tsconv.embed(smooth(prepared + self.dropout(self.attend(prepared)), self.tsconv.pool_size))

    def attend(self, signals: Tensor) -> Tensor:
        """Graph attention, (n, n_chans, n_times) to the same."""
        h = self.features(signals)
        scores = (h @ self.attend_to)[:, :, None] + (h @ self.attend_from)[:, None, :]
        weights = torch.softmax(nn.functional.leaky_relu(scores, _NEGATIVE_SLOPE), dim=-1)
        attended: Tensor = weights @ h + self.bias
        return attended
