"""foundation/table1 on own small recordings: every score counted again from the stored similarities and embeddings."""

from __future__ import annotations

import csv
import json
import math
import shutil

import numpy as np
import pytest
import yaml
from eeg_imagenet_support import write_eeg_imagenet
from foundation_support import QUICK, give_classes, write_pair
from tests_support import N_IMAGES, write_own

from brainalign.cli.main import run as cli
from brainalign.datasets import open_dataset
from brainalign.datasets.folder import FolderDataset
from brainalign.errors import InputError
from brainalign.evaluation.result import read_result
from brainalign.execution import reproduce_foundation as module
from brainalign.execution.cells import Place
from brainalign.execution.reproduce import reproduce
from brainalign.execution.reproduce_plan import Wishes
from brainalign.features import extract_features
from brainalign.recipes.published_tables import read_table

CLIP = "open_clip:ViT-B-32/openai"
STAND_IN = {CLIP: "timm:test_resnet"}
SETTINGS = [*QUICK, "training.epochs=60", "objective.temperature=0.07"]
SETTINGS += ["foundation.encoders.meg.name=eegproject", "foundation.encoders.meg.options={dropout: 0.5}"]
N_TEST, N_CLASSES = N_IMAGES // 6, 4


def table(out, cache, **changes):
    given = {"settings": SETTINGS, "backbones": STAND_IN, "cache": cache, "device": "cpu"}
    return reproduce("foundation/table1", out=out, **given | changes)


@pytest.fixture(scope="module")
def pair(tmp_path_factory, shared_cache):
    """fMRI of two subjects and MEG of one in one space."""
    folder = write_pair(tmp_path_factory.mktemp("pair"))
    out = folder / "table"
    document = table(out, shared_cache, dataset=f"{folder}/scanner,{folder}/helmet")
    return folder, out, document


@pytest.fixture(scope="module")
def classes(tmp_path_factory, shared_cache):
    """MEG whose images are of four classes, which came in blocks."""
    folder = write_pair(tmp_path_factory.mktemp("classes"))
    names = give_classes(folder / "helmet", N_CLASSES)
    rows = [f"c{i % N_CLASSES}/i{i:03d},c{i % N_CLASSES}/i{i:03d}.png,{names[i]},block" for i in range(N_IMAGES)]
    text = "\n".join(["stimulus_id,path,concept,presentation", *rows]) + "\n"
    (folder / "helmet/stimuli.csv").write_text(text)
    out = folder / "table"
    return folder, out, table(out, shared_cache, dataset=str(folder / "helmet"), only="meg/*")


def cells(document):
    return {cell["id"]: cell for cell in document["cells"]}


class Stored:
    """What a source's folder holds, and its images through the judge."""

    def __init__(self, out, data, name, subject, cache, seed=0):
        place = out / f"cells/one-space/seed-{seed}/sources/{name}"
        with np.load(place / "predictions.npz") as file:
            self.similarity, ids, gallery = file["similarity"], file["query_ids"], file["gallery_ids"]
        with np.load(place / "embeddings.npz") as file:
            self.embedded = file["embedded"]
        self.ids, self.gallery = list(map(str, ids)), list(map(str, gallery))
        images = open_dataset(str(data)).stimuli(subject)
        bank = extract_features(images, "timm:test_resnet", ["final"], ["final"], cache_dir=cache, weights="random")
        rows = next(iter(bank.values())).rows(images.image_ids)
        self.image = {name: rows[row].astype(np.float64) for row, name in enumerate(images.ids)}

    def likeness(self, retrieved, image=None):
        """Share of other shown images that the retrieved one resembles less than the one that was shown."""
        image = image or self.image
        shares = []
        for name, found in zip(self.ids, retrieved, strict=True):
            own = np.corrcoef(image[found], self.image[name])[0, 1]
            others = [np.corrcoef(image[found], self.image[o])[0, 1] for o in self.ids if o != name]
            shares.append(np.mean([(own > r + 1e-8) + 0.5 * (abs(own - r) <= 1e-8) for r in others]))
        return np.array(shares)

    def decoding(self):
        return self.likeness([self.gallery[column] for column in self.similarity.argmax(axis=1)])

    def encoding(self):
        columns = [self.gallery.index(name) for name in self.ids]
        return self.likeness([self.ids[self.similarity[:, column].argmax()] for column in columns])


