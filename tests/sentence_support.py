"""A tiny model in the folder layout of sentence-transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "photo", "of", "cat", "dog", "query", ":", "red", "A", "Cat"]
SIZES = {"vocab_size": 20, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
         "intermediate_size": 32, "max_position_embeddings": 32, "pad_token_id": 0}  # fmt: skip
OLD = "sentence_transformers.models"


def write_sentence_model(
    folder: Path,
    *,
    kind: str = "bert",
    pooling: dict[str, Any] | None = None,
    steps: tuple[str, ...] = ("Normalize",),
    settings: dict[str, Any] | None = None,
    top: dict[str, Any] | None = None,
) -> Any:
    """A tiny model with random weights; transformers' own model comes back."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    torch.manual_seed(0)
    if kind == "bert":
        model: Any = transformers.BertModel(transformers.BertConfig(**SIZES))
    else:  # positions start behind the padding's
        model = transformers.RobertaModel(transformers.RobertaConfig(**SIZES))
    for value in model.parameters():
        value.data = torch.randn_like(value) * 0.3
    model.save_pretrained(folder)
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    core.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    names = ["Transformer", "Pooling", *steps]
    paths = ["", *(f"{i}_{name}" for i, name in enumerate(names) if i)]
    modules = [{"idx": i, "name": str(i), "path": paths[i], "type": f"{OLD}.{name}"} for i, name in enumerate(names)]
    for path in paths[1:]:
        (folder / path).mkdir()
    (folder / "modules.json").write_text(json.dumps(modules))
    held = pooling or {"word_embedding_dimension": 24, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling/config.json").write_text(json.dumps(held))
    if settings is not None:
        (folder / "sentence_bert_config.json").write_text(json.dumps(settings))
    if top is not None:
        (folder / "config_sentence_transformers.json").write_text(json.dumps(top))
    return model.eval()
