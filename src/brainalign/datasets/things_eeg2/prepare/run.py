"""The whole of `brainalign prepare things-eeg2`: plan, sessions here or in processes, one store a subject."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brainalign.datasets.things_eeg2.dataset import PUBLISHED_PHOTOS
from brainalign.datasets.things_eeg2.images import METADATA, image_folder, list_photos, metadata_file
from brainalign.datasets.things_eeg2.prepare.merge import merge_sessions
from brainalign.datasets.things_eeg2.prepare.raw import RawSession, check_whole, find_sessions
from brainalign.datasets.things_eeg2.prepare.session import SessionTask
from brainalign.datasets.things_eeg2.prepare.settings import SCHEMA, PrepareSettings
from brainalign.datasets.things_eeg2.prepare.workers import run_sessions
from brainalign.errors import InputError
from brainalign.files import atomic_write, read_json, write_error

WORK, LOCK = ".prepare", ".prepare.lock"
OVERHEAD_BYTES = 450 * 2**20  # Python with MNE and scikit-learn, and a block of epochs: 310 MiB were measured
ONSETS_A_SECOND = 5.0  # photos followed each other every 0.2 s
Tick = Callable[[int, int], None]


@dataclass(frozen=True)
class Plan:
    """What will be done.

    Attributes
    ----------
    sessions : tuple of RawSession
        All of the subjects that are not there yet.
    done : tuple of str
        Subjects that lie in the output folder already, prepared with the same settings.
    memory_bytes : int
        Of all workers together, about.
    disk_bytes : int
        Of the finished stores, about; while a subject's sessions are joined, its share is needed twice.
    jobs : int
        Workers.
    """

    sessions: tuple[RawSession, ...]
    done: tuple[str, ...]
    memory_bytes: int
    disk_bytes: int
    jobs: int

    @property
    def subjects(self) -> tuple[str, ...]:
        """Subjects to prepare."""
        return tuple(dict.fromkeys(session.subject for session in self.sessions))

    def __str__(self) -> str:
        if not self.sessions:
            return f"nothing to do: {', '.join(f'sub-{s}' for s in self.done)} prepared already"
        here = f" ({', '.join(f'sub-{s}' for s in self.done)} prepared already)" if self.done else ""
        return (
            f"{_count(len(self.sessions), 'session')} of {_count(len(self.subjects), 'subject')}{here}, "
            f"{self.jobs} at a time: about "
            f"{self.memory_bytes / 2**30:.1f} GiB of memory, {self.disk_bytes / 2**30:.1f} GiB of disk"
        )


def prepare(
    root: str | Path,
    out: str | Path,
    settings: PrepareSettings | None = None,
    *,
    subjects: Sequence[str] = (),
    jobs: int = 1,
    planned: Callable[[Plan], None] = lambda plan: None,
    tick: Tick = lambda done, total: None,
) -> list[dict[str, Any]]:
    """Prepare raw sessions of THINGS-EEG2; a killed call, made again, goes on and ends in the same bytes.

    For every subject: the sessions one by one (never more than one raw file of one session a worker in memory), then
    `OUT/sub-XX/` with `train.npy`, `test.npy` (n_images, n_repetitions, n_chans, n_times) float32, `info.json`,
    `session_train.npy`, `session_test.npy` (the session of each trial) and `quality.json`. Finished sessions wait in
    `OUT/.prepare`, which is removed at the end.

    Parameters
    ----------
    root : path-like
        Folder that holds `sub-01/ses-01/raw_eeg_training.npy`, ...
    out : path-like
        Folder of the store; made if it is missing.
    settings : PrepareSettings, optional
        The published ones by default.
    subjects : sequence of str
        All by default.
    jobs : int
        Sessions at a time, each in a process of its own; 1 stays in this process.
    planned : callable
        Takes the plan before anything is read.
    tick : callable
        Takes (done, total).

    Returns
    -------
    list of dict
        What each subject's `info.json` holds.

    Raises
    ------
    InputError
        If files are missing or damaged, `out` holds something else, or another call works there. Nothing half-written
        stays behind; sessions that were finished wait for the same call.
    """
    source, target = Path(root), Path(out)
    settings = settings or PrepareSettings()
    if jobs < 1:
        raise InputError(f"is {jobs}", where="--jobs", hint="give 1 or more")
    found = find_sessions(source, subjects)
    plan = make_plan(found, target, settings, jobs)
    planned(plan)
    for session in plan.sessions:
        for path in session.files.values():
            check_whole(path)
    with _folder(target) as work:
        for name in plan.done:  # a call killed right after a subject was finished leaves its sessions
            shutil.rmtree(work / f"sub-{name}", ignore_errors=True)
        _copy_metadata(source, target)
        photos = _count_photos(source)
        tasks = {subject: _tasks(subject, plan, settings, work, photos) for subject in plan.subjects}
        _run(tasks, settings, target, photos, jobs, tick)
    names = dict.fromkeys(session.subject for session in found)
    return [read_json(target / f"sub-{name}" / "info.json") for name in names]


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def make_plan(found: Sequence[RawSession], out: Path, settings: PrepareSettings, jobs: int) -> Plan:
    """What is left to do in `out`, and what it takes.

    Raises
    ------
    InputError
        If `out` is a file, or holds signals that were prepared otherwise or by something else.
    """
    if out.exists() and not out.is_dir():
        raise InputError("is a file, not a folder", where=out, hint="choose another --out")
    names = dict.fromkeys(session.subject for session in found)
    done = [name for name in names if (out / f"sub-{name}").exists()]
    for folder in sorted(out.glob("sub-*")):
        _check_same(folder, settings)
    for name in done:
        _check_sources(out / f"sub-{name}", [s for s in found if s.subject == name])
    todo = tuple(session for session in found if session.subject not in done)
    sizes = [max(path.stat().st_size for path in session.files.values()) for session in todo]
    workers = min(jobs, max(1, len(todo)))
    copies = 2 if settings.band else 1
    memory = sum(copies * size + OVERHEAD_BYTES for size in sorted(sizes, reverse=True)[:workers])
    return Plan(todo, tuple(done), memory, sum(_stored_bytes(session, settings) for session in todo), workers)


def _stored_bytes(session: RawSession, settings: PrepareSettings) -> int:
    """From the published rate of photos: 64 rows of float64 at 1000 Hz."""
    share = {"all": 63, "occipital": 17}
    n_chans = share.get(settings.channels, 1) if isinstance(settings.channels, str) else len(settings.channels)
    seconds = sum(path.stat().st_size for path in session.files.values()) / (64 * 8 * 1000.0)
    n_times = (settings.tmax - settings.tmin) * settings.sfreq
    return int(seconds * ONSETS_A_SECOND * n_chans * n_times * 4)


def _check_same(folder: Path, settings: PrepareSettings) -> None:
    """Every subject in a root must be prepared alike."""
    path = folder / "info.json"
    info = read_json(path) if path.is_file() else None
    if not isinstance(info, dict) or info.get("schema") != SCHEMA:
        raise InputError("was not made by brainalign prepare", where=folder, hint="choose another --out")
    wanted, got = settings.as_json(), info.get("settings")
    if got != wanted:
        other = next((k for k in wanted if not isinstance(got, dict) or got.get(k) != wanted[k]), "settings")
        was = got.get(other) if isinstance(got, dict) else None
        problem = f"was prepared with {other} {was}, not {wanted.get(other)}"
        raise InputError(problem, where=folder, hint="choose another --out, or remove this folder")


def _check_sources(folder: Path, sessions: Sequence[RawSession]) -> None:
    """A finished subject must be of the raw files that are there now, as far as their sizes tell."""
    here = {f"ses-{s.session:02d}/{p.name}": p.stat().st_size for s in sessions for p in s.files.values()}
    kept = read_json(folder / "info.json").get("sources", {})
    if {name: facts.get("bytes") for name, facts in kept.items()} != here:
        hint = "remove this folder to prepare it anew"
        raise InputError("was prepared from other raw files than those of --root", where=folder, hint=hint)


@contextlib.contextmanager
def _folder(out: Path) -> Iterator[Path]:
    """The output folder under a lock; what is not whole is swept off its work place at the end."""
    from filelock import FileLock, Timeout

    is_new = not out.exists()
    lock = FileLock(out / LOCK)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError("another prepare works in this folder", where=out, hint="wait until it has ended") from error
    except OSError as error:
        raise write_error(error, out) from error
    try:
        for stray in out.glob(".*.partial"):  # of a killed call: nobody else writes while the lock is held
            stray.unlink()
        yield out / WORK
    finally:
        _sweep(out / WORK)
        (out / LOCK).unlink(missing_ok=True)
        lock.release()
        if is_new:
            with contextlib.suppress(OSError):
                out.rmdir()  # only if nothing was written


def _sweep(work: Path) -> None:
    """Remove every session folder that is not whole, and folders that are empty then."""
    for folder in work.glob("sub-*/*"):
        if not (folder / "session.json").is_file():
            shutil.rmtree(folder, ignore_errors=True)
    for folder in (*work.glob("sub-*"), work):
        with contextlib.suppress(OSError):
            folder.rmdir()


def _copy_metadata(source: Path, out: Path) -> None:
    """The reader needs to know which photo a condition showed."""
    table = metadata_file(source)
    if table is not None and metadata_file(out) is None:
        with atomic_write(out / METADATA) as file, open(table, "rb") as original:
            shutil.copyfileobj(original, file)


def _count_photos(source: Path) -> dict[str, int | None]:
    """Photos of each part, where the raw root says which were shown."""
    known = metadata_file(source) is not None
    parts = {part: known or image_folder(source, part) is not None for part in PUBLISHED_PHOTOS}
    return {part: len(list_photos(source, part).names) if there else None for part, there in parts.items()}


def _tasks(
    subject: str, plan: Plan, settings: PrepareSettings, work: Path, photos: dict[str, int | None]
) -> list[SessionTask]:
    most = {part: photos[part] or n for part, n in PUBLISHED_PHOTOS.items()}
    return [SessionTask(s, settings, work / s.name, most) for s in plan.sessions if s.subject == subject]


def _run(
    tasks: dict[str, list[SessionTask]],
    settings: PrepareSettings,
    out: Path,
    photos: dict[str, int | None],
    jobs: int,
    tick: Tick,
) -> None:
    """Sessions in order; a subject is joined as soon as its sessions are there."""
    records: dict[str, dict[Path, dict[str, Any]]] = {subject: {} for subject in tasks}
    everything = [task for each in tasks.values() for task in each]
    with contextlib.closing(run_sessions(everything, jobs, tick)) as stream:
        for task, record in stream:
            subject = task.source.subject
            records[subject][task.folder] = record
            if len(records[subject]) == len(tasks[subject]):
                shares = [(one.folder, records[subject].pop(one.folder)) for one in tasks[subject]]
                merge_sessions(subject, shares, settings, photos, out / f"sub-{subject}")
                shutil.rmtree(shares[0][0].parent, ignore_errors=True)
