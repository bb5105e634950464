"""Image towers `open_clip:MODEL/TAG`, such as `open_clip:ViT-H-14/laion2b_s32b_b79k`.

Also `open_clip:hf-hub:ORG/NAME` and `open_clip:local-dir:FOLDER` (a folder as open_clip saves it), and at the end
`?dtype=bfloat16` for towers that would not fit in float32. Three kinds of towers: OpenCLIP's own ViT, the ResNet with
attention pooling, and timm models. Layer `head` is the last token set after its norm, or the last feature map; `final`
is the embedding that is compared with the text's, before it is brought to unit length.
"""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from brainalign.errors import InputError, unknown_name
from brainalign.features.hub import OFFLINE_HINT, cannot, quick_offline, required
from brainalign.features.layers import find_blocks
from brainalign.features.options import chosen_dtype, split_options
from brainalign.features.preprocessing import from_open_clip
from brainalign.features.sources import Network, frozen, n_weights

FOLDERS = ("hf-hub:", "local-dir:")


@dataclass(frozen=True)
class Name:
    """What an id names: a model of open_clip's list and the tag of its weights, or a repository or folder."""

    text: str
    model: str
    tag: str | None
    dtype: torch.dtype

    @property
    def where(self) -> str:
        """The id, for errors."""
        return f"open_clip:{self.text}"

    @property
    def is_local(self) -> bool:
        """Whether it names a folder."""
        return self.model.startswith("local-dir:")


def parse(text: str) -> Name:
    """Read the part of an id behind `open_clip:`.

    Raises
    ------
    InputError
        If the package is missing, or there is no such model, tag or option.
    """
    where = f"open_clip:{text}"
    open_clip = required("open_clip", package="open_clip_torch", where=where)
    bare, options = split_options(text, ["dtype"], where=where)
    dtype = chosen_dtype(options, where=where)
    if bare.startswith(FOLDERS):
        return Name(text, bare, None, dtype)
    model, _, tag = bare.partition("/")
    if model not in open_clip.list_models():
        raise unknown_name("open_clip model", model, open_clip.list_models(), where=where)
    tags = open_clip.list_pretrained_tags_by_model(model)
    if tag and tag not in tags:
        raise unknown_name(f"weights of {model}", tag, tags, where=where)
    return Name(text, model, tag or None, dtype)


def load(name: str, *, weights: str, seed: int, image_size: int | None, crop: str) -> Network:
    """The image tower of an open_clip model, pretrained or with seeded random weights.

    Raises
    ------
    InputError
        If the package, the model or its weights cannot be had.
    """
    one = parse(name)
    if weights == "random":
        tower, config = random_tower(one, seed=seed, image_size=image_size)
    else:
        model = pretrained(one, image_size=image_size)
        tower, config = model.visual, model.visual.preprocess_cfg
    return network(one.where, tower.to(one.dtype), config, crop=crop)


def pretrained(name: Name, *, image_size: int | None = None) -> Any:
    """The whole model, both towers, with its weights; pickled files are read as plain tensors only.

    Raises
    ------
    InputError
        If the id names no weights, or they cannot be had.
    """
    import open_clip

    if name.tag is None and not name.model.startswith(FOLDERS):
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(name.model)) or "none"
        hint = f"write open_clip:{name.model}/TAG; tags: {tags}"
        raise InputError("no weights are named", where=name.where, hint=hint)
    try:
        return _create(name, name.tag, force_image_size=image_size, require_pretrained=True, weights_only=True)
    except Exception as error:  # hub clients and torch raise their own types
        raise cannot(name.where, "pretrained weights cannot be had", error, _hint(name)) from error


