"""ImageNetEEG in its published layout: what comes out is what was written; what is damaged is refused in one line."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from eeg_imagenet_support import (
    FIRST,
    LABELS,
    LONG,
    N_IMAGES,
    SECOND,
    SHORT,
    SHORTEST,
    image_names,
    signals_file,
    splits_file,
    write_eeg_imagenet,
)
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann
from tests_support import FAST

from brainalign.cli.main import run
from brainalign.datasets import open_dataset
from brainalign.datasets.eeg_imagenet import EEGImageNet
from brainalign.datasets.eeg_imagenet import tensors as tensors_module
from brainalign.datasets.eeg_imagenet.classes import CLASSES, class_accuracy
from brainalign.datasets.eeg_imagenet.spectrogram import spectrogram
from brainalign.errors import InputError
from brainalign.evaluation.result import read_predictions, read_result
from brainalign.protocols import find_protocol, lint_split
from brainalign.report.caveats import run_caveats, sweep_caveats

SIGNALS, SPLITS = "eeg_5_95_std.pth", "block_splits_by_image_all.pth"
NAMES = image_names()


def opened(root: Path, preset: str | None = None) -> EEGImageNet:
    return EEGImageNet(root, preset=preset, cache_dir=root.parent / "cache")


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("eeg-imagenet") / "data"
    write_eeg_imagenet(root)
    return root


@pytest.fixture(scope="session")
def held() -> dict[str, Any]:
    return signals_file()


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "data", ignore=shutil.ignore_patterns("images")))


def used(held: dict[str, Any], subject: int) -> list[dict[str, Any]]:
    """Items of a subject as the published program filters them, and that hold the whole window."""
    return [i for i in held["dataset"] if i["subject"] == subject and 460 <= i["eeg"].shape[1] <= 600]


def check_values(dataset: EEGImageNet, held: dict[str, Any]) -> None:
    for subject in (1, 2):
        recording, items = dataset.recording(str(subject)), used(held, subject)
        assert (recording.n_chans, recording.n_times, recording.sfreq, recording.tmin) == (128, 440, 1000.0, 0.02)
        assert recording.trials["stimulus_id"].tolist() == [f"imagenet/{NAMES[i['image']]}" for i in items]
        read = recording.read(np.arange(len(recording)))
        np.testing.assert_array_equal(read, np.stack([i["eeg"][:, 20:460].numpy() for i in items]))


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("place", ["", "block"])
def test_values_are_those_written(tmp_path: Path, held: dict[str, Any], old: bool, place: str) -> None:
    (tmp_path / "data" / place).mkdir(parents=True)
    torch.save(held, tmp_path / "data" / place / SIGNALS, _use_new_zipfile_serialization=not old)
    check_values(opened(tmp_path / "data"), held)


def test_odd_lengths_are_left_out(root: Path, held: dict[str, Any]) -> None:
    """As published: 450 to 600 samples; of these, ones that end before 460 hold no whole window."""
    odd = [(held["dataset"][i]["subject"], held["dataset"][i]["image"]) for i in (SHORT, SHORTEST, LONG)]
    dataset = opened(root)
    assert len(dataset.recording("1")) + len(dataset.recording("2")) == FIRST + SECOND - 3
    for subject, image in odd:
        assert f"imagenet/{NAMES[image]}" not in dataset.stimuli(str(subject)).ids


def test_the_second_time_comes_from_the_copy(root: Path, held: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    opened(root).recording("1")
    monkeypatch.setattr("brainalign.datasets.eeg_imagenet.store.load_tensors", None)
    check_values(opened(root), held)
    assert isinstance(opened(root).recording("1").signals, np.memmap)
    assert not list(root.parent.rglob("*.partial"))


def test_raw_signals_are_standardised(tmp_path: Path, held: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    means, spreads = torch.from_numpy(rng.normal(size=(128, 1))), torch.from_numpy(rng.uniform(1, 2, (128, 1)))
    whole = [item | {"eeg": (item["eeg"] * 100).round().to(torch.int32)} for item in held["dataset"]]
    root = tmp_path / "data"
    root.mkdir()
    torch.save(
        held | {"dataset": whole, "means": means, "stddevs": spreads}, root / "eeg_signals_raw_with_mean_std.pth"
    )
    recording = opened(root, "raw").recording("2")
    raw = np.stack([np.round(i["eeg"][:, 20:460].numpy() * 100) for i in used(held, 2)])
    wanted = (raw - means.numpy()) / spreads.numpy()
    np.testing.assert_allclose(recording.read(np.arange(len(raw))), wanted, rtol=1e-6, atol=1e-6)


def test_one_file_among_several_has_to_be_named(root: Path, held: dict[str, Any]) -> None:
    torch.save(held, root / "eeg_55_95_std.pth")
    with pytest.raises(
        InputError, match=r"holds eeg_5_95_std\.pth and eeg_55_95_std\.pth; name one: eeg-imagenet:5-95"
    ):
        opened(root).recording("1")
    check_values(opened(root, "55-95"), held)
    assert open_dataset("eeg-imagenet:55-95", root).facts()["signals"] == "eeg_55_95_std.pth"
    with pytest.raises(InputError, match=r"holds no eeg_14_70_std\.pth"):
        opened(root, "14-70").recording("1")
    with pytest.raises(InputError, match="has no preset '5-90'"):
        open_dataset("eeg-imagenet:5-90", root)


def test_spectrogram_is_that_of_scipy() -> None:
    values = np.random.default_rng(0).normal(size=(2, 3, 440))
    power, frequencies, centres = spectrogram(values, 1000.0)
    scipy = ShortTimeFFT(hann(40, sym=False), 20, 1000.0, scale_to="magnitude", phase_shift=None)
    # scipy's slice p is centred at sample 20 p: our first window (samples 0 to 39) is its slice 1
    wanted = np.abs(scipy.stft(values, p0=1, p1=22)[:, :, 1:5]) ** 2
    assert power.shape == (2, 3, 4, 21)
    np.testing.assert_allclose(power, 10 * np.log10(wanted), atol=1e-4)
    assert frequencies.tolist() == [25.0, 50.0, 75.0, 100.0]
    np.testing.assert_allclose(centres[[0, -1]], [0.0195, 0.4195])


def test_silence_has_a_spectrogram() -> None:
    np.testing.assert_array_equal(spectrogram(np.zeros((1, 1, 440)), 1000.0)[0], -120)


@pytest.mark.parametrize("preset", ["spectrogram", "5-95-spectrogram"])
def test_spectrogram_as_recording(root: Path, held: dict[str, Any], preset: str) -> None:
    recording = opened(root, preset).recording("2")
    assert (recording.n_chans, recording.n_times) == (512, 21)
    assert recording.sfreq == pytest.approx(50)
    assert recording.tmin == pytest.approx(0.0395)
    assert recording.ch_names[4:6] == ("E002@25Hz", "E002@50Hz")
    assert recording.channels is not None
    assert recording.channels.iloc[5].tolist() == ["E002", 50.0]
    items = used(held, 2)
    alone = spectrogram(items[3]["eeg"][None, :, 20:460].numpy(), 1000.0)[0]
    np.testing.assert_allclose(recording.read([3])[0, 5], alone[0, 1, 1], atol=1e-5)
    assert recording.crop(0.1, 0.2).n_times == 5


def test_published_splits_are_kept(root: Path, held: dict[str, Any]) -> None:
    dataset = opened(root)
    stimuli, recording = dataset.stimuli("1"), dataset.recording("1")
    published = torch.load(root / SPLITS, weights_only=True)["splits"]
    for number in (0, 1):
        split = find_protocol("eeg-imagenet/intra/v1").split(number, stimuli, recording)
        for ids, part in ((split.train, "train"), (split.validation, "val"), (split.test, "test")):
            items = [held["dataset"][i] for i in published[number][part]]
            wanted = {i["image"] for i in items if i["subject"] == 1} & {i["image"] for i in used(held, 1)}
            assert set(ids) == {f"imagenet/{NAMES[image]}" for image in wanted}
        assert split.validation_kind == "image-disjoint"
    with pytest.raises(InputError, match="split 2 would be published split 2, there are 2, counted from 0"):
        find_protocol("eeg-imagenet/intra/v1").split(2, stimuli, recording)
    with pytest.raises(InputError, match="split 10 would be published split 5, there are 2"):
        find_protocol("eeg-imagenet/intra/v1").split(10, stimuli, recording)


def test_single_splits_count_the_items_of_one_subject(root: Path, held: dict[str, Any]) -> None:
    (root / SPLITS).unlink()
    single = splits_file(FIRST - 4)
    torch.save(single, root / "block_splits_by_image_single.pth")
    stimuli, recording = opened(root).stimuli("1"), opened(root).recording("1")
    split = find_protocol("eeg-imagenet/intra/v1").split(0, stimuli, recording)
    own = [i for i in held["dataset"] if i["subject"] == 1]  # before those of odd length are left out
    wanted = [own[i] for i in single["splits"][0]["test"] if 460 <= own[i]["eeg"].shape[1] <= 600]
    assert set(split.test) == {f"imagenet/{NAMES[i['image']]}" for i in wanted}
    with pytest.raises(InputError, match=rf"names item \d+, subject 2 has {SECOND}"):
        opened(root).stimuli("2")


def test_no_splits(root: Path) -> None:
    (root / SPLITS).unlink()
    dataset = opened(root)
    with pytest.raises(InputError, match=r"there are none; put the data set's file of splits beside its signals"):
        find_protocol("eeg-imagenet/intra/v1").split(0, dataset.stimuli("1"), dataset.recording("1"))


def test_classes_and_names(written: Path, tmp_path: Path) -> None:
    stimuli = EEGImageNet(written, cache_dir=tmp_path).stimuli("1")
    assert stimuli.ids == tuple(sorted(stimuli.ids))
    assert {name.removeprefix("imagenet/")[:9] for name in stimuli.ids} == set(LABELS)
    row = next(row for row, name in enumerate(stimuli.ids) if "n02951358" in name)
    assert stimuli.table["concept"][row] == "canoe"
    assert stimuli.image(row).size == (32, 32)
    assert len(CLASSES) == len(set(CLASSES.values())) == 40


@pytest.mark.parametrize("protocol", ["eeg-imagenet/intra/v1", "own/intra/v1"])
def test_every_split_is_noted_as_block_design(written: Path, tmp_path: Path, protocol: str) -> None:
    dataset = EEGImageNet(written, cache_dir=tmp_path)
    stimuli = dataset.stimuli("1")
    split = find_protocol(protocol).split(0, stimuli, dataset.recording("1"))
    found = {f.code: f for f in lint_split(split, stimuli.select(stimuli.ids))}
    assert found["block-design"].severity == "note"
    assert "shown in one block" in found["block-design"].text
    if protocol.startswith("eeg"):
        assert {"concepts-shared-training-test", "validation-by-image"} <= found.keys()
    stimuli.table["presentation"] = "random"
    assert "block-design" not in {f.code for f in lint_split(split, stimuli)}


def test_class_accuracy_against_a_count_by_hand() -> None:
    """Gallery of 6 with classes a a b b c c; nearest first: rows give (c a ...), (b ...), (a b ...)."""
    similarity = [[3, 2, 1, 0, 5, 4.0], [0, 1, 9, 8, 7, 6], [9, 0, 5, 1, 2, 3]]
    gallery = ["a", "a", "b", "b", "c", "c"]
    assert class_accuracy(similarity, ["a", "b", "b"], gallery) == pytest.approx((1 / 3, 1 / 3))
    # two nearest: (c c), (b b), (a b): two hits; chance 1 - (4/6)(3/5)
    assert class_accuracy(similarity, ["a", "b", "b"], gallery, k=2) == pytest.approx((2 / 3, 1 - 12 / 30))
    assert class_accuracy(similarity, ["a", "b", "c"], gallery, k=6) == pytest.approx((1, 1))
    with pytest.raises(InputError, match="k is 7, expected 1 to 6"):
        class_accuracy(similarity, ["a", "b", "c"], gallery, k=7)
    with pytest.raises(InputError, match=r"similarity has shape \(3, 6\), the classes say \(2, 6\)"):
        class_accuracy(similarity, ["a", "b"], gallery)


def test_check(written: Path, root: Path, tmp_path: Path) -> None:
    found = {f.where: f for f in EEGImageNet(written, cache_dir=tmp_path / "none").check()}
    assert all(f.ok for f in found.values())
    assert f"{FIRST + SECOND} trials, 6 classes, {N_IMAGES} images" in found[SIGNALS].text
    assert "left out 2 too short and 1 too long" in found[SIGNALS].text
    assert found[SPLITS].text.startswith("2 splits; the first has ")
    assert "photos of 6 classes" in found["photos"].text
    assert "warning" in found["block design"].text
    assert not (tmp_path / "none").exists()
    opened(root).recording("1")  # from the copy, and without photos
    bad = [f for f in opened(root).check() if not f.ok]
    assert len(bad) == 1
    assert bad[0].where.startswith("images/n02389026/n02389026_")
    assert "image-net.org" in bad[0].text
    for name in (SIGNALS, SPLITS):
        (root / name).unlink()
    first, second = opened(root).check()
    assert not (first.ok or second.ok)
    assert "holds no eeg_5_95_std.pth or " in first.text
    assert "perceivelab" in first.text
    assert "no splits" in second.text
    with pytest.raises(InputError, match=r"cannot be fetched; links are at github\.com"):
        EEGImageNet.remote_files(())


def test_unknown_subject(root: Path) -> None:
    with pytest.raises(InputError, match="has no subject '7'"):
        opened(root).recording("7")
    with pytest.raises(InputError, match="subject 3 has no trial of usable length"):
        opened(root).recording("3")


def private_bytes() -> int:
    """Memory of this process that is no mapped file; 0 where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def test_memory_is_bounded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Today's format is mapped; the older one is refused where it does not fit."""
    before = private_bytes()
    loaded = tensors_module.load_tensors(root / SIGNALS)
    if before:
        assert private_bytes() - before < (root / SIGNALS).stat().st_size / 4
    del loaded
    tracemalloc.start()  # numpy tells it of every array
    try:
        opened(root).recording("1")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < (FIRST + SECOND) * 128 * 440 * 4 / 4
    torch.save(signals_file(), root / SIGNALS, _use_new_zipfile_serialization=False)
    monkeypatch.setattr(tensors_module, "available_memory", lambda: 2**20)
    with pytest.raises(InputError, match=r"needs 1\d\.\d MiB of memory \(older \.pth format\), 1\.0 MiB are free"):
        opened(root).recording("1")


