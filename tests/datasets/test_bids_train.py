"""From a BIDS folder to a result on the command line, and back to the same data from the run."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bids_support import EEG_NAMES, eeg_run, events_of, write_stimuli
from tests_support import FAST

from brainalign.cli.main import run

pytest.importorskip("mne_bids")

IMAGES = [f"c{i % 18:02d}/i{i:02d}.png" for i in range(126)]
OPTIONS = ["--data-option", "task=things", "--data-option", "tmin=-0.1", "--data-option", "tmax=0.4"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict]:
    """A run on responses that are a linear map of each picture's colours, in noise; two sessions."""
    folder = tmp_path_factory.mktemp("bids")
    root = folder / "ds"
    root.mkdir()
    pattern = write_stimuli(root, IMAGES)
    weights = np.random.default_rng(1).normal(size=(27, len(EEG_NAMES)))
    for session in ("1", "2"):
        order = np.random.default_rng(int(session)).permutation(126)
        images = [IMAGES[i] for i in order]
        events = events_of(images, {"trial_type": [name[:3] for name in images]})
        eeg_run(root, folder, events, pattern[order] @ weights, subject="01", session=session, task="things")
    words = ["train", "shallow-alignment", "--dataset", "bids", "--root", root, "--subject", "01", *OPTIONS, *FAST]
    result = call(*words, "--out", folder / "run", "--cache", folder / "cache")
    return root, folder, result


def run_words(*words: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([str(word) for word in words])
    return code, out.getvalue(), err.getvalue()


def call(*words: object) -> Any:
    code, out, err = run_words(*words, "--quiet", "--json")
    assert code == 0, err
    return json.loads(out)


def test_a_run_beats_chance(trained: tuple[Path, Path, dict]) -> None:
    result = trained[2]
    assert (result["dataset"], result["modality"]) == ("bids:task=things:tmin=-0.1:tmax=0.4", "eeg")
    assert (result["protocol"], result["virtual"], result["test_reads"]) == ("bids/intra/v1", False, 1)
    test = result["metrics"]["test"]
    assert (test["n_way"], test["repetitions"]) == (21, 2)
    assert test["top1"] > 3 * test["chance_top1"]
    assert test["permutation_p"] < 0.05
    assert (trained[1] / "run" / "report.html").is_file()


def test_the_same_command_again_returns_the_run(trained: tuple[Path, Path, dict]) -> None:
    root, folder, result = trained
    words = ["train", "shallow-alignment", "--dataset", result["dataset"], "--root", root, *FAST]
    assert call(*words, "--out", folder / "run", "--cache", folder / "cache") == result


def test_a_run_finds_its_data_again_with_its_options(trained: tuple[Path, Path, dict]) -> None:
    root, folder, _ = trained
    images = root / "stimuli" / "c00"
    words = ["encode", folder / "run", "--images", images, "--root", root, "--cache", folder / "cache"]
    found = call(*words, "--how", "retrieve", "--out", folder / "encoded.json")
    assert (found["dataset"], found["pool_size"]) == ("bids:task=things:tmin=-0.1:tmax=0.4", 21)
    found = call(*words[:3], "test", *words[4:], "--how", "retrieve", "--out", folder / "scored.json")
    assert found["n_images"] == 21


def test_check_on_the_command_line(trained: tuple[Path, Path, dict]) -> None:
    root, folder, _ = trained
    for words in (("bids", "--root", root), (root,)):
        found = call("datasets", "check", *words)
        assert [row["ok"] for row in found] == [True, True, True]
    (root / "stimuli" / IMAGES[5]).rename(folder / "away.png")
    code, out, err = run_words("datasets", "check", "bids", "--root", root)
    (folder / "away.png").rename(root / "stimuli" / IMAGES[5])
    assert (code, "BAD  stimuli/c05/i05.png: missing" in out) == (2, True)
    assert err == "error: datasets check: 1 problem(s) found; mend what is marked BAD\n"
    facts = call("datasets", "bids", "--root", root)
    assert (facts["subjects"], facts["modality"]) == (["01"], "eeg")


def test_a_wrong_option_is_one_line(trained: tuple[Path, Path, dict]) -> None:
    root, folder, _ = trained
    words = ["train", "shallow-alignment", "--dataset", "bids", "--root", root, "--data-option", "taks=things"]
    code, _, err = run_words(*words, "--out", folder / "none")
    assert code == 2
    assert err.startswith("error: unknown option of bids 'taks'; did you mean 'task'?")
    assert err.count("\n") == 1
    assert not (folder / "none").exists()
