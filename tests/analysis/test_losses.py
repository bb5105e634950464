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


def write_made(folder, template, subject, seed, *, n_epochs=10, settings=()):
    folder.mkdir(parents=True)
    recipe = load_recipe("neuroalign", modality="eeg", overrides=list(settings))
    (folder / "recipe.yaml").write_text(save_recipe(recipe.with_target(layer=seed, pooling="mean")))
    (folder / "result.json").write_text(json.dumps(template | {"subject": subject, "seed": seed, "modality": "eeg"}))
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
