"""A protocol that leaves a subject out, from the folder of recordings to the result."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from tests_support import FAST, N_CHANS, N_IMAGES, write_own

from brainalign.errors import InputError
from brainalign.evaluation.result import read_result
from brainalign.execution.sweep import sweep
from brainalign.execution.train import open_session, train
from brainalign.protocols import find_protocol

SETTINGS = [*FAST[1::2], "target.layer=1"]


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Three subjects who saw the same images: one map from colours to signals, and a little of their own."""
    folder = write_own(tmp_path_factory.mktemp("own") / "data")
    first = np.load(folder / "sub-01/signals.npy")
    for number in (2, 3):
        other = folder / f"sub-{number:02d}"
        shutil.copytree(folder / "sub-01", other)
        rng = np.random.default_rng(number)
        own = first[:, :, 0] @ (np.eye(N_CHANS) + 0.05 * rng.normal(size=(N_CHANS, N_CHANS)))
        noisy = own + 0.5 * rng.normal(size=own.shape)
        np.save(other / "signals.npy", noisy[:, :, None].astype(np.float32))
    return folder


def run(folder, out, cache, subject="03", recipe="shallow-alignment", **how):
    how = {"protocol": "own/inter/v1", "settings": SETTINGS} | how
    return train(recipe, dataset=str(folder), subject=subject, out=out, cache=cache, device="cpu", **how)


def test_the_left_out_subject_is_found(people, tmp_path, shared_cache):
    result = run(people, tmp_path / "run", shared_cache)
    assert result.training_subjects == ["01", "02"]
    assert result.leaves_out
    assert result.metrics.test.n_queries == result.metrics.test.n_way == N_IMAGES // 6
    assert result.metrics.test.top1 > 0.4
    assert result.metrics.test.permutation_p < 0.01
    assert result.metrics.validation.n_queries == 2 * result.metrics.validation.n_way
    assert result.test_reads == 1
    page = (tmp_path / "run/report.html").read_text()
    assert "subject 03 (left out)" in page
    assert "Training subjects" in page


def test_nothing_of_it_but_the_test_part_is_read(people, tmp_path, shared_cache):
    """Other numbers in its training part change nothing."""
    session = open_session(str(people), protocol="own/inter/v1", device="cpu", cache=shared_cache)
    test = set(session.split("03", 0).test)
    poisoned = tmp_path / "data"
    shutil.copytree(people, poisoned)
    file = poisoned / "sub-03/signals.npy"
    signals = np.load(file)
    names = [f"i{i:03d}" for _ in (1, 2) for i in range(N_IMAGES)]
    hidden = [row for row, name in enumerate(names) if name not in test]
    signals[hidden] = np.random.default_rng(9).normal(size=signals[hidden].shape) * 100
    np.save(file, signals)
    a, b = run(people, tmp_path / "a", shared_cache), run(poisoned, tmp_path / "b", shared_cache)
    assert a.metrics == b.metrics
    with np.load(tmp_path / "a/predictions.npz") as x, np.load(tmp_path / "b/predictions.npz") as y:
        assert np.array_equal(x["similarity"], y["similarity"])


def test_nobody_trains_on_a_test_image(people, shared_cache):
    session = open_session(str(people), protocol="own/inter/v1", device="cpu", cache=shared_cache)
    split = session.split("03", 0)
    signals = session.development("03", 0, _recipe(session).signals)
    assert [r.subject for r in signals] == ["01", "02"]
    assert all(not set(split.test) & set(r.index) for r in signals)


def _recipe(session):
    from brainalign.execution.train import resolve_recipe

    return resolve_recipe("shallow-alignment", session, SETTINGS)


def test_a_sweep_over_left_out_subjects(people, tmp_path, shared_cache):
    found = sweep(
        "shallow-alignment", over=["subject", "layer=0,1"], dataset=str(people), out=tmp_path / "s", cache=shared_cache,
        device="cpu", protocol="own/inter/v1", settings=SETTINGS[:-1],
    )  # fmt: skip
    assert [c["subject"] for c in found["conditions"]] == ["01", "02", "03"]
    subjects = [read_result(tmp_path / "s" / c["run"]).training_subjects for c in found["conditions"]]
    assert subjects == [["02", "03"], ["01", "03"], ["01", "02"]]


def test_one_subject_alone_is_refused(tmp_path, shared_cache):
    folder = write_own(tmp_path / "data")
    with pytest.raises(InputError, match="no subject besides '01'"):
        run(folder, tmp_path / "run", shared_cache, subject="01")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["things-eeg2", "virtual-eeg", "own"])
def test_who_trains(name):
    protocol = find_protocol(f"{name}/inter/v1")
    assert protocol.training_subjects("2", ("1", "2", "3")) == ("1", "3")
    assert find_protocol(f"{name}/intra/v1").training_subjects("2", ("1", "2", "3")) == ("2",)
