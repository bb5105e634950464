"""Sessions one after the other in this process, or several at a time in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from brainalign.datasets.things_eeg2.prepare.session import SessionTask, prepare_session
from brainalign.errors import InputError

STEPS = 1000  # a session's share of the progress bar
_PATIENCE = 0.2  # seconds between looks at the progress of workers
Done = tuple[SessionTask, dict[str, Any]]
_shares: Any = None  # of a worker: the queue to the process that waits


def run_sessions(tasks: Sequence[SessionTask], jobs: int, tick: Callable[[int, int], None]) -> Generator[Done]:
    """Prepare sessions and give each with its record as it is finished.

    Raises
    ------
    InputError
        The first one that a session meets; those that have not begun are called off.
    """
    if jobs == 1 or len(tasks) < 2:
        yield from _here(tasks, tick)
    else:
        yield from _in_processes(tasks, min(jobs, len(tasks)), tick)


def _here(tasks: Sequence[SessionTask], tick: Callable[[int, int], None]) -> Generator[Done]:
    total = STEPS * len(tasks)
    for i, task in enumerate(tasks):

        def advance(share: float, before: int = STEPS * i) -> None:
            tick(before + round(STEPS * share), total)

        record = prepare_session(task, advance)
        yield task, record
        tick(STEPS * (i + 1), total)


def _in_processes(tasks: Sequence[SessionTask], jobs: int, tick: Callable[[int, int], None]) -> Generator[Done]:
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks of BLAS and torch
    progress = context.Queue()
    shares = [0.0] * len(tasks)
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(progress,))
    finished = False
    try:
        waiting = {pool.submit(_work, i, task): i for i, task in enumerate(tasks)}
        while waiting:
            ready, _ = wait(waiting, timeout=_PATIENCE, return_when=FIRST_COMPLETED)
            for future in ready:
                i = waiting.pop(future)
                record = _result(future)
                shares[i] = 1.0
                yield tasks[i], record
            _drain(progress, shares)
            tick(round(STEPS * sum(shares)), STEPS * len(tasks))
        finished = True
    finally:
        _close(pool, finished)
        progress.close()
        progress.cancel_join_thread()


def _result(future: Future[dict[str, Any]]) -> dict[str, Any]:
    try:
        return future.result()
    except BrokenProcessPool as error:
        problem = "a worker was killed, most often because the memory was used up"
        raise InputError(problem, where="--jobs", hint="use fewer; finished sessions are kept") from error


def _drain(progress: Any, shares: list[float]) -> None:
    while True:
        try:
            i, share = progress.get_nowait()
        except queue.Empty:
            return
        shares[i] = max(shares[i], share)


def _close(pool: ProcessPoolExecutor, finished: bool) -> None:
    """After an error or an interruption the other workers are ended: what they write would have to be swept later."""
    processes = list((pool._processes or {}).values())
    if not finished:
        for process in processes:
            process.terminate()
    pool.shutdown(wait=True, cancel_futures=True)
    for process in processes:
        process.join()


def _begin(progress: Any) -> None:
    """In a worker: end with the process that waits, even if that one was killed."""
    global _shares
    _shares = progress
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the waiting one ends the others
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(i: int, task: SessionTask) -> dict[str, Any]:
    return prepare_session(task, lambda share: _shares.put((i, share)))
