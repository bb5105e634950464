"""decode, encode and convert on one foundation run of two modalities; scores are counted here by hand."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from foundation_support import MEG_CHANS, QUICK, two_way, write_pair
from tests_support import N_IMAGES

from brainalign.alignment.foundation import FoundationAligner
from brainalign.cli.main import run as cli
from brainalign.errors import InputError
from brainalign.execution.foundation import train_foundation
from brainalign.features import load_backbone
from brainalign.tasks.convert_run import convert_runs
from brainalign.tasks.decode_run import decode_run
from brainalign.tasks.encode_run import encode_run
from brainalign.tasks.foundation_source import OpenFoundation, source_named
from brainalign.tasks.trained import TrainedRun

SETTINGS = [*QUICK, "target.backbone=timm:test_resnet", "target.layer=1", "training.epochs=60"]
N_TEST = N_IMAGES // 6


@pytest.fixture(scope="module")
def made(tmp_path_factory, shared_cache):
    """Data of two modalities and one run on them; MEG signals are those of the first fMRI subject, mixed."""
    folder = write_pair(tmp_path_factory.mktemp("space"))
    datasets = [str(folder / "scanner"), str(folder / "helmet")]
    out = folder / "run"
    train_foundation("foundation", datasets=datasets, out=out, settings=SETTINGS, cache=shared_cache, closed_form=False)
    return folder


@pytest.fixture
def space(made, shared_cache):
    return OpenFoundation.open(made / "run", root=made, device="cpu", cache=shared_cache)


def averaged(made, name, ids):
    """Mean of the two presentations, by the numbers in the names of images."""
    dataset, _, subject = name.rpartition("-")
    trials = np.load(made / dataset / f"sub-{subject}/signals.npy").astype(np.float64)
    numbers = [int(one.rpartition("i")[2].removesuffix(".png")) for one in ids]
    return ((trials[numbers] + trials[[n + N_IMAGES for n in numbers]]) / 2).astype(np.float32)


def shown_in_test(made, name):
    """Test images of a source, as its run wrote them down."""
    with np.load(made / f"run/sources/{name}/predictions.npz") as file:
        return [str(one) for one in file["query_ids"]]


def embedded(made, name, ids):
    model = FoundationAligner.load(made / "run/model.safetensors")
    return model.embed_brain(averaged(made, name, ids), source=name).astype(np.float64)


def test_converted_signals_are_the_nearest_in_the_space(made, space, tmp_path):
    out = tmp_path / "found.csv"
    facts = convert_runs(space.source("meg"), space.source("scanner-02"), out=out, top=3)
    ids = shown_in_test(made, "helmet-01")
    assert sorted(ids) == sorted(shown_in_test(made, "scanner-02")) and len(ids) == N_TEST
    ids_b = shown_in_test(made, "scanner-02")
    similarity = embedded(made, "helmet-01", ids) @ embedded(made, "scanner-02", ids_b).T
    with open(out, newline="") as file:
        rows = list(csv.DictReader(file))
    nearest = [ids_b[column] for column in similarity.argmax(axis=1)]
    assert [row["target_showed"] for row in rows if row["rank"] == "1"] == nearest
    assert [row["signal"] for row in rows if row["rank"] == "1"] == ids
    assert float(rows[0]["score"]) == pytest.approx(similarity[0].max(), abs=1e-5)
    assert len(rows) == 3 * N_TEST
    scores = facts["scores"]
    square = similarity[:, [ids_b.index(one) for one in ids]]
    place = (square > np.diag(square)[:, None]).sum(axis=1)
    assert scores["top1"] == pytest.approx((place < 1).mean())
    assert scores["top5"] == pytest.approx((place < 5).mean())
    assert scores["two_way"] == pytest.approx(two_way(square).mean())
    assert scores["pool_size"] == facts["pool_size"] == N_TEST
    assert scores["chance_top1"] == pytest.approx(1 / N_TEST)
    assert scores["top1_ci95"][0] < scores["top1"] < scores["top1_ci95"][1] or scores["top1"] == 1
    assert scores["two_way"] > 0.8 > scores["shuffled"]["two_way"]
    assert facts["anchors"] == "the run's shared space" and facts["n_anchors"] is None
    assert facts["source"]["modality"] == "meg" and facts["target"]["subject"] == "02"
    assert facts["source"]["test_reads"] == facts["target"]["test_reads"] == 2


def test_normalised_by_the_targets_own_decoding_and_its_control(made, space, tmp_path):
    scores = convert_runs(space.source("meg"), space.source("scanner-01"), out=tmp_path / "x.json")["scores"]
    with np.load(made / "run/sources/scanner-01/predictions.npz") as file:
        own, order = file["similarity"], [str(one) for one in file["query_ids"]]
        columns = [list(map(str, file["gallery_ids"])).index(one) for one in order]
    decoding = two_way(own[:, columns]).mean()
    assert scores["target_two_way"] == pytest.approx(decoding)
    assert scores["normalised"] == pytest.approx(scores["two_way"] / decoding)
    assert scores["chance_normalised"] == pytest.approx(0.5 / decoding)
    ids = shown_in_test(made, "helmet-01")
    brain = embedded(made, "scanner-01", ids)[np.random.default_rng(0).permutation(N_TEST)]
    dealt = embedded(made, "helmet-01", ids) @ brain.T
    assert scores["shuffled"]["two_way"] == pytest.approx(two_way(dealt).mean())
    assert "images of the target signals dealt anew" in scores["shuffled_is"]
    held = json.loads((tmp_path / "x.json").read_text())
    assert held["scores"] == scores and len(held["rows"]) == 5 * N_TEST


def test_new_signals_from_a_file_are_converted_and_not_scored(made, space, tmp_path):
    new = np.load(made / "helmet/sub-01/signals.npy")[:7]
    np.save(tmp_path / "new.npy", new)
    facts = convert_runs(
        space.source("helmet-01"), space.source("scanner-01"), out=tmp_path / "found.csv",
        signals=tmp_path / "new.npy", top=1,
    )  # fmt: skip
    assert facts["scores"] is None
    assert facts["source"]["test_reads"] == 1
    assert any("order of the run" in note for note in facts["notes"])
    model = FoundationAligner.load(made / "run/model.safetensors")
    pool = shown_in_test(made, "scanner-01")
    similarity = model.embed_brain(new, source="helmet-01") @ embedded(made, "scanner-01", pool).T
    with open(tmp_path / "found.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["target_signal"]) for row in rows] == similarity.argmax(axis=1).tolist()
    np.save(tmp_path / "odd.npy", new[:, :5])
    with pytest.raises(InputError, match=f"has 5 channels, the run takes {MEG_CHANS} channels x 4 samples"):
        convert_runs(
            space.source("meg"), space.source("scanner-01"), out=tmp_path / "odd.csv", signals=tmp_path / "odd.npy"
        )
    assert not (tmp_path / "odd.csv").exists()


def test_nothing_is_generated(space, tmp_path):
    with pytest.raises(InputError, match=r"generates no signal.*two runs of the recipe generative"):
        convert_runs(space.source("meg"), space.source("scanner-01"), out=tmp_path / "x.npz", how="generate")
    with pytest.raises(InputError, match="a foundation run generates no signal"):
        encode_run(space.source("meg"), images="test", out=tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("fmri", "2 sources were measured with fmri.*scanner-01, scanner-02"),
        (None, "3 sources, none is named.*helmet-01"),
        ("scaner-01", "did you mean 'scanner-01'"),
        ("eeg", "eeg"),
    ],
)
def test_which_source_is_meant(space, asked, said):
    with pytest.raises(InputError, match=said):
        space.source(asked, where="--target")
    assert source_named(space.document, "meg") == source_named(space.document, "helmet-01") == "helmet-01"


def test_decoding_one_source(made, space, tmp_path):
    new = np.load(made / "scanner/sub-02/signals.npy")
    ids = shown_in_test(made, "scanner-02")
    np.save(tmp_path / "new.npy", averaged(made, "scanner-02", ids))
    (tmp_path / "truth.txt").write_text("\n".join(ids) + "\n")
    gallery = tmp_path / "gallery"
    gallery.mkdir()
    for one in ids:
        shutil.copy(made / f"scanner/images/{one.removesuffix('.png')}.png", gallery)
    facts = decode_run(
        space.source("scanner-02"), signals=tmp_path / "new.npy", gallery=gallery, out=tmp_path / "found.csv",
        truth=tmp_path / "truth.txt",
    )  # fmt: skip
    stored = json.loads((made / "run/sources/scanner-02/result.json").read_text())["metrics"]["test"]
    assert facts["scores"]["top1"] == pytest.approx(stored["top1"])
    assert facts["scores"]["two_way"] == pytest.approx(stored["two_way"])
    assert any(note.startswith("a foundation run has no probabilities") for note in facts["notes"])
    assert new.shape[1] == 27 and facts["subject"] == "02"


def test_encoding_retrieves_recorded_signals_of_one_source(made, space, tmp_path):
    facts = encode_run(space.source("meg"), images="test", out=tmp_path / "found.csv", how="retrieve", top=1)
    with np.load(made / "run/sources/helmet-01/predictions.npz") as file:
        best = file["similarity"].argmax(axis=0)
        expected = {str(g): str(file["query_ids"][row]) for g, row in zip(file["gallery_ids"], best, strict=True)}
    with open(tmp_path / "found.csv", newline="") as file:
        assert {row["image"]: row["signal_showed"] for row in csv.DictReader(file)} == expected
    assert facts["pool_size"] == N_TEST and facts["scores"]["two_way"] > 0.6


def test_scores_of_virtual_signals_are_called_so(made, tmp_path, capsys, shared_cache, monkeypatch):
    words = [
        "convert",
        str(made / "run"),
        "--source",
        "meg",
        "--target",
        "scanner-01",
        "--out",
        str(tmp_path / "a.csv"),
    ]
    words += ["--root", str(made), "--cache", str(shared_cache), "--device", "cpu", "-q"]
    assert cli(words) == 0 and "VIRTUAL" not in capsys.readouterr().out
    monkeypatch.setattr(
        "brainalign.tasks.convert_run.convert_runs", lambda *a, **k: convert_runs(*a, **k) | {"virtual": True}
    )
    assert cli(words) == 0 and capsys.readouterr().out.startswith("VIRTUAL data: converted")


def test_as_typed(made, tmp_path, capsys, shared_cache):
    common = ["--root", str(made), "--cache", str(shared_cache), "--device", "cpu", "-q"]
    base = ["convert", str(made / "run")]
    out = tmp_path / "found.csv"
    capsys.readouterr()
    assert cli([*base, "--source", "meg", "--target", "scanner-01", "--out", str(out), *common]) == 0
    shown = capsys.readouterr().out
    assert "converted (retrieve) through the run's shared space" in shown and "normalised two-way" in shown
    for words, said in (
        (["--source", "meg", "--target", "fmri"], "--target"),
        (["--target", "meg"], "--source"),
        (["--source", "meg", "--target", "meg"], "is the source run too"),
        (["--source", "meg", "--target", "scanner-01", "--how", "generate"], "ends in '.csv'"),
    ):
        assert cli([*base, *words, "--out", str(tmp_path / "bad.csv"), *common]) == 2, words
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1 and said in error, error
        assert not (tmp_path / "bad.csv").exists()


def test_a_source_folder_alone_is_refused_with_the_way_out(made):
    with pytest.raises(InputError, match="--source helmet-01"):
        TrainedRun.open(made / "run/sources/helmet-01")


def test_lint_notes_of_every_source_are_kept_and_shown(made):
    document = json.loads((made / "run/foundation.json").read_text())
    for one in document["sources"]:
        held = json.loads((made / "run" / one["folder"] / "result.json").read_text())
        assert one["lint"] == held["lint"] and any(f["code"] == "validation-by-image" for f in one["lint"])
    assert document["always_said"] == []
    page = (made / "run/report.html").read_text()
    assert "Validation holds out images, not concepts" in page


def test_another_image_model_under_the_same_name_is_refused(made, tmp_path, shared_cache):
    """As after a hub replaced a file: the run keeps what its features were made with, a task compares."""
    shutil.copytree(made / "run", tmp_path / "run")
    fit = json.loads((tmp_path / "run/fit.json").read_text())
    ((backbone, weights),) = fit["weights"].items()
    assert weights == load_backbone(backbone, weights="random").weights_hash
    (tmp_path / "run/fit.json").write_text(json.dumps({**fit, "weights": {backbone: "0" * 64}}))
    space = OpenFoundation.open(tmp_path / "run", root=made, cache=shared_cache, device="cpu")
    with pytest.raises(InputError, match=f"was trained with other weights of {backbone} \\(000000000000, here"):
        encode_run(space.source("meg"), images=str(made / "helmet/images"), out=tmp_path / "a.csv", how="retrieve")
