"""One linear map from all channels and samples."""

from __future__ import annotations

from torch import Tensor, nn

from brainalign.encoders.base import BrainEncoder


class LinearEncoder(BrainEncoder):
    """Flatten, drop inputs at random, one linear map.

    Parameters
    ----------
    n_chans, n_times, dim : int
    dropout : float
        Share of inputs set to zero in training.
    bias : bool
    """

    def __init__(self, *, n_chans: int, n_times: int, dim: int, dropout: float = 0.0, bias: bool = True) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(n_chans * n_times, dim, bias=bias)

    def embed(self, prepared: Tensor) -> Tensor:
        """(n, n_chans, n_times) to (n, dim)."""
        embedded: Tensor = self.linear(self.dropout(prepared.flatten(1)))
        return embedded
