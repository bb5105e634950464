"""Small files in exactly the layouts of THINGS-MEG and THINGS-fMRI, written with MNE and h5py."""

from __future__ import annotations

import pickle
from pathlib import Path

import h5py
import mne
import numpy as np
import pandas as pd
from PIL import Image

MEG_NAMES = ("MLO11-1609", "MRO12-1609", "MZP01-1609", "MLT11-1609", "MRF12-1609", "MZC01-1609")
MEG_TIMES = 281
# Concept, photos shown once; aardvark and bat1 are tested too.
MEG_EXP = [
    "aardvark_01b",
    "aardvark_02s",
    "abacus_03s",
    "abacus_04s",
    "bat1_01b",
    "bat1_05n",
    "coat_rack_13s",
    "dog_12s",
]
MEG_TEST = ["aardvark_14b", "bat1_15n"]
MEG_REPEATS = 12
MEG_CATCH = 5
CATCH_EVENT = 999999


def meg_table(repeats: int = MEG_REPEATS) -> pd.DataFrame:
    """The 18 columns of sample_attributes_P1.csv, trials in a fixed random order."""
    rows = []
    for kind, stems, times in (("exp", MEG_EXP, 1), ("test", MEG_TEST, repeats), ("catch", ["catch_1"], MEG_CATCH)):
        for at, stem in enumerate(stems):
            concept = stem.rpartition("_")[0]
            path = {
                "exp": f"images_meg/{concept}/{stem}.jpg",
                "test": f"images_test_meg/{stem}.jpg",
                "catch": "images_catch_meg/1.jpg",
            }[kind]
            rows += [{"trial_type": kind, "image_nr": at + 1, "image_path": path}] * times
    table = pd.DataFrame(rows).sample(frac=1, random_state=3).reset_index(drop=True)
    for name in ("category_nr", "exemplar_nr", "test_image_nr", "things_category_nr", "things_image_nr"):
        table[name] = 1.0
    for name in ("things_exemplar_nr", "onset", "image_on", "image_off", "responded", "key_id", "key_time", "RT"):
        table[name] = np.nan
    table["session_nr"] = np.arange(len(table)) // 10 + 1
    table["run_nr"] = np.arange(len(table)) // 5 % 2 + 1
    return table


def meg_codes(table: pd.DataFrame) -> np.ndarray:
    """Triggers: position of the photo in a sorted list, from 1; 999999 for catch trials."""
    order = {path: i + 1 for i, path in enumerate(sorted(set(table["image_path"])))}
    return np.array(
        [CATCH_EVENT if k == "catch" else order[p] for k, p in zip(table["trial_type"], table["image_path"])]
    )


def write_meg(
    folder: Path,
    subject: str = "1",
    *,
    table: pd.DataFrame | None = None,
    carried: bool = True,
    split: bool = False,
    scale: float = 1.0,
    n_chans: int = len(MEG_NAMES),
    positions: bool = True,
) -> np.ndarray:
    """Write preprocessed_P1-epo.fif (and its further parts); returns the epochs as written."""
    table = meg_table() if table is None else table
    names = (MEG_NAMES + tuple(f"MLT{i}-1609" for i in range(20, 20 + n_chans)))[:n_chans]
    info = mne.create_info(list(names), 200.0, "mag")
    for at, channel in enumerate(info["chs"]):
        channel["loc"][:3] = (0.01 * at, 0.1, 0.02) if positions else np.nan
    data = np.random.default_rng([7, int(subject)]).normal(size=(len(table), n_chans, MEG_TIMES)).astype(np.float32)
    data = data * np.float32(scale)
    events = np.c_[np.arange(len(table)) * 300, np.zeros(len(table), int), meg_codes(table)]
    metadata = table if carried else None
    epochs = mne.EpochsArray(data, info, events, tmin=-0.1, metadata=metadata, verbose="ERROR")
    folder.mkdir(parents=True, exist_ok=True)
    size = "2MB" if split else "2GB"
    epochs.save(folder / f"preprocessed_P{subject}-epo.fif", fmt="single", split_size=size, verbose="ERROR")
    return data


def write_photos(root: Path, stems: list[str]) -> None:
    """Tiny photos in object_images/CONCEPT/."""
    for at, stem in enumerate(stems):
        file = root / "object_images" / stem.rpartition("_")[0] / f"{stem}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (at * 40 % 256, at // 6 * 40 % 256, 9)).save(file)


