"""Symmetric InfoNCE between brain and image."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from brainalign.errors import InputError


def info_nce(brain: Tensor, image: Tensor, *, scale: Tensor | float, normalize_brain: bool = True, symmetric: bool = True) -> Tensor:
    """Cross-entropy of finding each pair in the batch (van den Oord et al. 2018; CLIP, Radford et al. 2021).

    Parameters
    ----------
    brain, image : Tensor of shape (n, dim)
        Row i of one belongs to row i of the other.
    scale : float or Tensor
        Inverse temperature.
    """
    if normalize_brain:
        brain = nn.functional.normalize(brain, dim=1)
    logits = scale * (brain @ nn.functional.normalize(image, dim=1).T)
    truth = torch.arange(len(logits), device=logits.device)
    forward = nn.functional.cross_entropy(logits, truth)
    return (forward + nn.functional.cross_entropy(logits.T, truth)) / 2 if symmetric else forward


class InfoNCE(nn.Module):
    """`info_nce` with its scale."""

    def __init__(self, *, scale_mode: str = "fixed", temperature: float = 0.07, normalize_brain: bool = True, symmetric: bool = True) -> None:
        super().__init__()
        if scale_mode not in ("fixed", "learned", "softplus"):
            raise InputError(f"unknown scale_mode '{scale_mode}'", hint="fixed, learned or softplus")
        self.scale_mode, self.normalize_brain, self.symmetric = scale_mode, normalize_brain, symmetric
        self.raw = nn.Parameter(torch.tensor(math.log(1 / temperature)), requires_grad=scale_mode != "fixed")

    @property
    def scale(self) -> Tensor:
        """Inverse temperature."""
        return nn.functional.softplus(self.raw) if self.scale_mode == "softplus" else self.raw.exp().clamp(max=100.0)

    def forward(self, brain: Tensor, image: Tensor) -> Tensor:
        """The loss of a batch."""
        return info_nce(brain, image, scale=self.scale, normalize_brain=self.normalize_brain, symmetric=self.symmetric)
