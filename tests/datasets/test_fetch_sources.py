"""Fetching THINGS data from a local server that answers as OSF, figshare and OpenNeuro's store do."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from brainalign.cli.main import app
from brainalign.datasets import commands, resume, sources
from brainalign.datasets.fetch import CHECKSUMS, RemoteFile
from brainalign.datasets.fetch_plan import plan_fetch
from brainalign.datasets.registry import dataset_class
from brainalign.datasets.unpack import unpack
from brainalign.errors import InputError

NAMES = ("things-eeg2", "things-fmri", "things-meg")


class Site:
    """What the server holds, by path without its query; every request is noted."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.base = ""
        self.answers_head = True


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer("HEAD")

    def do_GET(self) -> None:
        self.answer("GET")

    def answer(self, method: str) -> None:
        self.site.requests.append((method, self.path))
        path, _, query = self.path.partition("?")
        content = self.site.content.get(self.path, self.site.content.get(path))
        code = 404 if content is None else 405 if method == "HEAD" and not self.site.answers_head else 200
        body = content if content is not None and code == 200 else b""
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        if "versionId" in query:
            self.send_header("ETag", '"an-etag"')
        self.end_headers()
        if method == "GET":
            self.wfile.write(body)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(resume, "BACKOFF_S", 0.0)
    site = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OneHandler", (Handler,), {"site": site}))
    site.base = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    load = sources.load_sources

    def local(name: str) -> dict[str, Any]:
        """The shipped addresses, every host replaced by this server."""
        text = json.dumps(load(name)).replace("https://", f"{site.base}/")
        found: dict[str, Any] = json.loads(text)
        return found

    monkeypatch.setattr(sources, "load_sources", local)
    yield site
    server.shutdown()
    server.server_close()
    thread.join()


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def osf_row(site: Site, name: str, content: bytes, *, sha256: str | None = None) -> dict[str, Any]:
    """One file as OSF's API lists it; its content is put on the server."""
    site.content[f"/files.osf.io/{name}"] = content
    hashes = {"sha256": sha256 or hashlib.sha256(content).hexdigest()}
    return {
        "attributes": {"kind": "file", "name": name, "size": len(content), "extra": {"hashes": hashes}},
        "links": {"download": f"{site.base}/files.osf.io/{name}"},
    }


def serve_eeg2(site: Site) -> None:
    """Two pages of a listing, the subject on the second one; photos and table by their ids."""
    first, second = "/api.osf.io/v2/nodes/anp5v/files/osfstorage/", "/api.osf.io/page2"
    other = {"attributes": {"kind": "folder", "name": "sub-01.zip"}, "links": {}}
    rows = [osf_row(site, "sub-01.zip", zipped({"sub-01/preprocessed_eeg_test.npy": b"signals"}))]
    following = {"next": site.base + second}
    site.content[first] = json.dumps({"data": [other], "links": following}).encode()
    site.content[second] = json.dumps({"data": rows, "links": {"next": None}}).encode()
    site.content["/osf.io/download/3v527/"] = zipped({"00001_aardvark/aardvark_01b.jpg": b"photo", "__MACOSX/x": b""})
    site.content["/osf.io/download/znu7b/"] = zipped({"test_images/00001_axe/axe_06s.jpg": b"photo"})
    site.content["/osf.io/download/qkgtf/"] = b"table"


def serve_meg(site: Site, subject: str = "2") -> dict[str, bytes]:
    base = "/s3.amazonaws.com/openneuro.org/ds004212"
    names = [f"derivatives/preprocessed/preprocessed_P{subject}-epo{n}.fif" for n in ("", "-1", "-2", "-3")]
    files = {name: name.encode() * 100 for name in (*names, f"sourcedata/sample_attributes_P{subject}.csv")}
    site.content |= {f"{base}/{name}": content for name, content in files.items()}
    return files


