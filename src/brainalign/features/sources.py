"""Where backbones come from: one module a scheme, found by the part of the id ahead of the colon.

A new source is one file with `load`, `names` and `sizes`, and one line in `SOURCES`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, cast

from torch import Tensor, nn

from brainalign.errors import InputError, unknown_name
from brainalign.features.preprocessing import Preprocessing

SOURCES = {
    "timm": "brainalign.features.timm_source",
    "pip": "brainalign.features.pip_source",
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


class Source(Protocol):
    """What a module in `SOURCES` offers."""

    def load(self, name: str, *, weights: str, seed: int, image_size: int | None, crop: str) -> Network:
        """Build the model; `weights` is 'pretrained' or 'random' (from `seed`)."""

    def names(self, pattern: str) -> list[str]:
        """Names that match a wildcard."""

    def sizes(self, name: str) -> tuple[int | None, int | None]:
        """Numbers of parameters and of blocks, None where finding out would mean building the model."""


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
    """Split `scheme:name`.

    Raises
    ------
    InputError
        If there is no such source.

    Examples
    --------
    >>> parse_id("timm:resnet50.a1_in1k")
    ('timm', 'resnet50.a1_in1k')
    """
    scheme, mark, name = backbone.partition(":")
    if not mark or not name:
        hint = f"write it as {', '.join(f'{s}:NAME' for s in SOURCES)}"
        raise InputError(f"'{backbone}' names no source", where="backbone", hint=hint)
    find_source(scheme)
    return scheme, name
