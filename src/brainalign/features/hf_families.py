"""Vision models of transformers: which class, where its tokens end, what it pools."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from brainalign.errors import InputError
from brainalign.features import internvit
from brainalign.features.preprocessing import Preprocessing
from brainalign.features.sources import Network, frozen


@dataclass(frozen=True)
class Family:
    """One kind of model.

    Attributes
    ----------
    architecture : str
        Name of the class in transformers.
    options : mapping
        More arguments of that class.
    has_class_token : bool
    norm : str
        Last part of the name of a norm that the class applies to the pooled token only: it is applied to all tokens
        for layer `head`, so that this is the same as in timm and open_clip. Empty where the class does so itself.
    pooler : str
        Last part of the name of the module that makes `final`, of the class token or, without one, of all tokens.
        Empty: the class token as it is.
    resizes : str
        Argument of the forward pass that lets the input have another size; empty where none is needed.
    """

    architecture: str
    options: Mapping[str, Any]
    has_class_token: bool = True
    norm: str = ""
    pooler: str = ""
    resizes: str = ""


INTERPOLATE = "interpolate_pos_encoding"
CLIP = Family(
    "CLIPVisionModelWithProjection", {}, norm="post_layernorm", pooler="visual_projection", resizes=INTERPOLATE
)
SIGLIP = Family("SiglipVisionModel", {}, has_class_token=False, pooler="head", resizes=INTERPOLATE)
FAMILIES: dict[str, Family] = {
    "clip": CLIP,
    "clip_vision_model": CLIP,
    "siglip": SIGLIP,  # SigLIP 2 of fixed resolution is of the same kind
    "siglip_vision_model": SIGLIP,
    "dinov2": Family("Dinov2Model", {}),
    "dinov2_with_registers": Family("Dinov2WithRegistersModel", {}),
    # Few checkpoints hold the dense layer behind ViT's class token; classifiers read the class token itself.
    "vit": Family("ViTModel", {"add_pooling_layer": False}, resizes=INTERPOLATE),
    internvit.MODEL_TYPE: Family("InternVLVisionModel", {}),
}


def describe(backbone: str, model: Any, family: Family, preprocessing: Preprocessing) -> Network:
    """Describe a vision model of transformers.

    Raises
    ------
    InputError
        If its blocks or its pooling are not found.
    """
    config, dtype = model.config, next(model.parameters()).dtype
    blocks = block_list(model, int(config.num_hidden_layers), where=backbone)
    more = {family.resizes: True} if family.resizes and side_of(config.image_size) != preprocessing.size else {}
    norm = _module(model, family.norm, backbone) if family.norm else nn.Identity()
    pooler = _module(model, family.pooler, backbone) if family.pooler else nn.Identity()
    registers = int(getattr(config, "num_register_tokens", 0) or 0)
    return Network(
        id=backbone,
        model=frozen(model),
        blocks=blocks,
        preprocessing=preprocessing,
        features=functools.partial(_tokens, model, norm, dtype, more),
        pooled=_first(pooler) if family.has_class_token else pooler,
        n_prefix_tokens=registers + family.has_class_token,
        has_class_token=family.has_class_token,
    )


def _tokens(model: Any, norm: nn.Module, dtype: torch.dtype, more: Mapping[str, bool], images: Tensor) -> Tensor:
    tokens: Tensor = norm(model(pixel_values=images.to(dtype), **more).last_hidden_state)
    return tokens


def _first(module: nn.Module) -> Callable[[Tensor], Tensor]:
    def pooled(tokens: Tensor) -> Tensor:
        vector: Tensor = module(tokens[:, 0])
        return vector

    return pooled


def block_list(model: nn.Module, n: int, *, where: str) -> tuple[tuple[str, nn.Module], ...]:
    """Dotted names and modules of the transformer blocks: the one list of `n` modules of the same class.

    Raises
    ------
    InputError
        If there is no such list, or several.
    """
    found = [
        (name, held)
        for name, held in model.named_modules()
        if isinstance(held, nn.ModuleList) and len(held) == n and len({type(one) for one in held}) == 1
    ]
    if len(found) != 1:
        hint = "choose another backbone; timm has most vision models"
        raise InputError(f"{len(found)} lists of {n} blocks, expected one", where=where, hint=hint)
    path, blocks = found[0]
    return tuple((f"{path}.{i}", block) for i, block in enumerate(blocks))


def _module(model: nn.Module, leaf: str, where: str) -> nn.Module:
    found: list[nn.Module] = [module for name, module in model.named_modules() if name.rpartition(".")[2] == leaf]
    if found:
        return found[0]
    raise InputError(f"the model has no '{leaf}'", where=where, hint="choose a checkpoint with it")


def side_of(size: Any) -> int:
    """Side of a square, as configurations write it: a number or a pair."""
    return int(size[0]) if isinstance(size, list | tuple) else int(size)
