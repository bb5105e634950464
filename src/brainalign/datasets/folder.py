"""Own recordings in a documented folder (see docs/own-recordings.md)."""

from __future__ import annotations

import functools
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainalign.datasets.base import Dataset, DatasetInfo, Finding
from brainalign.datasets.folder_channels import read_channels
from brainalign.datasets.folder_tables import (
    CHANNELS_FILE,
    SETTINGS_FILE,
    STIMULI_FILE,
    TRIALS_FILE,
    Report,
    Reported,
    Settings,
    attempt,
    raise_problem,
    read_settings,
    read_stimuli,
    read_trials,
)
from brainalign.datasets.npy import read_numbers
from brainalign.errors import InputError
from brainalign.files import sha256_file, sha256_json
from brainalign.recordings import Recording
from brainalign.stimuli import StimulusSet
from brainalign.stimuli.images import decode_image, read_image_bytes

SIGNALS_FILE = "signals.npy"
LAYOUT = (
    "dataset.yaml, images/ (subfolders are concepts), optionally stimuli.csv and channels.csv, "
    "and for each subject sub-*/signals.npy or sub-*/*-epo.fif with sub-*/trials.csv"
)
_SMALL_FILES = (SETTINGS_FILE, STIMULI_FILE, TRIALS_FILE, CHANNELS_FILE)
_TOLERANCE = 1e-3


class FolderDataset(Dataset):
    r"""A folder of own recordings.

    Parameters
    ----------
    root : path-like
        Folder with `dataset.yaml`, `images/` and one `sub-*` folder a subject. Nothing is read before it is needed, so
        that `check` can report a broken folder instead of failing to open it.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from PIL import Image
    >>> root = pathlib.Path(tempfile.mkdtemp())
    >>> (root / "images").mkdir(), (root / "sub-01").mkdir()
    (None, None)
    >>> for name in ("cat.png", "dog.png"):
    ...     Image.new("RGB", (8, 8), "red" if name == "cat.png" else "blue").save(root / "images" / name)
    >>> _ = (root / "dataset.yaml").write_text("modality: eeg\nsfreq: 100\ntmin: -0.1\n")
    >>> _ = (root / "sub-01" / "trials.csv").write_text("stimulus_id\ncat\ndog\ncat\n")
    >>> np.save(root / "sub-01" / "signals.npy", np.ones((3, 4, 50), dtype="float32"))
    >>> recording = FolderDataset(root).recording("01")
    >>> recording.n_chans, recording.n_times, recording.repetitions(["cat"]).tolist()
    (4, 50, [2])
    """

    def __init__(self, root: str | Path) -> None:
        super().__init__(root)

    @functools.cached_property
    def info(self) -> DatasetInfo:  # type: ignore[override]
        """Facts from `dataset.yaml`.

        Raises
        ------
        InputError
            If it is missing or has a problem.
        """
        settings = read_settings(self.require_root(), raise_problem)
        folder = self.require_root().resolve().name
        return DatasetInfo(
            name=settings.name or folder,
            title=f"own recordings in {folder}",
            modality=settings.modality,
            subjects=self.subjects,
            protocol="own/intra/v1",
            licence=settings.licence or "not stated",
            citation=settings.citation or "not stated",
            layout=LAYOUT,
        )

    @property
    def subjects(self) -> tuple[str, ...]:
        """Names of the folders `sub-*`, without `sub-`."""
        return tuple(sorted(p.name.removeprefix("sub-") for p in self.require_root().glob("sub-*") if p.is_dir()))

    def _folder(self, subject: str) -> Path:
        if not self.subjects:
            raise InputError(
                "holds no subject folder", where=self.root, hint="make sub-01 with signals.npy and trials.csv"
            )
        return self.require_root() / f"sub-{self.require_subject(subject)}"

    def stimuli(self, subject: str) -> StimulusSet:
        """All images, whichever the subject saw.

        Raises
        ------
        InputError
            If `images/` or `stimuli.csv` has a problem.
        """
        self._folder(subject)
        return read_stimuli(self.require_root(), raise_problem)

    def recording(self, subject: str) -> Recording:
        """The trials of a subject; `signals.npy` is mapped, not loaded.

        Raises
        ------
        InputError
            At the first problem of any file; `check` lists them all.
        """
        folder = self._folder(subject)
        settings = read_settings(self.require_root(), raise_problem)
        stimuli = read_stimuli(self.require_root(), raise_problem)
        return _read_recording(folder, subject, settings, stimuli, raise_problem)

    def check(self) -> list[Finding]:
        """Read every file and list everything that is wrong, not only the first."""
        problems: list[InputError] = []
        good: list[Finding] = []
        root = self.require_root()
        report = problems.append
        settings = attempt(report, read_settings, root, report)
        stimuli = attempt(report, read_stimuli, root, report)
        if stimuli is not None:
            problems.extend(image_problems(stimuli))
            concepts = f" of {stimuli.table['concept'].nunique()} concepts" if stimuli.has_concepts else ""
            good.append(Finding(True, "images", f"{len(stimuli)} images{concepts}"))
        if not self.subjects:
            hint = "make sub-01 with signals.npy and trials.csv"
            problems.append(InputError("holds no subject folder", where=root, hint=hint))
        for subject in self.subjects:
            folder = root / f"sub-{subject}"
            recording = attempt(report, _read_recording, folder, subject, settings, stimuli, report)
            if recording is not None:
                good.append(Finding(True, f"sub-{subject}", _describe(recording)))
        return [*good, *(_finding(problem, root) for problem in problems)]

    def recording_files(self, subject: str) -> tuple[Path, ...]:
        """Its signals; further files of epochs that were written in several."""
        first = _signals_file(self._folder(subject))
        return tuple(sorted({first, *first.parent.glob(f"{first.stem}-*{first.suffix}")}))

    def facts(self, subjects: Iterable[str] | None = None) -> dict[str, Any]:
        """Name, recordings, and a hash of the tables and of the sizes of the images."""
        root = self.require_root()
        wanted = {f"sub-{one}" for one in (self.subjects if subjects is None else subjects)}
        tables, images = {}, {}
        for path in sorted(p for p in root.rglob("*") if p.is_file() and not p.name.startswith(".")):
            name = path.relative_to(root).as_posix()
            above = name.partition("/")[0]
            if path.name in _SMALL_FILES and (not above.startswith("sub-") or above in wanted):
                tables[name] = sha256_file(path)
            elif above == "images":
                images[name] = path.stat().st_size
        return super().facts(subjects) | {"content": sha256_json([tables, images])}


