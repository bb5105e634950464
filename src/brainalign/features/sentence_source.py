"""Sentence encoders `st:ORG/NAME` or `st:/path/to/folder`, in the folder layout of sentence-transformers.

`modules.json` names the steps (Transformer, Pooling, Dense, Normalize), each with its folder and `config.json`. They
run through transformers' own classes and `SentenceModel`: the package sentence-transformers is not needed, and no code
that lies in a repository is run. `?dtype=bfloat16` runs a large one in half precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from brainalign.errors import InputError, unknown_name
from brainalign.features.checkpoints import read_tensors
from brainalign.features.hf_source import check_complete, quiet_loading
from brainalign.features.hub import cannot, local_folder, quick_offline, required
from brainalign.features.hub_files import model_folder
from brainalign.features.options import chosen_dtype, split_options
from brainalign.features.sentence_model import POOLINGS, SentenceModel, without_pooler
from brainalign.features.text_parts import TextParts, Tokens
from brainalign.files import read_json

DEFAULT_ORG = "sentence-transformers"
LEGACY_POOLINGS = {
    "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max", "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean", "pooling_mode_lasttoken": "lasttoken",
}  # fmt: skip
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "Tanh": nn.Tanh, "Identity": nn.Identity, "ReLU": nn.ReLU, "GELU": nn.GELU, "Sigmoid": nn.Sigmoid,
}  # fmt: skip
# Their first position is behind the one that padding has.
SHIFTED_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet")


@dataclass(frozen=True)
class Steps:
    """What `modules.json` and the files it names say, as far as it can be used."""

    transformer: Path
    poolings: tuple[str, ...]
    dense: tuple[Path, ...]
    normalize: bool
    max_length: int | None
    lower: bool
    prompt: str


def load(text: str, seed: int | None) -> TextParts:
    """The encoder, its tokenizer and its pooling.

    Parameters
    ----------
    text : str
        What stands behind `st:`. A name without an organisation is one of sentence-transformers' own.
    seed : int or None
        For random weights of the transformer; None loads the checkpoint's.

    Raises
    ------
    InputError
        If the package or the files are not there, or a step is not supported.
    """
    where = f"st:{text}"
    required("transformers", package="transformers", where=where)
    place, options = split_options(text, ["dtype"], where=where)
    if "/" not in place and local_folder(place) is None:
        place = f"{DEFAULT_ORG}/{place}"
    steps = read_steps(model_folder(place, where=where), where=where)
    dtype = chosen_dtype(options, where=where)
    transformer = _transformer(steps.transformer, seed, dtype, where)
    dense = [_dense(folder).to(dtype) for folder in steps.dense]
    model = SentenceModel(transformer, steps.poolings, dense=dense, normalize=steps.normalize)
    return TextParts(model, _tokenizer(steps, transformer, where), model)


def read_steps(folder: Path, *, where: str) -> Steps:
    """Read `modules.json` and what it names.

    Raises
    ------
    InputError
        If the folder has another layout, or a step is not supported.
    """
    modules = folder / "modules.json"
    if not modules.is_file():
        hint = "the text side of CLIP or SigLIP has an hf: id"
        raise InputError("no modules.json: not a model of sentence-transformers", where=where, hint=hint)
    held = read_json(modules)
    if not isinstance(held, list) or not all(isinstance(one, dict) for one in held):
        raise InputError("is not a list of modules", where=modules)
    kinds = [str(one.get("type", "")).rpartition(".")[2] for one in held]
    folders = [_inside(folder, one.get("path", ""), modules) for one in held]
    n_dense = kinds.count("Dense")
    supported = ["Transformer", "Pooling", *["Dense"] * n_dense, *["Normalize"] * ("Normalize" in kinds)]
    if kinds != supported:
        hint = "supported: Transformer, Pooling, then Dense, then Normalize"
        raise InputError(f"has the steps {', '.join(kinds) or 'none'}", where=modules, hint=hint)
    settings = _optional(folders[0] / "sentence_bert_config.json")
    length = settings.get("max_seq_length")
    return Steps(
        folders[0],
        _poolings(folders[1] / "config.json"),
        tuple(folders[2 : 2 + n_dense]),
        "Normalize" in kinds,
        length if isinstance(length, int) and length > 0 else None,
        bool(settings.get("do_lower_case")),
        _prompt(_optional(folder / "config_sentence_transformers.json"), folder),
    )


def _inside(folder: Path, path: Any, where: Path) -> Path:
    if not isinstance(path, str) or not (folder / path).resolve().is_relative_to(folder.resolve()):
        raise InputError(f"names the folder '{str(path)[:80]}', which is not inside the model's", where=where)
    return folder / path


def _optional(path: Path) -> Mapping[str, Any]:
    held = read_json(path) if path.is_file() else {}
    if not isinstance(held, dict):
        raise InputError("is not a table of settings", where=path)
    return held


def _poolings(path: Path) -> tuple[str, ...]:
    held = _optional(path)
    if held.get("include_prompt") is False:
        raise InputError("leaves a prompt's tokens out of the pooling, which is not supported", where=path)
    named = held.get("pooling_mode")
    if named is None:
        chosen = [name for key, name in LEGACY_POOLINGS.items() if held.get(key)] or ["mean"]
    else:
        chosen = [named] if isinstance(named, str) else [str(one) for one in named]
    for name in chosen:
        if name not in POOLINGS:
            raise unknown_name("pooling", name, POOLINGS, where=path)
    return tuple(name for name in POOLINGS if name in chosen)


def _prompt(held: Mapping[str, Any], folder: Path) -> str:
    """What the model's authors put ahead of every text."""
    name, prompts = held.get("default_prompt_name"), held.get("prompts")
    if name is None:
        return ""
    if not isinstance(prompts, dict) or not isinstance(prompts.get(name), str):
        raise InputError(f"names the prompt '{name}' and does not hold it", where=folder)
    return str(prompts[name])


