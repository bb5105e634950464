"""The four layouts in which preprocessed THINGS-EEG2 circulates, read into one `Part`.

=============  =====================================================  ===============================================
layout         files of a subject                                     trials
=============  =====================================================  ===============================================
official       ``preprocessed_eeg_{training,test}.npy``, a dict       (images, repetitions, channels, times)
               in a 0-d object array
NICE, ATM      the same names, a bare pickle of the dict              the same, cut to t >= 0 s while `times` is not
UBP            ``{train,test}.pt``, a torch dict                      the same, with the image and session of each trial
NeuroBridge,   ``{train,test}.npy`` and ``info.json``, or a bare      (concepts, images, repetitions, channels, times)
SAMGA          pickle of a dict
=============  =====================================================  ===============================================
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.datasets.safe_pickle import load_untrusted_npy, load_untrusted_torch
from brainalign.errors import InputError
from brainalign.files import read_json

PARTS = ("train", "test")
# layout -> the files of the two parts, in the order of PARTS
LAYOUTS = {
    "preprocessed": ("preprocessed_eeg_training.npy", "preprocessed_eeg_test.npy"),
    "ubp": ("train.pt", "test.pt"),
    "neurobridge": ("train.npy", "test.npy"),
}
# where the folders of the subjects lie below the root
SUBJECT_PLACES = (
    "",
    "Preprocessed_data_250Hz",
    "Preprocessed_data_250Hz_whiten",
    "Preprocessed_data_250Hz_no_whiten",
    "Preprocessed_data",
    "preprocessed_eeg",
)
STIM = "stim"
_DATA_KEYS = ("preprocessed_eeg_data", "eeg", "data")
_SFREQ_RANGE = (20.0, 10_000.0)


@dataclass(frozen=True)
class Part:
    """The training or test trials of one subject, image by image, the repetitions of an image behind each other.

    Attributes
    ----------
    trials : array of shape (n_images * n_repetitions, n_chans, n_times)
        In the precision of the file.
    ch_names : tuple of str
        As in the file; may hold 'stim'.
    times : array of shape (n_times,)
        Seconds from stimulus onset.
    images : tuple of str, optional
        Path of each image as the file gives it, (n_images,).
    sessions : array of shape (n_images, n_repetitions), optional
        Counted from 1.
    per_concept : int, optional
        Images of each concept, where the file groups them.
    in_place : bool
        Whether `trials` is a memory map of the file itself.
    """

    trials: NDArray[Any]
    n_repetitions: int
    ch_names: tuple[str, ...]
    times: NDArray[np.float64]
    images: tuple[str, ...] | None = None
    sessions: NDArray[np.int64] | None = None
    per_concept: int | None = None
    in_place: bool = False

    @property
    def n_images(self) -> int:
        """Number of images."""
        return len(self.trials) // self.n_repetitions

    @property
    def sfreq(self) -> float:
        """Samples a second."""
        return round(float((len(self.times) - 1) / (self.times[-1] - self.times[0])), 4)

    @property
    def tmin(self) -> float:
        """Time of the first sample, seconds from stimulus onset."""
        return round(float(self.times[0]), 9)


def subject_folders(root: Path) -> dict[str, list[Path]]:
    """From a subject ('01') to every folder that may hold its files."""
    found: dict[str, list[Path]] = {}
    for place in SUBJECT_PLACES:
        for folder in sorted((root / place).glob("sub-*")):
            if folder.is_dir() and any((folder / name).is_file() for names in LAYOUTS.values() for name in names):
                found.setdefault(folder.name.removeprefix("sub-"), []).append(folder)
    return dict(sorted(found.items()))


def part_files(root: Path, subject: str) -> tuple[str, Path, Path]:
    """Layout, training file and test file of a subject.

    Raises
    ------
    InputError
        If there are none, one of the two is missing, or there are several to choose from.
    """
    found = [
        (layout, folder / names[0], folder / names[1])
        for folder in subject_folders(root).get(subject, [])
        for layout, names in LAYOUTS.items()
        if (folder / names[0]).is_file() or (folder / names[1]).is_file()
    ]
    if not found:
        raise _nothing_found(root, subject)
    if len(found) > 1:
        first, second = (str(train.parent.relative_to(root) / train.name) for _, train, _ in found[:2])
        problem = f"subject {subject} lies here twice ({first}, {second})"
        raise InputError(problem, where=root, hint="keep one preprocessing in a root, move the other to its own")
    layout, train, test = found[0]
    for path, other in ((train, test), (test, train)):
        if not path.is_file():
            raise InputError("no such file", where=path, hint=f"get it too, {other.name} is there")
    return layout, train, test


def _nothing_found(root: Path, subject: str) -> InputError:
    patterns = (f"{above}sub-{subject}/ses-*/raw_eeg_training.npy" for above in ("", "*/"))
    raw = next((path for pattern in patterns for path in root.glob(pattern)), None)
    if raw is not None:
        hint = "preprocess them first: brainalign prepare things-eeg2 --root RAW --out DIR"
        return InputError("holds raw recordings, preprocessed ones are needed", where=raw.parents[1], hint=hint)
    places = ", ".join(f"{place}/sub-{subject}" if place else f"sub-{subject}" for place in SUBJECT_PLACES)
    files = " or ".join("+".join(names) for names in LAYOUTS.values())
    return InputError(f"no preprocessed EEG of subject {subject}", where=root, hint=f"looked for {files} in {places}")


def read_part(path: Path) -> Part:
    """Read one file of any layout; a plain `.npy` is mapped, every other is read whole.

    Raises
    ------
    InputError
        If the file is damaged, would run code, or its arrays do not fit together.
    """
    if path.suffix == ".pt":
        saved = _load_torch(path)
        if not isinstance(saved, dict):
            raise InputError("holds one tensor, expected a dictionary with 'eeg', 'img', 'times'", where=path)
        return _from_dict(saved, path)
    content = load_untrusted_npy(path, mmap_mode="r")
    if isinstance(content, dict):
        return _from_dict(content, path)
    info = path.parent / "info.json"
    if not info.is_file():
        raise InputError("no info.json beside it", where=path, hint="it names the channels and times; get it too")
    facts = read_json(info)
    if not isinstance(facts, dict):
        raise InputError(f"holds a {type(facts).__name__}, expected an object", where=info)
    return _build(content, facts | _prepared_sessions(path), path, where_facts=info)


def _prepared_sessions(path: Path) -> dict[str, Any]:
    """The session of each trial, which `brainalign prepare` writes beside the signals, counted from 0 as UBP does."""
    beside = path.with_name(f"session_{path.name}")
    if not beside.is_file():
        return {}
    numbers = load_untrusted_npy(beside)
    if not isinstance(numbers, np.ndarray) or numbers.dtype.kind not in "iu":
        raise InputError("holds no whole numbers", where=beside, hint="prepare the subject anew")
    return {"session": numbers.astype(np.int64) - 1}


def _load_torch(path: Path) -> Any:
    """UBP saves with pickle protocol 5, which torch's safe loader does not know; ours reads it as a bare pickle."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename.endswith("/data.pkl")]
            stored = len(entries) == 1 and entries[0].compress_type == zipfile.ZIP_STORED
            if not stored or archive.open(entries[0]).read(2) not in (b"\x80\x04", b"\x80\x05"):
                return load_untrusted_torch(path)
            with tempfile.TemporaryDirectory() as folder, archive.open(entries[0]) as source:
                pickled = Path(folder) / "data.pkl"
                with open(pickled, "wb") as target:
                    shutil.copyfileobj(source, target, 2**20)
                return load_untrusted_npy(pickled)
    except InputError as error:
        raise InputError(error.problem, where=path, hint=error.hint) from error
    except Exception:  # zipfile raises errors of many kinds on a damaged archive
        return load_untrusted_torch(path)  # words the damage


