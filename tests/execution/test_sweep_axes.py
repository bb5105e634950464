"""Axes that depend on one another, mixtures, the closed-form family, and comparisons, on own recordings."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from tests_support import FAST, write_own

from brainalign.analysis import analyze
from brainalign.errors import InputError
from brainalign.evaluation.comparison import compare_runs, runs_of
from brainalign.evaluation.hits import hits_of_run
from brainalign.evaluation.result import read_predictions, read_result
from brainalign.execution.axes import slugs
from brainalign.execution.job import Job
from brainalign.execution.rundir import RunDirectory
from brainalign.execution.runs import rebuild_report
from brainalign.execution.sweep import Row, _against_layers, sweep
from brainalign.execution.train import open_session, resolve_recipe, train
from brainalign.recipes import load_recipe
from brainalign.report.analysis_page import write_analysis
from brainalign.report.words import points

SETTINGS = FAST[1::2]


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return str(write_own(tmp_path_factory.mktemp("own") / "data"))


@pytest.fixture(scope="module")
def runs(own, tmp_path_factory, shared_cache):
    """One layer, a mixture and the closed-form model on the same images, and sweeps of the last two over seeds."""
    out = tmp_path_factory.mktemp("runs")
    common = {"dataset": own, "cache": shared_cache, "device": "cpu"}
    train("shallow-alignment", out=out / "one", settings=[*SETTINGS, "target.layer=1"], **common)
    train("shallow-alignment", out=out / "mixed", settings=[*SETTINGS, "target.layers=[0, 1, head]"], **common)
    train("generative", out=out / "closed", settings=[*SETTINGS, "target.layers=[0, 1]"], **common)
    for name, layer in (("sweep-one", "1"), ("sweep-mixed", "0+1")):
        settings = [*SETTINGS, f"target.layer={layer}"]
        sweep("shallow-alignment", over=["seed=0,1"], out=out / name, settings=settings, **common)
    return out


def table(folder):
    with open(folder / "sweep.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_each_backbone_has_its_own_layers(own, tmp_path, shared_cache):
    sweep(
        "shallow-alignment", over=["backbone=timm:test_resnet,timm:test_efficientnet", "layer"], dataset=own,
        out=tmp_path / "s", settings=SETTINGS, cache=shared_cache, device="cpu",
    )  # fmt: skip
    found = [(row["backbone"].removeprefix("timm:"), row["layer"]) for row in table(tmp_path / "s")]
    assert found == [
        *(("test_resnet", n) for n in ("0", "1", "2", "3", "head", "final")),
        *(("test_efficientnet", n) for n in ("0", "1", "2", "3", "4", "head", "final")),
    ]


def test_a_mixture_is_a_value_of_the_layer_axis(own, tmp_path, shared_cache):
    sweep(
        "shallow-alignment", over=["layer=0,0+1+head"], dataset=own, out=tmp_path / "s", settings=SETTINGS,
        cache=shared_cache, device="cpu",
    )  # fmt: skip
    single, mixed = table(tmp_path / "s")
    assert (single["layer"], mixed["layer"]) == ("0", "0+1+head")
    assert float(mixed["depth"]) == pytest.approx((0 + 1 / 3 + 1) / 3, abs=1e-4)
    results = [read_result(tmp_path / "s" / row["run"]) for row in (single, mixed)]
    assert results[0].target.layer_weights is None
    assert sum(results[1].target.layer_weights) == pytest.approx(1, abs=1e-5)
    assert results[1].target.layers == ["0", "1", "head"]


def test_another_encoder_starts_from_its_own_options(own, tmp_path, shared_cache):
    settings = [*SETTINGS, "target.layer=1", "encoder.options={bias: false}"]
    sweep(
        "shallow-alignment", over=["encoder=linear,mlp"], dataset=own, out=tmp_path / "s", settings=settings,
        cache=shared_cache, device="cpu",
    )  # fmt: skip
    assert [row["encoder"] for row in table(tmp_path / "s")] == ["linear", "mlp"]
    options = load_recipe("shallow-alignment", modality="eeg", overrides=["encoder.name=tsconv"]).encoder.options
    assert options == {}
    kept = load_recipe("shallow-alignment", modality="eeg", overrides=["encoder.dim=64"]).encoder.options
    assert kept == {"dropout": 0.5}


def test_the_closed_form_run_says_what_it_chose(runs):
    result = read_result(runs / "closed")
    assert (result.encoder, result.selection.epoch) == ("generative", None)
    assert set(result.selection.settings) == {"ridge", "shrinkage"}
    assert result.metrics.test.top1 > 0.3 > result.shuffled.top1
    assert 0 <= result.calibration.error <= 1
    assert result.epochs_exploratory == []
    assert result.target.layer_weights == [0.5, 0.5]
    page = (runs / "closed/report.html").read_text()
    assert "Settings tried on validation" in page
    assert "Layers of the mixture" not in page  # equal weights show nothing
    assert "Layers of the mixture" in (runs / "mixed/report.html").read_text()
    assert "Learning curve" not in page
    stored = read_predictions(runs / "closed")["similarity"].astype(float)
    posterior = np.exp(stored) / np.exp(stored).sum(1, keepdims=True)
    truth = -np.log(np.diag(posterior)).mean()
    assert result.calibration.log_loss == pytest.approx(truth, rel=1e-4)


@pytest.mark.parametrize("recipe", ["generative", "ridge"])
def test_layers_of_closed_form_families_have_no_training_loss(own, tmp_path, shared_cache, recipe):
    sweep(
        recipe, over=["layer=0,1,2"], dataset=own, out=tmp_path / "s", settings=SETTINGS, cache=shared_cache,
        device="cpu",
    )  # fmt: skip
    found = analyze("layers", [tmp_path / "s"], {"n_resamples": 100})
    points = found.numbers["curves"][0]["points"]
    for point, row in zip(points, table(tmp_path / "s"), strict=True):
        chosen = read_result(tmp_path / "s" / row["run"]).selection.settings
        with open(tmp_path / "s" / row["run"] / "history.csv", newline="") as file:
            tried = [{k: float(v) for k, v in line.items()} for line in csv.DictReader(file)]
        (loss,) = {t["validation_loss"] for t in tried if all(t.get(k, v) == v for k, v in chosen.items())}
        assert point["validation_loss"] == pytest.approx(loss)
        assert point["train_loss"] is None
    (losses,) = [figure for figure in found.figures if figure.name == "losses"]
    assert {row["quantity"] for row in losses.rows} == {"validation_loss"}
    assert "Contrastive" not in losses.caption
    assert any(f.kind == "not measured" and f.text.startswith("Training loss") for f in found.findings)
    assert write_analysis(found, tmp_path / "page")


def test_comparing_sweeps_pools_their_chosen_rows(runs, tmp_path):
    found = compare_runs(runs / "sweep-mixed", runs / "sweep-one")
    assert found["conditions"] == 2
    hits = [
        np.concatenate([hits_of_run(run)[1] for run in runs_of(runs / name)]) for name in ("sweep-mixed", "sweep-one")
    ]
    assert found["top1"]["difference"] == pytest.approx(hits[0].mean() - hits[1].mean())
    assert found["n_queries"] == 2 * found["n_images"]
    # One run has one of the two seeds: the sweep's hits are averaged over its seeds.
    found = compare_runs(runs / "sweep-mixed", runs / "one")
    assert found["conditions"] == 1
    alone = hits_of_run(runs / "one")[1]
    assert found["top1"]["difference"] == pytest.approx(hits[0].mean() - alone.mean())
    other = tmp_path / "other"
    shutil.copytree(runs / "one", other)
    result = json.loads((other / "result.json").read_text()) | {"split": 3}
    (other / "result.json").write_text(json.dumps(result))
    with pytest.raises(InputError, match="not tested on the images"):
        compare_runs(runs / "sweep-mixed", other)
    with pytest.raises(InputError, match="not the folder of a run"):
        compare_runs(runs / "one", runs)


def test_runs_beside_one_another_in_one_page(runs):
    page = rebuild_report(
        runs / "closed", beside=[runs / "one", runs / "sweep-mixed"], out=runs / "page.html"
    ).read_text()
    assert "Other runs beside it" in page
    assert page.count("shallow-alignment, layer 1 (grid2)") == 1
    assert page.count("shallow-alignment, layers 0-1 (grid2)") == 2
    found = compare_runs(runs / "closed", runs / "one")["top1"]
    assert points(found["difference"]) in page
    with pytest.raises(InputError, match="is a sweep"):
        rebuild_report(runs / "sweep-mixed", beside=[runs / "one"])


def test_rows_that_differ_in_a_sign_alone_have_folders_of_their_own():
    rows = [{"signals.tmin": value} for value in (-0.1, 0.1, 0.2)]
    names = slugs(rows)
    assert len(set(names)) == 3
    assert names[2] == "signals.tmin-0.2"
    assert names[::-1] == slugs(rows[::-1])  # a folder's name depends on its row


def test_a_condition_where_validation_chose_the_final_layer_counts_in_the_comparison(tmp_path):
    """Two subjects: one chose layer 1 (.75 against .25 of `final`), one chose `final` itself: +.25 over both."""

    def row(subject, layer, hits, *, chosen=False):
        home = RunDirectory(tmp_path / f"{subject}-{layer}")
        similarity = np.where(np.eye(4) > 0, np.array(hits)[:, None] * 2.0 - 1, 0.0)
        ids = np.array([f"i{n}" for n in range(4)])
        home.write_arrays("predictions.npz", {"similarity": similarity, "query_ids": ids, "gallery_ids": ids})
        job = Job(load_recipe("ridge", modality="eeg"), subject)
        fit = {"pooling": "final", "selection": {"validation_loss": 1.0, "validation_mrr": 0.5, "validation_top1": 0.5}}
        return Row(job, {"subject": subject, "layer": layer}, home, fit, chosen)

    rows = [
        row("1", 1, [1, 1, 1, 0], chosen=True), row("1", "final", [1, 0, 0, 0]),
        row("2", 1, [1, 1, 1, 1]), row("2", "final", [1, 1, 0, 0], chosen=True),
    ]  # fmt: skip
    (found,) = _against_layers(rows)
    assert (found["against"], found["conditions"]) == ("layer final", 2)
    assert found["difference"] == pytest.approx((0.5 + 0) / 2)


def test_learning_curves_over_images_and_channels(own, tmp_path, shared_cache):
    sweep(
        "generative", over=["training.n_images=12,36", "signals.n_channels=6,24"], dataset=own, out=tmp_path / "s",
        settings=[*SETTINGS, "target.layers=[0, 1]"], cache=shared_cache, device="cpu",
    )  # fmt: skip
    rows = table(tmp_path / "s")
    found = {(row["training.n_images"], row["signals.n_channels"]): tmp_path / "s" / row["run"] for row in rows}
    assert {key: read_result(run).n_train for key, run in found.items()} == {
        ("12", "6"): 12, ("12", "24"): 12, ("36", "6"): 36, ("36", "24"): 36,
    }  # fmt: skip
    scores = {key: read_result(run).metrics.test.mrr for key, run in found.items()}
    assert scores["36", "24"] > scores["12", "6"]
    with pytest.raises(InputError, match="the split has"):
        train("generative", dataset=own, out=tmp_path / "r", cache=shared_cache, device="cpu",
              settings=[*SETTINGS, "target.layers=[0, 1]", "training.n_images=70"])  # fmt: skip
    assert not (tmp_path / "r").exists()


def test_whitening_knows_the_images_trained_on_only(own, shared_cache):
    """Residuals of each image's two trials around their mean, over the first 12 training images alone, in numpy."""
    session = open_session(own, cache=shared_cache, device="cpu")
    few, all_ = (
        resolve_recipe("ridge", session, [*SETTINGS, "signals.whiten=mvnn", f"training.n_images={n}"])
        for n in ("12", "null")
    )
    trained = session.training_split("01", 0, few).train
    assert len(trained) == 12
    recording = session.recording("01")
    trials = np.stack([np.asarray(recording.read(recording.trials_of(name)))[:, :, 0] for name in trained])
    residuals = (trials - trials.mean(axis=1, keepdims=True)).reshape(24, -1).astype(np.float64)
    sample = residuals.T @ residuals / 12
    found = session.noise("01", 0, few)
    # Shrinkage leaves the trace as it is and every other entry smaller.
    assert np.trace(found) == pytest.approx(np.trace(sample), rel=1e-5)
    assert not np.allclose(found, session.noise("01", 0, all_), rtol=0.05)


def test_subjects_are_names_not_numbers(own, tmp_path, shared_cache):
    sweep(
        "shallow-alignment", over=["subject=01"], dataset=own, out=tmp_path / "s", cache=shared_cache, device="cpu",
        settings=[*SETTINGS, "target.layer=1", "training.epochs=2"],
    )  # fmt: skip
    assert [row["subject"] for row in table(tmp_path / "s")] == ["01"]
