"""Small files in exactly the published layouts, made here with plain numpy, pickle and torch."""

from __future__ import annotations

import io
import json
import os
import pickle
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from brainalign.datasets import open_dataset
from brainalign.datasets.things_eeg2 import ThingsEEG2
from brainalign.datasets.things_eeg2 import store as store_module
from brainalign.errors import InputError

CHANNELS = ["P7", "Pz", "O1", "O2"]
TIMES = np.arange(-0.2, 0.04, 0.004)[:60]  # 250 Hz; the data below keep the last 10 samples
N_TIMES = 10
# The number before a concept counts the training and the test concepts apart.
TRAIN = ["00001_aardvark/aardvark_01b.jpg", "00001_aardvark/aardvark_02s.jpg",
         "00002_abacus/abacus_03s.jpg", "00002_abacus/abacus_04s.jpg",
         "00003_bat1/bat1_01b.jpg", "00003_bat1/bat1_05n.jpg"]  # fmt: skip
TEST = ["00001_aircraft_carrier/aircraft_carrier_06s.jpg", "00002_antelope/antelope_01b.jpg"]
N_REPS = {"train": 4, "test": 6}
PHOTOS = {"train": TRAIN, "test": TEST}


def signal(part: str) -> np.ndarray:
    """(images, repetitions, channels, times), whole numbers that float16 holds exactly and that tell all axes apart."""
    n, r = len(PHOTOS[part]), N_REPS[part]
    i, rep, c, t = np.ogrid[:n, :r, : len(CHANNELS), :N_TIMES]
    return (i * 240.0 + rep * 40 + c * 10 + t) * (1 if part == "train" else -1)


def with_photos(root: Path, *, metadata: bool = True, folders: bool = True) -> Path:
    for part, names in PHOTOS.items():
        for name in names if folders else ():
            file = root / ("training_images" if part == "train" else "test_images") / name
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (len(name), 9, 9)).save(file)
    if metadata:
        table = {}
        for part, names in PHOTOS.items():
            table[f"{part}_img_concepts"] = [n.split("/")[0] for n in names]
            table[f"{part}_img_files"] = [n.split("/")[1] for n in names]
            table[f"{part}_img_concepts_THINGS"] = [n.split("/")[0] for n in names]
        root.mkdir(parents=True, exist_ok=True)
        np.save(root / "image_metadata.npy", table)
    return root


def official(folder: Path, *, dtype: type = np.float64) -> None:
    folder.mkdir(parents=True)
    for part, file in (("train", "training"), ("test", "test")):
        content = {"preprocessed_eeg_data": signal(part).astype(dtype), "ch_names": CHANNELS, "times": TIMES[-N_TIMES:]}
        np.save(folder / f"preprocessed_eeg_{file}.npy", content)


def nice(folder: Path) -> None:
    folder.mkdir(parents=True)
    for part, file in (("train", "training"), ("test", "test")):
        content = {"preprocessed_eeg_data": signal(part), "ch_names": [*CHANNELS, "stim"], "times": TIMES}
        with open(folder / f"preprocessed_eeg_{file}.npy", "wb") as handle:
            pickle.dump(content, handle, protocol=4)


