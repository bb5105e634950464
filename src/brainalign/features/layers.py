"""Every layer of a vision model, by index, name or depth."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from brainalign.errors import InputError

LayerSpec = int | float | str


@dataclass(frozen=True)
class Layer:
    """A place in a model where features are read.

    Attributes
    ----------
    name : str
        '0', '1', ... for blocks, then 'head' (last feature map or token set) and 'final' (the model's pooled output).
    index : int or None
        Block number from 0; None for head and final.
    depth : float
        (l - 1) / (L - 1) over the blocks, l from 1 (Shallow Alignment, section 1.1); 1.0 for head and final.
    module : str
        Dotted name of the block in the model.
    """

    name: str
    index: int | None
    depth: float
    module: str = ""


@dataclass(frozen=True)
class LayerTable:
    """All layers of a model in order, with other names some of them go by (ResNet's stage1 to stage4)."""

    layers: tuple[Layer, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)

    @property
    def blocks(self) -> tuple[Layer, ...]:
        """The layers that are blocks."""
        return tuple(layer for layer in self.layers if layer.index is not None)

    def resolve(self, spec: LayerSpec | Sequence[LayerSpec]) -> tuple[Layer, ...]:
        """Find layers.

        Parameters
        ----------
        spec : int, float, str or a sequence of these
            'all'; 'blocks'; an index (negative counts from the last block); a name; a depth 0.0 to 1.0 (the nearest
            block); a range '3-7', both ends included, or '3-7:2' with a step; several of these with
            commas between them.

        Returns
        -------
        tuple of Layer
            In model order, each once.

        Raises
        ------
        InputError
            If a layer does not exist, or none is asked for.

        Examples
        --------
        >>> table = layer_table(4)
        >>> [layer.name for layer in table.resolve("1-2,head")], table.resolve(0.7)[0].name, table.resolve(-1)[0].name
        (['1', '2', 'head'], '2', '3')
        """
        found = {layer.name for one in _words(spec) for layer in self._one(one)}
        if not found:
            raise InputError("no layer is asked for", hint=f"there are {self._names()}")
        return tuple(layer for layer in self.layers if layer.name in found)

    def _one(self, spec: LayerSpec) -> Sequence[Layer]:
        blocks = self.blocks
        if isinstance(spec, float):
            if not 0 <= spec <= 1:
                raise self._no_layer(spec)
            return [min(blocks, key=lambda layer: abs(layer.depth - spec))]
        if isinstance(spec, int):
            if not -len(blocks) <= spec < len(blocks):
                raise self._no_layer(spec)
            return [blocks[spec]]
        return self._by_name(spec)

    def _by_name(self, spec: str) -> Sequence[Layer]:
        if spec == "all":
            return self.layers
        if spec == "blocks":
            return self.blocks
        if span := re.fullmatch(r"(\d+)\s*-\s*(\d+)(?::([1-9]\d*))?", spec):
            first, last = int(span[1]), int(span[2])
            if not first <= last < len(self.blocks):
                raise self._no_layer(spec)
            return self.blocks[first : last + 1 : int(span[3] or 1)]
        name = self.aliases.get(spec, spec)
        found = [layer for layer in self.layers if layer.name == name]
        if not found:
            raise self._no_layer(spec)
        return found

    def _names(self) -> str:
        names = f"blocks 0 to {len(self.blocks) - 1}, head, final" + "".join(f", {a}" for a in self.aliases)
        return f"{names}, all, blocks, or a depth from 0.0 to 1.0"

    def _no_layer(self, spec: object) -> InputError:
        return InputError(f"no layer '{spec}'", hint=f"there are {self._names()}")


def _words(spec: LayerSpec | Sequence[LayerSpec]) -> Iterator[LayerSpec]:
    """Split lists and read numbers written as text."""
    if isinstance(spec, int | np.integer):
        yield int(spec)
    elif isinstance(spec, float | np.floating):
        yield float(spec)
    elif isinstance(spec, str):
        for word in (w.strip() for w in spec.split(",")):
            if re.fullmatch(r"-?\d+", word):
                yield int(word)
            elif re.fullmatch(r"\d*\.\d+", word):
                yield float(word)
            else:
                yield word
    else:
        for one in spec:
            yield from _words(one)


def layer_table(n_blocks: int, modules: Sequence[str] = (), aliases: Mapping[str, str] | None = None) -> LayerTable:
    """Blocks 0 to n - 1, head and final."""
    modules = modules or [""] * n_blocks
    blocks = [Layer(str(i), i, i / max(1, n_blocks - 1), modules[i]) for i in range(n_blocks)]
    return LayerTable((*blocks, Layer("head", None, 1.0), Layer("final", None, 1.0)), aliases or {})


STAGES = (("blocks",), ("stages",), ("layers",), ("layer1", "layer2", "layer3", "layer4"), ("s1", "s2", "s3", "s4"))


def find_blocks(model: nn.Module) -> tuple[tuple[tuple[str, nn.Module], ...], dict[str, str]]:
    """Residual, MBConv or transformer blocks of a timm model in order, and aliases of stages.

    Works on models that keep them in `blocks` (ViT, EfficientNet), `stages` (ConvNeXt), `layers` (Swin), `layer1..4`
    (ResNet) or `s1..s4` (RegNet).

    Raises
    ------
    InputError
        If the model keeps its blocks elsewhere.
    """
    for names in STAGES:
        if not all(isinstance(getattr(model, name, None), nn.Module) for name in names):
            continue
        found: list[tuple[str, nn.Module]] = []
        aliases = {}
        for number, name in enumerate(names, start=1):
            found += _leaves(getattr(model, name), name)
            if len(names) > 1:
                aliases[f"stage{number}"] = str(len(found) - 1)
        return tuple(found), aliases
    hint = "choose a backbone of another family: ViT, EfficientNet, ResNet, RegNet, ConvNeXt, Swin"
    raise InputError(f"the blocks of a {type(model).__name__} are not found", where="backbone", hint=hint)


def _leaves(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """Descend through lists of blocks, stages that hold a list named `blocks`, and RegNet's stages (b1, b2, ...)."""
    children = dict(module.named_children())
    is_regnet_stage = bool(children) and all(re.fullmatch(r"b\d+", key) for key in children)
    if isinstance(module, nn.Sequential | nn.ModuleList) or is_regnet_stage:
        for key, child in children.items():
            yield from _leaves(child, f"{name}.{key}")
    elif isinstance(children.get("blocks"), nn.Sequential | nn.ModuleList):
        yield from _leaves(children["blocks"], f"{name}.blocks")
    elif any(True for _ in module.parameters()):
        yield name, module
