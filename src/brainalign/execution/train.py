"""`brainalign train`: one run from recordings to a scored result."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from brainalign.alignment.model import subject_options
from brainalign.alignment.preparation import check_alike
from brainalign.cache import default_cache_dir
from brainalign.datasets import open_dataset
from brainalign.device import resolve_device
from brainalign.encoders import build_encoder
from brainalign.errors import InputError
from brainalign.evaluation.result import Result, read_result
from brainalign.execution.fitting import fit_jobs
from brainalign.execution.job import Job
from brainalign.execution.progress import Reporter, Silent
from brainalign.execution.run import FIT_FILES, save_fit, score_job
from brainalign.execution.rundir import RunDirectory
from brainalign.execution.session import Session
from brainalign.recipes import load_recipe

log = logging.getLogger("brainalign")


def open_session(
    dataset: str,
    *,
    root: str | Path | None = None,
    protocol: str = "",
    device: str = "auto",
    cache: str | Path | None = None,
    reporter: Reporter | None = None,
    allow_leaks: Sequence[str] = (),
    options: dict[str, Any] | None = None,
) -> Session:
    """Open a data set for training; see `Session`.

    Raises
    ------
    InputError
        If the data set, protocol or device is not there.
    """
    folder = default_cache_dir(cache)
    return Session(
        open_dataset(dataset, root, cache_dir=folder, **(options or {})),
        folder,
        resolve_device(device),
        protocol,
        reporter or Silent(),
        frozenset(allow_leaks),
    )


def train(
    recipe: str,
    *,
    dataset: str,
    out: str | Path,
    root: str | Path | None = None,
    subject: str | None = None,
    protocol: str = "",
    split: int = 0,
    seed: int = 0,
    settings: Sequence[str] = (),
    device: str = "auto",
    cache: str | Path | None = None,
    reporter: Reporter | None = None,
    allow_leaks: Sequence[str] = (),
    options: dict[str, Any] | None = None,
) -> Result:
    """Train a recipe on one subject, choose on validation, open the test set once, and write the run's folder.

    A finished run is returned as it is; a killed one goes on where it was.

    Parameters
    ----------
    recipe : str
        Name (`shallow-alignment`, `shallow-alignment/paper`) or YAML file.
    dataset : str
        Name, or the folder of own recordings.
    out : path-like
        The run's folder.
    subject : str, optional
        The first one by default.
    settings : sequence of str
        `key=value` overrides of the recipe.

    Returns
    -------
    Result

    Raises
    ------
    InputError
        If anything given cannot be used; nothing half-written stays behind.
    """
    directory = RunDirectory(out)
    session = open_session(
        dataset,
        root=root,
        protocol=protocol,
        device=device,
        cache=cache,
        reporter=reporter,
        allow_leaks=allow_leaks,
        options=options,
    )
    session.home = directory.root
    job = Job(resolve_recipe(recipe, session, settings), choose_subject(session, subject), split, seed)
    return run_job(session, job, directory)


def run_job(
    session: Session, job: Job, directory: RunDirectory, *, control: bool = True, report: bool = True
) -> Result:
    """Bring a job to its end in a folder, from wherever it stands there."""
    state = directory.claim(job.config_hash(session))
    if state != "done":
        with logged(directory):
            if state == "new":
                freeze_job(session, job, directory)
            score_job(session, job, directory, control=control)
    if report and not directory.has("report.html"):
        from brainalign.report import write_run_report

        write_run_report(directory.root, session.stimuli(job.subject))
    return read_result(directory.root)


def freeze_job(session: Session, job: Job, directory: RunDirectory) -> None:
    """Fit a job's candidates and write the frozen choice; see `freeze_jobs`."""
    for _ in freeze_jobs(session, [(job, directory)]):
        pass


def freeze_jobs(
    session: Session, jobs: Sequence[tuple[Job, RunDirectory]], *, done: Collection[int] = ()
) -> Iterator[int]:
    """Fit the candidates of jobs that share subject, split and signals, and write every frozen choice.

    A folder is made when there is something to keep; if the choice cannot be written, none of it stays.

    Parameters
    ----------
    jobs : sequence of (Job, RunDirectory)
    done : collection of int
        Indices of jobs that were frozen before; see `fit_jobs`.

    Yields
    ------
    int
        Index of a job that is done.
    """
    for index, (job, _) in enumerate(jobs):
        if index not in done:
            check_job(session, job)
    stems = [(job, directory.checkpoint(job.config_hash(session))) for job, directory in jobs]
    for fitted in fit_jobs(session, stems, done=done):
        job, directory = jobs[fitted.index]
        try:
            save_fit(session, job, fitted, directory)
        except InputError:
            directory.discard(FIT_FILES)
            raise
        directory.discard_checkpoints()
        yield fitted.index


def check_job(session: Session, job: Job) -> None:
    """Open everything a job needs before anything is trained or written.

    Raises
    ------
    InputError
        If data, features, channels, encoder or repetitions are not there.
    """
    recipe = job.recipe
    session.feature_sets(job.subject, recipe)
    session.training_split(job.subject, job.split, recipe)
    recordings = session.development(job.subject, job.split, recipe.signals)
    check_alike(recordings)
    if recipe.family == "contrastive":
        build_encoder(
            recipe.encoder.name,
            n_chans=recordings[0].n_chans,
            n_times=recordings[0].n_times,
            dim=recipe.encoder.dim or recipe.projector.dim,
            **subject_options(recipe.encoder, len(recordings) if len(recordings) > 1 else 0),
        )
    if recipe.evaluation.gallery == "templates":
        session.templates(job.subject, job.split)
    session.sealed(job.subject, job.split).require_repetitions(recipe.evaluation.repetitions)


def resolve_recipe(name: str, session: Session, settings: Sequence[str]) -> Any:
    """Load a recipe for the modality of a session's data."""
    return load_recipe(name, modality=session.dataset.info.modality, overrides=settings)


def choose_subject(session: Session, subject: str | None) -> str:
    """The subject asked for, or the first.

    Raises
    ------
    InputError
        If there is no such subject, or the data set has none.
    """
    if subject is not None:
        return session.dataset.require_subject(subject)
    subjects = session.dataset.subjects
    if not subjects:
        raise InputError("holds no subject", where=session.dataset.root, hint="see `brainalign datasets check`")
    return subjects[0]


@contextlib.contextmanager
def logged(directory: RunDirectory) -> Iterator[None]:
    """Append the library's log to the run's `log.txt` once the folder holds something."""
    handler = _LazyFileHandler(directory.path("log.txt"))
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    level = log.level
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(handler)
        handler.close()


class _LazyFileHandler(logging.Handler):
    """Holds lines back until the run's folder has been made: bad input must not make it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.file, self.held = path, list[str]()

    def emit(self, record: logging.LogRecord) -> None:
        self.held.append(self.format(record))
        if self.file.parent.is_dir() and any(self.file.parent.iterdir()):
            with open(self.file, "a", encoding="utf-8") as file:
                file.write("\n".join(self.held) + "\n")
            self.held.clear()
