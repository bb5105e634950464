from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from scipy.stats import skew
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestNeighbors
from tests_support import FAST, write_own

from brainalign.analysis import analyze
from brainalign.analysis.maps import embed_map
from brainalign.analysis.shared_space import (
    alignment_score,
    class_cohesion,
    hubness,
    k_occurrence,
    modality_gap,
    mutual_neighbours,
    unit_rows,
)
from brainalign.errors import InputError
from brainalign.execution.sweep import sweep
from brainalign.report.analysis_page import write_analysis


@pytest.fixture
def pairs():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(60, 8))
    return image + 0.7 * rng.normal(size=(60, 8)), image + 0.3


# ---- pure functions


def test_alignment_is_true_minus_other_pairs(pairs):
    cosines = 1 - pairwise_distances(*pairs, metric="cosine")
    true = np.eye(60, dtype=bool)
    found = alignment_score(*pairs)
    assert found.estimate == pytest.approx(cosines[true].mean() - cosines[~true].mean())
    assert found.lo < found.estimate < found.hi


def test_alignment_of_strangers_is_about_zero():
    rng = np.random.default_rng(1)
    found = alignment_score(rng.normal(size=(200, 16)), rng.normal(size=(200, 16)))
    assert found.lo < 0 < found.hi


@pytest.mark.parametrize("k", [1, 5, 20])
def test_mutual_neighbours_are_scikit_learns(pairs, k):
    near = [
        NearestNeighbors(n_neighbors=k, metric="cosine").fit(rows).kneighbors(return_distance=False) for rows in pairs
    ]
    expected = np.mean([len(set(a) & set(b)) / k for a, b in zip(*near, strict=True)])
    found = mutual_neighbours(*pairs, k, n_permutations=500)
    assert found.score == pytest.approx(expected)
    assert found.null_mean == pytest.approx(k / 59, abs=0.02)  # a random other image is a neighbour k times of n - 1
    assert found.p == pytest.approx(1 / 501)


def test_mutual_neighbours_of_strangers_have_even_p():
    rng = np.random.default_rng(2)
    ps = [
        mutual_neighbours(rng.normal(size=(30, 5)), rng.normal(size=(30, 5)), 4, n_permutations=59, seed=i).p
        for i in range(120)
    ]
    assert 0.4 < np.mean(ps) < 0.6
    assert np.mean(np.array(ps) <= 0.1) < 0.2


def test_gap_and_hubness(pairs):
    brain, image = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in pairs)
    assert modality_gap(*pairs) == pytest.approx(np.linalg.norm(brain.mean(0) - image.mean(0)))
    near = NearestNeighbors(n_neighbors=7, metric="cosine").fit(image).kneighbors(brain, return_distance=False)
    counts = np.bincount(near.ravel(), minlength=60)
    np.testing.assert_array_equal(k_occurrence(*pairs, 7), counts)
    assert hubness(*pairs, 7) == pytest.approx(skew(counts))


def test_one_hub_is_seen():
    rng = np.random.default_rng(3)
    brain, image = rng.normal(size=(50, 20)) + 1, rng.normal(size=(50, 20))
    plain = hubness(brain, image, 1)
    image[7] = 1  # in the direction that all signals share
    assert k_occurrence(brain, image, 1)[7] > 20
    assert hubness(brain, image, 1) > plain


def test_cohesion_is_within_minus_between(pairs):
    labels = np.repeat([0, 1, 2], [30, 20, 10])
    rows = pairs[0] + np.eye(8)[labels]
    cosines = 1 - pairwise_distances(rows, metric="cosine")
    same, off = labels[:, None] == labels[None], ~np.eye(60, dtype=bool)
    found = class_cohesion(rows, labels, n_permutations=200)
    assert found.score == pytest.approx(cosines[same & off].mean() - cosines[~same].mean())
    assert found.p == pytest.approx(1 / 201)
    assert found.null_mean == pytest.approx(0, abs=0.01)
    shuffled = class_cohesion(rows, np.random.default_rng(0).permutation(labels), n_permutations=200)
    assert shuffled.p > 0.02


