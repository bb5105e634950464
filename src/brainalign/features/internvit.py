"""InternViT (Chen et al. 2024, arXiv 2312.14238) without running the code in its repository.

The published checkpoints (`model_type: intern_vit_6b`) come with Python code of their own. Their architecture is a
plain vision transformer: patch embedding, a class token, a learned position embedding, then blocks

    x = x + ls1 * proj(attention(q, k, v)),  q, k, v = qkv(norm1(x)),  RMSNorm over the whole width of q and of k
    x = x + ls2 * fc2(gelu(fc1(norm2(x))))

with RMSNorm (6B) or LayerNorm (300M) as norm1 and norm2, and no norm at the end. transformers has the same network as
`InternVLVisionModel` under other names; it differs in one constant, the epsilon of the norms of q and k, which is set
here to the checkpoint's. Weights are copied tensor by tensor, the joint `qkv` in three.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from brainalign.errors import InputError, unknown_name
from brainalign.features.checkpoints import read_tensors
from brainalign.features.hub import cannot

MODEL_TYPE = "intern_vit_6b"
# What the repository's configuration class fills in where config.json is silent.
DEFAULTS: dict[str, Any] = {
    "num_channels": 3, "patch_size": 14, "image_size": 224, "qkv_bias": False, "hidden_size": 3200,
    "num_attention_heads": 25, "intermediate_size": 12800, "qk_normalization": True, "num_hidden_layers": 48,
    "hidden_act": "gelu", "norm_type": "rms_norm", "layer_norm_eps": 1e-6, "initializer_range": 0.02,
    "initializer_factor": 0.1,
}  # fmt: skip
SAME_NAME = (
    "num_channels", "patch_size", "image_size", "hidden_size", "num_attention_heads", "intermediate_size",
    "num_hidden_layers", "hidden_act", "norm_type", "layer_norm_eps", "initializer_range",
)  # fmt: skip
OTHER_NAME = {
    "qkv_bias": "attention_bias",
    "qk_normalization": "use_qk_norm",
    "initializer_factor": "layer_scale_init_value",
}
OUTSIDE = {
    "embeddings.class_embedding": "embeddings.cls_token",
    "embeddings.position_embedding": "embeddings.position_embeddings",
    "embeddings.patch_embedding.weight": "embeddings.patch_embeddings.projection.weight",
    "embeddings.patch_embedding.bias": "embeddings.patch_embeddings.projection.bias",
}
INSIDE = {
    "attn.proj": "attention.projection_layer", "attn.q_norm": "attention.q_norm", "attn.k_norm": "attention.k_norm",
    "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2", "norm1": "layernorm_before", "norm2": "layernorm_after",
}  # fmt: skip
SCALES = {"ls1": "lambda_1", "ls2": "lambda_2"}


def build(config: Mapping[str, Any], *, where: str) -> Any:
    """The network of a checkpoint's config.json, with the random weights of its class.

    Raises
    ------
    InputError
        If the configuration asks for something this network does not have.
    """
    import transformers

    held = {key: config.get(key, default) for key, default in DEFAULTS.items()}
    if held["norm_type"] not in ("rms_norm", "layer_norm"):
        raise unknown_name("norm_type", str(held["norm_type"]), ("rms_norm", "layer_norm"), where=where)
    try:
        settings = {name: held[name] for name in SAME_NAME} | {new: held[old] for old, new in OTHER_NAME.items()}
        model = transformers.InternVLVisionModel(transformers.InternVLVisionConfig(**settings))
    except Exception as error:  # sizes that do not fit together, values of another type
        raise cannot(where, "config.json cannot be used", error, "check its sizes") from error
    for name, module in model.named_modules():
        if name.endswith((".q_norm", ".k_norm")) and hasattr(module, "variance_epsilon"):
            module.variance_epsilon = float(held["layer_norm_eps"])
    return model


def load(folder: Path, config: Mapping[str, Any], *, dtype: torch.dtype, where: str) -> Any:
    """The network with the weights of a checkpoint folder; at no time are they in memory twice.

    Raises
    ------
    InputError
        If a tensor is missing, unknown, or of another shape than config.json says.
    """
    with torch.device("meta"):
        model = build(config, where=where)
    expected = dict(model.named_parameters())
    for name, tensor in read_tensors(folder):
        for target, part in converted(name, tensor, where=where):
            if target not in expected:
                raise InputError(f"the weight {name} has no place in the network of config.json", where=where)
            if part.shape != expected[target].shape:
                shapes = f"{tuple(part.shape)}, expected {tuple(expected[target].shape)}"
                raise InputError(f"the weight {name} has shape {shapes}", where=where)
            _place(model, target, part.to(dtype=dtype, copy=True))
            del expected[target]
    if expected:
        names = ", ".join(list(expected)[:3])
        raise InputError(f"{len(expected)} weights are missing ({names} ...)", where=where)
    return model


def _place(model: nn.Module, path: str, value: Tensor) -> None:
    owner, _, leaf = path.rpartition(".")
    setattr(model.get_submodule(owner), leaf, nn.Parameter(value, requires_grad=False))


def converted(name: str, tensor: Tensor, *, where: str) -> Iterator[tuple[str, Tensor]]:
    """A tensor of the checkpoint under the names of transformers' class.

    Parameters
    ----------
    name : str
        `encoder.layers.7.attn.qkv.weight` and the like.
    tensor : Tensor
        `qkv.weight` is (3 width, width): rows of q, then k, then v.

    Raises
    ------
    InputError
        If the name is not one of InternViT's.
    """
    if name in OUTSIDE:
        yield OUTSIDE[name], tensor
        return
    block = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)", name)
    if block:
        path, inner = f"encoder.layer.{block[1]}", block[2]
        part, _, leaf = inner.rpartition(".")
        if inner in SCALES:
            yield f"{path}.{SCALES[inner]}", tensor
            return
        if part == "attn.qkv" and tensor.ndim and len(tensor) % 3 == 0:
            for letter, third in zip("qkv", tensor.chunk(3)):
                yield f"{path}.attention.{letter}_proj.{leaf}", third
            return
        if part in INSIDE:
            yield f"{path}.{INSIDE[part]}.{leaf}", tensor
            return
    raise InputError(f"the weight {name[:100]} is not one of InternViT's", where=where)
