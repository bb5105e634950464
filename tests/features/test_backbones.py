"""All layers in one pass: equal to plain hooks on the model, whatever its family."""

from __future__ import annotations

import operator

import numpy as np
import pytest
import torch
from torch import nn

from brainalign.errors import InputError
from brainalign.features import Backbone, load_backbone
from brainalign.features.layers import find_blocks, layer_table
from brainalign.features.preprocessing import Preprocessing
from brainalign.features.sources import Network

# name -> input size, and where its blocks are, written down by hand
FAMILIES: dict[str, tuple[int, list[str]]] = {
    "test_vit": (64, [f"blocks.{i}" for i in range(6)]),
    "test_resnet": (64, [f"layer{i}.0" for i in range(1, 5)]),
    "test_efficientnet": (64, [f"blocks.{i}.0" for i in range(5)]),
    "test_convnext": (64, [f"stages.{s}.blocks.{b}" for s, n in enumerate((1, 2, 4, 2)) for b in range(n)]),
    "test_mambaout": (64, [f"stages.{s}.blocks.{b}" for s, n in enumerate((1, 1, 3, 1)) for b in range(n)]),
    "test_byobnet": (64, [f"stages.{i}.0" for i in range(4)]),
    "mobilenetv3_small_050": (
        64, [f"blocks.{s}.{b}" for s, n in enumerate((1, 2, 3, 2, 3, 1)) for b in range(n)],
    ),
    "regnetx_002": (64, [f"s{s}.b{b}" for s, n in ((1, 1), (2, 1), (3, 4), (4, 7)) for b in range(1, n + 1)]),
    "swin_tiny_patch4_window7_224": (
        56, [f"layers.{s}.blocks.{b}" for s, n in enumerate((2, 2, 6, 2)) for b in range(n)],
    ),
    "eva02_tiny_patch14_224": (224, [f"blocks.{i}" for i in range(12)]),
    "vit_small_patch14_reg4_dinov2": (56, [f"blocks.{i}" for i in range(12)]),
    "deit_tiny_distilled_patch16_224": (64, [f"blocks.{i}" for i in range(12)]),
}  # fmt: skip
CHANNELS_LAST = ("swin_tiny_patch4_window7_224", "test_mambaout")


