"""Damaged raw files of THINGS-EEG2 and settings that do not fit: one clear line, nothing half-written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mne")

from things_eeg2_raw import (
    CHANNELS,
    NAMES,
    change,
    files,
    make_file,
    make_metadata,
    make_root,
    no_events,
    reference,
    same,
    small,
)

from brainalign.datasets.things_eeg2.prepare import Plan, PrepareSettings, prepare
from brainalign.errors import InputError

TRAIN, TEST = NAMES["train"], NAMES["test"]


def only_catch(x: np.ndarray) -> np.ndarray:
    x[-1, x[-1] > 0] = 99999
    return x


def scaled_trigger(x: np.ndarray) -> np.ndarray:
    x[-1] *= 1e-6
    return x


def with_nan(x: np.ndarray) -> np.ndarray:
    x[3] = np.nan
    return x


DAMAGES = {
    "no stim": ({"ch_names": [*CHANNELS, "STI"]}, "has no trigger channel 'stim'"),
    "wrong keys": ({"raw_eeg_data": None}, "not 'raw_eeg_data'; expected a dictionary with raw_eeg_data"),
    "no names": ({"ch_names": None}, "not 'ch_names'"),
    "no rate": ({"sfreq": None}, "not 'sfreq'"),
    "bad rate": ({"sfreq": "fast"}, "has sfreq 'fast', expected Hz"),
    "zero rate": ({"sfreq": 0}, "has sfreq 0, expected Hz"),
    "few names": ({"ch_names": ["Fz", "stim"]}, r"names 2 channels \(2 distinct\), raw_eeg_data has 7"),
    "twice": ({"ch_names": ["Fz", "Fz", *CHANNELS[2:], "stim"]}, r"names 7 channels \(6 distinct\)"),
    "few types": ({"ch_types": ["eeg"]}, "has 1 ch_types for 7 channels"),
    "no eeg": ({"ch_types": ["misc"] * 6 + ["stim"]}, "has no EEG channel"),
    "three axes": ({"raw_eeg_data": lambda x: x[None]}, r"raw_eeg_data \(1, 7, \d+\) of float64, expected \(n_chans"),
    "integers": ({"raw_eeg_data": lambda x: x.astype(int)}, "of int64, expected .* of a float type"),
    "list": ({"raw_eeg_data": [[1.0]]}, "raw_eeg_data list, expected"),
    "no events": ({"raw_eeg_data": no_events}, "the trigger channel holds no event"),
    "only targets": ({"raw_eeg_data": only_catch}, "none of a photo whose epoch lies in the recording"),
    "scaled": ({"raw_eeg_data": scaled_trigger}, "more than whole numbers"),
    "short": ({"raw_eeg_data": lambda x: x[:, :900]}, "none of a photo"),
    "nan": ({"raw_eeg_data": with_nan}, "holds NaN or infinity in channel 'Pz'"),
    "slow": ({"sfreq": 200}, "was recorded at 200 Hz, 250 Hz asked for"),
}


@pytest.mark.parametrize(
    ("name", "part"),
    [*((name, TRAIN) for name in DAMAGES), *((name, TEST) for name in ("no stim", "no events", "nan"))],
)
def test_damaged_content(tmp_path: Path, name: str, part: str) -> None:
    changes, match = DAMAGES[name]
    root = small(tmp_path)
    change(root / "sub-01" / "ses-01" / part, **changes)
    with pytest.raises(InputError, match=match) as caught:
        prepare(root, tmp_path / "out")
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("exit 3",)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-500])


def plain(path: Path) -> None:
    np.save(path, np.zeros((7, 100)))


def evil(path: Path) -> None:
    np.save(path, np.array({"raw_eeg_data": Evil()}, dtype=object), allow_pickle=True)


def text(path: Path) -> None:
    path.write_text("not an array")


def headless(path: Path) -> None:
    path.write_bytes(b"\x93NUMPY\x01\x00\x10\x00{'descr': broken}" + bytes(20))


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (truncated, "is truncated"),
        (plain, "holds a plain array of float64, expected a dictionary"),
        (evil, "would run code"),
        (text, "is not a .npy file"),
        (headless, "has a damaged .npy header"),
        (empty, "is not a .npy file"),
        (Path.unlink, "no such file; both files of a session are needed"),
    ],
)
def test_damaged_files(tmp_path: Path, spoil: Callable[[Path], None], match: str) -> None:
    root = small(tmp_path)
    path = root / "sub-01" / "ses-02" / TEST
    spoil(path)
    with pytest.raises(InputError, match=match) as caught:
        prepare(root, tmp_path / "out")
    assert str(path) in str(caught.value)
    left = files(tmp_path / "out") if (tmp_path / "out").exists() else {}
    whole = {f".prepare/sub-01/ses-01/{name}" for name in ("train.npy", "test.npy", "session.json")}
    assert set(left) in (set(), whole), "only a session that is whole may wait"
    make_file(path, "test", 2, 1)
    prepare(root, tmp_path / "out")
    same(tmp_path / "out" / "sub-01", reference(root / "sub-01"))


def test_photo_that_was_never_shown(tmp_path: Path) -> None:
    root = make_root(tmp_path / "raw", subjects=1, sessions=1)
    with pytest.raises(
        InputError, match=r"sub-01: was never shown 2 of 5 training photos|train photos, first condition 2"
    ):
        prepare(root, tmp_path / "out")
    assert not (tmp_path / "out" / "sub-01").exists()


def test_exchanged_files(tmp_path: Path) -> None:
    root = small(tmp_path)
    make_metadata(root)
    shutil.copy(root / "sub-01" / "ses-01" / TRAIN, root / "sub-01" / "ses-01" / TEST)
    with pytest.raises(InputError, match=r"has the event code 5, there are 3 test photos; .* exchanged"):
        prepare(root, tmp_path / "out")


def test_sessions_that_do_not_fit(tmp_path: Path) -> None:
    root = small(tmp_path)
    for part in (TRAIN, TEST):
        change(root / "sub-01" / "ses-02" / part, ch_names=[*CHANNELS[:5], "Oz", "stim"])
    with pytest.raises(InputError, match="sub-01: sessions 1 and 2 have different ch_names"):
        prepare(root, tmp_path / "out")
    assert not (tmp_path / "out" / "sub-01").exists()


def test_parts_that_do_not_fit(tmp_path: Path) -> None:
    root = small(tmp_path)
    change(root / "sub-01" / "ses-01" / TEST, ch_names=[*CHANNELS[:5], "Oz", "stim"])
    with pytest.raises(InputError, match=rf"{TEST}: has ch_names .*'Oz'.*, the training file"):
        prepare(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_lies_in_the_output_folder(tmp_path: Path) -> None:
    root, out = small(tmp_path), tmp_path / "out"
    prepare(root, out)
    with pytest.raises(InputError, match=r"sub-01: was prepared with sfreq 250\.0, not 100\.0; choose another --out"):
        prepare(root, out, PrepareSettings(sfreq=100.0))
    make_file(root / "sub-01" / "ses-03" / TRAIN, "train", 3, 1)
    make_file(root / "sub-01" / "ses-03" / TEST, "test", 3, 1)
    with pytest.raises(InputError, match="was prepared from other raw files"):
        prepare(root, out)
    (out / "sub-01" / "info.json").unlink()
    before = files(out)
    with pytest.raises(InputError, match="was not made by brainalign prepare"):
        prepare(root, out)
    assert files(out) == before
    with pytest.raises(InputError, match="is a file, not a folder"):
        prepare(root, root / "sub-01" / "ses-01" / TRAIN)


def test_only_one_at_a_time(tmp_path: Path) -> None:
    from filelock import FileLock

    root, out = small(tmp_path), tmp_path / "out"
    out.mkdir()
    with FileLock(out / ".prepare.lock"), pytest.raises(InputError, match="another prepare works in this folder"):
        prepare(root, out)


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    root = small(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="the disk is full"):
        prepare(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"tmin": 0.0}, "expected a time before 0"),
        ({"tmax": -0.1}, "expected a time before 0"),
        ({"sfreq": 5.0}, "is 5 Hz, expected 20 to 10000"),
        ({"sfreq": float("nan")}, "give finite numbers"),
        ({"fit_from": 2.0}, "is 2 s, expected a time of the epoch"),
        ({"band": (40.0, 1.0)}, "expected 0 < low < high"),
        ({"whitening": "mvn"}, "did you mean 'mvnn'"),
        ({"covariance": "times"}, "did you mean 'time'"),
        ({"channels": ()}, "name each channel once"),
        ({"channels": ("O1", "O1")}, "name each channel once"),
    ],
)
def test_bad_settings(changed: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        PrepareSettings(**changed)


def test_settings_that_the_files_refuse(tmp_path: Path) -> None:
    root = small(tmp_path)
    for settings, match in (
        (PrepareSettings(channels=("O1", "Cz1")), "unknown channel 'Cz1'; did you mean 'Cz'"),
        (PrepareSettings(channels="occipital"), "unknown channel 'P5'"),
        (PrepareSettings(band=(1.0, 600.0)), "--band: ends at 600 Hz"),
        (PrepareSettings(sfreq=2000.0), "was recorded at 1000 Hz, 2000 Hz asked for"),
    ):
        with pytest.raises(InputError, match=match):
            prepare(root, tmp_path / "out", settings)
        assert not (tmp_path / "out").exists()


def test_where_raw_recordings_are_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        prepare(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(InputError, match=r"holds no raw recording of THINGS-EEG2; expected .* osf\.io/crxs4"):
        prepare(tmp_path, tmp_path / "out")
    root = small(tmp_path / "Raw_data")  # Raw_data/raw/sub-01 is not a known place, Raw_data/sub-01 is
    shutil.move(root / "sub-01", tmp_path / "Raw_data" / "sub-01")
    with pytest.raises(InputError, match=r"no raw recording of subject '7'; there are \['01'\]"):
        prepare(tmp_path, tmp_path / "out", subjects=["7"])
    plans: list[Plan] = []
    prepare(tmp_path, tmp_path / "out", subjects=["1"], planned=plans.append)
    assert plans[0].subjects == ("01",)
    assert plans[0].memory_bytes > 2**28
    prepare(tmp_path, tmp_path / "out", planned=plans.append)
    assert str(plans[1]) == "nothing to do: sub-01 prepared already"
