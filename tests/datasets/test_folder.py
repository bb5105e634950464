from __future__ import annotations

import os
import re
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from brainalign.datasets import open_dataset
from brainalign.datasets.folder import FolderDataset
from brainalign.errors import InputError
from brainalign.recordings import mne_epochs

DOCS = Path(__file__).parents[2] / "docs" / "own-recordings.md"
IMAGES = ("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png")
N_CHANS, N_TIMES = 3, 20
TRIALS = "image,session,part\n" + "".join(f"{name},{s},\n" for s in (1, 2) for name in IMAGES)


def signals() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(8, N_CHANS, N_TIMES)).astype(np.float32)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "mydata"
    for i, name in enumerate(IMAGES):
        (root / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 6), (i, 40, 90)).save(root / "images" / name)
    (root / "sub-01").mkdir()
    np.save(root / "sub-01" / "signals.npy", signals())
    write(root, "sub-01/trials.csv", TRIALS)
    write(root, "dataset.yaml", "name: pilot\nmodality: eeg\nsfreq: 100\ntmin: -0.1\nunit: uV\nlicence: CC0\n")
    return root


def write(root: Path, name: str, text: str, encoding: str = "utf-8") -> None:
    (root / name).write_bytes(text.encode(encoding))


def bad(root: Path) -> list[str]:
    return [f"{f.where}: {f.text}" for f in FolderDataset(root).check() if not f.ok]


def test_reads_what_was_written(root: Path) -> None:
    dataset = open_dataset(str(root))
    assert isinstance(dataset, FolderDataset)
    assert (dataset.name, dataset.subjects, dataset.info.modality) == ("pilot", ("01",), "eeg")
    assert (dataset.info.protocol, dataset.info.licence, dataset.info.virtual) == ("own/intra/v1", "CC0", False)
    stimuli, recording = dataset.stimuli("01"), dataset.recording("01")
    assert stimuli.ids == ("cat/1", "cat/2", "dog/1", "dog/2")
    assert stimuli.column("concept", ["cat/2", "dog/1"]) == ["cat", "dog"]
    assert (recording.sfreq, recording.tmin, recording.unit, recording.n_chans) == (100.0, -0.1, "uV", N_CHANS)
    assert recording.trials["session"].tolist() == [1, 1, 1, 1, 2, 2, 2, 2]
    assert recording.trials["repetition"].tolist() == [1, 1, 1, 1, 2, 2, 2, 2]
    np.testing.assert_allclose(recording.average(["dog/1"])[0], signals()[[2, 6]].mean(0), rtol=1e-6)
    assert isinstance(recording.signals, np.memmap)
    assert bad(root) == []
    assert [f.text for f in dataset.check()] == [
        "4 images of 2 concepts",
        "8 trials of 4 images, 3 channels x 20 samples at 100 Hz from -0.1 s",
    ]


def test_stimuli_csv(root: Path) -> None:
    write(
        root,
        "stimuli.csv",
        'stimulus_id,path,concept,caption\nA,cat/1.png,feline,"a cat, sitting"\nB,images/dog/2.png,canine,\n',
    )
    write(root, "sub-01/trials.csv", "stimulus_id\n" + "A\nB\n" * 4)
    stimuli = FolderDataset(root).stimuli("01")
    assert stimuli.ids == ("A", "B")
    assert stimuli.column("caption", ["A", "B"]) == ["a cat, sitting", ""]
    assert stimuli.column("concept", ["B"]) == ["canine"]
    assert stimuli.image(1).getpixel((0, 0)) == (3, 40, 90)
    np.testing.assert_allclose(
        FolderDataset(root).recording("01").average(["B"])[0], signals()[1::2].mean(0), rtol=1e-5
    )


def test_stimuli_csv_takes_concepts_from_subfolders(root: Path) -> None:
    write(root, "stimuli.csv", "stimulus_id,path\nA,cat/1.png\nB,dog/2.png\n")
    assert FolderDataset(root).stimuli("01").column("concept", ["A", "B"]) == ["cat", "dog"]


