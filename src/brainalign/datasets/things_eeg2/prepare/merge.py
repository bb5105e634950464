"""The sessions of a subject become one store: `train.npy`, `test.npy` and `info.json`, which the reader maps."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.datasets.things_eeg2.prepare.quality import counted, odd_channels
from brainalign.datasets.things_eeg2.prepare.session import versions, write_npy_header
from brainalign.datasets.things_eeg2.prepare.settings import SCHEMA, PrepareSettings
from brainalign.errors import InputError
from brainalign.files import atomic_write, sync_folder, write_error, write_json
from brainalign.recordings.epochs import shuffled

PARTS = ("train", "test")
BLOCK_BYTES = 64 * 2**20
Shares = Sequence[tuple[Path, dict[str, Any]]]


def merge_sessions(
    subject: str,
    sessions: Shares,
    settings: PrepareSettings,
    n_photos: dict[str, int | None],
    target: Path,
    *,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write a subject's folder beside the sessions, then give it its name: it is there whole or not at all.

    Parameters
    ----------
    subject : str
    sessions : sequence of (Path, dict)
        Folder and record of each finished session, in order.
    n_photos : dict
        Photos of each part where a list of them is at hand, else None.
    target : Path
        `OUT/sub-XX`; must not exist.

    Raises
    ------
    InputError
        If sessions do not fit together or a photo was never shown.
    """
    _check_alike(subject, sessions)
    stored = {part: _Stored(part, subject, sessions, n_photos[part]) for part in PARTS}
    building = sessions[0][0].parent / "merged"
    shutil.rmtree(building, ignore_errors=True)
    total = sum(one.n_trials for one in stored.values())
    done = 0
    try:
        building.mkdir(parents=True)
        for one in stored.values():
            one.write(building, settings.seed, lambda n, before=done: tick(before + n, total))  # type: ignore[misc]
            done += one.n_trials
        facts = _facts(subject, sessions, settings, stored)
        records = [{k: v for k, v in record.items() if k not in ("key", "bytes")} for _, record in sessions]
        write_json(building / "quality.json", facts | {"sessions": records})
        write_json(building / "info.json", facts)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(building, target)
        sync_folder(target.parent)
    except OSError as error:
        raise write_error(error, target) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _check_alike(subject: str, sessions: Shares) -> None:
    first = sessions[0][1]
    for _, record in sessions[1:]:
        for fact in ("ch_names", "times", "file_unit"):
            if record[fact] != first[fact]:
                problem = f"sessions {first['session']} and {record['session']} have different {fact}"
                raise InputError(
                    problem, where=f"sub-{subject}", hint="name the channels that all have with --channels"
                )


class _Stored:
    """One part of a subject: which trials of which session lie where."""

    def __init__(self, part: str, subject: str, sessions: Shares, n_photos: int | None) -> None:
        self.part = part
        self._files = [folder / f"{part}.npy" for folder, _ in sessions]
        self._numbers = [int(record["session"]) for _, record in sessions]
        facts = [record["parts"][part] for _, record in sessions]
        highest = max(max(one["conditions"]) for one in facts)
        self.n_images = highest if n_photos is None else n_photos
        if highest > self.n_images:
            problem = f"was shown {part} photo {highest}, the list of photos ends at {self.n_images}"
            raise InputError(problem, where=f"sub-{subject}", hint="check image_metadata.npy")
        # (n_sessions, n_images): trials of each condition in a session, and the row of its first one
        self._counts = np.zeros((len(facts), self.n_images), dtype=np.int64)
        self._rows = np.zeros_like(self._counts)
        for row, one in enumerate(facts):
            at = np.array(one["conditions"]) - 1
            self._counts[row, at] = one["kept"]
            self._rows[row, at] = np.cumsum([0, *one["kept"][:-1]])
        self.per_image = self._counts.sum(axis=0)
        missing = np.flatnonzero(self.per_image == 0)
        if len(missing):
            problem = (
                f"was never shown {len(missing)} of {self.n_images} {part} photos, first condition {missing[0] + 1}"
            )
            hint = f"there are sessions {self._numbers}; get the others from osf.io/crxs4 and run the same command"
            raise InputError(problem, where=f"sub-{subject}", hint=hint)
        self.n_repetitions = int(self.per_image.min())
        self.left_out = int(self.per_image.sum()) - self.n_images * self.n_repetitions

    @property
    def n_trials(self) -> int:
        """Trials that are stored."""
        return self.n_images * self.n_repetitions

    def write(self, folder: Path, seed: int, tick: Callable[[int], None]) -> None:
        """Write the signals and the session of each trial.

        The repetitions of a photo, session behind session, are put in the order that the published scripts draw: the
        first few of them are then of several sessions.
        """
        sources = [np.load(path, mmap_mode="r", allow_pickle=False) for path in self._files]
        shape = (self.n_images, self.n_repetitions, *sources[0].shape[1:])
        sessions = np.zeros(shape[:2], dtype="<i2")
        step = max(1, BLOCK_BYTES // (4 * int(np.prod(shape[1:]))))
        with atomic_write(folder / f"{self.part}.npy") as file:
            write_npy_header(file, shape)
            for start in range(0, self.n_images, step):
                stop = min(start + step, self.n_images)
                for image in range(start, stop):
                    chosen, sessions[image] = self._trials(image, sources, seed)
                    file.write(np.ascontiguousarray(chosen, dtype="<f4").data)
                tick(stop * self.n_repetitions)
        with atomic_write(folder / f"session_{self.part}.npy") as file:
            np.lib.format.write_array(file, sessions, version=(1, 0), allow_pickle=False)

    def _trials(
        self, image: int, sources: list[NDArray[np.float32]], seed: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        trials, numbers = [], []
        for session, source in enumerate(sources):
            count, row = self._counts[session, image], self._rows[session, image]
            trials.append(source[row : row + count])
            numbers.append(np.full(count, self._numbers[session]))
        order = shuffled(int(self.per_image[image]), seed)[: self.n_repetitions]
        return np.concatenate(trials)[order], np.concatenate(numbers)[order]


def _facts(subject: str, sessions: Shares, settings: PrepareSettings, stored: dict[str, _Stored]) -> dict[str, Any]:
    """What `info.json` says: what the reader needs, and where the signals are from."""
    first = sessions[0][1]
    return {
        "schema": SCHEMA,
        "subject": subject,
        "ch_names": first["ch_names"],
        "times": first["times"],
        "unit": settings.unit,
        "settings": settings.as_json(),
        "versions": versions(),
        "recorded_sfreq": first["recorded_sfreq"],
        "file_unit": first["file_unit"],
        "session_numbers": [record["session"] for _, record in sessions],
        "photos": {
            part: {
                "n_images": one.n_images,
                "repetitions": one.n_repetitions,
                "repetitions_kept": counted(one.per_image.tolist()),
                "trials_left_out": one.left_out,
            }
            for part, one in stored.items()
        },
        "odd_channels": {
            str(record["session"]): odd
            for _, record in sessions
            if (odd := odd_channels(record["ch_names"], record["parts"]["train"]["noise_uv"]))
        },
        "sources": {
            f"ses-{record['session']:02d}/{record['parts'][part]['source']['file']}": {
                key: record["parts"][part]["source"][key] for key in ("bytes", "sha256")
            }
            for _, record in sessions
            for part in PARTS
        },
    }
