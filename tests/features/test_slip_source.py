"""SLIP against its published architecture, written out here in plain functions, and damaged checkpoints."""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import http.server
import json
import math
import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from brainalign.errors import InputError
from brainalign.features import list_backbones, load_backbone, load_text_tower, slip_checkpoint
from brainalign.features.slip_names import parse
from brainalign.features.sources import parse_id

WIDTH, DEPTH, HEADS, PATCH, GRID, DIM = 24, 3, 12, 8, 3, 16
TEXT_WIDTH, TEXT_DEPTH, TEXT_HEADS, CONTEXT, VOCABULARY = 16, 2, 8, 77, 49408
TEXTS = ["a photo of an aardvark", "Two cats &amp; a dog", "", "a " * 300]


def official(width=WIDTH, depth=DEPTH, patch=PATCH, grid=GRID, dim=DIM, text_width=TEXT_WIDTH, text_depth=TEXT_DEPTH):
    """Names and shapes as the published code's modules have them; the SSL head is as wide as here makes it."""
    torch.manual_seed(3)
    w, d, hidden = width, text_width, 8

    def norm(name, n):
        return {f"{name}.weight": 1 + 0.3 * torch.randn(n), f"{name}.bias": 0.3 * torch.randn(n)}

    def linear(name, n_in, n_out):
        return {f"{name}.weight": torch.randn(n_out, n_in) * n_in**-0.5, f"{name}.bias": 0.2 * torch.randn(n_out)}

    state: dict[str, Tensor] = OrderedDict()
    state["positional_embedding"] = 0.3 * torch.randn(CONTEXT, d)
    state["image_projection"] = torch.randn(w, dim) * w**-0.5
    state["text_projection"] = torch.randn(d, dim) * d**-0.5
    state["logit_scale"] = torch.tensor(math.log(1 / 0.07))
    state["visual.cls_token"] = torch.randn(1, 1, w)
    state["visual.pos_embed"] = torch.randn(1, grid**2 + 1, w)
    state["visual.patch_embed.proj.weight"] = torch.randn(w, 3, patch, patch) / patch
    state["visual.patch_embed.proj.bias"] = torch.randn(w)
    for i in range(depth):
        at = f"visual.blocks.{i}"
        state |= {**norm(f"{at}.norm1", w), **linear(f"{at}.attn.qkv", w, 3 * w), **linear(f"{at}.attn.proj", w, w)}
        state |= {**norm(f"{at}.norm2", w), **linear(f"{at}.mlp.fc1", w, 4 * w), **linear(f"{at}.mlp.fc2", 4 * w, w)}
    state |= norm("visual.norm", w)
    for i in range(text_depth):
        at = f"transformer.resblocks.{i}"
        state |= {
            f"{at}.attn.in_proj_weight": torch.randn(3 * d, d) * d**-0.5,
            f"{at}.attn.in_proj_bias": torch.randn(3 * d),
        }
        state |= {**linear(f"{at}.attn.out_proj", d, d), **norm(f"{at}.ln_1", d)}
        state |= {**linear(f"{at}.mlp.c_fc", d, 4 * d), **linear(f"{at}.mlp.c_proj", 4 * d, d), **norm(f"{at}.ln_2", d)}
    state["token_embedding.weight"] = torch.randn(VOCABULARY, d)
    state |= norm("ln_final", d)
    state |= {**linear("image_mlp.layer1", w, hidden), **norm("image_mlp.bn1", hidden)}
    state |= {"image_mlp.bn1.running_mean": torch.zeros(hidden), "image_mlp.bn1.num_batches_tracked": torch.tensor(7)}
    return OrderedDict((f"module.{key}", value) for key, value in state.items())


