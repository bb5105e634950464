"""Independent jobs in processes of their own; the plainest way to use every core."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from brainalign.errors import InputError
from brainalign.execution.progress import Reporter

Found = TypeVar("Found")
WATCH_SECONDS = 1.0


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
    InputError
        If a process dies, of too little memory for example.
    Exception
        Whatever the first failing call raises; those that wait are not started then.
    """
    jobs = max(1, min(jobs, len(calls)))
    threads = max(1, cores() // jobs)
    context = multiprocessing.get_context("spawn")  # a forked process inherits locks of torch's threads
    with (
        reporter.step(title) as tick,
        ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(threads, os.getpid())) as pool,
    ):
        waiting = {pool.submit(work, *arguments): place for place, arguments in enumerate(calls)}
        found: dict[int, Found] = {}
        try:
            for number, done in enumerate(as_completed(waiting), start=1):
                found[waiting[done]] = done.result()
                tick(number, len(calls))
        except BaseException as error:
            started = list((getattr(pool, "_processes", None) or {}).values())  # the pool forgets them when it ends
            pool.shutdown(wait=False, cancel_futures=True)
            for process in started:
                process.terminate()  # whatever it was at goes on from its checkpoint
            if isinstance(error, BrokenProcessPool):
                hint = "was memory short? call it again with fewer --jobs: it goes on where it was"
                raise InputError("a process was killed", where=title, hint=hint) from error
            raise
    return [found[place] for place in range(len(calls))]


def _begin(threads: int, parent: int) -> None:
    """First thing in a new process: as many threads as its share of the cores; it ends when its parent does.

    A parent that is killed cannot end its processes, and they would train on into a folder that others may take.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    import torch

    torch.set_num_threads(threads)
