"""Damaged BIDS folders: each is refused with one line that names the file, by the reader and by `datasets check`."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bids_support import eeg_run, events_of, ieeg_run, meg_run, write_stimuli

from brainalign.datasets import open_dataset
from brainalign.datasets.bids.layout import all_runs
from brainalign.errors import InputError

pytest.importorskip("mne_bids")

IMAGES = [f"c{i % 5}/i{i:02d}.png" for i in range(10)]
RUN = "sub-01/ses-{}/eeg/sub-01_ses-{}_task-view_{}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bids")
    root = folder / "ds"
    root.mkdir()
    write_stimuli(root, IMAGES)
    events = events_of(IMAGES, {"trial_type": [name[:2] for name in IMAGES], "part": ["train"] * 8 + ["test"] * 2})
    for session in ("1", "2"):
        eeg_run(root, folder, events, subject="01", session=session, task="view")
    return root


@pytest.fixture(scope="module")
def made_meg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bids-meg") / "ds"
    root.mkdir()
    write_stimuli(root, IMAGES)
    meg_run(root, events_of(IMAGES, {}), subject="01", task="view")
    return root


@pytest.fixture(scope="module")
def made_ieeg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bids-ieeg")
    root = folder / "ds"
    root.mkdir()
    write_stimuli(root, IMAGES)
    ieeg_run(root, folder, events_of(IMAGES, {}), subject="01", task="view")
    return root


def file(root: Path, suffix: str, session: str = "2") -> Path:
    return root / RUN.format(session, session, suffix)


def change(suffix: str, old: str, new: str) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        path = file(root, suffix)
        text = path.read_text()
        assert re.search(old, text), text[:300]
        path.write_text(re.sub(old, new, text, count=1))

    return apply


def write(suffix: str, data: bytes) -> Callable[[Path], None]:
    return lambda root: file(root, suffix).write_bytes(data) and None


def cut(suffix: str, n: int) -> Callable[[Path], None]:
    return lambda root: os.truncate(file(root, suffix), n)


def unlink(suffix: str) -> Callable[[Path], None]:
    return lambda root: file(root, suffix).unlink()


def at_root(name: str, text: str | None) -> Callable[[Path], None]:
    return lambda root: (root / name).unlink() if text is None else (root / name).write_text(text) and None


def nan(root: Path) -> None:
    path = file(root, "eeg.eeg")
    data = np.fromfile(path, dtype="<f4").reshape(-1, 10)
    data[620, 3] = np.nan  # 3.1 s
    data.tofile(path)


def link(target: str) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        (root.parent / "secret.png").write_bytes(b"secret")
        path = root / "stimuli" / IMAGES[0]
        path.unlink()
        path.symlink_to(target if target != "outside" else root.parent / "secret.png")

    return apply


def linked_folder(root: Path) -> None:
    (root.parent / "elsewhere").mkdir()
    shutil.move(root / "stimuli" / "c0", root.parent / "elsewhere" / "c0")
    (root / "stimuli" / "c0").symlink_to(root.parent / "elsewhere" / "c0")


def change_all(suffix: str, old: str, new: str) -> Callable[[Path], None]:
    return lambda root: file(root, suffix).write_text(file(root, suffix).read_text().replace(old, new)) and None


def other_part(old: str, new: str) -> Callable[[Path], None]:
    """The first image is in the other part in the second session."""
    return change("events.tsv", rf"(c0/i00\.png|{old})(.*)(c0/i00\.png|{old})", rf"{new}\2c0/i00.png")


def latin(root: Path) -> None:
    path = file(root, "events.tsv")
    path.write_bytes(path.read_bytes().replace(b"c0/i00", b"caf\xe9"))


def rename(old: str, new: str) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        for path in list(file(root, "").parent.glob("*")):
            path.rename(path.with_name(path.name.replace(old, new)))

    return apply


def other_format(root: Path) -> None:
    shutil.copy(file(root, "eeg.vhdr"), file(root, "eeg.edf"))


def two_versions(root: Path) -> None:
    for path in list(file(root, "").parent.glob("*_task-view_*")):
        shutil.copy(path, path.with_name(path.name.replace("task-view_", "task-view_acq-x_")))


def two_tasks(root: Path) -> None:
    rename("task-view", "task-look")(root)
    for path in file(root, "").parent.glob("*.vhdr"):
        path.write_text(path.read_text().replace("task-view", "task-look"))


def no_images(root: Path) -> None:
    for session in ("1", "2"):
        path = file(root, "events.tsv", session)
        path.write_text(re.sub(r"c\d/i\d+\.png", "n/a", path.read_text()))


def same_stem(root: Path) -> None:
    shutil.copy(root / "stimuli/c0/i00.png", root / "stimuli/c0/i00.bmp")
    change("events.tsv", r"c0/i00\.png", "c0/i00.bmp")(root)


def wrong_folder(root: Path) -> None:
    (root / "sub-01").rename(root / "sub-02")


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "no description": (at_root("dataset_description.json", None), "holds no dataset_description.json; give the root"),
    "description not json": (at_root("dataset_description.json", "{"), "dataset_description.json: is not JSON"),
    "description a list": (at_root("dataset_description.json", "[1]"), "has no BIDSVersion"),
    "no recording": (lambda root: shutil.rmtree(root / "sub-01"), "holds no recording; looked for sub-*/"),
    "folder of another subject": (wrong_folder, "subject and session must be those of the folder"),
    "name not of BIDS": (rename("task-view", "taskview"), "is not a name of BIDS"),
    "two formats": (other_format, "in another format; keep one of them"),
    "two versions": (two_versions, "is a version of sub-01_ses-2_task-view_acq-x_eeg.vhdr; choose with acquisition=x"),
    "two tasks": (two_tasks, "several tasks show images: look, view; choose with --data-option task=look"),
    "signals cut off": (cut("eeg.eeg", 40 * 900), "lasts 4.5 s, sub-01_ses-2_task-view_eeg.json says 7.0 s"),
    "signals missing": (unlink("eeg.eeg"), "eeg.vhdr: cannot be read ("),
    "signals empty": (write("eeg.eeg", b""), "eeg.vhdr: "),
    "header of zeros": (write("eeg.vhdr", bytes(500)), "eeg.vhdr: cannot be read ("),
    "header cut off": (cut("eeg.vhdr", 120), "eeg.vhdr: cannot be read ("),
    "header empty": (write("eeg.vhdr", b""), "eeg.vhdr: cannot be read ("),
    "sidecar not json": (write("eeg.json", b"{'a': 1}"), "_eeg.json: is not JSON"),
    "sidecar a list": (write("eeg.json", b"[]"), "_eeg.json: is not a JSON object"),
    "channel of another name": (change("channels.tsv", "Oz", "Ozz"), "eeg.vhdr: cannot be read ("),
    "channels cut off": (cut("channels.tsv", 200), "_channels.tsv: line"),
    "channels binary": (write("channels.tsv", bytes(range(128, 256)) * 4), "_channels.tsv: line 1 is not UTF-8"),
    "channels a header": (write("channels.tsv", b"name\ttype\tunits\n"), "_channels.tsv: lists no channel 'Fz'"),
    "channels without names": (change("channels.tsv", "^name", "label"), "_channels.tsv: has no column 'name'"),
    "no channel of the kind": (change_all("channels.tsv", "\tEEG\t", "\tMISC\t"), "holds no eeg channel"),
    "channel only in one run": (change("channels.tsv", "Oz\tEEG", "Oz\tMISC"), "lacks the channel 'Oz' that"),
    "NaN": (nan, "line 5: NaN or infinity in the signals of this trial, channel 'P3'"),
    "events missing": (unlink("events.tsv"), "has no events.tsv with 'stim_file', other runs of task 'view' have"),
    "events empty": (write("events.tsv", b""), "events.tsv: is empty"),
    "events latin-1": (latin, "events.tsv: line 2 is not UTF-8"),
    "events of zeros": (write("events.tsv", bytes(40)), "events.tsv: holds zero bytes"),
    "events with commas": (write("events.tsv", b"onset,duration,stim_file\n1,1,a.png\n"), "is not separated by tabs"),
    "events cut off": (lambda root: os.truncate(file(root, "events.tsv"), 100), "fields, the header"),
    "column twice": (change("events.tsv", "duration", "onset"), "has the column 'onset' twice"),
    "column without name": (change("events.tsv", "duration", ""), "has a column without a name"),
    "no onset": (change("events.tsv", "^onset", "start"), "has no column 'onset'"),
    "open quote": (change("events.tsv", "c1/i01", '"c1/i01'), "is not tab-separated"),
    "onset text": (change("events.tsv", r"\n1\.5\t", "\nsoon\t"), "line 3: onset is 'soon'"),
    "onset not known": (change("events.tsv", r"\n1\.5\t", "\nn/a\t"), "line 3: onset is 'n/a'"),
    "onset in milliseconds": (change("events.tsv", r"\n1\.5\t", "\n1500\t"), "onset is 1500, the recording lasts 7.0"),
    "two images at once": (change("events.tsv", r"\n1\.5\t", "\n2.0\t"), "line 4: begins when line 3 does"),
    "two images on a sample": (change("events.tsv", r"\n1\.5\t", "\n1.999\t"), "line 4: falls on the sample of line 3"),
    "path climbs": (change("events.tsv", "c1/i01", "../../c1/i01"), "stim_file '../../c1/i01.png' leads out of"),
    "path climbs inside": (change("events.tsv", "c1/i01", "c1/../../x"), "leads out of stimuli/"),
    "path absolute": (change("events.tsv", "c1/i01", "/etc/i01"), "line 3: stim_file is '/etc/i01.png'"),
    "path of Windows": (change("events.tsv", "c1/i01", r"C:\\\\i01"), "line 3: stim_file is 'C:"),
    "path of Windows climbs": (change("events.tsv", "c1/i01", r"..\\\\i01"), "leads out of stimuli/"),
    "path an address": (change("events.tsv", "c1/i01", "http://a.b/i01"), "stim_file is 'http://a.b/i01.png'"),
    "path not printable": (change("events.tsv", "c1/i01", "c1/\x1bi01"), r"stim_file is 'c1/\x1bi01.png'"),
    "link leaves": (link("outside"), "stim_file 'i00.png' is a link that leaves the data set"),
    "link to a device": (link("/dev/zero"), "is a link that leaves the data set"),
    "link to itself": (link("i00.png"), "is a link that leaves the data set"),
    "folder is a link": (linked_folder, "is a link that leaves the data set"),
    "no image": (no_images, "no event of 2 recordings names an image in 'stim_file'"),
    "suffixes alone differ": (same_stem, "'c0/i00.bmp' and 'c0/i00.png' are shown"),
    "image in both parts": (other_part("train", "test"), "'c0/i00.png' is of the part 'test', elsewhere of 'train'"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_refused_in_one_line(
    made: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    refused(made, tmp_path, damage, message)


def refused(made: Path, tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    root = Path(shutil.copytree(made, tmp_path / "ds"))
    damage(root)
    with pytest.raises(InputError) as caught:
        open_dataset("bids", root, cache_dir=tmp_path / "cache").recording("01")
    text = str(caught.value)
    assert message in text
    assert "\n" not in text
    assert len(text) < 700
    assert "Traceback" not in text
    assert not list((tmp_path / "cache").rglob("*.partial"))
    findings = open_dataset("bids", root, cache_dir=tmp_path / "cache").check()
    bad = " ".join(f"{f.where}: {f.text}" for f in findings if not f.ok)
    if "NaN" in message or "lacks the channel" in message:  # seen where signals are read and runs joined
        assert not bad
    else:
        assert message.partition(": ")[2] in bad


def cut_file(path: str, n: int) -> Callable[[Path], None]:
    return lambda root: os.truncate(root / path, n)


def overwrite(path: str, start: int, data: bytes) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        content = bytearray((root / path).read_bytes())
        content[start : start + len(data)] = data
        (root / path).write_bytes(content)

    return apply


FIF = "sub-01/meg/sub-01_task-view_meg.fif"
EDF = "sub-01/ieeg/sub-01_task-view_ieeg.edf"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(cut_file(FIF, 3000), "meg.fif: ", id="cut off"),
        pytest.param(cut_file(FIF, 12000), "meg.fif: ", id="cut off later"),
        pytest.param(cut_file(FIF, 0), "meg.fif: cannot be read (", id="empty"),
        pytest.param(overwrite(FIF, 0, bytes(64)), "meg.fif: cannot be read (", id="zeros"),
        pytest.param(overwrite(FIF, 0, b"PK\3\4"), "meg.fif: cannot be read (", id="not fif"),
    ],
)
def test_damaged_fif(made_meg: Path, tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    refused(made_meg, tmp_path, damage, message)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(cut_file(EDF, 900), "ieeg.edf: ", id="cut off"),
        pytest.param(cut_file(EDF, 0), "ieeg.edf: cannot be read (", id="empty"),
        pytest.param(overwrite(EDF, 252, b"zz  "), "ieeg.edf: cannot be read (", id="number of channels"),
        pytest.param(overwrite(EDF, 244, b"soon    "), "ieeg.edf: cannot be read (", id="length of a record"),
        pytest.param(overwrite(EDF, 256, b"XX"), "ieeg.edf: cannot be read (", id="channel name"),
    ],
)
def test_damaged_edf(made_ieeg: Path, tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    refused(made_ieeg, tmp_path, damage, message)


def test_a_damaged_copy_names_its_folder(made: Path, tmp_path: Path) -> None:
    open_dataset("bids", made, cache_dir=tmp_path).recording("01")
    for path in tmp_path.rglob("epochs.json"):
        record = json.loads(path.read_text())
        record["names"] = record["names"][:2]
        path.write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"the derived copy is damaged .*; remove this folder"):
        open_dataset("bids", made, cache_dir=tmp_path).recording("01")


def test_a_part_of_the_copy_that_is_gone_is_made_again(made: Path, tmp_path: Path) -> None:
    before = open_dataset("bids", made, cache_dir=tmp_path).recording("01").read(range(20))
    for path in tmp_path.rglob("epochs.f32"):
        os.truncate(path, 100)
    after = open_dataset("bids", made, cache_dir=tmp_path).recording("01").read(range(20))
    np.testing.assert_array_equal(before, after)


def test_an_image_with_two_concepts_is_refused_where_the_column_is_named(made: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(made, tmp_path / "ds"))
    change("events.tsv", "(\tc0\t)(.*)", "\tdog\t\\2")(root)
    with pytest.raises(InputError, match=r"'c0/i00\.png' is of the concept 'dog', elsewhere of 'c0'"):
        open_dataset("bids", root, cache_dir=tmp_path, concept="trial_type").stimuli("01")
    assert open_dataset("bids", root, cache_dir=tmp_path).images[1] == ""


def test_without_mne_bids(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mne_bids", None)
    with pytest.raises(InputError, match=r"needs MNE-BIDS; pip install 'brainalign\[bids\]'"):
        open_dataset("bids", made, cache_dir=tmp_path).recording("01")


def test_a_root_that_is_the_current_folder_ends_its_search(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing table is looked for up to the root and no farther, though '.' is its own parent."""
    shutil.copytree(made, tmp_path / "ds", symlinks=True)
    for table in (tmp_path / "ds").rglob("*_channels.tsv"):
        table.unlink()
    monkeypatch.chdir(tmp_path / "ds")
    run = all_runs(Path())[0]
    assert run.beside("channels.tsv") is None
    (tmp_path / "ds" / "task-view_channels.tsv").write_text("name\n")
    assert run.beside("channels.tsv") == Path("task-view_channels.tsv")
