"""The text side of SLIP: CLIP's text transformer (Radford et al. 2021, section 2.4), 512 wide, 12 layers, 8 heads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from brainalign.errors import InputError
from brainalign.features.hub import required
from brainalign.features.slip_checkpoint import SlipSizes, read_checkpoint
from brainalign.features.slip_names import parse
from brainalign.features.text_parts import TextParts


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x)."""

    def forward(self, x: Tensor) -> Tensor:
        """Of any shape."""
        return x * torch.sigmoid(1.702 * x)


class SlipTextBlock(nn.Module):
    """Attention to earlier tokens and a two-layer network, each behind a norm and added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, 4 * width))
        self.mlp.add_module("gelu", QuickGELU())
        self.mlp.add_module("c_proj", nn.Linear(4 * width, width))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Tokens (n, context, width) to the same; `mask` (context, context) is True where attention is not allowed."""
        normed = self.ln_1(x)
        x = x + self.attn(normed, normed, normed, need_weights=False, attn_mask=mask)[0]
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class SlipText(nn.Module):
    """The text side; parameters have their published names.

    Parameters
    ----------
    sizes : SlipSizes
    """

    def __init__(self, sizes: SlipSizes) -> None:
        super().__init__()
        width = sizes.text_width
        blocks = [SlipTextBlock(width, sizes.text_heads) for _ in range(sizes.text_depth)]
        self.transformer = nn.ModuleDict({"resblocks": nn.ModuleList(blocks)})
        self.token_embedding = nn.Embedding(sizes.vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.randn(sizes.context, width) * 0.01)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, sizes.dim) * width**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        """Token numbers (n, context) to embeddings (n, dim), read at the end of the text: its highest number."""
        context = tokens.shape[1]
        mask = torch.ones(context, context, dtype=torch.bool, device=tokens.device).triu(1)
        x = self.token_embedding(tokens) + self.positional_embedding
        blocks: Any = self.transformer["resblocks"]
        for block in blocks:
            x = block(x, mask)
        end = x[torch.arange(len(x), device=x.device), tokens.argmax(1)]
        found: Tensor = self.ln_final(end) @ self.text_projection
        return found


def load(text: str, seed: int | None) -> TextParts:
    """The text side of a SLIP model and CLIP's tokenizer.

    Parameters
    ----------
    text : str
        The part of an id behind `slip:`.
    seed : int or None
        Of random weights; None for those of the checkpoint.

    Raises
    ------
    InputError
        If the package with CLIP's tokenizer is missing, there is no such model, or its checkpoint cannot be had, read
        or fitted in.
    """
    name = parse(text)
    open_clip = required("open_clip", package="open_clip_torch", where=name.where)
    held = read_checkpoint(name) if seed is None or name.checkpoint else None
    sizes = SlipSizes.published(name.model) if held is None else held.sizes
    # CLIP's byte-pair tokenizer, as SLIP uses it, but that a text too long keeps its end mark (in CLIP's way).
    tokenizer = open_clip.tokenizer.SimpleTokenizer(context_length=sizes.context)
    if sizes.vocabulary != tokenizer.vocab_size:
        problem = f"knows {sizes.vocabulary} tokens, expected the {tokenizer.vocab_size} of CLIP"
        raise InputError(problem, where=name.where, hint="give a checkpoint trained with CLIP's tokenizer")
    if held is not None and seed is None:
        with torch.device("meta"):
            model = SlipText(sizes)
        model.load_state_dict({key: value.clone() for key, value in held.text.items()}, strict=True, assign=True)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed or 0)
            model = SlipText(sizes)
    return TextParts(
        model,
        lambda texts: {"text": tokenizer(texts)},
        lambda tokens: model(tokens["text"]),
        name.where[len("slip:") :],
    )
