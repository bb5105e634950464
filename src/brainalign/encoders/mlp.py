"""A multilayer perceptron on the flattened signal."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from brainalign.encoders._checks import check_at_least_one, check_dropout, check_sizes
from brainalign.encoders.base import BrainEncoder


class MLP(BrainEncoder):
    """``depth`` times ``Linear, LayerNorm, GELU, Dropout``, then one linear map.

    Parameters
    ----------
    n_chans, n_times, dim : int
        Channels and samples of a signal; width of the embedding.
    hidden : int
        Width of the hidden layers.
    depth : int
        Number of hidden layers.
    dropout : float
        After each hidden layer.

    Raises
    ------
    InputError
        If a size is below 1 or dropout is outside [0, 1).

    Examples
    --------
    >>> import torch
    >>> MLP(n_chans=17, n_times=100, dim=32, hidden=64)(torch.zeros(4, 17, 100)).shape
    torch.Size([4, 32])
    """

    stacks = True

    def __init__(
        self, *, n_chans: int, n_times: int, dim: int, hidden: int = 512, depth: int = 1, dropout: float = 0.3
    ) -> None:
        super().__init__()
        check_sizes("mlp", n_chans, n_times, dim)
        check_at_least_one("mlp", hidden=hidden, depth=depth)
        check_dropout("mlp", dropout)
        widths = [n_chans * n_times] + [hidden] * depth
        self.layers = nn.Sequential(*(_layer(a, b, dropout) for a, b in pairwise(widths)), nn.Linear(hidden, dim))

    def embed(self, prepared: Tensor) -> Tensor:
        """(n, n_chans, n_times) to (n, dim)."""
        embedded: Tensor = self.layers(prepared.flatten(-2))
        return embedded


def _layer(n_in: int, n_out: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_in, n_out), nn.LayerNorm(n_out), nn.GELU(), nn.Dropout(dropout))
