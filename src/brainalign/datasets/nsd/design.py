"""Which image each trial showed: `nsd_expdesign.mat`, compared with `nsd_stim_info_merged.csv` where it is there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainalign.datasets.nsd.files import DESIGN, STIMULUS_TABLE
from brainalign.errors import InputError

N_SUBJECTS, N_IMAGES, N_ALL_IMAGES = 8, 10_000, 73_000
N_TRIALS, N_SHARED, TRIALS_A_SESSION = 30_000, 1_000, 750
REPETITIONS = 3
BYTES_MAX = 256 * 2**20
AGAIN = "get it anew from the public bucket"
_SHAPES = {"masterordering": (1, N_TRIALS), "subjectim": (N_SUBJECTS, N_IMAGES), "sharedix": (1, N_SHARED)}


@dataclass(frozen=True)
class Design:
    """The published design; image numbers count from 0 here, from 1 in the file.

    Attributes
    ----------
    order : int array of shape (30000,)
        Position in a subject's own list of images, trial by trial; the same for everybody.
    images : int array of shape (8, 10000)
        Images of each subject, of 73,000.
    shared : int array of shape (1000,)
        Images that everybody was to see.
    coco : DataFrame or None
        Row i is image i: `cocoId`, `cocoSplit`, `shared1000` and `subject1_rep0` ... as published.
    """

    order: NDArray[np.int64]
    images: NDArray[np.int64]
    shared: NDArray[np.int64]
    coco: pd.DataFrame | None = None

    def shown(self, subject: str, n_sessions: int) -> NDArray[np.int64]:
        """Images of a subject's first sessions, trial by trial, (750 n_sessions,)."""
        found: NDArray[np.int64] = self.images[int(subject) - 1][self.order[: n_sessions * TRIALS_A_SESSION]]
        return found


def stimulus_id(number: int) -> str:
    """Canonical name of an image of the 73,000, counted from 0.

    Examples
    --------
    >>> stimulus_id(123)
    'nsd/00123'
    """
    return f"nsd/{number:05d}"


def trial_rows(design: Design, subject: str, n_sessions: int) -> pd.DataFrame:
    """Trials of a subject's first sessions.

    Returns
    -------
    DataFrame
        Columns `image` (0 to 72,999), `stimulus_id`, `part` ('test' for the shared images, else 'train') and `session`.
    """
    shown = design.shown(subject, n_sessions)
    part = np.where(np.isin(shown, design.shared), "test", "train")
    session = np.repeat(np.arange(1, n_sessions + 1), TRIALS_A_SESSION)
    ids = [stimulus_id(int(number)) for number in shown]
    return pd.DataFrame({"image": shown, "stimulus_id": ids, "part": part, "session": session})


def read_design(root: Path) -> Design:
    """Read the design, and compare it with the table of images where that is there.

    Raises
    ------
    InputError
        If a file is missing or damaged, a number is out of range or stands twice, or the two contradict each other.
    """
    path = root / DESIGN
    arrays = _load(path)
    order = _numbers(arrays["masterordering"], N_IMAGES, "masterordering", path).ravel()
    images = _numbers(arrays["subjectim"], N_ALL_IMAGES, "subjectim", path)
    shared = _numbers(arrays["sharedix"], N_ALL_IMAGES, "sharedix", path).ravel()
    for name, rows in (("sharedix", shared[None]), ("subjectim", images)):
        for number, row in enumerate(rows, start=1):
            values, counts = np.unique(row, return_counts=True)
            if counts.max() > 1:
                twice = int(values[counts.argmax()]) + 1
                raise InputError(f"row {number} of '{name}' holds image {twice} twice", where=path, hint=AGAIN)
    if not (np.sort(images[:, :N_SHARED], axis=1) == np.sort(shared)).all():
        problem = f"the first {N_SHARED} images of 'subjectim' are not those of 'sharedix'"
        raise InputError(problem, where=path, hint=AGAIN)
    design = Design(order, images, shared)
    table = root / STIMULUS_TABLE
    return Design(order, images, shared, _read_table(table, design)) if table.is_file() else design


