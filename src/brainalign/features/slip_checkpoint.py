"""Read a SLIP checkpoint: found or downloaded, opened without running anything it holds, checked name by name.

The published files are training checkpoints: beside `state_dict` they hold an epoch, a score, the optimiser's state and
the command line as an `argparse.Namespace` with `pathlib` paths in it. Those two names are answered by stand-ins that
keep nothing; every other name but plain arrays and tensors is refused (`brainalign.datasets.safe_pickle`).
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor

from brainalign.errors import InputError
from brainalign.features.hub import cannot
from brainalign.features.slip_names import MODELS, SlipName

State = dict[str, Tensor]
Shapes = Mapping[str, tuple[int, ...]]
IGNORED = ("image_mlp.", "logit_scale")  # the head of SimCLR, and the temperature: embeddings do not need them
PREFIX = "module."  # as torch's DistributedDataParallel names everything
NAMED_AT_MOST = 3

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SlipSizes:
    """Sizes of both towers, as a checkpoint's own shapes tell them.

    Attributes
    ----------
    width, depth, heads, mlp : int
        Of the image transformer.
    patch, grid : int
        Side of a patch in pixels, patches along a side of the picture.
    text_width, text_depth, text_heads : int
    context, vocabulary : int
        Tokens of a text, known tokens.
    dim : int
        Of the space both sides are projected into.
    """

    width: int
    depth: int
    heads: int
    mlp: int
    patch: int = 16
    grid: int = 14
    text_width: int = 512
    text_depth: int = 12
    text_heads: int = 8
    context: int = 77
    vocabulary: int = 49408
    dim: int = 512

    @property
    def image_size(self) -> int:
        """Side of the picture, pixels."""
        return self.patch * self.grid

    @classmethod
    def published(cls, model: str) -> SlipSizes:
        """Sizes of a published model."""
        facts = MODELS[model]
        return cls(facts.width, facts.depth, facts.heads, 4 * facts.width)


@dataclass(frozen=True)
class SlipCheckpoint:
    """What a file holds: sizes, and the weights of each side by their published names."""

    sizes: SlipSizes
    image: State
    text: State


class _Arguments:
    """Stands in for `argparse.Namespace`; what the file puts into it is dropped with it."""

    def __new__(cls, *_: object) -> Any:
        return OrderedDict()  # the only other type whose attributes torch's unpickler sets


def _path(*parts: object) -> str:
    """Stands in for `pathlib`'s classes."""
    return str(PurePosixPath(*(str(part) for part in parts)))


_STAND_INS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (_Arguments, "argparse.Namespace"),
    *((_path, f"pathlib.{kind}") for kind in ("PosixPath", "PurePosixPath", "Path", "WindowsPath")),
]


def read_checkpoint(name: SlipName) -> SlipCheckpoint:
    """Weights of a SLIP model: from its file, downloaded where they are not here yet.

    Raises
    ------
    InputError
        If the file cannot be had or read, holds other names or shapes than SLIP's, or another model.
    """
    path = find_file(name)
    state = _bare_names(_read(path))
    sizes = infer_sizes(state, name, path)
    image, text = expected_shapes(sizes)
    check_shapes(state, {**image, **text}, path)
    for key, value in state.items():
        if not value.is_floating_point() or not bool(torch.isfinite(value).all()):
            raise InputError(f"{key} holds other than finite numbers", where=path, hint="get the file anew")
    return SlipCheckpoint(sizes, {key: state[key].float() for key in image}, {key: state[key].float() for key in text})


def find_file(name: SlipName) -> Path:
    """The checkpoint on this machine; an address is downloaded once into the cache, its sha256 recorded there.

    Raises
    ------
    InputError
        If there is no such file, or it cannot be downloaded.
    """
    address = name.address
    if not re.match(r"https?://", address):
        path = Path(address).expanduser()
        if not path.is_file():
            raise InputError("no such checkpoint", where=path, hint="check the path")
        return path
    from brainalign.cache import default_cache_dir
    from brainalign.datasets.fetch import RemoteFile, fetch_files

    folder, file = default_cache_dir() / "backbones" / "slip", _file_name(name)
    if not (folder / file).is_file():
        log.warning("downloading %s into %s", address, folder)
    try:
        fetch_files([RemoteFile(address, file)], folder)
    except InputError as error:
        hint = f"download {address} elsewhere and use slip:{name.model}?checkpoint=FILE"
        raise cannot(name.where, "weights cannot be had", error, hint) from error
    return folder / file


def _file_name(name: SlipName) -> str:
    """The published name; another address has its hash ahead, since its last part may say anything."""
    last = urlsplit(name.address).path.rpartition("/")[2]
    if name.checkpoint is None:
        return last
    digest = hashlib.sha256(name.address.encode()).hexdigest()[:12]
    return f"{digest}-{re.sub(r'[^A-Za-z0-9._-]+', '_', last)[-80:] or 'weights.pt'}"


