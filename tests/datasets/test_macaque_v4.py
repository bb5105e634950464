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


def test_damage_is_named(tmp_path):
    archive, responses = make_session(tmp_path)
    dataset = MacaqueV4(tmp_path)
    assert dataset.recording("201025").n_chans == 4
    whole = responses.read_bytes()
    for content, words in (
        (whole[:-100], "not a whole .npy file"),
        (b"", "not a whole .npy file"),
        (np.lib.format.magic(1, 0) + b"\x00", "not a whole .npy file"),
    ):
        responses.write_bytes(content)
        with pytest.raises(InputError, match=words):
            dataset.recording("201025")
    for array, words in (
        (np.ones((4, 29)), "has 29 photos, the archive 30"),
        (np.full((4, 30), np.nan), "NaN or infinity"),
        (np.ones((4, 30, 2)), r"expected \(neurons, images\)"),
        (np.ones((4, 30), dtype=complex), "of complex128"),
        (np.array([None] * 30, dtype=object), "not a whole .npy file"),
    ):
        np.save(responses, array, allow_pickle=True)
        with pytest.raises(InputError, match=words) as caught:
            dataset.recording("201025")
        assert str(responses) in str(caught.value)
    archive.write_bytes(archive.read_bytes()[:-50])
    with pytest.raises(InputError, match="not a whole zip archive"):
        dataset.stimuli("201025")


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
