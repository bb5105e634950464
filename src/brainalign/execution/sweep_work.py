"""The work of a sweep: runs fitted, then scored, one after another or in processes beside each other."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from brainalign.execution.job import Job
from brainalign.execution.parallel import in_processes
from brainalign.execution.run import score_job
from brainalign.execution.rundir import RunDirectory
from brainalign.execution.session import Session
from brainalign.execution.train import freeze_jobs, logged, open_session

TOGETHER = 64  # targets prepared at once
Placed = tuple[Job, RunDirectory]


def freeze_all(session: Session, runs: Sequence[Placed], opened: dict[str, Any], jobs: int, home: Path) -> None:
    """Fit what is not fitted yet and write every frozen choice; runs on the same signals are trained together.

    Parameters
    ----------
    session : Session
    runs : sequence of (Job, RunDirectory)
    opened : dict
        What `open_session` was given, for the sessions of other processes.
    jobs : int
        Parts fitted at the same time, each in a process of its own. Runs end in the same weights whatever it is, up to
        rounding: which of them train as one stack depends on it.
    home : Path
        Folder of the sweep, for the log.

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
        calls = [(opened, home, part, done) for part, done in waiting]
        in_processes(_freeze_beside, calls, jobs, session.reporter, f"training {count} runs, {jobs} parts at a time")
    else:
        for part, done in waiting:
            _freeze(session, part, done)


def score_all(
    session: Session, runs: Sequence[Placed], controlled: Collection[int], opened: dict[str, Any], jobs: int, home: Path
) -> None:
    """Score what is not scored yet; the test set of a subject and split is opened once, in one process.

    Parameters
    ----------
    session, runs, opened, home
        As for `freeze_all`.
    controlled : collection of int
        Indices of runs whose shuffled control is trained and scored beside them.
    jobs : int
        Test sets opened at the same time, each in a process of its own.
    """
    waiting: dict[tuple[str, int], list[tuple[Job, RunDirectory, bool]]] = {}
    for index, (job, directory) in enumerate(runs):
        if not directory.has("result.json"):
            waiting.setdefault((job.subject, job.split), []).append((job, directory, index in controlled))
    count = sum(map(len, waiting.values()))
    if jobs > 1 and len(waiting) > 1:
        title = f"opening {len(waiting)} test sets, {jobs} at a time, scoring {count} runs"
        calls = [(opened, home, part) for part in waiting.values()]
        in_processes(_score_beside, calls, jobs, session.reporter, title)
        return
    with session.reporter.step(f"opening the test set, scoring {count} runs") as tick:
        for number, one in enumerate(itertools.chain(*waiting.values()), start=1):
            job, directory, control = one
            score_job(session, job, directory, control=control)
            tick(number, count)


def _freeze_beside(opened: dict[str, Any], home: Path, part: Sequence[Placed], done: set[int]) -> None:
    with logged(RunDirectory(home)):
        _freeze(open_session(**opened), part, done)


def _score_beside(opened: dict[str, Any], home: Path, part: Sequence[tuple[Job, RunDirectory, bool]]) -> None:
    with logged(RunDirectory(home)):
        session = open_session(**opened)
        session.home = home
        for job, directory, control in part:
            score_job(session, job, directory, control=control)


def _freeze(session: Session, part: Sequence[Placed], done: Collection[int]) -> None:
    for _ in freeze_jobs(session, part, done=done):
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
