"""Where the files of NSD lie: the layout of the public bucket, kept as it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from brainalign.errors import InputError

SPACE = "func1pt8mm"
BETAS = "betas_fithrf_GLMdenoise_RR"
DESIGN = "nsddata/experiments/nsd/nsd_expdesign.mat"
STIMULUS_TABLE = "nsddata/experiments/nsd/nsd_stim_info_merged.csv"
STIMULI = "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"
# Sessions a subject took part in (Allen et al. 2022, "Session completion").
SESSIONS = {"01": 40, "02": 40, "03": 32, "04": 30, "05": 40, "06": 32, "07": 40, "08": 30}
_SESSION = re.compile(r"betas_session(\d\d)\.hdf5")


@dataclass(frozen=True)
class SubjectFiles:
    """Files of one subject.

    Attributes
    ----------
    betas : tuple of Path
        `betas_session01.hdf5`, `betas_session02.hdf5`, ... without a gap.
    rois : Path
        Folder of the regions.
    ncsnr : Path
        Noise-ceiling signal-to-noise ratio of every voxel; need not be there.
    """

    betas: tuple[Path, ...]
    rois: Path
    ncsnr: Path

    @property
    def general(self) -> Path:
        """The mask of the voxels that are read."""
        return self.rois / "nsdgeneral.nii.gz"


def beta_folder(root: Path, subject: str) -> Path:
    """Folder of a subject's betas."""
    return root / "nsddata_betas" / "ppdata" / f"subj{subject}" / SPACE / BETAS


def subjects_in(root: Path) -> tuple[str, ...]:
    """Subjects of whom there is at least one session."""
    return tuple(s for s in SESSIONS if any(beta_folder(root, s).glob("betas_session*.hdf5")))


def subject_files(root: Path, subject: str) -> SubjectFiles:
    """The files of a subject.

    Raises
    ------
    InputError
        If there is no session, or one is missing in between.
    """
    folder = beta_folder(root, subject)
    found = {int(m[1]): path for path in folder.glob("betas_session*.hdf5") if (m := _SESSION.fullmatch(path.name))}
    if not found:
        other = next(iter(sorted(folder.glob("betas_session*.nii.gz"))), None)
        problem = f"holds {other.name}, expected betas_session01.hdf5" if other else "holds no betas_session01.hdf5"
        raise InputError(problem, where=folder, hint="see brainalign datasets check nsd")
    gap = next(i for i in range(1, max(found) + 2) if i not in found)
    if gap <= max(found):
        missing = folder / f"betas_session{gap:02d}.hdf5"
        raise InputError("no such file, later sessions are there", where=missing, hint="get the missing session")
    rois = root / "nsddata" / "ppdata" / f"subj{subject}" / SPACE / "roi"
    return SubjectFiles(tuple(found[i] for i in sorted(found)), rois, folder / "ncsnr.nii.gz")
