"""Vision models of the Hugging Face hub: `hf:ORG/NAME`, or `hf:/path/to/folder` with such a repository's files.

CLIP, SigLIP, DINOv2, ViT and InternViT run through transformers' own classes. Code that lies in a repository is never
run, unless the id ends in `?trust_remote_code`. `?dtype=bfloat16` runs a large model in half precision.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from brainalign.errors import InputError
from brainalign.features import internvit
from brainalign.features.hf_families import FAMILIES, Family, block_list, describe
from brainalign.features.hub import OFFLINE_HINT, cannot, local_folder, quick_offline, required
from brainalign.features.options import chosen_dtype, flag, split_options
from brainalign.features.preprocessing import Preprocessing, from_transformers
from brainalign.features.sources import Network, n_weights

TRUST = "trust_remote_code"
# The hub cannot be listed without a network: these are known to be of a supported kind.
KNOWN = (
    "facebook/dinov2-base", "facebook/dinov2-giant", "facebook/dinov2-large", "facebook/dinov2-small",
    "facebook/dinov2-with-registers-base", "facebook/dinov2-with-registers-giant",
    "facebook/dinov2-with-registers-large", "facebook/dinov2-with-registers-small",
    "google/siglip-base-patch16-224", "google/siglip-large-patch16-384", "google/siglip-so400m-patch14-384",
    "google/siglip2-base-patch16-224", "google/siglip2-giant-opt-patch16-384", "google/siglip2-large-patch16-384",
    "google/siglip2-so400m-patch14-384", "google/vit-base-patch16-224", "google/vit-large-patch16-224",
    "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "openai/clip-vit-base-patch16", "openai/clip-vit-base-patch32",
    "openai/clip-vit-large-patch14", "openai/clip-vit-large-patch14-336", "OpenGVLab/InternViT-300M-448px",
    "OpenGVLab/InternViT-6B-448px-V1-2", "OpenGVLab/InternViT-6B-448px-V1-5", "OpenGVLab/InternViT-6B-448px-V2_5",
)  # fmt: skip


@dataclass(frozen=True)
class Name:
    """What an id names.

    Attributes
    ----------
    text : str
        The id behind `hf:`.
    place : str
        Repository or folder.
    """

    text: str
    place: str
    dtype: torch.dtype
    trusted: bool

    @property
    def where(self) -> str:
        """The id, for errors."""
        return f"hf:{self.text}"

    @property
    def folder(self) -> Path | None:
        """The local folder it names, if it names one."""
        return local_folder(self.place)


def parse(text: str) -> Name:
    """Read the part of an id behind `hf:`.

    Raises
    ------
    InputError
        If the package is missing, an option is unknown, or the folder does not exist.
    """
    where = f"hf:{text}"
    required("transformers", package="transformers", where=where)
    place, options = split_options(text, [TRUST, "dtype"], where=where)
    folder = local_folder(place)
    if folder is not None and not folder.is_dir():
        raise InputError("no such folder", where=where)
    trusted = flag(options, TRUST, where=where)
    return Name(text, str(folder or place), chosen_dtype(options, where=where), trusted)


def load(name: str, *, weights: str, seed: int, image_size: int | None, crop: str) -> Network:
    """A vision model of transformers, pretrained or with seeded random weights of the same configuration.

    Raises
    ------
    InputError
        If the package, the configuration, the weights or the preprocessing cannot be had, or the kind of model is not
        supported.
    """
    one = parse(name)
    config = read_config(one)
    kind = str(config.get("model_type"))
    how = read_preprocessing(one, crop=crop, image_size=image_size)
    if kind not in FAMILIES:
        return _remote(one, config, how, weights=weights, seed=seed)
    family = FAMILIES[kind]
    if kind == internvit.MODEL_TYPE and weights == "pretrained":
        model = internvit.load(_folder(one), config, dtype=one.dtype, where=one.where)
    else:
        chosen = None if weights == "pretrained" else seed
        model = load_class(one, family.architecture, config, part="vision_config", seed=chosen, **family.options)
    return describe(one.where, model, family, how)


def read_config(name: Name, *, offline: bool = False) -> dict[str, Any]:
    """config.json, as it is; no code of the repository is looked at.

    Parameters
    ----------
    offline : bool
        Whether to look on this machine only.

    Raises
    ------
    InputError
        If it cannot be had.
    """
    from transformers import PretrainedConfig

    try:
        with quick_offline("transformers", local=offline or name.folder is not None):
            config, _ = PretrainedConfig.get_config_dict(name.place, local_files_only=offline)
    except Exception as error:  # hub clients raise their own types
        raise _had("config.json", name, error) from error
    if not config:
        raise _had("config.json", name, FileNotFoundError("no such file"))
    if not config.get("model_type"):
        raise InputError("config.json holds no 'model_type'", where=name.where)
    return dict(config)


def read_preprocessing(name: Name, *, crop: str, image_size: int | None) -> Preprocessing:
    """Preprocessing as preprocessor_config.json says.

    Raises
    ------
    InputError
        If it cannot be had or is not supported.
    """
    from transformers import AutoImageProcessor

    try:
        with quick_offline("transformers", local=name.folder is not None):
            processor = AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
                name.place, trust_remote_code=name.trusted
            )
    except Exception as error:  # a missing file, a class that does not exist
        raise _had("preprocessor_config.json", name, error) from error
    return from_transformers(processor, crop=crop, image_size=image_size, where=name.where)


def _had(what: str, name: Name, error: Exception) -> InputError:
    hint = "the folder must hold it" if name.folder is not None else OFFLINE_HINT
    return cannot(name.where, f"{what} cannot be had", error, hint)


def load_class(
    name: Name, architecture: str, config: Mapping[str, Any], *, part: str, seed: int | None, **options: Any
) -> Any:
    """A model of one of transformers' classes.

    Parameters
    ----------
    architecture : str
        Name of the class.
    part : str
        Where the configuration of an image-text model has this side: 'vision_config' or 'text_config'.
    seed : int or None
        For random weights; None loads the checkpoint's.

    Raises
    ------
    InputError
        If the weights cannot be had or do not fit. A weight that the checkpoint lacks would be random: it is refused.
    """
    import transformers

    if seed is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return _build(name, architecture, config, part, **options).to(name.dtype)
    try:
        with quick_offline("transformers", local=name.folder is not None), quiet_loading():
            model, report = getattr(transformers, architecture).from_pretrained(
                name.place,
                dtype=name.dtype,
                trust_remote_code=False,
                weights_only=True,
                output_loading_info=True,
                **options,
            )
    except Exception as error:  # hub clients, safetensors and torch raise their own types
        raise _had("pretrained weights", name, error) from error
    check_complete(report, where=name.where)
    return model


def check_complete(report: Mapping[str, Any], *, where: str) -> None:
    """Refuse a model of which transformers had to make up a part.

    Raises
    ------
    InputError
        If weights are missing or of another shape.
    """
    absent = sorted(str(one) for key in ("missing_keys", "mismatched_keys") for one in report.get(key) or ())
    if absent:
        names = ", ".join(absent[:3])
        raise InputError(f"{len(absent)} weights are missing or of another shape ({names[:160]})", where=where)


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """Silence transformers' progress bars: a run has its own."""
    from transformers.utils import logging

    was = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if was:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _build(name: Name, architecture: str, config: Mapping[str, Any], part: str, **options: Any) -> Any:
    """The model of a configuration, with the random weights of its class."""
    import transformers

    kind = config["model_type"]
    if kind == internvit.MODEL_TYPE:
        return internvit.build(config, where=name.where)
    held = config.get(part) or {} if kind in ("clip", "siglip") else config
    model_class = getattr(transformers, architecture)
    try:
        return model_class(model_class.config_class.from_dict(dict(held)), **options)
    except Exception as error:  # values of another type, sizes that do not fit together
        raise cannot(name.where, "config.json cannot be used", error, "check its sizes") from error