def test_meg_lands_in_the_readers_layout(site: Site, tmp_path: Path) -> None:
    files = serve_meg(site)
    report = commands.fetch("things-meg", tmp_path, ["2"])
    assert {p: (tmp_path / p).read_bytes() for p in files} == files
    assert all(file["check"] == "recorded now" for file in report["files"])
    assert "5 without a published sha256, recorded in checksums.json" in report["summary"]
    recorded = json.loads((tmp_path / CHECKSUMS).read_text())["sha256"]
    assert recorded == {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
    assert all("versionId=" in path for method, path in site.requests if method == "GET")
    again = commands.fetch("things-meg", tmp_path, ["2"])
    assert "0 files downloaded" in again["summary"]


def test_a_changed_file_is_noticed_by_the_recorded_checksum(site: Site, tmp_path: Path) -> None:
    files = serve_meg(site)
    commands.fetch("things-meg", tmp_path, ["2"])
    name = next(iter(files))
    (tmp_path / name).unlink()
    site.content[f"/s3.amazonaws.com/openneuro.org/ds004212/{name}"] = b"other"
    with pytest.raises(InputError, match=r"at the first download of .*epo\.fif it was"):
        commands.fetch("things-meg", tmp_path, ["2"])


def test_fmri_is_fetched_by_subject(site: Site, tmp_path: Path) -> None:
    folder = "derivatives/ICA-betas/sub-03/voxel-metadata/sub-03_task-things_"
    for name in ("voxel-wise-responses.h5", "stimulus-metadata.tsv", "voxel-metadata.tsv"):
        site.content[f"/s3.amazonaws.com/openneuro.org/ds004192/{folder}{name}"] = name.encode()
    commands.fetch("things-fmri", tmp_path, ["03"])
    assert (tmp_path / f"{folder}voxel-wise-responses.h5").read_bytes() == b"voxel-wise-responses.h5"
    assert dataset_class("things-fmri")(tmp_path).subjects == ("03",)


def test_figshare_archive_is_unpacked(site: Site, tmp_path: Path) -> None:
    members = {f"betas_csv/sub-01_{name}": b"x" for name in ("ResponseData.h5", "StimulusMetadata.csv")}
    site.content["/ndownloader.figshare.com/files/43635873"] = zipped(members)
    commands.fetch("things-fmri:figshare", tmp_path)
    assert dataset_class("things-fmri")(tmp_path).subjects == ("01",)


def test_eeg2_comes_from_the_listing_checked_and_unpacked(site: Site, tmp_path: Path) -> None:
    serve_eeg2(site)
    report = commands.fetch("things-eeg2", tmp_path, ["01"])
    assert {file["path"]: file["check"] for file in report["files"]}["sub-01.zip"] == "published"
    assert (tmp_path / "sub-01/preprocessed_eeg_test.npy").read_bytes() == b"signals"
    assert (tmp_path / "training_images/00001_aardvark/aardvark_01b.jpg").read_bytes() == b"photo"
    assert (tmp_path / "test_images/00001_axe/axe_06s.jpg").read_bytes() == b"photo"
    assert not (tmp_path / "training_images/__MACOSX").exists()
    assert (tmp_path / "image_metadata.npy").read_bytes() == b"table"
    (tmp_path / "sub-01/preprocessed_eeg_test.npy").write_bytes(b"mine")
    commands.fetch("things-eeg2", tmp_path, ["01"])
    assert (tmp_path / "sub-01/preprocessed_eeg_test.npy").read_bytes() == b"mine"  # unpacked once


def test_a_published_checksum_that_does_not_fit_is_refused(site: Site, tmp_path: Path) -> None:
    serve_eeg2(site)
    row = osf_row(site, "sub-01.zip", b"whatever", sha256="0" * 64)
    site.content["/api.osf.io/page2"] = json.dumps({"data": [row], "links": {}}).encode()
    with pytest.raises(InputError, match=r"published is 0000"):
        commands.fetch("things-eeg2", tmp_path, ["01"])
    assert not (tmp_path / "sub-01.zip").exists()


def test_raw_falls_back_to_figshare(site: Site, tmp_path: Path) -> None:
    site.content["/api.osf.io/v2/nodes/crxs4/files/osfstorage/"] = json.dumps({"data": [], "links": {}}).encode()
    url = f"{site.base}/figshare/1"
    row = {"name": "sub-01.zip", "download_url": url, "size": 5, "computed_md5": "x"}
    site.content["/api.figshare.com/v2/articles/18470912"] = json.dumps({"files": [row]}).encode()
    files = dataset_class("things-eeg2").remote_files(("01",), "raw")
    assert files[0] == RemoteFile(url, "raw/sub-01.zip", size=5, about=files[0].about, unpack="raw/sub-01")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, r"osf\.io|cannot be read"),
        (b"<html>", r"answers no JSON"),
        (b'{"data": 3, "links": {}}', r"is not the listing expected"),
        (b'["sub-01.zip"]', r"is not the listing expected"),
        (b'{"data": [], "links": {}}', r"osf\.io/anp5v lists no sub-01\.zip; download it by hand from .*osf\.io/3jk45"),
        (b'{"data": [], "links": {"next": "SELF"}}', r"has more than 50 pages"),
    ],
)
def test_listings_that_are_none(site: Site, tmp_path: Path, answer: bytes | None, message: str) -> None:
    path = "/api.osf.io/v2/nodes/anp5v/files/osfstorage/"
    if answer is not None:
        site.content[path] = answer.replace(b"SELF", f"{site.base}{path}".encode())
    with pytest.raises(InputError, match=message) as caught:
        commands.fetch("things-eeg2", tmp_path, ["01"])
    assert "\n" not in str(caught.value)


