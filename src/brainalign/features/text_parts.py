"""What a source of text encoders hands over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

Tokens = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class TextParts:
    """A text encoder in pieces.

    Attributes
    ----------
    model : torch.nn.Module
    tokenize : callable
        Texts to the model's input, each tensor (n, length); too long texts are cut.
    embed : callable
        The model's input to embeddings (n, dim).
    name : str, optional
        The id behind the scheme, where it differs from what was asked for.
    """

    model: nn.Module
    tokenize: Callable[[list[str]], Tokens]
    embed: Callable[[Tokens], Tensor]
    name: str | None = None
