"""Small files in exactly the layout of NSD: all tables at full size, tiny volumes, scenes only where they are shown."""

from __future__ import annotations

from pathlib import Path

import h5py
import nibabel
import numpy as np
import pandas as pd
from PIL import Image
from scipy.io import savemat

SHAPE = (5, 6, 7)  # x, y, z as the NIfTI volumes have it
N_SHARED, N_OWN = 14, 50  # images shown in the first sessions
TRIALS = 750
MASK = np.random.default_rng(4).random(SHAPE) < 0.25
BETAS = "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR"
ROI = "nsddata/ppdata/subj01/func1pt8mm/roi"
DESIGN = "nsddata/experiments/nsd/nsd_expdesign.mat"
TABLE = "nsddata/experiments/nsd/nsd_stim_info_merged.csv"
SCENES = "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"


def design() -> dict[str, np.ndarray]:
    """Arrays of nsd_expdesign.mat, counted from 1; the first three sessions show 64 images over and over."""
    rng = np.random.default_rng(0)
    ids = rng.permutation(73_000) + 1
    shared = np.sort(ids[:1000])
    images = np.concatenate([np.tile(shared, (8, 1)), ids[1000:].reshape(8, 9000)], axis=1)
    order = rng.permutation(np.resize(np.arange(10_000), 30_000)) + 1
    few = np.r_[np.arange(N_SHARED), 1000 + np.arange(N_OWN)] + 1
    for session in range(3):
        shown = np.resize(few, TRIALS)
        if session == 0:
            shown[shown == N_SHARED] = 1  # this shared image comes in the later sessions only
        order[session * TRIALS : (session + 1) * TRIALS] = rng.permutation(shown)
    return {
        "masterordering": order[None].astype(np.uint16),
        "subjectim": images.astype(np.int32),
        "sharedix": shared[None].astype(np.int32),
        "stimpattern": np.zeros((40, 12, 75), np.uint8),
    }


def shown(n_sessions: int = 1) -> np.ndarray:
    """Image of every trial of subject 1, from 0."""
    made = design()
    positions = made["masterordering"][0, : TRIALS * n_sessions].astype(int) - 1
    return made["subjectim"][0, positions].astype(int) - 1


def write_design(root: Path, **changes: np.ndarray) -> None:
    """nsd_expdesign.mat; a change of None leaves an array out."""
    path = root / DESIGN
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {name: value for name, value in (design() | changes).items() if value is not None})


def stimulus_table() -> pd.DataFrame:
    """nsd_stim_info_merged.csv, with the trials of subject 1."""
    made = design()
    table = pd.DataFrame({"cocoId": np.arange(73_000) * 3 + 9, "cocoSplit": "train2017", "nsdId": np.arange(73_000)})
    table["shared1000"] = np.isin(table["nsdId"], made["sharedix"][0].astype(int) - 1)
    image = made["subjectim"][0, made["masterordering"][0].astype(int) - 1].astype(int) - 1
    trials = np.zeros((73_000, 3), dtype=int)
    seen = np.zeros(73_000, dtype=int)
    for trial, number in enumerate(image, start=1):
        if seen[number] < 3:
            trials[number, seen[number]] = trial
            seen[number] += 1
    for repetition in range(3):
        table[f"subject1_rep{repetition}"] = trials[:, repetition]
    return table


def colours(numbers: np.ndarray) -> np.ndarray:
    """3 x 3 colours of a scene, by its number, (n, 27) in 0 to 255."""
    return np.stack([np.random.default_rng([5, int(number)]).uniform(0, 255, 27) for number in numbers])


def write_scenes(root: Path, numbers: np.ndarray) -> None:
    """imgBrick of 73,000 scenes; those that are not written take no room."""
    path = root / SCENES
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        brick = file.create_dataset("imgBrick", (73_000, 425, 425, 3), "u1", chunks=(1, 425, 425, 3), compression="lzf")
        for number, field in zip(numbers, colours(numbers), strict=True):
            image = Image.fromarray(field.reshape(3, 3, 3).astype(np.uint8))
            brick[number] = np.asarray(image.resize((425, 425), Image.Resampling.BICUBIC))


def session_betas(session: int) -> np.ndarray:
    """int16 (750, x, y, z): a linear map of the colours, another gain and offset in every session, and noise."""
    rng = np.random.default_rng([6, session])
    weights = np.random.default_rng(7).normal(size=(27, *SHAPE))
    pattern = (colours(shown(session)[-TRIALS:]) - 128) / 74
    clean = np.einsum("tf,fxyz->txyz", pattern, weights)
    noisy = (1 + session) * (clean + rng.normal(size=clean.shape)) + session
    return np.clip(np.round(100 * noisy), -32767, 32767).astype(np.int16)


def write_betas(path: Path, volumes: np.ndarray, **options: object) -> None:
    """A session as MATLAB writes it: axes turned to (trials, z, y, x)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("betas", data=volumes.transpose(0, 3, 2, 1), **options)


def write_volume(path: Path, values: np.ndarray) -> None:
    """A NIfTI volume (x, y, z)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(values, np.eye(4)).to_filename(path)


def roi_labels() -> np.ndarray:
    """Labels -1 to 7 for prf-visualrois."""
    return np.random.default_rng(8).integers(-1, 8, SHAPE).astype(np.int16)


def ncsnr() -> np.ndarray:
    """Ratios, one of them missing."""
    values = np.random.default_rng(9).uniform(0, 2, SHAPE).astype(np.float32)
    values[tuple(np.argwhere(MASK)[0])] = np.nan
    return values


def write_nsd(root: Path, *, sessions: int = 1, scenes: bool = False, table: bool = False) -> None:
    """Subject 1 with its first sessions."""
    write_design(root)
    for session in range(1, sessions + 1):
        write_betas(root / BETAS / f"betas_session{session:02d}.hdf5", session_betas(session))
    write_volume(root / ROI / "nsdgeneral.nii.gz", np.where(MASK, 1, -1).astype(np.int16))
    write_volume(root / ROI / "prf-visualrois.nii.gz", roi_labels())
    write_volume(root / ROI / "floc-places.nii.gz", np.clip(roi_labels(), -1, 3).astype(np.float32))
    write_volume(root / BETAS / "ncsnr.nii.gz", ncsnr())
    if table:
        (root / TABLE).parent.mkdir(parents=True, exist_ok=True)
        stimulus_table().to_csv(root / TABLE)
    write_scenes(root, np.unique(shown(sessions)) if scenes else np.empty(0, int))