def by_hand(feature: np.ndarray, pooling: str, *, n_prefix: int, channels_last: bool) -> np.ndarray:
    """Mean, class token and 2 x 2 grid on even sides, in numpy."""
    if feature.ndim == 3:
        if pooling in ("mean", "cls"):
            return feature.mean(1) if pooling == "mean" else feature[:, 0]
        grid = feature[:, n_prefix:]
        side = round(grid.shape[1] ** 0.5)
        feature = grid.reshape(len(grid), side, side, -1).transpose(0, 3, 1, 2)
    elif channels_last:
        feature = feature.transpose(0, 3, 1, 2)
    if pooling == "mean":
        return feature.mean((2, 3))
    n, channels, height, width = feature.shape
    assert height % 2 == 0
    return feature.reshape(n, channels, 2, height // 2, 2, width // 2).mean((3, 5)).reshape(n, -1)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_layer_equals_a_plain_hook(name, rng) -> None:
    size, places = FAMILIES[name]
    backbone = load_backbone(f"timm:{name}", weights="random", image_size=size)
    assert [layer.module for layer in backbone.table.blocks] == places
    images = torch.from_numpy(rng.normal(size=(2, 3, size, size)).astype(np.float32))

    plain: list[np.ndarray] = []
    handles = [
        operator.attrgetter(place)(backbone.model).register_forward_hook(lambda _m, _i, out: plain.append(out.numpy()))
        for place in places
    ]
    with torch.no_grad():
        last = backbone.model.forward_features(images)
        final = backbone.model.forward_head(last, pre_logits=True)
    for handle in handles:
        handle.remove()
    maps = dict(zip([str(i) for i in range(len(places))], plain, strict=True)) | {"head": last.numpy()}
    even = [n for n, m in maps.items() if m.ndim == 3 or m.shape[2] % 2 == 0]  # 7 x 7 is for the pooling's own tests

    n_prefix = getattr(backbone.model, "num_prefix_tokens", 0)
    poolings = ["mean", *(["cls"] if n_prefix else [])]
    found = backbone.forward_layers(images, backbone.layers, poolings)
    found |= backbone.forward_pairs(images, [(layer, "grid2") for layer in even])
    for (layer, pooling), rows in found.items():
        if layer == "final":
            expected = final.numpy()
        else:
            expected = by_hand(maps[layer], pooling, n_prefix=n_prefix, channels_last=name in CHANNELS_LAST)
        scale = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(rows.numpy() / scale, expected / scale, atol=1e-5, err_msg=f"{layer} {pooling}")
    assert len(found) == len(maps) * len(poolings) + 1 + len(even)


@pytest.mark.parametrize("name", ["test_vit", "swin_tiny_patch4_window7_224", "test_resnet"])
def test_agrees_with_timm_intermediates(name, rng) -> None:
    """Where timm's own interface is fine enough, its maps are ours; it says what their layout is."""
    size = FAMILIES[name][0]
    backbone = load_backbone(f"timm:{name}", weights="random", image_size=size)
    images = torch.from_numpy(rng.normal(size=(2, 3, size, size)).astype(np.float32))
    with torch.no_grad():
        theirs = backbone.model.forward_intermediates(images, intermediates_only=True, output_fmt="NCHW")
    at = {
        "test_vit": [str(i) for i in range(6)],
        "swin_tiny_patch4_window7_224": ["1", "3", "9", "11"],
        "test_resnet": ["0", "1", "2", "3"],
    }[name]
    theirs = theirs[-len(at) :]
    found = backbone.forward_layers(images, backbone.resolve_layers(at), ["grid1"])
    for layer, map_ in zip(at, theirs, strict=True):
        torch.testing.assert_close(found[layer, "grid1"], map_.mean((2, 3)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "size", "layer", "layout", "channels", "n_prefix", "has_cls"),
    [
        ("gcvit_xxtiny", 64, "0", "NHWC", 64, 0, False),
        ("gcvit_xxtiny", 64, "head", "NCHW", 512, 0, False),
        ("cait_xxs24_224", 64, "0", "NLC", 192, 0, False),
        ("cait_xxs24_224", 64, "head", "NLC", 192, 1, True),
        ("test_vit2", 160, "0", "NLC", 64, 1, False),  # a register token, no class token
        ("deit_tiny_distilled_patch16_224", 64, "3", "NLC", 192, 2, True),
    ],
)
def test_layouts_are_read_off_the_outputs(name, size, layer, layout, channels, n_prefix, has_cls) -> None:
    shape = load_backbone(f"timm:{name}", weights="random", image_size=size).shapes[layer]
    assert (shape.layout, shape.channels, shape.n_prefix_tokens, shape.has_class_token) == (
        layout, channels, n_prefix, has_cls,
    )  # fmt: skip


def test_tokens_out_of_order_give_no_grid() -> None:
    """Hiera keeps tokens by mask unit: a grid of them would be scrambled."""
    backbone = load_backbone("timm:hiera_tiny_224", weights="random")
    assert not backbone.shapes["0"].allows("grid4")
    assert backbone.shapes["0"].allows("mean")


def test_resnet_stages_are_their_last_blocks() -> None:
    backbone = load_backbone("timm:resnet18", weights="random", image_size=64)
    found = {stage: backbone.resolve_layers(stage)[0].module for stage in ("stage1", "stage2", "stage3", "stage4")}
    assert found == {"stage1": "layer1.1", "stage2": "layer2.1", "stage3": "layer3.1", "stage4": "layer4.1"}


def test_pairs_that_do_not_fit_are_left_out() -> None:
    cnn = load_backbone("timm:test_resnet", weights="random", image_size=64)
    images = torch.zeros(1, 3, 64, 64)
    found = cnn.forward_layers(images, cnn.resolve_layers("0,final"), ["cls", "mean", "final", "mean"])
    assert list(found) == [("0", "mean"), ("final", "final")]
    with pytest.raises(InputError, match="no class token"):
        cnn.forward_layers(images, cnn.resolve_layers("0,final"), ["cls"])
    with pytest.raises(InputError, match="add a pooling such as mean"):
        cnn.forward_layers(images, cnn.resolve_layers("0"), ["final"])
    assert list(cnn.forward_layers(images, cnn.resolve_layers("final"), ["cls"])) == [("final", "final")]


def test_hooks_are_gone_afterwards_even_after_an_error() -> None:
    backbone = load_backbone("timm:test_resnet", weights="random", image_size=64)
    backbone.forward_layers(torch.zeros(1, 3, 64, 64), backbone.layers, ["mean"])
    with pytest.raises(RuntimeError):
        backbone.forward_layers(torch.zeros(1, 5, 64, 64), backbone.layers, ["mean"])
    assert not any(module._forward_hooks for module in backbone.model.modules())
    assert torch.backends.cudnn.allow_tf32  # the setting of the program, as it was


class Toy(nn.Module):
    """Blocks that misbehave on request."""

    def __init__(self, *, repeats: int = 1, pair: bool = False, seen: list[int] | None = None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(2))
        self.repeats, self.pair, self.seen = repeats, pair, seen

    def features(self, images: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            for _ in range(self.repeats):
                images = block(images)
        return (images, images) if self.pair else images


def toy(model: Toy) -> Backbone:
    how = Preprocessing(8, "bilinear", (0.0,) * 3, (1.0,) * 3)
    blocks, aliases = find_blocks(model)
    network = Network("toy:1", model, blocks, how, model.features, lambda last: last.mean((2, 3)), aliases)
    return Backbone(network, layer_table(2), "random", "0" * 64)


def test_a_block_that_runs_twice_is_refused() -> None:
    with pytest.raises(InputError, match="layer 0 ran 2 times, expected once"):
        _ = toy(Toy(repeats=2)).shapes


def test_a_size_the_model_cannot_take_is_refused() -> None:
    backbone = load_backbone("timm:eva02_tiny_patch14_224", weights="random", image_size=56)
    with pytest.raises(InputError, match="cannot take 56 x 56 pixels"):
        _ = backbone.shapes


def test_several_outputs_are_refused() -> None:
    with pytest.raises(InputError, match="layer head gives several tensors"):
        _ = toy(Toy(pair=True)).shapes


def test_maps_are_let_go_while_the_pass_is_under_way() -> None:
    """Of many wide layers at most two full maps live at a time."""
    import weakref

    model = Toy()
    model.blocks = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(6))
    backbone = toy(model)
    network = backbone.network
    blocks = tuple((f"blocks.{i}", block) for i, block in enumerate(model.blocks))
    backbone = Backbone(
        Network("toy:1", model, blocks, network.preprocessing, network.features, network.pooled),
        layer_table(6), "random", "0" * 64,
    )  # fmt: skip
    _ = backbone.shapes
    alive: list[weakref.ref[torch.Tensor]] = []
    most = 0

    def watch(_module, _inputs, output) -> None:
        nonlocal most
        alive.append(weakref.ref(output))
        most = max(most, sum(one() is not None for one in alive))

    for block in model.blocks:
        block.register_forward_hook(watch)
    backbone.forward_layers(torch.zeros(4, 3, 8, 8), backbone.layers, ["mean", "grid2"])
    assert len(alive) == 6
    assert most <= 2


@pytest.mark.parametrize("source", ["hf", "open_clip"])
def test_other_libraries_keep_no_maps_either(source, tmp_path) -> None:
    import weakref

    if source == "hf":
        transformers = pytest.importorskip("transformers")
        config = transformers.Dinov2Config(
            hidden_size=16, num_hidden_layers=8, num_attention_heads=2, image_size=28, patch_size=14
        )
        transformers.Dinov2Model(config).save_pretrained(tmp_path)
        transformers.BitImageProcessor(size={"shortest_edge": 28}, crop_size=28).save_pretrained(tmp_path)
        backbone = load_backbone(f"hf:{tmp_path}")
    else:
        transformer = pytest.importorskip("open_clip.transformer")
        from brainalign.features import open_clip_source

        tower = transformer.VisionTransformer(28, 14, 16, 8, 2, 2.0, output_dim=8)
        config = {"size": 28, "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
        backbone = Backbone(open_clip_source.network("x", tower, config, crop="none"), layer_table(8), "random", "0")
    _ = backbone.shapes
    alive: list[weakref.ref[torch.Tensor]] = []
    most = 0

    def watch(_module, _inputs, output) -> None:
        nonlocal most
        alive.append(weakref.ref(output))
        most = max(most, sum(one() is not None for one in alive))

    for _, block in backbone.network.blocks:
        block.register_forward_hook(watch)
    backbone.forward_layers(torch.zeros(2, 3, 28, 28), backbone.layers, ["mean", "cls"])
    assert len(alive) == 8
    assert most <= 2
