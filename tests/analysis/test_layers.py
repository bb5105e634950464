from __future__ import annotations

import csv
import itertools

import numpy as np
import pytest
from scipy.stats import beta

from brainalign.analysis import analyze, channels, space
from brainalign.analysis.base import read_options
from brainalign.analysis.concepts import concept_accuracy, concept_chance, find_labels
from brainalign.analysis.parabola import Run, fit_parabola, inverted_u
from brainalign.errors import InputError
from brainalign.report.analysis_page import write_analysis
from brainalign.stimuli import StimulusSet

RATES = {"0": 0.2, "1": 0.5, "2": 0.7, "3": 0.65, "4": 0.5, "5": 0.3, "head": 0.25, "final": 0.2}
BLOCKS = [layer for layer in RATES if layer.isdigit()]


def points_of(found, curve=0):
    return {point["layer"]: point for point in found.numbers["curves"][curve]["points"]}


def said(found, kind):
    return [finding.text for finding in found.findings if finding.kind == kind]


# ---- pure functions


def test_parabola_is_numpys():
    rng = np.random.default_rng(0)
    depths, scores = np.linspace(0, 1, 9), rng.normal(size=(4, 9))
    expected = np.stack([np.polyfit(depths, row, 2) for row in scores])
    np.testing.assert_allclose(fit_parabola(depths, scores), expected, atol=1e-9)


def test_bootstrap_of_the_peak_is_the_plain_one():
    """Against a loop that draws images (and subjects) and calls numpy.polyfit."""
    rng = np.random.default_rng(1)
    depths = np.linspace(0, 1, 6)
    rates = 0.7 - 1.6 * (depths - 0.45) ** 2
    ids = [f"i{i}" for i in range(150)]
    for subjects in (["a"], ["a", "b", "c"]):
        runs = [Run(s, ids, (rng.uniform(size=(150, 6)) < rates).astype(float)) for s in subjects]
        found = inverted_u(depths, runs, n_resamples=4000, seed=3)
        peaks, bends = [], []
        for _ in range(4000):
            drawn, who = rng.integers(0, 150, 150), rng.integers(0, len(runs), len(runs))
            a, b, _c = np.polyfit(depths, np.mean([runs[w].hits[drawn].mean(0) for w in who], axis=0), 2)
            peaks.append(-b / (2 * a))
            bends.append(a)
        np.testing.assert_allclose(found.vertex_ci95, np.quantile(peaks, [0.025, 0.975]), atol=0.02)
        np.testing.assert_allclose(found.curvature_ci95, np.quantile(bends, [0.025, 0.975]), atol=0.08)
        a, b, _c = np.polyfit(depths, np.mean([run.hits.mean(0) for run in runs], axis=0), 2)
        assert found.vertex == pytest.approx(-b / (2 * a))
        assert found.is_inverted_u
        assert found.resampled == ("images" if len(runs) == 1 else "subjects and images")


def test_runs_on_different_images_and_seeds_of_a_subject_are_averaged_first():
    rng = np.random.default_rng(2)
    depths = np.linspace(0, 1, 5)
    hits = [(rng.uniform(size=(40, 5)) < 0.5).astype(float) for _ in range(3)]
    runs = [Run("a", [f"i{i}" for i in range(40)], hits[0]), Run("a", [f"j{i}" for i in range(40)], hits[1]),
            Run("b", [f"i{i}" for i in range(40)], hits[2])]  # fmt: skip
    found = inverted_u(depths, runs, n_resamples=200)
    mean = (hits[0].mean(0) / 2 + hits[1].mean(0) / 2 + hits[2].mean(0)) / 2
    a, b, c = np.polyfit(depths, mean, 2)
    assert (found.curvature, found.slope, found.intercept) == pytest.approx((a, b, c))
    residual = mean - np.polyval([a, b, c], depths)
    assert found.r_squared == pytest.approx(1 - residual @ residual / np.sum((mean - mean.mean()) ** 2))


@pytest.mark.parametrize(("rates", "peak"), [([0.2, 0.35, 0.5, 0.65, 0.8], False), ([0.5] * 5, False)])
def test_a_line_and_a_flat_curve_are_no_inverted_u(rates, peak):
    rng = np.random.default_rng(4)
    hits = (rng.uniform(size=(200, 5)) < np.array(rates)).astype(float)
    found = inverted_u(np.linspace(0, 1, 5), [Run("a", [f"i{i}" for i in range(200)], hits)], n_resamples=500)
    assert found.is_inverted_u == peak
    if found.vertex is None:
        assert found.vertex_ci95 is None


