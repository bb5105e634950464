"""Models in the layout of sentence-transformers: by hand from transformers' own model, and against that package."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_support import OLD, WORDS
from sentence_support import write_sentence_model as write

from brainalign.errors import InputError
from brainalign.features import load_text_tower

pytest.importorskip("transformers")

TEXTS = ["a photo of a cat", "dog", "red red cat", "", "a " * 40]


def states(model: Any, texts: list[str], *, length: int = 32) -> list[torch.Tensor]:
    """Last hidden states of each text by itself, no padding."""
    number = {word: i for i, word in enumerate(WORDS)}
    found = []
    for text in texts:
        ids = [2, *[number.get(word, 1) for word in text.split()][: length - 2], 3]
        with torch.no_grad():
            found.append(model(input_ids=torch.tensor([ids])).last_hidden_state[0])
    return found


def check(tower: Any, expected: torch.Tensor, texts: list[str] = TEXTS) -> None:
    torch.testing.assert_close(tower.encode(texts), expected, atol=1e-5, rtol=1e-4)
    assert (expected[0] - expected[1]).abs().max() > 1e-2  # texts are told apart


def against_package(folder: Path, tower: Any) -> None:
    """What sentence-transformers itself makes of the folder."""
    package = pytest.importorskip("sentence_transformers")
    reference = package.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    check(tower, torch.from_numpy(reference.encode(TEXTS)))


def test_mean_and_unit_length(tmp_path) -> None:
    model = write(tmp_path)
    tower = load_text_tower(f"st:{tmp_path}")
    expected = torch.stack([one.mean(0) for one in states(model, TEXTS)])
    check(tower, expected / expected.norm(dim=1, keepdim=True))
    assert (tower.id, tower.dim) == (f"st:{tmp_path}", 24)
    against_package(tmp_path, tower)


POOLINGS = {
    "cls": lambda one: one[0],
    "max": lambda one: one.max(0).values,
    "mean": lambda one: one.mean(0),
    "mean_sqrt_len_tokens": lambda one: one.sum(0) / len(one) ** 0.5,
}


@pytest.mark.parametrize("name", list(POOLINGS))
def test_poolings_as_new_files_name_them(name, tmp_path) -> None:
    model = write(tmp_path, pooling={"embedding_dimension": 24, "pooling_mode": name}, steps=())
    tower = load_text_tower(f"st:{tmp_path}")
    check(tower, torch.stack([POOLINGS[name](one) for one in states(model, TEXTS)]))
    against_package(tmp_path, tower)


def test_several_poolings_stand_one_behind_the_other(tmp_path) -> None:
    held = {"word_embedding_dimension": 24, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}
    model = write(tmp_path, pooling=held, steps=())
    tower = load_text_tower(f"st:{tmp_path}")
    check(tower, torch.stack([torch.cat([one[0], one.mean(0)]) for one in states(model, TEXTS)]))
    assert tower.dim == 48
    against_package(tmp_path, tower)


@pytest.mark.parametrize("pickled", [False, True])
def test_dense(pickled, tmp_path) -> None:
    model = write(tmp_path, steps=("Dense", "Normalize"))
    weight, bias = torch.randn(7, 24), torch.randn(7)
    tensors = {"linear.weight": weight, "linear.bias": bias}
    if pickled:
        torch.save(tensors, tmp_path / "2_Dense/pytorch_model.bin")
    else:
        save_file(tensors, tmp_path / "2_Dense/model.safetensors")
    held = {"in_features": 24, "out_features": 7, "bias": True,
            "activation_function": "torch.nn.modules.activation.Tanh"}  # fmt: skip
    (tmp_path / "2_Dense/config.json").write_text(json.dumps(held))
    tower = load_text_tower(f"st:{tmp_path}")
    expected = torch.tanh(torch.stack([one.mean(0) for one in states(model, TEXTS)]) @ weight.T + bias)
    check(tower, expected / expected.norm(dim=1, keepdim=True))
    against_package(tmp_path, tower)


def test_length_case_and_prompt(tmp_path) -> None:
    top = {"prompts": {"query": "query : "}, "default_prompt_name": "query"}
    model = write(tmp_path, settings={"max_seq_length": 6, "do_lower_case": True}, top=top, steps=())
    tower = load_text_tower(f"st:{tmp_path}")
    told = ["query : a cat", "query : dog", "query : red red red red"]
    expected = torch.stack([one.mean(0) for one in states(model, told, length=6)])
    check(tower, expected, ["A Cat", "dog", "red red red red"])


def test_roberta_has_fewer_places_than_positions(tmp_path) -> None:
    model = write(tmp_path, kind="roberta", steps=())
    tower = load_text_tower(f"st:{tmp_path}")
    check(tower, torch.stack([one.mean(0) for one in states(model, TEXTS, length=31)]))


def test_a_pooler_that_is_not_there_is_not_missed(tmp_path) -> None:
    write(tmp_path)
    whole = load_text_tower(f"st:{tmp_path}")
    tensors = load_file(tmp_path / "model.safetensors")
    kept = {name: value for name, value in tensors.items() if not name.startswith("pooler.")}
    assert len(kept) < len(tensors)
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    again = load_text_tower(f"st:{tmp_path}")
    assert again.weights_hash == whole.weights_hash
    torch.testing.assert_close(again.encode(TEXTS), whole.encode(TEXTS))


def test_random_and_half_precision(tmp_path) -> None:
    write(tmp_path)
    one, same, other = (load_text_tower(f"st:{tmp_path}", weights="random", seed=seed) for seed in (1, 1, 2))
    assert one.weights_hash == same.weights_hash != other.weights_hash
    full, half = load_text_tower(f"st:{tmp_path}"), load_text_tower(f"st:{tmp_path}?dtype=bfloat16")
    assert half.encode(TEXTS).dtype == torch.float32
    torch.testing.assert_close(half.encode(TEXTS), full.encode(TEXTS), atol=0.05, rtol=0)
    assert half.weights_hash != full.weights_hash


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_refusals(tmp_path) -> None:
    def change(name: str, content: Any) -> Any:
        def act(folder: Path) -> None:
            (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))

        return act

    def steps(*names: str, path: str = "") -> Any:
        return change("modules.json", [{"type": f"{OLD}.{name}", "path": path} for name in names])

    def no_weights(folder: Path) -> None:
        (folder / "model.safetensors").unlink()

    def lacking(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        del tensors["encoder.layer.0.output.dense.weight"]
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    def evil(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"x": Evil(tmp_path / "opened")}, protocol=2))

    def no_tokenizer(folder: Path) -> None:
        (folder / "tokenizer.json").unlink()

    cases = [
        (lambda folder: (folder / "modules.json").unlink(), "no modules.json: not a model of sentence-transformers"),
        (change("modules.json", "{"), "is not JSON"),
        (change("modules.json", {"a": 1}), "is not a list of modules"),
        (steps("Transformer", "CNN"), "has the steps Transformer, CNN"),
        (steps(), "has the steps none"),
        (steps("Transformer", "Pooling", path="../.."), "which is not inside the model's"),
        (change("1_Pooling/config.json", {"pooling_mode": "lasttoken"}), "unknown pooling 'lasttoken'"),
        (change("1_Pooling/config.json", {"include_prompt": False}), "leaves a prompt's tokens out"),
        (change("1_Pooling/config.json", [1]), "is not a table of settings"),
        (change("config_sentence_transformers.json", {"default_prompt_name": "x"}), "names the prompt 'x'"),
        (no_weights, "the transformer cannot be loaded"),
        (lacking, "1 weights are missing or of another shape"),
        (evil, "the transformer cannot be loaded"),
        (no_tokenizer, "its tokenizer cannot be had"),
    ]
    for number, (damage, words) in enumerate(cases):
        folder = tmp_path / str(number)
        write(folder)
        damage(folder)
        with pytest.raises(InputError) as caught:
            load_text_tower(f"st:{folder}")
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "opened").exists()
    with pytest.raises(InputError, match="no such folder"):
        load_text_tower(f"st:{tmp_path}/none")


def test_without_a_network_the_hub_is_not_waited_for(no_network) -> None:
    with pytest.raises(InputError, match="st:all-mpnet-base-v2: the model's files cannot be had") as caught:
        load_text_tower("st:all-mpnet-base-v2")
    assert "\n" not in str(caught.value)
