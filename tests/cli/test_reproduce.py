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


def test_settings_that_would_change_the_question_are_refused(tmp_path, capsys):
    base = ["reproduce", "shallow-alignment/backbones", "--out", str(tmp_path / "t")]
    for words, said in (
        (["--set", "target.layer=3"], "is what the cells of shallow-alignment/backbones differ in"),
        (["--set", "target.backbone=timm:test_vit"], "use --backbone NAME=ID"),
        (["--set", "trainig.epochs=3"], "did you mean"),
        (["--set", "training.epochs=many"], "training.epochs"),
        (["--backbone", "rn50=nothing"], "names no source"),
        (["--split", "7"], "has no split 7"),
        (["--seed", "1", "--seed", "1"], "names a value twice"),
        (["--root", str(tmp_path / "absent")], "is not a folder"),
        (["--dataset", "things-eg2"], "did you mean 'things-eeg2'"),
    ):
        assert run([*base, *words]) == 2, words
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1, error
        assert said in error
        assert not (tmp_path / "t").exists()


def test_without_data_it_prints_reasons_for_people(tmp_path, capsys):
    assert run(["reproduce", "shallow-alignment/backbones", "--out", str(tmp_path / "t"), "-q"]) == 0
    shown = capsys.readouterr().out
    assert "0 of 84 cells measured" in shown
    rows = [line for line in shown.splitlines() if line.count("\t") > 5][1:]
    assert len(rows) == 84
    assert all("not measured (1)" in row for row in rows)
    assert "(1) the data set things-eeg2 is not here (give its folder with --root)" in shown
