"""All methods in one table, on own recordings of three people."""

from __future__ import annotations

import copy
import csv
import json
import shutil

import numpy as np
import pytest
from tests_support import FAST, N_CHANS, N_IMAGES, write_own
from typer.testing import CliRunner

from brainalign.cli.main import app
from brainalign.errors import InputError
from brainalign.evaluation.result import read_predictions, read_result
from brainalign.execution import methods as module
from brainalign.execution.methods import methods
from brainalign.execution.methods_plan import find_protocols, plan_methods
from brainalign.execution.methods_scores import holm, reference
from brainalign.report.methods_page import measured_of

SETTINGS = [*FAST[1::2], "target.layer=1", "training.epochs=4"]
TESTED = ["01", "02"]
RECIPES = ["shallow-alignment", "ridge", "random", "nice-llm", "foundation"]


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Three subjects who saw the same images: one map from colours to signals, and a little of their own."""
    folder = write_own(tmp_path_factory.mktemp("own") / "data")
    first = np.load(folder / "sub-01/signals.npy")
    for number in (2, 3):
        other = folder / f"sub-{number:02d}"
        shutil.copytree(folder / "sub-01", other)
        rng = np.random.default_rng(number)
        own = first[:, :, 0] @ (np.eye(N_CHANS) + 0.05 * rng.normal(size=(N_CHANS, N_CHANS)))
        noisy = own + 0.5 * rng.normal(size=own.shape)
        np.save(other / "signals.npy", noisy[:, :, None].astype(np.float32))
    return folder


def table(folder, out, cache, **how):
    how = {"recipes": RECIPES, "subjects": TESTED, "seeds": (0, 1), "settings": SETTINGS} | how
    return methods(str(folder), out=out, cache=cache, device="cpu", **how)


@pytest.fixture(scope="module")
def made(people, tmp_path_factory, shared_cache):
    out = tmp_path_factory.mktemp("methods") / "out"
    return out, table(people, out, shared_cache)


def entry(document, recipe, protocol="own/intra/v1"):
    return next(one for one in document["methods"] if (one["recipe"], one["protocol"]) == (recipe, protocol))


def runs_of(out, one):
    return sorted(path.parent for path in (out / one["measured"]["run"]).glob("runs/*/result.json"))


def hits(run):
    """By plain numpy: whether the shown image has the largest similarity."""
    stored = read_predictions(run)
    names = [stored["gallery_ids"][column] for column in stored["similarity"].argmax(1)]
    return {query: float(name == query) for query, name in zip(stored["query_ids"], names, strict=True)}


def test_every_method_is_there_or_says_why_not(made):
    _, document = made
    assert document["protocols"] == ["own/intra/v1", "own/inter/v1"]
    assert document["methods_measured"] == 6
    assert "several data sets" in entry(document, "foundation")["reason"]
    assert "no text for 72 of 72 stimuli" in entry(document, "nice-llm")["reason"]
    assert not document["virtual"]


def test_scores_are_means_over_subjects_and_seeds(made):
    out, document = made
    for name in ("ridge", "shallow-alignment"):
        one = entry(document, name)
        runs = runs_of(out, one)
        assert len(runs) == one["measured"]["runs"] == (2 if name == "ridge" else 4)
        results = [read_result(run) for run in runs]
        seeds = (0,) if name == "ridge" else (0, 1)  # a closed form has nothing to vary
        assert {(r.subject, r.seed) for r in results} == {(s, n) for s in TESTED for n in seeds}
        assert one["measured"]["top1"] == pytest.approx(np.mean([list(hits(run).values()) for run in runs]))
        assert one["measured"]["top5"] == pytest.approx(np.mean([r.metrics.test.top5 for r in results]))
        low, high = one["measured"]["top1_ci95"]
        assert low < one["measured"]["top1"] < high
        assert one["measured"]["shuffled_top1"] == pytest.approx(np.mean([r.shuffled.top1 for r in results]))
        assert one["measured"]["chance_top1"] == pytest.approx(6 / N_IMAGES)
        assert one["measured"]["test_reads"] == 1


def test_a_decoder_is_above_chance_and_a_guess_is_not(made):
    for protocol in ("own/intra/v1", "own/inter/v1"):
        ridge, guess = (entry(made[1], name, protocol)["measured"] for name in ("ridge", "random"))
        assert ridge["top1_ci95"][0] > ridge["chance_top1"]
        assert ridge["permutation_p"] < 0.001
        assert guess["top1_ci95"][0] < guess["chance_top1"] < guess["top1_ci95"][1]
        assert guess["permutation_p"] > 0.01


def test_left_out_subjects_are_trained_by_the_others(made):
    out, document = made
    for run in runs_of(out, entry(document, "ridge", "own/inter/v1")):
        result = read_result(run)
        assert result.subject not in result.training_subjects
        assert len(result.training_subjects) == 2


def test_differences_are_paired_and_against_the_best_on_validation(made):
    out, document = made
    found = [one for one in document["methods"] if one["protocol"] == "own/intra/v1" and one["measured"]]
    able = [one for one in found if one["recipe"] != "random"]
    best = max(able, key=lambda one: np.mean([read_result(r).metrics.validation.mrr for r in runs_of(out, one)]))
    assert [one["recipe"] for one in found if one["reference"]] == [best["recipe"]]
    assert best["difference"] is None
    for one in found:
        if one is best:
            continue
        mine, theirs = (np.mean([list(hits(run).values()) for run in runs_of(out, side)]) for side in (one, best))
        assert one["difference"]["difference"] == pytest.approx(mine - theirs)
        assert one["difference"]["conditions"] == (2 if "ridge" in (one["recipe"], best["recipe"]) else 4)
        assert one["difference"]["p_holm"] >= one["difference"]["p"]


def test_tables_are_written_in_every_form(made):
    out, document = made
    assert json.loads((out / "methods.json").read_text()) == document
    with open(out / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(document["methods"]) == 10
    ridge = next(row for row in rows if (row["recipe"], row["protocol"]) == ("ridge", "own/inter/v1"))
    assert float(ridge["top1"]) == entry(document, "ridge", "own/inter/v1")["measured"]["top1"]
    markdown, page = (out / "table.md").read_text(), (out / "table.html").read_text()
    for text in (markdown, page):
        assert "reference" in text
        assert "own/inter/v1" in text
        assert "several data sets" in text
        assert "VIRTUAL" not in text
    assert "<script src" not in page
    order = [one["measured"]["validation_mrr"] for one in measured_of(document, "own/intra/v1")]
    assert order == sorted(order, reverse=True)


def test_a_second_call_only_reads_and_takes_more(made, people, shared_cache, monkeypatch):
    out, document = made
    monkeypatch.setattr("brainalign.execution.train.fit_jobs", lambda *a, **k: pytest.fail("trained again"))
    again = table(people, out, shared_cache, recipes=["ridge", "random"], protocols=["intra"], against="random")
    assert [one["recipe"] for one in again["methods"]] == ["ridge", "random"]
    assert entry(again, "ridge")["measured"] == entry(document, "ridge")["measured"]
    assert entry(again, "ridge")["difference"]["against"] == "random"
    with pytest.raises(InputError, match="holds another table of methods"):
        table(people, out, shared_cache, seeds=(5,))
    table(people, out, shared_cache)  # leaves the folder as the other tests expect it


def test_matched_methods_have_one_target(people, tmp_path, shared_cache):
    settings = [*FAST[1::2], "training.epochs=2"]
    document = table(
        people, tmp_path / "m", shared_cache, recipes=["ridge", "generative", "nice", "ubp", "random"], seeds=(0,),
        subjects=["01"], protocols=["intra"], settings=settings, match=True,
    )  # fmt: skip
    measured = [one["measured"] for one in document["methods"] if one["measured"]]
    assert len(measured) >= 3
    assert len({tuple(found["targets"]) for found in measured}) == 1
    assert {found["transform"] for found in measured} == {None}
    assert "the same image target" in (tmp_path / "m/table.md").read_text()


def test_virtual_data_is_called_so_and_not_ranked(people, tmp_path, shared_cache, monkeypatch):
    from dataclasses import replace

    original = module.open_place

    def virtual(*args, **kwargs):
        place = original(*args, **kwargs)
        place.dataset.info = replace(place.dataset.info, virtual=True)
        return place

    monkeypatch.setattr(module, "open_place", virtual)
    names = ["random", "ridge"]
    document = table(people, tmp_path / "v", shared_cache, recipes=names, seeds=(0,), protocols=["intra"])
    assert document["virtual"]
    assert [one["recipe"] for one in measured_of(document, "own/intra/v1")] == names
    for name in ("table.md", "table.html"):
        text = (tmp_path / "v" / name).read_text()
        assert "No virtual score ranks methods" in text
        assert "VIRTUAL DATA" in text


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"recipes": ["rigde"]}, "did you mean 'ridge'"),
        ({"recipes": ["ridge", "ridge"]}, "names a recipe twice"),
        ({"protocols": ["own/outer/v1"]}, "unknown protocol"),
        ({"protocols": ["intra", "own/intra/v1"]}, "names a protocol twice"),
        ({"subjects": ["09"]}, "no subject '09'"),
        ({"seeds": (1, 1)}, "names a value twice"),
        ({"settings": ["trainin.epochs=3"]}, "unknown recipe key"),
        ({"against": "nice"}, "unknown recipe of this table"),
        ({"split": 7}, "split"),
    ],
)
def test_bad_input_is_refused_and_leaves_nothing(people, tmp_path, shared_cache, how, words):
    with pytest.raises(InputError, match=words) as caught:
        table(people, tmp_path / "bad", shared_cache, **how)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "bad").exists()


def test_one_subject_cannot_be_left_out(tmp_path, shared_cache):
    folder = write_own(tmp_path / "data")
    place = module.open_place(str(folder), None, cache=shared_cache)
    assert find_protocols(place.dataset, []) == ["own/intra/v1"]
    with pytest.raises(InputError, match="one subject"):
        find_protocols(place.dataset, ["inter"])
    assert {cell.protocol for cell in plan_methods(place, ["ridge"], [], [])} == {"own/intra/v1"}


def test_the_reference_is_never_chosen_by_test_scores():
    def line(recipe, test, validation, family="contrastive"):
        return {"recipe": recipe, "measured": {"top1": test, "validation_mrr": validation, "family": family}}

    lines = [line("a", 0.9, 0.2), line("b", 0.1, 0.5), line("random", 0.0, 0.9, "random")]
    assert reference(lines, None)["recipe"] == "b"
    assert reference(lines, "a")["recipe"] == "a"
    assert reference([{"recipe": "c", "measured": None}], None) is None


def test_holm_by_hand():
    # 0.005 * 4, then 0.011 * 3, then max(0.02 * 2, before), then max(0.04 * 1, before)
    assert holm([0.02, 0.005, 0.04, 0.011]) == pytest.approx([0.04, 0.02, 0.04, 0.033])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_command_shows_the_table(made, people, shared_cache):
    words = [w for name in ("ridge", "random") for w in ("--recipes", name)]
    words += ["--dataset", str(people), "--out", str(made[0]), "--seed", "0", "--seed", "1", "--quiet"]
    words += ["--protocol", "intra", "--cache", str(shared_cache), "--device", "cpu"]
    words += [w for setting in SETTINGS for w in ("--set", setting)]
    words += [w for subject in TESTED for w in ("--subject", subject)]
    found = CliRunner().invoke(app, ["methods", *words])
    assert found.exit_code == 0, found.output
    assert "ridge" in found.output
    assert "reference" in found.output
    assert "table.html" in found.output


def test_processes_beside_each_other_give_the_same_table(made, people, tmp_path, shared_cache):
    _, document = made
    other = table(people, tmp_path / "out", shared_cache, jobs=2)
    one, two = (copy.deepcopy(found) for found in (document, other))
    for entry_ in (*one["methods"], *two["methods"]):
        if entry_["measured"]:
            entry_["measured"].pop("train_s")
    assert one == two


def test_a_closed_form_runs_once(made):
    out, document = made
    ridge, other = entry(document, "ridge"), entry(document, "shallow-alignment")
    assert ridge["measured"]["seeds"] == [0]
    assert other["measured"]["seeds"] == [0, 1]
    assert len(runs_of(out, ridge)) == len(TESTED)


def test_a_negative_number_of_processes_is_refused(people, tmp_path, shared_cache):
    with pytest.raises(InputError, match="processes asked for"):
        table(people, tmp_path / "out", shared_cache, jobs=-1)