def _read_recording(
    folder: Path, subject: str, settings: Settings | None, stimuli: StimulusSet | None, report: Report
) -> Recording:
    """Build the recording; what is broken around the signals (None) does not keep them from being looked at."""
    signals = _signals_file(folder)
    trials = attempt(report, read_trials, folder, stimuli, report) if stimuli is not None else None
    table = next((path for path in (folder / CHANNELS_FILE, folder.parent / CHANNELS_FILE) if path.is_file()), None)
    channels = attempt(report, read_channels, table, report) if table is not None else None
    read = _from_npy if signals.name == SIGNALS_FILE else _from_epochs
    recording = read(signals, subject, settings, trials, channels)
    if settings is None or trials is None or (table is not None and channels is None):
        raise Reported
    return recording


def _signals_file(folder: Path) -> Path:
    found = [p for p in (folder / SIGNALS_FILE,) if p.is_file()]
    found += sorted(p for end in ("fif", "fif.gz") for p in folder.glob(f"*-epo.{end}"))
    if len(found) != 1:
        problem = f"holds {', '.join(p.name for p in found)}" if found else f"holds no {SIGNALS_FILE} and no *-epo.fif"
        raise InputError(problem, where=folder, hint="give exactly one file of signals a subject")
    return found[0]


def _shown(trials: dict[str, list[Any]] | None, n: int, signals: Path) -> tuple[list[str], dict[str, Any]]:
    """Stimulus ids and the other columns; placeholders where trials.csv could not be read."""
    columns: dict[str, Any] = dict(trials) if trials is not None else {"stimulus_id": ["?"] * n}
    ids = columns.pop("stimulus_id")
    if len(ids) != n:
        problem = f"has {n} trials, {TRIALS_FILE} {len(ids)} rows"
        raise InputError(problem, where=signals, hint="give one row a trial, in the same order")
    return ids, columns


def _from_npy(
    path: Path,
    subject: str,
    settings: Settings | None,
    trials: dict[str, list[Any]] | None,
    channels: pd.DataFrame | None,
) -> Recording:
    array = _open_npy(path)
    ids, columns = _shown(trials, len(array), path)
    settings = settings or Settings("eeg", sfreq=1.0, tmin=0.0)
    if array.ndim == 3 and array.shape[2] > 1:
        for key in ("sfreq", "tmin"):
            if getattr(settings, key) is None:
                hint = f"add {key} in {'Hz' if key == 'sfreq' else 'seconds from stimulus onset'}"
                raise InputError(f"has no {key}", where=path.parents[1] / SETTINGS_FILE, hint=hint)
    if channels is not None and len(channels) != array.shape[1]:
        problem = f"has {array.shape[1]} channels, {CHANNELS_FILE} {len(channels)} rows"
        raise InputError(problem, where=path, hint="give one row a channel, in the same order")
    try:
        return Recording.from_arrays(
            array,
            ids,
            modality=settings.modality,
            subject=subject,
            ch_names=None if channels is None else channels["name"].tolist(),
            sfreq=settings.sfreq,
            tmin=settings.tmin or 0.0,
            unit=settings.unit,
            ch_pos=_positions(channels),
            channels=channels,
            **columns,
        )
    except InputError as error:
        raise InputError(error.problem, where=path, hint=error.hint) from error