def _from_dict(content: Mapping[Any, Any], path: Path) -> Part:
    key = next((k for k in _DATA_KEYS if k in content), None)
    if key is None:
        wanted = " or ".join(f"'{k}'" for k in _DATA_KEYS)
        raise InputError(f"has the keys {sorted(map(str, content))}, none of them {wanted}", where=path)
    data = content[key]
    data = data.float().numpy() if str(getattr(data, "dtype", "")) == "torch.bfloat16" else data
    return _build(np.asarray(data), content, path, where_facts=path)


def _build(data: NDArray[Any], facts: Mapping[Any, Any], path: Path, *, where_facts: Path) -> Part:
    if data.dtype.kind != "f" or data.ndim not in (4, 5) or 0 in data.shape:
        axes = "(images, repetitions, channels, times) or (concepts, images, repetitions, channels, times)"
        raise InputError(f"has {data.shape} of {data.dtype}, expected {axes} of a float type", where=path)
    n_repetitions, n_chans, n_times = data.shape[-3:]
    in_place = isinstance(data, np.memmap) and data.flags.c_contiguous
    trials = data.reshape(-1, n_chans, n_times) if data.flags.c_contiguous else _contiguous(data)
    n_images = len(trials) // n_repetitions
    return Part(
        trials=trials,
        n_repetitions=n_repetitions,
        ch_names=_channels(facts, n_chans, where_facts),
        times=_times(facts, n_times, where_facts),
        images=_images(facts, n_images, n_repetitions, path),
        sessions=_sessions(facts, n_images, n_repetitions, path),
        per_concept=data.shape[1] if data.ndim == 5 else None,
        in_place=in_place,
    )