class Harmful:
    """Pickles as a call of print: anything could stand there."""

    def __reduce__(self) -> Any:
        return print, ("harm",)


def few() -> dict[str, Any]:
    """Ten items: what damage is done to."""
    whole = signals_file()
    return whole | {"dataset": whole["dataset"][:10]}


def saved(edit: Callable[[dict[str, Any]], Any], name: str = SIGNALS) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        torch.save(edit(few() if name == SIGNALS else torch.load(root / name, weights_only=True)), root / name)

    return damage


def item(number: int, **changes: Any) -> Callable[[Path], None]:
    def edit(whole: dict[str, Any]) -> dict[str, Any]:
        changed = whole["dataset"][number] | changes
        whole["dataset"][number] = {key: value for key, value in changed.items() if value is not None}
        return whole

    return saved(edit)


def spoilt(value: float) -> torch.Tensor:
    eeg = torch.zeros(128, 500)
    eeg[7, 33] = value
    return eeg


def split(edit: Callable[[list[dict[str, Any]]], Any]) -> Callable[[Path], None]:
    return saved(lambda whole: {"splits": edit(whole["splits"])}, SPLITS)


def cut(name: str, size: int) -> Callable[[Path], None]:
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:size])


def old_and_cut(root: Path) -> None:
    torch.save(few(), root / SIGNALS, _use_new_zipfile_serialization=False)
    cut(SIGNALS, 1_000_000)(root)


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated": (cut(SIGNALS, 100_000), r"eeg_5_95_std\.pth: is not a whole \.pth file"),
    "old and truncated": (old_and_cut, r"is not a whole \.pth file"),
    "bytes": (lambda r: (r / SIGNALS).write_bytes(b"hello" * 99), r"is not a whole \.pth file"),
    "empty": (lambda r: (r / SIGNALS).write_bytes(b""), r"is not a whole \.pth file"),
    "objects": (saved(lambda w: w | {"images": Harmful()}), r"holds objects that could run a program"),
    "a list": (saved(lambda w: w["dataset"]), r"holds a list, expected a dict"),
    "no images": (saved(lambda w: {k: v for k, v in w.items() if k != "images"}), r"has no 'images', it holds dataset"),
    "no items": (saved(lambda w: w | {"dataset": []}), r"'dataset' is no list, or empty"),
    "item is no dict": (saved(lambda w: w | {"dataset": [3, *w["dataset"]]}), r"item 0 is a int, expected a dict"),
    "no eeg": (item(4, eeg=None), r"item 4 has no 'eeg'"),
    "no subject": (item(4, subject=None), r"item 4 has no 'subject'"),
    "eeg is a list": (item(4, eeg=[1.0]), r"'eeg' of item 4 is no plain tensor"),
    "eeg is sparse": (item(4, eeg=torch.zeros(128, 500).to_sparse()), r"'eeg' of item 4 is no plain tensor"),
    "eeg is complex": (item(4, eeg=torch.zeros(128, 500, dtype=torch.cfloat)), r"is of torch\.complex64, expected num"),
    "turned": (item(4, eeg=torch.zeros(500, 128)), r"'eeg' of item 4 has shape \(500, 128\), expected \(128, samp"),
    "three axes": (item(4, eeg=torch.zeros(1, 128, 500)), r"has shape \(1, 128, 500\), expected"),
    "NaN": (item(4, eeg=spoilt(np.nan)), r"holds NaN or infinity, first in item 4, channel 7, sample 33"),
    "infinite": (item(4, eeg=spoilt(np.inf)), r"holds NaN or infinity, first in item 4"),
    "image out of range": (item(4, image=N_IMAGES), r"'image' of item 4 is 72, expected 0 to 71"),
    "negative label": (item(4, label=-1), r"'label' of item 4 is -1, expected 0 to 5"),
    "subject 7": (item(4, subject=7), r"'subject' of item 4 is 7, expected 1 to 6"),
    "half a subject": (item(4, subject=1.5), r"'subject' of item 4 is no whole number"),
    "other class": (item(4, label=(few()["dataset"][4]["label"] + 1) % 6), r"item 4 is of class n\d+ and shows n\d+_"),
    "image again": (saved(lambda w: w | {"dataset": [*w["dataset"], w["dataset"][2]]}), r"item 10 shows n\d+_\d+ to"),
    "image twice": (saved(lambda w: w | {"images": [w["images"][0], *w["images"]]}), r"the image n\d+_\d+ stands tw"),
    "path as image": (saved(lambda w: w | {"images": ["../../etc", *w["images"][1:]]}), r"names the image '\.\./\.\."),
    "word as class": (saved(lambda w: w | {"labels": ["cat", *w["labels"][1:]]}), r"names the class 'cat', expected"),
    "all too short": (
        saved(lambda w: w | {"dataset": [i | {"eeg": i["eeg"][:, :400]} for i in w["dataset"]]}),
        r"holds no trial of usable length",
    ),
    "splits cut": (cut(SPLITS, 300), r"block_splits_by_image_all\.pth: is not a whole \.pth file"),
    "splits of objects": (saved(lambda w: {"splits": Harmful()}, SPLITS), r"holds objects that could run a program"),
    "no splits": (saved(lambda w: w["splits"], SPLITS), r"has no list 'splits'"),
    "no val": (split(lambda s: [{k: v for k, v in s[0].items() if k != "val"}]), r"split 0 has no 'val'"),
    "empty test": (split(lambda s: [s[0], s[1] | {"test": []}]), r"'test' of split 1 is no list of numbers"),
    "words": (split(lambda s: [s[0] | {"test": ["one"]}]), r"'test' of split 0 is no list of numbers"),
    "negative": (split(lambda s: [s[0] | {"test": [-1]}]), r"'test' of split 0 is no list of numbers"),
    "twice": (split(lambda s: [s[0] | {"test": s[0]["train"]}]), r"item \d+ stands twice in split 0"),
    "beyond": (split(lambda s: [s[0] | {"test": [FIRST + SECOND]}]), r"names item 74, there are 74"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_refused_in_one_line(root: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    damage, message = DAMAGE[kind]
    damage(root)
    with pytest.raises(InputError, match=message) as caught:
        opened(root).stimuli("1")
    assert "\n" not in str(caught.value)
    assert "harm" not in capsys.readouterr().out
    if "splits" not in str(caught.value.where):
        assert not list(root.parent.rglob("items.json"))
    assert not list(root.parent.rglob("*.partial"))


@pytest.mark.parametrize(
    ("means", "message"),
    [(None, "has no 'means' of 128 channels"), (torch.full((128, 1), torch.nan), "hold NaN, or no positive spread")],
)
def test_raw_without_statistics(tmp_path: Path, means: Any, message: str) -> None:
    (tmp_path / "data").mkdir()
    held = few() | {"means": means, "stddevs": torch.ones(128, 1)}
    torch.save(held, tmp_path / "data" / "eeg_signals_raw_with_mean_std.pth")
    with pytest.raises(InputError, match=message):
        opened(tmp_path / "data").recording("1")


def test_train_through_the_command_line(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAINALIGN_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "run"
    words = ["--dataset", "eeg-imagenet", "--root", str(written), "--subject", "1", "--out", str(out), "--quiet"]
    settings = [*FAST, "--set", "target.layer=stage1", "--set", "signals.whiten=none", "--device", "cpu"]
    settings += ["--set", "signals.n_channels=32", "--set", "signals.tmax=0.2"]
    assert run(["train", "ridge", *words, *settings]) == 0
    result = json.loads((out / "result.json").read_text())
    assert (result["protocol"], result["modality"]) == ("eeg-imagenet/intra/v1", "eeg")
    notes = {f["code"]: f for f in result["lint"]}
    assert notes["block-design"]["severity"] == "note"
    split = torch.load(written / SPLITS, weights_only=True)["splits"][0]
    items = signals_file()["dataset"]
    seen = {i["image"] for i in used({"dataset": items}, 1)}
    tested = {items[i]["image"] for i in split["test"] if items[i]["subject"] == 1} & seen
    assert result["metrics"]["test"]["n_queries"] == len(tested)
    assert result["metrics"]["test"]["top1"] > 0.5  # the signals are a linear map of the colours
    caveats = run_caveats(read_result(out))
    assert caveats[0].kind == "serious"
    assert "Block design" in [c.title for c in caveats if c.kind == "serious"]
    assert "No leak found" not in [c.title for c in caveats]
    swept = sweep_caveats([read_result(out)], n_rows=1, gap=0.0, test_reads=1)
    assert "Block design" in [c.title for c in swept if c.kind == "serious"]
    assert "shown in one block" in (out / "report.html").read_text()
    stored = read_predictions(out)
    classes = [[name.removeprefix("imagenet/")[:9] for name in stored[key]] for key in ("query_ids", "gallery_ids")]
    accuracy, chance = class_accuracy(stored["similarity"], *classes)
    assert accuracy >= result["metrics"]["test"]["top1"] > chance > 0
