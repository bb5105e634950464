"""One linear map from all channels and samples."""

from __future__ import annotations

from torch import Tensor, nn

from brainalign.encoders._checks import check_dropout, check_sizes
from brainalign.encoders.base import BrainEncoder


class LinearEncoder(BrainEncoder):
    """Flatten, drop inputs at random, one linear map.

    Parameters
    ----------
    n_chans, n_times, dim : int
        Channels and samples of a signal; width of the embedding.
    dropout : float
        Share of inputs set to zero in training.
    bias : bool
        Whether the map has an offset.

    Raises
    ------
    InputError
        If a size is below 1 or dropout is outside [0, 1).

    Examples
    --------
    >>> import torch
    >>> LinearEncoder(n_chans=17, n_times=100, dim=32)(torch.zeros(4, 17, 100)).shape
    torch.Size([4, 32])
    """

    stacks = True

    def __init__(self, *, n_chans: int, n_times: int, dim: int, dropout: float = 0.0, bias: bool = True) -> None:
        super().__init__()
        check_sizes("linear", n_chans, n_times, dim)
        check_dropout("linear", dropout)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(n_chans * n_times, dim, bias=bias)

    def embed(self, prepared: Tensor) -> Tensor:
        """(n, n_chans, n_times) to (n, dim)."""
        embedded: Tensor = self.linear(self.dropout(prepared.flatten(-2)))
        return embedded
