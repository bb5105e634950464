"""EEG Conformer: convolutions make tokens, a transformer relates them."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from brainalign.encoders._attention import SelfAttention
from brainalign.encoders._checks import check_at_least_one, check_dropout, check_heads, check_length, check_sizes
from brainalign.encoders._convolution import temporal_then_spatial
from brainalign.encoders._head import EmbeddingHead
from brainalign.encoders.base import BrainEncoder


class Conformer(BrainEncoder):
    """Temporal convolution, spatial convolution, average pooling, transformer blocks, the head.

    The published order of layers (Song et al., IEEE TNSRE 2023, doi 10.1109/TNSRE.2022.3230250, and its code) is

    ``Conv2d(1, 40, (1, 25)); Conv2d(40, 40, (n_chans, 1)); BatchNorm2d; ELU; AvgPool2d((1, 75), (1, 15)); Dropout;
    Conv2d(40, 40, 1)``, then tokens (one a time step) through blocks of ``x + Dropout(Attention(LayerNorm(x)));
    x + Dropout(Linear(160, 40)(Dropout(GELU(Linear(40, 160)(LayerNorm(x))))))``

    with products of queries and keys divided by the root of the token's width (not of the head's, as usual). The depth
    of 2 and the 10 heads are those of Shallow Alignment's comparison (arXiv 2601.21948); the code of 2023 has depth 6.
    A classifier ends the published network; here it is the head of the other encoders: the tokens in a row,
    ``Linear(n_tokens * 40, dim); x + Dropout(Linear(GELU(x))); LayerNorm``.

    Nothing stands between the first two convolutions, so they are applied as one. The pooling comes after an ELU and
    stays where it is.

    Parameters
    ----------
    n_chans, n_times, dim : int
        Channels and samples of a signal; width of the embedding.
    n_filters : int
        Temporal filters, spatial ones, and the width of a token.
    kernel_size : int
        Samples under a temporal filter.
    pool_size, pool_stride : int
        Samples that the average covers, and its step.
    depth, n_heads : int
        Transformer blocks, and attention heads in each.
    expansion : int
        Width of a block's hidden layer over that of a token.
    dropout : float
        After the pooling, and in the head's residual branch.
    attention_dropout : float
        Everywhere in the transformer blocks.

    Raises
    ------
    InputError
        If a size is below 1, a dropout is outside [0, 1), ``n_filters`` is no multiple of ``n_heads``, or a signal is
        shorter than ``kernel_size + pool_size - 1``.

    Examples
    --------
    >>> import torch
    >>> encoder = Conformer(n_chans=17, n_times=250, dim=32)
    >>> encoder.n_tokens, encoder(torch.zeros(4, 17, 250)).shape
    (11, torch.Size([4, 32]))
    """

    def __init__(
        self,
        *,
        n_chans: int,
        n_times: int,
        dim: int,
        n_filters: int = 40,
        kernel_size: int = 25,
        pool_size: int = 75,
        pool_stride: int = 15,
        depth: int = 2,
        n_heads: int = 10,
        expansion: int = 4,
        dropout: float = 0.5,
        attention_dropout: float = 0.5,
    ) -> None:
        super().__init__()
        check_sizes("conformer", n_chans, n_times, dim)
        check_at_least_one("conformer", n_filters=n_filters, kernel_size=kernel_size, pool_size=pool_size)
        check_at_least_one("conformer", pool_stride=pool_stride, depth=depth, n_heads=n_heads, expansion=expansion)
        check_dropout("conformer", dropout)
        check_dropout("conformer", attention_dropout, name="attention_dropout")
        check_heads("conformer", "n_filters", n_filters, n_heads)
        needed = kernel_size + pool_size - 1
        check_length("conformer", n_times, needed, f"kernel_size {kernel_size} + pool_size {pool_size} - 1")
        self.n_tokens = (n_times - needed) // pool_stride + 1
        # The convolutions hold parameters under the published shapes; `embed` applies them.
        self.temporal = nn.Conv2d(1, n_filters, (1, kernel_size))
        self.spatial = nn.Conv2d(n_filters, n_filters, (n_chans, 1))
        self.pool = nn.Sequential(
            nn.BatchNorm2d(n_filters), nn.ELU(), nn.AvgPool2d((1, pool_size), (1, pool_stride)), nn.Dropout(dropout)
        )
        self.mix = nn.Conv2d(n_filters, n_filters, (1, 1))
        self.blocks = nn.Sequential(*(_Block(n_filters, n_heads, expansion, attention_dropout) for _ in range(depth)))
        self.head = EmbeddingHead(self.n_tokens * n_filters, dim, dropout)

    def embed(self, prepared: Tensor) -> Tensor:
        """(n, n_chans, n_times) to (n, dim)."""
        embedded: Tensor = self.head(self.blocks(self.tokens(prepared)).flatten(1))
        return embedded

    def tokens(self, signals: Tensor) -> Tensor:
        """Output of the convolutions, (n, n_chans, n_times) to (n, n_tokens, n_filters)."""
        bias = cast(Tensor, self.temporal.bias)
        filtered = temporal_then_spatial(signals, self.temporal.weight.flatten(1), bias, self.spatial)
        pooled = self.pool(filtered.unsqueeze(2)).squeeze(2).transpose(1, 2)
        return nn.functional.linear(pooled, self.mix.weight.flatten(1), self.mix.bias)


class _Block(nn.Module):
    """Attention and a hidden layer, each after a LayerNorm and added to what came in."""

    def __init__(self, width: int, n_heads: int, expansion: int, dropout: float) -> None:
        super().__init__()
        self.attend = nn.Sequential(
            nn.LayerNorm(width), SelfAttention(width, n_heads, width**-0.5, dropout), nn.Dropout(dropout)
        )
        self.transform = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, expansion * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(expansion * width, width),
            nn.Dropout(dropout),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, n_tokens, width) to the same."""
        tokens = tokens + self.attend(tokens)
        out: Tensor = tokens + self.transform(tokens)
        return out
