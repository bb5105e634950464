"""A published table, ours beside theirs, on a small THINGS-EEG2 in the published layout."""

from __future__ import annotations

import contextlib
import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from published_support import QUICK, write_things_eeg2

from brainalign.datasets.things_eeg2 import ThingsEEG2
from brainalign.errors import InputError
from brainalign.evaluation import Interval
from brainalign.evaluation.result import read_result
from brainalign.execution import reproduce as module
from brainalign.execution.progress import Silent
from brainalign.execution.reproduce import reproduce
from brainalign.execution.reproduce_plan import same_subject, too_large
from brainalign.execution.reproduce_scores import difference
from brainalign.recipes.published_tables import Value

STAND_IN = {"rn50": "timm:test_resnet"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_things_eeg2(tmp_path_factory.mktemp("eeg2"))


@pytest.fixture(scope="module")
def backbones(root, tmp_path_factory, shared_cache):
    out = tmp_path_factory.mktemp("table") / "out"
    document = reproduce(
        "shallow-alignment/backbones", out=out, root=root, only="rn50/*", settings=QUICK, backbones=STAND_IN,
        cache=shared_cache, device="cpu",
    )  # fmt: skip
    return out, document


def validation(run):
    """What a layer is chosen by: the highest mean reciprocal rank, then the lowest loss."""
    row = json.loads((run / "fit.json").read_text())["selection"]
    return (-row["validation_mrr"], row["validation_loss"])


def test_cells_that_can_be_measured_are_and_the_others_say_why(backbones):
    out, document = backbones
    cells = {cell["id"]: cell for cell in document["cells"]}
    assert document["cells_measured"] == 8
    final = cells["rn50/intra-final/top1"]
    assert final["status"] == "measured"
    assert final["published"]["value"] == 40.3
    assert list(final["measured"]["layers"]) == ["final"]
    assert "timm:test_resnet stands in for rn50" in final["measured"]["marks"]
    best = cells["rn50/intra-best/top1"]["measured"]
    runs = [path.parent for path in (out / best["run"]).glob("runs/*/result.json")]
    ours = {}
    for subject in ("01", "02"):
        rows = [r for r in runs if f"subject-{subject}" in r.name and "layer-final" not in r.name]
        chosen = min(rows, key=validation)
        ours[subject] = read_result(chosen).metrics.test.top1
    assert best["ours"] == pytest.approx(100 * sum(ours.values()) / 2)
    left_out = cells["rn50/inter-best/top1"]["measured"]
    inter = read_result(next((out / left_out["run"]).glob("runs/*subject-01*")))
    assert inter.protocol == "things-eeg2/inter/v1"
    assert inter.training_subjects == ["02"]


def test_another_gallery_is_not_compared(backbones):
    for cell in backbones[1]["cells"]:
        if cell["measured"]:
            assert cell["measured"]["n_way"] == 20
            assert cell["measured"]["difference"] is None
            assert "gallery" in cell["measured"]["not_comparable"]


def test_tables_are_written_in_every_form(backbones):
    out, document = backbones
    assert json.loads((out / "reproduce.json").read_text())["cells"] == document["cells"]
    with open(out / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(document["cells"])
    markdown, page = (out / "table.md").read_text(), (out / "table.html").read_text()
    for text in (markdown, page):
        assert "67.7" in text
    assert "<script src" not in page
    assert 'src="http' not in page
    assert "chose its layer on the test set" in page


def test_a_second_call_only_reads(backbones, root, shared_cache, monkeypatch):
    out, document = backbones
    monkeypatch.setattr("brainalign.execution.train.fit_jobs", lambda *a, **k: pytest.fail("trained again"))
    again = reproduce(
        "shallow-alignment/backbones", out=out, root=root, only="rn50/*", settings=QUICK, backbones=STAND_IN,
        cache=shared_cache, device="cpu",
    )  # fmt: skip
    assert again["cells"] == document["cells"]
    with pytest.raises(InputError):
        reproduce("shallow-alignment/encoders", out=out, root=root, only="eegnet/*", cache=shared_cache)


def test_encoders_and_projectors_run_too(root, tmp_path, shared_cache):
    settings = [*QUICK, "training.epochs=2"]
    common = {"root": root, "settings": settings, "backbones": STAND_IN, "cache": shared_cache, "device": "cpu"}
    document = reproduce(
        "shallow-alignment/encoders", out=tmp_path / "e", only="eegproject/rn50/*", subjects=["01"], **common
    )
    assert [cell["status"] for cell in document["cells"]] == ["measured"]
    document = reproduce("shallow-alignment/projectors", out=tmp_path / "p", only="*rn50*", subjects=["01"], **common)
    assert document["cells_measured"] >= 2


def test_without_data_nothing_is_measured(tmp_path, shared_cache):
    document = reproduce("shallow-alignment/meg", out=tmp_path / "m", cache=shared_cache)
    assert document["cells_measured"] == 0
    assert all(cell["reason"] for cell in document["cells"])


@pytest.fixture(scope="module")
def way200(tmp_path_factory):
    return write_things_eeg2(tmp_path_factory.mktemp("eeg2-200"), n_test=200)


SHORT = [*QUICK, "target.candidates=[stage1,stage3]"]


def short(root, out, cache, **changes):
    given = {"only": "rn50/intra*", "settings": SHORT, "backbones": STAND_IN, "cache": cache, "device": "cpu"}
    return reproduce("shallow-alignment/backbones", out=out, root=root, **given | changes)


@pytest.fixture(scope="module")
def compared(way200, tmp_path_factory, shared_cache):
    out = tmp_path_factory.mktemp("compared") / "out"
    return out, {cell["id"]: cell for cell in short(way200, out, shared_cache)["cells"]}


def sweep_rows(out, cell):
    with open(out / cell["measured"]["run"] / "sweep.csv", newline="") as file:
        return list(csv.DictReader(file))


def hits(folder, k):
    """Whether the shown image is among the k most similar, by sorting."""
    stored = np.load(folder / "predictions.npz")
    order = np.argsort(-stored["similarity"], axis=1)[:, :k]
    return (stored["gallery_ids"][order] == stored["query_ids"][:, None]).any(axis=1)


@pytest.mark.parametrize(("metric", "k", "published"), [("top1", 1, 67.7), ("top5", 5, 91.8)])
def test_the_difference_is_ours_minus_theirs(compared, metric, k, published):
    out, cells = compared
    cell = cells[f"rn50/intra-best/{metric}"]
    rows = [row for row in sweep_rows(out, cell) if row["layer"] != "final"]
    means = []
    for subject in ("01", "02"):
        mine = [row for row in rows if row["subject"] == subject]
        best = min(mine, key=lambda row: (-float(row["validation_mrr"]), float(row["validation_loss"])))
        means.append(100 * hits(out / cell["measured"]["run"] / best["run"], k).mean())
    found = cell["measured"]
    assert found["n_way"] == 200
    assert found["ours"] == pytest.approx(np.mean(means))
    assert found["difference"] == pytest.approx(np.mean(means) - published)
    np.testing.assert_allclose(found["difference_ci95"], np.array(found["ours_ci95"]) - published)
    assert found["ours_ci95"][0] < found["ours"] < found["ours_ci95"][1]
    assert found["not_comparable"] == ""


def test_the_exploratory_column_is_one_layer_chosen_on_test(compared):
    out, cells = compared
    cell = cells["rn50/intra-best/top1"]
    by_layer = {}
    for row in sweep_rows(out, cell):
        if row["layer"] != "final":
            by_layer.setdefault(row["layer"], []).append(100 * float(row["test_top1"]))
    assert len(by_layer) == 2
    other = cell["measured"]["exploratory"]
    assert other["value"] == pytest.approx(max(np.mean(values) for values in by_layer.values()))
    assert np.mean(by_layer[other["layer"]]) == pytest.approx(other["value"])
    assert other["inflation_gap"] == pytest.approx(other["value"] - cell["measured"]["ours"])
    assert cells["rn50/intra-final/top1"]["measured"]["exploratory"] is None


def test_remarks_say_what_was_done_otherwise(compared):
    marks = compared[1]["rn50/intra-best/top1"]["measured"]["marks"]
    assert "random weights" in marks
    assert "changed settings" in marks
    assert "2 of 10 subjects (01, 02)" in marks
    assert "1 seed, theirs 5" in marks


def test_virtual_data_is_called_so_and_never_compared(way200, tmp_path, shared_cache, monkeypatch):
    monkeypatch.setattr(ThingsEEG2, "info", replace(ThingsEEG2.info, virtual=True))
    changes = {"subjects": ["01"], "settings": [*SHORT, "training.epochs=1"], "only": "rn50/intra-best/*"}
    document = short(way200, tmp_path / "out", shared_cache, **changes)
    assert document["virtual"]
    for cell in document["cells"]:
        assert cell["measured"]["not_comparable"] == "virtual data"
        assert cell["measured"]["difference"] is None
        assert cell["measured"]["difference_ci95"] is None
    page, text = ((tmp_path / "out" / name).read_text() for name in ("table.html", "table.md"))
    assert "VIRTUAL DATA" in page
    assert "VIRTUAL DATA" in text
    for shown in (page, text):
        assert "not compared: virtual data" in shown
        assert "ours (VIRTUAL data)" in shown
    with open(tmp_path / "out/table.csv", newline="") as file:
        assert {(row["virtual"], row["difference"]) for row in csv.DictReader(file)} == {("1", "")}


class Killed(BaseException):
    pass


class KillAtTraining(Silent):
    """Stops the program when training begins for the second time."""

    left = 2

    @contextlib.contextmanager
    def step(self, text):
        self.left -= text.startswith("training")
        if self.left == 0:
            raise Killed
        yield lambda done, total: None


def test_a_killed_call_goes_on_and_ends_alike(way200, compared, tmp_path, shared_cache):
    with pytest.raises(Killed):
        short(way200, tmp_path / "out", shared_cache, reporter=KillAtTraining())
    assert list((tmp_path / "out/cells").glob("*/runs/*/fit.json"))
    assert not (tmp_path / "out/reproduce.json").exists()
    again = short(way200, tmp_path / "out", shared_cache)
    assert {cell["id"]: cell for cell in again["cells"]} == compared[1]


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (InputError("pretrained weights cannot be had", where="open_clip:RN50/openai"), "weights cannot be had"),
        (MemoryError(), "ran out of memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), "ran out of memory"),
    ],
)
def test_what_a_sweep_cannot_do_is_the_reason(root, tmp_path, shared_cache, monkeypatch, failure, said):
    def fail(*args, **kwargs):
        raise failure

    monkeypatch.setattr(module, "sweep", fail)
    document = short(root, tmp_path / "out", shared_cache)
    assert document["cells_measured"] == 0
    assert all(said in cell["reason"] for cell in document["cells"])


def test_errors_of_the_own_folder_and_bugs_are_not_reasons(root, tmp_path, shared_cache, monkeypatch):
    def full(*args, out, **kwargs):
        raise InputError("the disk is full", where=out / "runs")

    monkeypatch.setattr(module, "sweep", full)
    with pytest.raises(InputError, match="disk is full"):
        short(root, tmp_path / "out", shared_cache)

    def bug(*args, **kwargs):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(module, "sweep", bug)
    with pytest.raises(RuntimeError, match="shapes"):
        short(root, tmp_path / "out", shared_cache)


def test_models_too_large_for_memory_are_not_loaded(tmp_path, monkeypatch):
    gib = 2**30
    monkeypatch.setattr("brainalign.execution.reproduce_plan.free_bytes", lambda device: 8 * gib)
    reason = too_large("internvit-6b", "cpu", tmp_path)
    assert reason.startswith("internvit-6b needs about 25 GiB, 8 GiB of memory are free")  # 5.54e9 * 4 bytes * 1.2
    assert too_large("rn50", "cpu", tmp_path) == ""
    assert too_large("timm:whatever", "cpu", tmp_path) == ""
    kept = tmp_path / "features" / "hf-OpenGVLab_InternViT-6B-448px-V1-5"
    kept.mkdir(parents=True)
    assert too_large("internvit-6b", "cpu", tmp_path) == ""  # its features are here already


def test_a_printed_deviation_widens_the_interval():
    ours = Interval(0.50, 0.46, 0.53, 0.95, "clopper-pearson")
    assert difference(ours, Value(value=48.0)) == pytest.approx((2.0, -2.0, 5.0))
    apart, low, high = difference(ours, Value(value=48.0, sd=1.5))
    assert (apart - low, high - apart) == pytest.approx((math.sqrt(16 + 2.94**2), math.sqrt(9 + 2.94**2)), abs=1e-3)


def test_subjects_are_the_same_by_number():
    assert same_subject("1", ["01", "02", "10"]) == "01"
    assert same_subject("10", ["P1", "P10"]) == "P10"
    assert same_subject("3", ["01", "02"]) is None


def test_other_data_than_the_cells_need(root, tmp_path, shared_cache):
    document = reproduce("neuroalign/table4", out=tmp_path / "t", root=root, dataset="things-eeg2", cache=shared_cache)
    reasons = {cell["id"]: cell["reason"] for cell in document["cells"]}
    assert "run: brainalign captions" in reasons["without-dla/eeg-intra/top1"]
    assert "needs the data set things-meg" in reasons["full/meg-intra/top1"]
    assert document["cells_measured"] == 0
    for name in ("table.md", "table.html"):
        assert "not measured" in (tmp_path / "t" / name).read_text()
