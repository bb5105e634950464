"""Where the cache is, what it holds, and clearing no more than that."""

from __future__ import annotations

import platformdirs
import pytest

from brainalign.cache import clear_cache, default_cache_dir, list_cache
from brainalign.errors import InputError


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch) -> None:
    monkeypatch.delenv("BRAINALIGN_CACHE", raising=False)


def test_argument_then_variable_then_the_user_s_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda *_given, **_named: str(tmp_path / "user"))
    assert default_cache_dir() == tmp_path / "user"
    monkeypatch.setenv("BRAINALIGN_CACHE", "")
    assert default_cache_dir() == tmp_path / "user"
    monkeypatch.setenv("BRAINALIGN_CACHE", str(tmp_path / "variable"))
    assert default_cache_dir() == tmp_path / "variable"
    assert default_cache_dir(tmp_path / "given" / "deep") == tmp_path / "given" / "deep"
    assert (tmp_path / "given" / "deep").is_dir()


def test_a_file_is_no_cache(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file, not a folder"):
        default_cache_dir(tmp_path / "file")
    with pytest.raises(InputError, match="cannot be written"):
        default_cache_dir(tmp_path / "file" / "below")


def test_lists_kinds_names_and_sizes(tmp_path) -> None:
    assert list_cache(tmp_path) == []
    (tmp_path / "features" / "timm_resnet50" / "bank").mkdir(parents=True)
    (tmp_path / "features" / "timm_resnet50" / "bank" / "features.npy").write_bytes(b"12345")
    (tmp_path / "features" / "timm_resnet50" / "meta.json").write_bytes(b"123")
    (tmp_path / "features" / "timm_resnet50.lock").write_bytes(b"")
    (tmp_path / "features" / "empty").mkdir()
    (tmp_path / "backbones").mkdir()
    (tmp_path / "backbones" / "facts.json").write_bytes(b"{}")
    found = [(entry.kind, entry.name, entry.bytes) for entry in list_cache(tmp_path)]
    assert found == [("features", "timm_resnet50", 8), ("backbones", "facts.json", 2)]


def test_clears_its_own_folders_only(tmp_path) -> None:
    (tmp_path / "features" / "a").mkdir(parents=True)
    (tmp_path / "features" / "a" / "b").write_text("x")
    (tmp_path / "thesis.txt").write_text("mine")
    clear_cache(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    clear_cache(tmp_path)