def _open_npy(path: Path) -> NDArray[Any]:
    hint = "save the signals with numpy.save as float32 (n_trials, n_chans, n_times)"
    array = read_numbers(path, hint=hint, mapped=True)
    if array.ndim not in (2, 3):
        problem = f"has shape {array.shape}, expected (n_trials, n_chans, n_times) or (n_trials, n_chans)"
        raise InputError(problem, where=path, hint="transpose or split the array")
    return array


def _from_epochs(
    path: Path,
    subject: str,
    settings: Settings | None,
    trials: dict[str, list[Any]] | None,
    channels: pd.DataFrame | None,
) -> Recording:
    try:
        import mne
    except ImportError as error:
        raise InputError("needs MNE", where=path, hint="pip install 'brainalign[meeg]'") from error
    try:
        epochs = mne.read_epochs(path, preload=False, verbose="error")
        ids, columns = _shown(trials, len(epochs), path)
        recording = Recording.from_epochs(epochs, ids, subject=subject, **columns)
    except InputError as error:
        raise InputError(error.problem, where=path, hint=error.hint) from error
    except Exception as error:  # a damaged fif file raises errors of many kinds, some only where an epoch is read
        raise InputError(
            f"cannot be read by MNE ({error})", where=path, hint="save it again with epochs.save"
        ) from error
    if settings is not None:
        _check_agrees(recording, settings, path)
    return recording if channels is None else _with_channels(recording, channels, path)


def _check_agrees(recording: Recording, settings: Settings, path: Path) -> None:
    """What dataset.yaml says about epochs must be what the file says; it need say nothing but the modality."""
    for key in ("modality", "unit", "sfreq", "tmin"):
        said, found = getattr(settings, key), getattr(recording, key)
        same = abs(said - found) <= _TOLERANCE if isinstance(said, float) else said in ("", None, found)
        if not same:
            problem = f"has {key} {found}, {SETTINGS_FILE} says {said}"
            raise InputError(problem, where=path, hint=f"correct or remove {key} in {SETTINGS_FILE}")


def _with_channels(recording: Recording, channels: pd.DataFrame, path: Path) -> Recording:
    rows = {name: row for row, name in enumerate(channels["name"])}
    missing = [name for name in recording.ch_names if name not in rows]
    if missing:
        raise InputError(f"has a channel '{missing[0]}' that {CHANNELS_FILE} lacks", where=path, hint="add its row")
    table = channels.iloc[[rows[name] for name in recording.ch_names]].reset_index(drop=True)
    positions = _positions(table)
    return replace(recording, channels=table, ch_pos=recording.ch_pos if positions is None else positions)


def _positions(channels: pd.DataFrame | None) -> NDArray[np.float64] | None:
    if channels is None or "x" not in channels:
        return None
    return channels[["x", "y", "z"]].to_numpy(dtype=np.float64)


def image_problems(stimuli: StimulusSet) -> Iterator[InputError]:
    """Images that cannot be decoded, and images under two ids (one might train while the other is tested)."""
    by_bytes: dict[str, list[str]] = defaultdict(list)
    for row, name in enumerate(stimuli.ids):
        path = stimuli.path(row)
        try:
            data = read_image_bytes(path)
            decode_image(data, path)
        except InputError as error:
            yield error
            continue
        by_bytes[hashlib.sha256(data).hexdigest()].append(name)
    for names in by_bytes.values():
        if len(names) > 1:
            listed = ", ".join(f"'{name}'" for name in names)
            hint = "give the image one stimulus_id: else it may train under one and be tested under the other"
            yield InputError(f"{listed} are the same image, byte by byte", where=stimuli.root, hint=hint)


def _describe(recording: Recording) -> str:
    axis = (
        f" x {recording.n_times} samples at {recording.sfreq:g} Hz from {recording.tmin:g} s" if recording.sfreq else ""
    )
    return f"{len(recording)} trials of {len(recording.index)} images, {recording.n_chans} channels{axis}"


def _finding(problem: InputError, root: Path) -> Finding:
    where = Path(str(problem.where)) if problem.where is not None else root
    shown = where.relative_to(root).as_posix() if where != root and where.is_relative_to(root) else str(where)
    return Finding(False, shown, f"{problem.problem}; {problem.hint}" if problem.hint else problem.problem)
