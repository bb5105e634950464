"""`virtual-fmri`: single-trial betas of the same virtual subjects, who look at the same pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainalign.datasets.base import DatasetInfo
from brainalign.datasets.virtual.betas import VirtualBetas, virtual_betas
from brainalign.datasets.virtual.brain import generator, subject_brain
from brainalign.datasets.virtual.config import FMRI_PRESETS, VirtualBrainConfig, VoxelPreset
from brainalign.datasets.virtual.cortex import ROI_LABELS, Cortex, subject_cortex, voxel_patterns
from brainalign.datasets.virtual.head import standard_head
from brainalign.datasets.virtual.virtual_dataset import VirtualDataset
from brainalign.datasets.virtual.voxel_truth import noise_ceiling, planted_voxels, voxel_variances
from brainalign.recordings import Recording

CATCH_SHARE = 0.1


class VirtualFMRI(VirtualDataset):
    """fMRI computed from the brains of `virtual-eeg`, recorded as THINGS-fMRI was; see `VirtualDataset`.

    Voxels are a subject's own: subjects differ in their number, and names carry the subject. Recordings of several
    subjects can therefore not train one encoder, as in real brains that are not aligned with each other.
    """

    info = DatasetInfo(
        name="virtual-fmri",
        title="VIRTUAL fMRI: computed from a model of the brain, not measured",
        modality="fmri",
        subjects=FMRI_PRESETS["small"].subjects,
        protocol="virtual-fmri/intra/v1",
        licence="same as this library",
        citation="computed by brainalign; the model is written down in docs/virtual-brain.md",
        size="made on demand; about 30 MB of pictures and features (small)",
        layout="no files; presets small (default) and full",
        virtual=True,
    )
    presets = tuple(FMRI_PRESETS)
    sizes = FMRI_PRESETS
    model_version = 1
    unused_options = ("jitter_s",)  # 10 ms are nothing to a response of seconds

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._made: dict[str, tuple[VirtualBetas, Cortex, pd.DataFrame]] = {}

    def recording(self, subject: str) -> Recording:
        """Single-trial betas of a subject, percent signal change, made when they are read.

        The channel table has a row a voxel: `region` ('V1', 'LOC', ...), `hemisphere` ('l', 'r'), the columns of
        THINGS-fMRI that say whether it is in `V1`, `V2`, `V3`, `hV4`, `lLOC`, `rLOC`, `lFFA`, `rFFA`, `lPPA`, `rPPA`;
        `nc_singletrial` and `nc_testset` (noise ceilings in percent of variance, of single trials and of the mean of
        a test image; from the model, not from test trials) with `noise_ceiling` for the latter; `rf_x`, `rf_y`,
        `rf_size` (receptive field in picture sides from the middle, right and up; NaN in the late regions).
        """
        betas, cortex, table = self._subject(self.require_subject(subject))
        return Recording.from_arrays(
            betas,
            table["stimulus_id"].tolist(),
            modality="fmri",
            subject=subject,
            ch_names=voxel_names(subject, len(cortex)),
            unit="% signal change",
            ch_pos=cortex.positions,
            channels=self._channels(betas, cortex),
            check_finite=False,
            session=table["session"].tolist(),
            run=table["run"].tolist(),
            repetition=table["repetition"].tolist(),
            part=table["part"].tolist(),
        )

    def responses(self, subject: str, stimulus_ids: Sequence[str]) -> NDArray[np.float32]:
        """What the mean over endless trials of each stimulus would be: no noise, no session gain.

        Returns
        -------
        array of shape (n, n_voxels, 1), float32

        Raises
        ------
        InputError
            If subject or stimulus are not this data set's.
        """
        betas, _, _ = self._subject(self.require_subject(subject))
        return betas.responses[self._image_rows(stimulus_ids)][:, :, None]

    def truth(self, subject: str) -> dict[str, Any]:
        """What was planted in a subject; see `brainalign.datasets.virtual.voxel_truth.planted_voxels`.

        Returns
        -------
        dict
            Beside what `planted_voxels` returns: `virtual`, `ch_names`, `options` and `layers` as in `virtual-eeg`.
        """
        betas, cortex, _ = self._subject(self.require_subject(subject))
        found = planted_voxels(betas, cortex, self.size.n_train, self.size.n_sessions, len(self.config.layers))
        options = {name: value for name, value in self.config.facts().items() if name not in self.unused_options}
        found |= {"virtual": True, "ch_names": voxel_names(subject, len(cortex)), "options": options}
        return found | {"layers": self._planted_layers()}

    def _channels(self, betas: VirtualBetas, cortex: Cortex) -> pd.DataFrame:
        signal, noise = voxel_variances(betas, self.size.n_train)
        table = pd.DataFrame({"region": cortex.region, "hemisphere": cortex.hemisphere})
        labels = np.array(cortex.labels)
        for label in ROI_LABELS:
            table[label] = labels == label
        table["nc_singletrial"] = noise_ceiling(signal, noise, 1)
        table["nc_testset"] = table["noise_ceiling"] = noise_ceiling(signal, noise, self.size.n_sessions)
        for at, name in enumerate(("rf_x", "rf_y", "rf_size")):
            table[name] = cortex.rf[:, at]
        return table

    def _subject(self, subject: str) -> tuple[VirtualBetas, Cortex, pd.DataFrame]:
        """Everything that makes a subject's trials."""
        if subject not in self._made:
            self._made[subject] = self._make(int(subject) - 1)
        return self._made[subject]

    def _make(self, number: int) -> tuple[VirtualBetas, Cortex, pd.DataFrame]:
        size, stimuli, layers = self.size, self._render(), len(self.config.layers)
        brain = subject_brain(self.config, standard_head(), layers, number)
        cortex = subject_cortex(self.config, standard_head(), brain, layers, size.n_voxels, number)
        table = beta_table(size, stimuli.ids, self.config, number)
        cells = self._early_cell_drive() if self.config.has_early else None
        categories = stimuli.table["category"].to_numpy(dtype=str)
        patterns = voxel_patterns(cortex, self.config, self._drive, cells, categories, np.arange(size.n_train))
        order = {
            "images": table["image"].to_numpy(dtype=np.intp),
            "sessions": table["session"].to_numpy(dtype=np.intp) - 1,
            "runs": (table["session"].to_numpy(dtype=np.intp) - 1) * size.runs_per_session
            + table["run"].to_numpy(dtype=np.intp)
            - 1,
            "slots": table["slot"].to_numpy(dtype=np.intp),
        }
        return virtual_betas(self.config, cortex, patterns, order, slots_per_run(size), number), cortex, table


