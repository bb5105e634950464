"""Multi-head self-attention over a sequence of tokens."""

from __future__ import annotations

from torch import Tensor, nn


class SelfAttention(nn.Module):
    """Queries, keys and values from one linear map, attention in each head, one linear map back.

    Parameters
    ----------
    width : int
        Of a token.
    n_heads : int
        Heads of ``width // n_heads`` dimensions each; what is left of a width that they do not divide is not used.
    scale : float
        Factor of the products of queries and keys.
    dropout : float
        Share of attention weights set to zero in training.
    """

    def __init__(self, width: int, n_heads: int, scale: float, dropout: float) -> None:
        super().__init__()
        self.n_heads, self.scale, self.dropout = n_heads, scale, dropout
        inner = width // n_heads * n_heads
        self.queries_keys_values = nn.Linear(width, 3 * inner)
        self.out = nn.Linear(inner, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, n_tokens, width) to the same."""
        n, n_tokens, _ = tokens.shape
        heads = self.queries_keys_values(tokens).view(n, n_tokens, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        queries, keys, values = heads.unbind()
        mixed = nn.functional.scaled_dot_product_attention(
            queries, keys, values, dropout_p=self.dropout if self.training else 0.0, scale=self.scale
        )
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(n, n_tokens, -1))
        return out
