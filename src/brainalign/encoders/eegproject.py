"""EEGProject: a linear map of the whole signal with one residual layer."""

from __future__ import annotations

from torch import Tensor, nn

from brainalign.encoders.base import BrainEncoder


class EEGProject(BrainEncoder):
    """Linear(C T, D), x + Dropout(Linear(GELU(x))), LayerNorm (Wu et al. 2025; Shallow Alignment, section 1.3).

    Parameters
    ----------
    n_chans, n_times, dim : int
    dropout : float
        In the residual branch.
    """

    def __init__(self, *, n_chans: int, n_times: int, dim: int, dropout: float = 0.3) -> None:
        super().__init__()
        self.project = nn.Linear(n_chans * n_times, dim)
        self.residual = nn.Sequential(nn.GELU(), nn.Linear(dim, dim), nn.Dropout(dropout))
        self.norm = nn.LayerNorm(dim)

    def embed(self, prepared: Tensor) -> Tensor:
        """(n, n_chans, n_times) to (n, dim)."""
        x = self.project(prepared.flatten(1))
        embedded: Tensor = self.norm(x + self.residual(x))
        return embedded
