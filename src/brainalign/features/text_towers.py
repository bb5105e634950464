"""Frozen text encoders: one vector a text.

Text sides of image-text models, in the space of the image side's `final`: `open_clip:MODEL/TAG`, `hf:ORG/NAME` (CLIP,
SigLIP) and `slip:ViT-B-16`, with the same ids as the image side. Sentence encoders, in a space of their own:
`pip:minilm`, `st:ORG/NAME`.
A new source is one function from a name (and a seed for random weights) to `TextParts`, and one line in `LOADERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from brainalign.errors import InputError, unknown_name
from brainalign.features import hf_source, open_clip_source, pip_text, sentence_source, slip_text
from brainalign.features.aliases import resolve_alias
from brainalign.features.backbones import WEIGHTS, weights_hash
from brainalign.features.hub import OFFLINE_HINT, cannot, quick_offline
from brainalign.features.sources import SOURCES, parse_id
from brainalign.features.text_parts import TextParts, Tokens


@dataclass(frozen=True, eq=False)
class TextTower:
    """A frozen text encoder.

    Attributes
    ----------
    id : str
        `scheme:name`, resolved.
    model : torch.nn.Module
        In evaluation mode.
    dim : int
        Width of an embedding.
    tokenize : callable
        Texts to the model's input, each tensor (n, context length); too long texts are cut.
    embed : callable
        The model's input to embeddings (n, dim), as the model gives them.
    weights : str
        'pretrained', or 'random' with the seed.
    weights_hash : str
        sha256 over names and bytes of all weights.
    device : torch.device
    """

    id: str
    model: nn.Module
    dim: int
    tokenize: Callable[[list[str]], Tokens]
    embed: Callable[[Tokens], Tensor]
    weights: str
    weights_hash: str
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], *, batch_size: int = 64) -> Tensor:
        """Embeddings of texts.

        Parameters
        ----------
        texts : sequence of str
        batch_size : int
            Texts a pass of the model.

        Returns
        -------
        Tensor of shape (n, dim)
            float32, on the CPU, as the model gives them: of image-text models not brought to unit length, of sentence
            encoders as their own pipeline ends (`pip:minilm`: unit length).

        Raises
        ------
        InputError
            If `texts` is not a list of texts.
        """
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise InputError("expected a list of texts", where=self.id, hint="write ['a photo of a cat']")
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}, expected at least 1", where=self.id)
        rows = torch.empty(len(texts), self.dim)
        for first in range(0, len(texts), batch_size):
            tokens = self.tokenize(list(texts[first : first + batch_size]))
            found = self.embed({name: value.to(self.device) for name, value in tokens.items()})
            rows[first : first + len(found)] = found.float().cpu()
        return rows


def load_text_tower(model: str, *, device: str = "cpu", weights: str = "pretrained", seed: int = 0) -> TextTower:
    """Load a text encoder.

    Parameters
    ----------
    model : str
        `open_clip:ViT-H-14/laion2b_s32b_b79k`, `hf:openai/clip-vit-base-patch16`, `vit-h-14`, `pip:minilm`,
        `st:sentence-transformers/all-mpnet-base-v2`, ...
    weights : {'pretrained', 'random'}
        Random weights, from `seed`, are for tests.

    Raises
    ------
    InputError
        If the source or the model has no text side, its package or weights cannot be had, or the device is not there.
    """
    scheme, name = parse_text_id(model)
    if weights not in WEIGHTS:
        raise unknown_name("kind of weights", weights, WEIGHTS)
    parts = LOADERS[scheme](name, seed if weights == "random" else None)
    found, tokenize, embed = parts.model, parts.tokenize, parts.embed
    found.eval().requires_grad_(False)
    digest = weights_hash(found)
    try:
        place = torch.device(device)
        found.to(place)
    except (RuntimeError, AssertionError) as error:
        raise cannot(f"device {device}", "cannot be used", error, "use cpu") from error
    held = weights if weights == "pretrained" else f"random, seed {seed}"
    with torch.inference_mode():
        dim = embed({key: value.to(place) for key, value in tokenize(["a word"]).items()}).shape[1]
    return TextTower(f"{scheme}:{parts.name or name}", found, dim, tokenize, embed, held, digest, place)


def parse_text_id(model: str) -> tuple[str, str]:
    """Split `scheme:name`, of an id or of the id behind a short name.

    Raises
    ------
    InputError
        If there is no such source, or it has no text side.

    Examples
    --------
    >>> parse_text_id("pip:minilm"), parse_text_id("rn50")
    (('pip', 'minilm'), ('open_clip', 'RN50/openai'))
    """
    scheme, mark, name = resolve_alias(model).partition(":")
    if scheme in LOADERS and mark and name:
        return scheme, name
    if mark and name and scheme not in SOURCES:
        raise unknown_name("text source", scheme, LOADERS, where=model)
    scheme, name = parse_id(model)
    hint = "use an open_clip: or hf: model, pip:minilm, or st: with a sentence encoder"
    raise InputError("has no text side", where=f"{scheme}:{name}", hint=hint)


def _open_clip(text: str, seed: int | None) -> TextParts:
    """Both towers are loaded; the image side is let go."""
    name = open_clip_source.parse(text)
    model = open_clip_source.pretrained(name) if seed is None else open_clip_source.random_model(name, seed=seed)
    model.visual = nn.Identity()
    model.to(name.dtype)
    import open_clip

    try:
        with quick_offline("", "open_clip", "transformers", local=name.is_local):
            tokenizer = open_clip.get_tokenizer(name.model)
    except Exception as error:  # hub clients raise their own types
        raise cannot(name.where, "its tokenizer cannot be had", error, OFFLINE_HINT) from error

    def embed(tokens: Tokens) -> Tensor:
        found: Tensor = model.encode_text(tokens["text"])
        return found

    return TextParts(model, lambda texts: {"text": tokenizer(texts)}, embed)


HF_TEXT = {"clip": "CLIPTextModelWithProjection", "siglip": "SiglipTextModel"}


def _hf(text: str, seed: int | None) -> TextParts:
    name = hf_source.parse(text)
    config = hf_source.read_config(name)
    kind = str(config["model_type"]).removesuffix("_text_model")
    if kind not in HF_TEXT:
        hint = f"supported: {', '.join(HF_TEXT)}"
        raise InputError(f"model type '{config['model_type']}' has no text side", where=name.where, hint=hint)
    import transformers

    model = hf_source.load_class(name, HF_TEXT[kind], config, part="text_config", seed=seed)
    try:
        with quick_offline("transformers", local=name.folder is not None):
            tokenizer = transformers.AutoTokenizer.from_pretrained(name.place, trust_remote_code=False)
    except Exception as error:  # a missing file, a package that a tokenizer needs
        raise cannot(name.where, "its tokenizer cannot be had", error, OFFLINE_HINT) from error
    length = int(model.config.max_position_embeddings)

    def tokenize(texts: list[str]) -> Tokens:
        if kind == "siglip":
            texts = [text.lower() for text in texts]  # as in training; only some of its tokenizers do so themselves
        # Both kinds were trained with texts filled up to full length; SigLIP reads the last place, whatever it holds.
        held = tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        keys = ("input_ids", "attention_mask") if kind == "clip" else ("input_ids",)
        return {key: held[key] for key in keys}

    def embed(tokens: Tokens) -> Tensor:
        output = model(**tokens)
        found: Tensor = output.text_embeds if kind == "clip" else output.pooler_output
        return found

    return TextParts(model, tokenize, embed)


LOADERS: dict[str, Callable[[str, int | None], TextParts]] = {
    "open_clip": _open_clip,
    "hf": _hf,
    "pip": pip_text.load,
    "st": sentence_source.load,
    "slip": slip_text.load,
}