def ubp(folder: Path) -> None:
    folder.mkdir(parents=True)
    for part, names in PHOTOS.items():
        n, r = len(names), N_REPS[part]
        order = np.arange(n)[::-1]  # the file says which photo a row is: the order need not be the sorted one
        images = np.array([f"{part}_images/{names[i]}" for i in order])
        content = {
            "eeg": signal(part)[order].astype(np.float16),
            "label": np.tile(np.array([i // 2 for i in order])[:, None], (1, r)),
            "img": np.tile(images[:, None], (1, r)),
            "text": np.tile(np.array([name.split("/")[1].rsplit("_", 1)[0] for name in images])[:, None], (1, r)),
            "session": np.tile(np.arange(r) * 4 // r, (n, 1)).astype(np.float64),
            "ch_names": CHANNELS,
            "times": TIMES,
        }
        torch.save(content, folder / f"{part}.pt", pickle_protocol=5)


def neurobridge(folder: Path) -> None:
    folder.mkdir(parents=True)
    for part, shape in (("train", (3, 2)), ("test", (2, 1))):
        data = signal(part)
        np.save(folder / f"{part}.npy", data.reshape(*shape, *data.shape[1:]).astype(np.float32))
    (folder / "info.json").write_text(json.dumps({"ch_names": CHANNELS, "times": TIMES.tolist()}))


def neurobridge_pickled(folder: Path) -> None:
    folder.mkdir(parents=True)
    for part, shape in (("train", (3, 2)), ("test", (2, 1))):
        data = signal(part)
        content = {
            "data": data.reshape(*shape, *data.shape[1:]).astype(np.float32),
            "ch_names": CHANNELS,
            "times": TIMES,
        }
        with open(folder / f"{part}.npy", "wb") as handle:
            pickle.dump(content, handle, protocol=4)


LAYOUTS = {f.__name__: f for f in (official, nice, ubp, neurobridge, neurobridge_pickled)}


def opened(root: Path) -> ThingsEEG2:
    return ThingsEEG2(root, cache_dir=root.parent / "cache")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return with_photos(tmp_path / "data")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_recording(root: Path, layout: str) -> None:
    LAYOUTS[layout](root / "sub-01")
    recording = opened(root).recording("01")
    assert (recording.subject, recording.modality, recording.unit) == ("01", "eeg", "whitened")
    assert recording.ch_names == tuple(CHANNELS)
    assert recording.sfreq == 250.0
    assert recording.tmin == pytest.approx(TIMES[-N_TIMES], abs=1e-9)
    assert len(recording) == 6 * 4 + 2 * 6
    found = {}
    values = recording.read(np.arange(len(recording)))
    assert values.dtype == np.float32
    for row, trial in recording.trials.iterrows():
        found[trial.stimulus_id, trial.part, trial.repetition] = values[row]
    wanted = {
        ("things/" + name.split("/")[1][:-4], part, rep + 1): signal(part)[i, rep]
        for part, names in PHOTOS.items()
        for i, name in enumerate(names)
        for rep in range(N_REPS[part])
    }
    assert found.keys() == wanted.keys()
    for key, expected in wanted.items():
        np.testing.assert_array_equal(found[key], expected, err_msg=str(key))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_averages_and_parts(root: Path, layout: str) -> None:
    LAYOUTS[layout](root / "sub-01")
    recording = opened(root).recording("01")
    mean = recording.average(["things/abacus_03s", "things/antelope_01b"])
    np.testing.assert_allclose(mean, [signal("train")[2].mean(0), signal("test")[1].mean(0)], rtol=1e-6)
    assert len(recording.part("test")) == 12
    np.testing.assert_array_equal(recording.pick(["O2"]).part("test").read([0])[0, 0] % 10, -np.arange(10.0) % 10)


def test_sessions_are_known_only_to_ubp(root: Path) -> None:
    ubp(root / "sub-01")
    trials = opened(root).recording("01").trials
    sessions = trials[trials.stimulus_id == "things/antelope_01b"].sort_values("repetition").session
    assert sessions.tolist() == [1, 1, 2, 3, 3, 4]


def test_trigger_channel_in_the_data_is_dropped(root: Path) -> None:
    folder = root / "sub-01"
    folder.mkdir()
    for part, file in (("train", "training"), ("test", "test")):
        data = np.concatenate([np.full_like(signal(part)[:, :, :1], 7), signal(part)], axis=2)
        content = {"preprocessed_eeg_data": data, "ch_names": ["stim", *CHANNELS], "times": TIMES}
        np.save(folder / f"preprocessed_eeg_{file}.npy", content)
    recording = opened(root).recording("01")
    assert recording.ch_names == tuple(CHANNELS)
    np.testing.assert_array_equal(recording.average(["things/aardvark_01b"])[0], signal("train")[0].mean(0))


@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize("place", ["", "Image_set"])
def test_stimuli(tmp_path: Path, metadata: bool, place: str) -> None:
    root = tmp_path / "data"
    with_photos(root / place, metadata=metadata)
    official(root / "sub-01")
    stimuli = opened(root).stimuli("01")
    assert stimuli.ids[0] == "things/aardvark_01b"
    assert len(stimuli) == 8
    assert stimuli.column("concept", ["things/bat1_05n", "things/aircraft_carrier_06s"]) == ["bat1", "aircraft_carrier"]
    assert set(stimuli.table["caption"]) == {""}
    assert stimuli.image(7).size == (4, 4)
    assert stimuli.path(7).endswith("test_images/00002_antelope/antelope_01b.jpg")


def test_metadata_order_wins_over_folder_order(tmp_path: Path) -> None:
    root = with_photos(tmp_path / "data", metadata=False)
    table = {"test_img_concepts": [n.split("/")[0] for n in TEST], "test_img_files": [n.split("/")[1] for n in TEST]}
    table["train_img_concepts"] = [n.split("/")[0] for n in TRAIN[::-1]]
    table["train_img_files"] = [n.split("/")[1] for n in TRAIN[::-1]]
    np.save(root / "image_metadata.npy", table)
    official(root / "sub-01")
    recording = opened(root).recording("01")
    np.testing.assert_array_equal(recording.average(["things/bat1_05n"])[0], signal("train")[0].mean(0))


def test_photos_may_be_missing_until_read(tmp_path: Path) -> None:
    root = with_photos(tmp_path / "data", folders=False)
    official(root / "sub-01")
    dataset = opened(root)
    stimuli = dataset.stimuli("01")
    assert len(dataset.recording("01").index) == len(stimuli) == 8
    with pytest.raises(InputError, match=r"aardvark_01b\.jpg: the image cannot be read"):
        stimuli.image(0)
    texts = [f.text for f in dataset.check() if not f.ok]
    assert len(texts) == 2
    assert all("no such folder" in t for t in texts)
    assert "osf.io/3v527" in texts[0]
    assert "osf.io/znu7b" in texts[1]


def test_ubp_needs_neither_metadata_nor_folders(tmp_path: Path) -> None:
    root = tmp_path / "data"
    ubp(root / "Preprocessed_data_250Hz_whiten" / "sub-03")
    dataset = opened(root)
    assert dataset.subjects == ("03",)
    assert set(dataset.stimuli("03").ids) == set(dataset.recording("03").index)
    assert dataset.stimuli("03").column("concept", ["things/aircraft_carrier_06s"]) == ["aircraft_carrier"]


def test_no_whiten_folder_has_no_unit(root: Path) -> None:
    ubp(root / "Preprocessed_data_250Hz_no_whiten" / "sub-01")
    assert opened(root).recording("01").unit == ""


def test_plain_npy_is_mapped_in_place_and_pickles_from_the_cache(root: Path) -> None:
    neurobridge(root / "sub-01")
    official(root / "sub-02")
    dataset = opened(root)
    for subject, home in (("01", root / "sub-01"), ("02", root.parent / "cache")):
        parts = dataset._parts(subject)
        for part in parts.values():
            assert isinstance(part.trials, np.memmap)
            assert Path(str(part.trials.filename)).is_relative_to(home)
            assert not part.trials.flags.owndata


def test_pickles_are_read_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ubp(root / "sub-01")
    first = opened(root).recording("01")

    def forbidden(path: Path) -> None:
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr(store_module, "read_part", forbidden)
    again = opened(root).recording("01")
    np.testing.assert_array_equal(again.read([0, 30]), first.read([0, 30]))
    assert again.trials.equals(first.trials)
    assert (again.ch_names, again.sfreq, again.tmin) == (first.ch_names, first.sfreq, first.tmin)


def test_two_programs_convert_a_pickle_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ubp(root / "sub-01")
    path = next(p for p in sorted((root / "sub-01").iterdir()) if p.suffix == ".pt")
    read, calls = store_module.read_part, []

    def slow(path: Path) -> store_module.Part:
        calls.append(path)
        time.sleep(0.3)  # the other one arrives meanwhile
        return read(path)

    monkeypatch.setattr(store_module, "read_part", slow)
    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(lambda _: store_module.open_part(path, root.parent / "cache"), range(2)))
    assert calls == [path]
    np.testing.assert_array_equal(parts[0].trials, parts[1].trials)


def test_cache_folder_of_the_environment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAINALIGN_CACHE", str(root.parent / "theirs"))
    official(root / "sub-01")
    open_dataset("things-eeg2", root).recording("01")
    assert len(list((root.parent / "theirs" / "derived" / "things-eeg2").rglob("trials.npy"))) == 2


def test_changed_file_is_read_anew(root: Path) -> None:
    official(root / "sub-01")
    before = opened(root).recording("01").read([0])
    path = root / "sub-01" / "preprocessed_eeg_training.npy"
    content = np.load(path, allow_pickle=True).item()
    content["preprocessed_eeg_data"] += 5
    np.save(path, content)
    os.utime(path, ns=(1, 1))
    np.testing.assert_array_equal(opened(root).recording("01").read([0]), before + 5)


def test_damaged_cache_is_made_anew(root: Path) -> None:
    official(root / "sub-01")
    before = opened(root).recording("01").read([0])
    for file in (root.parent / "cache").rglob("trials.npy"):
        file.write_bytes(file.read_bytes()[:-8])
    np.testing.assert_array_equal(opened(root).recording("01").read([0]), before)


def test_fortran_order_is_read_right(root: Path) -> None:
    neurobridge(root / "sub-01")
    path = root / "sub-01" / "train.npy"
    np.save(path, np.asfortranarray(np.load(path)))
    np.testing.assert_array_equal(opened(root).recording("01").read([5])[0], signal("train")[1, 1])


def test_check_says_what_is_there(root: Path) -> None:
    nice(root / "sub-01")
    findings = opened(root).check()
    assert all(f.ok for f in findings), findings
    text = " | ".join(f.text for f in findings)
    assert "6 train photos of 3 concepts in image_metadata.npy (a subset of the 16540 published)" in text
    assert "6 train images x 4, 2 test images x 6, 4 channels, 10 samples at 250 Hz" in text
    assert "published are 80 repetitions of test images" in text
    assert "subjects 02, 03, 04, 05, 06, 07, 08, 09, 10" in text
    assert not (root.parent / "cache").exists()


def test_check_of_an_empty_folder_says_how_to_get_it(tmp_path: Path) -> None:
    findings = ThingsEEG2(tmp_path, cache_dir=tmp_path / "cache").check()
    assert not any(f.ok for f in findings)
    text = " | ".join(f.text for f in findings)
    for word in ("qkgtf", "3v527", "znu7b", "anp5v", "preprocessed_eeg_training.npy", "train.pt"):
        assert word in text


def test_check_finds_missing_photos(root: Path) -> None:
    official(root / "sub-01")
    (root / "training_images" / TRAIN[3]).unlink()
    bad = [f for f in opened(root).check() if not f.ok]
    assert [f.where for f in bad] == [f"training_images/{TRAIN[3]}"]


def test_check_reads_every_value(root: Path) -> None:
    neurobridge(root / "sub-01")
    spoil(root / "sub-01" / "test.npy")
    bad = [f for f in opened(root).check() if not f.ok]
    assert [f.where for f in bad] == ["subject 01"]
    assert "NaN" in bad[0].text


def spoil(path: Path) -> None:
    data = np.load(path)
    data[1, 0, 3, 2, 5] = np.nan
    np.save(path, data)


def test_nan_is_refused_with_its_place(root: Path) -> None:
    neurobridge(root / "sub-01")
    spoil(root / "sub-01" / "test.npy")
    with pytest.raises(
        InputError, match=r"test\.npy: holds NaN or infinity, first in image 1, repetition 3, channel 'O1'"
    ):
        opened(root).recording("01")


def test_nan_in_a_pickle_leaves_nothing_behind(root: Path) -> None:
    official(root / "sub-01")
    path = root / "sub-01" / "preprocessed_eeg_training.npy"
    content = np.load(path, allow_pickle=True).item()
    content["preprocessed_eeg_data"][5, 3, 0, 0] = np.inf
    np.save(path, content)
    with pytest.raises(InputError, match="image 5, repetition 3, channel 'P7'"):
        opened(root).recording("01")
    assert not [p for p in (root.parent / "cache").rglob("*") if p.is_file() and p.suffix != ".lock"]


def rewrite(path: Path, **changes: object) -> None:
    content = np.load(path, allow_pickle=True).item()
    content = {k: v for k, v in (content | changes).items() if v is not None}
    np.save(path, content)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"ch_names": CHANNELS[:3]}, r"names 3 channels \(3 distinct\), the data have 4"),
        ({"ch_names": ["P7", "P7", "O1", "O2"]}, r"names 4 channels \(3 distinct\)"),
        ({"ch_names": None}, "has no list 'ch_names'"),
        ({"times": None}, "has no 'times'"),
        ({"times": TIMES[:4]}, r"times of shape \(4,\) for 10 samples"),
        ({"times": TIMES * 1000}, "give seconds"),
        ({"times": np.r_[TIMES[:30], TIMES[:30]]}, "not evenly spaced"),
        ({"times": ["a"] * 20}, "not numbers"),
        ({"preprocessed_eeg_data": None}, "none of them 'preprocessed_eeg_data'"),
        ({"preprocessed_eeg_data": np.zeros((6, 4, 10))}, r"has \(6, 4, 10\) of float64, expected \(images"),
        ({"preprocessed_eeg_data": np.zeros((6, 4, 4, 10), int)}, "of a float type"),
        ({"preprocessed_eeg_data": np.zeros((5, 4, 4, 10))}, r"has 5 train images, image_metadata\.npy lists 6"),
        (
            {"preprocessed_eeg_data": np.zeros((2, 3, 4, 4, 10))},
            r"groups 3 images a concept, image_metadata\.npy does not",
        ),
        ({"preprocessed_eeg_data": np.zeros((6, 4, 4, 9))}, "other times than the training file"),
        ({"ch_names": ["P7", "Pz", "O2", "O1"]}, "other channels than the training file"),
    ],
)
def test_bad_content(root: Path, changes: dict[str, object], match: str) -> None:
    official(root / "sub-01")
    rewrite(root / "sub-01" / "preprocessed_eeg_training.npy", **changes)
    with pytest.raises(InputError, match=match):
        opened(root).recording("01")
    assert any(not f.ok and f.where == "subject 01" for f in opened(root).check())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_truncated_file(root: Path, layout: str) -> None:
    LAYOUTS[layout](root / "sub-01")
    path = next(p for p in sorted((root / "sub-01").iterdir()) if "train" in p.name)
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(InputError, match=path.name):
        opened(root).recording("01")


