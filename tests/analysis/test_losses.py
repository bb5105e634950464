"""Made runs whose steps are given, so that every number can be computed beside the code."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from brainalign.analysis import analyze
from brainalign.errors import InputError
from brainalign.recipes import load_recipe, save_recipe
from brainalign.report.analysis_page import write_analysis

TERMS = ("brain_image", "image_text", "semantic_guidance")


def steps_of(seed, n_epochs=10, steps=3):
    """Weights that cross: brain_image falls, semantic_guidance rises, image_text has what is left."""
    rng = np.random.default_rng(seed)
    rows = []
    for epoch in range(1, n_epochs + 1):
        for step in range(steps):
            down = 0.7 - 0.05 * epoch + 0.01 * rng.normal()
            up = 0.1 + 0.04 * epoch + 0.01 * rng.normal()
            weights = (down, 1 - down - up, up)
            row = {"epoch": float(epoch), "step": float((epoch - 1) * steps + step + 1)}
            for kind, values in (("loss", (3.0, 2.0, 1.0)), ("weight", weights), ("norm", (1.0, 2.0, 0.5)),
                                 ("velocity", (0.1, 0.2, 0.3))):  # fmt: skip
                row |= {f"{kind}_{term}": float(v) for term, v in zip(TERMS, values, strict=True)}
            rows.append(row)
    return pd.DataFrame(rows)


def write_made(folder, template, subject, seed, *, n_epochs=10, settings=(), **facts):
    folder.mkdir(parents=True, exist_ok=True)
    recipe = load_recipe("neuroalign", modality="eeg", overrides=list(settings))
    (folder / "recipe.yaml").write_text(save_recipe(recipe.with_target(layer=seed, pooling="mean")))
    (folder / "result.json").write_text(
        json.dumps(template | {"subject": subject, "seed": seed, "modality": "eeg"} | facts)
    )
    steps = steps_of(100 * int(subject) + seed, n_epochs)
    steps.to_csv(folder / "steps.csv", index=False)
    return steps


@pytest.fixture
def template(tmp_path, make_sweep):
    make_sweep(tmp_path / "template", {("01", 0): {"1": [1.0, 0.0] * 10}})
    return json.loads((next((tmp_path / "template/runs").iterdir()) / "result.json").read_text())


def test_spread_over_seeds_is_numpys(tmp_path, template):
    made = [write_made(tmp_path / f"s{seed}", template, "1", seed) for seed in range(3)]
    found = analyze("losses", [tmp_path / f"s{seed}" for seed in range(3)])
    means = np.stack([table.groupby("epoch")[[f"weight_{t}" for t in TERMS]].mean().to_numpy() for table in made])
    expected = means.std(axis=0, ddof=1)
    most = found.numbers["largest_sd_over_seeds"]["1"]
    assert most["sd"] == pytest.approx(expected.max())
    epoch, term = np.unravel_index(expected.argmax(), expected.shape)
    assert (most["epoch"], most["term"]) == (epoch + 1, TERMS[term])
    weights = found.figures[0].rows
    assert [row["mean"] for row in weights if row["term"] == "brain_image"] == pytest.approx(
        means.mean(0)[:, 0].tolist()
    )
    assert [row["sd"] for row in weights if row["term"] == "image_text"] == pytest.approx(expected[:, 1].tolist())
    write_analysis(found, tmp_path / "out", formats=["png"])
    assert {f.name for f in found.figures} == {"losses-weight", "losses-loss", "losses-norm", "losses-velocity"}


def test_early_against_late_is_counted(tmp_path, template):
    made = [write_made(tmp_path / f"s{seed}", template, "1", seed) for seed in range(2)]
    found = analyze("losses", [tmp_path / f"s{seed}" for seed in range(2)])
    change = found.numbers["weights"]["brain_image"]
    by_epoch = [table.groupby("epoch")["weight_brain_image"].mean().to_numpy() for table in made]
    assert change["first_fifth"] == pytest.approx(np.mean([w[:2].mean() for w in by_epoch]))
    assert change["last_fifth"] == pytest.approx(np.mean([w[-2:].mean() for w in by_epoch]))
    assert (change["runs_falling"], change["runs_rising"]) == (2, 0)
    assert any("both are so here" in f.text for f in found.findings)


def test_seeds_are_held_against_the_published_spread(tmp_path, template):
    for seed in range(2):
        write_made(tmp_path / f"s{seed}", template, "1", seed)
    found = analyze("losses", [tmp_path / "s0", tmp_path / "s1"])
    assert found.facts["Seeds a subject"] == "2"
    (spread,) = [f.text for f in found.findings if "Subject 1" in f.text]
    assert "over 2 seeds the" in spread and "NeuroAlign states below 0.1, here that is so" in spread
    assert "over 2 seeds" in found.figures[0].caption


def test_runs_that_differ_in_more_are_not_called_seeds(tmp_path, template):
    """One seed on two splits and layers says nothing of seeds."""
    for split in range(2):
        target = template["target"] | {"layers": [str(split)]}
        write_made(tmp_path / f"s{split}", template, "1", 0, split=split, target=target)
    found = analyze("losses", [tmp_path / "s0", tmp_path / "s1"])
    assert found.facts["Runs a subject"] == "2, differing in split and layer"
    assert "Seeds a subject" not in found.facts
    (spread,) = [f.text for f in found.findings if "Subject 1" in f.text]
    assert "over 2 runs that differ in split and layer the" in spread and "NeuroAlign" not in spread
    assert "seeds" not in found.figures[0].caption
    assert found.numbers["largest_sd_over_seeds"] is None
    assert found.numbers["largest_sd_over_other_runs"]["1"]["differ_in"] == ["split", "layer"]
    assert any(f.kind == "not measured" and "the seed alone" in f.text for f in found.findings)


def test_seeds_of_several_subjects_are_named_so_when_all_are(tmp_path, template):
    for subject, seed, split in (("1", 0, 0), ("1", 1, 0), ("2", 0, 0), ("2", 0, 1)):
        write_made(tmp_path / f"{subject}-{seed}-{split}", template, subject, seed, split=split)
    found = analyze("losses", sorted(path for path in tmp_path.iterdir() if path.name[1] == "-"))
    assert found.facts["Runs a subject"] == "2, differing in seed and split"
    assert (list(found.numbers["largest_sd_over_seeds"]), list(found.numbers["largest_sd_over_other_runs"])) == (
        ["1"],
        ["2"],
    )
    (each,) = [figure for figure in found.figures if figure.name == "losses-weight-subjects"]
    assert "over 2 runs." in each.caption


def test_a_weight_that_stays_is_said_to_stay(tmp_path, template):
    for seed in range(2):
        table = write_made(tmp_path / f"s{seed}", template, "1", seed)
        table["weight_image_text"] = 0.1 + 0.2
        table.to_csv(tmp_path / f"s{seed}/steps.csv", index=False)
    found = analyze("losses", [tmp_path / "s0", tmp_path / "s1"])
    (said,) = [f.text for f in found.findings if "0.300" in f.text]
    assert said.endswith("is 0.300 in the first and the last fifth of training (in every run).")


def test_of_a_sweep_that_compares_methods_the_first_is_taken(tmp_path, template, make_sweep):
    hits = {("m1", seed): {"1": [1.0, 0.0] * 10} for seed in (0, 1)}
    folder = make_sweep(tmp_path / "sweep", hits, ablated={"no-text": hits})
    for run in sorted((folder / "runs").iterdir()):
        settings = ["training.lr=0.01"] if run.name.endswith("no-text") else []
        write_made(run, template, "1", int("seed-1" in run.name), settings=settings)
    found = analyze("losses", [folder])
    assert (found.numbers["n_runs"], found.facts["Seeds a subject"]) == (2, "2")


def test_subjects_are_averaged_over_their_seeds_first(tmp_path, template):
    tables = {}
    for subject, seeds in (("1", (0, 1)), ("2", (0,))):
        for seed in seeds:
            folder = tmp_path / f"{subject}-{seed}"
            tables[subject, seed] = write_made(folder, template, subject, seed, n_epochs=10 if seed else 8)
    found = analyze("losses", [tmp_path / f"{subject}-{seed}" for subject, seed in tables])
    w = {key: t.groupby("epoch")["weight_semantic_guidance"].mean().to_numpy()[:8] for key, t in tables.items()}
    both = np.stack([(w["1", 0] + w["1", 1]) / 2, w["2", 0]])
    rows = [row for row in found.figures[0].rows if row["term"] == "semantic_guidance"]
    assert [row["mean"] for row in rows] == pytest.approx(both.mean(0).tolist())
    assert [row["sd"] for row in rows] == pytest.approx(both.std(0, ddof=1).tolist())
    assert found.numbers["largest_sd_over_subjects"]["n"] == 2
    assert any("stopped after 8 to 10 epochs" in f.text for f in found.findings)
    assert "losses-weight-subjects" in [f.name for f in found.figures]
    write_analysis(found, tmp_path / "out")


def test_runs_that_cannot_be_shown_together(tmp_path, template):
    write_made(tmp_path / "a", template, "1", 0)
    write_made(tmp_path / "b", template, "1", 1, settings=["training.lr=0.01"])
    with pytest.raises(InputError, match=r"in training\.lr"):
        analyze("losses", [tmp_path / "a", tmp_path / "b"])
    with pytest.raises(InputError, match="given twice"):
        analyze("losses", [tmp_path / "a", tmp_path / "a"])
    (tmp_path / "b/steps.csv").write_text("epoch,loss_x,weight_x\n1,word,2\n")
    with pytest.raises(InputError, match="cannot be read"):
        analyze("losses", [tmp_path / "b"])
    (tmp_path / "b/steps.csv").write_text("epoch,loss_x\n1,2\n")
    with pytest.raises(InputError, match="no column 'weight_x'"):
        analyze("losses", [tmp_path / "b"])
    (tmp_path / "b/steps.csv").unlink()
    with pytest.raises(InputError, match="its loss has one term"):
        analyze("losses", [tmp_path / "b"])
