"""The tables beside the betas of THINGS-fMRI: which photo each trial showed, and what is known of each voxel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from brainalign.datasets.things_photos import photo_id, photo_stem
from brainalign.errors import InputError

TABLE_BYTES_MAX = 1024 * 2**20
KINDS = ("train", "test", "catch")
# Columns of the voxel table that hold 0 and 1 by chance are no regions.
NOT_REGIONS = ("voxel_id", "subject_id", "voxel_x", "voxel_y", "voxel_z")
NOT_REGION_PREFIXES = ("nc_", "splithalf", "prf", "Unnamed")
NOISE_CEILING = "nc_testset"


@dataclass(frozen=True)
class SubjectFiles:
    """Files of one subject."""

    responses: Path
    stimuli: Path
    voxels: Path

    @property
    def all(self) -> tuple[Path, ...]:
        """All three."""
        return self.responses, self.stimuli, self.voxels


def subject_files(root: Path) -> dict[str, SubjectFiles]:
    """Subjects found below the root, in either layout: figshare's `betas_csv/`, or the ICA-betas of OpenNeuro.

    Raises
    ------
    InputError
        If a subject lies in two places.
    """
    found: dict[str, SubjectFiles] = {}
    for path in _response_files(root):
        subject = path.name[4:6]
        if subject in found:
            problem = f"subject {subject} lies here and in {found[subject].responses.parent}"
            raise InputError(problem, where=path, hint="keep one of them below this root")
        found[subject] = _beside(path)
    return dict(sorted(found.items()))


def _response_files(root: Path) -> list[Path]:
    figshare = [p for place in ("betas_csv", "derivatives/betas_csv", "") for p in
                sorted((root / place).glob("sub-[0-9][0-9]_ResponseData.h5"))]  # fmt: skip
    pattern = "sub-[0-9][0-9]/voxel-metadata/sub-[0-9][0-9]_task-things_voxel-wise-responses.h5"
    openneuro = [
        p for place in ("derivatives/ICA-betas", "ICA-betas", "") for p in sorted((root / place).glob(pattern))
    ]
    return figshare + openneuro


def _beside(path: Path) -> SubjectFiles:
    if path.name.endswith("_ResponseData.h5"):
        base = path.name.removesuffix("ResponseData.h5")
        return SubjectFiles(
            path, path.with_name(f"{base}StimulusMetadata.csv"), path.with_name(f"{base}VoxelMetadata.csv")
        )
    base = path.name.removesuffix("voxel-wise-responses.h5")
    tables = []
    for name in ("stimulus-metadata", "voxel-metadata"):
        tsv, csv = (path.with_name(f"{base}{name}.{suffix}") for suffix in ("tsv", "csv"))
        tables.append(csv if csv.is_file() else tsv)
    return SubjectFiles(path, *tables)


def _read(path: Path, wanted: tuple[str, ...]) -> pd.DataFrame:
    """Read a table; the files of OpenNeuro are called .tsv and separate by commas, so the header line decides."""
    try:
        if path.stat().st_size > TABLE_BYTES_MAX:
            raise InputError("is larger than 1 GiB", where=path, hint="this is no table of this data set")
        with open(path, encoding="utf-8") as file:
            header = file.readline(2**16)
        table = pd.read_csv(path, sep="\t" if header.count("\t") > header.count(",") else ",", low_memory=False)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=path, hint="get it too") from error
    except (ValueError, UnicodeDecodeError, pd.errors.ParserError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"is not a table ({reason})", where=path, hint="get it anew") from error
    missing = [name for name in wanted if name not in table.columns]
    if missing:
        listed = ", ".join(map(str, table.columns[:20]))
        raise InputError(f"has no column '{missing[0]}'", where=path, hint=f"it has {listed}")
    if table.empty:
        raise InputError("has no row", where=path, hint="get it anew")
    return table


def read_trials(path: Path) -> pd.DataFrame:
    """Trials in the order of the columns of the betas.

    Returns
    -------
    DataFrame
        Columns `column` (of the betas), `stimulus_id`, `part` ('train', 'test'), `session`, `run`; catch trials, whose
        images are no photos, are left out, and `attrs['n_catch']`, `attrs['n_columns']` count them and all.

    Raises
    ------
    InputError
        If the table cannot be used.
    """
    table = _read(path, ("trial_type", "session", "run", "stimulus"))
    if "trial_id" in table.columns and sorted(table["trial_id"].tolist()) == list(range(len(table))):
        table = table.sort_values("trial_id", ignore_index=True)
    kinds = table["trial_type"].astype(str).str.strip()
    unknown = [kind for kind in kinds.unique() if kind not in KINDS]
    if unknown:
        raise InputError(f"has the trial_type '{unknown[0]}'", where=path, hint=f"expected {', '.join(KINDS)}")
    shown = table[kinds != "catch"]
    for name in ("session", "run"):
        numbers = pd.to_numeric(shown[name], errors="coerce")
        if numbers.isna().any() or (numbers != numbers.round()).any():
            raise InputError(f"has a {name} that is no whole number", where=path, hint="get it anew")
    stems = [photo_stem(str(name), path) for name in shown["stimulus"]]
    trials = pd.DataFrame({"column": shown.index.to_numpy(), "stimulus_id": [photo_id(stem) for stem in stems]})
    trials["part"] = kinds[kinds != "catch"].to_numpy()
    for name in ("session", "run"):
        trials[name] = shown[name].to_numpy().astype(np.int64)
    both = set(trials.loc[trials["part"] == "train", "stimulus_id"]) & set(
        trials.loc[trials["part"] == "test", "stimulus_id"]
    )
    if both:
        raise InputError(f"{min(both)} is a training and a test photo", where=path, hint="get it anew")
    trials.attrs |= {"n_catch": int((kinds == "catch").sum()), "n_columns": len(table)}
    return trials


def read_voxels(path: Path) -> pd.DataFrame:
    """The voxel table with `noise_ceiling` (percent of variance, of a mean over the test repetitions) beside it.

    Regions are columns of 0 and 1 and come back as booleans.

    Raises
    ------
    InputError
        If the table cannot be used, or a voxel stands twice.
    """
    table = _read(path, ("voxel_id",))
    ids = table["voxel_id"]
    if ids.duplicated().any():
        raise InputError(f"voxel {ids[ids.duplicated()].iloc[0]} stands twice", where=path, hint="get it anew")
    for name in region_columns(table):
        table[name] = table[name].fillna(0).astype(bool)
    if NOISE_CEILING in table.columns:
        table["noise_ceiling"] = pd.to_numeric(table[NOISE_CEILING], errors="coerce")
    return table


def region_columns(table: pd.DataFrame) -> list[str]:
    """Columns that say for each voxel whether it is in a region."""
    named = [n for n in map(str, table.columns) if n not in NOT_REGIONS and not n.startswith(NOT_REGION_PREFIXES)]
    return [
        n
        for n in named
        if pd.api.types.is_bool_dtype(table[n])
        or (pd.api.types.is_numeric_dtype(table[n]) and set(table[n].dropna().unique()) <= {0, 1})
    ]
