"""`brainalign reproduce` as typed."""

from __future__ import annotations

import json

from brainalign.cli.main import run


def test_lists_tables(capsys):
    assert run(["reproduce"]) == 0
    assert "shallow-alignment/backbones" in capsys.readouterr().out


def test_without_data_every_cell_says_why(tmp_path, capsys):
    assert run(["reproduce", "shallow-alignment/meg", "--out", str(tmp_path / "t"), "-q", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["cells_measured"] == 0
    assert (tmp_path / "t/table.html").is_file()


def test_bad_words_are_one_line_and_leave_nothing(tmp_path, capsys):
    for words in (
        ["reproduce", "shallow-alignment/backbone", "--out", str(tmp_path / "t")],
        ["reproduce", "shallow-alignment/meg"],
        ["reproduce", "shallow-alignment/meg", "--out", str(tmp_path / "t"), "--backbone", "rn50"],
        ["reproduce", "shallow-alignment/backbones", "--out", str(tmp_path / "t"), "--backbone", "rn5=timm:test_vit"],
        ["reproduce", "shallow-alignment/backbones", "--out", str(tmp_path / "t"), "--only", "nothing-like-it"],
    ):
        assert run(words) == 2, words
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1, error
        assert not (tmp_path / "t").exists()