def test_excel_csv_with_byte_order_mark_and_blank_lines(root: Path) -> None:
    write(root, "sub-01/trials.csv", "\ufeff" + TRIALS.replace("\n", "\r\n") + "\r\n,,\r\n")
    assert len(FolderDataset(root).recording("01")) == 8


@pytest.mark.parametrize("place", ["channels.csv", "sub-01/channels.csv"])
def test_channels(root: Path, place: str) -> None:
    write(root, place, "name,x,y,z,region,snr\nO1,-.03,-.09,.01,V1,2.5\nOz,0,-.1,.01,V1,3\nPz,0,-.06,.09,PPC,1\n")
    recording = FolderDataset(root).recording("01").pick(["Pz", "O1"])
    assert recording.ch_pos is not None
    assert recording.channels is not None
    np.testing.assert_allclose(recording.ch_pos, [[0, -0.06, 0.09], [-0.03, -0.09, 0.01]])
    assert recording.channels["region"].tolist() == ["PPC", "V1"]
    assert recording.channels["snr"].tolist() == [1.0, 2.5]


def test_spikes_have_no_time_axis(root: Path) -> None:
    write(root, "dataset.yaml", "modality: spikes\nunit: spikes / 100 ms\n")
    np.save(root / "sub-01" / "signals.npy", signals()[:, :, 0])
    recording = FolderDataset(root).recording("01")
    assert (recording.n_times, recording.sfreq, recording.modality) == (1, None, "spikes")
    assert FolderDataset(root).name == "mydata"


def save_epochs(root: Path, n_epochs: int = 8) -> np.ndarray:
    mne = pytest.importorskip("mne")
    (root / "sub-01" / "signals.npy").unlink()
    info = mne.create_info(["Oz", "O1", "Pz"], 100.0, "eeg")
    epochs = mne.EpochsArray(signals()[:n_epochs] * 1e-6, info, tmin=-0.1, verbose="error")
    epochs.save(root / "sub-01" / "pilot-epo.fif", verbose="error")
    return signals()


def test_epochs(root: Path) -> None:
    expected = save_epochs(root)
    write(root, "dataset.yaml", "modality: eeg\n")
    write(root, "channels.csv", "name,region\nO1,V1\nOz,V1\nPz,PPC\n")
    recording = FolderDataset(root).recording("01")
    assert (recording.sfreq, recording.tmin, recording.unit) == (100.0, pytest.approx(-0.1), "uV")
    np.testing.assert_allclose(recording.read([3])[0], expected[3], rtol=1e-5)
    assert recording.channels is not None
    assert recording.channels["name"].tolist() == ["Oz", "O1", "Pz"]
    assert bad(root) == []


def test_epochs_that_disagree_with_the_yaml(root: Path) -> None:
    save_epochs(root)
    write(root, "dataset.yaml", "modality: eeg\nsfreq: 250\n")
    with pytest.raises(InputError, match=r"pilot-epo\.fif: has sfreq 100\.0, dataset\.yaml says 250\.0"):
        FolderDataset(root).recording("01")


