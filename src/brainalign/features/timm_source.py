"""Backbones `timm:NAME[.TAG]`."""

from __future__ import annotations

import fnmatch
import functools
from typing import Any, TypedDict

import torch

from brainalign.errors import InputError, unknown_name
from brainalign.features.hub import OFFLINE_HINT, cannot, quick_offline
from brainalign.features.layers import find_blocks
from brainalign.features.preprocessing import from_timm
from brainalign.features.sources import Network, frozen, n_weights


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
    """A timm model with random weights from `seed`; the random state of the program is left as it was.

    Raises
    ------
    InputError
        If timm does not know the model or cannot build it at that image size.
    """
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return timm.create_model(name, pretrained=False, pretrained_cfg_overlay=_overlay(image_size))
        except Exception as error:  # an unknown tag, a size the architecture cannot take
            hint = "leave out the tag or the image size"
            raise cannot(f"timm:{name}", "cannot be built", error, hint) from error


def _pretrained(name: str, image_size: int | None) -> Any:
    import timm

    try:
        with quick_offline("timm"):
            return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=_overlay(image_size))
    except Exception as error:  # hub clients raise their own types for a missing network, tag or file
        raise cannot(f"timm:{name}", "pretrained weights cannot be had", error, OFFLINE_HINT) from error


def _overlay(image_size: int | None) -> dict[str, Any] | None:
    return {"input_size": (3, image_size, image_size)} if image_size else None


def network(backbone: str, model: Any, *, crop: str) -> Network:
    """Describe a timm model."""
    blocks, aliases = find_blocks(model)
    return Network(
        id=backbone,
        model=frozen(model),
        blocks=blocks,
        preprocessing=from_timm(model, crop=crop),
        features=model.forward_features,
        pooled=functools.partial(model.forward_head, pre_logits=True),
        aliases=aliases,
        **layout(model),
    )


class Layout(TypedDict):
    """How the tokens or maps of a timm model lie; attributes of `Network`."""

    n_prefix_tokens: int
    has_class_token: bool
    nhwc: bool
    ordered: bool


def layout(model: Any) -> Layout:
    """Read the layout off a timm model."""
    return {
        "n_prefix_tokens": int(getattr(model, "num_prefix_tokens", None) or 0),
        "has_class_token": getattr(model, "cls_token", None) is not None,
        "nhwc": getattr(model, "output_fmt", "NCHW") == "NHWC",
        "ordered": not hasattr(model, "reroll"),  # Hiera keeps its tokens in the order of its mask units
    }


def names(pattern: str) -> list[str]:
    """Names of pretrained timm models that match a wildcard."""
    import timm

    return fnmatch.filter(timm.list_pretrained(), pattern)


@functools.cache
def sizes(name: str) -> tuple[int | None, int | None]:
    """Numbers of parameters and of blocks, from a model without memory for its weights."""
    import timm

    try:
        with torch.device("meta"):
            model = timm.create_model(name, pretrained=False)
    except Exception:  # some architectures compute with their weights while they are built
        return None, None
    try:
        return n_weights(model), len(find_blocks(model)[0])
    except InputError:  # not one of the families whose blocks are found
        return n_weights(model), None
