"""The command line from end to end on a small folder of own recordings."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from tests_support import FAST, write_own

from brainalign.cli.main import app, run
from brainalign.evaluation.result import read_predictions

COMMANDS = [command.callback.__name__ for command in app.registered_commands]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example_in_its_help(command, capsys):
    assert run([command, "--help"]) == 0
    assert "Example" in capsys.readouterr().out


def test_help_imports_nothing_heavy():
    code = (
        "import sys, brainalign.cli.main as m; m.run(['--help']); "
        "print([n for n in ('torch', 'pandas', 'numpy', 'mne', 'matplotlib', 'timm', 'yaml', 'pydantic') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


def test_train_writes_the_run_of_the_contract(own, tmp_path, capsys):
    out = tmp_path / "run"
    command = [
        "train",
        "shallow-alignment",
        "--dataset",
        str(own),
        "--out",
        str(out),
        "--json",
        "-q",
        "--device",
        "cpu",
        *FAST,
    ]
    assert run(command) == 0
    shown = json.loads(capsys.readouterr().out)
    stored = json.loads((out / "result.json").read_text())
    assert shown == stored
    files = {path.name for path in out.iterdir()}
    assert files >= {
        "recipe.yaml",
        "result.json",
        "history.csv",
        "predictions.npz",
        "model.safetensors",
        "report.html",
        "log.txt",
    }
    assert not [name for name in files if name.startswith(".") or name.endswith(".partial")]
    for key in [
        "schema",
        "recipe",
        "config_hash",
        "dataset",
        "virtual",
        "modality",
        "protocol",
        "subject",
        "split",
        "seed",
        "target",
        "encoder",
        "selection",
        "metrics",
        "shuffled",
        "inflation_gap_top1",
        "test_reads",
        "timing",
        "environment",
    ]:
        assert key in stored, key
    assert stored["schema"] == "brainalign.result/1"
    assert stored["test_reads"] == 1
    assert stored["virtual"] is False
    test = stored["metrics"]["test"]
    assert test["n_way"] == test["n_queries"] == 12
    assert test["repetitions"] == 2
    assert test["top1"] > 4 * test["chance_top1"]
    similarity = read_predictions(out)["similarity"]
    assert test["top1"] == pytest.approx((similarity.argmax(1) == np.arange(12)).mean())
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert run(command) == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_sweep_chooses_on_validation_and_writes_the_table(own, tmp_path, capsys):
    out = tmp_path / "sweep"
    over = ["--over", "layer=0,1,head", "--over", "split=0,1"]
    command = [
        "sweep",
        "shallow-alignment",
        "--dataset",
        str(own),
        "--out",
        str(out),
        "-q",
        "--device",
        "cpu",
        *over,
        *FAST,
    ]
    assert run([*command, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    with open(out / "sweep.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = [
        "recipe",
        "dataset",
        "subject",
        "split",
        "seed",
        "backbone",
        "layer",
        "depth",
        "pooling",
        "encoder",
        "validation_top1",
        "test_top1",
        "test_top1_ci_lo",
        "test_top1_ci_hi",
        "test_top5",
        "chosen",
        "total_s",
    ]
    assert list(rows[0])[: len(columns)] == columns
    assert [(r["layer"], r["split"]) for r in rows] == [(a, b) for a in ("0", "1", "head") for b in ("0", "1")]
    for split in ("0", "1"):
        mine = [r for r in rows if r["split"] == split]
        chosen = [r for r in mine if r["chosen"] == "1"]
        assert len(chosen) == 1
        assert float(chosen[0]["validation_mrr"]) == max(float(r["validation_mrr"]) for r in mine)
    assert summary["test_reads"] == 1
    gaps = [c["best_row_on_test"] - c["test_top1"] for c in summary["conditions"]]
    assert [c["inflation_gap_top1"] for c in summary["conditions"]] == pytest.approx(gaps)
    assert (out / "report.html").is_file()
    assert run(command) == 0  # again: nothing is trained, the same table
    assert "chosen on validation" in capsys.readouterr().out
    with open(out / "sweep.csv", newline="") as file:
        assert list(csv.DictReader(file)) == rows


def test_compare_runs_report_features_and_cache(own, tmp_path, capsys):
    for name, layer in (("a", "0"), ("b", "head")):
        command = ["train", "shallow-alignment", "--dataset", str(own), "--out", str(tmp_path / name), "-q", *FAST]
        assert run([*command, "--set", f"target.layer={layer}", "--device", "cpu"]) == 0
    capsys.readouterr()
    assert run(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    top = [(read_predictions(tmp_path / n)["similarity"].argmax(1) == np.arange(12)).mean() for n in ("a", "b")]
    assert found["top1"]["difference"] == pytest.approx(top[0] - top[1])
    assert found["top1"]["ci95"][0] <= found["top1"]["difference"] <= found["top1"]["ci95"][1]
    assert run(["runs", str(tmp_path), "--json"]) == 0
    assert [row["run"] for row in json.loads(capsys.readouterr().out)] == ["a", "b"]
    assert run(["report", str(tmp_path / "a"), "--out", str(tmp_path / "again.html")]) == 0
    assert (tmp_path / "again.html").stat().st_size > 10_000
    capsys.readouterr()
    assert run(["report", str(tmp_path / "a"), "--out", str(tmp_path / "third.html"), "--format", "svg", "--json"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert written["report"] == str(tmp_path / "third.html")
    assert sorted(written["figures"]) == sorted(str(path) for path in (tmp_path / "figures").glob("*.svg"))
    assert written["figures"]
    assert (tmp_path / "third.html").read_bytes() == (tmp_path / "again.html").read_bytes()
    assert run(["report", str(tmp_path / "a"), "--out", str(tmp_path / "fourth.html"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report": str(tmp_path / "fourth.html"), "figures": []}
    page = ["report", str(tmp_path / "a"), "--out", str(tmp_path / "pictures.html"), "--root"]
    assert run([*page, str(own)]) == 0
    assert "data:image/jpeg" in (tmp_path / "pictures.html").read_text()
    assert "data:image/jpeg" not in (tmp_path / "again.html").read_text()  # nobody said where the pictures are
    capsys.readouterr()
    (tmp_path / "pictures.html").unlink()
    write_own(tmp_path / "other")
    for folder, said in (("other", "holds the data set 'other', the run's is 'own'"), ("none", "is not a folder")):
        assert run([*page, str(tmp_path / folder)]) == 2
        shown = capsys.readouterr().err
        assert said in shown and shown.count("\n") == 1, shown
        assert run(["stack", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "both"), *page[-1:],
                    str(tmp_path / folder)]) == 2  # fmt: skip
        assert said in capsys.readouterr().err
    assert not (tmp_path / "pictures.html").exists() and not (tmp_path / "both").exists()
    stack = ["stack", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "both"), "--root", str(own)]
    assert run(stack) == 0
    capsys.readouterr()
    assert "data:image/jpeg" in (tmp_path / "both/report.html").read_text()
    assert run(["cache", "list", "--json"]) == 0
    assert any(entry["kind"] == "features" for entry in json.loads(capsys.readouterr().out))


def test_clearing_the_cache_is_machine_readable(tmp_path, capsys):
    for kind in ("features", "derived"):
        (tmp_path / kind / "one").mkdir(parents=True)
        (tmp_path / kind / "one" / "values").write_bytes(bytes(150_000))
    (tmp_path / "kept").write_text("of somebody else")
    assert run(["cache", "clear", "--yes", "--json", "--cache", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == {"cache": str(tmp_path), "removed": 2, "MB": "0.3"}
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize("command", [["datasets"], ["recipes"], ["backbones", "pip:*"], ["datasets", "macaque-v4"]])
def test_lists_are_machine_readable(command, capsys):
    assert run([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)


def test_check_lists_every_problem_of_a_folder(own, capsys):
    assert run(["datasets", "check", str(own)]) == 0
    (own / "images/i000.png").unlink()
    (own / "images/i001.png").write_bytes(b"no picture")
    assert run(["datasets", "check", str(own)]) == 2
    out = capsys.readouterr().out
    assert "i000" in out
    assert "i001" in out