def test_embeddings_that_cannot_be_measured():
    with pytest.raises(InputError, match="is zero"):
        unit_rows(np.zeros((4, 2)))
    with pytest.raises(InputError, match="finite"):
        unit_rows([[1, np.nan], [0, 1], [1, 1]])
    with pytest.raises(InputError, match="one shape"):
        modality_gap(np.ones((4, 2)), np.ones((5, 2)))
    with pytest.raises(InputError, match="expected 1 to 2"):
        mutual_neighbours(np.eye(4), np.eye(4), 3)
    with pytest.raises(InputError, match="two kinds"):
        class_cohesion(np.eye(4), np.arange(4))


# UMAP compiles itself for ten seconds.
@pytest.mark.parametrize("name", ["tsne", pytest.param("umap", marks=pytest.mark.slow)])
def test_maps_keep_groups_together_and_repeat(name):
    if name == "umap":
        pytest.importorskip("umap")
    rng = np.random.default_rng(4)
    rows = np.concatenate([rng.normal(size=(25, 10)) + 8 * np.eye(10)[i] for i in range(3)])
    group = np.repeat(np.arange(3), 25)
    places = embed_map(name, rows, seed=1)
    assert places.shape == (75, 2)
    nearest = NearestNeighbors(n_neighbors=1).fit(places).kneighbors(return_distance=False)[:, 0]
    assert np.mean(group[nearest] == group) > 0.9
    np.testing.assert_array_equal(places, embed_map(name, rows, seed=1))


def test_a_missing_umap_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install \"brainalign\[maps\]\""):
        embed_map("umap", np.eye(10))
    with pytest.raises(InputError, match="umap-learn is not installed"):
        analyze("space", [tmp_path], {"map": "umap"})


# ---- runs


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return write_own(tmp_path_factory.mktemp("own") / "own")


@pytest.fixture(scope="module")
def trained(own, tmp_path_factory, shared_cache):
    out = tmp_path_factory.mktemp("sweep") / "sweep"
    sweep(
        "shallow-alignment", over=["layer=0,1,final", "seed=0,1"], dataset=str(own), out=out, settings=FAST[1::2],
        cache=shared_cache, device="cpu",
    )  # fmt: skip
    return out


@pytest.fixture
def options(own, shared_cache):
    return {"root": own, "cache": shared_cache, "map": "none", "n_permutations": 50, "device": "cpu"}


