"""Load a captioner: transformers' own classes, no code of a repository, every weight from the checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from brainalign.errors import InputError, unknown_name
from brainalign.features.hf_source import check_complete, quiet_loading
from brainalign.features.hub import cannot, quick_offline, required
from brainalign.features.hub_files import folder_revision, model_folder
from brainalign.files import read_json
from brainalign.stimuli.captioners.captioner import Captioner
from brainalign.stimuli.captioners.decoding import DTYPES
from brainalign.stimuli.captioners.families import FAMILIES, Family
from brainalign.stimuli.captioners.names import CaptionerName


def open_folder(name: CaptionerName) -> tuple[Path, str]:
    """The folder of a captioner's files, downloaded where it is not here, and what exactly it holds.

    Raises
    ------
    InputError
        If the files cannot be had, or are those of another kind of model.
    """
    required("transformers", package="transformers", where=name.id)
    folder = model_folder(name.place, where=name.id, revision=name.revision)
    family_of(folder, name)
    return folder, folder_revision(name.place, folder)


def family_of(folder: Path, name: CaptionerName) -> Family:
    """The kind of captioner that config.json names.

    Raises
    ------
    InputError
        If it is none of `FAMILIES`.
    """
    config = read_json(folder / "config.json")
    kind = str(config.get("model_type")) if isinstance(config, dict) else "None"
    if kind not in FAMILIES:
        hint = f"supported: {', '.join(f'{one.name} ({key})' for key, one in FAMILIES.items())}"
        raise InputError(f"model type '{kind}' is no captioner", where=name.id, hint=hint)
    return FAMILIES[kind]


def resolve_dtype(dtype: str, device: str) -> str:
    """The number format: `auto` is float32 on CPUs and bfloat16 elsewhere.

    Raises
    ------
    InputError
        If it is unknown.
    """
    if dtype == "auto":
        return "float32" if device == "cpu" else "bfloat16"
    if dtype not in DTYPES:
        raise unknown_name("dtype", dtype, ["auto", *DTYPES], where="--dtype")
    return dtype


def load_captioner(name: CaptionerName, folder: Path, *, device: str, dtype: str) -> Captioner:
    """Load the model and its processor.

    Parameters
    ----------
    folder : Path
        From `open_folder`.
    dtype : {'float32', 'bfloat16', 'float16'}

    Raises
    ------
    InputError
        If a file is missing or damaged, weights are missing, or the device cannot hold it.
    """
    import transformers

    family = family_of(folder, name)
    try:
        with quick_offline("transformers", local=True), quiet_loading():
            processor = getattr(transformers, family.processor).from_pretrained(folder, trust_remote_code=False)
            model, report = getattr(transformers, family.architecture).from_pretrained(
                folder,
                dtype=getattr(torch, dtype),
                trust_remote_code=False,
                weights_only=True,
                output_loading_info=True,
            )
    except Exception as error:  # transformers, safetensors and tokenizers raise their own types
        raise cannot(name.id, "the captioner cannot be loaded", error, "download it again") from error
    check_complete(report, where=name.id)
    _prepare(model, processor, family, name)
    try:
        model.to(torch.device(device))
    except (RuntimeError, AssertionError) as error:  # running out of memory is a RuntimeError
        hint = "use --dtype bfloat16, a smaller captioner, or another --device"
        raise cannot(name.id, f"does not fit on {device}", error, hint) from error
    return Captioner(name.id, family, model.eval().requires_grad_(False), processor)


def _prepare(model: Any, processor: Any, family: Family, name: CaptionerName) -> None:
    """What generation in batches needs, and what old repositories do not say."""
    tokenizer = processor.tokenizer
    # A decoder's new words follow the prompt, with nothing in between; an encoder sees the picture ahead of the prompt,
    # and its relative positions (T5) would count what is in between.
    tokenizer.padding_side = "right" if model.config.get_text_config().is_encoder_decoder else "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token_id is None:
        raise InputError("its tokenizer has neither a padding token nor an end", where=name.id)
    _plain_decoding(model, tokenizer.pad_token_id)
    if family.architecture != "Blip2ForConditionalGeneration":
        return
    if processor.num_query_tokens is None:
        processor.num_query_tokens = model.config.num_query_tokens
    if model.config.image_token_id is None:
        token = tokenizer.convert_tokens_to_ids(processor.image_token.content)
        if token >= model.get_input_embeddings().num_embeddings:
            raise InputError(
                "has no place for the image token", where=name.id, hint="download it again: newer files do"
            )
        model.config.image_token_id = token


def _plain_decoding(model: Any, padding: int) -> None:
    """Keep which tokens begin and end a text, and let go of a repository's own sampling, penalties and lengths."""
    from transformers import GenerationConfig

    inner: Any = getattr(model, "language_model", None)  # of BLIP-2: it generates by its own settings
    parts = [part for part in (model, inner) if getattr(part, "generation_config", None) is not None]
    tokens: dict[str, Any] = {"pad_token_id": padding}
    for name in ("bos_token_id", "eos_token_id", "decoder_start_token_id"):
        held = [getattr(part.generation_config, name, None) for part in parts]
        tokens[name] = next((one for one in held if one is not None), None)
    for part in parts:
        part.generation_config = GenerationConfig(**tokens)  # type: ignore[no-untyped-call]