FMRI_CONCEPTS = ("aardvark", "abacus", "bat1", "coat_rack", "dog", "eel", "fan", "goat")
FMRI_TRAIN = [f"{concept}_{i:02d}b" for concept in FMRI_CONCEPTS for i in (1, 2, 3)]
FMRI_TEST = ["aardvark_14n", "bat1_15n"]
FMRI_REPEATS = 12
N_VOXELS = 50


def stimulus_table() -> pd.DataFrame:
    """StimulusMetadata.csv: training photos once, test photos once a session, in a fixed random order."""
    rows = [("train", f"{s}.jpg", i % 12 + 1) for i, s in enumerate(FMRI_TRAIN)]
    rows += [("test", f"{s}.jpg", session + 1) for s in FMRI_TEST for session in range(FMRI_REPEATS)]
    table = pd.DataFrame(rows, columns=["trial_type", "stimulus", "session"]).sample(frac=1, random_state=1)
    table = table.reset_index(drop=True)
    table["run"], table["subject_id"], table["trial_id"] = 1, 1, np.arange(len(table))
    table["concept"] = table["stimulus"].str.rpartition("_")[0]
    return table[["trial_type", "session", "run", "subject_id", "trial_id", "stimulus", "concept"]]


def voxel_table(n: int = N_VOXELS) -> pd.DataFrame:
    """VoxelMetadata.csv with a few of its 41 columns; V1 is voxels 0-9, V2 10-24, lFFA 5-6."""
    at = np.arange(n)
    return pd.DataFrame(
        {
            "voxel_id": at,
            "subject_id": 1,
            "voxel_x": at % 2,
            "voxel_y": at % 5,
            "voxel_z": 3,
            "nc_singletrial": at / 100,
            "nc_testset": (at * 7 % n).astype(float),
            "splithalf_corrected": 0.0,
            "prf-size": 1.0,
            "V1": (at < 10).astype(int),
            "V2": ((at >= 10) & (at < 25)).astype(float),
            "LO1 (prf)": (at == 30).astype(int),
            "lFFA": np.isin(at, (5, 6)).astype(int),
        }
    )


def betas(n_voxels: int = N_VOXELS, n_trials: int | None = None) -> np.ndarray:
    """(voxels, trials) float64."""
    n_trials = len(stimulus_table()) if n_trials is None else n_trials
    return np.random.default_rng(2).normal(size=(n_voxels, n_trials))


def write_frame(path: Path, values: np.ndarray, *, labels: str = "pickled", **options: object) -> None:
    """A pandas frame in fixed format as PyTables writes it: voxel_id and one column a trial.

    `labels` says how the columns are named: 'pickled' (whole numbers beside the text voxel_id, as published) or 'text'.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        group = file.create_group("ResponseData")
        group.attrs["pandas_type"], group.attrs["nblocks"] = np.bytes_(b"frame"), 2
        group["axis1"] = np.arange(len(values))
        trials = np.arange(values.shape[1])
        for name, content in (("axis0", ["voxel_id", *trials.tolist()]), ("block0_items", trials.tolist())):
            if labels == "pickled":
                kind = h5py.vlen_dtype(np.uint8)
                stored = group.create_dataset(name, (1,), dtype=kind, chunks=(65536,), maxshape=(None,))
                stored[0] = np.frombuffer(pickle.dumps(np.array(content, dtype=object)), dtype=np.uint8)
            else:
                group[name] = np.array([str(value).encode() for value in content])
        group.create_dataset("block0_values", data=values, **options)
        group["block1_items"] = np.array([b"voxel_id"])
        group["block1_values"] = np.arange(len(values))[:, None]


def write_fmri(folder: Path, subject: str = "01", **options: object) -> np.ndarray:
    """betas_csv of one subject; returns the betas, (voxels, trials)."""
    folder.mkdir(parents=True, exist_ok=True)
    values = betas()
    write_frame(folder / f"sub-{subject}_ResponseData.h5", values, **options)
    stimulus_table().to_csv(folder / f"sub-{subject}_StimulusMetadata.csv")
    voxel_table().to_csv(folder / f"sub-{subject}_VoxelMetadata.csv")
    return values
