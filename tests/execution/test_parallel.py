"""Jobs in processes of their own: results in order, and how a failure is told."""

from __future__ import annotations

import os

import pytest

from brainalign.errors import InputError
from brainalign.execution.parallel import check_jobs, cores, in_processes
from brainalign.execution.progress import Silent


def run(work, calls, jobs=2):
    return in_processes(work, calls, jobs, Silent(), "working")


def test_results_come_in_the_order_of_the_calls():
    assert run(divmod, [(7, 2), (9, 4), (5, 5)]) == [(3, 1), (2, 1), (1, 0)]


def test_the_error_of_a_call_is_the_one_that_is_raised():
    with pytest.raises(ZeroDivisionError):
        run(divmod, [(1, 0), (9, 4)])


def test_a_process_that_dies_is_told_in_one_line():
    with pytest.raises(InputError, match="working: a process was killed"):
        run(os._exit, [(9,), (9,)])


def test_number_of_processes():
    assert check_jobs(3) == 3 and check_jobs(0) == cores() >= 1
    with pytest.raises(InputError, match="-1 processes"):
        check_jobs(-1)
