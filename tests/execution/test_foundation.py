"""One space for several subjects, from their recordings to the run's folder, and what is done with it afterwards."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from tests_support import FAST, N_CHANS, N_IMAGES, write_own

from brainalign.analysis.registry import analyze
from brainalign.errors import InputError
from brainalign.evaluation.result import read_result
from brainalign.execution.foundation import train_foundation
from brainalign.execution.foundation_again import reopen_foundation

SETTINGS = [*FAST[1:5:2], "target.pooling=grid2", "target.layer=1", "training.epochs=60", "training.batch_size=32"]
SETTINGS += ["evaluation.n_resamples=200", "evaluation.n_permutations=200", "foundation.dropout=0", "training.lr=0.003"]


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Four subjects who saw the same images; the numbers of their channels differ."""
    folder = write_own(tmp_path_factory.mktemp("own") / "data")
    first = np.load(folder / "sub-01/signals.npy")
    for number in (2, 3, 4):
        other = folder / f"sub-{number:02d}"
        shutil.copytree(folder / "sub-01", other)
        rng = np.random.default_rng(number)
        mixed = first[:, :, 0] @ rng.normal(size=(N_CHANS, N_CHANS + number)) / np.sqrt(N_CHANS)
        np.save(other / "signals.npy", (mixed + 0.3 * rng.normal(size=mixed.shape))[:, :, None].astype(np.float32))
    return folder


@pytest.fixture(scope="module")
def trained(people, tmp_path_factory, shared_cache):
    """Subject 04 is left for later."""
    out = tmp_path_factory.mktemp("foundation") / "run"
    document = train_foundation(
        "foundation", datasets=[str(people)], subjects=["01", "02", "03"], out=out, settings=SETTINGS, device="cpu",
        cache=shared_cache,
    )  # fmt: skip
    return out, document


def test_every_subject_has_a_result_and_the_space_converts(trained):
    out, document = trained
    assert [one["name"] for one in document["sources"]] == ["data-01", "data-02", "data-03"]
    for one in document["sources"]:
        result = read_result(out / one["folder"])
        assert result.test_reads == 1
        assert result.metrics.test.n_way == N_IMAGES // 6
        assert result.metrics.test.top1 > 0.3
        assert result.metrics.test.permutation_p < 0.01
    (cell,) = document["conversion"]["contrastive"]
    assert (cell["source"], cell["target"], cell["n_pairs"]) == ("fmri", "fmri", 6)
    assert cell["two_way"] > 0.8 > document["conversion"]["contrastive, shuffled pairs"][0]["two_way"]


def test_a_finished_run_is_not_trained_again(trained, people, shared_cache):
    out, document = trained
    before = (out / "model.safetensors").stat().st_mtime_ns
    again = train_foundation(
        "foundation", datasets=[str(people)], subjects=["01", "02", "03"], out=out, settings=SETTINGS, device="cpu",
        cache=shared_cache,
    )  # fmt: skip
    assert again == document
    assert (out / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="holds another run"):
        train_foundation(
            "foundation", datasets=[str(people)], subjects=["01", "02"], out=out, settings=SETTINGS, device="cpu",
            cache=shared_cache,
        )  # fmt: skip


def test_reopened_it_gives_the_same_scores(trained, people, shared_cache):
    out, _ = trained
    run = reopen_foundation(out, root=people, device="cpu", cache=shared_cache)
    for name, member in run.members.items():
        stored = read_result(out / "sources" / name)
        data = member.session.test_data(member.subject, member.split.index, run.recipe)
        gallery = member.session.targets(member.subject, run.recipe.target)[run.label].of(data.gallery_ids)
        similarity = run.aligner.similarity(data.signals, {"image": gallery}, source=name)
        top1 = np.mean(similarity.argmax(axis=1) == [data.gallery_ids.index(i) for i in data.query_ids])
        assert top1 == pytest.approx(stored.metrics.test.top1)


