"""THINGS-MEG in its real layout: what comes out is what was written, and what is damaged is refused in one line."""

from __future__ import annotations

import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from things_mri_meg_support import (
    CATCH_EVENT,
    MEG_CATCH,
    MEG_EXP,
    MEG_NAMES,
    MEG_TEST,
    MEG_TIMES,
    meg_codes,
    meg_table,
    write_meg,
    write_photos,
)

from brainalign.datasets import open_dataset
from brainalign.datasets.things_meg import ThingsMEG
from brainalign.datasets.things_meg import store as store_module
from brainalign.errors import InputError
from brainalign.protocols import find_protocol, lint_split
from brainalign.recipes.recipe import SignalSettings
from brainalign.recordings.selection import select_signals

EPOCHS = "derivatives/preprocessed"


def opened(root: Path) -> ThingsMEG:
    return ThingsMEG(root, cache_dir=root.parent / "cache")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "ds004212"


def expected(data: np.ndarray) -> dict[tuple[str, str, int], np.ndarray]:
    """From (stimulus, part, repetition) to the epoch, by walking the table."""
    table, found, count = meg_table(), {}, {}
    for row, (kind, path) in enumerate(zip(table["trial_type"], table["image_path"], strict=True)):
        if kind != "catch":
            stem = path.rsplit("/", 1)[1].removesuffix(".jpg")
            count[stem] = count.get(stem, 0) + 1
            found[f"things/{stem}", {"exp": "train", "test": "test"}[kind], count[stem]] = data[row]
    return found


@pytest.mark.parametrize("place", [EPOCHS, "preprocessed", ""])
@pytest.mark.parametrize("carried", [True, False])
def test_values_are_those_written(root: Path, place: str, carried: bool) -> None:
    data = write_meg(root / place, carried=carried)
    if not carried:
        (root / "sourcedata").mkdir(exist_ok=True)
        meg_table().to_csv(root / "sourcedata/sample_attributes_P1.csv", index=False)
    recording = opened(root).recording("1")
    assert (recording.modality, recording.subject, recording.unit) == ("meg", "1", "z")
    assert (recording.ch_names, recording.sfreq, recording.n_times) == (MEG_NAMES, 200.0, MEG_TIMES)
    assert recording.times[[0, -1]] == pytest.approx([-0.1, 1.3])
    values = recording.read(np.arange(len(recording)))
    found = {
        (trial.stimulus_id, trial.part, trial.repetition): values[row] for row, trial in recording.trials.iterrows()
    }
    wanted = expected(data)
    assert found.keys() == wanted.keys()
    assert len(found) == len(MEG_EXP) + 12 * len(MEG_TEST)
    for key, epoch in wanted.items():
        np.testing.assert_array_equal(found[key], epoch, err_msg=str(key))


def test_one_second_is_200_samples(root: Path) -> None:
    write_meg(root / EPOCHS)
    assert opened(root).recording("1").crop(0.0, 1.0).n_times == 200


def test_sessions_and_runs(root: Path) -> None:
    write_meg(root / EPOCHS)
    trials, table = opened(root).recording("1").trials, meg_table()
    kept = table[table["trial_type"] != "catch"]
    assert trials["session"].tolist() == kept["session_nr"].tolist()
    assert trials["run"].tolist() == kept["run_nr"].tolist()


def test_parts_are_one_recording(root: Path) -> None:
    table = meg_table(repeats=150)
    data = write_meg(root / EPOCHS, table=table, split=True, n_chans=12)
    assert len(list((root / EPOCHS).glob("*.fif"))) >= 3
    recording = opened(root).recording("1")
    kept = np.flatnonzero(table["trial_type"] != "catch")
    np.testing.assert_array_equal(recording.read(np.arange(len(recording))), data[kept])


def test_a_missing_part_is_named(root: Path) -> None:
    write_meg(root / EPOCHS, table=meg_table(repeats=150), split=True, n_chans=12)
    parts = sorted((root / EPOCHS).glob("*-epo-*.fif"))
    parts[-1].unlink()
    with pytest.raises(InputError, match=rf"preprocessed_P1-epo\S*\.fif: goes on in {parts[-1].name}"):
        opened(root).recording("1")
    shutil.copy(parts[0], root / EPOCHS / "preprocessed_P1-epo-9.fif")
    with pytest.raises(InputError, match=r"no such file, later parts are there"):
        opened(root).recording("1")


def test_tesla_becomes_femtotesla(root: Path) -> None:
    data = write_meg(root / EPOCHS, scale=1e-13)
    recording = opened(root).recording("1")
    assert recording.unit == "fT"
    first = np.flatnonzero(meg_table()["trial_type"] != "catch")[0]
    np.testing.assert_allclose(recording.read([0])[0], data[first].astype(float) * 1e15, rtol=1e-6)