@pytest.mark.parametrize("suffix", ["fif", "fif.gz"])
def test_epochs_are_read_in_blocks_and_hold_what_mne_reads(
    root: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mne = pytest.importorskip("mne")
    (root / "sub-01" / "signals.npy").unlink()
    write(root, "dataset.yaml", "modality: eeg\n")
    n, n_times = 8, 20_000
    values = np.random.default_rng(0).normal(size=(n, 4, n_times)) * 1e-5
    info = mne.create_info(["Oz", "EOG", "O1", "Pz"], 1000.0, ["eeg", "eog", "eeg", "eeg"])
    epochs = mne.EpochsArray(values, info, tmin=-0.1, verbose="error").set_eeg_reference(projection=True)
    path = root / "sub-01" / f"long-epo.{suffix}"
    epochs.save(path, verbose="error")
    whole = mne.read_epochs(path, verbose="error").get_data(copy=False)[:, [0, 2, 3]]
    monkeypatch.setattr(mne_epochs, "CHUNK_BYTES", 3 * 8 * 4 * n_times)  # blocks of 3 epochs, the last of 2
    tracemalloc.start()  # numpy tells it of every array
    try:
        recording = FolderDataset(root).recording("01")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(recording.read(np.arange(n)), (whole * 1e6).astype(np.float32))
    assert recording.ch_names == ("Oz", "O1", "Pz")
    assert peak < 8 * values.size + 4 * values.size


def test_epochs_that_end_early_are_damaged(root: Path) -> None:
    save_epochs(root)
    path = root / "sub-01" / "pilot-epo.fif"
    path.write_bytes(path.read_bytes()[:-400])
    assert [text for text in bad(root) if "pilot-epo.fif: cannot be read by MNE" in text] == bad(root) != []


def test_damaged_epochs(root: Path) -> None:
    save_epochs(root)
    path = root / "sub-01" / "pilot-epo.fif"
    path.write_bytes(path.read_bytes()[:300])
    assert len(bad(root)) == 1
    assert "cannot be read by MNE" in bad(root)[0]


def nan(root: Path) -> None:
    values = signals()
    values[5, 1, 3] = np.nan
    np.save(root / "sub-01" / "signals.npy", values)


def truncate(root: Path) -> None:
    path = root / "sub-01" / "signals.npy"
    path.write_bytes(path.read_bytes()[:-100])


def saved(value: object) -> Callable[[Path], None]:
    return lambda root: np.save(root / "sub-01" / "signals.npy", value, allow_pickle=True)  # type: ignore[arg-type]


def wrote(name: str, text: str, encoding: str = "utf-8") -> Callable[[Path], None]:
    return lambda root: write(root, name, text, encoding)


def removed(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).unlink()


def replaced(name: str, old: str, new: str) -> Callable[[Path], None]:
    return lambda root: write(root, name, (root / name).read_text().replace(old, new))


def npz(root: Path) -> None:
    with open(root / "sub-01" / "signals.npy", "wb") as file:
        np.savez(file, signals())


def header(n: int) -> Callable[[Path], None]:
    """Only so many bytes of the header are left, zeros follow."""

    def apply(root: Path) -> None:
        path = root / "sub-01" / "signals.npy"
        path.write_bytes(path.read_bytes()[:n] + bytes(1920 * (n > 8)))

    return apply


def claims(shape: tuple[int, ...]) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        with open(root / "sub-01" / "signals.npy", "wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
            file.write(bytes(1920))

    return apply


ALIASES = "- &a{0} [" + ", ".join(["*a{1}"] * 9) + "]\n"
YAML, CSV, NPY = "dataset.yaml", "sub-01/trials.csv", "sub-01/signals.npy"
BREAKAGES = {
    "no yaml": (removed(YAML), "dataset.yaml: no such file"),
    "unknown key": (wrote(YAML, "modality: eeg\nsampling: 3\nsfreq: 100\ntmin: 0\n"), "unknown key 'sampling'"),
    "near key": (wrote(YAML, "modalty: eeg\nsfreq: 100\ntmin: 0\n"), "unknown key 'modalty'; did you mean 'modality'?"),
    "no modality": (wrote(YAML, "sfreq: 100\n"), "dataset.yaml: has no modality"),
    "unknown modality": (wrote(YAML, "modality: EEG\n"), "unknown modality 'EEG'"),
    "no sfreq": (wrote(YAML, "modality: eeg\ntmin: 0\n"), "dataset.yaml: has no sfreq; add sfreq in Hz"),
    "no tmin": (wrote(YAML, "modality: eeg\nsfreq: 100\n"), "dataset.yaml: has no tmin"),
    "text sfreq": (wrote(YAML, "modality: eeg\nsfreq: 100 Hz\ntmin: 0\n"), "sfreq is '100 Hz', expected a positive"),
    "zero sfreq": (wrote(YAML, "modality: eeg\nsfreq: 0\ntmin: 0\n"), "sfreq is 0, expected a positive number of Hz"),
    "bool tmin": (wrote(YAML, "modality: eeg\nsfreq: 100\ntmin: yes\n"), "tmin is True, expected a number of seconds"),
    "list unit": (wrote(YAML, "modality: eeg\nsfreq: 100\ntmin: 0\nunit: [uV]\n"), "unit is ['uV'], expected text"),
    "not yaml": (wrote(YAML, "modality: [eeg\nsfreq: 100\n"), "dataset.yaml: line 2 is not YAML"),
    "yaml object": (wrote(YAML, "modality: !!python/object/apply:os.getcwd []\n"), "dataset.yaml: line 1 is not YAML"),
    "yaml aliases": (
        wrote(YAML, "modality: eeg\nname: &a [x, *a]\n"),
        "dataset.yaml: line 2 is not YAML (an alias stands for itself)",
    ),
    "yaml aliases to aliases": (
        wrote(YAML, "modality: eeg\nname:\n- &a0 [x]\n" + "".join(ALIASES.format(i + 1, i) for i in range(12))),
        "is not YAML (aliases stand for more than 100000 values)",
    ),
    "long value": (wrote(YAML, f"modality: eeg\nname: [{'[x, x], ' * 900}]\n"), "['x', 'x'], ...], expected text"),
    "no such date": (
        wrote(YAML, "modality: eeg\nname: 2024-13-45\n"),
        "dataset.yaml: line 2 is not YAML (month must be in 1..12)",
    ),
    "sfreq of 401 digits": (wrote(YAML, f"modality: eeg\nsfreq: {'9' * 401}\n"), "line 2 is not YAML (a number has"),
    "sfreq of 5001 digits": (wrote(YAML, f"modality: eeg\nsfreq: {'9' * 5001}\n"), "line 2 is not YAML (Exceeds"),
    "empty yaml": (wrote(YAML, "\n"), "dataset.yaml: holds no keys"),
    "latin-1 yaml": (wrote(YAML, "modality: eeg\nname: Mün\n", "latin-1"), "dataset.yaml: line 2 is not UTF-8"),
    "no signals": (removed(NPY), "sub-01: holds no signals.npy and no *-epo.fif"),
    "wrong count": (saved(signals()[:7]), "signals.npy: has 7 trials, trials.csv 8 rows"),
    "4-D": (saved(signals()[None]), "signals.npy: has shape (1, 8, 3, 20), expected (n_trials, n_chans, n_times)"),
    "complex": (saved(signals().astype(complex)), "signals.npy: signals have dtype complex128"),
    "objects": (saved(np.array([{}, {}], dtype=object)), "signals.npy: is not a whole .npy file of numbers"),
    "nan": (nan, "signals.npy: signals hold NaN or infinity, first in trial 5, channel 'ch001'"),
    "truncated": (truncate, "signals.npy: is not a whole .npy file"),
    "not npy": (wrote(NPY, "1,2,3\n"), "signals.npy: is not a whole .npy file of numbers"),
    "empty npy": (wrote(NPY, ""), "signals.npy: is not a whole .npy file"),
    "npz": (npz, "signals.npy: is not a whole .npy file of numbers (it is a zip archive)"),
    "npy cut in the header": (header(8), "signals.npy: is not a whole .npy file of numbers (has a damaged .npy hea"),
    "npy header not closed": (header(90), "signals.npy: is not a whole .npy file of numbers (has a damaged .npy hea"),
    "npy too large": (claims((8, 10**9, 20)), "signals.npy: is not a whole .npy file of numbers (declares (8, 1000000"),
    "npy of a negative shape": (claims((8, -3, 20)), "signals.npy: is not a whole .npy file of numbers (declares the "),
    "no trials": (removed(CSV), "trials.csv: no such file"),
    "empty trials": (wrote(CSV, "\n\n"), "trials.csv: is empty"),
    "header only": (wrote(CSV, "image\n"), "trials.csv: has a header and no row"),
    "utf-16": (wrote(CSV, TRIALS, "utf-16"), "trials.csv: line 1 is not UTF-8"),
    "latin-1": (wrote(CSV, TRIALS.replace("dog", "dög"), "latin-1"), "trials.csv: line 4 is not UTF-8"),
    "semicolons": (wrote(CSV, TRIALS.replace(",", ";")), "trials.csv: has neither 'stimulus_id' nor 'image'"),
    "both names": (wrote(CSV, "image,stimulus_id\ncat/1.png,cat/1\n"), "has both 'stimulus_id' and 'image'"),
    "misspelt column": (replaced(CSV, "session", "sesion"), "has a column 'sesion', did you mean 'session'?"),
    "column twice": (replaced(CSV, "session", "image"), "has the column 'image' twice"),
    "ragged": (replaced(CSV, "cat/2.png,1,", "cat/2.png,1"), "trials.csv: line 3 has 2 fields, the header 3"),
    "open quote": (replaced(CSV, "cat/2.png,1", '"cat/2.png,1'), "is not CSV"),
    "unknown image": (replaced(CSV, "dog/2.png,1", "dog/3.png,1"), "line 5: there is no image 'dog/3.png'; did you"),
    "no image name": (replaced(CSV, "dog/2.png,1", ",1"), "trials.csv: line 5: names no image"),
    "unknown part": (replaced(CSV, "dog/2.png,1,", "dog/2.png,1,val"), "line 5: part is 'val'; expected train, test"),
    "some parts": (replaced(CSV, "dog/2.png,1,", "dog/2.png,1,test"), "part is empty while other trials have one"),
    "test in train": (
        wrote(CSV, "image,part\n" + "".join(f"{n},{p}\n" for p in ("train", "test") for n in IMAGES)),
        "trials.csv: line 6: 'cat/1' is shown in the test part and in the train part",
    ),
    "bad repetition": (
        wrote(CSV, "image,repetition\n" + "".join(f"{n},{r}\n" for r in (0, 1) for n in IMAGES)),
        "trials.csv: line 2: repetition is '0'; expected a whole number from 1",
    ),
    "same repetition": (
        wrote(CSV, "image,repetition\n" + "".join(f"{n},1\n" for _ in (0, 1) for n in IMAGES)),
        "trials.csv: line 6: repetition 1 of 'cat/1' stands in line 2 too",
    ),
    "empty session": (replaced(CSV, "dog/2.png,1,", "dog/2.png,,"), "line 5: session is empty"),
    "wrong channel count": (wrote("channels.csv", "name\nO1\nOz\n"), "has 3 channels, channels.csv 2 rows"),
    "channel twice": (wrote("channels.csv", "name\nO1\nOz\nO1\n"), "csv: line 4: channel name 'O1' is given twice"),
    "no channel name": (wrote("channels.csv", "label\nO1\nOz\nPz\n"), "channels.csv: has no column 'name'"),
    "two axes": (wrote("channels.csv", "name,x,y\nO1,0,0\nOz,0,0\nPz,0,0\n"), "channels.csv: has x, y of x, y, z"),
    "millimetres": (
        wrote("channels.csv", "name,x,y,z\nO1,0,0,0\nOz,0,-95,0\nPz,0,0,0\n"),
        "channels.csv: line 3: y of channel 'Oz' is '-95'",
    ),
    "same id twice": (
        wrote("stimuli.csv", "stimulus_id,path\ncat/1,cat/1.png\ncat/1,cat/2.png\n"),
        "stimuli.csv: line 3: stimulus_id 'cat/1' stands in line 2 too",
    ),
    "same path twice": (
        wrote("stimuli.csv", "stimulus_id,path\nA,cat/1.png\nB,./cat/1.png\n"),
        "stimuli.csv: line 3: image cat/1.png stands in line 2 too",
    ),
    "missing image": (
        wrote("stimuli.csv", "stimulus_id,path\nA,cat/1.png\nB,cat/9.png\n"),
        "stimuli.csv: line 3: there is no image images/cat/9.png",
    ),
    "path leads out": (
        wrote("stimuli.csv", "stimulus_id,path\nA,../dataset.yaml\n"),
        "stimuli.csv: line 2: there is no image images/../dataset.yaml",
    ),
    "no path column": (wrote("stimuli.csv", "stimulus_id,file\nA,cat/1.png\n"), "stimuli.csv: has no column 'path'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BREAKAGES)
def test_breakages(root: Path, case: str) -> None:
    """Reading stops with one line that names the file; check lists the same problem."""
    break_it, expected = BREAKAGES[case]
    break_it(root)
    dataset = FolderDataset(root)
    with pytest.raises(InputError, match=re.escape(expected)) as caught:
        dataset.recording("01")
    assert "\n" not in str(caught.value)
    assert str(root) in str(caught.value)
    found = bad(root)
    assert any(expected in text for text in found), found


def test_check_collects_every_problem(root: Path) -> None:
    for case in ("text sfreq", "nan", "unknown image", "wrong channel count"):
        BREAKAGES[case][0](root)
    (root / "sub-02").mkdir()
    write(root, "dataset.yaml", "modality: eeg\nsfreq: 100 Hz\ntmn: 0\nunit: 3\n")
    (root / "images" / "dog" / "2.png").write_bytes(b"not an image")
    found = bad(root)
    expected = ["sfreq is '100 Hz'", "unknown key 'tmn'", "unit is 3", "line 5: there is no image", "cannot be decoded"]
    for text in (*expected, "channels.csv 2 rows", "sub-02: holds no signals.npy"):
        assert sum(text in line for line in found) == 1, (text, found)
    (root / "channels.csv").unlink()
    assert any("NaN" in line for line in bad(root)), "broken tables must not hide broken signals"


def test_several_rows_are_all_reported(root: Path) -> None:
    write(root, "sub-01/trials.csv", TRIALS.replace("dog/2.png", "dog/7.png"))
    assert [re.search(r"line (\d)", t)[1] for t in bad(root)] == ["5", "9"]  # type: ignore[index]


def test_identical_images_under_two_ids(root: Path) -> None:
    (root / "images" / "dog" / "1.png").write_bytes((root / "images" / "cat" / "2.png").read_bytes())
    assert len(bad(root)) == 1
    assert "'cat/2', 'dog/1' are the same image" in bad(root)[0]
    assert len(FolderDataset(root).recording("01")) == 8


def test_two_suffixes_of_one_name(root: Path) -> None:
    Image.new("RGB", (6, 6)).save(root / "images" / "cat" / "1.jpg")
    assert any("stimulus_id 'cat/1' stands twice" in text for text in bad(root))


def test_no_images(root: Path) -> None:
    (root / "images").rename(root / "pictures")
    assert any(text.startswith("images: is not a folder") for text in bad(root))
    with pytest.raises(InputError, match="images: is not a folder"):
        FolderDataset(root).recording("01")


def test_subjects(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no subject '02'.*there are: 01"):
        FolderDataset(root).recording("02")
    with pytest.raises(InputError, match="is not a folder"):
        FolderDataset(tmp_path / "nowhere").check()
    (root / "sub-01").rename(root / "subject1")
    assert any("holds no subject folder" in text for text in bad(root))
    with pytest.raises(InputError, match="holds no subject folder"):
        FolderDataset(root).recording("01")


def test_two_signal_files(root: Path) -> None:
    write(root, "sub-01/a-epo.fif", "")
    with pytest.raises(InputError, match=r"sub-01: holds signals\.npy, a-epo\.fif; give exactly one"):
        FolderDataset(root).recording("01")


def test_facts_change_with_the_content_not_with_the_place(root: Path, tmp_path: Path) -> None:
    before = FolderDataset(root).facts()
    assert before["name"] == "pilot"
    moved = root.rename(tmp_path / "elsewhere")
    os.utime(moved / "sub-01" / "trials.csv", ns=(1, 1))
    assert FolderDataset(moved).facts() == before
    write(moved, "sub-01/trials.csv", TRIALS.replace(",2,", ",3,"))
    changed = FolderDataset(moved).facts()
    assert changed != before
    np.save(moved / "sub-01" / "signals.npy", 1.5 * signals())
    again = FolderDataset(moved).facts()  # of the same shape and size: filtered anew, for example
    assert again not in (before, changed)
    shutil.copytree(moved / "sub-01", moved / "sub-02")
    assert FolderDataset(moved).facts(["01"]) == again  # whoever comes later does not change a run
    assert FolderDataset(moved).facts() != again


def test_documentation_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mne")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), flags=re.S)
    assert len(blocks) >= 3
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(DOCS), "exec"), names)
    assert isinstance(names["trials"], pd.DataFrame)
