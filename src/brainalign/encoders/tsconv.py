"""TSConv: temporal-spatial convolution, the brain encoder of NICE and of most systems after it."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from brainalign.encoders._checks import check_at_least_one, check_dropout, check_length, check_sizes
from brainalign.encoders._normalized import normalized_filters
from brainalign.encoders._temporal_spatial import box_filter, temporal_spatial
from brainalign.encoders.base import BrainEncoder
from brainalign.errors import unknown_name

HEADS = ("residual", "linear")


class TSConv(BrainEncoder):
    """Temporal convolution, average pooling, spatial convolution, one linear map, one residual layer.

    The published order of layers (NICE: Song et al., ICLR 2024, arXiv 2308.13234, and its code; NICE-LLM, ATM and
    NeuroBridge use the same block) with its defaults is

    ``Conv2d(1, 40, (1, 25)); AvgPool2d((1, 51), (1, 5)); BatchNorm2d; ELU; Conv2d(40, 40, (n_chans, 1));
    BatchNorm2d; ELU; Dropout; Conv2d(40, 40, 1)``, then tokens (time step by time step, all filters of each) in a row,
    ``Linear(n_tokens * 40, dim); x + Dropout(Linear(GELU(x))); LayerNorm``

    and has no nonlinearity between the first convolution and the pooling. Both are linear along time, so they commute:
    `prepare` applies the moving average once to the whole recording, and training only takes every fifth window of
    ``kernel_size`` samples, one matrix product each. The first BatchNorm is folded into that product: mean and variance
    of each filter's output follow from the mean and the covariance of the windows. Values, gradients and running
    statistics are those of the published order up to rounding, and the parameters are the same in number and shape.

    Parameters
    ----------
    n_chans, n_times, dim : int
        Channels and samples of a signal; width of the embedding.
    n_filters : int
        Temporal filters, and spatial ones.
    kernel_size : int
        Samples under a temporal filter (25: 0.1 s at 250 Hz).
    pool_size, pool_stride : int
        Samples that the average covers, and its step.
    dropout : float
        After the second ELU, and in the residual branch.
    head : {'residual', 'linear'}
        What follows the tokens: as above, or one linear map alone (NeuroAlign's projection, Table 3).
    head_dropout : float
        Of the tokens before a `linear` head.

    Raises
    ------
    InputError
        If a size is below 1, dropout is outside [0, 1), or a signal is shorter than ``kernel_size + pool_size - 1``.

    Examples
    --------
    >>> import torch
    >>> encoder = TSConv(n_chans=17, n_times=250, dim=32)
    >>> encoder.n_tokens, encoder(torch.zeros(4, 17, 250)).shape
    (36, torch.Size([4, 32]))
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
        head: str = "residual",
        head_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes("tsconv", n_chans, n_times, dim)
        check_dropout("tsconv", head_dropout, name="head_dropout")
        if head not in HEADS:
            raise unknown_name("head of encoder 'tsconv'", head, HEADS, where="encoder.options")
        needed = check_options("tsconv", n_times, n_filters, kernel_size, pool_size, pool_stride, dropout)
        self.pool_size, self.pool_stride = pool_size, pool_stride
        self.n_tokens = (n_times - needed) // pool_stride + 1
        # The convolutions and norms hold parameters and statistics under the published shapes; `embed` applies them.
        self.temporal = nn.Conv2d(1, n_filters, (1, kernel_size))
        self.temporal_norm = nn.BatchNorm2d(n_filters)
        self.spatial = nn.Conv2d(n_filters, n_filters, (n_chans, 1))
        self.spatial_norm = nn.BatchNorm2d(n_filters)
        self.dropout = nn.Dropout(dropout)
        self.mix = nn.Conv2d(n_filters, n_filters, (1, 1))
        self.project = nn.Linear(self.n_tokens * n_filters, dim)
        self.head_dropout = nn.Dropout(head_dropout if head == "linear" else 0.0)
        if head == "residual":
            self.residual = nn.Sequential(nn.GELU(), nn.Linear(dim, dim), nn.Dropout(dropout))
            self.norm = nn.LayerNorm(dim)
        self.head = head

    def prepare(self, signals: Tensor) -> Tensor:
        """Moving average over `pool_size` samples, (n, n_chans, n_times) to (n, n_chans, n_times - pool_size + 1)."""
        return box_filter(signals, self.pool_size)

    def embed(self, prepared: Tensor) -> Tensor:
        """Embed averaged signals, (n, n_chans, n_times - pool_size + 1) to (n, dim)."""
        x: Tensor = self.project(self.head_dropout(self.tokens(prepared).flatten(1)))
        if self.head == "linear":
            return x
        embedded: Tensor = self.norm(x + self.residual(x))
        return embedded

    def tokens(self, prepared: Tensor) -> Tensor:
        """Output of the convolutions, (n, n_chans, n_times - pool_size + 1) to (n, n_tokens, n_filters)."""
        kernel, bias = normalized_filters(
            prepared, self.temporal, self.temporal_norm, self.pool_stride, training=self.training, where="tsconv"
        )
        spatial = self.spatial.weight.squeeze(-1).permute(2, 1, 0)  # (n_chans, n_filters in, n_filters out)
        x = temporal_spatial(prepared, kernel, bias, spatial, self.pool_stride)  # (n_tokens, n, n_filters)
        n_tokens, n, n_filters = x.shape
        # BatchNorm takes its statistics over tokens and trials alike, so the two may share an axis.
        x = self._spatial_norm(x.reshape(n_tokens * n, n_filters))
        x = self.dropout(nn.functional.elu(x)).view(n_tokens, n, n_filters).transpose(0, 1)
        return nn.functional.linear(x, self.mix.weight.flatten(1), self.mix.bias)

    def _spatial_norm(self, x: Tensor) -> Tensor:
        """BatchNorm of the spatial filters, (rows, n_filters) to the same."""
        x = x + cast(Tensor, self.spatial.bias)
        # BatchNorm2d asks for four axes.
        normed: Tensor = self.spatial_norm(x[:, :, None, None])
        return normed[:, :, 0, 0]


def check_options(
    encoder: str,
    n_samples: int,
    n_filters: int,
    kernel_size: int,
    pool_size: int,
    pool_stride: int,
    dropout: float,
    *,
    name: str = "n_times",
) -> int:
    """Refuse options that `TSConv`, or an `encoder` that ends in one, cannot work with.

    Parameters
    ----------
    encoder : str
        Named in the error.
    n_samples : int
        Length of the signals that the convolutions see, called `name` in the error.
    n_filters, kernel_size, pool_size, pool_stride, dropout
        As in `TSConv`.

    Returns
    -------
    int
        The fewest samples that give a token.

    Raises
    ------
    InputError
        If an option is out of range, or there are fewer samples than that.
    """
    check_at_least_one(
        encoder, n_filters=n_filters, kernel_size=kernel_size, pool_size=pool_size, pool_stride=pool_stride
    )
    check_dropout(encoder, dropout)
    needed = kernel_size + pool_size - 1
    check_length(encoder, n_samples, needed, f"kernel_size {kernel_size} + pool_size {pool_size} - 1", name=name)
    return needed