def test_pickle_that_runs_code_is_refused(root: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'harmed'}",)

    nice(root / "sub-01")
    (root / "sub-01" / "preprocessed_eeg_training.npy").write_bytes(pickle.dumps({"preprocessed_eeg_data": Evil()}))
    with pytest.raises(InputError, match="would run code"):
        opened(root).recording("01")
    assert not (tmp_path / "harmed").exists()


def cut(n: int) -> Callable[[bytes], bytes]:
    return lambda content: content[:n]


def put(start: int, what: bytes) -> Callable[[bytes], bytes]:
    """Overwrite from a place on."""
    return lambda content: content[:start] + what + content[start + len(what) :]


def name_not_utf8(content: bytes) -> bytes:
    """The archive's directory names a file in bytes that are no text."""
    start = content.rindex(b"PK\x01\x02")
    return content[:start] + put(46, b"\xd7\xff")(content[start:])


def info(change: Callable[[dict], object]) -> Callable[[bytes], bytes]:
    return lambda content: json.dumps(change(json.loads(content))).encode()


SIGNALS, TORCH, INFO, TABLE = "preprocessed_eeg_training.npy", "train.pt", "info.json", "image_metadata.npy"
FILES: dict[str, tuple[Callable[[Path], None], str, Callable[[bytes], bytes], str]] = {
    "npy empty": (official, SIGNALS, cut(0), "is of an unknown kind, expected .npy or a pickle"),
    "npy of text": (official, SIGNALS, lambda b: b"<html>404</html>", "is of an unknown kind, expected .npy"),
    "npy cut in the header": (official, SIGNALS, cut(40), "has a damaged .npy header"),
    "npy header of zeros": (official, SIGNALS, put(10, bytes(100)), "has a damaged .npy header"),
    "npy cut behind the header": (official, SIGNALS, cut(128), "training.npy: "),
    "npy pickle of zeros": (official, SIGNALS, put(128, bytes(64)), "training.npy: "),
    "npz for npy": (official, SIGNALS, lambda b: b"PK\x03\x04" + b, "is a zip archive (.npz or .pt), expected .npy"),
    "plain array claims too much": (neurobridge, "train.npy", cut(1000), "the file is truncated; get it anew"),
    "plain array header cut": (neurobridge, "train.npy", cut(70), "has a damaged .npy header"),
    "bare pickle cut": (nice, SIGNALS, cut(300), "training.npy: "),
    "bare pickle of zeros": (nice, SIGNALS, put(2, bytes(200)), "training.npy: "),
    "pt empty": (ubp, TORCH, cut(0), "is not a file of torch.save"),
    "pt of text": (ubp, TORCH, lambda b: b"<html>404</html>", "is not a file of torch.save"),
    "pt cut": (ubp, TORCH, cut(1500), "is not a file of torch.save"),
    "pt name not utf-8": (ubp, TORCH, name_not_utf8, "train.pt: "),
    "info empty": (neurobridge, INFO, cut(0), "info.json: is not JSON"),
    "info a list": (neurobridge, INFO, lambda b: b"[1]", "info.json: "),
    "info without channels": (neurobridge, INFO, info(lambda d: {"times": d["times"]}), "has no list 'ch_names'"),
    "info without times": (neurobridge, INFO, info(lambda d: {"ch_names": d["ch_names"]}), "has no 'times'"),
    "table empty": (official, TABLE, cut(0), "image_metadata.npy: is of an unknown kind"),
    "table cut": (official, TABLE, cut(300), "image_metadata.npy: "),
    "table a plain array": (official, TABLE, lambda b: array_bytes(), "image_metadata.npy: "),
}  # fmt: skip


