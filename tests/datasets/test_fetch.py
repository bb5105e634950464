"""Downloads from a real HTTP server on this machine that cuts, lies, changes its mind and breaks down on demand."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import socket
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from brainalign.datasets import resume
from brainalign.datasets.fetch import RemoteFile, fetch_files
from brainalign.errors import InputError

SIZE = 3_000_000


@dataclass
class Resource:
    """What the server does for one address; lists are used up, one entry a request."""

    content: bytes
    etag: str | None = None
    modified: str | None = None
    statuses: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)  # bytes of body after which the connection is cut
    always_cut: int | None = None  # absolute position that is never passed
    honours_range: bool = True
    announce: bool = True  # send Content-Length; else chunks
    content_range: str | None = None
    content_type: str = "application/octet-stream"
    silence: float = 0.0
    redirect: str | None = None


@dataclass
class Seen:
    path: str
    range: str | None
    if_range: str | None
    sent: int = 0


class Site:
    def __init__(self) -> None:
        self.resources: dict[str, Resource] = {}
        self.seen: list[Seen] = []
        self.base = ""

    def add(self, name: str, content: bytes, **behaviour: object) -> Resource:
        self.resources["/" + name] = Resource(content, **behaviour)  # type: ignore[arg-type]
        return self.resources["/" + name]

    def url(self, name: str) -> str:
        return f"{self.base}/{name}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        seen = Seen(self.path, self.headers.get("Range"), self.headers.get("If-Range"))
        self.site.seen.append(seen)
        resource = self.site.resources.get(self.path)
        status = 404 if resource is None else resource.statuses.pop(0) if resource.statuses else 200
        if resource is None or status != 200:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if resource.redirect:
            self.send_response(302)
            self.send_header("Location", resource.redirect)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        time.sleep(resource.silence)
        self.answer(resource, seen)

    def answer(self, resource: Resource, seen: Seen) -> None:
        start = 0
        unchanged = seen.if_range in (None, resource.etag, resource.modified)
        if seen.range and resource.honours_range and unchanged:
            start = int(seen.range.removeprefix("bytes=").removesuffix("-"))
            if start >= len(resource.content):
                self.send_response(416)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        body = resource.content[start:]
        self.send_response(206 if start else 200)
        if start:
            end, total = len(resource.content) - 1, len(resource.content)
            self.send_header("Content-Range", resource.content_range or f"bytes {start}-{end}/{total}")
        for name, value in (("ETag", resource.etag), ("Last-Modified", resource.modified)):
            if value:
                self.send_header(name, value)
        self.send_header("Content-Type", resource.content_type)
        self.send_header(
            *(("Content-Length", str(len(body))) if resource.announce else ("Transfer-Encoding", "chunked"))
        )
        self.end_headers()
        if resource.cuts:
            body = body[: resource.cuts.pop(0)]
        if resource.always_cut is not None:
            body = body[: max(resource.always_cut - start, 0)]
        seen.sent = len(body)
        if resource.announce:
            self.wfile.write(body)
        else:
            self.wfile.write(f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n")
        self.wfile.flush()
        self.close_connection = True


class Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing about clients that hang up."""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(resume, "BACKOFF_S", 0.0)
    site = Site()
    server = Server(("127.0.0.1", 0), type("OneHandler", (Handler,), {"site": site}))
    site.base = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield site
    server.shutdown()
    server.server_close()
    thread.join()


def noise(seed: int = 0, size: int = SIZE) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def left_in(folder: Path) -> set[str]:
    """All files except the lock, relative to the folder."""
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != ".fetch.lock"}


