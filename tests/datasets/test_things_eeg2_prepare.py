"""Raw sessions of THINGS-EEG2 to a prepared store: the published numbers, the reader, the page, the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mne")

from things_eeg2_raw import (
    CHANNELS,
    NAMES,
    TOLERANCE,
    change,
    drop_event,
    files,
    make_file,
    make_metadata,
    make_root,
    reference,
    same,
    session_numbers,
    small,
)

from brainalign.cli.main import run
from brainalign.datasets.things_eeg2 import ThingsEEG2
from brainalign.datasets.things_eeg2.prepare import PrepareSettings, prepare
from brainalign.datasets.things_eeg2.prepare.settings import OCCIPITAL
from brainalign.recordings import epochs as epochs_module
from brainalign.report.prepare_page import write_prepare_page

TRAIN, TEST = NAMES["train"], NAMES["test"]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two subjects, four sessions; read only."""
    root = make_root(tmp_path_factory.mktemp("raw"))
    make_metadata(root)
    return root


@pytest.fixture(scope="module")
def store(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both subjects with the published settings, and the page; read only."""
    out = tmp_path_factory.mktemp("store") / "out"
    prepare(raw, out)
    write_prepare_page(out)
    return out


@pytest.mark.parametrize("subject", ["01", "02"])
def test_the_published_steps(raw: Path, store: Path, subject: str) -> None:
    expected = reference(raw / f"sub-{subject}")
    assert expected["train"].shape == (6, 4, 6, 300)
    assert expected["test"].shape == (3, 80, 6, 300)
    same(store / f"sub-{subject}", expected)


@pytest.mark.parametrize(
    "changed",
    [
        {"covariance": "time", "fit_from": -0.2},
        {"whitening": "none"},
        {"band": (2.0, 40.0), "sfreq": 100.0, "tmax": 0.8},
        {"sfreq": 1000.0, "tmin": -0.1, "tmax": 0.4, "fit_from": 0.1},
        {"channels": ("O2", "P7")},
    ],
)
def test_other_settings(tmp_path: Path, changed: dict[str, Any]) -> None:
    root = small(tmp_path)
    (info,) = prepare(root, tmp_path / "out", PrepareSettings(**changed))
    names = [name for name in CHANNELS if name in changed.get("channels", CHANNELS)]
    options = {key: value for key, value in changed.items() if key != "channels"}
    same(tmp_path / "out" / "sub-01", reference(root / "sub-01", pick=names, **options))
    assert info["ch_names"] == names
    assert info["unit"] == ("uV" if changed.get("whitening") == "none" else "whitened")
    assert info["times"][0] == changed.get("tmin", -0.2)
    np.testing.assert_allclose(np.diff(info["times"]), 1 / changed.get("sfreq", 250.0), atol=1e-8)


def test_occipital_channels_are_found_by_name(tmp_path: Path) -> None:
    names = ["Fz", *reversed(OCCIPITAL), "Cz"]
    root = small(tmp_path, channels=names)
    (info,) = prepare(root, tmp_path / "out", PrepareSettings(channels="occipital"))
    assert info["ch_names"] == names[1:-1]
    same(tmp_path / "out" / "sub-01", reference(root / "sub-01", pick=names[1:-1]))


def test_block_size_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = small(tmp_path)
    monkeypatch.setattr(epochs_module, "BLOCK_BYTES", 3 * 6 * 1201 * 8)  # three epochs
    prepare(root, tmp_path / "out")
    same(tmp_path / "out" / "sub-01", reference(root / "sub-01"))


def test_the_reader_opens_it(raw: Path, store: Path, tmp_path: Path) -> None:
    recording = ThingsEEG2(store, cache_dir=tmp_path).recording("02")
    assert (recording.ch_names, recording.sfreq, recording.tmin) == (tuple(CHANNELS), 250.0, -0.2)
    assert recording.unit == "whitened"
    assert sorted(recording.index)[:2] == ["things/aardvark_01s", "things/aardvark_02s"]
    expected = reference(raw / "sub-02")
    for part, name, row in (("train", "things/abacus_01s", 2), ("test", "things/cat_01s", 2)):
        trials = recording.part(part)
        got = trials.read(trials.trials_of(name))
        np.testing.assert_allclose(got, expected[part][row], rtol=0, atol=TOLERANCE * np.abs(expected[part]).max())
    assert not list(tmp_path.rglob("trials.npy")), "a plain .npy is mapped, not copied"


def test_sessions_of_trials(raw: Path, store: Path) -> None:
    for part, expected in session_numbers(raw / "sub-01").items():
        np.testing.assert_array_equal(np.load(store / "sub-01" / f"session_{part}.npy"), expected)


def test_whitening_never_sees_test_trials(tmp_path: Path) -> None:
    root = small(tmp_path)
    prepare(root, tmp_path / "one")
    for session in (1, 2):
        make_file(root / "sub-01" / f"ses-{session:02d}" / TEST, "test", session, seed=99)
    prepare(root, tmp_path / "two")
    one, two = (tmp_path / name / "sub-01" for name in ("one", "two"))
    assert (one / "train.npy").read_bytes() == (two / "train.npy").read_bytes()
    assert (one / "test.npy").read_bytes() != (two / "test.npy").read_bytes()


def test_microvolts_are_told_from_volts(tmp_path: Path) -> None:
    root = small(tmp_path)
    (before,) = prepare(root, tmp_path / "volts", PrepareSettings(whitening="none"))
    for path in root.rglob("*.npy"):
        change(path, raw_eeg_data=lambda x: x * np.r_[np.full(len(CHANNELS), 1e6), 1][:, None])
    (after,) = prepare(root, tmp_path / "micro", PrepareSettings(whitening="none"))
    assert (before["file_unit"], after["file_unit"]) == ("V", "uV")
    one, two = (np.load(tmp_path / name / "sub-01" / "test.npy") for name in ("volts", "micro"))
    np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5)


def test_quality_numbers(raw: Path, store: Path) -> None:
    """Noise and counts from the definition, on the arrays of the reference."""
    quality = json.loads((store / "sub-01" / "quality.json").read_text())
    whitened, plain = reference(raw / "sub-01"), reference(raw / "sub-01", whitening="none")
    of_trial = session_numbers(raw / "sub-01")
    for session in quality["sessions"]:
        for part, facts in session["parts"].items():
            groups = [rows[numbers == session["session"]] for rows, numbers in zip(plain[part], of_trial[part])]
            groups = [group for group in groups if len(group)]
            squares = sum(((g - g.mean(0)) ** 2).sum(0).mean(-1) for g in groups)
            noise = np.sqrt(squares / sum(len(g) - 1 for g in groups))
            np.testing.assert_allclose(facts["noise_uv"], noise, rtol=1e-5)
            evoked = whitened[part][of_trial[part] == session["session"]].mean(0)
            np.testing.assert_allclose(facts["evoked"], evoked, rtol=6e-6, atol=1e-6)  # six digits are kept
            np.testing.assert_allclose(facts["field_power"], evoked.std(0), rtol=1e-4)
            assert facts["trials"] == sum(map(len, groups))
    train, test = (quality["sessions"][0]["parts"][part] for part in ("train", "test"))
    assert (train["events"], train["dropped_catch"], train["dropped_outside"], train["dropped_surplus"]) == (
        11,
        3,
        1,
        1,
    )
    assert (train["conditions"], train["found"], train["kept"]) == ([1, 3, 5], [2, 3, 2], [2, 2, 2])
    assert (test["events"], test["dropped_catch"], test["dropped_outside"], test["dropped_surplus"]) == (63, 1, 2, 0)
    assert quality["sessions"][2]["parts"]["test"]["found"] == [20, 22, 20]
    assert quality["photos"]["test"] | {"repetitions_kept": 0} == {
        "n_images": 3, "repetitions": 80, "repetitions_kept": 0, "trials_left_out": 0}  # fmt: skip


def test_page(store: Path) -> None:
    page = (store / "quality.html").read_text(encoding="utf-8")
    document = json.loads((store / "quality.json").read_text())
    assert document["findings"] == []
    assert "no channel stands out" in page
    assert page.count("<svg") == 4
    for text in ("evoked response", "whitened units", "time from the onset", "noise of a trial", "20200220"):
        assert text in page
    assert "http://" not in page.replace("http://www.w3.org/", "")
    assert "mathdefault" not in page
    before = files(store)
    write_prepare_page(store)
    assert files(store) == before


def test_page_says_what_deserves_a_look(tmp_path: Path) -> None:
    root = small(tmp_path)
    for part in (TRAIN, TEST):
        change(root / "sub-01" / "ses-02" / part, raw_eeg_data=lambda x: x * np.r_[1, 1, 9, 1, 1, 1, 1][:, None])
    drop_event(root / "sub-01" / "ses-02" / TRAIN, code=4)
    prepare(root, tmp_path / "out")
    findings = write_prepare_page(tmp_path / "out")["findings"]
    assert "sessions [3, 4] of the 4 published ones are not there" in findings[0]
    assert "training photos have unequal numbers of repetitions (1 photos 1, 5 photos 2)" in findings[1]
    assert "holds 1 of each, 5 trials are left out" in findings[1]
    assert "session 2" in findings[2]
    assert findings[2].endswith(": P7")
    same(tmp_path / "out" / "sub-01", reference(root / "sub-01"))


def test_flat_channel_does_no_harm(tmp_path: Path) -> None:
    root = small(tmp_path)
    for path in root.rglob("*.npy"):
        change(path, raw_eeg_data=lambda x: x * np.r_[1, 0, 1, 1, 1, 1, 1][:, None])
    prepare(root, tmp_path / "out")
    stored = np.load(tmp_path / "out" / "sub-01" / "train.npy")
    assert np.isfinite(stored).all()
    assert np.abs(stored[:, :, 2:]).max() > 1
    assert any("Cz" in text for text in write_prepare_page(tmp_path / "out")["findings"])


def arguments(root: Path, out: Path, *more: str) -> list[str]:
    return ["prepare", "things-eeg2", "--root", str(root), "--out", str(out), "--quiet", "--json", *more]


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = small(tmp_path), tmp_path / "out"
    assert run([*arguments(root, out, "--band", "1", "40", "--channels", "O1,O2", "--sfreq", "100")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["subjects"][0] | {"seconds": ""} == {
        "subject": "01", "sessions": 2, "channels": 2, "seconds": "", "Hz": 100.0, "unit": "whitened",
        "train": "6 x 2", "test": "3 x 40"}  # fmt: skip
    assert Path(said["page"]).is_file()
    same(out / "sub-01", reference(root / "sub-01", band=(1.0, 40.0), sfreq=100.0, pick=["O1", "O2"]))


def test_command_says_what_it_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = small(tmp_path)
    make_metadata(root)
    assert run(["prepare", "things-eeg2", "--root", str(root), "--out", str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    assert "2 sessions of 1 subject, 1 at a time: about 0.4 GiB of memory" in captured.err
    assert "note: sub-01: sessions [3, 4]" in captured.err
    assert captured.out.splitlines()[1].startswith("01\t2\t6\t-0.2 to 0.996")
    assert (tmp_path / "out" / "image_metadata.npy").read_bytes() == (root / "image_metadata.npy").read_bytes()


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["things-eeg3"], "did you mean 'things-eeg2'"),
        (["things-eeg2", "--whitening", "yes"], "unknown whitening 'yes'"),
        (["things-eeg2", "--band", "40", "1"], "--band: is 40 to 1 Hz"),
        (["things-eeg2", "--jobs", "0"], "--jobs"),
    ],
)
def test_command_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], match: str) -> None:
    assert run(["prepare", *words, "--root", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len([line for line in lines if line.startswith("error:")]) == 1
    assert match in lines[-1]
    assert not (tmp_path / "out").exists()