def test_plan_asks_the_server_and_else_estimates(site: Site, tmp_path: Path) -> None:
    files = serve_meg(site)
    planned = commands.plan("things-meg", tmp_path, ["2"])
    assert (planned.n_missing, planned.n_bytes, planned.exact) == (5, sum(map(len, files.values())), True)
    assert not planned.asks
    site.answers_head = False
    planned = commands.plan("things-meg", tmp_path, ["2"])
    assert planned.n_bytes == 4 * 2_060_000_000 + 5_000_000
    assert "5 files to download" in str(planned)
    assert "about 7.7 GiB" in str(planned)
    assert planned.asks
    first = next(iter(files))
    (tmp_path / first).parent.mkdir(parents=True)
    (tmp_path / first).write_bytes(b"there")
    assert "4 files to download" in str(commands.plan("things-meg", tmp_path, ["2"]))
    assert "1 already there" in str(commands.plan("things-meg", tmp_path, ["2"]))


def test_unknown_sizes_are_counted(site: Site, tmp_path: Path) -> None:
    planned = plan_fetch([RemoteFile(f"{site.base}/none", "a.bin")], tmp_path)
    assert (planned.n_unknown, planned.asks) == (1, True)
    assert "1 files of unknown size" in str(planned)


def test_command_asks_before_it_fetches_much(site: Site, tmp_path: Path) -> None:
    files = serve_meg(site)
    site.answers_head = False
    words = ["datasets", "fetch", "things-meg", "--root", str(tmp_path), "--subject", "2"]
    refused = CliRunner().invoke(app, words, input="n\n")
    assert refused.exit_code == 1
    assert "about 7.7 GiB" in refused.output
    assert not list(tmp_path.rglob("*.fif"))
    done = CliRunner().invoke(app, [*words, "--yes"])
    assert done.exit_code == 0
    assert "5 files downloaded" in done.output
    assert all((tmp_path / name).is_file() for name in files)


@pytest.mark.parametrize("name", NAMES)
def test_shipped_addresses(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every entry makes a file; the date and the source of the addresses stand beside them."""
    found = sources.load_sources(name)
    assert found["recorded"].count("-") == 2
    assert "ot compared with the live server" in found["evidence"] or "as compared" in found["evidence"]
    info = dataset_class(name).info
    listed = {f"sub-{s}.zip": {"url": "https://osf.io/x", "size": 1, "sha256": "a" * 64} for s in info.subjects}
    monkeypatch.setattr(sources, "_list", lambda listing: listed)
    for variant in found["variants"]:
        files = sources.remote_files(dataset_class(name), (), variant)
        assert len({file.path for file in files}) == len(files)
        assert all(file.url.startswith("https://") and "{" not in file.url + file.path for file in files)
        one = sources.remote_files(dataset_class(name), (info.subjects[1],), variant)
        assert {file.path for file in one} <= {file.path for file in files}
        assert all(file.size or file.about for file in files)


def test_unknown_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown subject of things-meg '9'"):
        commands.plan("things-meg", tmp_path, ["9"])
    with pytest.raises(InputError, match=r"unknown variant of things-eeg2 'rav'; did you mean 'raw'"):
        commands.plan("things-eeg2:rav", tmp_path, ["01"])
    with pytest.raises(InputError, match=r"has no variant 'raw'"):
        commands.plan("macaque-v4:raw", tmp_path)


@pytest.mark.parametrize("name", ["../evil.txt", "/etc/evil", "a/../../b", "c:evil", "a\\b"])
def test_archives_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    archive = tmp_path / "sub-01.zip"
    archive.write_bytes(zipped({"sub-01/fine.npy": b"x", name: b"evil"}))
    with pytest.raises(InputError, match="leads out of the folder"):
        unpack(archive, tmp_path / "in/sub-01", "0")
    assert [path.name for path in tmp_path.rglob("*")] == ["sub-01.zip"]


def test_links_and_damage_in_archives_are_refused(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(link, "/etc/passwd")
    with pytest.raises(InputError, match="is a link"):
        unpack(archive, tmp_path / "a", "0")
    archive.write_bytes(zipped({"a/b.npy": b"12345" * 100}).replace(b"12345", b"12346", 3))
    with pytest.raises(InputError, match="is damaged"):
        unpack(archive, tmp_path / "a", "0")
    archive.write_bytes(zipped({}))
    with pytest.raises(InputError, match="holds no file"):
        unpack(archive, tmp_path / "a", "0")