def test_other_data_are_refused(trained, people, tmp_path, shared_cache):
    out, _ = trained
    other = tmp_path / "data"
    shutil.copytree(people, other)
    (other / "images/i000.png").unlink()
    for subject in sorted(other.glob("sub-*")):
        rows = (subject / "trials.csv").read_text().splitlines()
        keep = [i for i, row in enumerate(rows[1:]) if not row.startswith("i000.png")]
        (subject / "trials.csv").write_text("\n".join([rows[0], *(rows[1:][i] for i in keep)]) + "\n")
        np.save(subject / "signals.npy", np.load(subject / "signals.npy")[keep])
    with pytest.raises(InputError, match="another cut"):
        reopen_foundation(out, root=other, device="cpu", cache=shared_cache)


def test_a_newcomer_is_measured_both_ways(trained, people, shared_cache):
    out, _ = trained
    options = {"subject": "04", "images": "12,40", "draws": 2, "root": str(people), "cache": str(shared_cache)}
    found = analyze("newcomer", [out], options | {"device": "cpu"})
    assert found.numbers["newcomer"] == "data-04"
    assert found.numbers["test_reads"] == 1
    few, many = found.numbers["points"]
    assert (few["n_images"], many["n_images"]) == (12, 40)
    assert len(many["added"]["draws"]) == 2
    # Its signals are a mixture of channels the space knows: the layer alone is enough.
    assert many["added"]["top1"] > 5 * found.numbers["chance_top1"] * 0.8
    gap = many["added_minus_scratch"]["difference"]
    assert gap == pytest.approx(many["added"]["top1"] - many["scratch"]["top1"])
    assert np.mean(many["added"]["draws"]) == pytest.approx(many["added"]["top1"])


def test_a_number_of_training_images_is_refused(people, tmp_path, shared_cache):
    with pytest.raises(InputError, match=r"training\.n_images: a foundation run trains on all images"):
        train_foundation(
            "foundation", datasets=[str(people)], out=tmp_path / "run", settings=[*SETTINGS, "training.n_images=20"],
            cache=shared_cache,
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "names nobody"),
        ({"subject": "01"}, "was trained on"),
        ({"subject": "09"}, "09"),
        ({"subject": "04", "images": "few"}, "takes whole numbers"),
        ({"subject": "04", "images": "5000"}, "training images asked for"),
        ({"subject": "04", "dataset": "datum"}, "data set of this run"),
    ],
)
def test_what_is_no_newcomer(trained, people, shared_cache, options, said):
    out, _ = trained
    with pytest.raises(InputError, match=said):
        analyze("newcomer", [out], options | {"root": str(people), "cache": str(shared_cache), "device": "cpu"})


def test_no_foundation_run_is_refused(tmp_path):
    (tmp_path / "foundation").mkdir()
    with pytest.raises(InputError, match="no finished foundation run"):
        reopen_foundation(tmp_path / "foundation")


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "other/1"}, {"datasets": []}, {"datasets": [1]}, {"sources": []}, {"sources": [{"name": "data-01"}]},
        {"sources": [{"name": "../../etc", "subject": "01"}]}, {"sources": ["data-01"]}, {"layer": 1}, {"split": "0"},
        {"pooling": None},
    ],
)  # fmt: skip
def test_a_damaged_document_is_refused(trained, people, tmp_path, shared_cache, change):
    copy = tmp_path / "run"
    shutil.copytree(trained[0], copy)
    file = copy / "foundation.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(InputError, match="is damaged"):
        reopen_foundation(copy, root=people, device="cpu", cache=shared_cache)


def test_ablations_are_runs_of_their_own(people, tmp_path, shared_cache):
    """The digest's ablation: regression instead of contrast."""
    document = train_foundation(
        "foundation", datasets=[str(people)], subjects=["01", "02"], out=tmp_path / "run", device="cpu",
        settings=[*SETTINGS, "losses.brain_image=0", "losses.regression=1"], cache=shared_cache, closed_form=False,
    )  # fmt: skip
    assert "closed form" not in document["conversion"]
    assert all(one["test"]["top1"] > 0.2 for one in document["sources"])
    assert json.loads((tmp_path / "run/foundation.json").read_text()) == document
