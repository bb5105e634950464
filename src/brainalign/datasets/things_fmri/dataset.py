"""The THINGS-fMRI reader."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from brainalign.cache import default_cache_dir
from brainalign.datasets.base import Dataset, DatasetInfo, Finding
from brainalign.datasets.things_fmri.betas import open_betas
from brainalign.datasets.things_fmri.store import check_fit, open_trials
from brainalign.datasets.things_fmri.tables import (
    SubjectFiles,
    read_trials,
    read_voxels,
    region_columns,
    subject_files,
)
from brainalign.datasets.things_photos import HOW_TO_GET, missing_photos, photo_set
from brainalign.errors import InputError
from brainalign.recordings import Recording
from brainalign.stimuli import StimulusSet

if TYPE_CHECKING:
    from brainalign.datasets.fetch import RemoteFile

# Hebart et al. 2023, "fMRI": 720 concepts x 12 photos once, 100 test photos twelve times (once a session).
PUBLISHED = {"train": (8_640, 1), "test": (100, 12)}


class ThingsFMRI(Dataset):
    """fMRI of three people who saw 8,640 photos once and 100 test photos twelve times; single-trial betas.

    The concepts of the test photos are among the training concepts: see the protocols.

    Parameters
    ----------
    root : path-like
        Folder that holds `betas_csv/sub-01_ResponseData.h5`, `sub-01_StimulusMetadata.csv` and
        `sub-01_VoxelMetadata.csv` (figshare), or `derivatives/ICA-betas/sub-01/voxel-metadata/...` (OpenNeuro).
    cache_dir : path-like, optional
        Where the betas are kept trial by trial (about 8.3 GB a subject); brainalign's cache by default.
    """

    info = DatasetInfo(
        name="things-fmri",
        title="THINGS-fMRI, single-trial betas of object photos",
        modality="fmri",
        subjects=("01", "02", "03"),
        protocol="things-fmri/intra/v1",
        licence="CC0 (fMRI); the THINGS photos belong to third parties, for research only",
        citation="Hebart, Contier, Teichmann, Rockter, Zheng, Kidder, Corriveau, Vaziri-Pashkam & Baker, THINGS-data, "
        "eLife 12:e82580, 2023",
        url="https://openneuro.org/datasets/ds004192",
        size="14.9 to 17.9 GB a subject, and half as much in the cache",
        layout="betas_csv/sub-0X_{ResponseData.h5,StimulusMetadata.csv,VoxelMetadata.csv}, or "
        "derivatives/ICA-betas/sub-0X/voxel-metadata/; object_images/CONCEPT/*.jpg",
    )

    def __init__(
        self, root: str | Path | None = None, *, preset: str | None = None, cache_dir: str | Path | None = None
    ) -> None:
        super().__init__(root, preset=preset)
        self._cache_dir = Path(cache_dir) if cache_dir is not None else None

    @property
    def cache_dir(self) -> Path:
        """Where derived copies are kept."""
        return self._cache_dir or default_cache_dir()

    @functools.cached_property
    def _found(self) -> dict[str, SubjectFiles]:
        return subject_files(self.require_root())

    @property
    def subjects(self) -> tuple[str, ...]:
        """Subjects whose betas are in the folder; all three before a folder is given."""
        return self.info.subjects if self.root is None else tuple(self._found)

    def _files(self, subject: str) -> SubjectFiles:
        if not self._found:
            hint = "looked for betas_csv/sub-01_ResponseData.h5; see brainalign datasets check things-fmri"
            raise InputError("holds no betas of THINGS-fMRI", where=self.require_root(), hint=hint)
        return self._found[self.require_subject(subject)]

    def stimuli(self, subject: str) -> StimulusSet:
        """Photos of a subject, `things/aardvark_01b`, in the order of their names; files need not be there yet."""
        return photo_set(self.require_root(), _stems(read_trials(self._files(subject).stimuli)))

    def recording(self, subject: str) -> Recording:
        """Betas of a subject, channels are voxels: `voxel000123` is voxel_id 123.

        The channel table is the published one, regions as booleans (`signals.channels=[roi:V1,roi:V2]`), with
        `noise_ceiling` for `nc_testset`. Voxels without any beta are left out.

        Raises
        ------
        InputError
            If files are missing or damaged, or do not fit together.
        """
        signals, trials, voxels = open_trials(self._files(subject), self.cache_dir)
        names = [f"voxel{number:06d}" for number in voxels["voxel_id"]]
        recording = Recording.from_arrays(
            signals,
            trials["stimulus_id"].tolist(),
            modality="fmri",
            subject=subject,
            ch_names=names,
            unit="beta",
            channels=voxels.drop(columns="empty"),
            check_finite=False,  # done once when the copy was made
            part=trials["part"].tolist(),
            session=trials["session"].tolist(),
            run=trials["run"].tolist(),
        )
        if not voxels["empty"].any():
            return recording
        return recording.pick([name for name, hollow in zip(names, voxels["empty"], strict=True) if not hollow])

    def check(self) -> list[Finding]:
        """Every subject's tables, counts and photos; what is missing and how to get it. Reads no betas."""
        root = self.require_root()
        findings, stems = [], set()
        for subject in self.subjects:
            try:
                files = self._found[subject]
                trials = read_trials(files.stimuli)
                findings.append(Finding(True, f"subject {subject}", _describe(files, trials)))
                stems |= set(_stems(trials))
            except InputError as error:
                findings.append(Finding(False, f"subject {subject}", str(error)))
        if stems:
            findings.append(_check_photos(photo_set(root, sorted(stems))))
        absent = [s for s in self.info.subjects if s not in self.subjects]
        if absent:
            text = (
                f"not here: subjects {', '.join(absent)}; brainalign datasets fetch things-fmri --subject {absent[0]}"
            )
            where = f"betas_csv/sub-{absent[0]}_ResponseData.h5"
            findings.append(Finding(bool(self.subjects), where, f"{text} --root {root}"))
        return findings

    @classmethod
    def remote_files(cls, subjects: tuple[str, ...], variant: str | None = None) -> list[RemoteFile]:
        """Betas and tables of the subjects, from OpenNeuro; the photos are under THINGS' own agreement."""
        from brainalign.datasets.sources import remote_files

        return remote_files(cls, subjects, variant)

    def recording_files(self, subject: str) -> tuple[Path, ...]:
        """Its betas."""
        return (self._found[subject].responses,)


