"""A target made of several layers: each projected by itself, then added with learned weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


class LayerMixture(nn.Module):
    r"""Projections of several layers, added with softmax weights.

    .. math:: w = \sum_l \mathrm{softmax}(a)_l \, P_l(z_l) / \mathrm{rms}(P_l(z_l))

    Every projection is brought to unit root mean square an image before it is weighted, so that the weights say what
    each layer contributes; otherwise a projection could make up for its weight. The weights start out equal.

    Parameters
    ----------
    sizes : sequence of int
        Widths of the layers' features, which stand side by side.
    projector : callable
        From a width to the module that projects it; all give the same width.
    learned : bool
        Whether the weights are trained.
    """

    stacks = True  # its own parameter may have a leading axis of runs

    def __init__(self, sizes: Sequence[int], projector: Callable[[int], nn.Module], *, learned: bool = True) -> None:
        super().__init__()
        self.sizes = list(sizes)
        self.projectors = nn.ModuleList([projector(size) for size in sizes])
        self.logits = nn.Parameter(torch.zeros(len(self.sizes)), requires_grad=learned)

    @property
    def weights(self) -> Tensor:
        """Share of every layer, (n_layers,), summing to 1."""
        return torch.softmax(self.logits, dim=-1)

    def forward(self, targets: Tensor) -> Tensor:
        """Mix (..., n, sum of sizes) to (..., n, dim)."""
        mixed = torch.zeros((), device=targets.device)
        shares = self.weights.unbind(-1)
        for share, band, project in zip(shares, torch.split(targets, self.sizes, dim=-1), self.projectors, strict=True):
            mixed = mixed + share[..., None, None] * _unit(project(band))
        return mixed


def _unit(values: Tensor) -> Tensor:
    return values * torch.rsqrt(values.square().mean(-1, keepdim=True) + 1e-6)
