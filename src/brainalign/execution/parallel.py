"""Independent jobs in processes of their own; the plainest way to use every core."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

from brainalign.errors import InputError
from brainalign.execution.progress import Reporter

Found = TypeVar("Found")


def cores() -> int:
    """Cores that this program may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_jobs(jobs: int) -> int:
    """A number of processes; 0 takes one a core.

    Raises
    ------
    InputError
        If it is negative.
    """
    if jobs < 0:
        raise InputError(f"{jobs} processes asked for", where="--jobs", hint="1 or more; 0 for one a core")
    return jobs or cores()


def in_processes(
    work: Callable[..., Found], calls: Sequence[tuple[Any, ...]], jobs: int, reporter: Reporter, title: str
) -> list[Found]:
    """Call a function with each tuple of arguments, at most `jobs` at a time, cores shared evenly; results in order.

    Parameters
    ----------
    work : callable
        Of a module, so that another process finds it; its arguments and result must be picklable.
    calls : sequence of tuple
        Started in this order.
    jobs : int
    reporter : Reporter
        Told how many are done.
    title : str

    Raises
    ------
    Exception
        Whatever the first failing call raises; those that wait are not started then.
    """
    threads = max(1, cores() // jobs)
    context = multiprocessing.get_context("spawn")  # a forked process inherits locks of torch's threads
    with (
        reporter.step(title) as tick,
        ProcessPoolExecutor(jobs, mp_context=context, initializer=_share, initargs=(threads,)) as pool,
    ):
        waiting = {pool.submit(work, *arguments): place for place, arguments in enumerate(calls)}
        found: dict[int, Found] = {}
        try:
            for number, done in enumerate(as_completed(waiting), start=1):
                found[waiting[done]] = done.result()
                tick(number, len(calls))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(getattr(pool, "_processes", {}).values()):
                process.terminate()  # whatever it was at goes on from its checkpoint
            raise
    return [found[place] for place in range(len(calls))]


def _share(threads: int) -> None:
    """First thing in a new process: as many threads as its share of the cores."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    import torch

    torch.set_num_threads(threads)