def voxel_names(subject: str, n: int) -> tuple[str, ...]:
    """Names of a subject's voxels; no other subject has a voxel of that name."""
    return tuple(f"sub-{subject}/voxel-{number:05d}" for number in range(n))


def slots_per_run(size: VoxelPreset) -> int:
    """Trials of a run: its pictures and about a tenth more, catch trials that are modelled and left out."""
    most = -(-size.n_train // size.n_sessions) + size.n_test
    return int(np.ceil(most * (1 + CATCH_SHARE) / size.runs_per_session))


def beta_table(
    size: VoxelPreset, stimulus_ids: Sequence[str], config: VirtualBrainConfig, subject: int
) -> pd.DataFrame:
    """One row a trial, in the order shown: each session its share of the training images and every test image once.

    The order within a session is random and a subject's own.

    Parameters
    ----------
    stimulus_ids : sequence of str
        Training images, then test images.
    subject : int
        Number of the subject, from 0.

    Returns
    -------
    pandas.DataFrame
        `image` (row of the stimulus), `stimulus_id`, `session` and `run` (from 1), `slot` (place in the run, from 0),
        `repetition` (from 1), `part`.
    """
    rng, n_train, n_slots = generator(config, "order fmri", subject), size.n_train, slots_per_run(size)
    images, sessions, places = [], [], []
    for session in range(size.n_sessions):
        shown = np.concatenate([np.arange(session, n_train, size.n_sessions), n_train + np.arange(size.n_test)])
        images.append(rng.permutation(shown))
        sessions.append(np.full(len(shown), session))
        places.append(np.sort(rng.choice(n_slots * size.runs_per_session, len(shown), replace=False)))
    image, session_of, place = (np.concatenate(parts) for parts in (images, sessions, places))
    test = image >= n_train
    return pd.DataFrame(
        {
            "image": image,
            "stimulus_id": np.array(stimulus_ids)[image],
            "session": session_of + 1,
            "run": place // n_slots + 1,
            "slot": place % n_slots,
            "repetition": np.where(test, session_of, 0) + 1,
            "part": np.where(test, "test", "train"),
        }
    )
