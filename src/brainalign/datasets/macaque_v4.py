"""Spike counts of macaque V4 neurons to natural photos (Cowley, Stan, Pillow & Smith 2023/2026)."""

from __future__ import annotations

import functools
import json
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainalign.datasets.base import Dataset, DatasetInfo, Finding
from brainalign.datasets.npy import read_numbers
from brainalign.errors import InputError
from brainalign.files import sha256_file
from brainalign.recordings import Recording
from brainalign.stimuli import StimulusSet
from brainalign.stimuli.images import open_archive

if TYPE_CHECKING:
    from brainalign.datasets.fetch import RemoteFile

COMMIT = "f4552ad9d34a466ebc66658f72a08a8e5038f1cf"
SOURCE = f"https://raw.githubusercontent.com/cowleygroup/V4_compact_models/{COMMIT}/data_V4_responses"

# Presentations a photo in each session, from the authors' table beside the data (mean where it differs between photos).
REPEATS = {
    "190923": 14, "190925": 14, "190927": 11, "190928": 13, "190929": 15, "201025": 12,
    "210224": 9, "210225": 6, "210305": 22, "210322": 4, "210325": 8, "210621": 16,
}  # fmt: skip


@functools.cache
def public_files() -> dict[str, dict[str, Any]]:
    """sha256 and bytes of every file of the public commit that we know of, by path."""
    text = resources.files("brainalign.datasets").joinpath("macaque_v4.json").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = json.loads(text)
    return found


