"""The THINGS-MEG reader."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from brainalign.cache import default_cache_dir
from brainalign.datasets.base import Dataset, DatasetInfo, Finding
from brainalign.datasets.things_meg.files import subject_files, subjects_in
from brainalign.datasets.things_meg.store import Epochs, describe_epochs, open_epochs
from brainalign.datasets.things_photos import HOW_TO_GET, missing_photos, photo_set
from brainalign.errors import InputError
from brainalign.recordings import Recording
from brainalign.stimuli import StimulusSet

if TYPE_CHECKING:
    from brainalign.datasets.fetch import RemoteFile

# Hebart et al. 2023, "MEG": 1,854 concepts x 12 photos once, 200 photos of further test trials twelve times.
PUBLISHED = {"train": (22_248, 1), "test": (200, 12)}
PUBLISHED_CATCH = 2_400
REGIONS = {"C": "central", "F": "frontal", "O": "occipital", "P": "parietal", "T": "temporal"}
SIDES = {"L": "left", "R": "right", "Z": "midline"}


class ThingsMEG(Dataset):
    """MEG of four people who saw 22,248 photos once and 200 test photos twelve times.

    Parameters
    ----------
    root : path-like
        Folder that holds `derivatives/preprocessed/preprocessed_P1-epo.fif` (or `preprocessed/`), its further parts
        `-epo-1.fif` ..., and `sourcedata/sample_attributes_P1.csv` unless the epochs carry that table.
    cache_dir : path-like, optional
        Where the epochs are kept as plain memory maps (8.2 GB a subject); brainalign's cache by default.
    """

    info = DatasetInfo(
        name="things-meg",
        title="THINGS-MEG, MEG to object photos",
        modality="meg",
        subjects=("1", "2", "3", "4"),
        protocol="things-meg/intra/v1",
        licence="CC0 (MEG); the THINGS photos belong to third parties, for research only",
        citation="Hebart, Contier, Teichmann, Rockter, Zheng, Kidder, Corriveau, Vaziri-Pashkam & Baker, THINGS-data, "
        "eLife 12:e82580, 2023",
        url="https://openneuro.org/datasets/ds004212",
        size="8.3 GB a subject, and as much in the cache",
        layout="derivatives/preprocessed/preprocessed_P{1..4}-epo.fif with -epo-1.fif ..., "
        "sourcedata/sample_attributes_P{1..4}.csv; object_images/CONCEPT/*.jpg",
    )

    def __init__(
        self, root: str | Path | None = None, *, preset: str | None = None, cache_dir: str | Path | None = None
    ) -> None:
        super().__init__(root, preset=preset)
        self._cache_dir = Path(cache_dir) if cache_dir is not None else None
        self._opened: dict[str, Epochs] = {}

    @property
    def cache_dir(self) -> Path:
        """Where derived copies are kept."""
        return self._cache_dir or default_cache_dir()

    @functools.cached_property
    def subjects(self) -> tuple[str, ...]:
        """Subjects whose epochs are in the folder; all four before a folder is given."""
        return self.info.subjects if self.root is None else tuple(subjects_in(self.require_root()))

    def _epochs(self, subject: str) -> Epochs:
        files = subject_files(self.require_root(), subject)
        if subject not in self._opened:
            self._opened[subject] = open_epochs(files, self.cache_dir)
        return self._opened[subject]

    def stimuli(self, subject: str) -> StimulusSet:
        """Photos of a subject, `things/aardvark_01b`, in the order of their names; files need not be there yet."""
        return self._stimuli(self._epochs(subject).trials)

    def _stimuli(self, trials: pd.DataFrame) -> StimulusSet:
        stems = sorted({name.removeprefix("things/") for name in trials["stimulus_id"]})
        return photo_set(self.require_root(), stems)

    def recording(self, subject: str) -> Recording:
        """Trials of a subject, -0.1 to 1.3 s; catch trials are left out.

        `trials` holds `part` ('train' for the photos shown once, 'test'), `session` and `run`; the channel table holds
        `region` and `side` from the sensors' names.

        Raises
        ------
        InputError
            If files are missing or damaged, or table and recording do not fit together.
        """
        epochs = self._epochs(subject)
        return Recording.from_arrays(
            epochs.signals,
            epochs.trials["stimulus_id"].tolist(),
            modality="meg",
            subject=subject,
            ch_names=epochs.ch_names,
            sfreq=epochs.sfreq,
            tmin=epochs.tmin,
            unit=epochs.unit,
            ch_pos=epochs.ch_pos,
            channels=sensor_table(epochs.ch_names),
            check_finite=False,  # done once when the copy was made
            part=epochs.trials["part"].tolist(),
            session=epochs.trials["session"].tolist(),
            run=epochs.trials["run"].tolist(),
        )

    def check(self) -> list[Finding]:
        """Every subject's parts, table, counts and photos; what is missing and how to get it. Reads no signals."""
        root = self.require_root()
        found = [self._check_subject(subject) for subject in self.subjects]
        findings = [finding for rows, _ in found for finding in rows]
        stems = sorted({name for _, names in found for name in names})
        if stems:
            findings.append(_check_photos(photo_set(root, stems)))
        absent = [s for s in self.info.subjects if s not in self.subjects]
        if absent:
            text = f"not here: subjects {', '.join(absent)}; brainalign datasets fetch things-meg --subject {absent[0]}"
            where = f"derivatives/preprocessed/preprocessed_P{absent[0]}-epo.fif"
            findings.append(Finding(bool(self.subjects), where, f"{text} --root {root}"))
        return findings

    def _check_subject(self, subject: str) -> tuple[list[Finding], set[str]]:
        where = f"subject {subject}"
        try:
            files = subject_files(self.require_root(), subject)
            trials, facts = describe_epochs(files)
        except InputError as error:
            return [Finding(False, where, str(error))], set()
        text = (
            f"{facts['n_epochs']} epochs in {len(files.parts)} parts, {facts['n_chans']} sensors, {facts['n_times']} "
            f"samples at {facts['sfreq']:g} Hz from {facts['tmin']:g} to {facts['tmax']:g} s; {_counts(trials, facts)}"
        )
        return [Finding(True, where, text)], {name.removeprefix("things/") for name in trials["stimulus_id"]}

    @classmethod
    def remote_files(cls, subjects: tuple[str, ...], variant: str | None = None) -> list[RemoteFile]:
        """Epochs and tables of the subjects, from OpenNeuro; the photos are under THINGS' own agreement."""
        from brainalign.datasets.sources import remote_files

        return remote_files(cls, subjects, variant)

    def recording_files(self, subject: str) -> tuple[Path, ...]:
        """Its epochs, part after part."""
        return tuple(subject_files(self.require_root(), subject).parts)