def _load(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat, whosmat

    try:
        if path.stat().st_size > BYTES_MAX:
            raise InputError("is larger than 256 MiB", where=path, hint="this is not nsd_expdesign.mat")
        held = {name: shape for name, shape, _ in whosmat(path)}
        for name, shape in _SHAPES.items():  # before anything is unpacked
            if name not in held:
                problem = f"holds {', '.join(sorted(held)[:8]) or 'nothing'}, expected '{name}'"
                raise InputError(problem, where=path, hint=AGAIN)
            if tuple(held[name]) != shape:
                raise InputError(f"'{name}' has shape {held[name]}, expected {shape}", where=path, hint=AGAIN)
        found: dict[str, Any] = loadmat(path, variable_names=list(_SHAPES))
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError("no such file", where=path, hint="see brainalign datasets check nsd") from error
    except Exception as error:  # scipy raises many types on damaged files
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise InputError(f"is not a whole MATLAB file ({reason})", where=path, hint=AGAIN) from error
    return found


def _numbers(values: Any, highest: int, name: str, path: Path) -> NDArray[np.int64]:
    """Whole numbers from 1 to `highest`, returned from 0."""
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        raise InputError(f"'{name}' holds no numbers", where=path, hint=AGAIN)
    numbers = values.astype(np.float64)
    wrong = np.logical_not((numbers == np.round(numbers)) & (numbers >= 1) & (numbers <= highest))  # NaN is wrong too
    if wrong.any():
        value = numbers[wrong][0]
        raise InputError(f"'{name}' holds {value:g}, expected 1 to {highest}", where=path, hint=AGAIN)
    return numbers.astype(np.int64) - 1


def _read_table(path: Path, design: Design) -> pd.DataFrame:
    """The table of images, which must tell of the same shared images and of the same trials."""
    try:
        if path.stat().st_size > BYTES_MAX:
            raise InputError("is larger than 256 MiB", where=path, hint="this is not nsd_stim_info_merged.csv")
        table = pd.read_csv(path, index_col=0, low_memory=False)
    except (OSError, ValueError, UnicodeDecodeError, pd.errors.ParserError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"is not a table ({reason})", where=path, hint=AGAIN) from error
    for name in ("cocoId", "cocoSplit", "nsdId", "shared1000"):
        if name not in table.columns:
            listed = ", ".join(map(str, table.columns[:12]))
            raise InputError(f"has no column '{name}'", where=path, hint=f"it has {listed}")
    if len(table) != N_ALL_IMAGES or table["nsdId"].tolist() != list(range(N_ALL_IMAGES)):
        problem = f"has {len(table)} rows, expected nsdId 0 to {N_ALL_IMAGES - 1} in order"
        raise InputError(problem, where=path, hint=AGAIN)
    flagged = np.flatnonzero(table["shared1000"].astype(str).isin(("True", "1")))
    if set(flagged) != set(design.shared.tolist()):
        raise InputError("'shared1000' marks other images than 'sharedix' of the design", where=path, hint=AGAIN)
    _compare_trials(table, design, path)
    return table


def _compare_trials(table: pd.DataFrame, design: Design, path: Path) -> None:
    """`subject1_rep0` holds the trial (from 1) in which an image came first, 0 where it never came."""
    for subject in range(N_SUBJECTS):
        for repetition in range(REPETITIONS):
            name = f"subject{subject + 1}_rep{repetition}"
            if name not in table.columns:
                continue
            trials = pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64)
            shown = np.flatnonzero(trials > 0)
            at = trials[shown]
            if np.isnan(trials).any() or (at != np.round(at)).any() or at.max(initial=0) > N_TRIALS:
                problem = f"'{name}' holds something else than trials, 0 to {N_TRIALS}"
                raise InputError(problem, where=path, hint=AGAIN)
            told = design.images[subject][design.order[at.astype(np.int64) - 1]]
            if (told != shown).any():
                first = int(shown[(told != shown).argmax()])
                problem = f"'{name}' of image {first} contradicts nsd_expdesign.mat"
                raise InputError(problem, where=path, hint="both must be of one version")