def test_classes_of_retrieved_images(classes, shared_cache):
    folder, out, document = classes
    found = cells(document)
    stored = Stored(out, folder / "helmet", "helmet-01", "01", shared_cache)
    order = np.argsort(-stored.similarity, axis=1)
    of = [name.partition("/")[0] for name in stored.gallery]
    shown = [name.partition("/")[0] for name in stored.ids]
    for metric, k in (("top1", 1), ("top5", 5)):
        hits = [name in {of[column] for column in row[:k]} for name, row in zip(shown, order, strict=True)]
        measured = found[f"meg/decoding/{metric}"]["measured"]
        assert measured["ours"] == pytest.approx(100 * np.mean(hits))
        chances = [1 - math.comb(N_TEST - of.count(c), k) / math.comb(N_TEST, k) for c in shown]
        assert measured["chance"] == pytest.approx(100 * np.mean(chances))
        assert measured["n_way"] == N_TEST
    assert found["meg/decoding/top1"]["measured"]["ours"] > found["meg/decoding/top1"]["measured"]["chance"]


def test_a_block_design_is_said_in_every_cell(classes):
    _, out, document = classes
    assert document["cells_measured"] == 4
    for cell in document["cells"]:
        assert any("Li et al., TPAMI 2021" in mark for mark in cell["measured"]["marks"])
    for name in ("table.html", "table.md", "table.csv"):
        assert "slow drifts of the recording" in (out / name).read_text()
    page = (out / "cells/one-space/seed-0/report.html").read_text()
    assert page.count("slow drifts of the recording") >= 2  # ahead of the figures, and among the doubts
    held = json.loads((out / "cells/one-space/seed-0/foundation.json").read_text())
    assert any("slow drifts" in said for said in held["always_said"])


def test_likeness_of_retrieved_images(pair, shared_cache):
    folder, out, document = pair
    found = cells(document)
    meg = Stored(out, folder / "helmet", "helmet-01", "01", shared_cache)
    assert found["meg/decoding/clip_two_way"]["measured"]["ours"] == pytest.approx(100 * meg.decoding().mean())
    assert found["meg/encoding/clip_two_way"]["measured"]["ours"] == pytest.approx(100 * meg.encoding().mean())
    people = [Stored(out, folder / "scanner", f"scanner-{s}", s, shared_cache) for s in ("01", "02")]
    measured = found["fmri/decoding/clip_two_way"]["measured"]
    assert measured["ours"] == pytest.approx(50 * sum(one.decoding().mean() for one in people))
    assert measured["subjects"] == ["01", "02"]
    low, high = measured["ours_ci95"]
    assert low < measured["ours"] < high and measured["chance"] == 50
    assert measured["ours"] > 60


def test_conversion_is_divided_by_the_targets_own_decoding(pair, shared_cache):
    folder, out, document = pair
    meg = Stored(out, folder / "helmet", "helmet-01", "01", shared_cache)
    people = [Stored(out, folder / "scanner", f"scanner-{s}", s, shared_cache) for s in ("01", "02")]
    two_way = [meg.likeness([b.ids[c] for c in (meg.embedded @ b.embedded.T).argmax(axis=1)], b.image) for b in people]
    own = np.mean([b.decoding().mean() for b in people])
    measured = cells(document)["meg-to-fmri/conversion/clip_two_way"]["measured"]
    assert measured["ours"] == pytest.approx(100 * np.mean(two_way) / own)
    assert measured["chance"] == pytest.approx(50 / own)
    assert measured["n_way"] == N_TEST
    low, high = measured["ours_ci95"]
    assert low <= measured["ours"] <= high
    back = [b.likeness([meg.ids[c] for c in (b.embedded @ meg.embedded.T).argmax(axis=1)], meg.image) for b in people]
    lowest = min(measured["ours"], 100 * np.mean(back) / meg.decoding().mean())
    every = cells(document)["all-directions/conversion/clip_two_way"]["measured"]
    assert every["ours"] == pytest.approx(lowest)
    assert any(mark.startswith("the lowest of 2 directions (of the paper's 6)") for mark in every["marks"])
    assert {(one["source"], one["target"]) for one in document["conversions"]} == {("fmri", "meg"), ("meg", "fmri")}