def array_bytes() -> bytes:
    file = io.BytesIO()
    np.save(file, np.ones(3))
    return file.getvalue()


@pytest.mark.parametrize(("layout", "name", "change", "match"), FILES.values(), ids=FILES.keys())
def test_damaged_files_are_refused_in_one_line(
    root: Path, layout: Callable[[Path], None], name: str, change: Callable[[bytes], bytes], match: str
) -> None:
    layout(root / "sub-01")
    path = root / name if name == TABLE else root / "sub-01" / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError) as caught:
        opened(root).recording("01")
    text = str(caught.value)
    assert match in text
    assert str(path) in text
    assert "\n" not in text
    assert any(not found.ok for found in opened(root).check())
    assert not list((root.parent / "cache").rglob("*.partial"))


def test_missing_things_are_named(root: Path) -> None:
    with pytest.raises(InputError, match="no preprocessed EEG of subject 01; looked for preprocessed_eeg_training"):
        opened(root).recording("01")
    official(root / "sub-01")
    with pytest.raises(InputError, match=r"no subject '07'.*there are: 01"):
        opened(root).recording("07")
    (root / "sub-01" / "preprocessed_eeg_test.npy").unlink()
    with pytest.raises(InputError, match=r"preprocessed_eeg_test\.npy: no such file"):
        opened(root).recording("01")


