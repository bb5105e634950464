"""Text features on disk: rows by text and by stimulus, once computed, once killed, once damaged."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json

import numpy as np
import pytest
import torch
from torch import nn

from brainalign.errors import InputError
from brainalign.features import text_facts
from brainalign.features.text_bank import TextBank, extract_texts
from brainalign.features.text_towers import TextTower

LETTERS = "abcdefghijklmnopqrstuvwxyz "


class Counting:
    """A text encoder that counts letters with a matrix, and how many texts it saw."""

    def __init__(self, seed: int = 0, dim: int = 5) -> None:
        self.matrix = torch.randn(len(LETTERS), dim, generator=torch.Generator().manual_seed(seed))
        self.seen: list[str] = []
        self.stop_after: int | None = None
        model = nn.Linear(len(LETTERS), dim, bias=False)
        model.weight.data = self.matrix.T.clone()
        self.tower = TextTower(
            f"test:letters{seed}", model, dim, self.tokenize, self.embed, "pretrained", f"hash{seed}"
        )

    def tokenize(self, texts: list[str]) -> dict[str, torch.Tensor]:
        if self.stop_after is not None and len(self.seen) >= self.stop_after:
            raise KeyboardInterrupt
        self.seen += texts
        return {"counts": torch.tensor([[float(text.count(one)) for one in LETTERS] for text in texts])}

    def embed(self, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
        return tokens["counts"] @ self.matrix

    def expected(self, texts: list[str]) -> np.ndarray:
        counts = np.array([[text.count(one) for one in LETTERS] for text in texts], dtype=np.float32)
        return counts @ self.matrix.numpy()


TEXTS = {f"s/{i:02d}": text for i, text in enumerate(["a cat", "a dog", "a cat", "", "zebra crossing", "the end"])}


def bank_files(cache) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (cache / "features").rglob("text_*/*") if p.is_file()}


def test_rows_by_stimulus_and_by_text(tmp_path) -> None:
    counting = Counting()
    found = extract_texts(TEXTS, counting.tower, cache_dir=tmp_path)
    names = ["s/04", "s/00", "s/02"]
    np.testing.assert_allclose(found.of(names), counting.expected([TEXTS[name] for name in names]), atol=1e-5)
    everything = found.array[list(found.rows)]
    np.testing.assert_allclose(everything, counting.expected(list(TEXTS.values())), atol=1e-5)
    assert found.array.dtype == np.float32
    assert found.array.shape == (5, 5)  # six stimuli, five texts
    assert found.row_of["s/00"] == found.row_of["s/02"]
    assert sorted(counting.seen) == sorted(set(TEXTS.values()))
    assert found.tower == "test:letters0"
    plain = extract_texts(list(TEXTS.values()), counting.tower, cache_dir=tmp_path)
    assert plain.rows == found.rows
    with pytest.raises(InputError, match="no text features of stimulus 's/99'"):
        found.of(["s/99"])


def test_meta_names_encoder_weights_and_texts(tmp_path) -> None:
    bank = extract_texts(TEXTS, Counting().tower, cache_dir=tmp_path).bank
    meta = json.loads((bank.folder / "meta.json").read_text())
    assert (meta["encoder"], meta["weights_hash"], meta["dim"]) == ("test:letters0", "hash0", 5)
    assert set(meta["text_ids"]) == {hashlib.sha256(text.encode()).hexdigest() for text in TEXTS.values()}
    assert meta["versions"]["torch"] == importlib.metadata.version("torch")
    assert repr(bank) == "TextBank(test:letters0: 5 x 5)"


def test_what_is_there_is_not_computed_again(tmp_path) -> None:
    first, again = Counting(), Counting()
    before = extract_texts(TEXTS, first.tower, cache_dir=tmp_path)
    shuffled = dict(reversed(TEXTS.items()))
    after = extract_texts(shuffled, again.tower, cache_dir=tmp_path)
    assert after.bank.folder == before.bank.folder  # the order of stimuli does not matter
    assert again.seen == []
    np.testing.assert_array_equal(after.of(list(TEXTS)), before.of(list(TEXTS)))


def test_other_texts_or_weights_are_another_bank(tmp_path) -> None:
    folders = {extract_texts(TEXTS, Counting().tower, cache_dir=tmp_path).bank.folder}
    folders.add(extract_texts({**TEXTS, "s/00": "a Cat"}, Counting().tower, cache_dir=tmp_path).bank.folder)
    other = Counting()
    object.__setattr__(other.tower, "weights_hash", "changed")
    folders.add(extract_texts(TEXTS, other.tower, cache_dir=tmp_path).bank.folder)
    folders.add(extract_texts(TEXTS, Counting(1).tower, cache_dir=tmp_path).bank.folder)
    assert len(folders) == 4


def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(tmp_path) -> None:
    texts = [f"text {chr(97 + i % 26)} {chr(97 + i // 26)}" for i in range(40)]
    whole = Counting()
    extract_texts(texts, whole.tower, cache_dir=tmp_path / "whole", batch_size=8)
    killed = Counting()
    killed.stop_after = 24
    with pytest.raises(KeyboardInterrupt):
        extract_texts(texts, killed.tower, cache_dir=tmp_path / "killed", batch_size=8)
    assert not list((tmp_path / "killed").rglob("meta.json"))
    second = Counting()
    steps: list[tuple[int, int]] = []
    extract_texts(
        texts, second.tower, cache_dir=tmp_path / "killed", batch_size=8, progress=lambda *now: steps.append(now)
    )
    assert len(second.seen) == 16  # 24 of 40 were there
    assert steps == [(32, 40), (40, 40)]
    assert bank_files(tmp_path / "killed") == bank_files(tmp_path / "whole")


def test_an_encoder_is_not_loaded_where_its_bank_is(tmp_path, monkeypatch) -> None:
    counting, loads = Counting(), []

    def load(name: str, **_: object) -> TextTower:
        loads.append(name)
        return counting.tower

    monkeypatch.setattr(text_facts, "load_text_tower", load)
    monkeypatch.setattr(text_facts, "parse_text_id", lambda name: tuple(name.split(":")))
    for _ in range(3):
        found = extract_texts(TEXTS, "test:letters0", cache_dir=tmp_path)
    assert loads == ["test:letters0"]
    np.testing.assert_allclose(found.of(["s/01"]), counting.expected(["a dog"]), atol=1e-5)
    extract_texts(["new"], "test:letters0", cache_dir=tmp_path)
    assert len(loads) == 2
    for memory in (tmp_path / "backbones").glob("text_*.json"):  # damaged: the encoder is asked again
        memory.write_text("[]")
    extract_texts(TEXTS, "test:letters0", cache_dir=tmp_path)
    assert len(loads) == 3


def test_another_tokenizer_is_another_bank(tmp_path) -> None:
    pytest.importorskip("transformers")
    from sentence_support import write_sentence_model

    folder = tmp_path / "model"
    write_sentence_model(folder)
    first = extract_texts(["a photo", "cat"], f"st:{folder}", cache_dir=tmp_path)
    tokens = folder / "tokenizer.json"
    tokens.write_text(tokens.read_text().replace('"cat": 7', '"cat": 8').replace('"dog": 8', '"dog": 7'))
    second = extract_texts(["a photo", "cat"], f"st:{folder}", cache_dir=tmp_path)
    assert first.bank.meta["weights_hash"] == second.bank.meta["weights_hash"]
    assert np.abs(first.array - second.array).max() > 1e-3


def test_verify(tmp_path) -> None:
    counting, texts = Counting(), list(TEXTS.values())
    bank = extract_texts(texts, counting.tower, cache_dir=tmp_path).bank
    found = bank.verify(texts, counting.tower)
    assert (found.n_images, found.max_abs_error) == (5, 0)
    array = np.array(bank.array)
    array[:, 0] += 1
    np.save(bank.folder / "features.npy", array)
    with pytest.raises(InputError, match="differs from a fresh computation"):
        TextBank(bank.folder).verify(texts, counting.tower)
    with pytest.raises(InputError, match="was made with weights hash0, not hash1"):
        bank.verify(texts, Counting(1).tower)
    with pytest.raises(InputError, match="holds none of these texts"):
        bank.verify(["unknown"], counting.tower)


def test_refusals(tmp_path) -> None:
    tower = Counting().tower
    for texts in ([], {}, "a text", [1, 2]):
        with pytest.raises(InputError, match="expected texts, at least one"):
            extract_texts(texts, tower, cache_dir=tmp_path)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="batch_size is 0"):
        extract_texts(["a"], tower, cache_dir=tmp_path, batch_size=0)
    bank = extract_texts(["a", "b"], tower, cache_dir=tmp_path).bank
    with pytest.raises(InputError, match="lacks the text 2e7d2c03a950"):  # sha256 of 'c'
        bank.index_of(["c"])
    meta = json.loads((bank.folder / "meta.json").read_text())
    for change, words in [
        ({"schema": "other/1"}, "is not a description of text features"),
        ({"dim": "5"}, "'dim' is missing or of the wrong type"),
        ({"text_ids": ["a", "a"]}, "holds an id twice"),
        ({"dim": 6}, r"is \(2, 5\) float32, expected \(2, 6\) float32"),
    ]:
        (bank.folder / "meta.json").write_text(json.dumps({**meta, **change}))
        with pytest.raises(InputError, match=words):
            TextBank(bank.folder)
    (bank.folder / "meta.json").write_text(json.dumps(meta))
    (bank.folder / "features.npy").write_bytes(b"short")
    with pytest.raises(InputError, match="is missing or damaged"):
        TextBank(bank.folder)


def test_a_model_that_gives_nan_leaves_no_bank(tmp_path) -> None:
    counting = Counting()
    counting.matrix[0] = float("nan")
    with pytest.raises(InputError, match="NaN or infinite"):
        extract_texts(["aaa"], counting.tower, cache_dir=tmp_path)
    assert not list(tmp_path.rglob("meta.json"))
