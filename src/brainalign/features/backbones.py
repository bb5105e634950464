"""A frozen vision model whose layers all come out of one forward pass."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from brainalign.errors import InputError, unknown_name
from brainalign.features import pip_source
from brainalign.features.layers import Layer, LayerTable, find_blocks, layer_table
from brainalign.features.pooling import pool
from brainalign.features.preprocessing import Preprocessing, from_timm

# scheme -> module with `load` and `names`; a new source is one file and one line.
SOURCES = {"timm": "brainalign.features.timm_source", "pip": "brainalign.features.pip_source"}
PRETRAINED_OR_RANDOM = ("pretrained", "random")


@dataclass
class Backbone:
    """A loaded vision model.

    Attributes
    ----------
    id : str
        `scheme:name`.
    table : LayerTable
    preprocessing : Preprocessing
    weights_hash : str
        sha256 over names and bytes of all weights.
    """

    id: str
    model: nn.Module
    table: LayerTable
    preprocessing: Preprocessing
    weights_hash: str
    device: torch.device
    layout: str = "NCHW"
    n_prefix_tokens: int = 0
    _blocks: dict[str, nn.Module] = field(default_factory=dict, repr=False)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Blocks in order, then head and final."""
        return self.table.layers

    @property
    def n_parameters(self) -> int:
        """Number of weights."""
        return sum(p.numel() for p in self.model.parameters())

    @torch.no_grad()
    def forward_layers(
        self, images: Tensor, layers: Sequence[Layer], poolings: Sequence[str]
    ) -> dict[tuple[str, str], Tensor]:
        """Pooled features of several layers from one pass; feature maps are let go as soon as they are pooled.

        Parameters
        ----------
        images : Tensor of shape (n, 3, height, width)
            Preprocessed.
        layers : sequence of Layer
        poolings : sequence of str
            Layer `final` comes as the model pools it, whatever is asked for.

        Returns
        -------
        dict
            (layer name, pooling) to (n, dim), on the device.
        """
        wanted = [p for p in poolings if p != "final"]
        names = {layer.name for layer in layers}
        pooled: dict[tuple[str, str], Tensor] = {}

        def read(name: str, output: Any) -> None:
            feature = output[0] if isinstance(output, tuple) else output
            layout = "NLC" if feature.ndim == 3 else self.layout
            for pooling in wanted:
                pooled[name, pooling] = pool(feature, pooling, layout=layout, n_prefix_tokens=self.n_prefix_tokens)

        hooks = [
            self._blocks[name].register_forward_hook(lambda _m, _i, output, n=name: read(n, output))  # type: ignore[misc]
            for name in sorted(names & self._blocks.keys())
        ]
        try:
            last = self._call("forward_features", images.to(self.device))
            if "head" in names:
                read("head", last)
            if "final" in names:
                pooled["final", "final"] = self._call("forward_head", last, pre_logits=True).flatten(1)
        finally:
            for hook in hooks:
                hook.remove()
        return pooled

    def _call(self, method: str, *given: Any, **named: Any) -> Tensor:
        function: Callable[..., Tensor] = getattr(self.model, method)
        return function(*given, **named)


def parse_id(backbone: str) -> tuple[str, str]:
    """Split `scheme:name`.

    Raises
    ------
    InputError
        If there is no such source.
    """
    scheme, mark, name = backbone.partition(":")
    if not mark or not name:
        hint = f"write it as {', '.join(f'{s}:NAME' for s in SOURCES)}"
        raise InputError(f"'{backbone}' names no source", where="backbone", hint=hint)
    if scheme not in SOURCES:
        raise unknown_name("backbone source", scheme, SOURCES, where="backbone")
    return scheme, name


def load_backbone(
    backbone: str,
    *,
    device: str = "cpu",
    weights: str = "pretrained",
    seed: int = 0,
    image_size: int | None = None,
    crop: str = "none",
) -> Backbone:
    """Load a vision model.

    Parameters
    ----------
    backbone : str
        `timm:vit_base_patch16_clip_224.openai`, `pip:efficientnet-lite0`, ...
    weights : {'pretrained', 'random'}
        Random weights, from `seed`, are for tests.
    image_size : int, optional
        Input size where the architecture lets it be chosen.
    crop : {'none', 'center'}
        See `Preprocessing`.

    Raises
    ------
    InputError
        If the model is unknown or its weights cannot be had.
    """
    scheme, name = parse_id(backbone)
    if weights not in PRETRAINED_OR_RANDOM:
        raise unknown_name("kind of weights", weights, PRETRAINED_OR_RANDOM)
    if crop not in ("none", "center"):
        raise unknown_name("crop", crop, ("none", "center"))
    model: nn.Module = importlib.import_module(SOURCES[scheme]).load(name, weights=weights, seed=seed, image_size=image_size)
    blocks, aliases = find_blocks(model)
    digest = weights_hash(model)
    return Backbone(
        id=backbone,
        model=model.to(device),
        table=layer_table(len(blocks), [path for path, _ in blocks], aliases),
        preprocessing=from_timm(model, crop=crop),
        weights_hash=digest,
        device=torch.device(device),
        layout=str(getattr(model, "output_fmt", "NCHW")),
        n_prefix_tokens=int(getattr(model, "num_prefix_tokens", 0)),
        _blocks={str(i): block for i, (_, block) in enumerate(blocks)},
    )


def weights_hash(model: nn.Module) -> str:
    """sha256 over the names, types, shapes and bytes of all weights and buffers."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        held = value.detach().cpu().contiguous()
        digest.update(f"{name} {held.dtype} {tuple(held.shape)}".encode())
        digest.update(held.reshape(-1).view(torch.uint8).numpy().data if held.numel() else b"")
    return digest.hexdigest()


@dataclass(frozen=True)
class BackboneInfo:
    """A backbone that could be loaded; sizes are None where finding out would mean building it."""

    id: str
    source: str
    n_parameters: int | None = None
    n_layers: int | None = None


def list_backbones(pattern: str = "*") -> list[BackboneInfo]:
    """Backbones whose name, or whole id, matches a wildcard."""
    scheme, mark, name = pattern.partition(":")
    found = []
    for source, module in SOURCES.items():
        if mark and scheme != source:
            continue
        for known in importlib.import_module(module).names(name if mark else pattern):
            sizes = (pip_source.PARAMETERS[known], pip_source.BLOCKS[known]) if source == "pip" else (None, None)
            found.append(BackboneInfo(f"{source}:{known}", source, *sizes))
    return sorted(found, key=lambda b: (b.source, b.id))