def test_raw_recordings_are_recognised(root: Path) -> None:
    file = root / "raw" / "sub-01" / "ses-01" / "raw_eeg_training.npy"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"")
    with pytest.raises(InputError, match=r"raw recordings.*brainalign prepare"):
        opened(root).recording("01")


def test_two_preprocessings_of_a_subject_are_refused(root: Path) -> None:
    official(root / "sub-01")
    neurobridge(root / "preprocessed_eeg" / "sub-01")
    with pytest.raises(InputError, match="lies here twice"):
        opened(root).recording("01")


def test_neurobridge_without_info(root: Path) -> None:
    neurobridge(root / "sub-01")
    (root / "sub-01" / "info.json").unlink()
    with pytest.raises(InputError, match=r"no info\.json beside it"):
        opened(root).recording("01")


def test_nothing_says_which_photos(tmp_path: Path) -> None:
    official(tmp_path / "sub-01")
    dataset = ThingsEEG2(tmp_path, cache_dir=tmp_path / "cache")
    with pytest.raises(
        InputError, match=r"which train photos were shown; looked for image_metadata\.npy or training_images"
    ):
        dataset.recording("01")


def test_ubp_photo_that_the_metadata_lacks(root: Path) -> None:
    ubp(root / "sub-01")
    table = np.load(root / "image_metadata.npy", allow_pickle=True).item()
    table["train_img_files"][2] = "abacus_09x.jpg"
    np.save(root / "image_metadata.npy", table)
    with pytest.raises(InputError, match=r"showed things/abacus_03s, which image_metadata\.npy lacks"):
        opened(root).recording("01")