def _folder(name: Name) -> Path:
    """The folder of a repository's weights, downloaded where it is not in the local cache."""
    if name.folder is not None:
        return name.folder
    from huggingface_hub import snapshot_download

    try:
        with quick_offline():
            return Path(snapshot_download(name.place, allow_patterns=["*.safetensors", "*.json"]))
    except Exception as error:  # hub clients raise their own types
        raise _had("pretrained weights", name, error) from error


def _remote(name: Name, config: Mapping[str, Any], how: Preprocessing, *, weights: str, seed: int) -> Network:
    """A model that transformers has no class for here: the code in its repository, if the id allows that."""
    kind = str(config["model_type"])
    known = ", ".join(FAMILIES)
    if kind == "siglip2":
        hint = "use a SigLIP 2 checkpoint of fixed resolution, such as google/siglip2-base-patch16-224"
        raise InputError("SigLIP 2 NaFlex takes patches, not square pictures", where=name.where, hint=hint)
    if not config.get("auto_map"):
        hint = f"supported: {known}; timm has most other vision models"
        raise InputError(f"model type '{kind}' is not supported", where=name.where, hint=hint)
    if not name.trusted:
        hint = f"if you have read it and trust it, write hf:{name.place}?{TRUST}"
        raise InputError(
            f"model type '{kind}' needs code from its repository, which is not run", where=name.where, hint=hint
        )
    if weights == "random":
        raise InputError("random weights are not supported for models with code of their own", where=name.where)
    from transformers import AutoModel

    try:
        with quick_offline("transformers", local=name.folder is not None), quiet_loading():
            model, report = AutoModel.from_pretrained(
                name.place, dtype=name.dtype, trust_remote_code=True, output_loading_info=True
            )
    except Exception as error:  # anything: it is somebody else's code
        raise _had("the model", name, error) from error
    check_complete(report, where=name.where)
    return describe(name.where, model, Family(type(model).__name__, {}), how)


def names(pattern: str) -> list[str]:
    """Names of known checkpoints of a supported kind that match a wildcard.

    Raises
    ------
    MissingExtra
        If the package is not installed.
    """
    required("transformers", package="transformers", where="hf")
    return fnmatch.filter(KNOWN, pattern)


@functools.cache
def sizes(name: str) -> tuple[int | None, int | None]:
    """Numbers of parameters and of blocks, from a configuration that is on this machine; nothing is downloaded."""
    try:
        one = parse(name)
        config = read_config(one, offline=True)
        family = FAMILIES[config["model_type"]]
        with torch.device("meta"):
            model = _build(one, family.architecture, config, "vision_config", **family.options)
        return n_weights(model), len(block_list(model, int(model.config.num_hidden_layers), where=one.where))
    except (InputError, KeyError):
        return None, None