def test_the_second_time_comes_from_the_copy(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mne

    write_meg(root / EPOCHS)
    first = opened(root).recording("1")
    monkeypatch.setattr(mne, "read_epochs", None)
    again = opened(root).recording("1")
    assert isinstance(again.signals, np.memmap)
    np.testing.assert_array_equal(again.read([3]), first.read([3]))
    assert again.trials.equals(first.trials)
    np.testing.assert_allclose(again.ch_pos, [[0.01 * i, 0.1, 0.02] for i in range(len(MEG_NAMES))], atol=1e-8)


def test_a_changed_file_is_read_anew(root: Path) -> None:
    write_meg(root / EPOCHS)
    before = opened(root).recording("1").read([0])
    (root / EPOCHS / "preprocessed_P1-epo.fif").unlink()
    write_meg(root / EPOCHS, scale=2.0)
    np.testing.assert_array_equal(opened(root).recording("1").read([0]), 2 * before)


def test_regions_and_posterior_sensors(root: Path) -> None:
    write_meg(root / EPOCHS, positions=False)
    recording = opened(root).recording("1")
    assert recording.ch_pos is None
    regions = ["occipital", "occipital", "parietal", "temporal", "frontal", "central"]
    assert recording.channels["region"].tolist() == regions
    assert recording.channels["side"].tolist() == ["left", "right", "midline", "left", "right", "midline"]
    posterior = select_signals(recording, SignalSettings(channels="posterior"))
    assert posterior.ch_names == MEG_NAMES[:3]
    by_region = select_signals(recording, SignalSettings(channels=["roi:parietal,occipital"]))
    assert by_region.ch_names == MEG_NAMES[:3]


def test_stimuli_join_with_other_things_data(root: Path) -> None:
    write_meg(root / EPOCHS)
    write_photos(root, MEG_EXP + MEG_TEST)
    stimuli = opened(root).stimuli("1")
    assert stimuli.ids == tuple(f"things/{stem}" for stem in sorted(MEG_EXP + MEG_TEST))
    assert stimuli.column("concept", ["things/coat_rack_13s", "things/bat1_15n"]) == ["coat_rack", "bat1"]
    assert stimuli.image(0).size == (4, 4)


def test_photos_in_the_folders_of_the_experiment(root: Path) -> None:
    write_meg(root / EPOCHS)
    write_photos(root, MEG_EXP + MEG_TEST)
    (root / "object_images").rename(root / "images_meg")
    (root / "images_test_meg").mkdir()
    for stem in MEG_TEST:
        (root / "images_meg" / stem.rpartition("_")[0] / f"{stem}.jpg").rename(root / f"images_test_meg/{stem}.jpg")
    stimuli = opened(root).stimuli("1")
    assert all(stimuli.image(row).size == (4, 4) for row in range(len(stimuli)))


def many_concepts() -> pd.DataFrame:
    """A table with enough concepts for a split."""
    table = meg_table()
    more = table[table["trial_type"] == "exp"].iloc[[0] * 20].copy()
    more["image_path"] = [f"images_meg/thing{i // 2}/thing{i // 2}_{i % 2 + 1:02d}b.jpg" for i in range(20)]
    return pd.concat([table, more], ignore_index=True)


def test_standard_split_drops_tested_concepts(root: Path) -> None:
    for subject in ("1", "2"):
        write_meg(root / EPOCHS, subject, table=many_concepts())
    dataset = opened(root)
    stimuli, recordings = dataset.stimuli("1"), [dataset.recording(s) for s in dataset.subjects]
    split = find_protocol("things-meg/intra/v1").split(0, stimuli, recordings[0])
    assert set(split.test) == {f"things/{stem}" for stem in MEG_TEST}
    used = {name.removeprefix("things/").rpartition("_")[0] for name in (*split.train, *split.validation)}
    assert used == {"abacus", "coat_rack", "dog", *(f"thing{i}" for i in range(10))}
    trained = {name.rpartition("_")[0] for name in split.train}
    assert not trained & {name.rpartition("_")[0] for name in split.validation}
    inter = find_protocol("things-meg/inter/v1")
    assert inter.training_subjects("2", dataset.subjects) == ("1",)
    assert set(inter.split(0, stimuli, recordings[1], [recordings[0]]).test) == set(split.test)


def test_lint_is_content(root: Path) -> None:
    write_meg(root / EPOCHS, table=many_concepts())
    write_photos(root, [*MEG_EXP, *MEG_TEST, *(f"thing{i // 2}_{i % 2 + 1:02d}b" for i in range(20))])
    dataset = opened(root)
    stimuli = dataset.stimuli("1")
    split = find_protocol("things-meg/intra/v1").split(0, stimuli, dataset.recording("1"))
    assert not lint_split(split, stimuli)


def test_check_says_what_is_there_and_what_is_missing(root: Path) -> None:
    write_meg(root / EPOCHS)
    findings = {found.where: found for found in opened(root).check()}
    text = findings["subject 1"].text
    assert "8 train photos x 1, not as published" in text
    assert f"{MEG_CATCH} catch trials left out" in text
    assert "281 samples at 200 Hz from -0.1 to 1.3 s" in text
    photo = findings["object_images/aardvark/aardvark_01b.jpg"]
    assert not photo.ok
    assert "with 9 others" in photo.text
    fetch = findings["derivatives/preprocessed/preprocessed_P2-epo.fif"].text
    assert "datasets fetch things-meg --subject 2" in fetch
    assert not (root.parent / "cache").exists()


def test_check_of_an_empty_folder(root: Path) -> None:
    root.mkdir()
    (finding,) = opened(root).check()
    assert not finding.ok
    assert "fetch things-meg --subject 1" in finding.text


def test_registered() -> None:
    assert isinstance(open_dataset("things-meg"), ThingsMEG)
    assert open_dataset("things-meg").subjects == ("1", "2", "3", "4")


def damaged(root: Path, kind: str) -> None:
    table, folder = meg_table(), root / EPOCHS
    first = folder / "preprocessed_P1-epo.fif"
    if kind == "no file":
        folder.mkdir(parents=True)
        return
    if kind == "kind of trial":
        table.loc[0, "trial_type"] = "practice"
    if kind == "no photo name":
        row = table.index[table["trial_type"] == "exp"][0]
        table.loc[row, "image_path"] = "images_meg/secret/../../etc/passwd"
    if kind == "session":
        table["session_nr"] = table["session_nr"].astype(float)
        table.loc[table.index[table["trial_type"] == "exp"][0], "session_nr"] = np.nan
    if kind in ("table shifted", "other table", "short table", "no column", "no table text", "binary table"):
        write_meg(folder, carried=False)
        shifted = table.copy()
        shifted["image_path"] = np.roll(table["image_path"], 1)
        content = {
            "table shifted": pd.concat([table.iloc[1:], table.iloc[:1]]),
            "other table": shifted.assign(trial_type=table["trial_type"]),
            "short table": table.iloc[:-1],
            "no column": table.drop(columns="image_path"),
        }.get(kind)
        path = root / "sample_attributes_P1.csv"
        if content is not None:
            content.to_csv(path, index=False)
        else:
            path.write_bytes(b"\x00\xff" * 50 if kind == "binary table" else b"")
        return
    data = write_meg(folder, table=table, carried=kind != "no table")
    if kind == "truncated":
        first.write_bytes(first.read_bytes()[: data.nbytes // 2])
    if kind == "not fif":
        first.write_bytes(b"PK\x03\x04" + b"0" * 1000)
    if kind == "empty":
        first.write_bytes(b"")
    if kind == "twice":
        shutil.copytree(folder, root / "preprocessed")
    if kind == "NaN":
        content = bytearray(first.read_bytes())
        at = content.find(data[3, 2, :4].astype(">f4").tobytes())
        assert at > 0
        content[at : at + 4] = np.array([np.nan], ">f4").tobytes()
        first.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no file", r"no preprocessed_P1-epo\.fif; looked in derivatives/preprocessed"),
        ("truncated", r"is not a whole file of epochs"),
        ("not fif", r"is not a whole file of epochs"),
        ("empty", r"is not a whole file of epochs"),
        ("twice", r"subject 1 lies here and in"),
        ("NaN", r"holds NaN or infinity, first in epoch 3, channel 'MZP01-1609'"),
        ("no table", r"carries no table of trials; put sample_attributes_P1\.csv into sourcedata/"),
        ("table shifted", r"do not belong together"),
        ("other table", r"do not belong together|names the photo"),
        ("short table", r"has 36 rows, the recording has 37 epochs"),
        ("no column", r"has no column 'image_path'"),
        ("no table text", r"is not a table of comma-separated values"),
        ("binary table", r"is not a table of comma-separated values"),
        ("kind of trial", r"has the trial_type 'practice'; expected exp, test, catch"),
        ("no photo name", r"names the photo 'images_meg/secret/\.\./\.\./etc/passwd'"),
        ("session", r"has a session_nr that is no whole number"),
    ],
)
def test_damage_is_refused_in_one_line(root: Path, kind: str, message: str) -> None:
    damaged(root, kind)
    with pytest.raises(InputError, match=message) as caught:
        opened(root).recording("1")
    assert "\n" not in str(caught.value)
    copies = root.parent / "cache/derived/things-meg"
    assert not list(copies.rglob("trials.npy")) + list(copies.rglob("*.partial"))


def test_a_part_of_the_copy_that_is_gone_is_made_again(root: Path) -> None:
    write_meg(root / EPOCHS)
    first = opened(root).recording("1").read([1])
    copy = next((root.parent / "cache").rglob("trials.npy"))
    copy.write_bytes(copy.read_bytes()[:-4])
    np.testing.assert_array_equal(opened(root).recording("1").read([1]), first)


def test_memory_is_bounded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_meg(root / EPOCHS, table=meg_table(repeats=800), n_chans=24)
    size, dataset = data.nbytes, opened(root)
    del data
    assert size > 40e6
    monkeypatch.setattr(store_module, "BLOCK_BYTES", 2**22)
    tracemalloc.start()  # numpy tells it of every array
    try:
        recording = dataset.recording("1")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < size / 2
    assert (meg_codes(meg_table(repeats=800)) != CATCH_EVENT).sum() == len(recording)
