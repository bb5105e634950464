"""Sentence encoders: a transformer, a pooling over its tokens, maybe dense layers, maybe unit length."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from brainalign.features.text_parts import Tokens


def _cls(states: Tensor, mask: Tensor) -> Tensor:
    return states[:, 0]


def _max(states: Tensor, mask: Tensor) -> Tensor:
    return states.masked_fill(mask[:, :, None] == 0, float("-inf")).amax(dim=1)


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    weights = mask[:, :, None].float()
    return (states.float() * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)


def _mean_sqrt(states: Tensor, mask: Tensor) -> Tensor:
    weights = mask[:, :, None].float()
    return (states.float() * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9).sqrt()


# In the order in which several of them are concatenated.
POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": _cls, "max": _max, "mean": _mean, "mean_sqrt_len_tokens": _mean_sqrt,
}  # fmt: skip


class SentenceModel(nn.Module):
    """One vector a text (Reimers & Gurevych 2019, section 3).

    Parameters
    ----------
    transformer : torch.nn.Module
        Gives `last_hidden_state` (n, length, width), padding at the end of a text.
    poolings : sequence of {'cls', 'max', 'mean', 'mean_sqrt_len_tokens'}
        Over the tokens that are no padding: the first one, the largest value, the mean, the sum over the square root
        of their number. Several stand one behind the other.
    dense : sequence of torch.nn.Module
        Behind the pooling.
    normalize : bool
        Whether a vector is brought to unit length.
    """

    def __init__(
        self, transformer: nn.Module, poolings: Sequence[str], *, dense: Sequence[nn.Module] = (), normalize: bool
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.poolings = tuple(poolings)
        self.dense = nn.ModuleList(dense)
        self.normalize = normalize

    def forward(self, tokens: Tokens) -> Tensor:
        """Embeddings of shape (n, dim), from `input_ids` and `attention_mask` of shape (n, length)."""
        states = self.transformer(**tokens).last_hidden_state
        found = torch.cat([POOLINGS[name](states, tokens["attention_mask"]) for name in self.poolings], dim=1)
        for layer in self.dense:
            found = layer(found.to(next(layer.parameters()).dtype))
        return nn.functional.normalize(found.float(), dim=1) if self.normalize else found.float()


def without_pooler(transformer: nn.Module) -> nn.Module:
    """Let go of the classifier's pooler: unused here, and in many checkpoints not there, so it would be random."""
    if getattr(transformer, "pooler", None) is not None:
        transformer._modules["pooler"] = None
    return transformer
