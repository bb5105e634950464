"""What a network does with its weights: the same weights under other settings give other features."""

from __future__ import annotations

from typing import Any

from torch import nn

from brainalign.files import sha256_json

NUMBERS = (bool, int, float)
# Of a model's configuration: where it was read, and what it was written by.
ASIDE = ("transformers_version", "torch_dtype", "dtype", "architectures")


def structure_hash(model: nn.Module) -> str:
    """sha256 over the kinds of all modules, their settings (heads, strides, eps) and a model's configuration.

    Paths do not count: a model stays the same where its folder is moved.
    """
    modules = [
        [name, f"{type(one).__module__}.{type(one).__qualname__}", _settings(one)]
        for name, one in model.named_modules()
    ]
    configs = [_configuration(one) for one in model.modules()]
    return sha256_json({"modules": modules, "configurations": [config for config in configs if config]})


def _settings(module: nn.Module) -> dict[str, str]:
    held = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    return {k: repr(v) for k, v in sorted(held.items()) if _is_setting(v) and k not in ("training", "name_or_path")}


def _is_setting(value: Any) -> bool:
    if isinstance(value, str):
        return "/" not in value
    return isinstance(value, NUMBERS) or (
        isinstance(value, tuple | list) and all(isinstance(one, NUMBERS) for one in value)
    )


def _configuration(module: nn.Module) -> dict[str, str]:
    """Settings of a transformers model (activation, number of heads, ...); none for other modules."""
    config: Any = getattr(module, "config", None)
    if not hasattr(config, "to_dict"):
        return {}
    found = config.to_dict().items()
    return {str(k): repr(v) for k, v in sorted(found) if not str(k).startswith("_") and k not in ASIDE}
