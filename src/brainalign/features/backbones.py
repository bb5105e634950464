"""A frozen vision model whose layers all come out of one forward pass."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from brainalign.errors import InputError, unknown_name
from brainalign.features.layers import Layer, LayerSpec, LayerTable, layer_table
from brainalign.features.pooling import pool
from brainalign.features.preprocessing import CROPS, Preprocessing
from brainalign.features.shapes import FeatureShape, infer_shape
from brainalign.features.sources import Network, find_source, n_weights, parse_id
from brainalign.features.structure import structure_hash

WEIGHTS = ("pretrained", "random")
Key = tuple[str, str]


@dataclass(frozen=True, eq=False)
class Backbone:
    """A loaded vision model.

    Attributes
    ----------
    network : Network
        As its source describes it.
    table : LayerTable
    weights : str
        'pretrained', or 'random' with the seed.
    weights_hash : str
        sha256 over names and bytes of all weights.
    device : torch.device
    """

    network: Network
    table: LayerTable
    weights: str
    weights_hash: str
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def id(self) -> str:
        """`scheme:name`, with the tag of the weights where the source has tags."""
        return self.network.id

    @property
    def model(self) -> nn.Module:
        """The model itself, in evaluation mode."""
        return self.network.model

    @property
    def preprocessing(self) -> Preprocessing:
        """From a picture to the model's input."""
        return self.network.preprocessing

    @functools.cached_property
    def structure_hash(self) -> str:
        """What the model does with its weights; see `structure_hash`."""
        return structure_hash(self.model)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Blocks in order, then head and final."""
        return self.table.layers

    @property
    def n_parameters(self) -> int:
        """Number of weights."""
        return n_weights(self.model)

    def resolve_layers(self, spec: LayerSpec | Sequence[LayerSpec]) -> tuple[Layer, ...]:
        """Layers by index, name, depth, range or list; see `LayerTable.resolve`."""
        return self.table.resolve(spec)

    @functools.cached_property
    def shapes(self) -> dict[str, FeatureShape]:
        """Shape of every layer's output, from one grey picture.

        Raises
        ------
        InputError
            If a block does not run exactly once, or gives something that is neither a map nor tokens, or the model does
            not take pictures of the size chosen.
        """
        seen: dict[str, list[tuple[int, ...]]] = {layer.name: [] for layer in self.layers}
        side = self.preprocessing.size
        try:
            blank = torch.zeros(1, 3, side, side)
            self._run(blank, seen.keys(), lambda name, feature: seen[name].append(tuple(feature.shape)))
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"cannot take {side} x {side} pixels ({str(error)[:120]})", where=self.id) from error
        for name, sizes in seen.items():
            if len(sizes) != 1:
                raise InputError(f"layer {name} ran {len(sizes)} times, expected once", where=self.id)
        n = self.network
        infer = functools.partial(
            infer_shape, n_prefix_tokens=n.n_prefix_tokens, has_class_token=n.has_class_token, ordered=n.ordered
        )
        head, final = seen.pop("head")[0], seen.pop("final")[0]
        # A block whose three axes agree does not tell its layout; its neighbours do.
        certain = {infer(size).layout for (size,) in seen.values() if len(size) == 4 and len(set(size[1:])) > 1}
        nhwc = n.nhwc or certain == {"NHWC"}
        blocks = {name: infer(size, nhwc=nhwc) for name, (size,) in seen.items()}
        return {**blocks, "head": infer(head, nhwc=n.nhwc), "final": FeatureShape("NC", final[1])}

    def forward_layers(self, images: Tensor, layers: Sequence[Layer], poolings: Sequence[str]) -> dict[Key, Tensor]:
        """Pooled features of several layers from one pass; feature maps are let go as soon as they are pooled.

        Parameters
        ----------
        images : Tensor of shape (n, 3, size, size)
            Preprocessed.
        layers : sequence of Layer
        poolings : sequence of str
            Layer `final` comes as the model pools it, whatever is asked for. A pooling that a layer does not allow
            (`cls` in a convolutional network) is left out if the layer allows another one of the list.

        Returns
        -------
        dict
            (layer name, pooling) to (n, dim), on the device, in the order of the layers.

        Raises
        ------
        InputError
            If a layer allows none of the poolings.
        """
        return self.forward_pairs(images, pooling_pairs(layers, poolings, self.shapes))

    def forward_pairs(self, images: Tensor, pairs: Collection[Key]) -> dict[Key, Tensor]:
        """Like `forward_layers`, for (layer name, pooling) pairs named one by one."""
        wanted: dict[str, list[str]] = {}
        for name, pooling in pairs:
            wanted.setdefault(name, []).append(pooling)
        pooled: dict[Key, Tensor] = {}
        shapes = self.shapes  # found by a pass of its own, so ahead of this one

        def read(name: str, feature: Tensor) -> None:
            layout, n_prefix = shapes[name].layout, shapes[name].n_prefix_tokens
            feature = feature.float()  # means of a model that runs in half precision are still exact
            for pooling in wanted[name]:
                pooled[name, pooling] = pool(feature, pooling, layout=layout, n_prefix_tokens=n_prefix)

        self._run(images, wanted.keys(), read)
        return {pair: pooled[pair] for pair in pairs}

    @torch.inference_mode()
    def _run(self, images: Tensor, names: Collection[str], read: Any) -> None:
        """One pass that calls `read(name, feature)` at every layer named, while the pass is under way."""

        def hook(name: str) -> Any:
            return lambda _module, _inputs, output: read(name, self._block(_tensor(output, name, self.id)))

        blocks = [(str(i), block) for i, (_, block) in enumerate(self.network.blocks)]
        with contextlib.ExitStack() as stack:
            stack.enter_context(_full_precision())
            for name, block in blocks:
                if name in names:
                    stack.callback(block.register_forward_hook(hook(name)).remove)
            last = self.network.features(images.to(self.device))
            if "head" in names:
                read("head", _tensor(last, "head", self.id))
            if "final" in names:
                read("final", _tensor(self.network.pooled(last), "final", self.id).flatten(1))

    def _block(self, output: Tensor) -> Tensor:
        """The images' axis first."""
        return output if self.network.batch_first or output.ndim != 3 else output.transpose(0, 1)