def training_checkpoint(state) -> dict:
    """What the published training script saves: numpy numbers in the optimiser, paths in the arguments."""
    return {
        "epoch": 100,
        "state_dict": state,
        "optimizer": {"state": {0: {"step": 5, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": np.float64(1e-5)}]},
        "scaler": {"scale": 65536.0},
        "best_acc1": 45.0,
        "args": argparse.Namespace(model="SLIP_VITB16", output_dir=Path("/checkpoint/x"), betas=(0.9, 0.98), gpu=0),
    }


@pytest.fixture(scope="module")
def state():
    return official()


@pytest.fixture(scope="module")
def checkpoint(state, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("slip") / "slip_base_100ep.pt"
    torch.save(training_checkpoint(state), path)
    return path


def attention(x: Tensor, w: Tensor, b: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """Softmax attention, head by head, from the definition; ahead of the output projection."""
    q, k, v = (x @ w.T + b).chunk(3, -1)
    size = x.shape[-1] // heads
    out = []
    for h in range(heads):
        part = slice(h * size, (h + 1) * size)
        scores = q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(size)
        if mask is not None:
            scores = scores + mask
        out.append(torch.softmax(scores, -1) @ v[..., part])
    return torch.cat(out, -1)


def normed(x: Tensor, p: dict[str, Tensor], name: str, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    variance = (centred**2).mean(-1, keepdim=True)
    return centred / torch.sqrt(variance + eps) * p[f"{name}.weight"] + p[f"{name}.bias"]


def image_forward(state, images: Tensor, heads: int) -> tuple[list[Tensor], Tensor, Tensor]:
    """Output of every block, normed tokens, embedding."""
    p = {key.removeprefix("module."): value for key, value in state.items()}
    patch = p["visual.patch_embed.proj.weight"].shape[-1]
    cut = images.unfold(2, patch, patch).unfold(3, patch, patch)  # (n, 3, rows, columns, patch, patch)
    flat = cut.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    tokens = flat @ p["visual.patch_embed.proj.weight"].flatten(1).T + p["visual.patch_embed.proj.bias"]
    x = torch.cat([p["visual.cls_token"].expand(len(images), -1, -1), tokens], 1) + p["visual.pos_embed"]
    outputs = []
    for i in range(sum(key.endswith(".norm1.bias") for key in p)):
        at = f"visual.blocks.{i}"
        y = normed(x, p, f"{at}.norm1", 1e-6)
        y = attention(y, p[f"{at}.attn.qkv.weight"], p[f"{at}.attn.qkv.bias"], heads)
        x = x + y @ p[f"{at}.attn.proj.weight"].T + p[f"{at}.attn.proj.bias"]
        y = normed(x, p, f"{at}.norm2", 1e-6) @ p[f"{at}.mlp.fc1.weight"].T + p[f"{at}.mlp.fc1.bias"]
        y = 0.5 * y * (1 + torch.erf(y / math.sqrt(2)))
        x = x + y @ p[f"{at}.mlp.fc2.weight"].T + p[f"{at}.mlp.fc2.bias"]
        outputs.append(x)
    last = normed(x, p, "visual.norm", 1e-6)
    return outputs, last, last[:, 0] @ p["image_projection"]


def text_forward(state, tokens: Tensor) -> Tensor:
    p = {key.removeprefix("module."): value for key, value in state.items()}
    x = p["token_embedding.weight"][tokens] + p["positional_embedding"]
    later = torch.arange(CONTEXT)[None, :] > torch.arange(CONTEXT)[:, None]
    mask = torch.zeros(CONTEXT, CONTEXT).masked_fill(later, -math.inf)
    for i in range(sum(key.endswith(".ln_1.bias") for key in p)):
        at = f"transformer.resblocks.{i}"
        y = normed(x, p, f"{at}.ln_1", 1e-5)
        y = attention(y, p[f"{at}.attn.in_proj_weight"], p[f"{at}.attn.in_proj_bias"], TEXT_HEADS, mask)
        x = x + y @ p[f"{at}.attn.out_proj.weight"].T + p[f"{at}.attn.out_proj.bias"]
        y = normed(x, p, f"{at}.ln_2", 1e-5) @ p[f"{at}.mlp.c_fc.weight"].T + p[f"{at}.mlp.c_fc.bias"]
        y = y / (1 + torch.exp(-1.702 * y))
        x = x + y @ p[f"{at}.mlp.c_proj.weight"].T + p[f"{at}.mlp.c_proj.bias"]
    x = normed(x, p, "ln_final", 1e-5)
    ends = [row.tolist().index(49407) for row in tokens]  # <|endoftext|>, the last entry of CLIP's vocabulary
    return torch.stack([x[i, end] for i, end in enumerate(ends)]) @ p["text_projection"]


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=2e-4)


def test_image_side(state, checkpoint, rng) -> None:
    backbone = load_backbone(f"slip:ViT-B-16?checkpoint={checkpoint}")
    images = torch.from_numpy(rng.normal(size=(2, 3, PATCH * GRID, PATCH * GRID)).astype(np.float32))
    blocks, last, embedding = image_forward(state, images, HEADS)
    found = backbone.forward_layers(images, backbone.layers, ["cls", "mean", "grid1"])
    assert [layer.name for layer in backbone.layers] == ["0", "1", "2", "head", "final"]
    for name, tokens in zip(["0", "1", "2", "head"], [*blocks, last], strict=True):
        close(found[name, "cls"], tokens[:, 0])
        close(found[name, "mean"], tokens.mean(1))
        close(found[name, "grid1"], tokens[:, 1:].mean(1))
    close(found["final", "final"], embedding)
    assert embedding.shape == (2, DIM) and embedding.std() > 0.1
    assert [layer.module for layer in backbone.table.blocks] == [f"visual.blocks.{i}" for i in range(DEPTH)]
    image_weights = [v.numel() for k, v in state.items() if "visual." in k or "image_projection" in k]
    assert backbone.n_parameters == sum(image_weights)


def test_heads_come_from_the_model(state, checkpoint, rng) -> None:
    """ViT-L has 16 heads; 24 is no multiple of 16, 48 is."""
    with pytest.raises(InputError, match="the image tower is 24 wide, expected a multiple of its 16 heads"):
        load_backbone(f"slip:ViT-L-16?checkpoint={checkpoint}")
    wide = official(width=48, depth=1)
    path = checkpoint.parent / "wide.pt"
    torch.save({"state_dict": wide}, path)
    images = torch.from_numpy(rng.normal(size=(1, 3, 24, 24)).astype(np.float32))
    for model, heads in (("ViT-L-16", 16), ("ViT-S-16", 12)):
        backbone = load_backbone(f"slip:{model}?checkpoint={path}")
        found = backbone.forward_pairs(images, [("final", "final")])["final", "final"]
        close(found, image_forward(wide, images, heads)[2])


def test_published_small_model(tmp_path, rng) -> None:
    """At the sizes of the published ViT-S (text side kept small): 12 heads of 32."""
    full = official(width=384, depth=12, patch=16, grid=14, dim=512)
    torch.save(training_checkpoint(full), tmp_path / "small.pt")
    backbone = load_backbone(f"slip:ViT-S-16?checkpoint={tmp_path / 'small.pt'}")
    images = torch.from_numpy(rng.normal(size=(1, 3, 224, 224)).astype(np.float32))
    found = backbone.forward_pairs(images, [("5", "mean"), ("final", "final")])
    blocks, _, embedding = image_forward(full, images, 12)
    torch.testing.assert_close(found["5", "mean"], blocks[5].mean(1), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found["final", "final"], embedding, atol=1e-3, rtol=1e-3)
    with pytest.raises(InputError, match="holds ViT-S-16, not ViT-L-16; write slip:ViT-S-16"):
        load_backbone(f"slip:ViT-L-16?checkpoint={tmp_path / 'small.pt'}")


def test_text_side(state, checkpoint) -> None:
    open_clip = pytest.importorskip("open_clip")
    tower = load_text_tower(f"slip:vit-b/16?checkpoint={checkpoint}")
    tokens = open_clip.tokenize(TEXTS)
    found = tower.encode(TEXTS)
    close(found, text_forward(state, tokens))
    close(tower.encode(TEXTS, batch_size=3), found)
    assert (found[0] - found[1]).abs().max() > 0.01
    assert (tower.dim, tower.id) == (DIM, f"slip:ViT-B-16?checkpoint={checkpoint}")
    assert load_backbone(tower.id).shapes["final"].channels == tower.dim
    assert not any("visual" in name for name, _ in tower.model.named_parameters())


def test_plain_and_safe_files_hold_the_same(state, checkpoint, tmp_path) -> None:
    bare = {key.removeprefix("module."): value for key, value in state.items() if "image_mlp" not in key}
    save_file(bare, tmp_path / "a.safetensors")
    torch.save(bare, tmp_path / "a.pt")
    torch.save({key: value.half() for key, value in bare.items()}, tmp_path / "half.pt")
    reference = load_backbone(f"slip:ViT-B-16?checkpoint={checkpoint}").weights_hash
    for name in ("a.safetensors", "a.pt"):
        assert load_backbone(f"slip:ViT-B-16?checkpoint={tmp_path / name}").weights_hash == reference
    half = load_backbone(f"slip:ViT-B-16?checkpoint={tmp_path / 'half.pt'}")
    assert {p.dtype for p in half.model.parameters()} == {torch.float32}


def test_random_weights_come_from_the_seed() -> None:
    pytest.importorskip("open_clip")
    one, same, other = (load_backbone("slip:ViT-S-16", weights="random", seed=seed) for seed in (1, 1, 2))
    assert one.weights_hash == same.weights_hash != other.weights_hash
    assert one.shapes["final"].channels == 512
    assert one.preprocessing.size == 224
    (listed,) = list_backbones("slip:ViT-S-16/50ep")
    assert (listed.n_parameters, listed.n_layers) == (one.n_parameters, 12)
    towers = [load_text_tower("slip:ViT-B-16", weights="random", seed=seed) for seed in (1, 1, 2)]
    assert towers[0].weights_hash == towers[1].weights_hash != towers[2].weights_hash
    assert towers[0].encode(["x"]).shape == (1, 512)
    # by hand: 49408 tokens and 77 places of 512; a block 12 d^2 + 13 d; the last norm; the projection
    by_hand = (49408 + 77) * 512 + 12 * (12 * 512**2 + 13 * 512) + 2 * 512 + 512 * 512
    assert sum(p.numel() for p in towers[0].model.parameters()) == by_hand


def test_another_input_size_and_the_crop(checkpoint) -> None:
    backbone = load_backbone(f"slip:ViT-B-16?checkpoint={checkpoint}", image_size=40, crop="center")
    how = backbone.preprocessing
    assert (how.size, how.crop, how.crop_pct, how.interpolation) == (40, "center", 1.0, "bilinear")
    assert (how.mean, how.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert backbone.forward_pairs(torch.zeros(1, 3, 40, 40), [("2", "grid5")])["2", "grid5"].shape == (1, 25 * WIDTH)
    with pytest.raises(InputError, match="cannot take 41 pixels, expected a multiple of its patch 8"):
        load_backbone(f"slip:ViT-B-16?checkpoint={checkpoint}", image_size=41)


def test_names() -> None:
    for text in (
        "ViT-B-16",
        "vit-b-16",
        "ViT-B/16",
        "ViT-B/16/100ep",
        "vitb16",
        "SLIP_VITB16",
        "base",
        "slip_base_100ep",
    ):
        assert parse_id(f"slip:{text}") == ("slip", "ViT-B-16/100ep"), text
    listed = [one.id for one in list_backbones("slip:*", sizes=False)]
    assert len(listed) == 11 and "slip:ViT-L-16/25ep" in listed
    addresses = [parse(name).address for name in ("s/25ep", "ViT-L-16/50EP", "ViT-B-16/cc12m_35ep")]
    assert [address.rpartition("/")[2] for address in addresses] == [
        "slip_small_25ep.pt", "slip_large_50ep.pt", "slip_base_cc12m_35ep.pt",
    ]  # fmt: skip
    assert addresses[0].startswith("https://dl.fbaipublicfiles.com/slip/")
    for text, problem in [
        ("ViT-H-14", "unknown SLIP model 'ViT-H-14'; .*Known: ViT-B-16, ViT-L-16, ViT-S-16"),
        ("ViT-B-16/99ep", "unknown weights of ViT-B-16 '99ep'"),
        ("ViT-B-16/openai", "unknown weights of ViT-B-16 'openai'"),
        ("ViT-B-16/50ep?checkpoint=x.pt", "names both the weights 50ep and a checkpoint"),
        ("ViT-B-16?checkpoint=", "names no checkpoint"),
        ("ViT-B-16?dtype=half", "unknown option 'dtype'"),
    ]:
        with pytest.raises(InputError, match=problem) as caught:
            load_backbone(f"slip:{text}")
        assert "\n" not in str(caught.value)


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing on the screen."""


@contextlib.contextmanager
def served(folder: Path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Silent, directory=folder)) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()


class Evil:
    """Writes a file when a careless reader opens the checkpoint."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (exec, (f"open({str(self.path)!r}, 'w')",))


def without(state, *names):
    return {key: value for key, value in state.items() if key not in names}


DAMAGE = {
    "no state": lambda s: ({"epoch": 1}, "holds no 'state_dict' of tensors"),
    "a list": lambda s: ({"state_dict": [1, 2]}, "holds no 'state_dict' of tensors"),
    "numbers in it": lambda s: ({"state_dict": {**s, "module.x": 3}}, "holds no 'state_dict' of tensors"),
    "a weight is missing": lambda s: (without(s, "module.visual.norm.bias"), "lacks visual.norm.bias; give a SLIP"),
    "no projection": lambda s: (without(s, "module.image_projection"), "lacks image_projection"),
    "no text side": lambda s: (
        {key: value for key, value in s.items() if "transformer" not in key and "ln_final" not in key},
        "lacks ln_final.weight, ln_final.bias; give",
    ),
    "a head of classes": lambda s: (
        {**s, "module.visual.head.weight": torch.zeros(5, WIDTH)},
        "has the unexpected visual.head.weight; give a SLIP",
    ),
    "a block is left out": lambda s: (
        {key: value for key, value in s.items() if ".blocks.1." not in key},
        r"lacks visual.blocks.1.norm1.weight, .* and 9 more and has the unexpected visual.blocks.2.norm1.weight",
    ),
    "another shape": lambda s: (
        {**s, "module.visual.blocks.2.mlp.fc2.bias": torch.zeros(7)},
        r"visual.blocks.2.mlp.fc2.bias has shape \(7,\), expected \(24,\)",
    ),
    "too few axes": lambda s: (
        {**s, "module.image_projection": torch.zeros(WIDTH)},
        "has shape .24,., expected 2 axes",
    ),
    "no square grid": lambda s: (
        {**s, "module.visual.pos_embed": torch.zeros(1, 9, WIDTH)},
        "has 9 tokens, expected 1 and a square grid",
    ),
    "not finite": lambda s: (
        {**s, "module.ln_final.bias": torch.full((TEXT_WIDTH,), math.nan)},
        "ln_final.bias holds other than finite numbers",
    ),
    "whole numbers": lambda s: (
        {**s, "module.ln_final.bias": torch.zeros(TEXT_WIDTH, dtype=torch.int64)},
        "ln_final.bias holds other than finite numbers",
    ),
    "half a prefix": lambda s: (
        {**s, "visual.norm.extra": torch.zeros(1)},
        "lacks image_projection",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_checkpoints(kind, state, tmp_path) -> None:
    held, problem = DAMAGE[kind](state)
    torch.save(held, tmp_path / "bad.pt")
    with pytest.raises(InputError, match=problem) as caught:
        load_backbone(f"slip:ViT-B-16?checkpoint={tmp_path / 'bad.pt'}")
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "bad.pt") in str(caught.value)


def test_nothing_in_a_file_runs(state, tmp_path) -> None:
    bad, marker = tmp_path / "bad.pt", tmp_path / "ran"
    for place in ("args", "state_dict"):
        torch.save({"state_dict": state, "args": argparse.Namespace(x=1)} | {place: Evil(marker)}, bad)
        with pytest.raises(InputError, match=r"would run code: .*exec"):
            load_backbone(f"slip:ViT-B-16?checkpoint={bad}")
    torch.save({"state_dict": state, "args": argparse.Namespace(x=Evil(marker))}, bad)
    with pytest.raises(InputError, match=r"would run code: .*exec"):
        load_text_tower(f"slip:ViT-B-16?checkpoint={bad}")
    assert not marker.exists()


def test_files_that_are_none(checkpoint, tmp_path) -> None:
    half = tmp_path / "half.pt"
    half.write_bytes(checkpoint.read_bytes()[: checkpoint.stat().st_size // 2])
    (tmp_path / "text.pt").write_text("not a checkpoint")
    (tmp_path / "text.safetensors").write_text("not a checkpoint")
    for path, problem in [
        (half, "is not a file of torch.save"),
        (tmp_path / "text.pt", "is not a file of torch.save"),
        (tmp_path / "text.safetensors", "cannot be read as plain tensors"),
        (tmp_path / "none.pt", "no such checkpoint; check the path"),
    ]:
        with pytest.raises(InputError, match=problem) as caught:
            load_backbone(f"slip:ViT-B-16?checkpoint={path}")
        assert "\n" not in str(caught.value)


def test_other_vocabulary(state, tmp_path) -> None:
    pytest.importorskip("open_clip")
    torch.save({**state, "module.token_embedding.weight": torch.zeros(100, TEXT_WIDTH)}, tmp_path / "a.pt")
    with pytest.raises(InputError, match="knows 100 tokens, expected the 49408 of CLIP"):
        load_text_tower(f"slip:ViT-B-16?checkpoint={tmp_path / 'a.pt'}")


def test_download(checkpoint, tmp_path, monkeypatch) -> None:
    """Once, into the cache, with its sha256 recorded; served from this machine."""
    monkeypatch.setenv("BRAINALIGN_CACHE", str(tmp_path / "cache"))
    with served(checkpoint.parent) as address:
        monkeypatch.setattr("brainalign.features.slip_names.ADDRESS", address)
        published = load_backbone("slip:ViT-B-16")
        other = load_backbone(f"slip:ViT-B-16?checkpoint={address}/{checkpoint.name}?x=1")
    assert published.id == "slip:ViT-B-16/100ep"
    folder = tmp_path / "cache" / "backbones" / "slip"
    kept = json.loads((folder / "checksums.json").read_text())["sha256"]
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert len(kept) == 2 and set(kept.values()) == {digest}
    assert kept["slip_base_100ep.pt"] == digest
    # The server is gone: what was downloaded is enough.
    again = load_backbone("slip:ViT-B-16/100ep")
    assert again.weights_hash == published.weights_hash == other.weights_hash


def test_without_a_network(no_network, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("BRAINALIGN_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InputError, match=r"slip:ViT-S-16/100ep: weights cannot be had .*checkpoint=FILE") as caught:
        load_backbone("slip:ViT-S-16")
    assert "\n" not in str(caught.value)


def test_gelu_of_the_test_is_torchs() -> None:
    y = torch.linspace(-3, 3, 11)
    torch.testing.assert_close(0.5 * y * (1 + torch.erf(y / math.sqrt(2))), F.gelu(y))
    assert slip_checkpoint.SlipSizes.published("ViT-S-16").heads == 12
