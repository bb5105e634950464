"""The raw sessions of THINGS-EEG2: `sub-XX/ses-YY/raw_eeg_{training,test}.npy`, a pickled dictionary inside `.npy`."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.datasets.pickle_scan import scan
from brainalign.datasets.safe_pickle import load_untrusted_npy
from brainalign.datasets.things_eeg2.prepare.settings import FILES, STIM
from brainalign.errors import InputError

PLACES = ("", "Raw_data", "raw_data", "Raw", "raw", "eeg_dataset/raw_data")
KEYS = ("raw_eeg_data", "ch_names", "sfreq")
HOW_TO_GET = "raw recordings are sub-01.zip, ... of osf.io/crxs4"
VOLT_STEP_MAX = 1e-3  # volts between two samples; in microvolts the usual step is about 1
_SESSION = re.compile(r"ses-(\d{1,3})")
_SUBJECT = re.compile(r"sub-(\w+)")


@dataclass(frozen=True)
class RawSession:
    """The two files of a session.

    Attributes
    ----------
    subject : str
        '01'.
    session : int
        From 1.
    files : dict
        From part ('train', 'test') to its file.
    """

    subject: str
    session: int
    files: dict[str, Path]

    @property
    def name(self) -> str:
        """For messages and folders: `sub-01/ses-01`."""
        return f"sub-{self.subject}/ses-{self.session:02d}"


@dataclass(frozen=True)
class RawPart:
    """One raw file.

    Attributes
    ----------
    data : array of shape (n_all_chans, n_samples)
        Float, read-only, the trigger channel among the rows.
    names, kinds : tuple of str
        One a row.
    sfreq : float
        Hz.
    microvolts : float
        What a value is multiplied with: 1e6 where the file holds volts (as published), 1 where it holds microvolts.
    """

    data: NDArray[Any]
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    sfreq: float
    microvolts: float

    @property
    def trigger(self) -> NDArray[Any]:
        """The trigger channel, (n_samples,)."""
        row: NDArray[Any] = self.data[self.names.index(STIM)]
        return row


def find_sessions(root: Path, subjects: Sequence[str] = ()) -> list[RawSession]:
    """Every session below the raw root, subject by subject.

    Parameters
    ----------
    root : Path
    subjects : sequence of str
        '01', '1' or 'sub-01'; all by default.

    Raises
    ------
    InputError
        If there is none, a subject asked for is not there, or a file of a session is missing.
    """
    if not root.is_dir():
        raise InputError("no such folder", where=root, hint="give the folder of the raw recordings with --root")
    folders = _subject_folders(root)
    if not folders:
        hint = f"expected sub-01/ses-01/{FILES['train']}; {HOW_TO_GET}"
        raise InputError("holds no raw recording of THINGS-EEG2", where=root, hint=hint)
    wanted = list(dict.fromkeys(_subject_name(s, folders) for s in subjects)) or list(folders)
    for subject in wanted:
        if subject not in folders:
            raise InputError(f"no raw recording of subject '{subject}'", where=root, hint=f"there are {list(folders)}")
    return [
        RawSession(subject, number, _part_files(folder))
        for subject in wanted
        for number, folder in sorted(folders[subject].items())
    ]


def _subject_name(text: str, known: dict[str, Any]) -> str:
    name = text.removeprefix("sub-")
    padded = name.zfill(2)
    return padded if padded in known else name


def _subject_folders(root: Path) -> dict[str, dict[int, Path]]:
    """From subject to its session folders; the published archives unpack to `sub-01/sub-01/` or `sub-01/`."""
    found: dict[str, dict[int, Path]] = {}
    for place in PLACES:
        for folder in (*(root / place).glob("sub-*/ses-*"), *(root / place).glob("sub-*/sub-*/ses-*")):
            session, subject = _SESSION.fullmatch(folder.name), _SUBJECT.fullmatch(folder.parent.name)
            if session and subject and any((folder / name).exists() for name in FILES.values()):
                other = found.setdefault(subject[1], {}).setdefault(int(session[1]), folder)
                if not other.samefile(folder):
                    problem = f"sub-{subject[1]}/{folder.name} lies here twice ({other.relative_to(root)}, {folder})"
                    raise InputError(problem, where=root, hint="keep one")
    return dict(sorted(found.items()))


def _part_files(folder: Path) -> dict[str, Path]:
    files = {part: folder / name for part, name in FILES.items()}
    for path in files.values():
        if not path.is_file():
            raise InputError("no such file", where=path, hint=f"both files of a session are needed; {HOW_TO_GET}")
    return files


def check_whole(path: Path) -> None:
    """Walk over the file without reading its signals: whether it ends where it should, and would run no opcode.

    Raises
    ------
    InputError
        If it is truncated or of another kind.
    """
    try:
        with open(path, "rb") as file:
            if not file.read(6) == b"\x93NUMPY":
                raise InputError("is not a .npy file", where=path, hint=f"get it anew; {HOW_TO_GET}")
            file.seek(0)
            try:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0
                _, _, dtype = (read if version == (1, 0) else np.lib.format.read_array_header_2_0)(file)
            except Exception as error:  # numpy reads the header with Python's own parser: errors of many kinds
                raise InputError("has a damaged .npy header", where=path, hint="get the file anew") from error
            if not dtype.hasobject:
                raise InputError(f"holds a plain array of {dtype}, {_expected()}", where=path, hint=HOW_TO_GET)
            scan(file, path, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=path, hint="check the path") from error


def _expected() -> str:
    return f"expected a dictionary with {', '.join(KEYS)}"


def read_raw(path: Path) -> RawPart:
    """Read one raw file whole: it needs its size in memory.

    Raises
    ------
    InputError
        If the file is damaged, names anything but plain data, or its parts do not fit together.
    """
    content = load_untrusted_npy(path)
    if not isinstance(content, dict):
        raise InputError(f"holds an array of shape {content.shape}, {_expected()}", where=path, hint=HOW_TO_GET)
    missing = [key for key in KEYS if key not in content]
    if missing:
        keys = sorted(map(str, content))[:20]
        raise InputError(f"has the keys {keys}, not '{missing[0]}'", where=path, hint=f"{_expected()}; {HOW_TO_GET}")
    data = content["raw_eeg_data"]
    if not isinstance(data, np.ndarray) or data.dtype.kind != "f" or data.ndim != 2 or 0 in data.shape:
        got = f"{data.shape} of {data.dtype}" if isinstance(data, np.ndarray) else type(data).__name__
        raise InputError(f"has raw_eeg_data {got}, expected (n_chans, n_samples) of a float type", where=path)
    names = _names(content["ch_names"], len(data), path)
    kinds = _kinds(content.get("ch_types"), names, path)
    return RawPart(data, names, kinds, _rate(content["sfreq"], path), _microvolts(data, kinds))


def _names(value: Any, n_chans: int, path: Path) -> tuple[str, ...]:
    names = tuple(map(str, value)) if isinstance(value, list | tuple | np.ndarray) else ()
    if len(names) != n_chans or len(set(names)) != n_chans:
        problem = f"names {len(names)} channels ({len(set(names))} distinct), raw_eeg_data has {n_chans}"
        raise InputError(problem, where=path, hint="get the file anew")
    if STIM not in names:
        hint = f"it has {', '.join(names[-5:])}; {HOW_TO_GET}"
        raise InputError(f"has no trigger channel '{STIM}'", where=path, hint=hint)
    return names


def _kinds(value: Any, names: tuple[str, ...], path: Path) -> tuple[str, ...]:
    if value is None:
        return tuple("stim" if name == STIM else "eeg" for name in names)
    kinds = tuple(map(str, value)) if isinstance(value, list | tuple | np.ndarray) else ()
    if len(kinds) != len(names):
        raise InputError(f"has {len(kinds)} ch_types for {len(names)} channels", where=path, hint="get the file anew")
    return kinds


def _rate(value: Any, path: Path) -> float:
    number = np.asarray(value)
    if number.size != 1 or number.dtype.kind not in "fiu" or not 0 < float(number.reshape(())) < 1e5:
        raise InputError(f"has sfreq {value!r}, expected Hz", where=path, hint="get the file anew")
    return float(number.reshape(()))


def _microvolts(data: NDArray[Any], kinds: tuple[str, ...]) -> float:
    """The published files hold volts and do not say so: the usual step between samples tells volts from microvolts."""
    rows = [row for row, kind in enumerate(kinds) if kind == "eeg"]
    stretches = np.linspace(0, max(0, data.shape[1] - 1000), 8).astype(int)
    steps = [np.abs(np.diff(data[row, at : at + 1000])) for row in rows for at in stretches]
    usual = float(np.median(np.concatenate(steps))) if steps and data.shape[1] > 1 else 0.0
    return 1e6 if usual < VOLT_STEP_MAX else 1.0
