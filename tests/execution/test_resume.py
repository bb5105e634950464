"""A killed run goes on and ends in the same result; the test set stays sealed until the choice is frozen."""

from __future__ import annotations

import contextlib
import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from tests_support import FAST, write_own

from brainalign.execution.job import Job
from brainalign.execution.progress import Silent
from brainalign.execution.run import save_fit
from brainalign.execution.rundir import RunDirectory
from brainalign.execution.sweep import sweep
from brainalign.execution.train import open_session, resolve_recipe, run_job, train

SETTINGS = FAST[1::2]


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return write_own(tmp_path_factory.mktemp("own") / "data")


class Killed(BaseException):
    pass


class KillAt(Silent):
    """Stops the program when a step with these words has begun for the n-th time."""

    def __init__(self, words: str, n: int) -> None:
        self.words, self.left = words, n

    @contextlib.contextmanager
    def step(self, text):
        self.left -= self.words in text
        if self.left == 0:
            raise Killed
        yield lambda done, total: None


def rows(folder):
    with open(folder / "sweep.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k != "total_s"} for row in csv.DictReader(file)]


def kill_after_saves(patch, n):
    """Stops the program when n choices have been written: in the middle of a stack of runs."""
    left = [n]

    def save(*args):
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        save_fit(*args)

    patch.setattr("brainalign.execution.train.save_fit", save)


class KillMidway(Silent):
    """Kills in the seventh epoch of training."""

    @contextlib.contextmanager
    def step(self, text):
        def tick(done, total):
            if text.startswith("training") and done == 7:
                raise Killed

        yield tick


def test_a_killed_sweep_ends_in_the_same_table(own, tmp_path, shared_cache, monkeypatch):
    def go(out, reporter=None):
        return sweep(
            "shallow-alignment", over=["layer=0,1,head", "seed=0,1"], dataset=str(own), out=out, settings=SETTINGS,
            cache=shared_cache, device="cpu", reporter=reporter,
        )  # fmt: skip

    whole = go(tmp_path / "whole")
    for n in (2, 1):
        with monkeypatch.context() as patch:
            kill_after_saves(patch, n)
            with pytest.raises(Killed):
                go(tmp_path / "killed")
    assert len(list((tmp_path / "killed").glob("runs/*/fit.json"))) == 3
    for words, n in (("control", 1), ("opening the test set", 1)):
        with pytest.raises(Killed):
            go(tmp_path / "killed", KillAt(words, n))
        assert not (tmp_path / "killed/sweep.csv").exists()
    again = go(tmp_path / "killed")
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    assert again["conditions"] == whole["conditions"]
    assert again["comparisons"] == whole["comparisons"]
    assert (whole["test_reads"], again["test_reads"]) == (1, 2)  # it was killed once with the test set open


def test_a_killed_run_ends_in_the_same_model_and_result(own, tmp_path, shared_cache, monkeypatch):
    monkeypatch.setattr("brainalign.alignment.training.CHECKPOINT_SECONDS", -1.0)

    def go(out, reporter=None):
        return train(
            "shallow-alignment", dataset=str(own), out=out, settings=[*SETTINGS, "target.layer=1"], cache=shared_cache,
            device="cpu", reporter=reporter,
        )  # fmt: skip

    go(tmp_path / "whole")
    with pytest.raises(Killed):
        go(tmp_path / "killed", KillMidway())
    assert list((tmp_path / "killed/checkpoints").iterdir())
    go(tmp_path / "killed")
    assert not (tmp_path / "killed/checkpoints").exists()
    for name in ("model.safetensors", "history.csv", "recipe.yaml"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    a, b = (json.loads((tmp_path / n / "result.json").read_text()) for n in ("killed", "whole"))
    assert {k: v for k, v in a.items() if k != "timing"} == {k: v for k, v in b.items() if k != "timing"}


@pytest.mark.parametrize("other", [{"split": 1}, {"seed": 1}, {"settings": [*SETTINGS, "training.lr=0.02"]}])
def test_what_another_run_left_half_trained_is_not_gone_on_with(own, tmp_path, shared_cache, monkeypatch, other):
    monkeypatch.setattr("brainalign.alignment.training.CHECKPOINT_SECONDS", -1.0)

    def go(out, reporter=None, **how):
        how = {"settings": SETTINGS} | how
        how["settings"] = [*how["settings"], "target.layer=1"]
        return train(
            "shallow-alignment", dataset=str(own), out=out, cache=shared_cache, device="cpu", reporter=reporter, **how
        )

    go(tmp_path / "alone", **other)
    with pytest.raises(Killed):
        go(tmp_path / "shared", KillMidway())
    assert list((tmp_path / "shared/checkpoints").iterdir())
    go(tmp_path / "shared", **other)
    assert not (tmp_path / "shared/checkpoints").exists()
    for name in ("model.safetensors", "history.csv"):
        assert (tmp_path / "shared" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


def test_a_run_killed_with_the_test_set_open_says_that_it_was_opened_twice(own, tmp_path, shared_cache, monkeypatch):
    def go():
        return train(
            "shallow-alignment", dataset=str(own), out=tmp_path / "run", settings=[*SETTINGS, "target.layer=1"],
            cache=shared_cache, device="cpu",
        )  # fmt: skip

    def die(*args, **how):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("brainalign.execution.run._score_epochs", die)
        with pytest.raises(Killed):
            go()
    result = go()
    assert result.test_reads == 2
    assert "test-read-twice" in {finding.code for finding in result.lint}


class Watched:
    """Signals that refuse to be read on test rows until the choice is frozen."""

    def __init__(self, signals, forbidden, frozen):
        self.signals, self.forbidden, self.frozen, self.shape = signals, forbidden, frozen, signals.shape
        self.read = False

    def __getitem__(self, at):
        touched = bool(np.isin(np.asarray(at), self.forbidden).any())
        assert not touched or self.frozen.is_file(), "a test trial was read before the choice was frozen"
        self.read |= touched
        return self.signals[at]


def test_no_test_trial_is_read_before_the_choice_is_frozen(own, tmp_path, shared_cache):
    session = open_session(str(own), cache=shared_cache, device="cpu")
    subject = session.dataset.subjects[0]
    recording, split = session.recording(subject), session.split(subject, 0)
    forbidden = np.concatenate([recording.trials_of(name) for name in split.test])
    directory = RunDirectory(tmp_path / "run")
    watched = Watched(np.asarray(recording.signals), forbidden, directory.path("fit.json"))
    session._memory["recording", subject] = replace(recording, signals=watched)
    result = run_job(session, Job(resolve_recipe("shallow-alignment", session, SETTINGS), subject), directory)
    assert watched.read
    assert result.test_reads == session.sealed(subject, 0).reads == 1
    assert result.shuffled.top1 is not None
