"""EEGProject: a linear map of the whole signal with one residual layer."""

from __future__ import annotations

from torch import Tensor, nn

from brainalign.encoders._checks import check_dropout, check_sizes
from brainalign.encoders.base import BrainEncoder


class EEGProject(BrainEncoder):
    """One linear map x = Linear(n_chans * n_times, dim), then LayerNorm(x + Dropout(Linear(GELU(x)))).

    The encoder of Shallow Alignment (Du et al. 2026, arXiv 2601.21948) and UBP (Wu et al., CVPR 2025, arXiv
    2503.04207); its layers are those of the published code of UBP and NeuroBridge (arXiv 2511.06836).

    Parameters
    ----------
    n_chans, n_times, dim : int
        Channels and samples of a signal; width of the embedding.
    dropout : float
        In the residual branch.

    Raises
    ------
    InputError
        If a size is below 1 or dropout is outside [0, 1).

    Examples
    --------
    >>> import torch
    >>> EEGProject(n_chans=17, n_times=250, dim=32)(torch.zeros(4, 17, 250)).shape
    torch.Size([4, 32])
    """

    stacks = True

    def __init__(self, *, n_chans: int, n_times: int, dim: int, dropout: float = 0.3) -> None:
        super().__init__()
        check_sizes("eegproject", n_chans, n_times, dim)
        check_dropout("eegproject", dropout)
        self.project = nn.Linear(n_chans * n_times, dim)
        self.residual = nn.Sequential(nn.GELU(), nn.Linear(dim, dim), nn.Dropout(dropout))
        self.norm = nn.LayerNorm(dim)

    def embed(self, prepared: Tensor) -> Tensor:
        """(n, n_chans, n_times) to (n, dim)."""
        x = self.project(prepared.flatten(-2))
        embedded: Tensor = self.norm(x + self.residual(x))
        return embedded
