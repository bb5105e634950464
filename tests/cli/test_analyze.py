"""`brainalign analyze` from end to end on a tiny sweep."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from tests_support import FAST, write_own

from brainalign.analysis.registry import ANALYSES
from brainalign.cli.main import run


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return write_own(tmp_path_factory.mktemp("own") / "own")


@pytest.fixture(scope="module")
def swept(own, tmp_path_factory, cli_cache):
    out = tmp_path_factory.mktemp("sweep") / "sweep"
    command = ["sweep", "shallow-alignment", "--over", "layer=0,final", "--dataset", str(own), "--out", str(out), "-q"]
    assert run([*command, "--device", "cpu", "--cache", str(cli_cache), *FAST]) == 0
    return out


@pytest.mark.parametrize("name", ANALYSES)
def test_help_shows_every_option_with_an_example(name, capsys):
    assert run(["analyze", name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Example" in shown
    assert ANALYSES[name].summary in shown
    for option in re.findall(r"^  (--[a-z-]+)", shown, re.M):
        assert re.search(rf"{option} .*\S|{option}\n +\S", shown)


def test_listing_imports_no_analysis():
    code = (
        "import sys, brainalign.cli.main as m; m.run(['analyze', '--help']); "
        "print([n for n in ('torch', 'numpy', 'pandas', 'matplotlib', 'umap', 'sklearn') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
    assert all(name in done.stdout for name in ANALYSES)


def test_layers_writes_a_page_that_is_complete_in_itself(swept, own, tmp_path, capsys):
    out = tmp_path / "deep/out"
    code = run(["analyze", "layers", str(swept), "--out", str(out), "--root", str(own), "--format", "svg,png", "-q"])
    assert code == 0
    shown = capsys.readouterr().out
    assert f"page: {out / 'index.html'}" in shown
    assert "not measured: Concept accuracy" in shown
    page = (out / "index.html").read_text()
    assert "<script src" not in page
    assert re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', page) == []
    document = json.loads((out / "analysis.json").read_text())
    assert document["schema"] == "brainalign.analysis/1"
    assert document["paths"] == [str(swept)]
    assert document["options"]["root"] == str(own)
    files = {file for part in (*document["figures"], *document["tables"]) for file in part["files"]}
    assert {path.name for path in out.iterdir()} == files | {"index.html", "analysis.json", "panels.json"}
    assert {"test.svg", "test.png", "test.csv", "comparison.csv"} <= files


def test_json_is_what_is_stored(swept, tmp_path, capsys):
    command = ["analyze", "scaling", str(swept), "--out", str(tmp_path / "out"), "--json", "-q"]
    assert run([*command, "--parameters", "timm:test_resnet=469688"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == json.loads((tmp_path / "out/analysis.json").read_text())
    assert shown["numbers"]["backbones"][0]["parameters are"] == "given"


def test_space_says_that_test_pictures_are_a_reopening(swept, own, tmp_path, capsys):
    run_folder = next(path for path in (swept / "runs").iterdir())
    command = ["analyze", "space", str(run_folder), "--root", str(own), "--map", "tsne", "--n-permutations", "50"]
    assert run([*command, "--images", "test", "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    shown = capsys.readouterr()
    assert "no choice may rest on them" in shown.out
    assert "Traceback" not in shown.err
    document = json.loads((tmp_path / "out/analysis.json").read_text())
    assert document["numbers"]["test_reopened"] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["layer", "x", "--out", "o"], "did you mean 'layers'"),
        (["layers", "nowhere", "--out", "o"], "finished sweep"),
        (["layers", "SWEEP", "--out", "o", "--format", "sgv"], "did you mean 'svg'"),
        (["layers", "SWEEP", "--out", "o", "--n-resamples", "3"], "--n-resamples"),
        (["space", "SWEEP", "--out", "o", "--images", "training"], "--images"),
        (["space", "SWEEP", "--out", "o"], "--root"),
        (["space", "nowhere", "--out", "o"], "is not the folder of a run"),
        (["scaling", "SWEEP", "--out", "o", "--parameters", "timm:test_resnet"], "is not backbone=NUMBER"),
        (["layers", "SWEEP", "--out", "FILE"], "is a file"),
        (["layers", "SWEEP"], "--out"),
        (["layers", "--out", "o"], "paths"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(words, message, swept, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    replaced = {"SWEEP": str(swept), "FILE": str(tmp_path / "file")}
    assert run(["analyze", *(replaced.get(word, word) for word in words), "-q"]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert message in error
    assert "\n" not in error
    assert not (tmp_path / "o").exists()