def test_three_blocks_are_too_few():
    with pytest.raises(InputError, match="4 blocks or more"):
        inverted_u([0, 0.5, 1], [Run("a", ["i", "j"], np.ones((2, 3)))])


def test_concept_accuracy_is_the_plain_count():
    rng = np.random.default_rng(5)
    labels, targets = rng.integers(0, 4, 40), rng.integers(0, 40, 25)
    similarity = rng.normal(size=(25, 40))
    expected = []
    for row, own in zip(similarity, targets, strict=True):
        best = [column for column in np.argsort(-row) if column != own][:5]
        expected.append(np.mean(labels[best] == labels[own]))
    np.testing.assert_allclose(concept_accuracy(similarity, targets, labels), expected)
    chance = [np.mean(np.delete(labels, own) == labels[own]) for own in targets]
    np.testing.assert_allclose(concept_chance(targets, labels), chance)


def test_concept_accuracy_breaks_ties_in_expectation():
    """Two of seven others are certain; three more are drawn from the five that tie."""
    labels = np.array([0, 0, 1, 0, 0, 1, 1, 1])
    similarity = np.array([[0.9, 0.8, 0.8, 0.5, 0.5, 0.5, 0.5, 0.5]])
    draws = [np.mean(labels[[1, 2, *rest]] == 0) for rest in itertools.combinations([3, 4, 5, 6, 7], 3)]
    found = concept_accuracy(similarity, np.array([0]), labels)
    assert found[0] == pytest.approx(np.mean(draws))


def test_a_query_alone_of_its_kind_is_not_counted():
    found = concept_accuracy(
        np.random.default_rng(0).normal(size=(2, 8)), np.array([0, 1]), np.array([7, 1, 1, *[2] * 5])
    )
    assert np.isnan(found[0])
    assert np.isfinite(found[1])


def test_labels_are_categories_then_concepts_then_a_reason():
    import pandas as pd

    def table(**columns):
        names = [f"i{i}" for i in range(4)]
        return StimulusSet(pd.DataFrame({"stimulus_id": names, "path": names, **columns})), names

    two = ["x", "x", "y", "y"]
    assert find_labels(*table(category=two, concept=list("abcd"))).column == "category"
    assert find_labels(*table(concept=two)).column == "concept"
    why = find_labels(*table(category=["x", "", "y", "y"], concept=list("abcd")))
    assert "1 of 4 images have no category" in why
    assert "own concept" in why


# ---- sweeps


def test_every_number_of_one_subject(make_sweep, draw, tmp_path):
    hits = draw(RATES, 100, seed=0)
    validation = {layer: rate + (0.1 if layer == "3" else 0) for layer, rate in RATES.items()}  # not the best on test
    folder = make_sweep(tmp_path / "sweep", {("m1", 0): hits}, validation=validation)
    found = analyze("layers", [folder], {"n_resamples": 500})
    points = points_of(found)
    assert list(points) == [*BLOCKS, "head", "final"]
    for layer, rate in RATES.items():
        test = points[layer]["test_top1"]
        assert test["mean"] == pytest.approx(rate)
        k = round(100 * rate)
        exact = [beta.ppf(0.025, k, 101 - k), beta.ppf(0.975, k + 1, 100 - k)]
        assert [test["ci95_lo"], test["ci95_hi"]] == pytest.approx(exact)
        assert points[layer]["validation"]["mean"] == pytest.approx(validation[layer])
        assert points[layer]["train_loss"] == pytest.approx(7 - validation[layer])  # at the chosen epoch, 3
        assert points[layer]["validation_loss"] == pytest.approx(10 - validation[layer])
    assert [layer for layer, point in points.items() if point["chosen_in"]] == ["3"]
    depths = np.arange(6) / 5
    a, b, _c = np.polyfit(depths.round(4), [RATES[layer] for layer in BLOCKS], 2)
    bend = found.numbers["curves"][0]["inverted_u"]
    assert bend["vertex"] == pytest.approx(-b / (2 * a))
    assert bend["is_inverted_u"]
    a, b, _c = np.polyfit(depths.round(4), [validation[layer] for layer in BLOCKS], 2)
    assert found.numbers["curves"][0]["validation_vertex"] == pytest.approx(-b / (2 * a))
    (row,) = found.numbers["chosen_against_final"]
    assert row["chosen layers"] == "3"
    assert row["difference"] == pytest.approx(0.65 - 0.2)
    assert row["ci95_lo"] < 0.45 < row["ci95_hi"]
    # McNemar's exact test, by the binomial law: the queries stand in another order in every run's file.
    from scipy.stats import binomtest

    wins, losses = (int(np.sum(hits[x] * (1 - hits[y]))) for x, y in (("3", "final"), ("final", "3")))
    assert row["p"] == pytest.approx(binomtest(wins, wins + losses).pvalue, abs=0.002)


