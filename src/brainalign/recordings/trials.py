"""The table of trials, and the checks on what a recording is made from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from brainalign.errors import InputError

MODALITIES = ("eeg", "meg", "ieeg", "fmri", "spikes")
TRIAL_COLUMNS = ("stimulus_id", "session", "run", "repetition", "part", "n_averaged")


def check_shape(source: Any, n_ids: int, modality: str, sfreq: float | None) -> None:
    """Refuse signals that are not (n_trials, n_chans, n_times) of real numbers, one stimulus id a trial.

    Raises
    ------
    InputError
        Naming the shape got and the shape expected.
    """
    if modality not in MODALITIES:
        raise InputError(f"unknown modality '{modality}'", hint=f"one of {', '.join(MODALITIES)}")
    if len(source.shape) != 3 or 0 in source.shape:
        raise InputError(
            f"signals have shape {tuple(source.shape)}, expected (n_trials, n_chans, n_times), none of them 0"
        )
    if isinstance(source, np.ndarray) and source.dtype.kind not in "fiu":
        raise InputError(f"signals have dtype {source.dtype}", hint="real numbers are needed")
    if source.shape[0] != n_ids:
        raise InputError(f"{source.shape[0]} trials but {n_ids} stimulus ids", hint="give one image name a trial")
    if source.shape[2] > 1 and (sfreq is None or not np.isfinite(sfreq) or sfreq <= 0):
        raise InputError(f"sfreq is {sfreq} for {source.shape[2]} samples a trial", hint="give the sampling rate in Hz")


def trial_table(stimulus_ids: Sequence[str], columns: dict[str, Sequence[Any]]) -> pd.DataFrame:
    """One row a trial, missing columns filled in: repetitions are counted per stimulus, the rest is 1 or empty.

    Raises
    ------
    InputError
        If a column is unknown or of another length, or a trial names no stimulus.
    """
    unknown = set(columns) - set(TRIAL_COLUMNS)
    if unknown:
        raise InputError(f"unknown trial column '{sorted(unknown)[0]}'", hint=f"known: {', '.join(TRIAL_COLUMNS[1:])}")
    n = len(stimulus_ids)
    for name, values in columns.items():
        if len(values) != n:
            raise InputError(f"trial column '{name}' has {len(values)} values for {n} trials")
    trials = pd.DataFrame({"stimulus_id": [str(s) for s in stimulus_ids]})
    if (trials["stimulus_id"] == "").any():
        raise InputError(f"trial {int((trials['stimulus_id'] == '').argmax())} names no stimulus")
    trials["session"] = columns.get("session", [1] * n)
    trials["run"] = columns.get("run", [1] * n)
    trials["repetition"] = columns.get("repetition", trials.groupby("stimulus_id").cumcount() + 1)
    trials["part"] = columns.get("part", [""] * n)
    trials["n_averaged"] = columns.get("n_averaged", [1] * n)
    return trials
