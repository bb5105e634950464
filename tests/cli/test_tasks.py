"""decode, encode, convert on tiny runs of own recordings; bad input is refused in one line and leaves nothing."""

from __future__ import annotations

import csv
import json
import os

import numpy as np
import pytest
from tests_support import FAST, write_own

from brainalign.cli.main import run


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cli_cache):
    """Own recordings of two subjects, with a generative run of each and a contrastive one of the first."""
    folder = tmp_path_factory.mktemp("tasks")
    own = write_own(folder / "own")
    rng = np.random.default_rng(5)
    signals = np.load(own / "sub-01/signals.npy")[:, :, 0]
    (own / "sub-02").mkdir()
    mixed = signals @ rng.normal(size=(24, 15)) / 5 + 0.3 * rng.normal(size=(len(signals), 15))
    np.save(own / "sub-02/signals.npy", mixed[:, :, None].astype(np.float32))
    (own / "sub-02/trials.csv").write_text((own / "sub-01/trials.csv").read_text())
    os.environ["BRAINALIGN_CACHE"] = str(cli_cache)
    common = ["--dataset", str(own), "-q", "--device", "cpu", *FAST, "--set", "target.layer=0"]
    still = ["--set", "target.layers=null"]
    assert run(["train", "generative", "--subject", "01", "--out", str(folder / "gen"), *common, *still]) == 0
    assert run(["train", "generative", "--subject", "02", "--out", str(folder / "other"), *common, *still]) == 0
    assert run(["train", "shallow-alignment", "--subject", "01", "--out", str(folder / "con"), *common]) == 0
    shown = [line.split(",")[0] for line in (own / "sub-01/trials.csv").read_text().splitlines()[1:]]
    np.save(folder / "new.npy", signals[:8])
    (folder / "truth.txt").write_text("\n".join(shown[:8]) + "\n")
    return folder


def words(trained, command, out=None):
    return [w.replace("RUNS", str(trained)).replace("OUT", str(out)) for w in command] + ["-q", "--device", "cpu"]


DECODE = ["decode", "RUNS/gen", "--signals", "RUNS/new.npy", "--gallery", "RUNS/own/images"]
ENCODE = ["encode", "RUNS/gen", "--images", "RUNS/own/images"]
ROOT = ["--root", "RUNS/own"]
CONVERT = ["convert", "RUNS/gen", "--target-run", "RUNS/other", *ROOT]


def read(path):
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_decode(trained, tmp_path, capsys):
    out = tmp_path / "found.csv"
    command = [*DECODE, *ROOT, "--out", "OUT", "--truth", "RUNS/truth.txt", "--json"]
    capsys.readouterr()
    assert run(words(trained, command, out)) == 0
    facts, rows = json.loads(capsys.readouterr().out), read(out)
    assert len(rows) == 8 * 5 and facts["n_gallery"] == 72
    first = [row["image"] for row in rows if row["rank"] == "1"]
    truth = [name.removesuffix(".png") for name in (trained / "truth.txt").read_text().split()]
    assert facts["scores"]["top1"] == pytest.approx(np.mean([a == b for a, b in zip(first, truth)]))
    assert facts["scores"]["chance_top1"] == pytest.approx(1 / 72)
    error = json.loads((trained / "gen/result.json").read_text())["calibration"]["error"]
    assert any(f"off by {error:.3f}" in note for note in facts["notes"])
    for number in range(8):
        own = [row for row in rows if row["signal"] == str(number)]
        assert sum(float(row["posterior"]) for row in own) + float(own[0]["none_of_these"]) <= 1 + 1e-5
    again = tmp_path / "again.jsonl"
    assert run(words(trained, [*DECODE, *ROOT, "--out", "OUT"], again)) == 0
    assert [json.loads(line)["image"] for line in again.read_text().splitlines()] == [row["image"] for row in rows]


def test_decode_page_is_complete(trained, tmp_path):
    out = tmp_path / "found.html"
    assert run(words(trained, [*DECODE, "--out", "OUT", "--truth", "RUNS/truth.txt"], out)) == 0
    page = out.read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") >= 8 * 5
    assert "http://" not in page.replace("http://www.w3.org", "") and "<script src" not in page
    assert "the gallery itself" in page  # without --root nothing else can stand for other images


def test_contrastive_decode_has_no_probabilities(trained, tmp_path):
    out = tmp_path / "found.csv"
    command = ["decode", "RUNS/con", *DECODE[2:], "--out", "OUT", "--top", "3"]
    assert run(words(trained, command, out)) == 0
    assert set(read(out)[0]) == {"signal", "rank", "image", "score"}


