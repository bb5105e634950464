"""One session of one subject: read, epoch, estimate the noise on training trials, whiten, write.

A session's folder in the work place holds `train.npy` and `test.npy`, (n_trials, n_chans, n_times) float32, condition
by condition, and `session.json`, which is written last and says that the two are whole.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brainalign import __version__
from brainalign.datasets.things_eeg2.prepare.quality import ChannelNoise, Evoked, field_power, rounded
from brainalign.datasets.things_eeg2.prepare.raw import RawPart, RawSession, read_raw
from brainalign.datasets.things_eeg2.prepare.settings import CATCH, REPETITIONS, SCHEMA, PrepareSettings
from brainalign.errors import InputError
from brainalign.files import atomic_write, read_json, sha256_file, sha256_json, write_error, write_json
from brainalign.recordings.epoch_noise import EpochNoise
from brainalign.recordings.epochs import blocks_of, choose_repetitions, epoch_times, inside, trigger_events
from brainalign.recordings.whitening import whitening_matrix

if TYPE_CHECKING:
    import mne

Tick = Callable[[float], None]
Block = tuple[NDArray[np.float64], NDArray[np.intp]]
RECORD = "session.json"
LIBRARIES = ("mne", "numpy", "scikit-learn", "scipy")


@dataclass(frozen=True)
class SessionTask:
    """What a worker is given.

    Attributes
    ----------
    source : RawSession
    settings : PrepareSettings
    folder : Path
        Where the session is written.
    n_conditions : dict
        Highest code allowed for 'train' and 'test'.
    """

    source: RawSession
    settings: PrepareSettings
    folder: Path
    n_conditions: dict[str, int]

    @property
    def key(self) -> str:
        """Changes with whatever changes the result: settings, files, versions of libraries."""
        files = []
        for path in self.source.files.values():
            status = path.stat()
            files.append([str(path.resolve()), status.st_size, status.st_mtime_ns])
        return sha256_json([SCHEMA, self.settings.as_json(), self.n_conditions, files, versions()])


@functools.cache
def versions() -> dict[str, str]:
    """Versions that decide the numbers."""
    return {"brainalign": __version__, **{name: version(name) for name in LIBRARIES}}


def finished(task: SessionTask) -> dict[str, Any] | None:
    """The record of a session that was written whole with the same settings from the same files; else None."""
    path = task.folder / RECORD
    if not path.is_file():
        return None
    try:
        record = read_json(path)
    except InputError:
        return None
    if not isinstance(record, dict) or record.get("key") != task.key:
        return None
    sizes = {name: _size(task.folder / f"{name}.npy") for name in REPETITIONS}
    return record if sizes == record.get("bytes") else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def prepare_session(task: SessionTask, tick: Tick = lambda share: None) -> dict[str, Any]:
    """Prepare a session unless it lies there whole; give its record.

    One raw file is in memory at a time, and one block of its epochs. BLAS runs on one thread, so that the bytes do not
    depend on how many cores there are.

    Raises
    ------
    InputError
        If a file is damaged or the disk is full. Nothing of the session stays behind.
    """
    from threadpoolctl import threadpool_limits

    done = finished(task)
    if done is not None:
        tick(1.0)
        return done
    shutil.rmtree(task.folder, ignore_errors=True)
    try:
        with threadpool_limits(1):
            record = _prepare(task, tick)
        write_json(task.folder / RECORD, record)
    except BaseException as error:
        shutil.rmtree(task.folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise write_error(error, task.folder) from error
        raise
    return record


def _prepare(task: SessionTask, tick: Tick) -> dict[str, Any]:
    task.folder.mkdir(parents=True, exist_ok=True)
    train = _PartWork(task, "train", None, lambda share: tick(0.75 * share))
    facts = {"train": train.run()}
    raw_facts, whitener = train.shared, train.whitener
    del train
    test = _PartWork(task, "test", whitener, lambda share: tick(0.75 + 0.25 * share))
    facts["test"] = test.run()
    for fact, value in test.shared.items():
        if value != raw_facts[fact]:
            problem = f"has {fact} {_brief(value)}, the training file {_brief(raw_facts[fact])}"
            raise InputError(problem, where=task.source.files["test"], hint="the files are of different recordings")
    return {
        "schema": SCHEMA,
        "key": task.key,
        "session": task.source.session,
        **raw_facts,
        "parts": facts,
        "bytes": {name: _size(task.folder / f"{name}.npy") for name in REPETITIONS},
    }


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


class _PartWork:
    """The training or the test file of a session on its way."""

    def __init__(self, task: SessionTask, part: str, whitener: NDArray[np.float64] | None, tick: Tick) -> None:
        self.task, self.part, self.whitener, self.tick = task, part, whitener, tick
        self.path = task.source.files[part]
        self.settings = task.settings
        self.shared: dict[str, Any] = {}
        self._noise, self._stored_noise, self._evoked = ChannelNoise(), ChannelNoise(), Evoked()
        self._n = 0

    def run(self) -> dict[str, Any]:
        """Do everything; the facts of the part."""
        source = read_raw(self.path)
        names = self.settings.pick(source.names, source.kinds, where=self.path)
        groups, facts = self._choose(source)
        self._n = sum(map(len, groups.values()))
        raw = self._continuous(source, names)
        scale = source.microvolts
        del source
        blocks = self._epochs(raw, list(groups.values()), names, scale)
        del raw  # the generators hold it as long as they need it
        if self.part == "train" and self.settings.whitening == "mvnn":
            with tempfile.TemporaryFile(dir=self.task.folder, prefix=".epochs.") as scratch:
                self._write(self._fit(blocks, scratch))
        else:
            self._write(self._measure(blocks))
        evoked = self._evoked.mean()
        return facts | {
            "trials": self._n,
            "noise_uv": self._noise.deviation(),
            "noise": self._stored_noise.deviation(),
            "evoked": rounded(evoked),
            "field_power": rounded(field_power(evoked)),
            "source": {"file": self.path.name, "bytes": self.path.stat().st_size, "sha256": sha256_file(self.path)},
        }

    def _choose(self, source: RawPart) -> tuple[dict[int, NDArray[np.int64]], dict[str, Any]]:
        """Samples of the events kept of each condition, and how many were dropped."""
        settings = self.settings
        if settings.sfreq > source.sfreq:
            problem = f"was recorded at {source.sfreq:g} Hz, {settings.sfreq:g} Hz asked for"
            raise InputError(problem, where=self.path, hint="give a lower --sfreq")
        try:
            events = trigger_events(source.trigger, source.sfreq)
        except InputError as error:
            raise InputError(error.problem, where=self.path, hint=error.hint) from error
        shown = events[events[:, 1] != CATCH]
        whole = inside(shown[:, 0], source.data.shape[1], source.sfreq, settings.window)
        kept = shown[whole]
        most = self.task.n_conditions[self.part]
        if not len(kept):
            problem = f"holds {len(events)} events, none of a photo whose epoch lies in the recording"
            raise InputError(problem, where=self.path, hint="the recording is damaged, or the epoch too long")
        if kept[:, 1].max() > most:
            problem = f"has the event code {kept[:, 1].max()}, there are {most} {self.part} photos"
            raise InputError(problem, where=self.path, hint="training and test file may be exchanged")
        chosen = choose_repetitions(kept[:, 1], REPETITIONS[self.part], settings.seed)
        found = np.bincount(kept[:, 1])
        facts = {
            "events": len(events),
            "dropped_catch": len(events) - len(shown),
            "dropped_outside": int((~whole).sum()),
            "dropped_surplus": int(len(kept) - sum(map(len, chosen.values()))),
            "conditions": list(chosen),
            "found": [int(found[code]) for code in chosen],
            "kept": [len(rows) for rows in chosen.values()],
        }
        return {code: kept[rows, 0] for code, rows in chosen.items()}, facts

    def _continuous(self, source: RawPart, names: tuple[str, ...]) -> mne.io.BaseRaw:
        """The session as MNE knows it; the signals are copied only if they are filtered."""
        import mne

        settings = self.settings
        if settings.band is None:
            info = mne.create_info(list(source.names), source.sfreq, "eeg", verbose="ERROR")
            return mne.io.RawArray(source.data, info, verbose="ERROR")
        low, high = settings.band
        if high >= source.sfreq / 2:
            problem = f"ends at {high:g} Hz, {self.path.name} was recorded at {source.sfreq:g} Hz"
            raise InputError(problem, where="--band", hint="stay below half of the recorded rate")
        data = np.empty((len(names), source.data.shape[1]))
        for row, name in enumerate(names):  # one at a time: MNE's filter of all would hold a third copy
            channel = source.data[source.names.index(name)].astype(np.float64)
            data[row] = mne.filter.filter_data(channel, source.sfreq, low, high, copy=False, verbose="ERROR")
        info = mne.create_info(list(names), source.sfreq, "eeg", verbose="ERROR")
        return mne.io.RawArray(data, info, verbose="ERROR")

    def _epochs(
        self, raw: mne.io.BaseRaw, groups: list[NDArray[np.int64]], names: tuple[str, ...], scale: float
    ) -> Iterator[Block]:
        """Blocks in microvolts; the first one tells times and channels."""
        for trials, starts in blocks_of(raw, groups, names, self.settings.window):
            if not self.shared:
                times = epoch_times(raw.info["sfreq"], self.settings.window, trials.shape[2])
                self.shared = {
                    "ch_names": list(names),
                    "times": [round(float(t), 9) for t in times],
                    "recorded_sfreq": float(raw.info["sfreq"]),
                    "file_unit": "V" if scale > 1 else "uV",
                }
            if not np.isfinite(trials).all():
                channel = names[np.argwhere(~np.isfinite(trials))[0][1]]
                raise InputError(f"holds NaN or infinity in channel '{channel}'", where=self.path, hint="get it anew")
            yield trials * scale, starts

    def _measure(self, blocks: Iterator[Block]) -> Iterator[Block]:
        done = 0
        for trials, starts in blocks:
            self._noise.add(trials, starts)
            yield trials, starts
            done += len(trials)
            self.tick(done / self._n)

    def _fit(self, blocks: Iterator[Block], scratch: IO[bytes]) -> Iterator[Block]:
        """Pass all blocks once to estimate the covariance, then again, from the disk."""
        noise, shapes, done = EpochNoise(self.settings.covariance), [], 0
        for trials, starts in blocks:
            self._noise.add(trials, starts)
            noise.add(trials[:, :, self._fitted()], starts)
            scratch.write(np.ascontiguousarray(trials).data)
            shapes.append((trials.shape, starts))
            done += len(trials)
            self.tick(0.85 * done / self._n)
        try:
            self.whitener = whitening_matrix(noise.covariance())
        except InputError as error:
            raise InputError(error.problem, where=self.path, hint=error.hint) from error
        scratch.seek(0)
        done = 0
        for shape, starts in shapes:
            trials = np.empty(shape)
            if scratch.readinto(trials.data.cast("B")) != trials.nbytes:  # type: ignore[attr-defined]
                raise InputError("the epochs on the disk were cut short", where=self.task.folder, hint="run it again")
            yield trials, starts
            done += len(trials)
            self.tick(0.85 + 0.15 * done / self._n)

    def _fitted(self) -> slice:
        """Samples from `fit_from` on."""
        times = np.array(self.shared["times"])
        return slice(int(np.searchsorted(times, self.settings.fit_from - 1e-6)), None)

    def _write(self, blocks: Iterator[Block]) -> None:
        """Whiten, round to float32 and write, block by block."""
        target = self.task.folder / f"{self.part}.npy"
        with atomic_write(target) as file:
            started = False
            for trials, starts in blocks:
                if self.whitener is not None:
                    trials = self.whitener @ trials
                if not started:
                    write_npy_header(file, (self._n, *trials.shape[1:]))
                    started = True
                self._stored_noise.add(trials, starts)
                stored = np.ascontiguousarray(trials, dtype="<f4")
                if not np.isfinite(stored).all():
                    raise InputError("gives values beyond float32", where=self.path, hint="the recording is damaged")
                self._evoked.add(stored)
                file.write(stored.data)


def write_npy_header(file: IO[bytes], shape: tuple[int, ...]) -> None:
    """The start of a `.npy` of little-endian float32."""
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
