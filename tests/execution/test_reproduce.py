"""A published table, ours beside theirs, on a small THINGS-EEG2 in the published layout."""

from __future__ import annotations

import csv
import json

import pytest
from published_support import QUICK, write_things_eeg2

from brainalign.errors import InputError
from brainalign.evaluation.result import read_result
from brainalign.execution.reproduce import reproduce

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
    assert document["cells_measured"] == 4
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
    assert cells["rn50/inter-best/top1"]["status"] != "measured"
    assert "inter" in cells["rn50/inter-best/top1"]["reason"]


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
        assert "not measured" in text
        assert "67.7" in text
    assert "<script" not in page
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
