from __future__ import annotations

import math
import re

import pytest

from brainalign.report.caveats import run_caveats, sweep_caveats


@pytest.fixture
def result_of(make_run, tmp_path):
    numbers = iter(range(100))
    return lambda **changes: make_run(tmp_path / f"run{next(numbers)}", **changes)


def found(caveats, title):
    return [c for c in caveats if c.title.startswith(title)]


def test_order_is_by_seriousness(result_of):
    caveats = run_caveats(result_of(virtual=True, budget="small"))
    kinds = [c.kind for c in caveats]
    assert kinds == sorted(kinds, key=["serious", "limit", "checked"].index)
    assert caveats[0].title == "Virtual data"
    assert found(caveats, "Shortened training")


def test_leaks_of_the_lint_are_serious(result_of):
    lint = [
        {"code": "images-shared-training-test", "severity": "leak", "text": "3 test images are also training images."}
    ]
    (leak,) = found(run_caveats(result_of(lint=lint)), "Leak")
    assert leak.kind == "serious"
    assert leak.text == lint[0]["text"]
    assert not found(run_caveats(result_of(lint=lint)), "No leak found")
    assert found(run_caveats(result_of(lint=[])), "No leak found")


def test_validation_by_image_is_said_once(result_of):
    assert len(found(run_caveats(result_of()), "Validation by image")) == 1
    assert len(found(run_caveats(result_of(lint=[])), "Validation by image")) == 1
    concepts = run_caveats(result_of(lint=[], validation_kind="concept-disjoint"))
    assert not found(concepts, "Validation by image")
    assert found(concepts, "Validation by unseen concepts")


@pytest.mark.parametrize(("hits", "title"), [(1, "Control at chance"), (5, "Control above chance")])
def test_control_is_held_against_the_binomial(result_of, hits, title):
    below = sum(math.comb(60, k) * (1 / 60) ** k * (59 / 60) ** (60 - k) for k in range(hits))
    (caveat,) = found(run_caveats(result_of(shuffled={"top1": hits / 60})), "Control")
    assert caveat.title == title
    said = float(re.search(r"p\s=\s([0-9.]+)", caveat.text)[1].rstrip("."))
    assert said == pytest.approx(1 - below, rel=0.1)  # shown with one or two digits


def test_no_control_is_said(result_of):
    assert found(run_caveats(result_of(shuffled={"top1": None})), "No shuffled control")


def test_score_at_chance_is_serious(result_of):
    metrics = result_of().metrics.model_dump()
    metrics["test"] |= {"top1": 0.05, "top1_ci95": [0.01, 0.12], "permutation_p": 0.08}
    (caveat,) = found(run_caveats(result_of(metrics=metrics)), "Not clearly above chance")
    assert caveat.kind == "serious"
    assert not found(run_caveats(result_of()), "Not clearly above chance")


def test_files_that_disagree(result_of):
    result = result_of()
    assert not found(run_caveats(result, stored_top1=result.metrics.test.top1), "Files disagree")
    (caveat,) = found(run_caveats(result, stored_top1=result.metrics.test.top1 - 0.1), "Files disagree")
    assert caveat.kind == "serious"


def test_best_epoch_at_the_end(result_of):
    assert found(run_caveats(result_of(), last_epoch=24), "Training may be too short")
    assert not found(run_caveats(result_of(), last_epoch=60), "Training may be too short")


def test_openings(result_of):
    assert found(run_caveats(result_of()), "Test set opened once")
    again = run_caveats(result_of(test_reads=3))
    assert not found(again, "Test set opened once")
    assert "3 times" in found(again, "Test set opened again")[0].text


def test_what_was_frozen_is_what_was_chosen(result_of):
    chosen = result_of()
    selection = chosen.selection.model_dump()
    last = result_of(selection=selection | {"metric": "last epoch"})
    closed = result_of(selection=selection | {"epoch": None, "settings": {"ridge": 1.0}})
    texts = [found(run_caveats(r), "Test set opened once")[0].text for r in (chosen, last, closed)]
    assert [text.partition(" were frozen")[0] for text in texts] == [
        "Epoch, layer and pooling",
        "Layer and pooling",
        "Settings, layer and pooling",
    ]
    assert ["last epoch was taken" in text for text in texts] == [False, True, False]
    assert not found(run_caveats(last, last_epoch=24), "Training may be too short")


def test_confirmation_split_is_not_called_development(result_of):
    assert found(run_caveats(result_of(split=0)), "Split 0 is for development")
    assert not found(run_caveats(result_of(split=10)), "Split 10")


def test_sweep_says_what_did_not_vary(result_of):
    results = [result_of(seed=seed) for seed in (0, 1)]
    caveats = sweep_caveats(results, n_rows=12, gap=0.04, test_reads=1)
    assert found(caveats, "One subject, one split")
    (gap,) = found(caveats, "Inflation gap +4.0")
    assert "best of 12 rows" in gap.text
    assert found(caveats, "Controls at chance")
    assert not found(sweep_caveats(results[:1], n_rows=1, gap=0.0, test_reads=1), "Inflation gap")


def test_sweep_names_a_bad_condition(result_of):
    results = [result_of(), result_of(seed=1, shuffled={"top1": 0.5})]
    caveats = sweep_caveats(results, n_rows=2, gap=0.0, test_reads=1)
    assert found(caveats, "Control above chance")
    assert not found(caveats, "Controls at chance")