def test_encode_folder_and_test_images(trained, tmp_path, capsys):
    out = tmp_path / "made.npz"
    assert run(words(trained, [*ENCODE, "--out", "OUT"], out)) == 0
    with np.load(out, allow_pickle=False) as file:
        assert file["expected"].shape == (72, 24, 1)
        assert (file["low"] < file["expected"]).all() and (file["expected"] < file["high"]).all()
    tested = tmp_path / "tested.csv"
    capsys.readouterr()
    assert run(words(trained, ["encode", "RUNS/gen", "--images", "test", *ROOT, "--out", "OUT", "--json"], tested)) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["test_reads"] == 2
    found, made = scores["scores"], read(tested)
    by_channel = read(tmp_path / "tested.scores.csv")
    assert found["correlation"]["median"] == pytest.approx(
        np.median([float(r["pearson"]) for r in by_channel]), abs=1e-5
    )
    assert found["reliability"]["by_variance_median"] > 0.8  # two repetitions with little noise
    assert len(made) == found["n_images"] * 24
    assert scores["repetitions"] == 2 and scores["intervals_are_for"] == "averages of 2 trials, as recorded"


def test_encode_intervals_are_for_the_averages_that_are_recorded(trained, tmp_path, capsys):
    """Trained on averages of two trials and tested on single ones, which lie further off."""
    command = ["train", "generative", "--dataset", str(trained / "own"), "--subject", "01", "--out", "OUT/single", "-q",
               "--device", "cpu", *FAST, "--set", "target.layer=0", "--set", "target.layers=null",
               "--set", "evaluation.repetitions=1"]  # fmt: skip
    assert run([word.replace("OUT", str(tmp_path)) for word in command]) == 0
    found = {}
    for asked in ([], ["--repetitions", "1"], ["--repetitions", "2"]):
        capsys.readouterr()
        command = ["encode", f"{tmp_path}/single", "--images", "test", *ROOT, "--out", "OUT", *asked]
        assert run(words(trained, [*command, "--json"], tmp_path / "made.npz")) == 0
        facts = json.loads(capsys.readouterr().out)
        with np.load(tmp_path / "made.npz") as file:
            width = float(np.mean(file["high"] - file["low"]))
        found[" ".join(asked)] = width, facts["scores"]["inside_interval"], facts["intervals_are_for"]
        assert run(words(trained, command, tmp_path / "made.npz")) == 0
        assert f"intervals for {facts['intervals_are_for']}: " in capsys.readouterr().out
    own, single, averaged = found.values()
    assert own == (*single[:2], "single trials, as recorded") and averaged[2] == "averages of 2 trials"
    assert own[0] > averaged[0] and own[1] >= averaged[1]


def test_encode_retrieve(trained, tmp_path, capsys):
    out = tmp_path / "found.csv"
    for name in ("gen", "con"):
        capsys.readouterr()
        command = ["encode", f"RUNS/{name}", "--images", "test", "--how", "retrieve", *ROOT, "--out", "OUT", "--json"]
        assert run(words(trained, command, out)) == 0
        facts = json.loads(capsys.readouterr().out)
        assert facts["scores"]["chance"] == 0.5 and facts["pool_size"] == facts["n_images"]
        assert facts["scores"]["images_also_in_pool"] == facts["n_images"]


@pytest.mark.parametrize("how", ["retrieve", "generate"])
def test_convert(how, trained, tmp_path, capsys):
    out = tmp_path / ("found.csv" if how == "retrieve" else "made.npz")
    capsys.readouterr()
    assert run(words(trained, [*CONVERT, "--how", how, "--out", "OUT", "--json"], out)) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert scores["two_way"] > 0.7 > scores["shuffled"]["two_way"]
    assert scores["normalised"] == pytest.approx(scores["two_way"] / scores["target_two_way"])
    assert scores["chance_top1"] == pytest.approx(1 / scores["pool_size"])
    assert out.is_file()


def test_convert_new_signals_is_not_scored(trained, tmp_path, capsys):
    out = tmp_path / "found.csv"
    capsys.readouterr()
    assert run(words(trained, [*CONVERT, "--signals", "RUNS/new.npy", "--top", "2", "--out", "OUT"], out)) == 0
    assert "not scored" in capsys.readouterr().out
    assert len(read(out)) == 16