def test_concepts_without_a_table_are_not_measured_and_say_why(make_sweep, draw, tmp_path):
    folder = make_sweep(tmp_path / "sweep", {("m1", 0): draw(RATES, 60, seed=0)})
    found = analyze("layers", [folder])
    (text,) = said(found, "not measured")
    assert "Concept accuracy: not measured" in text
    assert "--root" in text
    assert "concepts" not in [figure.name for figure in found.figures]
    assert found.numbers["curves"][0]["points"][0]["concept_accuracy"] is None


def test_concepts_come_from_the_stimulus_table(make_sweep, draw, tmp_path, monkeypatch):
    import pandas as pd

    names = [f"made/i{i:03d}" for i in range(60)]
    kinds = [f"kind{i % 3}" for i in range(60)]
    stimuli = StimulusSet(pd.DataFrame({"stimulus_id": names, "path": names, "category": kinds}))
    monkeypatch.setattr("brainalign.analysis.layers.open_stimuli", lambda *_: stimuli)
    folder = make_sweep(tmp_path / "sweep", {("m1", 0): draw(RATES, 60, seed=0)})
    found = analyze("layers", [folder])
    stored = np.load(folder / "runs/layer-2_subject-m1_seed-0/predictions.npz")
    values = []
    for row, query in zip(stored["similarity"], stored["query_ids"], strict=True):
        own = names.index(query)
        best = [column for column in np.argsort(-row) if column != own][:5]
        values.append(np.mean([kinds[column] == kinds[own] for column in best]))
    concept = points_of(found)["2"]["concept_accuracy"]
    assert concept["mean"] == pytest.approx(np.mean(values))
    assert concept["ci95_lo"] < np.mean(values) < concept["ci95_hi"]
    assert found.numbers["concepts"]["chance"] == pytest.approx(19 / 59)
    assert "concepts" in [figure.name for figure in found.figures]


def test_subjects_are_averaged_after_their_seeds(make_sweep, draw, tmp_path):
    hits = {("m1", 0): draw(RATES, 80, 0), ("m1", 1): draw(RATES, 80, 1), ("m2", 0): draw(RATES, 80, 2)}
    hits[("m2", 0)]["2"] = np.zeros(80)
    folder = make_sweep(tmp_path / "sweep", hits)
    point = points_of(analyze("layers", [folder], {"n_resamples": 200}))["2"]["test_top1"]
    assert point["mean"] == pytest.approx((0.7 + 0) / 2)
    assert (point["n_runs"], point["n_subjects"], point["interval_over"]) == (3, 2, "subjects and images")
    assert point["ci95_lo"] < 0.35 < point["ci95_hi"]


def test_two_sweeps_of_two_subjects_are_one_analysis(make_sweep, draw, tmp_path):
    one, two = draw(RATES, 80, 0), draw(RATES, 80, 1)
    whole = make_sweep(tmp_path / "whole", {("m1", 0): one, ("m2", 0): two})
    parts = [make_sweep(tmp_path / s, {(s, 0): h}) for s, h in (("m1", one), ("m2", two))]
    a, b = analyze("layers", [whole], {"n_resamples": 200}), analyze("layers", parts, {"n_resamples": 200})
    assert a.numbers["curves"] == b.numbers["curves"]
    assert a.numbers["chosen_against_final"] == b.numbers["chosen_against_final"]


