"""The last layers of most brain encoders."""

from __future__ import annotations

from torch import Tensor, nn


class EmbeddingHead(nn.Module):
    """``x = Linear(n_in, dim)``, then ``LayerNorm(x + Dropout(Linear(GELU(x))))``, as in NICE (arXiv 2308.13234).

    Parameters
    ----------
    n_in, dim : int
        Width of the features and of the embedding.
    dropout : float
        In the residual branch.
    """

    def __init__(self, n_in: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.project = nn.Linear(n_in, dim)
        self.residual = nn.Sequential(nn.GELU(), nn.Linear(dim, dim), nn.Dropout(dropout))
        self.norm = nn.LayerNorm(dim)

    def forward(self, features: Tensor) -> Tensor:
        """(n, n_in) to (n, dim)."""
        x = self.project(features)
        embedded: Tensor = self.norm(x + self.residual(x))
        return embedded
