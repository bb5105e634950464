"""EEGNet with full convolutions and an embedding head."""

from __future__ import annotations

from torch import Tensor, nn

from brainalign.encoders._checks import check_at_least_one, check_dropout, check_length, check_sizes
from brainalign.encoders._convolution import temporal_then_spatial
from brainalign.encoders._head import EmbeddingHead
from brainalign.encoders._normalized import normalized_filters
from brainalign.encoders.base import BrainEncoder


class EEGNet(BrainEncoder):
    """Temporal convolution, spatial convolution, pooling, a second temporal convolution, the head.

    The published order of layers is that of NeuroBridge's code (arXiv 2511.06836), whose encoders Shallow Alignment
    (arXiv 2601.21948) compares:

    ``Conv2d(1, 8, (1, 64)); BatchNorm2d; Conv2d(8, 16, (n_chans, 1)); BatchNorm2d; ELU; AvgPool2d((1, 2)); Dropout;
    Conv2d(16, 16, (1, 16)); BatchNorm2d; ELU; Dropout2d``, then filter by filter (all time steps of each) in a row,
    ``Linear(n_features, dim); x + Dropout(Linear(GELU(x))); LayerNorm``

    Both later convolutions are full ones: the original EEGNet (Lawhern et al., J. Neural Eng. 2018, arXiv 1611.08024)
    has a depthwise and a separable one instead, pads in time, and bounds the norm of its weights.

    No nonlinearity stands between the first two convolutions, so they are applied as one. Mean and variance of the
    first BatchNorm follow from the mean and the covariance of the windows under the temporal filters, as in `TSConv`.

    Parameters
    ----------
    n_chans, n_times, dim : int
        Channels and samples of a signal; width of the embedding.
    n_temporal, n_spatial : int
        Temporal filters, and spatial ones.
    kernel_size, second_kernel_size : int
        Samples under a filter of the first and of the second temporal convolution (64: 0.26 s at 250 Hz).
    pool_size : int
        Samples that become one between the two.
    dropout : float
        After both ELUs (after the second for whole filters), and in the residual branch.

    Raises
    ------
    InputError
        If a size is below 1, dropout is outside [0, 1), or a signal is shorter than
        ``kernel_size - 1 + pool_size * second_kernel_size``.

    Examples
    --------
    >>> import torch
    >>> encoder = EEGNet(n_chans=17, n_times=250, dim=32)
    >>> encoder.n_features, encoder(torch.zeros(4, 17, 250)).shape
    (1248, torch.Size([4, 32]))
    """

    def __init__(
        self,
        *,
        n_chans: int,
        n_times: int,
        dim: int,
        n_temporal: int = 8,
        n_spatial: int = 16,
        kernel_size: int = 64,
        second_kernel_size: int = 16,
        pool_size: int = 2,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        check_sizes("eegnet", n_chans, n_times, dim)
        check_at_least_one("eegnet", n_temporal=n_temporal, n_spatial=n_spatial, kernel_size=kernel_size)
        check_at_least_one("eegnet", second_kernel_size=second_kernel_size, pool_size=pool_size)
        check_dropout("eegnet", dropout)
        needed = kernel_size - 1 + pool_size * second_kernel_size
        reason = f"kernel_size {kernel_size} - 1 + pool_size {pool_size} x second_kernel_size {second_kernel_size}"
        check_length("eegnet", n_times, needed, reason)
        self.n_features = n_spatial * ((n_times - kernel_size + 1) // pool_size - second_kernel_size + 1)
        # The first three hold parameters and statistics under the published shapes; `embed` applies them.
        self.temporal = nn.Conv2d(1, n_temporal, (1, kernel_size))
        self.temporal_norm = nn.BatchNorm2d(n_temporal)
        self.spatial = nn.Conv2d(n_temporal, n_spatial, (n_chans, 1))
        self.second = nn.Sequential(
            nn.BatchNorm2d(n_spatial),
            nn.ELU(),
            nn.AvgPool2d((1, pool_size)),
            nn.Dropout(dropout),
            nn.Conv2d(n_spatial, n_spatial, (1, second_kernel_size)),
            nn.BatchNorm2d(n_spatial),
            nn.ELU(),
            nn.Dropout2d(dropout),
        )
        self.head = EmbeddingHead(self.n_features, dim, dropout)

    def embed(self, prepared: Tensor) -> Tensor:
        """(n, n_chans, n_times) to (n, dim)."""
        kernel, bias = normalized_filters(
            prepared, self.temporal, self.temporal_norm, 1, training=self.training, where="eegnet"
        )
        filtered = temporal_then_spatial(prepared, kernel, bias, self.spatial)
        embedded: Tensor = self.head(self.second(filtered.unsqueeze(2)).flatten(1))
        return embedded