def test_a_run_is_measured_on_its_validation_images(trained, options, tmp_path):
    run = trained / "runs/layer-1_seed-0"
    found = analyze("space", [run], options | {"map": "tsne"})
    (numbers,) = found.numbers["runs"]
    assert numbers["recomputed_difference"] == 0
    assert numbers["n_images"] == json.loads((run / "result.json").read_text())["metrics"]["validation"]["n_way"]
    assert found.numbers["test_reopened"] == 0
    assert found.numbers["no_choice_may_rest_on_this"] is False
    assert "no category" in found.numbers["labels_missing"]
    assert numbers["brain_cohesion"] is None
    write_analysis(found, tmp_path / "out")
    with open(tmp_path / "out/tsne.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["what"] for row in rows] == ["brain"] * (len(rows) // 2) + ["image"] * (len(rows) // 2)
    assert rows[0]["stimulus_id"] == rows[len(rows) // 2]["stimulus_id"]


def test_test_images_are_a_marked_reopening(trained, options, tmp_path):
    run = trained / "runs/layer-1_seed-0"
    before = (run / "result.json").read_bytes()
    found = analyze("space", [run], options | {"images": "test"})
    assert found.numbers["test_reopened"] == 1
    assert found.numbers["no_choice_may_rest_on_this"] is True
    assert any("No choice may rest on them" in finding.text for finding in found.findings if finding.kind == "limit")
    assert {finding.kind for finding in found.findings} <= {"exploratory", "not measured", "limit"}
    assert (run / "result.json").read_bytes() == before
    # The same pairs as the run's own similarities say: their diagonal against the rest.
    stored = np.load(run / "predictions.npz")
    columns = [list(stored["gallery_ids"]).index(name) for name in stored["query_ids"]]
    cosines = stored["similarity"][:, columns]
    true = np.eye(len(cosines), dtype=bool)
    (numbers,) = found.numbers["runs"]
    assert numbers["alignment"]["estimate"] == pytest.approx(cosines[true].mean() - cosines[~true].mean(), abs=1e-5)
    write_analysis(found, tmp_path / "out")
    assert "opened again for these pictures" in (tmp_path / "out/index.html").read_text()


def test_a_sweep_has_one_row_a_layer_in_one_condition(trained, options, tmp_path):
    found = analyze("space", [trained], options)
    assert [row["layer"] for row in found.numbers["runs"]] == ["0", "1", "final"]
    assert {row["run"].rpartition("-")[2] for row in found.numbers["runs"]} == {"0"}
    assert [figure.name for figure in found.figures] == ["space-numbers"]
    write_analysis(found, tmp_path / "out", formats=["png"])
    with pytest.raises(InputError, match="holds no run of subject 09"):
        analyze("space", [trained], options | {"subject": "09"})


def test_categories_give_cohesion(trained, own, options, monkeypatch):
    """Kinds by the colour that the signals carry: images of a kind must lie closer."""
    from PIL import Image

    from brainalign.datasets import open_dataset

    stimuli = open_dataset(str(own)).stimuli("01")
    means = [np.asarray(Image.open(own / "images" / f"{n.rpartition('/')[2]}.png")).mean() for n in stimuli.ids]
    stimuli.table["category"] = np.where(np.array(means) > np.median(means), "bright", "dark")
    monkeypatch.setattr("brainalign.datasets.folder.FolderDataset.stimuli", lambda self, subject: stimuli)
    found = analyze("space", [trained / "runs/layer-0_seed-0"], options)
    (numbers,) = found.numbers["runs"]
    assert found.numbers["labels"] == "category"
    assert numbers["image_cohesion"]["score"] > 0
    assert any("Images of one category" in finding.text for finding in found.findings)


def test_other_data_are_refused(trained, own, options, tmp_path):
    run = trained / "runs/layer-0_seed-0"
    with pytest.raises(InputError, match="give their folder"):
        analyze("space", [run], options | {"root": None})
    other = write_own(tmp_path / "other" / own.name, seed=5)  # same name and image names, other signals
    with pytest.raises(InputError, match="validation top-1"):
        analyze("space", [run], options | {"root": other})
    renamed = tmp_path / "renamed"
    shutil.copytree(own, renamed)
    with pytest.raises(InputError, match="holds the data set 'renamed'"):
        analyze("space", [run], options | {"root": renamed})
    with pytest.raises(InputError, match="takes one run or sweep"):
        analyze("space", [run, run], options)
    damaged = tmp_path / "damaged"
    shutil.copytree(run, damaged)
    (damaged / "model.safetensors").write_bytes(b"\x08")
    with pytest.raises(InputError, match=r"model\.safetensors"):
        analyze("space", [damaged], options)


def test_a_sweep_over_backbones_shows_the_chosen_one(own, options, tmp_path, shared_cache):
    out = tmp_path / "sweep"
    over = ["backbone=timm:test_resnet,timm:test_efficientnet", "layer=0,1"]
    sweep("shallow-alignment", over=over, dataset=str(own), out=out, settings=FAST[3::2], cache=shared_cache,
          device="cpu")  # fmt: skip
    with open(out / "sweep.csv", newline="") as file:
        (chosen,) = [row["backbone"] for row in csv.DictReader(file) if row["chosen"] == "1"]
    found = analyze("space", [out], options)
    assert [row["layer"] for row in found.numbers["runs"]] == ["0", "1"]
    assert found.facts["Backbone, encoder"].startswith(chosen)


def test_a_model_without_a_shared_space_is_refused(trained, options, monkeypatch):
    from types import SimpleNamespace

    other = SimpleNamespace(recipe=SimpleNamespace(family="generative"))
    monkeypatch.setattr("brainalign.analysis.embeddings.load_aligner", lambda path, device: other)
    with pytest.raises(InputError, match="family 'generative' has no space"):
        analyze("space", [trained / "runs/layer-0_seed-0"], options)
