"""Stacks of made run folders: weights, test scores, provenance, report, refusals, and the command."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from scipy.special import log_softmax

from brainalign.cli.main import run as cli
from brainalign.errors import InputError
from brainalign.evaluation.comparison import compare_runs
from brainalign.evaluation.result import Result, read_predictions, read_result
from brainalign.execution.stack import stack_runs
from brainalign.report.stack_file import read_stack
from brainalign.report.stack_report import write_stack_report

N_VALIDATION, N_TEST = 80, 60


def matrix(seed, strength, n, size):
    rng = np.random.default_rng(seed)
    return (size * (rng.normal(size=(n, n)) + strength * np.eye(n))).astype(np.float32)


def score(similarity, repetitions):
    n = len(similarity)
    rank = (similarity > similarity.diagonal()[:, None]).sum(1) + 1
    top1 = float((rank == 1).mean())
    shares = {"top1": top1, "top5": float((rank <= 5).mean()), "two_way": 0.9, "mrr": float((1 / rank).mean())}
    intervals = {"top1_ci95": [0.0, 1.0], "top5_ci95": [0.0, 1.0]}
    chance = {"chance_top1": 1 / n, "chance_top5": 5 / n, "permutation_p": 0.001, "median_rank": 1.0}
    return {"n_way": n, "n_queries": n, "repetitions": repetitions, **shares, **intervals, **chance}


def write_run(folder, number, *, strength=2.0, size=1.0, order=None, layers=("5",), **changes):
    """A finished run; `order` permutes its images."""
    folder.mkdir()
    curve = "".join(f"{epoch},{5 - 0.3 * epoch},{5 - 0.2 * epoch}\n" for epoch in range(1, 11))
    (folder / "history.csv").write_text(f"epoch,train_loss,validation_loss\n{curve}")
    matrices = {}
    for name, n, start in (("validation", N_VALIDATION, 0), ("predictions", N_TEST, 500)):
        similarity = matrix(number + start, strength, n, size)
        ids = np.array([f"{name[0]}{k:03d}" for k in range(n)])
        places = np.arange(n) if order is None else np.random.default_rng(order).permutation(n)
        similarity, ids = similarity[np.ix_(places, places)], ids[places]
        np.savez_compressed(folder / f"{name}.npz", similarity=similarity, query_ids=ids, gallery_ids=ids)
        matrices[name] = similarity
    target = {"backbone": "pip:efficientnet-lite0", "layers": list(layers), "depth": 0.3, "pooling": "grid4"}
    document = {
        "schema": "brainalign.result/1", "recipe": "shallow-alignment", "profile": "", "budget": "full",
        "config_hash": f"{number:064d}", "dataset": "made", "virtual": False, "modality": "fmri", "protocol": "made/v1",
        "subject": "1", "split": 0, "seed": 3, "target": target, "encoder": "linear",
        "selection": {"metric": "validation_loss", "split": "validation", "epoch": 7, "layer_chosen_on": "given"},
        "metrics": {"test": score(matrices["predictions"], 4), "validation": score(matrices["validation"], 4)},
        "shuffled": {"top1": 0.01}, "inflation_gap_top1": 0.02, "epochs_exploratory": [],
        "lint": [{"code": "validation-by-image", "severity": "note", "text": "Validation holds out images."}],
        "test_reads": 1, "timing": {"features_s": 1.0, "train_s": 10.0, "total_s": 12.0},
        "environment": {"python": "3.11"}, "split_fingerprint": "ab" * 32, "validation_kind": "image-disjoint",
        "n_train": 500, "data": {"licence": "CC0", "citation": "made", "url": "https://example.org"},
    }  # fmt: skip
    result = Result.model_validate(document | changes)
    (folder / "result.json").write_text(json.dumps(result.model_dump(mode="json")))
    return folder


@pytest.fixture
def runs(tmp_path):
    """Two that see different things on scales 100 apart, and one that sees nothing."""
    return [
        write_run(tmp_path / "first", 1, size=0.3),
        write_run(tmp_path / "second", 2, size=30.0, order=9, layers=("5", "7"), seed=1, test_reads=2),
        write_run(tmp_path / "noise", 3, strength=0.0),
    ]


def stored(folder, name):
    """Similarity in the order of the names."""
    file = np.load(folder / f"{name}.npz")
    order = np.argsort(file["query_ids"])
    return file["similarity"][np.ix_(order, order)].astype(float)


def loss(logits):
    return float(-log_softmax(logits, axis=1).diagonal().mean())


def test_a_stack_is_a_run_that_is_better_than_its_members(runs, tmp_path):
    out = tmp_path / "out" / "stack"
    result = stack_runs(runs, out)
    assert result == read_result(out)
    stack = read_stack(out)
    assert [m.name for m in stack.members] == ["first", "second", "noise"]
    assert [m.config_hash for m in stack.members] == [f"{k:064d}" for k in (1, 2, 3)]
    weights = [m.weight for m in stack.members]
    logits = sum(w * stored(run, "predictions") for w, run in zip(weights, runs, strict=True))
    np.testing.assert_allclose(stored(out, "predictions"), logits - logits.max(axis=1, keepdims=True), atol=1e-4)
    assert result.metrics.test.top1 == pytest.approx((logits.argmax(1) == np.arange(N_TEST)).mean())
    assert result.metrics.test.top1 > max(m.test_top1 for m in stack.members) + 0.1
    assert read_predictions(out)["query_ids"] == read_predictions(runs[0])["query_ids"]
    assert stack.members[2].share < 0.1
    assert sum(m.share for m in stack.members) == pytest.approx(1)
    assert weights[0] / weights[1] == pytest.approx(100, rel=0.5)


def test_validation_scores_are_those_of_left_out_queries(runs, tmp_path):
    result, stack = stack_runs(runs, tmp_path / "stack"), read_stack(tmp_path / "stack")
    logits = sum(m.weight * stored(run, "validation") for m, run in zip(stack.members, runs, strict=True))
    assert stack.fitted_loss == pytest.approx(loss(logits), abs=1e-6)
    held = stored(tmp_path / "stack", "validation")
    assert stack.validation_loss == pytest.approx(loss(held), abs=1e-5)
    assert stack.validation_loss > stack.fitted_loss
    assert stack.validation_loss < min(m.validation_loss for m in stack.members)
    assert result.metrics.validation.top1 == pytest.approx((held.argmax(1) == np.arange(N_VALIDATION)).mean())


def test_what_the_result_says_of_its_members(runs, tmp_path):
    result = stack_runs(runs, tmp_path / "stack")
    assert (result.recipe, result.encoder, result.seed, result.subject) == ("stacked", "stacked", 1, "1")
    assert result.test_reads == 2
    assert result.target.layers == ["5", "7"]
    assert result.selection.metric == "validation_loss"
    assert list(result.selection.settings) == ["weight of first", "weight of second", "weight of noise"]
    assert [finding.code for finding in result.lint] == ["validation-by-image", "test-known-before-stacking"]
    assert result.timing.train_s >= 30
    assert result.shuffled.top1 is None
    assert result.inflation_gap_top1 == 0
    posterior = np.exp(log_softmax(stored(tmp_path / "stack", "predictions"), axis=1))
    assert result.calibration is not None
    assert result.calibration.log_loss == pytest.approx(-np.log(posterior.diagonal()).mean(), abs=1e-4)
    assert compare_runs(tmp_path / "stack", runs[0])["top1"]["difference"] > 0.1


def test_a_stack_that_validation_does_not_ask_for_says_so(tmp_path):
    good = write_run(tmp_path / "good", 1, strength=2.0)
    others = [write_run(tmp_path / f"noise{k}", 10 + k, strength=0.0) for k in range(10)]
    result = stack_runs([good, *others], tmp_path / "stack", report=False)
    stack = read_stack(tmp_path / "stack")
    assert stack.fitted_loss < stack.members[0].validation_loss <= stack.validation_loss
    (finding,) = [f for f in result.lint if f.code == "stack-no-better"]
    assert "no better than good by itself" in finding.text
    assert not (tmp_path / "stack/report.html").exists()


def test_the_same_twice_and_never_over_another(runs, tmp_path):
    first = stack_runs(runs[:2], tmp_path / "a", report=False)
    second = stack_runs(runs[:2], tmp_path / "b", report=False)
    for name in ("stack.json", "recipe.yaml"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    drop = {"timing"}
    assert first.model_dump(exclude=drop) == second.model_dump(exclude=drop)
    before = (tmp_path / "a/result.json").stat().st_mtime_ns
    assert stack_runs(runs[:2], tmp_path / "a", report=False) == first
    assert (tmp_path / "a/result.json").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="holds another run"):
        stack_runs(runs, tmp_path / "a")
    with pytest.raises(InputError, match="holds another run"):
        stack_runs(runs[:2], runs[2])


def test_stacks_can_be_stacked(runs, tmp_path):
    stack_runs(runs[:2], tmp_path / "a", report=False)
    more = write_run(tmp_path / "more", 4, strength=1.5)
    found = stack_runs([tmp_path / "a", more], tmp_path / "b", report=False)
    assert found.metrics.test.top1 >= read_result(tmp_path / "a").metrics.test.top1


def test_report(runs, tmp_path):
    stack_runs(runs, tmp_path / "stack")
    page = (tmp_path / "stack/report.html").read_text()
    said = ("stacked on made, subject 1", "Runs of the stack", "Test known before stacking", "Other runs beside it")
    for text in (*said, "Weight of second", "stack.json"):
        assert text in page
    assert page.count("shallow-alignment, layer") >= 2
    again = write_stack_report(tmp_path / "stack", None, out=tmp_path / "again.html")
    assert "Other runs beside it" not in again.read_text()
    (tmp_path / "stack/stack.json").write_text('{"schema": "brainalign.stack/1"}')
    with pytest.raises(InputError, match=r"stack.json: prior_sd"):
        write_stack_report(tmp_path / "stack", None)


def rewrite(folder, name, **changes):
    arrays = dict(np.load(folder / name)) | changes
    np.savez_compressed(folder / name, **arrays)


def test_refusals_leave_nothing_behind(runs, tmp_path):
    out = tmp_path / "stack"

    def refused(folders, words):
        with pytest.raises(InputError, match=words):
            stack_runs(folders, out)
        assert not out.exists()

    refused(runs[:1], "two runs or more, got 1")
    refused([runs[0], tmp_path / "absent"], "is not the folder of a run")
    refused([runs[0], runs[0]], "is the same run as")
    shutil.copytree(runs[0], tmp_path / "copy")
    refused([runs[0], tmp_path / "copy"], "is the same run as")
    (runs[2] / "validation.npz").unlink()
    refused(runs, "noise: holds no validation similarities .* train it again")
    (runs[2] / "validation.npz").write_bytes(b"PK\x03\x04 nothing")
    refused(runs, "validation.npz: is damaged")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"subject": "2"}, "has subject 2, .*first has 1"),
        ({"dataset": "other"}, "has dataset other"),
        ({"split_fingerprint": "cd" * 32}, "has split fingerprint cdcd"),
        ({"metrics": {"test": score(np.eye(60), 2), "validation": score(np.eye(80), 4)}}, "averages 2 repetitions"),
    ],
)
def test_runs_of_different_data_are_refused(runs, tmp_path, changes, words):
    other = write_run(tmp_path / "other", 8, **changes)
    with pytest.raises(InputError, match=words):
        stack_runs([runs[0], other], tmp_path / "stack")
    assert not (tmp_path / "stack").exists()


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("validation", {"query_ids": np.array(["v000"] * 80)}, "was not validated on the images of"),
        ("validation", {"gallery_ids": np.array([f"v{k:03d}" for k in range(79)] + ["v000"])}, "query 'v079' is not"),
        ("validation", {"gallery_ids": np.array([f"v{k:03d}" for k in range(79)])}, r"has shape \(80, 80\)"),
        ("validation", {"similarity": np.full((80, 80), np.nan)}, "NaN or infinity"),
        ("validation", {"similarity": np.eye(80, dtype=int)}, "expected floats"),
        ("predictions", {k: np.array([f"x{i}" for i in range(60)]) for k in ("query_ids", "gallery_ids")},
         "was not tested on the images of"),
    ],
)  # fmt: skip
def test_scores_that_do_not_fit_are_refused(runs, tmp_path, name, changes, words):
    rewrite(runs[1], f"{name}.npz", **changes)
    with pytest.raises(InputError, match=words):
        stack_runs(runs[:2], tmp_path / "stack")
    assert not (tmp_path / "stack").exists()


def test_models_below_chance_are_refused(tmp_path):
    bad = [write_run(tmp_path / f"bad{k}", k, strength=-3.0) for k in range(2)]
    with pytest.raises(InputError, match="every weight is 0"):
        stack_runs(bad, tmp_path / "stack")
    assert not (tmp_path / "stack").exists()


def test_names_tell_runs_apart(tmp_path):
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
    folders = [write_run(tmp_path / place / "run", k) for k, place in enumerate("ab", start=1)]
    stack_runs(folders, tmp_path / "stack", report=False)
    assert [m.name for m in read_stack(tmp_path / "stack").members] == ["a/run", "b/run"]


def test_command(runs, tmp_path, capsys):
    out = str(tmp_path / "stack")
    assert cli(["stack", *map(str, runs), "--out", out]) == 0
    said = capsys.readouterr().out
    assert "60-way top-1" in said
    assert "validation loss of the stack, cross-validated" in said
    assert (tmp_path / "stack/report.html").is_file()
    assert cli(["stack", *map(str, runs), "--out", out, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["stack"]["members"][0]["name"] == "first"
    assert document["result"]["recipe"] == "stacked"
    assert cli(["stack", str(runs[0]), "--out", str(tmp_path / "x")]) == 2
    error = capsys.readouterr().err
    assert error == "error: a stack needs two runs or more, got 1; name the folders of finished runs\n"