def _read(path: Path) -> State:
    """All tensors of a `.pt` or `.safetensors` file."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except Exception as error:  # safetensors raises its own types
            raise cannot(str(path), "cannot be read as plain tensors", error, "get the file anew") from error
    from brainalign.datasets.safe_pickle import load_untrusted_torch

    with torch.serialization.safe_globals(_STAND_INS):
        held = load_untrusted_torch(path)
    state = held.get("state_dict", held) if isinstance(held, dict) else held
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError("holds no 'state_dict' of tensors", where=path, hint="give a SLIP checkpoint")
    return {str(key): value for key, value in state.items()}


def _bare_names(state: State) -> State:
    """Without the prefix of a model that was trained on several devices, and without what is not needed."""
    if all(key.startswith(PREFIX) for key in state):
        state = {key.removeprefix(PREFIX): value for key, value in state.items()}
    return {key: value for key, value in state.items() if not key.startswith(IGNORED)}


def infer_sizes(state: Mapping[str, Tensor], name: SlipName, path: object) -> SlipSizes:
    """Sizes of both towers from the shapes of a few weights.

    Raises
    ------
    InputError
        If one of them is missing or shaped unlike SLIP's, or the sizes are those of another published model.
    """
    heads, text_heads = name.facts.heads, SlipSizes.text_heads

    def shape(key: str, ndim: int) -> tuple[int, ...]:
        if key not in state:
            raise _names_differ([key], [], path)
        found = tuple(state[key].shape)
        if len(found) != ndim or 0 in found:
            raise InputError(
                f"{key} has shape {found}, expected {ndim} axes", where=path, hint="give a SLIP checkpoint"
            )
        return found

    (width, dim), (vocabulary, text_width) = shape("image_projection", 2), shape("token_embedding.weight", 2)
    patch, tokens = shape("visual.patch_embed.proj.weight", 4)[-1], shape("visual.pos_embed", 3)[1]
    grid = math.isqrt(tokens - 1)
    if grid == 0 or grid * grid != tokens - 1:
        raise InputError(f"visual.pos_embed has {tokens} tokens, expected 1 and a square grid", where=path)
    for side, wide, n in (("image", width, heads), ("text", text_width, text_heads)):
        if wide % n:
            raise InputError(f"the {side} tower is {wide} wide, expected a multiple of its {n} heads", where=path)
    depth, text_depth = _count(state, "visual.blocks."), _count(state, "transformer.resblocks.")
    for other, facts in MODELS.items():
        if other != name.model and (width, depth) == (facts.width, facts.depth):
            raise InputError(f"holds {other}, not {name.model}", where=path, hint=f"write slip:{other}?checkpoint=...")
    mlp, context = shape("visual.blocks.0.mlp.fc1.weight", 2)[0], shape("positional_embedding", 2)[0]
    return SlipSizes(
        width, depth, heads, mlp, patch, grid, text_width, text_depth, text_heads, context, vocabulary, dim
    )


def _count(state: Mapping[str, Tensor], start: str) -> int:
    """How many blocks there are names of."""
    return len({key.removeprefix(start).partition(".")[0] for key in state if key.startswith(start)})


def expected_shapes(sizes: SlipSizes) -> tuple[Shapes, Shapes]:
    """Names and shapes of all weights of the image side and of the text side."""
    w, d = sizes.width, sizes.text_width
    image: dict[str, tuple[int, ...]] = {
        "image_projection": (w, sizes.dim),
        "visual.cls_token": (1, 1, w),
        "visual.pos_embed": (1, sizes.grid**2 + 1, w),
        "visual.patch_embed.proj.weight": (w, 3, sizes.patch, sizes.patch),
        "visual.patch_embed.proj.bias": (w,),
        **_affine("visual.norm", w),
    }
    for i in range(sizes.depth):
        block = f"visual.blocks.{i}"
        image |= {**_affine(f"{block}.norm1", w), **_affine(f"{block}.norm2", w)}
        image |= {**_linear(f"{block}.attn.qkv", w, 3 * w), **_linear(f"{block}.attn.proj", w, w)}
        image |= {**_linear(f"{block}.mlp.fc1", w, sizes.mlp), **_linear(f"{block}.mlp.fc2", sizes.mlp, w)}
    text: dict[str, tuple[int, ...]] = {
        "token_embedding.weight": (sizes.vocabulary, d),
        "positional_embedding": (sizes.context, d),
        "text_projection": (d, sizes.dim),
        **_affine("ln_final", d),
    }
    for i in range(sizes.text_depth):
        block = f"transformer.resblocks.{i}"
        text |= {**_affine(f"{block}.ln_1", d), **_affine(f"{block}.ln_2", d)}
        text |= {f"{block}.attn.in_proj_weight": (3 * d, d), f"{block}.attn.in_proj_bias": (3 * d,)}
        text |= _linear(f"{block}.attn.out_proj", d, d)
        text |= {**_linear(f"{block}.mlp.c_fc", d, 4 * d), **_linear(f"{block}.mlp.c_proj", 4 * d, d)}
    return image, text


def _linear(name: str, n_in: int, n_out: int) -> Shapes:
    return {f"{name}.weight": (n_out, n_in), f"{name}.bias": (n_out,)}


def _affine(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def check_shapes(state: Mapping[str, Tensor], expected: Shapes, path: object) -> None:
    """Refuse a checkpoint whose names or shapes differ from those expected.

    Raises
    ------
    InputError
        One line that names the first of them.
    """
    missing = [key for key in expected if key not in state]
    unexpected = [key for key in state if key not in expected]
    if missing or unexpected:
        raise _names_differ(missing, unexpected, path)
    for key, shape in expected.items():
        if tuple(state[key].shape) != shape:
            found = tuple(state[key].shape)
            raise InputError(f"{key} has shape {found}, expected {shape}", where=path, hint="give a SLIP checkpoint")


def _names_differ(missing: Iterable[str], unexpected: Iterable[str], path: object) -> InputError:
    parts = []
    for kind, keys in (("lacks", list(missing)), ("has the unexpected", list(unexpected))):
        if keys:
            more = f" and {len(keys) - NAMED_AT_MOST} more" if len(keys) > NAMED_AT_MOST else ""
            parts.append(f"{kind} {', '.join(map(_ascii, keys[:NAMED_AT_MOST]))}{more}")
    return InputError(" and ".join(parts), where=path, hint="give a SLIP checkpoint")


def _ascii(key: str) -> str:
    return ascii(key[:80])[1:-1]
