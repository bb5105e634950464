"""New recordings from files: .npy, epochs of MNE (.fif), volumes (.nii, .nii.gz) and .csv."""

from __future__ import annotations

import csv
import importlib
import io
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import InputError
from brainalign.tasks.signal_format import NewSignals, SignalFormat, fit_window, look_at, match_channels

CSV_BYTES_MAX = 512 * 2**20
NAME_COLUMNS = ("name", "signal", "trial")
KINDS = ".npy, .fif, .nii, .nii.gz or .csv"
VOLUMES, EPOCHS = (".nii", ".nii.gz"), (".fif", ".fif.gz")
# Options by the files that they are for.
FOR_FILES = {
    "mask": (VOLUMES, "a mask is for volumes (.nii, .nii.gz)"),
    "channels": ((".npy",), "a list of channel names is for .npy files"),
    "sfreq": ((".npy",), "a sampling rate is for .npy files"),
    "tmin": ((".npy",), "a first sample is for .npy files"),
}


@dataclass(frozen=True)
class FileOptions:
    """What a file does not say itself.

    Attributes
    ----------
    mask : path, optional
        Of voxels, for volumes.
    channels : path, optional
        Channel names of a .npy file, one a line.
    sfreq, tmin : float, optional
        Hz, and seconds from stimulus onset to the first sample, of a .npy file.
    """

    mask: Path | None = None
    channels: Path | None = None
    sfreq: float | None = None
    tmin: float | None = None

    @property
    def given(self) -> tuple[str, ...]:
        """Names of those that are set."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name) is not None)


def read_signals(
    path: str | Path, wanted: SignalFormat, transform: Any, options: FileOptions | None = None
) -> NewSignals:
    """Read a file of signals as a model takes them.

    Parameters
    ----------
    path : path-like
        `.npy` (n, n_chans, n_times) or (n, n_chans); `.fif` epochs; `.nii`, `.nii.gz` one volume or a series; `.csv`
        one row a signal.
    wanted : SignalFormat
    transform : SignalTransform
        Of the model, to notice wrong units.
    options : FileOptions, optional

    Returns
    -------
    NewSignals

    Raises
    ------
    InputError
        If the file cannot be read, its channels or samples cannot be made those of the model, or an option is for
        another kind of file.
    """
    file, options = Path(path), options or FileOptions()
    if not file.is_file():
        raise InputError("no such file", where=path, hint=f"give signals as {KINDS}")
    name = file.name.lower()
    if not name.endswith((*VOLUMES, *EPOCHS, ".npy", ".csv")):
        raise InputError(f"is of no kind known here ('{file.suffix}')", where=path, hint=f"give {KINDS}")
    for option in options.given:
        endings, words = FOR_FILES[option]
        if not name.endswith(endings):
            raise InputError(words, where=f"--{option}", hint="leave it out")
    if name.endswith(VOLUMES):
        found = _from_volumes(file, wanted, options)
    elif name.endswith(".npy"):
        found = _from_npy(file, wanted, options)
    elif name.endswith(EPOCHS):
        found = _from_fif(file, wanted)
    else:
        found = _from_csv(file, wanted)
    if not len(found.signals):
        raise InputError("holds no signal", where=path)
    return NewSignals(found.signals, found.names, (*found.notes, *look_at(found.signals, transform, path)))


def _from_npy(path: Path, wanted: SignalFormat, options: FileOptions) -> NewSignals:
    for option in options.given:
        if wanted.sfreq is None and option in ("sfreq", "tmin"):
            text = "the run has no sampling rate: its signals are neither cropped nor resampled"
            raise InputError(text, where=f"--{option}", hint="leave it out")
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        hint = "save the signals with numpy.save as float32"
        raise InputError("is not a whole .npy file of numbers", where=path, hint=hint) from error
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.dtype.kind not in "fiu":
        text = f"has shape {array.shape} of {array.dtype}, expected (n, n_chans, n_times) or (n, n_chans) of numbers"
        raise InputError(text, where=path, hint=f"the run takes {wanted.words}")
    notes = []
    if options.channels is not None:
        names = _channel_names(options.channels)
        if len(names) != array.shape[1]:
            text = f"names {len(names)} channels, {path.name} has {array.shape[1]}"
            raise InputError(text, where=options.channels, hint="give one name a line")
        array = array[:, match_channels(names, wanted, options.channels)]
    elif array.shape[1] != len(wanted.ch_names):
        text = f"has {array.shape[1]} channels, the run takes {wanted.words}"
        raise InputError(text, where=path, hint="name them with --channels FILE, or give those of the run in its order")
    else:
        notes.append("channels taken in the order of the run, as the file does not name them")
    signals, done = fit_window(array, options.sfreq, options.tmin, wanted, path)
    return NewSignals(signals, _numbered(len(signals)), (*notes, *done))


def _channel_names(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("cannot be read as text", where=path, hint="give one channel name a line") from error
    return [line.strip() for line in lines if line.strip()]


def _from_fif(path: Path, wanted: SignalFormat) -> NewSignals:
    from brainalign.recordings import Recording

    try:
        import mne
    except ImportError as error:
        raise InputError("needs MNE", where=path, hint="pip install 'brainalign[meeg]'") from error
    try:
        epochs = mne.read_epochs(path, verbose="error")
    except Exception as error:  # a damaged fif file raises errors of many kinds
        hint = "save epochs with epochs.save; a continuous recording must be cut first"
        raise InputError(f"cannot be read as epochs ({error})", where=path, hint=hint) from error
    if not len(epochs):
        raise InputError("holds no epoch", where=path)
    codes = {code: name for name, code in epochs.event_id.items()}
    try:
        recording = Recording.from_epochs(epochs, ["?"] * len(epochs))
    except InputError as error:
        raise InputError(error.problem, where=path, hint=error.hint) from error
    if recording.modality != wanted.modality:
        raise InputError(f"holds {recording.modality}, the run takes {wanted.modality}", where=path)
    picked = match_channels(recording.ch_names, wanted, path)
    values = recording.read(np.arange(len(recording)))[:, picked]
    signals, notes = fit_window(values, recording.sfreq, recording.tmin, wanted, path)
    names = tuple(f"{i}: {codes.get(int(code), code)}" for i, code in enumerate(epochs.events[:, 2]))
    return NewSignals(signals, names, (f"in {recording.unit}", *notes))


def _from_volumes(path: Path, wanted: SignalFormat, options: FileOptions) -> NewSignals:
    if options.mask is None:
        raise InputError("volumes need the mask of the run's voxels", where=path, hint="give it with --mask FILE")
    image, mask = _volume(path), _volume(options.mask)
    if mask.ndim != 3 or image.ndim not in (3, 4) or image.shape[:3] != mask.shape:
        text = f"has shape {image.shape}, the mask {mask.shape}: expected (x, y, z) or (x, y, z, n), and (x, y, z)"
        raise InputError(text, where=path, hint="bring both to one grid")
    if not np.allclose(image.affine, mask.affine, atol=1e-3):
        raise InputError("lies elsewhere in space than the mask (affines differ)", where=path, hint="resample one")
    inside = np.asarray(mask.dataobj) > 0
    if inside.sum() != len(wanted.ch_names):
        text = f"holds {int(inside.sum())} voxels, the run takes {len(wanted.ch_names)}"
        raise InputError(text, where=options.mask, hint="give the mask that the run's voxels came from")
    values = np.asarray(image.dataobj, dtype=np.float32)
    values = values[..., None] if values.ndim == 3 else values
    signals, notes = fit_window(values[inside].T[:, :, None], None, None, wanted, path)
    return NewSignals(signals, _numbered(len(signals)), (*notes, "voxels in the order of numpy (last axis fastest)"))


def _volume(path: Path) -> Any:
    try:
        nibabel = importlib.import_module("nibabel")
    except ImportError as error:
        raise InputError("needs nibabel", where=path, hint="pip install nibabel") from error
    if not path.is_file():
        raise InputError("no such file", where=path, hint="check the path")
    try:
        image = nibabel.load(path)
        np.asarray(image.dataobj[..., :1])  # a file that is cut off shows here, not later
    except Exception as error:  # a damaged file raises errors of many kinds
        raise InputError(f"cannot be read as a volume ({error})", where=path, hint="give NIfTI files") from error
    return image


def _from_csv(path: Path, wanted: SignalFormat) -> NewSignals:
    if wanted.n_times > 1:
        text = f"holds one value a channel, the run takes {wanted.words}"
        raise InputError(text, where=path, hint="give signals with a time axis as .npy or .fif")
    header, rows = _table(path)
    named = header[0].strip().lower() in NAME_COLUMNS
    columns = header[named:]
    picked = match_channels([name.strip() for name in columns], wanted, path)
    values = np.empty((len(rows), len(picked), 1), dtype=np.float32)
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise InputError(f"line {number} has {len(row)} values, the header {len(header)}", where=path)
        try:
            values[number - 2, :, 0] = [float(row[named + column]) for column in picked]
        except ValueError as error:
            raise InputError(f"line {number} holds something else than numbers ({error})", where=path) from error
    names = tuple(row[0] for row in rows) if named else _numbered(len(rows))
    return NewSignals(values, names)


def _table(path: Path) -> tuple[list[str], list[list[str]]]:
    if path.stat().st_size > CSV_BYTES_MAX:
        raise InputError(f"is larger than {CSV_BYTES_MAX >> 20} MiB", where=path, hint="give it as .npy")
    try:
        lines = [row for row in csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"))) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"is not a table ({error})", where=path, hint="give UTF-8 text with commas") from error
    if len(lines) < 2:
        hint = "the first line names the channels, every further one is a signal"
        raise InputError(f"has {len(lines)} lines", where=path, hint=hint)
    return lines[0], lines[1:]


def _numbered(n: int) -> tuple[str, ...]:
    return tuple(str(i) for i in range(n))