def test_what_stands_beside_a_score(pair):
    _, out, document = pair
    found = cells(document)
    measured = found["meg/decoding/clip_two_way"]["measured"]
    assert measured["difference"] is None and measured["not_comparable"].startswith("other data (")
    assert f"timm:test_resnet stands in for {CLIP}" in measured["marks"]
    assert "images compared by timm:test_resnet, final output, the anchor of the run itself" in measured["marks"]
    assert any(mark.startswith("one space trained on ") for mark in measured["marks"])
    assert f"chance 50.0, {N_TEST} to choose from" in measured["marks"]
    assert "the nearest recorded test signal alone" in found["meg/encoding/clip_two_way"]["measured"]["marks"]
    assert "have no classes" in found["meg/decoding/top1"]["reason"]
    assert "needs the data set eeg-imagenet (eeg)" in found["eeg/decoding/top1"]["reason"]
    run = out / measured["run"] / "seed-0"
    assert read_result(run / "sources/helmet-01").test_reads == 1  # nothing was opened again
    with open(out / "table.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(document["cells"])


@pytest.fixture(scope="module")
def apart(tmp_path_factory, shared_cache):
    """fMRI and MEG of other images, two seeds: what the paper's own data sets are like."""
    folder = tmp_path_factory.mktemp("apart")
    write_own(folder / "scanner")
    helmet = write_own(folder / "helmet", seed=1)
    for image in sorted((helmet / "images").glob("*.png")):
        image.rename(image.with_name(f"j{image.name}"))
    trials = helmet / "sub-01/trials.csv"
    trials.write_text(trials.read_text().replace("\ni", "\nji"))
    signals = np.load(helmet / "sub-01/signals.npy") * np.array([0.5, 1.0, 0.8, 0.2], np.float32)
    np.save(helmet / "sub-01/signals.npy", signals)
    (helmet / "dataset.yaml").write_text("modality: meg\nsfreq: 10\ntmin: 0.0\n")
    out = folder / "table"
    data = f"{folder}/scanner,{folder}/helmet"
    settings = [*SETTINGS, "training.epochs=10"]
    return folder, out, table(out, shared_cache, dataset=data, seeds=(0, 1), settings=settings)


def test_modalities_that_saw_other_images_are_converted_too(apart, shared_cache):
    folder, out, document = apart
    two_way, own = [], []
    for seed in (0, 1):
        meg, fmri = (
            Stored(out, folder / name, f"{name}-01", "01", shared_cache, seed) for name in ("helmet", "scanner")
        )
        assert not set(meg.ids) & set(fmri.ids)
        nearest = (meg.embedded @ fmri.embedded.T).argmax(axis=1)
        two_way.append(meg.likeness([fmri.ids[column] for column in nearest], fmri.image))
        own.append(fmri.decoding())
    measured = cells(document)["meg-to-fmri/conversion/clip_two_way"]["measured"]
    assert measured["ours"] == pytest.approx(100 * np.mean(two_way) / np.mean(own))
    assert measured["interval"] == "percentile" and measured["seeds"] == [0, 1]
    assert any("tested on different images" in mark for mark in measured["marks"])
    decoding = cells(document)["fmri/decoding/clip_two_way"]["measured"]
    assert decoding["ours"] == pytest.approx(100 * np.mean(own))
    assert decoding["subjects"] == ["01"] and "interval over images alone" in decoding["marks"]


def test_eeg_imagenet_is_measured_as_the_table_stands(tmp_path, shared_cache):
    """Beside other data, without a setting of the user's: its channels have no names and its photos no repetitions."""
    write_eeg_imagenet(tmp_path / "eeg-imagenet")
    write_own(tmp_path / "scanner")
    settings = [*QUICK, "training.epochs=2"]
    document = table(
        tmp_path / "t", shared_cache, dataset=f"eeg-imagenet,{tmp_path}/scanner", root=tmp_path, subjects=["1", "01"],
        settings=settings, only="*/decoding/*",
    )  # fmt: skip
    found = cells(document)
    assert [found[f"eeg/decoding/{metric}"]["reason"] for metric in ("top1", "top5", "clip_two_way")] == [""] * 3
    recipe = yaml.safe_load((tmp_path / "t/cells/one-space/seed-0/recipe.yaml").read_text())
    eeg = recipe["foundation"]["inputs"]["eeg"]
    assert (eeg["channels"], eeg["whiten"], eeg["scale"]) == ("all", "none", "channel")
    result = read_result(tmp_path / "t/cells/one-space/seed-0/sources/eeg-imagenet-1")
    codes = {finding.code for finding in result.lint}
    assert codes >= {"block-design", "validation-by-image", "concepts-shared-training-test"}


def test_other_eeg_keeps_the_recipes_settings(pair, tmp_path):
    own = Place(str(pair[0] / "scanner"), FolderDataset(pair[0] / "scanner"), ("01",))
    table = read_table("foundation/table1")
    settings = ["foundation.inputs.eeg.channels=all", "foundation.inputs.eeg.whiten=none"]
    for name, expected in (("eeg-imagenet", settings), ("eeg-imagenet:raw", settings), ("virtual-eeg:small", [])):
        places = [own, Place(name, FolderDataset(pair[0] / "helmet"), ("01",))]
        for cell in table.cells:
            assert list(module._plan(table, cell, places, Wishes()).settings) == expected


def test_a_second_call_trains_nothing(pair, shared_cache, monkeypatch):
    folder, out, document = pair
    where = "brainalign.alignment.foundation.FoundationAligner.fit_sources"
    monkeypatch.setattr(where, lambda *a, **k: pytest.fail("trained again"))
    again = table(out, shared_cache, dataset=f"{folder}/scanner,{folder}/helmet")
    assert again["cells"] == document["cells"]
    with pytest.raises(InputError, match="holds another reproduction"):
        table(out, shared_cache, dataset=f"{folder}/scanner")


def test_one_modality_has_no_conversion(pair, tmp_path, shared_cache):
    document = table(tmp_path / "t", shared_cache, dataset=str(pair[0] / "scanner"), only="*conversion*")
    reasons = [cell["reason"] for cell in document["cells"]]
    assert reasons[0] == "needs eeg and meg in one space beside fmri (--dataset A,B,C)"
    assert reasons[1] == "needs meg in one space beside fmri (--dataset A,B,C)"
    assert not (tmp_path / "t/cells").exists()


def test_without_data_every_cell_says_why(tmp_path, shared_cache):
    document = table(tmp_path / "t", shared_cache)
    assert document["cells_measured"] == 0
    found = cells(document)
    for row, name in (("eeg", "eeg-imagenet"), ("meg", "things-meg"), ("fmri", "nsd")):
        assert f"the data set {name} is not here" in found[f"{row}/decoding/clip_two_way"]["reason"]
    assert "needs meg and fmri in one space" in found["meg-to-fmri/conversion/clip_two_way"]["reason"]


def test_a_judge_that_was_asked_for_and_subjects(pair, tmp_path, shared_cache, monkeypatch):
    monkeypatch.setattr(FolderDataset, "info", property(lambda self: virtual(self)))
    own = pair[0] / "scanner"
    document = table(
        tmp_path / "t", shared_cache, dataset=str(own), subjects=["02"], only="fmri/decoding/*",
        settings=[*SETTINGS, "training.epochs=2"], judge="pip:efficientnet-lite0",
    )  # fmt: skip
    (cell,) = document["cells"]
    assert "images compared by pip:efficientnet-lite0, final output" in cell["measured"]["marks"]
    assert cell["measured"]["subjects"] == ["02"]
    assert document["virtual"] and cell["measured"]["not_comparable"] == "virtual data"


plain_info = FolderDataset.__dict__["info"].func


def virtual(dataset):
    from dataclasses import replace

    return replace(plain_info(dataset), virtual=True)


def test_what_cannot_be_trained_is_the_reason(pair, tmp_path, shared_cache, monkeypatch):
    def fail(*args, **kwargs):
        raise InputError("pretrained weights cannot be had", where=CLIP)

    monkeypatch.setattr(module, "train_foundation", fail)
    document = table(tmp_path / "t", shared_cache, dataset=str(pair[0] / "scanner"))
    assert document["cells_measured"] == 0
    assert "weights cannot be had" in cells(document)["fmri/decoding/clip_two_way"]["reason"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dataset", "OWN/scanner,OWN/scanner"], "names a data set twice"),
        (["--dataset", "OWN/scanner", "--subject", "09"], "no data set has a subject '09'"),
        (["--dataset", "OWN/scanner", "--set", "target.layer=3"], "is what the cells of foundation/table1 differ in"),
        (["--dataset", "OWN/scanner", "--backbone", "rn50=timm:test_resnet"], "backbone of foundation/table1"),
        (["--dataset", "eeg-imagnet"], "did you mean"),
        (["--root", "OWN/none"], "is not a folder"),
    ],
)
def test_refused(pair, tmp_path, capsys, words, said):
    words = [word.replace("OWN", str(pair[0])) for word in words]
    capsys.readouterr()
    assert cli(["reproduce", "foundation/table1", "--out", str(tmp_path / "t"), "-q", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and said in error, error
    assert not (tmp_path / "t").exists()


def test_other_tables_compare_no_images(tmp_path):
    with pytest.raises(InputError, match="--judge"):
        reproduce("shallow-alignment/meg", out=tmp_path / "t", judge="timm:test_resnet")


def test_damaged_embeddings_are_refused(pair, tmp_path):
    from brainalign.execution.foundation_scoring import read_embedded

    place = tmp_path / "source"
    shutil.copytree(pair[1] / "cells/one-space/seed-0/sources/helmet-01", place)
    (place / "embeddings.npz").write_bytes(b"PK\x03\x04 not a file")
    with pytest.raises(InputError, match="is damaged"):
        read_embedded(place)
    np.savez(place / "embeddings.npz", embedded=np.ones((3, 2), np.float32), query_ids=np.array(["a"]))
    with pytest.raises(InputError, match="embeddings have shape"):
        read_embedded(place)
