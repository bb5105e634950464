"""A sweep in several processes: the same rows as in one, test sets opened once, and nothing lost by a kill."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from tests_support import FAST, write_own

from brainalign.errors import InputError
from brainalign.execution.sweep import sweep

SETTINGS = FAST[1::2]
OVER = ["subject=01,02", "layer=0,1", "seed=0,1"]


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Two subjects; the second one's signals are the first one's and some noise."""
    folder = write_own(tmp_path_factory.mktemp("own") / "data")
    shutil.copytree(folder / "sub-01", folder / "sub-02")
    signals = np.load(folder / "sub-01/signals.npy")
    noise = np.random.default_rng(2).normal(size=signals.shape).astype(np.float32)
    np.save(folder / "sub-02/signals.npy", signals + noise)
    return str(folder)


@pytest.fixture(scope="module")
def beside(own, tmp_path_factory, shared_cache):
    """One sweep trained in one process and in two."""
    out = tmp_path_factory.mktemp("beside")
    how = {"over": OVER, "dataset": own, "cache": shared_cache, "device": "cpu", "settings": SETTINGS}
    for name, jobs in (("one", 1), ("two", 2)):
        sweep("shallow-alignment", out=out / name, jobs=jobs, **how)
    return out, how


def rows_of(folder):
    with open(folder / "sweep.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_processes_end_in_the_same_sweep(beside):
    out, _ = beside
    for one, two in zip(rows_of(out / "one"), rows_of(out / "two"), strict=True):
        losses = [float(row.pop("validation_loss")) for row in (one, two)]
        for row in (one, two):
            row.pop("total_s")
        assert one == two
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)  # another stack rounds in another order
    one, two = (json.loads((out / name / "sweep.json").read_text()) for name in ("one", "two"))
    assert one == two


def test_every_test_set_is_opened_once_and_chosen_rows_have_their_control(beside):
    out, _ = beside
    for row in rows_of(out / "two"):
        result = json.loads((out / "two" / row["run"] / "result.json").read_text())
        assert result["test_reads"] == 1
        assert (result["shuffled"]["top1"] is not None) == (row["chosen"] == "1")


def test_the_log_holds_what_every_process_did(beside):
    out, _ = beside
    for name in ("one", "two"):
        lines = (out / name / "log.txt").read_text().splitlines()
        assert sum("candidate" in line for line in lines) == len(rows_of(out / name))


def test_a_killed_sweep_of_processes_ends_in_the_same_bytes(beside, tmp_path):
    """As it is left by a kill in the middle: some runs whole, of one stack a part only, others not begun."""
    out, how = beside
    left = shutil.copytree(out / "two", tmp_path / "left")
    for name in ("sweep.json", "sweep.csv", "report.html"):
        (left / name).unlink()
    runs = [row["run"] for row in rows_of(out / "two")]
    gone = (*runs[1:3], *runs[5:])
    kept = {run: (left / run / "model.safetensors").stat().st_mtime_ns for run in runs if run not in gone}
    for run in gone:
        shutil.rmtree(left / run)
    sweep("shallow-alignment", out=left, jobs=2, **how)
    assert {run: (left / run / "model.safetensors").stat().st_mtime_ns for run in kept} == kept
    for run in runs:
        for name in ("model.safetensors", "predictions.npz"):
            assert (left / run / name).read_bytes() == (out / "two" / run / name).read_bytes()


def test_a_negative_number_of_processes_is_refused(own, tmp_path, shared_cache):
    with pytest.raises(InputError, match="processes asked for"):
        sweep(
            "shallow-alignment", over=["seed=0,1"], dataset=own, out=tmp_path / "s", settings=SETTINGS, jobs=-1,
            cache=shared_cache, device="cpu",
        )  # fmt: skip
    assert not (tmp_path / "s").exists()