def test_a_mixture_has_no_place_on_the_depth_axis(make_sweep, draw, tmp_path):
    hits = draw(RATES, 100, 0)
    plain = analyze("layers", [make_sweep(tmp_path / "plain", {("m1", 0): hits})])
    mixed = {"1+3+5": np.ones(100), **hits}
    folder = make_sweep(tmp_path / "mixed", {("m1", 0): mixed})
    found = analyze("layers", [folder])
    assert points_of(found)["1+3+5"]["kind"] == "mixture"
    assert list(points_of(found))[-1] == "1+3+5"
    assert found.numbers["curves"][0]["inverted_u"] == plain.numbers["curves"][0]["inverted_u"]
    (row,) = found.numbers["chosen_against_final"]
    assert row["chosen layers"] == "2"  # the best single layer, although the mixture was chosen
    write_analysis(found, tmp_path / "out")
    page = (tmp_path / "out/index.html").read_text()
    assert "mixture 1+3+5" in page
    with open(tmp_path / "out/test.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "mixture"]
    assert {row["exploratory"] for row in rows} == {"0"}  # it was the choice
    assert all(float(row["mean"]) == 1 for row in rows)


def test_poolings_and_backbones_are_curves_of_their_own(make_sweep, draw, tmp_path):
    a, b = draw(RATES, 60, 0), draw({k: v / 2 for k, v in RATES.items() if k != "final"}, 60, 1)
    sweeps = [
        make_sweep(tmp_path / "a", {("m1", 0): a}),
        make_sweep(tmp_path / "b", {("m1", 0): b}, pooling="grid2"),
        make_sweep(tmp_path / "c", {("m1", 0): a}, backbone="timm:test_vit"),
    ]
    curves = analyze("layers", sweeps, {"n_resamples": 100}).numbers["curves"]
    assert [c["curve"] for c in curves] == ["timm:test_resnet, mean", "timm:test_resnet, grid2", "timm:test_vit, mean"]
    assert curves[1]["points"][-1]["layer"] == "final"  # final has one pooling and stands beside each of its model's


def test_methods_that_a_sweep_compares_are_apart(make_sweep, draw, tmp_path):
    full, ablated = draw(RATES, 100, 0), draw({k: v / 2 for k, v in RATES.items()} | {"4": 0.4}, 100, 1)
    folder = make_sweep(tmp_path / "s", {("m1", 0): full}, ablated={"no-text": {("m1", 0): ablated}})
    found = analyze("layers", [folder], {"n_resamples": 100})
    assert found.facts["Methods"] == "ablation full; ablation no-text"
    assert [curve["curve"] for curve in found.numbers["curves"]] == ["ablation full", "ablation no-text"]
    for number, hits in enumerate((full, ablated)):
        points = points_of(found, number)
        assert {layer: p["test_top1"]["mean"] for layer, p in points.items()} == pytest.approx(
            {layer: values.mean() for layer, values in hits.items()}
        )
    chosen = [text for text in said(found, "finding") if "chosen on validation" in text]
    assert [text.partition(" layer ")[0] for text in chosen] == [
        "ablation full: timm:test_resnet",
        "ablation no-text: timm:test_resnet",
    ]
    assert "layer 2 " in chosen[0] and "70.0 %" in chosen[0]
    assert "layer 4 " in chosen[1] and "40.0 %" in chosen[1]
    rows = {row["model"]: (row["chosen layers"], row["chosen top-1"], row["final top-1"])
            for row in found.numbers["chosen_against_final"]}  # fmt: skip
    assert rows == {
        "timm:test_resnet, linear, ablation full": ("2", pytest.approx(0.7), pytest.approx(0.2)),
        "timm:test_resnet, linear, ablation no-text": ("4", pytest.approx(0.4), pytest.approx(0.1)),
    }


def test_mean_of_the_chosen_is_of_one_method(make_sweep, draw, tmp_path):
    full = {("m1", seed): draw(RATES, 100, seed) for seed in (0, 1)}
    ablated = {key: draw({k: v / 2 for k, v in RATES.items()}, 100, 2) for key in full}
    folder = make_sweep(tmp_path / "s", full, ablated={"no-text": ablated})
    chosen = [
        text for text in said(analyze("layers", [folder], {"n_resamples": 100}), "finding") if "2 choices" in text
    ]
    assert ["mean test top-1 70.0 %" in text for text in chosen] == [True, False]
    assert ["mean test top-1 35.0 %" in text for text in chosen] == [False, True]


def test_space_and_channels_take_the_method_itself(make_sweep, draw, tmp_path):
    """Not the ablation, though validation likes it better."""
    full = {("m1", 0): draw(RATES, 40, 0)}
    ablated = {("m1", 0): draw({layer: rate + 0.2 for layer, rate in RATES.items()} | {"4": 0.95}, 40, 1)}
    folder = make_sweep(tmp_path / "s", full, ablated={"no-text": ablated})
    shown = space._rows_of_sweep(folder, read_options(space.Options, {}))
    assert [row.folder.name for row in shown] == [f"layer-{layer}_subject-m1_seed-0_ablation-full" for layer in RATES]
    assert [row.layer for row in shown if row.chosen] == ["2"]
    assert [run.name for run in channels._runs_of([folder])] == ["layer-2_subject-m1_seed-0_ablation-full"]


def test_exploratory_is_written_down(make_sweep, draw, tmp_path):
    folder = make_sweep(tmp_path / "sweep", {("m1", 0): draw(RATES, 100, 0)})
    document = write_analysis(analyze("layers", [folder]), tmp_path / "out", formats=["svg", "pdf", "png"])
    with open(tmp_path / "out/test.csv", newline="") as file:
        rows = {row["layer"]: row for row in csv.DictReader(file) if row["of"] == "mean"}
    assert {layer for layer, row in rows.items() if row["exploratory"] == "0"} == {"2"}
    with open(tmp_path / "out/validation.csv", newline="") as file:
        assert {row["exploratory"] for row in csv.DictReader(file)} == {"0"}
    assert any(f["kind"] == "exploratory" and "inverted U" in f["text"] for f in document["findings"])
    starts = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}
    for figure in document["figures"]:
        for name in figure["files"]:
            data = (tmp_path / "out" / name).read_bytes()
            assert data.startswith(starts.get(name.rpartition(".")[2], b"curve,"))