class MacaqueV4(Dataset):
    """Recordings of V4 with Utah arrays while a monkey fixated natural photos.

    Every session shows its own photos, so a session takes the part of a subject. Signals are spike counts in one 100 ms
    bin. Where the raw trials of a session lie beside the means, single trials are read; else the published means, which
    say how many presentations they hold.
    """

    info = DatasetInfo(
        name="macaque-v4",
        title="Macaque V4, spike counts to natural photos",
        modality="spikes",
        subjects=tuple(REPEATS),
        protocol="macaque-v4/within-session/v1",
        licence="GPL-3.0 (data repository); the photos belong to third parties",
        citation="Cowley, Stan, Pillow & Smith, Compact deep neural network models of the visual cortex, "
        "bioRxiv 2023.11.22.568315",
        url="https://github.com/cowleygroup/V4_compact_models",
        size="3 to 5 MB a session",
        layout="images/images_S.zip, responses_repeat_averaged/responses_S.npy, responses_raw/ (optional)",
    )

    @property
    def subjects(self) -> tuple[str, ...]:
        """Sessions whose photos and responses lie in the folder (all known ones before a folder is given)."""
        if self.root is None:
            return self.info.subjects
        folder = self.require_root() / "images"
        found = sorted(p.stem.removeprefix("images_") for p in folder.glob("images_*.zip") if p.is_file())
        return tuple(s for s in found if self._averaged(s).is_file() or self._raw(s).is_file())

    def _averaged(self, session: str) -> Path:
        return self.require_root() / "responses_repeat_averaged" / f"responses_{session}.npy"

    def _raw(self, session: str) -> Path:
        return self.require_root() / "responses_raw" / f"responses_{session}.npy"

    def require_subject(self, subject: str) -> str:
        """`subject` if its files are here, else an error that says how to get them."""
        if subject not in self.subjects:
            for path in (f"images/images_{subject}.zip", f"responses_repeat_averaged/responses_{subject}.npy"):
                if subject in REPEATS and not (self.require_root() / path).is_file():
                    hint = f"brainalign datasets fetch macaque-v4 --subject {subject} --root {self.root}"
                    raise InputError("no such file", where=self.require_root() / path, hint=hint)
        return super().require_subject(subject)

    def _open_session(self, session: str) -> str:
        self.require_root()
        return self.require_subject(session)

    def stimuli(self, subject: str) -> StimulusSet:
        """Photos of a session, `macaque-v4/SESSION/image0001` in the order of the response columns.

        Raises
        ------
        InputError
            If the archive is missing or damaged, or holds no photo or one twice.
        """
        archive = self.require_root() / "images" / f"images_{self._open_session(subject)}.zip"
        members = sorted(n for n in open_archive(archive).namelist() if n.lower().endswith(".jpg"))
        if not members:
            raise InputError("holds no .jpg", where=archive, hint="download it again")
        ids = [f"macaque-v4/{subject}/{Path(m).stem}" for m in members]
        if len(set(ids)) < len(ids):
            twice = next(Path(m).name for m, name in zip(members, ids, strict=True) if ids.count(name) > 1)
            raise InputError(f"holds {twice} twice", where=archive, hint="download it again")
        return StimulusSet(pd.DataFrame({"stimulus_id": ids, "path": [f"{archive}!{m}" for m in members]}))

    def recording(self, subject: str) -> Recording:
        """Spike counts of a session, channels are neurons.

        Raises
        ------
        InputError
            If a file is missing or damaged, or neurons and photos do not match.
        """
        ids = self.stimuli(subject).ids
        raw = self._raw(subject)
        counts, source = (
            (_load(raw, 3), raw) if raw.is_file() else (_load(self._averaged(subject), 2), self._averaged(subject))
        )
        if counts.shape[1] != len(ids):
            raise InputError(
                f"has {counts.shape[1]} photos, the archive {len(ids)}", where=source, hint="download both again"
            )
        names = [f"neuron{i + 1:03d}" for i in range(counts.shape[0])]
        if counts.ndim == 2:
            signals, shown = counts.T[:, :, None], list(ids)
            n_averaged = [REPEATS.get(subject, 1)] * len(ids)
        else:
            signals, shown = _single_trials(counts, ids, source)
            n_averaged = [1] * len(shown)
        try:
            return Recording.from_arrays(
                signals.astype(np.float32),
                shown,
                modality="spikes",
                subject=subject,
                ch_names=names,
                unit="spikes / 100 ms",
                n_averaged=n_averaged,
            )
        except InputError as error:
            raise InputError(error.problem, where=source, hint=error.hint) from error

    def recording_files(self, subject: str) -> tuple[Path, ...]:
        """Raw trials where they are here (they are read, not the means), else the means."""
        raw = self._raw(subject)
        return (raw if raw.is_file() else self._averaged(subject),)

    @classmethod
    def remote_files(cls, subjects: tuple[str, ...], variant: str | None = None) -> list[RemoteFile]:
        """Photos and responses of the sessions (of all known ones, where none is named), at the public commit.

        Raises
        ------
        InputError
            If a variant is asked for: there is one only.
        """
        from brainalign.datasets.fetch import RemoteFile

        if variant is not None:
            raise InputError(f"dataset 'macaque-v4' has no variant '{variant}'", hint="leave it out")
        for subject in subjects:
            cls().require_subject(subject)
        wanted = subjects or cls.info.subjects
        return [
            RemoteFile(url=f"{SOURCE}/{path}", path=path, sha256=facts["sha256"], size=facts["bytes"])
            for path, facts in public_files().items()
            if path.rsplit("_", 1)[1].split(".")[0] in wanted
        ]

    def check(self) -> list[Finding]:
        """Every known session: there or not, whole or damaged, sha256 against the public commit."""
        root = self.require_root()
        findings = []
        for path, facts in public_files().items():
            file = root / path
            if not file.is_file():
                session = path.rsplit("_", 1)[1].split(".")[0]
                hint = f"brainalign datasets fetch macaque-v4 --subject {session} --root {root}"
                findings.append(Finding(True, path, f"not here (optional); {hint}"))
            elif file.stat().st_size != facts["bytes"]:
                findings.append(
                    Finding(False, path, f"{file.stat().st_size} bytes, expected {facts['bytes']}; fetch it again")
                )
            elif sha256_file(file) != facts["sha256"]:
                findings.append(Finding(False, path, "differs from the public commit (sha256); fetch it again"))
            else:
                findings.append(Finding(True, path, "whole, as published"))
        for subject in self.subjects:
            try:
                recording = self.recording(subject)
                shape = f"{recording.n_chans} neurons, {len(recording.index)} photos, {len(recording)} rows"
                findings.append(Finding(True, f"session {subject}", shape))
            except InputError as error:
                findings.append(Finding(False, f"session {subject}", str(error)))
        if not self.subjects:
            findings.append(Finding(False, str(root), f"no whole session; layout: {self.info.layout}"))
        return findings


def _load(path: Path, ndim: int) -> NDArray[np.float64]:
    """Read (neurons, images[, repeats]) without unpickling."""
    counts: NDArray[np.float64] = read_numbers(path, hint="download it again")
    if counts.ndim != ndim or counts.dtype.kind != "f" or 0 in counts.shape:
        axes = "(neurons, images)" if ndim == 2 else "(neurons, images, repeats)"
        problem = f"has shape {counts.shape} of {counts.dtype}, expected {axes} of float64"
        raise InputError(problem, where=path, hint="download it again")
    if (counts < 0).any():
        neuron, photo = np.argwhere(counts < 0)[0][:2]
        problem = f"holds a negative spike count, first of neuron {neuron + 1} and photo {photo + 1}"
        raise InputError(problem, where=path, hint="download it again")
    return counts


def _single_trials(
    counts: NDArray[np.float64], ids: tuple[str, ...], source: Path
) -> tuple[NDArray[np.float64], list[str]]:
    """Unstack (neurons, images, repeats) with NaN for repeats that were not shown."""
    shown = np.logical_not(np.isnan(counts).all(axis=0))
    never = np.logical_not(shown.any(axis=1))
    if never.any():
        problem = f"photo {int(never.argmax()) + 1} has no trial"
        raise InputError(problem, where=source, hint="download it again")
    image, repeat = np.nonzero(shown)
    return counts[:, image, repeat].T[:, :, None], [ids[i] for i in image]
