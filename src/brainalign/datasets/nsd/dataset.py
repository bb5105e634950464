"""The NSD reader."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from brainalign.cache import default_cache_dir
from brainalign.datasets.base import Dataset, DatasetInfo, Finding
from brainalign.datasets.nsd.design import REPETITIONS, Design, read_design, stimulus_id, trial_rows
from brainalign.datasets.nsd.files import (
    DESIGN,
    SESSIONS,
    STIMULI,
    STIMULUS_TABLE,
    SubjectFiles,
    beta_folder,
    subject_files,
    subjects_in,
)
from brainalign.datasets.nsd.pictures import check_pictures, export_pictures, picture_name
from brainalign.datasets.nsd.store import open_sessions, volume_shape
from brainalign.datasets.nsd.voxels import REGIONS, read_voxels
from brainalign.errors import InputError
from brainalign.recordings import Recording
from brainalign.stimuli import StimulusSet

if TYPE_CHECKING:
    from brainalign.datasets.fetch import RemoteFile

HOW_TO_GET = (
    "sign the agreement at naturalscenesdataset.org, then aws s3 cp s3://natural-scenes-dataset/PATH to the same PATH"
)


class NSD(Dataset):
    """fMRI (7 tesla) of eight people who saw up to 10,000 scenes of COCO, each up to three times; single-trial betas.

    Parameters
    ----------
    root : path-like
        Folder that holds `nsddata`, `nsddata_betas` and `nsddata_stimuli` as the public bucket does.
    cache_dir : path-like, optional
        Where z-scored betas (about 1.9 GB for 40 sessions) and pictures (about 3.5 GB for 10,000) are kept;
        brainalign's cache by default.
    """

    info = DatasetInfo(
        name="nsd",
        title="Natural Scenes Dataset, single-trial betas of natural scenes at 7 tesla",
        modality="fmri",
        subjects=tuple(SESSIONS),
        protocol="nsd/intra/v1",
        licence="NSD terms and conditions, a signed agreement; the scenes are of COCO, owned by third parties",
        citation="Allen, St-Yves, Wu, Breedlove, Prince, Dowdle, Nau, Caron, Pestilli, Charest, Hutchinson, Naselaris "
        "& Kay, A massive 7T fMRI dataset to bridge cognitive neuroscience and artificial intelligence, Nature "
        "Neuroscience 25:116-126, 2022",
        url="https://naturalscenesdataset.org",
        size="41 GB for 40 sessions of a subject, 40 GB of scenes, and 5.4 GB a subject in the cache",
        layout="nsddata_betas/ppdata/subj0X/func1pt8mm/betas_fithrf_GLMdenoise_RR/betas_sessionYY.hdf5, ncsnr.nii.gz; "
        "nsddata/ppdata/subj0X/func1pt8mm/roi/*.nii.gz; nsddata/experiments/nsd/nsd_expdesign.mat; "
        "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5",
    )

    def __init__(
        self, root: str | Path | None = None, *, preset: str | None = None, cache_dir: str | Path | None = None
    ) -> None:
        super().__init__(root, preset=preset)
        self._cache_dir = Path(cache_dir) if cache_dir is not None else None
        self._progress: Callable[[int, int], None] | None = None

    @property
    def cache_dir(self) -> Path:
        """Where derived copies are kept."""
        return self._cache_dir or default_cache_dir()

    @functools.cached_property
    def subjects(self) -> tuple[str, ...]:
        """Subjects with betas in the folder; all eight before a folder is given."""
        return self.info.subjects if self.root is None else subjects_in(self.require_root())

    @functools.cached_property
    def _design(self) -> Design:
        return read_design(self.require_root())

    def _files(self, subject: str) -> SubjectFiles:
        root = self.require_root()
        if not self.subjects:
            hint = f"looked for {beta_folder(Path(), '01') / 'betas_session01.hdf5'}; see brainalign datasets check nsd"
            raise InputError("holds no betas of NSD", where=root, hint=hint)
        return subject_files(root, self.require_subject(subject))

    def _trials(self, subject: str) -> pd.DataFrame:
        return trial_rows(self._design, subject, len(self._files(subject).betas))

    def prepare(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Keep the progress bar for the export of scenes, which `stimuli` makes for its subject alone."""
        self._progress = progress

    def stimuli(self, subject: str) -> StimulusSet:
        """Scenes of a subject's sessions, `nsd/00123` (counted from 0), in the order of their numbers.

        They are taken out of `nsd_stimuli.hdf5` and kept as PNG the first time. With `nsd_stim_info_merged.csv` beside
        the design, the table also holds `coco_id` and `coco_split`.

        Raises
        ------
        InputError
            If a file is missing or damaged.
        """
        numbers = sorted(set(self._trials(subject)["image"].tolist()))
        folder = export_pictures(self.require_root() / STIMULI, numbers, self.cache_dir, self._progress)
        names = [picture_name(number) for number in numbers]
        table = pd.DataFrame({"stimulus_id": [stimulus_id(number) for number in numbers], "path": names})
        if self._design.coco is not None:
            rows = self._design.coco.iloc[numbers]
            table["coco_id"], table["coco_split"] = rows["cocoId"].to_numpy(), rows["cocoSplit"].to_numpy()
        return StimulusSet(table, folder)

    def recording(self, subject: str) -> Recording:
        """Betas of a subject in the voxels of `nsdgeneral`, z-scored within each session; channels are voxels.

        `voxel000123` is the voxel at place 123 of a volume (C order of z, y, x as the betas lie). The channel table
        holds `x`, `y`, `z`, the regions as booleans (`signals.channels=[roi:V1,roi:V2]`), `ncsnr` and `noise_ceiling`
        (percent, of means over three repetitions). `part` is 'test' for the shared images, else 'train'.

        Raises
        ------
        InputError
            If a file is missing or damaged, or files do not fit together.
        """
        files, trials = self._files(subject), self._trials(subject)
        shape = volume_shape(files.betas[0])
        voxels = read_voxels(files, shape)
        train = (trials["part"] == "train").to_numpy()
        signals, varies = open_sessions(files.betas, voxels, shape, train, self.cache_dir, self._progress)
        names = [f"voxel{place:06d}" for place in voxels["flat"]]
        recording = Recording.from_arrays(
            signals,
            trials["stimulus_id"].tolist(),
            modality="fmri",
            subject=subject,
            ch_names=names,
            unit="z",
            channels=voxels.drop(columns="flat"),
            check_finite=False,  # whole numbers divided by a spread above 0
            part=trials["part"].tolist(),
            session=trials["session"].tolist(),
        )
        if varies.all():
            return recording
        return recording.pick([name for name, varied in zip(names, varies, strict=True) if varied])

    def check(self) -> list[Finding]:
        """Design, scenes, and every subject's sessions, regions and ceilings; reads no betas and no scene."""
        root = self.require_root()
        findings = [self._check_design(), _check_table(root), _check_scenes(root)]
        findings += [self._check_subject(subject) for subject in self.subjects]
        absent = [s for s in self.info.subjects if s not in self.subjects]
        if absent:
            where = str(beta_folder(Path(), absent[0]) / "betas_session01.hdf5")
            text = f"not here: subjects {', '.join(absent)} (about 1 GB a session); {HOW_TO_GET}"
            findings.append(Finding(bool(self.subjects), where, text))
        return findings

    def _check_design(self) -> Finding:
        if not (self.require_root() / DESIGN).is_file():
            return Finding(False, DESIGN, f"missing (1 MB); {HOW_TO_GET}")
        try:
            shared = len(self._design.shared)
        except InputError as error:
            return Finding(False, DESIGN, str(error))
        return Finding(True, DESIGN, f"{len(self._design.order)} trials, {shared} shared images")

    def _check_subject(self, subject: str) -> Finding:
        where = f"subject {subject}"
        try:
            files = subject_files(self.require_root(), subject)
            shape = volume_shape(files.betas[0])
            for path in files.betas[1:]:
                if volume_shape(path) != shape:
                    problem = f"has volumes of {volume_shape(path)}, session 01 of {shape}"
                    raise InputError(problem, where=path, hint="download it again")
            voxels = read_voxels(files, shape)
            trials = self._trials(subject)
        except InputError as error:
            return Finding(False, where, str(error))
        words = [f"{len(files.betas)} of {SESSIONS[subject]} sessions, {len(voxels)} voxels of nsdgeneral"]
        counts = trials[trials["part"] == "test"]["stimulus_id"].value_counts()
        words.append(f"{trials['stimulus_id'].nunique() - len(counts)} training images")
        words.append(f"{(counts >= REPETITIONS).sum()} shared images shown {REPETITIONS} times, {len(counts)} in all")
        if absent := [name for name in REGIONS if name not in voxels.columns]:
            words.append(f"without {', '.join(absent)} (optional)")
        if "ncsnr" not in voxels.columns:
            words.append("without ncsnr.nii.gz (optional): no noise ceilings")
        return Finding(True, where, "; ".join(words))

    @classmethod
    def remote_files(cls, subjects: tuple[str, ...], variant: str | None = None) -> list[RemoteFile]:
        """It cannot be fetched: an agreement comes first.

        Raises
        ------
        InputError
            Always; it says how to get them.
        """
        raise InputError("dataset 'nsd' cannot be fetched: an agreement comes first", hint=HOW_TO_GET)

    def recording_files(self, subject: str) -> tuple[Path, ...]:
        """Its betas, session after session."""
        return tuple(sorted(beta_folder(self.require_root(), subject).glob("betas_session*.hdf5")))

    def facts(self, subjects: Iterable[str] | None = None) -> dict[str, Any]:
        """Name, recordings, and the number of sessions of every subject here: with more, other images are tested."""
        if self.root is None:
            return super().facts(subjects)
        sessions = {s: len(list(beta_folder(self.root, s).glob("betas_session*.hdf5"))) for s in self.subjects}
        return super().facts(subjects) | {"sessions": sessions}


def _check_table(root: Path) -> Finding:
    """The table of images is no must, and its pickled twin is never opened."""
    if (root / STIMULUS_TABLE).is_file():
        return Finding(True, STIMULUS_TABLE, "there; it is compared with the design")
    pickled = (root / STIMULUS_TABLE).with_suffix(".pkl").is_file()
    refused = "only the .pkl is here, which is never opened: a pickle can run any program; " if pickled else ""
    return Finding(not pickled, STIMULUS_TABLE, f"{refused}not here (optional, 12 MB); {HOW_TO_GET}")


def _check_scenes(root: Path) -> Finding:
    if not (root / STIMULI).is_file():
        return Finding(False, STIMULI, f"missing (40 GB); {HOW_TO_GET}")
    try:
        check_pictures(root / STIMULI)
    except InputError as error:
        return Finding(False, STIMULI, str(error))
    return Finding(True, STIMULI, "73000 scenes of 425 x 425 pixels")