def test_a_line_that_only_rises_says_so(make_sweep, draw, tmp_path):
    rates = {str(i): 0.1 + 0.15 * i for i in range(6)}
    found = analyze("layers", [make_sweep(tmp_path / "s", {("m1", 0): draw(rates, 200, 0)})])
    (text,) = said(found, "exploratory")
    assert "no sure inverted U" in text
    assert any("no condition has both" in text for text in said(found, "not measured"))


# ---- bad input


def test_bad_folders_are_refused_in_one_line(make_sweep, draw, tmp_path):
    hits = draw(RATES, 40, 0)
    good = make_sweep(tmp_path / "good", {("m1", 0): hits})
    with pytest.raises(InputError, match="finished sweep"):
        analyze("layers", [tmp_path])
    with pytest.raises(InputError, match="is a single run"):
        analyze("layers", [next(good.glob("runs/*"))])
    with pytest.raises(InputError, match="holds too"):
        analyze("layers", [good, make_sweep(tmp_path / "again", {("m1", 0): hits})])
    with pytest.raises(InputError, match="has dataset 'human'"):
        analyze("layers", [good, make_sweep(tmp_path / "other", {("m2", 0): hits}, dataset="human")])
    with pytest.raises(InputError, match="did you mean 'n_resamples'"):
        analyze("layers", [good], {"n_resample": 5})
    with pytest.raises(InputError, match="greater than or equal to 100"):
        analyze("layers", [good], {"n_resamples": 5})
    with pytest.raises(InputError, match="did you mean 'layers'"):
        analyze("layer", [good])


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("sweep.csv", "validation_loss", "loss", "has no column 'validation_loss'"),
        ("sweep.csv", "runs/layer-2", "../runs/layer-2", "outside the sweep"),
        ("sweep.csv", "9.8", "nan", "expected a number"),
        ("sweep.json", "brainalign.sweep/1", "brainalign.sweep/9", "schema"),
        ("runs/layer-0_subject-m1_seed-0/history.csv", "3.0,", "2.0,", "does not hold epoch 3"),
        ("runs/layer-0_subject-m1_seed-0/history.csv", "train_loss", "loss", "is not a history"),
    ],
)
def test_damaged_files_are_refused_in_one_line(make_sweep, draw, tmp_path, file, old, new, message):
    folder = make_sweep(tmp_path / "sweep", {("m1", 0): draw(RATES, 40, 0)})
    path = folder / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(InputError, match=message):
        analyze("layers", [folder])


def test_a_missing_file_of_a_run_is_named(make_sweep, draw, tmp_path):
    folder = make_sweep(tmp_path / "sweep", {("m1", 0): draw(RATES, 40, 0)})
    (folder / "runs/layer-1_subject-m1_seed-0/predictions.npz").unlink()
    with pytest.raises(InputError, match=r"layer-1.*predictions.npz"):
        analyze("layers", [folder])


def test_blocks_of_one_name_stand_at_their_own_depths():
    """Block 3 ends one model and stands in the middle of another: `final` is beyond both."""
    from brainalign.report.analysis_page import LOOK

    places = LOOK.depths([("3", 1.0), ("3", 0.4), ("final", 1.0)], names=False)
    assert (places.place("3", 1.0), places.place("3", 0.4)) == (1.0, 0.4)
    assert places.place("final", 1.0) > 1.0
