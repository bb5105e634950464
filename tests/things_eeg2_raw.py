"""Raw sessions in the layout of THINGS-EEG2, made with plain numpy; and what the published steps make of them.

`reference` does every step on whole arrays in memory with MNE and scikit-learn, and shares no line with the package.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mne
import numpy as np
from scipy.linalg import fractional_matrix_power
from sklearn.covariance import ledoit_wolf
from sklearn.preprocessing import StandardScaler
from sklearn.utils import shuffle

CHANNELS = ["Fz", "Cz", "P7", "Pz", "O1", "O2"]
SFREQ = 1000
SEED = 20200220
NAMES = {"train": "raw_eeg_training.npy", "test": "raw_eeg_test.npy"}
N_CONDITIONS = {"train": 6, "test": 3}
Session = tuple[list[np.ndarray], np.ndarray]
MOST = {"train": 2, "test": 20}


def shown(part: str, session: int, rng: np.random.Generator) -> np.ndarray:
    """Codes of a session in random order: half of the training photos twice, every test photo 20 times or more."""
    if part == "train":
        half = [1, 3, 5] if session % 2 else [2, 4, 6]
        codes = half * 2 + ([half[1]] if session == 1 else []) + [99999, 99999]
    else:
        codes = [1, 2, 3] * 20 + ([2, 2] if session == 3 else []) + [99999]
    return rng.permutation(codes)


def make_file(path: Path, part: str, session: int, seed: int, *, channels: list[str] = CHANNELS) -> dict[str, Any]:
    """Correlated noise in volts with a response of its own for every photo; one-sample triggers, as published."""
    rng = np.random.default_rng([seed, session, part == "test"])
    codes = shown(part, session, rng)
    onsets = 700 + 200 * np.arange(len(codes)) + rng.integers(-3, 4, len(codes))
    n_samples = onsets[-1] + 1500
    mixing = rng.normal(size=(len(channels), len(channels))) + 2 * np.eye(len(channels))
    signals = mixing @ rng.normal(size=(len(channels), n_samples)) + rng.normal(size=(len(channels), 1)) * 40
    bump = np.sin(np.pi * np.arange(300) / 300)
    for onset, code in zip(onsets, codes, strict=True):
        signals[:, onset : onset + 300] += np.outer(np.cos(code % 97 + np.arange(len(channels))), bump) * 3
    stim = np.zeros(n_samples)
    stim[onsets] = codes
    stim[[60, n_samples - 300]] = 1 if part == "test" else [99999, shown("train", session, rng).min()]
    if part == "test":
        stim[60] = 2  # its baseline would begin before the recording
    content = {
        "raw_eeg_data": np.vstack([signals * 1e-6, stim]),
        "ch_names": [*channels, "stim"],
        "ch_types": ["eeg"] * len(channels) + ["stim"],
        "sfreq": SFREQ,
        "highpass": 0.01,
        "lowpass": 100,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, content)
    return content


def make_root(root: Path, subjects: int = 2, sessions: int = 4, **options: Any) -> Path:
    for subject in range(1, subjects + 1):
        for session in range(1, sessions + 1):
            for part, name in NAMES.items():
                make_file(root / f"sub-{subject:02d}" / f"ses-{session:02d}" / name, part, session, subject, **options)
    return root


def make_metadata(root: Path) -> None:
    table: dict[str, list[str]] = {}
    for part, names in (("train", ("aardvark", "abacus", "bat1")), ("test", ("antelope", "banana", "cat"))):
        per = N_CONDITIONS[part] // 3
        table[f"{part}_img_concepts"] = [f"{i + 1:05d}_{name}" for i, name in enumerate(names) for _ in range(per)]
        table[f"{part}_img_files"] = [f"{name}_{k + 1:02d}s.jpg" for name in names for k in range(per)]
    root.mkdir(parents=True, exist_ok=True)
    np.save(root / "image_metadata.npy", table)


def _session(
    folder: Path,
    part: str,
    *,
    tmin: float,
    tmax: float,
    sfreq: float,
    band: tuple[float, float] | None,
    pick: list[str],
) -> Session:
    """(repetitions, channels, times) in volts of every condition, and the codes of the conditions."""
    content = np.load(folder / NAMES[part], allow_pickle=True).item()
    info = mne.create_info(content["ch_names"], content["sfreq"], content["ch_types"])
    raw = mne.io.RawArray(content["raw_eeg_data"], info, verbose="ERROR")
    events = mne.find_events(raw, stim_channel="stim", verbose="ERROR")
    events = events[events[:, 2] != 99999]
    raw.pick(pick)
    if band:
        raw.filter(*band, verbose="ERROR")
    epochs = mne.Epochs(raw, events, tmin=tmin, tmax=tmax, baseline=(None, 0), preload=True, verbose="ERROR")
    if sfreq != SFREQ:
        epochs.resample(sfreq, verbose="ERROR")
    data, codes = epochs.get_data(), epochs.events[:, 2]
    conditions = np.unique(codes)
    trials = [data[shuffle(np.flatnonzero(codes == code), random_state=SEED)[: MOST[part]]] for code in conditions]
    return trials, conditions


def _covariance(samples: np.ndarray) -> np.ndarray:
    """Ledoit-Wolf on standardised channels, scaled back; (n_samples, n_chans)."""
    scaler = StandardScaler()
    shrunk, _ = ledoit_wolf(scaler.fit_transform(samples))
    return np.outer(scaler.scale_, scaler.scale_) * shrunk


def reference(
    subject: Path,
    *,
    tmin: float = -0.2,
    tmax: float = 1.0,
    sfreq: float = 250.0,
    band: tuple[float, float] | None = None,
    pick: list[str] = CHANNELS,
    whitening: str = "mvnn",
    covariance: str = "epoch",
    fit_from: float = 0.0,
) -> dict[str, np.ndarray]:
    """(images, repetitions, channels, times) of both parts in float64: whitened, or microvolts."""
    found: dict[str, list[Session]] = {"train": [], "test": []}
    for folder in sorted(subject.glob("ses-*")):
        cut = {"tmin": tmin, "tmax": tmax, "sfreq": sfreq, "band": band, "pick": pick}
        session = {part: _session(folder, part, **cut) for part in found}
        matrix = np.eye(len(pick)) * 1e6
        if whitening == "mvnn":
            first = round((fit_from - tmin) * sfreq)
            train = [condition[..., first:] for condition in session["train"][0]]
            if covariance == "epoch":
                each = [[_covariance(trial.T) for trial in condition] for condition in train]
            else:
                each = [[_covariance(condition[:, :, t]) for t in range(condition.shape[-1])] for condition in train]
            matrix = fractional_matrix_power(np.mean([np.mean(c, axis=0) for c in each], axis=0), -0.5)
        for part, (trials, conditions) in session.items():
            found[part].append(([np.einsum("ij,rjt->rit", matrix, t) for t in trials], conditions))
    return {part: _joined(sessions) for part, sessions in found.items()}


def session_numbers(subject: Path) -> dict[str, np.ndarray]:
    """(images, repetitions): the session each trial is of."""
    found: dict[str, list[Session]] = {"train": [], "test": []}
    for folder in sorted(subject.glob("ses-*")):
        for part, sessions in found.items():
            trials, codes = _session(folder, part, tmin=-0.2, tmax=1.0, sfreq=1000.0, band=None, pick=["Pz"])
            sessions.append(([np.full(len(t), int(folder.name[4:])) for t in trials], codes))
    return {part: _joined(sessions) for part, sessions in found.items()}


def _joined(sessions: list[Session]) -> np.ndarray:
    """Images in order, repetitions shuffled over sessions; the fewest repetitions that an image has."""
    conditions = sorted(set(np.concatenate([codes for _, codes in sessions])))
    images = []
    for code in conditions:
        of_sessions = [trials[list(codes).index(code)] for trials, codes in sessions if code in codes]
        images.append(np.concatenate(of_sessions))
    fewest = min(map(len, images))
    return np.stack([trials[shuffle(np.arange(len(trials)), random_state=SEED)][:fewest] for trials in images])


# --- for the tests that use them

# The store is float32: its rounding, 6e-8 of the largest value, is all that may differ.
TOLERANCE = 1.2e-7


def small(tmp_path: Path, **options: Any) -> Path:
    """One subject, two sessions, to be changed."""
    return make_root(tmp_path / "raw", subjects=1, sessions=2, **options)


def same(folder: Path, expected: dict[str, np.ndarray]) -> None:
    for part, values in expected.items():
        got = np.load(folder / f"{part}.npy", allow_pickle=False)
        assert got.dtype == np.dtype("<f4")
        np.testing.assert_allclose(got, values, rtol=0, atol=TOLERANCE * np.abs(values).max(), err_msg=part)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def change(path: Path, **changes: Callable[[Any], Any] | Any) -> None:
    content = np.load(path, allow_pickle=True).item()
    for key, value in changes.items():
        content[key] = value(content[key]) if callable(value) else value
    np.save(path, {key: value for key, value in content.items() if value is not None})


def drop_event(path: Path, code: int) -> None:
    """The first event of a code is not there."""

    def without(x: np.ndarray) -> np.ndarray:
        x[-1, np.flatnonzero(x[-1] == code)[0]] = 0
        return x

    change(path, raw_eeg_data=without)


def no_events(x: np.ndarray) -> np.ndarray:
    x[-1] = 0
    return x
