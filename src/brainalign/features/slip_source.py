"""Image towers `slip:ViT-S-16`, `slip:ViT-B-16`, `slip:ViT-L-16` (SLIP, Mu et al. 2022, arXiv 2112.12750).

`slip:ViT-B-16/50ep` are the published weights after 50 epochs (without a tag: 100), `slip:ViT-B-16?checkpoint=FILE`
those of a file or address. The tower is a plain ViT whose class token, after the last norm, is projected into the space
of the text side: layer `final`, 512 wide.
"""

from __future__ import annotations

import fnmatch
import functools
from typing import Any

import torch
from torch import Tensor, nn

from brainalign.errors import InputError
from brainalign.features.layers import find_blocks
from brainalign.features.preprocessing import Preprocessing
from brainalign.features.slip_checkpoint import SlipSizes, read_checkpoint
from brainalign.features.slip_names import MODELS, SlipName, parse
from brainalign.features.sources import Network, frozen, n_weights
from brainalign.features.timm_source import layout

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class SlipImage(nn.Module):
    """The image side; parameters have their published names.

    Parameters
    ----------
    sizes : SlipSizes
    """

    def __init__(self, sizes: SlipSizes) -> None:
        from timm.models.vision_transformer import VisionTransformer

        super().__init__()
        self.visual = VisionTransformer(
            img_size=sizes.image_size,
            patch_size=sizes.patch,
            embed_dim=sizes.width,
            depth=sizes.depth,
            num_heads=sizes.heads,
            mlp_ratio=sizes.mlp / sizes.width,
            num_classes=0,
        )
        self.image_projection = nn.Parameter(torch.randn(sizes.width, sizes.dim) * sizes.width**-0.5)

    def pooled(self, tokens: Tensor) -> Tensor:
        """Embeddings (n, dim) of normed tokens (n, tokens, width)."""
        found: Tensor = self.visual.forward_head(tokens, pre_logits=True) @ self.image_projection
        return found


def load(name: str, *, weights: str, seed: int, image_size: int | None, crop: str) -> Network:
    """The image tower of a SLIP model, pretrained or with seeded random weights.

    Raises
    ------
    InputError
        If there is no such model, or its checkpoint cannot be had, read or fitted in.
    """
    one = parse(name)
    model = random_tower(one, seed=seed) if weights == "random" else pretrained_tower(one)
    if image_size is not None:
        _resize(model.visual, image_size, one)
    frozen(model)
    blocks, _ = find_blocks(model.visual)
    side = model.visual.patch_embed.img_size[0]
    return Network(
        id=one.where,
        model=model,
        blocks=tuple((f"visual.{path}", block) for path, block in blocks),
        preprocessing=Preprocessing(side, "bilinear", MEAN, STD, crop),
        features=model.visual.forward_features,
        pooled=model.pooled,
        **layout(model.visual),
    )


def pretrained_tower(name: SlipName) -> SlipImage:
    """The image side with the weights of its checkpoint.

    Raises
    ------
    InputError
        If they cannot be had, read or fitted in.
    """
    held = read_checkpoint(name)
    with torch.device("meta"):
        model = SlipImage(held.sizes)
    # Copies: the checkpoint's tensors are a map of its file, optimiser and all.
    model.load_state_dict({key: value.clone() for key, value in held.image.items()}, strict=True, assign=True)
    return model


def random_tower(name: SlipName, *, seed: int) -> SlipImage:
    """The image side of published size with random weights from `seed`; a checkpoint lends its sizes."""
    sizes = read_checkpoint(name).sizes if name.checkpoint else SlipSizes.published(name.model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SlipImage(sizes)


def _resize(visual: Any, image_size: int, name: SlipName) -> None:
    """Another input size: the position embedding is interpolated."""
    patch = visual.patch_embed.patch_size[0]
    if image_size % patch:
        raise InputError(f"cannot take {image_size} pixels, expected a multiple of its patch {patch}", where=name.where)
    with torch.no_grad():
        visual.set_input_size(img_size=image_size)


def names(pattern: str) -> list[str]:
    """`MODEL/TAG` of all published weights that match a wildcard."""
    return fnmatch.filter([f"{name}/{tag}" for name, facts in MODELS.items() for tag in facts.tags], pattern)


@functools.cache
def sizes(name: str) -> tuple[int | None, int | None]:
    """Numbers of parameters and of blocks of the image tower as published."""
    found = SlipSizes.published(parse(name).model)
    with torch.device("meta"):
        return n_weights(SlipImage(found)), found.depth
