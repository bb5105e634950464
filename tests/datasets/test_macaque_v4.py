"""macaque-v4: the reader on the real files, on damaged copies, and its downloads."""

from __future__ import annotations

import http.server
import io
import shutil
import threading
import zipfile
from functools import partial

import numpy as np
import pytest
from PIL import Image

from brainalign.datasets import open_dataset
from brainalign.datasets.commands import check, fetch
from brainalign.datasets.macaque_v4 import REPEATS, MacaqueV4, public_files
from brainalign.errors import InputError

# neurons, images: the table in the description of the real data
FACTS = {"201025": (89, 1200), "190923": (33, 1200), "210224": (67, 800), "210322": (59, 1200), "210325": (50, 640)}


@pytest.mark.parametrize(("session", "facts"), FACTS.items())
def test_real_sessions_hold_what_the_authors_say(v4, session, facts):
    dataset = open_dataset("macaque-v4", v4)
    stimuli, recording = dataset.stimuli(session), dataset.recording(session)
    assert (recording.n_chans, len(stimuli)) == facts
    means = np.load(v4 / f"responses_repeat_averaged/responses_{session}.npy")
    np.testing.assert_allclose(recording.average(stimuli.ids)[:, :, 0], means.T, rtol=1e-5, atol=1e-6)
    assert stimuli.image(0).size == (112, 112)
    if session != "210325":
        assert set(recording.repetitions(stimuli.ids)) == {REPEATS[session]}


def test_single_trials_are_read_where_they_are(v4):
    recording = open_dataset("macaque-v4", v4).recording("210325")
    raw = np.load(v4 / "responses_raw/responses_210325.npy")
    counts = (~np.isnan(raw[0])).sum(1)
    ids = open_dataset("macaque-v4", v4).stimuli("210325").ids
    assert len(recording) == counts.sum()
    np.testing.assert_array_equal(recording.repetitions(ids), counts)
    np.testing.assert_array_equal(recording.read(recording.trials_of(ids[7]))[:, :, 0], raw[:, 7, : counts[7]].T)


def test_check_of_the_real_folder_finds_it_whole(v4):
    found = check("macaque-v4", v4)
    assert all(f["ok"] for f in found)
    whole = [f for f in found if f["text"] == "whole, as published"]
    assert len(whole) >= 11


