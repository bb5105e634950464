"""Voxels that are read (`nsdgeneral`), their regions and their noise ceilings."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainalign.datasets.nsd.design import REPETITIONS
from brainalign.datasets.nsd.files import SubjectFiles
from brainalign.errors import InputError

# Labels 1, 2, ... of each file, as its colour table names them; 0 is elsewhere in cortex, -1 is no cortex.
REGIONS: dict[str, tuple[str, ...]] = {
    "prf-visualrois": ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4"),
    "prf-eccrois": ("ecc0pt5", "ecc1", "ecc2", "ecc4", "ecc4+"),
    "floc-faces": ("OFA", "FFA-1", "FFA-2", "mTL-faces", "aTL-faces"),
    "floc-places": ("OPA", "PPA", "RSC"),
    "floc-bodies": ("EBA", "FBA-1", "FBA-2", "mTL-bodies"),
    "floc-words": ("OWFA", "VWFA-1", "VWFA-2", "mfs-words", "mTL-words"),
    "streams": ("early", "midventral", "midlateral", "midparietal", "ventral", "lateral", "parietal"),
}
# Regions whose parts lie in one file; the file's own name (`floc-faces`) stands for all its regions.
MERGED = {
    "V1": ("V1v", "V1d"), "V2": ("V2v", "V2d"), "V3": ("V3v", "V3d"), "FFA": ("FFA-1", "FFA-2"),
    "FBA": ("FBA-1", "FBA-2"), "VWFA": ("VWFA-1", "VWFA-2"),
}  # fmt: skip
AGAIN = "get it anew from the public bucket"


def noise_ceiling(ncsnr: NDArray[Any], repetitions: int = REPETITIONS) -> NDArray[np.float64]:
    """Percent of variance that could be explained in a mean over repetitions, 100 s^2 / (s^2 + 1 / n).

    Allen et al. 2022, Methods, "Noise ceiling estimation".

    Parameters
    ----------
    ncsnr : array
        Ratio s of the standard deviations of signal and noise, as published; NaN stays NaN.
    repetitions : int
        Trials n averaged.

    Examples
    --------
    >>> noise_ceiling(np.array([0.0, 1.0])).tolist()
    [0.0, 75.0]
    """
    squared = np.square(np.asarray(ncsnr, dtype=np.float64))
    return 100 * squared / (squared + 1 / repetitions)


def read_voxels(files: SubjectFiles, shape: tuple[int, int, int]) -> pd.DataFrame:
    """The voxels of `nsdgeneral`, in the order in which the betas lie.

    Parameters
    ----------
    files : SubjectFiles
    shape : tuple of 3 int
        Of a volume of betas as stored in HDF5: (z, y, x).

    Returns
    -------
    DataFrame
        One row a voxel: `flat` (its place in a volume of betas, C order of z, y, x), `x`, `y`, `z` (from 0), a boolean
        column for every region whose file is there and for the file itself, and `ncsnr` and `noise_ceiling` (percent,
        means over three repetitions) where `ncsnr.nii.gz` is there.

    Raises
    ------
    InputError
        If the mask is missing or empty, or a volume is damaged or of another shape.
    """
    mask = _volume(files.general, shape) > 0
    flat = np.flatnonzero(mask)
    if not len(flat):
        raise InputError("marks no voxel", where=files.general, hint=AGAIN)
    z, y, x = np.unravel_index(flat, shape)
    columns: dict[str, Any] = {"flat": flat, "x": x, "y": y, "z": z}
    for name, regions in REGIONS.items():
        path = files.rois / f"{name}.nii.gz"
        if path.is_file():
            columns |= _regions(_volume(path, shape).ravel()[flat], name, regions, path)
    for name, parts in MERGED.items():
        if parts[0] in columns:
            columns[name] = np.logical_or.reduce([columns[part] for part in parts])
    if files.ncsnr.is_file():
        ratio = _volume(files.ncsnr, shape).ravel()[flat].astype(np.float64)
        if (ratio < 0).any() or np.isinf(ratio).any():
            raise InputError("holds a negative or infinite ratio", where=files.ncsnr, hint=AGAIN)
        columns |= {"ncsnr": ratio, "noise_ceiling": noise_ceiling(ratio)}
    return pd.DataFrame(columns)


def _regions(labels: NDArray[Any], name: str, regions: tuple[str, ...], path: Path) -> dict[str, NDArray[np.bool_]]:
    wrong = np.logical_not(np.isin(labels, np.arange(-1, len(regions) + 1)))
    if wrong.any():
        problem = f"holds the label {labels[wrong][0]:g}, expected -1 to {len(regions)}"
        raise InputError(problem, where=path, hint=AGAIN)
    return {name: labels > 0} | {region: labels == at for at, region in enumerate(regions, start=1)}


def _volume(path: Path, shape: tuple[int, int, int]) -> NDArray[Any]:
    """A volume turned to (z, y, x); its size is checked before it is unpacked."""
    try:
        import nibabel
    except ImportError as error:
        raise InputError("needs nibabel", where=path, hint="pip install 'brainalign[fmri]'") from error
    try:
        image: Any = nibabel.load(path)  # type: ignore[attr-defined, unused-ignore]
        found = tuple(image.shape)
        if found != shape[::-1]:
            problem = f"has shape {found}, the betas are of {shape[::-1]}"
            raise InputError(problem, where=path, hint="both must be of one subject and resolution")
        if image.get_data_dtype().kind not in "fiu":
            raise InputError(f"is of {image.get_data_dtype()}, expected numbers", where=path, hint=AGAIN)
        values: NDArray[Any] = np.asanyarray(image.dataobj)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError("no such file", where=path, hint="see brainalign datasets check nsd") from error
    except (OSError, EOFError, ValueError, TypeError, zlib.error, nibabel.filebasedimages.ImageFileError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"is not a whole NIfTI volume ({reason})", where=path, hint=AGAIN) from error
    return np.ascontiguousarray(values.T)
