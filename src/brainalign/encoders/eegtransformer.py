"""A transformer over time steps."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from brainalign.encoders._checks import check_at_least_one, check_dropout, check_heads, check_sizes
from brainalign.encoders.base import BrainEncoder
from brainalign.errors import InputError


class EEGTransformer(BrainEncoder):
    """Each sample is a token: ``Linear(n_chans, 128)``, position, 4 transformer layers, mean over time, ``Linear``.

    The encoder of that name in NeuroBridge's code (arXiv 2511.06836): sinusoidal positions are added to the tokens
    (Vaswani et al. 2017, section 3.5), the layers are torch's (LayerNorm after each sum, ReLU), 8 heads, 512 hidden
    units, and no LayerNorm follows the last. As there, all layers start from the same random weights, since
    `torch.nn.TransformerEncoder` copies one.

    Parameters
    ----------
    n_chans, n_times, dim : int
        Channels and samples of a signal; width of the embedding.
    width : int
        Of a token; even.
    depth, n_heads, hidden : int
        Layers, attention heads in each, units of each layer's hidden layer.
    dropout : float
        Everywhere in the layers.

    Raises
    ------
    InputError
        If a size is below 1, dropout is outside [0, 1), or ``width`` is odd or no multiple of ``n_heads``.

    Examples
    --------
    >>> import torch
    >>> EEGTransformer(n_chans=17, n_times=100, dim=32, width=16, depth=1)(torch.zeros(4, 17, 100)).shape
    torch.Size([4, 32])
    """

    positions: Tensor

    def __init__(
        self,
        *,
        n_chans: int,
        n_times: int,
        dim: int,
        width: int = 128,
        depth: int = 4,
        n_heads: int = 8,
        hidden: int = 512,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        check_sizes("eegtransformer", n_chans, n_times, dim)
        check_at_least_one("eegtransformer", width=width, depth=depth, n_heads=n_heads, hidden=hidden)
        check_dropout("eegtransformer", dropout)
        check_heads("eegtransformer", "width", width, n_heads)
        if width % 2:
            raise InputError(
                f"encoder 'eegtransformer' got width {width}, expected an even one", where="encoder.options"
            )
        self.register_buffer("positions", _sinusoids(n_times, width), persistent=False)
        self.tokens = nn.Linear(n_chans, width)
        layer = nn.TransformerEncoderLayer(width, n_heads, hidden, dropout, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.project = nn.Linear(width, dim)

    def embed(self, prepared: Tensor) -> Tensor:
        """(n, n_chans, n_times) to (n, dim)."""
        tokens = self.tokens(prepared.transpose(1, 2)) + self.positions
        embedded: Tensor = self.project(self.layers(tokens).mean(1))
        return embedded


def _sinusoids(n_times: int, width: int) -> Tensor:
    """Sines in even columns and cosines in odd ones, (n_times, width); wavelengths from 2 pi to 10000 * 2 pi."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    angles = torch.outer(torch.arange(n_times, dtype=torch.float32), rates)
    return torch.stack((angles.sin(), angles.cos()), dim=2).flatten(1)
