"""Where backbones come from: one module a scheme, found by the part of the id ahead of the colon.

A new source is one file with `load`, `names` and `sizes`, and one line in `SOURCES`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from brainalign.errors import InputError, unknown_name
from brainalign.features.aliases import ALIASES, nearest_alias, resolve_alias
from brainalign.features.preprocessing import Preprocessing

SOURCES = {
    "timm": "brainalign.features.timm_source",
    "pip": "brainalign.features.pip_source",
    "open_clip": "brainalign.features.open_clip_source",
    "hf": "brainalign.features.hf_source",
    "slip": "brainalign.features.slip_source",
}


@dataclass(frozen=True)
class Network:
    """A model as a source hands it over, in evaluation mode, its weights frozen.

    Attributes
    ----------
    id : str
        Resolved: with the tag of the weights where the user left it out.
    model : torch.nn.Module
    blocks : sequence of (str, torch.nn.Module)
        Dotted names and modules of residual, MBConv or transformer blocks, in the order they run.
    preprocessing : Preprocessing
    features, pooled : callable
        `features(images)` is the last feature map or token set; `pooled(features(images))` is what the classifier
        would see.
    aliases : dict
        Other names of blocks, to their number (`stage1` of a ResNet).
    n_prefix_tokens : int
        Class and register tokens ahead of the grid, where there are any.
    has_class_token : bool
        Whether the first of them is a class token.
    nhwc : bool
        Whether maps have their channels last where shapes do not tell.
    ordered : bool
        Whether tokens stand in rows from the top left to the bottom right.
    batch_first : bool
        Whether blocks give (n, tokens, channels); else (tokens, n, channels).
    """

    id: str
    model: nn.Module
    blocks: tuple[tuple[str, nn.Module], ...]
    preprocessing: Preprocessing
    features: Callable[[Tensor], Tensor]
    pooled: Callable[[Tensor], Tensor]
    aliases: dict[str, str] = field(default_factory=dict)
    n_prefix_tokens: int = 0
    has_class_token: bool = False
    nhwc: bool = False
    ordered: bool = True
    batch_first: bool = True


class Source(Protocol):
    """What a module in `SOURCES` offers."""

    def load(self, name: str, *, weights: str, seed: int, image_size: int | None, crop: str) -> Network:
        """Build the model; `weights` is 'pretrained' or 'random' (from `seed`)."""

    def names(self, pattern: str) -> list[str]:
        """Names that match a wildcard."""

    def sizes(self, name: str) -> tuple[int | None, int | None]:
        """Numbers of parameters and of blocks, without weights or a download; None where that cannot be said."""


def frozen(model: nn.Module) -> nn.Module:
    """Ready to run, convolutions with channels last: on CPUs several times faster for depthwise ones."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return model.eval().requires_grad_(False)


def n_weights(model: nn.Module) -> int:
    """Number of weights."""
    return sum(p.numel() for p in model.parameters())


def find_source(scheme: str) -> Source:
    """The module of a scheme.

    Raises
    ------
    InputError
        If there is none.
    """
    if scheme not in SOURCES:
        raise unknown_name("backbone source", scheme, SOURCES, where="backbone")
    return cast(Source, importlib.import_module(SOURCES[scheme]))


def parse_id(backbone: str) -> tuple[str, str]:
    """Split `scheme:name`, of an id or of the id behind a short name.

    Raises
    ------
    InputError
        If there is no such source, or no such short name.

    Examples
    --------
    >>> parse_id("timm:resnet50.a1_in1k"), parse_id("rn50")
    (('timm', 'resnet50.a1_in1k'), ('open_clip', 'RN50/openai'))
    """
    scheme, mark, name = resolve_alias(backbone).partition(":")
    if not mark or not name:
        hint = f"write it as {', '.join(f'{s}:NAME' for s in SOURCES)}, or use a short name: {', '.join(ALIASES)}"
        near = nearest_alias(backbone)
        guess = f"did you mean '{near}'? " if near else ""
        raise InputError(f"'{backbone}' names no source", where="backbone", hint=guess + hint)
    find_source(scheme)
    return scheme, name