def failure(files: list[RemoteFile], root: Path, **options: float) -> str:
    with pytest.raises(InputError) as caught:
        fetch_files(files, root, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestGoodServer:
    def test_download_check_and_skip(self, site: Site, tmp_path: Path) -> None:
        one, two = noise(1), noise(2, 1000)
        site.add("one", one)
        site.add("two", two)
        files = [
            RemoteFile(site.url("one"), "sub-01/eeg.npy", sha256(one).upper(), SIZE),
            RemoteFile(site.url("two"), "two.csv", sha256(two)),
        ]
        calls: list[tuple[int, int, str]] = []
        report = fetch_files(files, tmp_path / "data", progress=lambda *call: calls.append(call))
        assert (tmp_path / "data/sub-01/eeg.npy").read_bytes() == one
        assert (tmp_path / "data/two.csv").read_bytes() == two
        assert left_in(tmp_path / "data") == {"sub-01/eeg.npy", "two.csv"}
        assert [(f.path, f.sha256, f.status, f.check, f.bytes_received) for f in report.files] == [
            ("sub-01/eeg.npy", sha256(one), "downloaded", "published", SIZE),
            ("two.csv", sha256(two), "downloaded", "published", 1000),
        ]
        assert str(report) == "2 files downloaded (0 resumed, 2.9 MiB), 0 already there"
        done = [call[0] for call in calls]
        assert done == sorted(done)
        assert len(done) > 3
        assert calls[0][1:] == (SIZE, "sub-01/eeg.npy")
        assert calls[-1] == (SIZE + 1000, SIZE + 1000, "two.csv")

        again = fetch_files(files, tmp_path / "data", progress=lambda *call: calls.append(call))
        assert [f.status for f in again.files] == ["present", "present"]
        assert calls[-1] == (SIZE + 1000, SIZE + 1000, "two.csv")
        assert len(site.seen) == 2

    def test_damaged_file_is_replaced(self, site: Site, tmp_path: Path) -> None:
        data = noise()
        site.add("x", data)
        (tmp_path / "x").write_bytes(b"damaged")
        report = fetch_files([RemoteFile(site.url("x"), "x", sha256(data))], tmp_path)
        assert report.files[0].status == "downloaded"
        assert (tmp_path / "x").read_bytes() == data

    def test_damaged_file_stays_when_the_server_fails(self, site: Site, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(b"damaged")
        failure([RemoteFile(site.url("gone"), "x", sha256(b"good"))], tmp_path)
        assert (tmp_path / "x").read_bytes() == b"damaged"

    def test_empty_file_and_chunks_and_redirect(self, site: Site, tmp_path: Path) -> None:
        site.add("empty", b"")
        site.add("chunks", noise(), announce=False)
        site.add("moved", b"-", redirect=site.url("chunks"))
        files = [
            RemoteFile(site.url("empty"), "empty", sha256(b""), 0),
            RemoteFile(site.url("moved"), "chunks", sha256(noise())),
        ]
        fetch_files(files, tmp_path)
        assert (tmp_path / "empty").read_bytes() == b""
        assert (tmp_path / "chunks").read_bytes() == noise()


class TestResume:
    def test_cut_is_continued_in_the_same_call(self, site: Site, tmp_path: Path) -> None:
        data = noise()
        site.add("x", data, cuts=[1_000_000, 700_000])
        report = fetch_files([RemoteFile(site.url("x"), "x", sha256(data), SIZE)], tmp_path)
        assert (tmp_path / "x").read_bytes() == data
        assert left_in(tmp_path) == {"x"}
        assert report.files[0].status == "resumed"
        assert site.seen[0].range is None
        starts = [int(seen.range.removeprefix("bytes=").removesuffix("-")) for seen in site.seen[1:] if seen.range]
        assert len(starts) == 2
        assert 0 < starts[0] <= 1_000_000 < starts[1] <= 1_700_000
        assert site.seen[2].sent == SIZE - starts[1]  # only the rest came

    def test_cut_is_continued_in_the_next_call(self, site: Site, tmp_path: Path) -> None:
        data = noise()
        site.add("x", data, cuts=[1_000_000])
        file = RemoteFile(site.url("x"), "x", sha256(data))
        assert "cut after" in failure([file], tmp_path, max_retries=0)
        assert left_in(tmp_path) == {"x.partial"}
        kept = (tmp_path / "x.partial").read_bytes()
        assert len(kept) > 500_000
        assert data.startswith(kept)
        report = fetch_files([file], tmp_path, max_retries=0)
        assert site.seen[1].range == f"bytes={len(kept)}-"
        assert site.seen[1].sent == SIZE - len(kept)
        assert report.files[0].status == "resumed"
        assert report.files[0].bytes_received == SIZE - len(kept)
        assert (tmp_path / "x").read_bytes() == data
        assert left_in(tmp_path) == {"x"}

    def test_more_cuts_than_retries_while_it_goes_on(self, site: Site, tmp_path: Path) -> None:
        data = noise()
        site.add("x", data, cuts=[500_000] * 5)
        fetch_files([RemoteFile(site.url("x"), "x", sha256(data))], tmp_path, max_retries=1)
        assert (tmp_path / "x").read_bytes() == data
        assert len(site.seen) > 4

    def test_server_that_ignores_ranges(self, site: Site, tmp_path: Path) -> None:
        data = noise()
        site.add("x", data, cuts=[1_000_000], honours_range=False)
        report = fetch_files([RemoteFile(site.url("x"), "x", sha256(data))], tmp_path)
        assert site.seen[1].range
        assert site.seen[1].sent == SIZE
        assert (tmp_path / "x").read_bytes() == data
        assert report.files[0].status == "downloaded"

    def test_truncated_for_ever(self, site: Site, tmp_path: Path) -> None:
        site.add("x", noise(), always_cut=1_000_000)
        message = failure([RemoteFile(site.url("x"), "x", sha256(noise()), SIZE)], tmp_path, max_retries=2)
        assert site.url("x") in message
        assert f"of {SIZE} bytes" in message
        assert "3 tries" in message
        assert not (tmp_path / "x").exists()

    def test_complete_but_unchecked_partial(self, site: Site, tmp_path: Path) -> None:
        data = noise()
        (tmp_path / "x.partial").write_bytes(data)
        fetch_files([RemoteFile(site.url("x"), "x", sha256(data), SIZE)], tmp_path)
        assert not site.seen
        assert (tmp_path / "x").read_bytes() == data

    def test_partial_of_another_version(self, site: Site, tmp_path: Path) -> None:
        old, new = noise(1), noise(2)
        site.add("x", new)
        (tmp_path / "x.partial").write_bytes(old[:1_000_000])
        report = fetch_files([RemoteFile(site.url("x"), "x", sha256(new), SIZE)], tmp_path)
        assert [seen.range for seen in site.seen] == ["bytes=1000000-", None]
        assert (tmp_path / "x").read_bytes() == new
        assert report.files[0].status == "downloaded"

    def test_partial_longer_than_the_file(self, site: Site, tmp_path: Path) -> None:
        new = noise(2, 1000)
        site.add("x", new)
        (tmp_path / "x.partial").write_bytes(noise(1))
        fetch_files([RemoteFile(site.url("x"), "x", sha256(new))], tmp_path, max_retries=0)
        assert len(site.seen) == 2
        assert site.seen[1].range is None
        assert (tmp_path / "x").read_bytes() == new

    def test_server_that_continues_elsewhere(self, site: Site, tmp_path: Path) -> None:
        data = noise()
        site.add("x", data, content_range=f"bytes 0-{SIZE - 1}/{SIZE}")
        (tmp_path / "x.partial").write_bytes(data[:1000])
        fetch_files([RemoteFile(site.url("x"), "x", sha256(data))], tmp_path)
        assert [seen.range for seen in site.seen] == ["bytes=1000-", None]
        assert (tmp_path / "x").read_bytes() == data


class TestNoPublishedChecksum:
    def test_recorded_then_compared(self, site: Site, tmp_path: Path) -> None:
        data = noise()
        site.add("x", data)
        file = RemoteFile(site.url("x"), "a/x")
        report = fetch_files([file], tmp_path)
        assert report.files[0].check == "recorded now"
        assert "1 without a published sha256" in str(report)
        assert json.loads((tmp_path / "checksums.json").read_text())["sha256"] == {"a/x": sha256(data)}
        again = fetch_files([file], tmp_path)
        assert again.files[0].status == "present"
        assert again.files[0].check == "recorded earlier"
        assert "without" not in str(again)

        (tmp_path / "a/x").write_bytes(data[:-1])  # damaged on the disk: fetched again
        assert fetch_files([file], tmp_path).files[0].status == "downloaded"
        (tmp_path / "a/x").unlink()
        site.add("x", noise(5))
        message = failure([file], tmp_path)
        assert sha256(data) in message
        assert sha256(noise(5)) in message
        assert "checksums.json" in message
        assert left_in(tmp_path) == {"checksums.json"}

    @pytest.mark.parametrize("validator", [{"etag": '"v1"'}, {"modified": "Sat, 01 Jan 2022 00:00:00 GMT"}])
    def test_resumed_only_while_the_server_vouches(self, site: Site, tmp_path: Path, validator: dict[str, str]) -> None:
        data = noise()
        site.add("x", data, cuts=[1_000_000], **validator)
        file = RemoteFile(site.url("x"), "x")
        failure([file], tmp_path, max_retries=0)
        assert fetch_files([file], tmp_path).files[0].status == "resumed"
        assert site.seen[1].if_range == next(iter(validator.values()))
        assert (tmp_path / "x").read_bytes() == data
        assert left_in(tmp_path) == {"x", "checksums.json"}

    def test_changed_remote_is_not_spliced(self, site: Site, tmp_path: Path) -> None:
        file = RemoteFile(site.url("x"), "x")
        site.add("x", noise(1), cuts=[1_000_000], etag='"v1"')
        failure([file], tmp_path, max_retries=0)
        site.add("x", noise(2), etag='"v2"')
        assert fetch_files([file], tmp_path).files[0].status == "downloaded"
        assert site.seen[1].if_range == '"v1"'
        assert (tmp_path / "x").read_bytes() == noise(2)

    @pytest.mark.parametrize("validator", [{}, {"etag": 'W/"v1"'}])
    def test_not_resumed_without_a_strong_validator(
        self, site: Site, tmp_path: Path, validator: dict[str, str]
    ) -> None:
        site.add("x", noise(), cuts=[1_000_000], **validator)
        fetch_files([RemoteFile(site.url("x"), "x")], tmp_path)
        assert [seen.range for seen in site.seen] == [None, None]
        assert (tmp_path / "x").read_bytes() == noise()

    def test_recorded_although_a_later_file_fails(self, site: Site, tmp_path: Path) -> None:
        site.add("x", noise())
        failure([RemoteFile(site.url("x"), "x"), RemoteFile(site.url("gone"), "y")], tmp_path)
        assert json.loads((tmp_path / "checksums.json").read_text())["sha256"] == {"x": sha256(noise())}

    def test_file_brought_by_hand(self, site: Site, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(b"by hand")
        report = fetch_files([RemoteFile(site.url("x"), "x", size=7)], tmp_path)
        assert (report.files[0].status, report.files[0].check) == ("present", "recorded now")
        assert not site.seen
        (tmp_path / "y").write_bytes(b"too short")
        assert "9 bytes, 10 are published" in failure([RemoteFile(site.url("y"), "y", size=10)], tmp_path)

    def test_web_page_instead_of_data(self, site: Site, tmp_path: Path) -> None:
        site.add("x", b"<html>log in</html>", content_type="text/html; charset=utf-8")
        assert "web page" in failure([RemoteFile(site.url("x"), "x.npy")], tmp_path)
        assert left_in(tmp_path) == set()

    @pytest.mark.parametrize("text", ["[]", '{"sha256": 3}', '{"sha256": {"x": "abc"}}', "{"])
    def test_damaged_record(self, site: Site, tmp_path: Path, text: str) -> None:
        (tmp_path / "checksums.json").write_text(text)
        assert "checksums.json" in failure([RemoteFile(site.url("x"), "x")], tmp_path)


class TestBadServer:
    def test_wrong_checksum(self, site: Site, tmp_path: Path) -> None:
        site.add("x", noise(1))
        message = failure([RemoteFile(site.url("x"), "x", sha256(noise(2)))], tmp_path)
        assert site.url("x") in message
        assert sha256(noise(1)) in message
        assert sha256(noise(2)) in message
        assert len(site.seen) == 1
        assert left_in(tmp_path) == set()

    def test_wrong_checksum_after_resuming(self, site: Site, tmp_path: Path) -> None:
        site.add("x", noise(1), cuts=[1_000_000])
        failure([RemoteFile(site.url("x"), "x", sha256(noise(2)))], tmp_path)
        assert [bool(seen.range) for seen in site.seen] == [False, True, False]
        assert left_in(tmp_path) == set()

    @pytest.mark.parametrize(
        ("status", "says"), [(404, "moved"), (410, "moved"), (403, "by hand"), (401, "by hand"), (429, "pause")]
    )
    def test_refusals_are_not_repeated(self, site: Site, tmp_path: Path, status: int, says: str) -> None:
        site.add("x", noise(), statuses=[status] * 9)
        message = failure([RemoteFile(site.url("x"), "x", sha256(noise()))], tmp_path)
        assert f"{site.url('x')}: the server answers {status}" in message
        assert says in message
        assert len(site.seen) == 1
        assert left_in(tmp_path) == set()

    def test_server_errors_are_repeated(self, site: Site, tmp_path: Path) -> None:
        site.add("x", noise(), statuses=[500, 503])
        fetch_files([RemoteFile(site.url("x"), "x", sha256(noise()))], tmp_path, max_retries=2)
        assert len(site.seen) == 3
        assert (tmp_path / "x").read_bytes() == noise()

    def test_server_errors_without_end(self, site: Site, tmp_path: Path) -> None:
        site.add("x", noise(), statuses=[500] * 9)
        message = failure([RemoteFile(site.url("x"), "x", sha256(noise()))], tmp_path, max_retries=2)
        assert "the server answers 500" in message
        assert "try again later" in message
        assert len(site.seen) == 3

    def test_waits_longer_after_each_failure(self, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        waits: list[float] = []
        monkeypatch.setattr(resume, "BACKOFF_S", 1.0)
        monkeypatch.setattr(resume.time, "sleep", lambda seconds: waits.append(seconds) if seconds >= 1 else None)
        site.add("x", noise(), statuses=[500] * 6)
        fetch_files([RemoteFile(site.url("x"), "x", sha256(noise()))], tmp_path, max_retries=6)
        assert waits == [1, 2, 4, 8, 16, 30]

    def test_silence(self, site: Site, tmp_path: Path) -> None:
        site.add("x", noise(), silence=0.6)
        message = failure([RemoteFile(site.url("x"), "x", sha256(noise()))], tmp_path, timeout=0.1, max_retries=1)
        assert "no answer within 0.1 s (2 tries" in message
        assert site.url("x") in message

    def test_nobody_listens(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NO_PROXY", "*")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}/x"
            message = failure([RemoteFile(url, "x")], tmp_path)
        assert message.startswith(url)
        assert "refused" in message
        assert "check the address" in message

    def test_unknown_host(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def unknown(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setenv("NO_PROXY", "*")
        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        message = failure([RemoteFile("https://data.invalid/x", "x")], tmp_path)
        assert "https://data.invalid/x: cannot be reached (Name or service not known)" in message

    def test_more_than_published(self, site: Site, tmp_path: Path) -> None:
        site.add("honest", noise())
        site.add("hidden", noise(), announce=False)
        for name in ("honest", "hidden"):
            message = failure([RemoteFile(site.url(name), name, sha256(noise()), 1000)], tmp_path)
            assert "1000" in message
            assert left_in(tmp_path) == set()

    def test_endless_stream_of_unknown_size(self, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(resume, "UNANNOUNCED_BYTES_MAX", 10_000)
        site.add("x", noise(), announce=False)
        assert "more than the announced 10000" in failure([RemoteFile(site.url("x"), "x")], tmp_path)
        assert left_in(tmp_path) == set()


class TestDiskAndFolder:
    @pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", "a/./x", "", "a//b", "a\\b", "C:/x", "a\nb", ".."])
    def test_paths_outside(self, path: str) -> None:
        with pytest.raises(InputError, match="no path inside"):
            RemoteFile("https://example.org/x", path)

    @pytest.mark.parametrize("path", ["checksums.json", ".fetch.lock", "a/x.partial", "x.partial.json"])
    def test_own_names(self, path: str) -> None:
        with pytest.raises(InputError, match="need for themselves"):
            RemoteFile("https://example.org/x", path)

    @pytest.mark.parametrize(
        ("url", "sha", "size"),
        [
            ("file:///etc/passwd", None, None),
            ("ftp://a/b", None, None),
            ("https:///x", None, None),
            ("https://a/b", "abc", None),
            ("https://a/b", "md5:" + "0" * 60, None),
            ("https://a/b", None, -1),
        ],
    )
    def test_other_fields(self, url: str, sha: str | None, size: int | None) -> None:
        with pytest.raises(InputError):
            RemoteFile(url, "x", sha, size)

    @pytest.mark.parametrize("link", ["sub", "x", "x.partial"])
    def test_symbolic_link_out_of_the_folder(self, site: Site, tmp_path: Path, link: str) -> None:
        root, outside = tmp_path / "root", tmp_path / "outside"
        root.mkdir()
        outside.mkdir()
        (root / link).symlink_to(outside if link == "sub" else outside / "victim")
        site.add("x", noise())
        path = "sub/x" if link == "sub" else "x"
        assert "leads out" in failure([RemoteFile(site.url("x"), path, sha256(noise()))], root)
        assert not list(outside.iterdir())
        assert not site.seen

    def test_root_may_be_a_link(self, site: Site, tmp_path: Path) -> None:
        (tmp_path / "disk").mkdir()
        (tmp_path / "root").symlink_to(tmp_path / "disk")
        site.add("x", noise())
        fetch_files([RemoteFile(site.url("x"), "x", sha256(noise()))], tmp_path / "root")
        assert (tmp_path / "disk/x").read_bytes() == noise()

    def test_twice_the_same_path(self, site: Site, tmp_path: Path) -> None:
        assert "2 times" in failure([RemoteFile(site.url("x"), "x"), RemoteFile(site.url("y"), "x")], tmp_path)

    def test_too_small_a_disk(self, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, 2_000_000))
        site.add("x", noise())
        files = [RemoteFile(site.url(name), name, size=1_500_000) for name in ("x", "y")]
        message = failure(files, tmp_path / "new")
        assert "needs 2.9 MiB, the disk has 1.9 MiB free" in message
        assert not site.seen
        assert not (tmp_path / "new").exists()
        assert "needs 2.9 MiB" in failure([RemoteFile(site.url("x"), "x")], tmp_path)  # the server names the size
        assert left_in(tmp_path) == set()

    def test_full_disk(self, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        site.add("x", noise())
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            assert "the disk is full" in failure([RemoteFile(site.url("x"), "x", sha256(noise()))], tmp_path)
        assert not (tmp_path / "x").exists()

    def test_two_downloads_at_once(self, site: Site, tmp_path: Path) -> None:
        from filelock import FileLock

        with FileLock(tmp_path / ".fetch.lock"):
            assert "another download" in failure([RemoteFile(site.url("x"), "x")], tmp_path)

    def test_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        assert "cannot be written" in failure([RemoteFile("http://127.0.0.1/x", "x")], tmp_path / "file" / "sub")