def make_session(root, session="201025", n=30, neurons=4):
    (root / "images").mkdir(parents=True)
    (root / "responses_repeat_averaged").mkdir()
    generator = np.random.default_rng(0)
    with zipfile.ZipFile(root / f"images/images_{session}.zip", "w") as archive:
        for i in range(n):
            data = io.BytesIO()
            Image.fromarray(generator.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(data, "JPEG")
            archive.writestr(f"image{i + 1:04d}.jpg", data.getvalue())
    responses = root / f"responses_repeat_averaged/responses_{session}.npy"
    np.save(responses, generator.poisson(3, (neurons, n)).astype(float))
    return root / f"images/images_{session}.zip", responses


def test_raw_trials_change_what_identifies_the_data(tmp_path):
    make_session(tmp_path)
    assert MacaqueV4().facts() == {"name": "macaque-v4"}
    means = MacaqueV4(tmp_path).facts(["201025"])
    raw()(tmp_path)
    assert MacaqueV4(tmp_path).facts(["201025"]) != means
    (tmp_path / "responses_raw/responses_201025.npy").unlink()
    assert MacaqueV4(tmp_path).facts(["201025"]) == means


def saved(array, folder="responses_repeat_averaged"):
    def apply(root):
        (root / folder).mkdir(exist_ok=True)
        np.save(root / folder / "responses_201025.npy", array, allow_pickle=True)

    return apply


def raw(**changed):
    """Single trials with some values changed: `never` a photo without trials, `one` a value of a trial."""
    counts = np.ones((4, 30, 5))
    if "never" in changed:
        counts[:, changed["never"]] = np.nan
    if "one" in changed:
        counts[1, 3, 2] = changed["one"]
    return saved(counts, "responses_raw")


def written(change, name="responses_repeat_averaged/responses_201025.npy"):
    """The file's bytes, changed by a function."""

    def apply(root):
        (root / name).write_bytes(change((root / name).read_bytes()))

    return apply


def claims(shape):
    def apply(root):
        with open(root / "responses_repeat_averaged/responses_201025.npy", "wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
            file.write(bytes(960))

    return apply


def npz(root):
    with open(root / "responses_repeat_averaged/responses_201025.npy", "wb") as file:
        np.savez(file, np.ones((4, 30)))


def archive_with(*members):
    def apply(root):
        with zipfile.ZipFile(root / ZIP, "w") as archive:
            for member in members:
                archive.writestr(member, b"x")

    return apply


ZIP, NPY, RAW = "images/images_201025.zip", "responses_repeat_averaged/responses_201025.npy", "responses_raw/responses_"
WHOLE = "is not a whole .npy file of numbers"
DAMAGE = {
    "cut off": (written(lambda b: b[:-100]), f"{NPY}: {WHOLE} (declares (4, 30) of float64 (960 bytes) but holds 860"),
    "empty": (written(lambda b: b""), f"{NPY}: {WHOLE} (it is empty)"),
    "magic alone": (written(lambda b: np.lib.format.magic(1, 0) + b"\0"), f"{NPY}: {WHOLE} (has a damaged .npy header"),
    "header not closed": (written(lambda b: b[:64] + b" " * 63 + b"\n" + b[128:]), f"{NPY}: {WHOLE} (has a damaged"),
    "header of zeros": (written(lambda b: b[:10] + bytes(118) + b[128:]), f"{NPY}: {WHOLE} (has a damaged .npy header"),
    "text": (written(lambda b: b"neuron,count"), f"{NPY}: {WHOLE} (it is of another kind)"),
    "npz": (npz, f"{NPY}: {WHOLE} (it is a zip archive)"),
    "objects": (saved(np.array([None] * 30, dtype=object)), f"{NPY}: {WHOLE} (holds objects"),
    "too large": (claims((4, 10**13)), f"{NPY}: {WHOLE} (declares (4, 10000000000000) of float64"),
    "negative shape": (claims((4, -30)), f"{NPY}: {WHOLE} (declares the shape (4, -30))"),
    "fewer photos": (saved(np.ones((4, 29))), f"{NPY}: has 29 photos, the archive 30"),
    "three axes": (saved(np.ones((4, 30, 2))), f"{NPY}: has shape (4, 30, 2) of float64, expected (neurons, images)"),
    "no neuron": (saved(np.ones((0, 30))), f"{NPY}: has shape (0, 30) of float64"),
    "complex": (saved(np.ones((4, 30), dtype=complex)), f"{NPY}: has shape (4, 30) of complex128"),
    "strings": (saved(np.full((4, 30), "a")), f"{NPY}: has shape (4, 30) of <U1"),
    "NaN": (saved(np.full((4, 30), np.nan)), f"{NPY}: signals hold NaN or infinity, first in trial 0, channel 'neuron"),
    "too large for float32": (saved(np.full((4, 30), 1e300)), f"{NPY}: signals hold NaN or infinity"),
    "negative count": (saved(np.full((4, 30), -1.0)), f"{NPY}: holds a negative spike count, first of neuron 1 and ph"),
    "trials without an axis": (saved(np.ones((4, 30)), "responses_raw"), f"{RAW}201025.npy: has shape (4, 30) of"),
    "photo never shown": (raw(never=3), f"{RAW}201025.npy: photo 4 has no trial"),
    "neuron lost in a trial": (raw(one=np.nan), f"{RAW}201025.npy: signals hold NaN or infinity, first in trial 17"),
    "infinity in a trial": (raw(one=np.inf), f"{RAW}201025.npy: signals hold NaN or infinity, first in trial 17"),
    "archive cut off": (written(lambda b: b[:-50], ZIP), f"{ZIP}: is not a whole zip archive"),
    "archive empty": (written(lambda b: b"", ZIP), f"{ZIP}: is not a whole zip archive"),
    "archive without photos": (archive_with("readme.txt"), f"{ZIP}: holds no .jpg"),
    "photo twice": (archive_with("a/image0001.jpg", "b/image0001.jpg"), f"{ZIP}: holds image0001.jpg twice"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_refused_in_one_line(tmp_path, damage, message):
    make_session(tmp_path)
    assert MacaqueV4(tmp_path).recording("201025").n_chans == 4
    damage(tmp_path)
    with pytest.raises(InputError) as caught:
        MacaqueV4(tmp_path).recording("201025")
    text = str(caught.value)
    assert text.startswith(f"{tmp_path}/{message}")
    assert "; " in text  # what to do
    assert "\n" not in text
    bad = [found["text"] for found in check("macaque-v4", tmp_path) if found["where"] == "session 201025"]
    assert bad == [text]


def test_photos_damaged_inside_the_archive_are_refused(tmp_path):
    archive, _ = make_session(tmp_path)
    content = archive.read_bytes()
    archive.write_bytes(content[:200] + b"\xff" * 300 + content[500:])
    with pytest.raises(InputError, match=r"images_201025\.zip!image0001\.jpg: the archive is damaged \(Bad CRC-32"):
        MacaqueV4(tmp_path).stimuli("201025").image(0)


def test_missing_sessions_say_how_to_get_them(tmp_path):
    with pytest.raises(InputError, match="give it with --root"):
        MacaqueV4().stimuli("201025")
    with pytest.raises(InputError, match="is not a folder"):
        MacaqueV4(tmp_path / "none").stimuli("201025")
    make_session(tmp_path)
    with pytest.raises(InputError, match="datasets fetch macaque-v4 --subject 190923"):
        MacaqueV4(tmp_path).stimuli("190923")
    with pytest.raises(InputError, match="has no subject '123'"):
        MacaqueV4(tmp_path).stimuli("123")


@pytest.fixture
def server(v4):
    """The public folder, served from the local copy."""
    handler = partial(Silent, directory=str(v4))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


def test_fetch_downloads_a_session_against_the_published_checksums(server, tmp_path, v4, monkeypatch):
    monkeypatch.setattr("brainalign.datasets.macaque_v4.SOURCE", server)
    report = fetch("macaque-v4", tmp_path, ["210325"])
    wanted = {path for path in public_files() if "210325" in path}
    assert {file["path"] for file in report["files"]} == wanted
    for path in wanted:
        assert (tmp_path / path).read_bytes() == (v4 / path).read_bytes()
    assert MacaqueV4(tmp_path).subjects == ("210325",)
    again = fetch("macaque-v4", tmp_path, ["210325"])
    assert {file["status"] for file in again["files"]} == {"present"}
    broken = tmp_path / "responses_raw/responses_210325.npy"
    broken.write_bytes(b"x" + broken.read_bytes()[1:])
    found = [f for f in check("macaque-v4", tmp_path) if not f["ok"]]
    assert any("differs from the public commit" in f["text"] for f in found)


def test_fetch_refuses_what_is_not_there(server, tmp_path, monkeypatch):
    monkeypatch.setattr("brainalign.datasets.macaque_v4.SOURCE", server)
    with pytest.raises(InputError, match="404"):
        fetch("macaque-v4", tmp_path, ["190925"])  # listed in the manifest, not on this server
    with pytest.raises(InputError, match="has no subject"):
        fetch("macaque-v4", tmp_path, ["1"])
    shutil.rmtree(tmp_path / "images", ignore_errors=True)