def random_model(name: Name, *, seed: int) -> Any:
    """The whole model, both towers, with random weights from `seed`.

    Raises
    ------
    InputError
        If it cannot be built: text towers of some models need a configuration from the hub.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return _create(name, None, load_weights=False, pretrained_text=False)
        except Exception as error:  # hub clients raise their own types
            raise cannot(name.where, "cannot be built", error, _hint(name)) from error


def _create(name: Name, tag: str | None, **how: Any) -> Any:
    import open_clip

    # The list of models has the activation apart from the weights; each tag says what it was trained with.
    quick_gelu = bool(_tag_config(name).get("quick_gelu"))
    with quick_offline("", "open_clip", local=name.is_local):
        return open_clip.create_model(name.model, pretrained=tag, force_quick_gelu=quick_gelu, **how)


def _hint(name: Name) -> str:
    return "check the folder" if name.is_local else OFFLINE_HINT


def random_tower(name: Name, *, seed: int, image_size: int | None) -> tuple[nn.Module, dict[str, Any]]:
    """The image tower alone with random weights from `seed`, and its preprocessing.

    Raises
    ------
    InputError
        If it cannot be built, or the model is only known by a repository.
    """
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    config = model_config(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            tower = _build(config["model_cfg"], image_size)
        except Exception as error:  # a size the architecture cannot take
            raise cannot(name.where, "cannot be built", error, "leave out the image size") from error
    overlay = {**config["preprocess_cfg"], "size": tower.image_size}
    return tower, merge_preprocess_dict(asdict(PreprocessCfg()), overlay)


def model_config(name: Name) -> dict[str, Any]:
    """`model_cfg` and `preprocess_cfg`, as open_clip stores them beside weights; nothing is downloaded.

    Raises
    ------
    InputError
        If the model is only known by a repository, or its folder has no readable configuration.
    """
    from open_clip.factory import get_model_config

    from brainalign.files import read_json

    kind, _, place = name.model.partition(":")
    if kind == "hf-hub":
        raise InputError(
            "random weights need a configuration", where=name.where, hint="use a MODEL of open_clip's list"
        )
    if kind == "local-dir":
        found = read_json(f"{place}/open_clip_config.json")
        if not isinstance(found, dict) or not isinstance(found.get("model_cfg"), dict):
            raise InputError("holds no 'model_cfg'", where=f"{place}/open_clip_config.json")
        return {"model_cfg": found["model_cfg"], "preprocess_cfg": found.get("preprocess_cfg", {})}
    tag = _tag_config(name)
    config = dict(get_model_config(name.model))
    config["quick_gelu"] = bool(config.get("quick_gelu") or tag.get("quick_gelu"))
    return {"model_cfg": config, "preprocess_cfg": tag}


def _tag_config(name: Name) -> dict[str, Any]:
    from open_clip.pretrained import get_pretrained_cfg

    return dict(get_pretrained_cfg(name.model, name.tag)) if name.tag else {}


def _build(config: dict[str, Any], image_size: int | None) -> Any:
    """The image tower with random weights; the text tower might need a download of its own."""
    from open_clip.model import _build_vision_tower

    vision = {**config["vision_cfg"], "timm_model_pretrained": False}
    if image_size is not None:
        vision["image_size"] = image_size
    tower = _build_vision_tower(config["embed_dim"], vision, bool(config.get("quick_gelu")))
    if image_size is not None and hasattr(tower, "set_input_size"):
        tower.set_input_size(image_size)
    return tower


def network(backbone: str, tower: Any, config: dict[str, Any], *, crop: str) -> Network:
    """Describe an image tower.

    Parameters
    ----------
    tower
        `VisionTransformer`, `ModifiedResNet` or `TimmModel` of open_clip.
    config : dict
        With the keys of open_clip's `PreprocessCfg`.

    Raises
    ------
    InputError
        If the tower is of another kind, or its blocks are not found.
    """
    how = from_open_clip(config, crop=crop, where=backbone)
    frozen(tower)
    dtype = next(tower.parameters()).dtype
    if hasattr(tower, "trunk"):
        return _timm_tower(backbone, tower, how, dtype)
    if hasattr(tower, "attnpool"):
        blocks, aliases = find_blocks(tower)
        stages = (tower.stem, tower.layer1, tower.layer2, tower.layer3, tower.layer4)
        features = _chain(lambda images: images.to(dtype), *stages)
        return Network(backbone, tower, blocks, how, features, tower.attnpool, aliases)
    if not hasattr(tower, "transformer"):
        hint = "choose a ViT, a ResNet or a timm model of open_clip"
        raise InputError(f"the blocks of a {type(tower).__name__} are not found", where=backbone, hint=hint)
    path, blocks_of = "transformer.resblocks", tower.transformer.resblocks
    return Network(
        id=backbone,
        model=tower,
        blocks=tuple((f"{path}.{i}", block) for i, block in enumerate(blocks_of)),
        preprocessing=how,
        features=functools.partial(_tokens, tower, dtype),
        pooled=functools.partial(_embedding, tower),
        n_prefix_tokens=1,
        has_class_token=True,
        batch_first=bool(getattr(tower.transformer, "batch_first", False)),
    )


def _tokens(tower: Any, dtype: torch.dtype, images: Tensor) -> Tensor:
    """Tokens as the pooling finds them, with the final norm where that acts on all of them."""
    tokens: Tensor = tower.transformer(tower._embeds(images.to(dtype)))
    return tower.ln_post(tokens) if _norm_is_ahead(tower) else tokens


def _embedding(tower: Any, tokens: Tensor) -> Tensor:
    """Pooled and projected, by open_clip's own pooling."""
    pool = tower._global_pool if _norm_is_ahead(tower) else tower._pool  # the latter applies the norm itself
    pooled: Tensor = pool(tokens)[0]
    return pooled @ tower.proj if tower.proj is not None else pooled


def _norm_is_ahead(tower: Any) -> bool:
    """Whether the final norm comes ahead of the pooling."""
    return tower.attn_pool is None and not tower.final_ln_after_pool


def _timm_tower(backbone: str, tower: Any, how: Any, dtype: torch.dtype) -> Network:
    from brainalign.features import timm_source

    blocks, aliases = find_blocks(tower.trunk)
    plain = timm_source.layout(tower.trunk)
    return Network(
        id=backbone,
        model=tower,
        blocks=tuple((f"trunk.{path}", block) for path, block in blocks),
        preprocessing=how,
        features=_chain(lambda images: images.to(dtype), tower.trunk.forward_features),
        pooled=_chain(tower.trunk.forward_head, tower.head),
        aliases=aliases,
        **plain,
    )


def _chain(*steps: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def run(value: Tensor) -> Tensor:
        for step in steps:
            value = step(value)
        return value

    return run


def names(pattern: str) -> list[str]:
    """`MODEL/TAG` of all pretrained models that match a wildcard.

    Raises
    ------
    MissingExtra
        If the package is not installed.
    """
    open_clip = required("open_clip", package="open_clip_torch", where="open_clip")
    known = set(open_clip.list_models())
    found = [f"{model}/{tag}" for model, tag in open_clip.list_pretrained() if model in known]
    return fnmatch.filter(found, pattern)


@functools.cache
def sizes(name: str) -> tuple[int | None, int | None]:
    """Numbers of parameters and of blocks of the image tower, from one without memory for its weights."""
    try:
        with torch.device("meta"):
            tower = _build(model_config(parse(name))["model_cfg"], None)
    except Exception:  # only known by a repository, or an architecture that computes while it is built
        return None, None
    body = getattr(tower, "trunk", tower)
    try:
        blocks = body.transformer.resblocks if hasattr(body, "transformer") else find_blocks(body)[0]
        return n_weights(tower), len(blocks)
    except InputError:
        return n_weights(tower), None