def _transformer(folder: Path, seed: int | None, dtype: torch.dtype, where: str) -> nn.Module:
    from transformers import AutoConfig, AutoModel

    try:
        with quick_offline("transformers", local=True), quiet_loading():
            if seed is not None:
                config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(seed)
                    made = AutoModel.from_config(config, trust_remote_code=False)  # type: ignore[no-untyped-call]
                    return without_pooler(made.to(dtype))
            model, report = AutoModel.from_pretrained(
                folder, dtype=dtype, trust_remote_code=False, weights_only=True, output_loading_info=True
            )
    except Exception as error:  # a missing file, an unknown kind, a damaged checkpoint
        raise cannot(where, "the transformer cannot be loaded", error, "check the folder") from error
    needed = {key: [n for n in report.get(key) or () if not str(n).startswith("pooler.")] for key in report}
    check_complete(needed, where=where)
    return without_pooler(model)


def _dense(folder: Path) -> nn.Module:
    held = _optional(folder / "config.json")
    name = str(held.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    if name not in ACTIVATIONS:
        raise unknown_name("activation", name, ACTIVATIONS, where=folder)
    if held.get("use_residual") or held.get("module_input_name", "sentence_embedding") != "sentence_embedding":
        raise InputError("a dense layer of this kind is not supported", where=folder)
    try:
        layer = nn.Linear(int(held["in_features"]), int(held["out_features"]), bias=bool(held.get("bias", True)))
        layer.load_state_dict({key.removeprefix("linear."): value for key, value in read_tensors(folder)}, strict=True)
    except InputError:
        raise
    except Exception as error:  # sizes that are none, weights of another shape
        raise cannot(str(folder), "the dense layer cannot be loaded", error, "download it again") from error
    return nn.Sequential(layer, ACTIVATIONS[name]())


def _tokenizer(steps: Steps, transformer: nn.Module, where: str) -> Any:
    from transformers import AutoTokenizer

    try:
        with quick_offline("transformers", local=True):
            tokenizer = AutoTokenizer.from_pretrained(steps.transformer, trust_remote_code=False)
    except Exception as error:  # a missing file, a package that a tokenizer needs
        raise cannot(where, "its tokenizer cannot be had", error, "the folder must hold it") from error
    tokenizer.padding_side = "right"
    length = _longest(steps, int(tokenizer.model_max_length), transformer.config)

    def tokenize(texts: list[str]) -> Tokens:
        given = [steps.prompt + text for text in texts]
        if steps.lower:
            given = [text.lower() for text in given]
        found = tokenizer(given, padding=True, truncation=True, max_length=length, return_tensors="pt")
        return {key: found[key] for key in ("input_ids", "attention_mask")}

    return tokenize


def _longest(steps: Steps, tokenizer: int, config: Any) -> int:
    """Tokens a text may have."""
    places = getattr(config, "max_position_embeddings", None)
    if places is not None and getattr(config, "model_type", "") in SHIFTED_POSITIONS:
        places -= int(config.pad_token_id or 0) + 1
    return min(one for one in (steps.max_length, tokenizer, places) if one is not None)