@pytest.mark.parametrize("name", ["../../../etc/passwd.jpg", ".hidden.jpg", "a\\b.jpg"])
def test_metadata_cannot_point_out_of_the_folder(root: Path, name: str) -> None:
    official(root / "sub-01")
    table = np.load(root / "image_metadata.npy", allow_pickle=True).item()
    table["test_img_files"][0] = name
    np.save(root / "image_metadata.npy", table)
    with pytest.raises(InputError, match="expected plain names"):
        opened(root).stimuli("01")


def test_photo_in_both_parts_is_refused(root: Path) -> None:
    official(root / "sub-01")
    table = np.load(root / "image_metadata.npy", allow_pickle=True).item()
    table["test_img_files"][0] = "abacus_03s.jpg"
    np.save(root / "image_metadata.npy", table)
    with pytest.raises(InputError, match="things/abacus_03s is a training and a test photo"):
        opened(root).stimuli("01")


def test_info_and_facts(root: Path) -> None:
    assert len(ThingsEEG2().subjects) == 10
    assert ThingsEEG2().facts() == {"name": "things-eeg2"}
    ubp(root / "sub-01")
    facts = opened(root).facts()
    assert (facts["name"], facts["layout"], facts["unit"]) == ("things-eeg2", "ubp", "whitened")
    assert list(facts["recordings"]) == list(opened(root).subjects)