def _tensor(output: Any, name: str, where: str) -> Tensor:
    """The tensor a block gives, alone or in a tuple without another."""
    held = [one for one in output if one is not None] if isinstance(output, tuple) else [output]
    alone = held[0] if len(held) == 1 else None
    if not isinstance(alone, Tensor):
        raise InputError(f"layer {name} gives several tensors, expected one", where=where)
    return alone


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    """Convolutions in float32 on every device: cuDNN would round their inputs to 10 bits (TF32)."""
    cudnn = torch.backends.cudnn
    was = cudnn.allow_tf32
    cudnn.allow_tf32 = False
    try:
        yield
    finally:
        cudnn.allow_tf32 = was


def pooling_pairs(layers: Sequence[Layer], poolings: Sequence[str], shapes: dict[str, FeatureShape]) -> list[Key]:
    """Which (layer name, pooling) come of a list of layers and a list of poolings; see `Backbone.forward_layers`.

    Raises
    ------
    InputError
        If a layer allows none of the poolings.
    """
    pairs: list[Key] = []
    for layer in layers:
        shape = shapes[layer.name]
        if layer.name == "final":
            pairs.append(("final", "final"))
            continue
        allowed = [pooling for pooling in dict.fromkeys(poolings) if shape.allows(pooling)]
        if not allowed and any(pooling != "final" for pooling in poolings):
            shape.dim(next(pooling for pooling in poolings if pooling != "final"))  # says why
        pairs += [(layer.name, pooling) for pooling in allowed]
    if not pairs:
        raise InputError(
            "pooling 'final' belongs to layer 'final'", hint="add a pooling such as mean, or ask for final"
        )
    return pairs


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
        `timm:vit_base_patch16_clip_224.openai`, `open_clip:ViT-H-14/laion2b_s32b_b79k`,
        `hf:facebook/dinov2-giant`, `pip:efficientnet-lite0`, or a short name such as `rn50` (`features.aliases`).
    device : str
        As torch names it.
    weights : {'pretrained', 'random'}
        Random weights, from `seed`, are for tests.
    image_size : int, optional
        Side of the input, pixels, where the architecture lets it be chosen.
    crop : {'none', 'center'}
        See `Preprocessing`.

    Raises
    ------
    InputError
        If the model is unknown, its weights cannot be had, or the device is not there.

    Examples
    --------
    >>> backbone = load_backbone("timm:test_efficientnet", weights="random", image_size=64)
    >>> [layer.name for layer in backbone.layers]
    ['0', '1', '2', '3', '4', 'head', 'final']
    >>> features = backbone.forward_layers(torch.zeros(2, 3, 64, 64), backbone.resolve_layers("4,final"), ["grid2"])
    >>> {pair: tuple(rows.shape) for pair, rows in features.items()}
    {('4', 'grid2'): (2, 256), ('final', 'final'): (2, 256)}
    """
    scheme, name = parse_id(backbone)
    if weights not in WEIGHTS:
        raise unknown_name("kind of weights", weights, WEIGHTS)
    if crop not in CROPS:
        raise unknown_name("crop", crop, CROPS)
    if image_size is not None and not 16 <= image_size <= 4096:
        raise InputError(f"image_size is {image_size}, expected 16 to 4096 pixels", where=backbone)
    network = find_source(scheme).load(name, weights=weights, seed=seed, image_size=image_size, crop=crop)
    digest = weights_hash(network.model)
    try:
        place = torch.device(device)
        network.model.to(place)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0][:120]
        raise InputError(f"cannot be used ({reason})", where=f"device {device}", hint="use cpu") from error
    table = layer_table(len(network.blocks), [path for path, _ in network.blocks], network.aliases)
    held = weights if weights == "pretrained" else f"random, seed {seed}"
    return Backbone(network, table, held, digest, place)


def weights_hash(model: nn.Module) -> str:
    """sha256 over the names, types, shapes and bytes of all weights and buffers."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        held = value.detach().cpu().contiguous()
        digest.update(f"{name} {held.dtype} {tuple(held.shape)}".encode())
        digest.update(held.reshape(-1).view(torch.uint8).numpy().data if held.numel() else b"")
    return digest.hexdigest()
