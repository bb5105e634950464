"""First weights of published systems."""

from __future__ import annotations

from torch import nn


def normal_weights(module: nn.Module) -> None:
    """The first weights of NICE (arXiv 2308.13234), for `torch.nn.Module.apply`.

    Weights of convolutions and linear maps from N(0, 0.02), scales of BatchNorm2d from N(1, 0.02), its offsets 0; other
    biases and other layers keep what they have.
    """
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