def _contiguous(data: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(data).reshape(-1, *data.shape[-2:])


def _channels(facts: Mapping[Any, Any], n_chans: int, where: Path) -> tuple[str, ...]:
    value = facts.get("ch_names")
    if value is None or isinstance(value, str) or not isinstance(value, Sequence | np.ndarray):
        raise InputError("has no list 'ch_names'", where=where, hint=f"it has {sorted(map(str, facts))[:20]}")
    names = tuple(str(name) for name in value)
    if len(names) == n_chans + 1 and STIM in names:  # the trigger channel was dropped from the data only
        names = tuple(name for name in names if name != STIM)
    if len(names) != n_chans or len(set(names)) != n_chans:
        problem = f"names {len(names)} channels ({len(set(names))} distinct), the data have {n_chans}"
        raise InputError(problem, where=where, hint="the file is damaged or not THINGS-EEG2")
    return names


def _times(facts: Mapping[Any, Any], n_times: int, where: Path) -> NDArray[np.float64]:
    """The last n_times entries: scripts that cut the baseline off the data kept it in `times`."""
    if facts.get("times") is None:
        raise InputError("has no 'times'", where=where, hint=f"it has {sorted(map(str, facts))[:20]}")
    try:
        times = np.asarray(facts["times"], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError("has 'times' that are not numbers", where=where) from error
    if times.ndim != 1 or len(times) < n_times or n_times < 2:
        problem = f"has times of shape {times.shape} for {n_times} samples"
        raise InputError(problem, where=where, hint="get the file anew")
    steps = np.diff(times)
    if not np.isfinite(times).all() or steps[0] <= 0 or not np.allclose(steps, steps[0], rtol=1e-3, atol=0):
        raise InputError("has 'times' that are not evenly spaced", where=where, hint="get the file anew")
    low, high = _SFREQ_RANGE
    if not low <= 1 / steps[0] <= high:
        problem = f"has times {times[0]:g}, {times[1]:g}, ...: {1 / steps[0]:g} Hz"
        raise InputError(problem, where=where, hint="give seconds")
    return times[len(times) - n_times :]


def _images(facts: Mapping[Any, Any], n_images: int, n_repetitions: int, path: Path) -> tuple[str, ...] | None:
    if facts.get("img") is None:
        return None
    names = np.asarray(facts["img"])
    if names.shape == (n_images,):
        names = names[:, None]
    if names.dtype.kind != "U" or names.shape[0] != n_images or names.shape[1:] not in ((1,), (n_repetitions,)):
        problem = f"has img of shape {names.shape} ({names.dtype}), expected ({n_images}, {n_repetitions}) names"
        raise InputError(problem, where=path, hint="get the file anew")
    mixed = np.flatnonzero((names != names[:, :1]).any(axis=1))
    if len(mixed):
        row = int(mixed[0])
        raise InputError(f"row {row} of img names several images: {sorted(set(names[row].tolist()))[:2]}", where=path)
    first = tuple(str(name) for name in names[:, 0])
    if len(set(first)) != n_images:
        twice = next(name for i, name in enumerate(first) if name in first[:i])
        raise InputError(f"img names '{ascii(twice)[1:-1]}' in two rows", where=path, hint="get the file anew")
    return first


def _sessions(facts: Mapping[Any, Any], n_images: int, n_repetitions: int, path: Path) -> NDArray[np.int64] | None:
    if facts.get("session") is None:
        return None
    sessions = np.asarray(facts["session"])
    numbers = sessions.dtype.kind in "fiu" and np.isfinite(sessions).all()
    if sessions.shape != (n_images, n_repetitions) or not numbers:
        raise InputError(f"has session of shape {sessions.shape}, expected ({n_images}, {n_repetitions})", where=path)
    counted: NDArray[np.int64] = sessions.astype(np.int64) + 1  # the script counts sessions from 0
    return counted