def test_the_page_calls_scores_what_they_are(trained, tmp_path):
    """The similarity of ridge is a cosine times a scale; only that of a contrastive run is a cosine."""
    command = ["train", "ridge", "--dataset", str(trained / "own"), "--subject", "01", "--out", str(tmp_path / "ridge"),
               "-q", "--device", "cpu", *FAST, "--set", "target.layer=0"]  # fmt: skip
    assert run(command) == 0
    out, pages = tmp_path / "found.html", {}
    for name, folder in (("ridge", str(tmp_path / "ridge")), ("con", "RUNS/con"), ("gen", "RUNS/gen")):
        assert run(words(trained, ["decode", folder, *DECODE[2:], "--out", "OUT"], out)) == 0
        pages[name] = out.read_text(encoding="utf-8")
    assert (
        "Numbers: scaled cosine similarity." in pages["ridge"] and 'quiet">scaled cosine similarity ' in pages["ridge"]
    )
    assert "Numbers: cosine similarity." in pages["con"] and 'quiet">cosine similarity ' in pages["con"]
    assert "cosine" not in pages["gen"] and 'quiet">p = ' in pages["gen"]


BAD = {
    "no run": (["decode", "RUNS/own", *DECODE[2:], "--out", "OUT/x.csv"], "is not the folder of a run"),
    "no gallery": ([*DECODE[:4], "--gallery", "RUNS/none", "--out", "OUT/x.csv"], "is not a folder"),
    "empty gallery": ([*DECODE[:4], "--gallery", "RUNS/gen", "--out", "OUT/x.csv"], "holds no image"),
    "ending": ([*DECODE, "--out", "OUT/x.txt"], "ends in '.txt'"),
    "top": ([*DECODE, "--top", "0", "--out", "OUT/x.csv"], "--top"),
    "prior": ([*DECODE, "--none-prior", "1", "--out", "OUT/x.csv"], "--none-prior"),
    "repetitions": ([*DECODE, "--repetitions", "0", "--out", "OUT/x.csv"], "--repetitions"),
    "truth": ([*DECODE, "--truth", "RUNS/own/dataset.yaml", "--out", "OUT/x.csv"], "names 2 images for 8 signals"),
    "signals": (["decode", "RUNS/other", *DECODE[2:], "--out", "OUT/x.csv"], "has 24 channels, the run takes 15"),
    "mask": ([*DECODE, "--mask", "RUNS/new.npy", "--out", "OUT/x.csv"], "a mask is for volumes"),
    "options without signals": (
        [*CONVERT, "--sfreq", "100", "--out", "OUT/x.csv"],
        "--sfreq: is for new signals, and none are given",
    ),
    "root of no target": (
        ["convert", "RUNS/gen", "--target-root", "RUNS/own", "--out", "OUT/x.csv"],
        "--target-root: is for the data of a target's run",
    ),
    "generate": (["encode", "RUNS/con", *ENCODE[2:], "--out", "OUT/x.npz"], "a contrastive run generates no signal"),
    "how": ([*ENCODE, "--how", "retreive", "--out", "OUT/x.csv"], "did you mean 'retrieve'"),
    "pool": ([*ENCODE, "--how", "retrieve", "--pool", "tset", *ROOT, "--out", "OUT/x.csv"], "did you mean 'test'"),
    "level": ([*ENCODE, "--level", "95", "--out", "OUT/x.npz"], "between 0 and 1"),
    "no data": (["encode", "RUNS/gen", "--images", "test", "--out", "OUT/x.npz"], "own recordings; give their folder"),
    "arrays of rows": ([*ENCODE, "--how", "retrieve", *ROOT, "--out", "OUT/x.npz"], "ends in '.npz'"),
    "one run": (["convert", "RUNS/gen", "--out", "OUT/x.csv"], "give the run of the other one"),
    "same run": (
        ["convert", "RUNS/gen", "--target-run", "RUNS/gen", *ROOT, "--out", "OUT/x.csv"],
        "the source run too",
    ),
    "modality": ([*CONVERT, "--target", "eeg", "--out", "OUT/x.csv"], "'eeg', but the run is of fmri"),
    "contrastive": (
        ["convert", "RUNS/gen", "--target-run", "RUNS/con", *ROOT, "--how", "generate", "--out", "OUT/x.npz"],
        "the target run is contrastive",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_refused(name, trained, tmp_path, capsys):
    command, said = BAD[name]
    capsys.readouterr()
    assert run(words(trained, command, tmp_path)) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ") and shown.count("\n") == 1, shown
    assert said in shown and "bug in brainalign" not in shown, shown
    assert not list(tmp_path.iterdir())
