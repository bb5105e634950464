"""Fit the runs of a sweep: those on the same signals together, the others one after another or beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from brainalign.execution.job import Job
from brainalign.execution.parallel import in_processes
from brainalign.execution.progress import Silent
from brainalign.execution.rundir import RunDirectory
from brainalign.execution.session import Session
from brainalign.execution.train import freeze_jobs, open_session

TOGETHER = 64  # targets prepared at once
Placed = tuple[Job, RunDirectory]


def freeze_all(session: Session, runs: Sequence[Placed], opened: dict[str, Any], jobs: int) -> None:
    """Fit what is not fitted yet and write every frozen choice.

    Parameters
    ----------
    session : Session
    runs : sequence of (Job, RunDirectory)
    opened : dict
        What `open_session` was given, for the sessions of other processes.
    jobs : int
        Parts fitted at the same time, each in a process of its own. Runs end in the same weights whatever it is, up to
        rounding: which of them train as one stack depends on it.

    Raises
    ------
    InputError
        If a run cannot be trained, its folder holds another one, or a process dies.
    """
    # Fewer targets a part where there are several processes: one subject's layers keep all of them busy.
    most = max(1, min(TOGETHER, -(-sum(_targets(session, job) for job, _ in runs) // jobs)))
    waiting = []
    for part in _parts(session, runs, most):
        done = {n for n, (job, directory) in enumerate(part) if directory.claim(job.config_hash(session)) != "new"}
        if len(done) < len(part):
            waiting.append((part, done))
    if jobs > 1 and len(waiting) > 1:
        count = sum(len(part) - len(done) for part, done in waiting)
        calls = [(opened | {"reporter": Silent()}, part, done) for part, done in waiting]
        in_processes(_freeze_beside, calls, jobs, session.reporter, f"training {count} runs, {jobs} parts at a time")
        return
    for part, done in waiting:
        for _ in freeze_jobs(session, part, done=done):
            pass


def _freeze_beside(opened: dict[str, Any], part: Sequence[Placed], done: set[int]) -> None:
    """One part in a process of its own."""
    for _ in freeze_jobs(open_session(**opened), part, done=done):
        pass


def _parts(session: Session, runs: Sequence[Placed], most: int) -> Iterator[list[Placed]]:
    """Runs on the same signals, with at most so many targets between them (one run may have more)."""
    together: dict[Any, list[Placed]] = {}
    for job, directory in runs:
        key = (
            job.subject,
            job.split,
            job.recipe.family,
            job.recipe.signals.model_dump_json(),
            job.recipe.training.n_images,
            job.recipe.training.trials,
        )
        together.setdefault(key, []).append((job, directory))
    for members in together.values():
        part: list[Placed] = []
        targets = 0
        for job, directory in members:
            count = _targets(session, job)
            if part and targets + count > most:
                yield part
                part, targets = [], 0
            part.append((job, directory))
            targets += count
        yield part


def _targets(session: Session, job: Job) -> int:
    return len(session.targets(job.subject, job.recipe.target))
