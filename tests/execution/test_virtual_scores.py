"""The whole path on the virtual brain: it finds what was planted, and nothing where nothing is."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from brainalign.evaluation import top_k_accuracy
from brainalign.execution.fitting import fit_jobs
from brainalign.execution.job import Job
from brainalign.execution.sweep import sweep
from brainalign.execution.train import open_session, train
from brainalign.recipes import load_recipe
from brainalign.recordings.selection import select_signals

SUBJECT = "1"


def fit(cache, settings, **options):
    session = open_session("virtual-eeg:small", device="cpu", cache=cache, options=options)
    recipe = load_recipe("shallow-alignment", modality="eeg", overrides=settings)
    return session, recipe, next(fit_jobs(session, [(Job(recipe, SUBJECT), None)])).candidates[0]


def score(session, recipe, candidate, repetitions=None):
    opened = session.open_test(SUBJECT, 0)
    select = functools.partial(select_signals, settings=recipe.signals)
    data = opened.data(select=select, repetitions=repetitions)
    similarity = candidate.aligner.similarity(data.signals, {"image": candidate.targets.of(data.gallery_ids)})
    return top_k_accuracy(similarity, np.arange(len(data.query_ids)), 1)


@pytest.fixture(scope="module")
def default_brain(shared_cache):
    """The default virtual brain, decoded at one middle layer of the default target."""
    return fit(shared_cache, ["target.layer=12", "target.pooling=grid4"])


def test_the_default_brain_is_neither_trivial_nor_hopeless(default_brain):
    assert 0.15 <= score(*default_brain) <= 0.70


def test_the_score_rises_with_the_repetitions_averaged(default_brain):
    scores = [score(*default_brain, repetitions=k) for k in (1, 10, 80)]
    assert scores[0] + 0.05 < scores[1] < scores[2] - 0.02


def test_a_window_before_the_picture_holds_nothing(shared_cache):
    settings = ["target.layer=12", "target.pooling=grid4", "signals.tmin=-0.2", "signals.tmax=0.0", "budget=small"]
    assert score(*fit(shared_cache, settings)) <= 0.03


def test_a_brain_without_pathways_holds_nothing(shared_cache):
    settings = ["target.layer=12", "target.pooling=grid4", "budget=small"]
    assert score(*fit(shared_cache, settings, pathways="none")) <= 0.03


def test_validation_finds_the_planted_layer_among_distant_ones(shared_cache):
    settings = ["target.candidates=[2, 7, 13]", "target.poolings=[grid4]"]
    planted = {"same_network": True, "pathways": "late", "late_layer": "7", "noise": 0.5}
    session, _, best = fit(shared_cache, settings, **planted)
    assert best.label[0] == "7"
    assert 0.2 <= best.row()["validation_top1"] <= 0.8
    assert session.sealed(SUBJECT, 0).reads == 0
    assert ":same_network=true" in session.dataset.name


@pytest.mark.slow
@pytest.mark.parametrize("layer", [3, 7, 12])
def test_the_layer_chosen_on_validation_is_within_one_block_of_the_planted(shared_cache, tmp_path, layer):
    near = []
    for seed in range(5):
        summary = sweep(
            "shallow-alignment",
            over=["layer=0-15"],
            dataset="virtual-eeg:small",
            subject=SUBJECT,
            seed=seed,
            out=tmp_path / f"{layer}-{seed}",
            cache=shared_cache,
            device="cpu",
            settings=["target.pooling=grid4"],
            options={"same_network": True, "pathways": "late", "late_layer": layer, "noise": 0.7, "seed": seed},
        )
        near.append(abs(summary["conditions"][0]["chosen"]["layer"] - layer) <= 1)
    assert sum(near) >= 4


@pytest.mark.slow
def test_the_demo_says_virtual_everywhere(shared_cache, tmp_path):
    result = train(
        "shallow-alignment", dataset="virtual-eeg:small", subject=SUBJECT, out=tmp_path / "run", cache=shared_cache
    )
    assert result.virtual
    assert result.validation_kind == "concept-disjoint"
    assert "VIRTUAL DATA" in (tmp_path / "run/report.html").read_text(encoding="utf-8").upper()