def _stems(trials: pd.DataFrame) -> list[str]:
    return sorted({name.removeprefix("things/") for name in trials["stimulus_id"]})


def _describe(files: SubjectFiles, trials: pd.DataFrame) -> str:
    voxels = read_voxels(files.voxels)
    with open_betas(files.responses, trials.attrs["n_columns"]) as betas:
        check_fit(betas, voxels, files)
    words = [f"{len(voxels)} voxels, {len(region_columns(voxels))} regions, {len(trials)} trials"]
    for part, (n_photos, repetitions) in PUBLISHED.items():
        shown = trials.loc[trials["part"] == part, "stimulus_id"].value_counts()
        often = f"{shown.min()} to {shown.max()}" if len(shown) and shown.min() != shown.max() else shown.max()
        odd = "" if (len(shown), *shown.unique()) == (n_photos, repetitions) else ", not as published"
        words.append(f"{len(shown)} {part} photos x {often if len(shown) else 0}{odd}")
    if trials.attrs["n_catch"]:
        words.append(f"{trials.attrs['n_catch']} catch trials left out")
    return "; ".join(words)


def _check_photos(stimuli: StimulusSet) -> Finding:
    missing = missing_photos(stimuli)
    if missing:
        others = f", with {len(missing) - 1} others" if len(missing) > 1 else ""
        return Finding(False, missing[0], f"missing{others}; {HOW_TO_GET}")
    return Finding(True, "photos", f"{len(stimuli)} photos of {stimuli.table['concept'].nunique()} concepts")
