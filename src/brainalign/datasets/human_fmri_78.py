"""Dissimilarities of 15 people in EVC and IT for 78 object photos (Cichy et al. 2019); no signals are published."""

from __future__ import annotations

import functools
import json
import zipfile
from importlib import resources
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainalign.datasets.base import Dataset, DatasetInfo, Finding
from brainalign.errors import InputError, unknown_name
from brainalign.files import sha256_file
from brainalign.recordings import Recording
from brainalign.recordings.dissimilarities import Dissimilarities
from brainalign.stimuli import StimulusSet

if TYPE_CHECKING:
    from brainalign.datasets.fetch import RemoteFile

COMMIT = "b59ed47dc88e3c120e43f5726ede126e902843e8"
N_SUBJECTS, N_IMAGES = 15, 78
REGIONS = ("EVC", "IT")
ARRAY = "arr_0"
SHAPE = (N_SUBJECTS, N_IMAGES, N_IMAGES)


@functools.cache
def public_files() -> dict[str, dict[str, Any]]:
    """sha256 and bytes of every file of the public commit that is read here, by path below the data folder."""
    text = resources.files("brainalign.datasets").joinpath("human_fmri_78.json").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = json.loads(text)
    return found


class HumanFMRI78(Dataset):
    """Representational dissimilarities of 15 people, in early visual cortex (EVC) and inferior temporal cortex (IT).

    There are no signals, only a 78 x 78 matrix a person and region: `dissimilarities` reads them, `recording` refuses.
    """

    info = DatasetInfo(
        name="human-fmri-78",
        title="Human fMRI, dissimilarities of 78 object photos in EVC and IT",
        modality="fmri",
        subjects=tuple(f"{i + 1:02d}" for i in range(N_SUBJECTS)),
        protocol="",
        licence="BSD-3-Clause (data repository); the photos belong to third parties",
        citation="Cichy et al., The Algonauts Project, arXiv 1905.05675 (2019), test set",
        url="https://github.com/cvai-roig-lab/Net2Brain",
        size="3.8 MB",
        layout="brain_data/fmri_EVC_RDMs.npz, brain_data/fmri_IT_RDMs.npz, stimuli_data/image_01.jpg to image_78.jpg",
    )

    @property
    def regions(self) -> tuple[str, ...]:
        """Regions that `dissimilarities` knows."""
        return REGIONS

    def stimuli(self, subject: str = "") -> StimulusSet:
        """The 78 photos, `human-fmri-78/image_01` in the order of rows and columns; the same for everybody.

        Raises
        ------
        InputError
            If a photo is missing, or there are more.
        """
        if subject:
            self.require_subject(subject)
        folder = self.require_root() / "stimuli_data"
        if not folder.is_dir():
            raise InputError("no such folder", where=folder, hint=f"--root is the folder of {self.info.layout}")
        found = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))
        expected = [f"image_{i + 1:02d}.jpg" for i in range(N_IMAGES)]
        if found != expected:
            missing, more = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
            what = f"has no {missing[0]}" if missing else f"holds {more[0]}"
            problem = f"{what}; expected {expected[0]} to {expected[-1]}, got {len(found)} photos"
            raise InputError(problem, where=folder, hint="their order is that of the matrices: get the folder anew")
        ids = [f"{self.info.name}/{Path(name).stem}" for name in expected]
        return StimulusSet(pd.DataFrame({"stimulus_id": ids, "path": expected}), folder)

    def dissimilarities(self, region: str) -> Dissimilarities:
        """Matrices of all 15 people in a region, as published.

        Parameters
        ----------
        region : {'EVC', 'IT'}

        Raises
        ------
        InputError
            If the region is unknown, or a file is missing or damaged.
        """
        if region not in REGIONS:
            raise unknown_name("region", region, REGIONS, where=self.info.name)
        path = self.require_root() / "brain_data" / f"fmri_{region}_RDMs.npz"
        values = _load(path)
        ids = self.stimuli().ids
        return Dissimilarities.from_array(
            values, ids, self.info.subjects, name=region, measure="as published", where=path
        )

    def recording(self, subject: str) -> Recording:
        """There is none.

        Raises
        ------
        InputError
            Always.
        """
        problem = f"dataset '{self.info.name}' holds dissimilarities and no signals: nothing can be trained on it"
        raise InputError(problem, hint=f"brainalign analyze rsa --dataset {self.info.name} compares models with it")

    @classmethod
    def remote_files(cls, subjects: tuple[str, ...], variant: str | None = None) -> list[RemoteFile]:
        """It cannot be fetched by file: the repository serves it as one archive.

        Raises
        ------
        InputError
            Always; it says how to get it.
        """
        hint = f"clone {cls.info.url} at {COMMIT} and give the folder that holds brain_data and stimuli_data as --root"
        raise InputError(f"dataset '{cls.info.name}' cannot be fetched file by file", hint=hint)

    def check(self) -> list[Finding]:
        """Every file: there or not, whole or damaged, sha256 against the public commit."""
        root = self.require_root()
        findings = []
        for name, facts in public_files().items():
            path = root / name
            if not path.is_file():
                findings.append(Finding(False, name, f"missing; get it from {self.info.url} at {COMMIT[:12]}"))
            elif sha256_file(path) != facts["sha256"]:
                findings.append(Finding(False, name, "differs from the public commit (sha256); get it anew"))
            else:
                findings.append(Finding(True, name, "whole, as published"))
        for region in REGIONS:
            try:
                found = self.dissimilarities(region)
                people, images = len(found.subjects), len(found.stimulus_ids)
                findings.append(Finding(True, f"region {region}", f"{people} people, {images} x {images} photos"))
            except InputError as error:
                findings.append(Finding(False, f"region {region}", str(error)))
        return findings


def _load(path: Path) -> NDArray[np.float64]:
    """The matrices of a region, (15, 78, 78), read without unpickling; the size is checked before any is read."""
    again, member = "get it anew", f"{ARRAY}.npy"
    if not path.is_file():
        raise InputError("no such file", where=path, hint="--root is the folder that holds brain_data and stimuli_data")
    try:
        with zipfile.ZipFile(path) as archive:
            if member not in archive.namelist():
                held = ", ".join(archive.namelist()[:4]) or "nothing"
                raise InputError(f"holds {held}, expected an array named {ARRAY}", where=path, hint=again)
            with archive.open(member) as file:
                return _matrices(file, path)
    except InputError:
        raise
    except Exception as error:  # zipfile and numpy's reader of headers raise errors of many kinds
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise InputError(f"is not a whole .npz file of numbers ({reason})", where=path, hint=again) from error


def _matrices(file: IO[bytes], path: Path) -> NDArray[np.float64]:
    """Header first: it may claim any size, and numpy would reserve it."""
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_columns, dtype = read_header(file)
    if shape != SHAPE or dtype.kind != "f":
        raise InputError(f"has shape {shape} of {dtype}, expected {SHAPE} of float64", where=path, hint="get it anew")
    values = np.frombuffer(file.read(int(np.prod(SHAPE)) * dtype.itemsize), dtype)
    return values.reshape(SHAPE, order="F" if by_columns else "C").astype(np.float64)
