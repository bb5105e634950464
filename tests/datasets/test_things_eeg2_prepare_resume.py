"""Preparing THINGS-EEG2 while being killed, resumed, and spread over processes: always the same bytes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mne")

from things_eeg2_raw import (
    NAMES,
    change,
    files,
    make_metadata,
    make_root,
    no_events,
    reference,
    same,
    small,
)

from brainalign.cli.main import run
from brainalign.datasets.things_eeg2.prepare import prepare
from brainalign.datasets.things_eeg2.prepare import session as session_module
from brainalign.errors import InputError
from brainalign.report.prepare_page import write_prepare_page

TRAIN, TEST = NAMES["train"], NAMES["test"]


def arguments(root: Path, out: Path, *more: str) -> list[str]:
    return ["prepare", "things-eeg2", "--root", str(root), "--out", str(out), "--quiet", "--json", *more]


def test_finished_sessions_are_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, out = small(tmp_path), tmp_path / "out"
    good = root / "sub-01" / "ses-02" / TEST
    content = good.read_bytes()
    change(good, raw_eeg_data=no_events)
    with pytest.raises(InputError, match="no event"):
        prepare(root, out)
    good.write_bytes(content)
    read: list[Path] = []
    original = session_module.read_raw
    monkeypatch.setattr(session_module, "read_raw", lambda path: (read.append(path), original(path))[1])
    prepare(root, out)
    assert {path.parent.name for path in read} == {"ses-02"}
    same(out / "sub-01", reference(root / "sub-01"))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A raw root of one subject, and what a run without trouble writes."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    root = make_root(folder / "raw", subjects=1, sessions=2)
    make_metadata(root)
    assert run(arguments(root, folder / "out")) == 0
    return root, files(folder / "out")


STEPS = ("fsync", "replace", "rename", "unlink", "rmdir", "mkdir")


def run_until(call: int, root: Path, out: Path) -> tuple[bool, int]:
    """Run the command in a forked process that kills itself at the n-th step that touches the disk's names.

    Returns whether it was killed, and how many steps it made.
    """
    counter, report = os.pipe()
    child = os.fork()
    if child == 0:
        made = 0
        os.close(1)  # the JSON of a child is nobody's business

        def counting(original: Callable[..., Any]) -> Callable[..., Any]:
            def step(*args: Any, **options: Any) -> Any:
                nonlocal made
                made += 1
                if made == call:
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(*args, **options)

            return step

        for name in STEPS:
            setattr(os, name, counting(getattr(os, name)))
        code = 1
        try:
            os.open(os.devnull, os.O_WRONLY)  # becomes stdout
            code = run(arguments(root, out))
            os.write(report, str(made).encode())
        finally:
            os._exit(code)
    os.close(report)
    _, status = os.waitpid(child, 0)
    said = os.read(counter, 20)
    os.close(counter)
    killed = os.WIFSIGNALED(status)
    assert killed or os.WEXITSTATUS(status) == 0
    return killed, int(said or 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")
def test_killed_again_and_again_it_ends_in_the_same_bytes(
    uninterrupted: tuple[Path, dict[str, bytes]], tmp_path: Path
) -> None:
    root, expected = uninterrupted
    killed, steps = run_until(-1, root, tmp_path / "count")
    assert not killed
    assert files(tmp_path / "count") == expected
    rng = random.Random(3)
    calls = [[rng.randint(1, steps // 5) for _ in range(4)], [rng.randint(steps // 2, steps), 1]]
    for out, each in zip((tmp_path / "early", tmp_path / "late"), calls, strict=True):
        for call in each:
            assert run_until(call, root, out)[0]
        assert not run_until(-1, root, out)[0]
        assert files(out) == expected


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")
def test_killed_at_every_step(uninterrupted: tuple[Path, dict[str, bytes]], tmp_path: Path) -> None:
    root, expected = uninterrupted
    _, steps = run_until(-1, root, tmp_path / "count")
    assert steps > 30
    for call in range(1, steps + 1):
        out = tmp_path / f"out{call}"
        assert run_until(call, root, out)[0]
        assert not run_until(-1, root, out)[0]
        assert files(out) == expected, call
        shutil.rmtree(out)


@pytest.mark.slow
def test_killed_at_random_moments_with_workers(uninterrupted: tuple[Path, dict[str, bytes]], tmp_path: Path) -> None:
    root, expected = uninterrupted
    rng, kills = random.Random(7), 0
    command = [sys.executable, "-m", "brainalign", *arguments(root, tmp_path / "out", "--jobs", "2")]
    while kills < 20:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        try:
            process.wait(rng.uniform(0.5, 8.0))
            assert process.returncode == 0
            assert files(tmp_path / "out") == expected
            shutil.rmtree(tmp_path / "out")
        except subprocess.TimeoutExpired:
            process.kill()  # only the parent: its workers must end by themselves
            process.wait()
            kills += 1
            time.sleep(rng.choice([0, 0.3]))
    assert subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert files(tmp_path / "out") == expected


def test_workers_give_the_same_bytes(uninterrupted: tuple[Path, dict[str, bytes]], tmp_path: Path) -> None:
    root, expected = uninterrupted
    ticks: list[tuple[int, int]] = []
    prepare(root, tmp_path / "out", jobs=2, tick=lambda done, total: ticks.append((done, total)))
    write_prepare_page(tmp_path / "out")
    assert files(tmp_path / "out") == expected
    assert ticks[-1] == (2000, 2000)
    assert ticks == sorted(ticks)


def test_an_error_in_a_worker_is_one_line(tmp_path: Path) -> None:
    root = small(tmp_path)
    change(root / "sub-01" / "ses-02" / TRAIN, raw_eeg_data=no_events)
    with pytest.raises(InputError, match="the trigger channel holds no event") as caught:
        prepare(root, tmp_path / "out", jobs=2)
    assert TRAIN in str(caught.value)
    assert not any(".partial" in name for name in files(tmp_path))