def sensor_table(ch_names: tuple[str, ...]) -> pd.DataFrame:
    """Region and side of CTF sensors, by their names: `MLO11-1609` is left occipital.

    Examples
    --------
    >>> sensor_table(("MLO11-1609", "MZP01-1609")).to_numpy().tolist()
    [['occipital', 'left'], ['parietal', 'midline']]
    """
    ctf = [name if len(name) > 3 and name[0] == "M" and name[1] in SIDES else "   " for name in ch_names]
    return pd.DataFrame(
        {"region": [REGIONS.get(name[2], "") for name in ctf], "side": [SIDES.get(name[1], "") for name in ctf]}
    )


def _counts(trials: pd.DataFrame, facts: dict[str, Any]) -> str:
    words = []
    for part, (n_photos, repetitions) in PUBLISHED.items():
        shown = trials.loc[trials["part"] == part, "stimulus_id"].value_counts()
        odd = "" if (len(shown), *shown.unique()) == (n_photos, repetitions) else ", not as published"
        often = f"{shown.min()} to {shown.max()}" if len(shown) and shown.min() != shown.max() else shown.max()
        words.append(f"{len(shown)} {part} photos x {often if len(shown) else 0}{odd}")
    words.append(f"{facts['n_catch']} catch trials left out")
    return ", ".join(words)


def _check_photos(stimuli: StimulusSet) -> Finding:
    missing = missing_photos(stimuli)
    if missing:
        others = f", with {len(missing) - 1} others" if len(missing) > 1 else ""
        return Finding(False, missing[0], f"missing{others}; {HOW_TO_GET}")
    return Finding(True, "photos", f"{len(stimuli)} photos of {stimuli.table['concept'].nunique()} concepts")
