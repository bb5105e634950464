"""Scores on real recordings: a quick one for every test run, the whole claims of the README as slow tests."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from brainalign.execution.sweep import sweep
from brainalign.execution.train import train

pytestmark = pytest.mark.real_data


def test_a_middle_layer_decodes_real_photos_and_shuffled_pairs_do_not(v4, shared_cache, tmp_path):
    result = train(
        "shallow-alignment",
        dataset="macaque-v4",
        root=v4,
        subject="201025",
        out=tmp_path / "run",
        cache=shared_cache,
        device="cpu",
        settings=["target.candidates=[4, 7, head]", "target.poolings=[grid4]"],
    )
    test = result.metrics.test
    assert test.n_way == 200
    assert test.top1 >= 0.60
    assert result.shuffled.top1 <= 0.03
    assert result.test_reads == 1
    assert result.target.layers != ["head"]
    assert test.top1_ci95[0] < test.top1 < test.top1_ci95[1]
    assert test.permutation_p < 0.01


@pytest.mark.slow
def test_layer_and_pooling_chosen_on_validation_reach_the_probe(v4, shared_cache, tmp_path):
    results = [
        train(
            "shallow-alignment",
            dataset="macaque-v4",
            root=v4,
            subject="201025",
            split=k,
            out=tmp_path / f"run{k}",
            cache=shared_cache,
            device="cpu",
        )
        for k in (0, 1, 2)
    ]
    scores = [r.metrics.test.top1 for r in results]
    assert np.mean(scores) >= 0.68
    assert min(scores) >= 0.62
    assert max(r.shuffled.top1 for r in results) <= 0.03
    assert {r.test_reads for r in results} == {1}


@pytest.mark.slow
def test_mean_pooled_layers_form_an_inverted_u(v4, shared_cache, tmp_path):
    summary = sweep(
        "shallow-alignment",
        over=["layer", "split=0,1,2"],
        dataset="macaque-v4",
        root=v4,
        subject="201025",
        out=tmp_path / "sweep",
        cache=shared_cache,
        device="cpu",
        settings=["target.pooling=mean"],
    )
    assert summary["mean"]["test_top1"] >= 0.35
    against = {c["against"]: c for c in summary["comparisons"]}
    assert against["layer head"]["difference"] >= 0.15
    assert against["layer head"]["p"] < 0.01
    with open(tmp_path / "sweep/sweep.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    mean = {
        layer: np.mean([float(r["test_top1"]) for r in rows if r["layer"] == layer])
        for layer in {r["layer"] for r in rows}
    }
    blocks = [mean[str(i)] for i in range(16)]
    top = int(np.argmax(blocks))
    assert 3 <= top <= 13
    assert blocks[0] < 0.5 * blocks[top]
    assert blocks[15] < 0.8 * blocks[top]
