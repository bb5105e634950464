"""Jobs in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from brainalign.errors import InputError
from brainalign.execution.parallel import check_jobs, cores, in_processes
from brainalign.execution.progress import Silent


def work(number):
    if number < 0:
        raise InputError(f"{number} is negative")
    return number**2, os.getpid()


def wait(path):
    path.write_text(str(os.getpid()))
    time.sleep(120)


def test_results_come_in_order_from_other_processes():
    found = in_processes(work, [(3,), (1,), (2,)], 2, Silent(), "squares")
    assert [square for square, _ in found] == [9, 1, 4]
    assert os.getpid() not in {process for _, process in found}


def test_an_error_comes_through():
    with pytest.raises(InputError, match="-1 is negative"):
        in_processes(work, [(1,), (-1,)], 2, Silent(), "squares")


def test_nought_is_one_a_core():
    assert check_jobs(0) == cores() >= 1
    assert check_jobs(3) == 3
    with pytest.raises(InputError, match="-2 processes"):
        check_jobs(-2)


def test_processes_end_with_a_killed_parent(tmp_path):
    """SIGKILL gives the parent no chance to end them itself."""
    code = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(os.path.dirname(__file__))!r})
from test_parallel import wait
from brainalign.execution.parallel import in_processes
from brainalign.execution.progress import Silent
if __name__ == "__main__":
    in_processes(wait, [(Path({str(tmp_path)!r}) / "a",), (Path({str(tmp_path)!r}) / "b",)], 2, Silent(), "waiting")
"""
    (tmp_path / "main.py").write_text(code)
    parent = subprocess.Popen([sys.executable, str(tmp_path / "main.py")])
    files = [tmp_path / "a", tmp_path / "b"]
    until = time.monotonic() + 90
    while time.monotonic() < until and not all(file.is_file() and file.read_text() for file in files):
        time.sleep(0.1)
    children = [int(file.read_text()) for file in files]
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    until = time.monotonic() + 20
    while time.monotonic() < until and any(_runs(child) for child in children):
        time.sleep(0.1)
    assert not any(_runs(child) for child in children)


def _runs(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
