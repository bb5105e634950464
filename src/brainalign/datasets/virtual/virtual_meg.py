"""`virtual-meg`: MEG of the same virtual subjects, who look at the same pictures."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainalign.datasets.base import DatasetInfo
from brainalign.datasets.things_meg.dataset import sensor_table
from brainalign.datasets.virtual.brain import generator
from brainalign.datasets.virtual.config import CTF_271, MEG_PRESETS
from brainalign.datasets.virtual.head import standard_head
from brainalign.datasets.virtual.helmet import Helmet, helmet_around
from brainalign.datasets.virtual.virtual_field import VirtualField

SENSOR_FT_PER_SQRT_HZ = 6.0
SEAT_SD_M = 0.003
SEAT_MAX_M = 0.004


class VirtualMEG(VirtualField):
    """MEG computed from the brains of `virtual-eeg`, recorded as THINGS-MEG was; see `VirtualDataset`."""

    info = DatasetInfo(
        name="virtual-meg",
        title="VIRTUAL MEG: computed from a model of the brain, not measured",
        modality="meg",
        subjects=MEG_PRESETS["small"].subjects,
        protocol="virtual-meg/intra/v1",
        licence="same as this library",
        citation="computed by brainalign; the model is written down in docs/virtual-brain.md",
        size="made on demand; about 30 MB of pictures and features (small)",
        layout="no files; presets small (default) and full",
        virtual=True,
    )
    presets = tuple(MEG_PRESETS)
    sizes = MEG_PRESETS
    model_version = 1
    unit = "fT"
    sensor_noise = SENSOR_FT_PER_SQRT_HZ
    kind = " meg"

    def sensors(self, subject: str) -> Helmet:
        """The 271 gradiometers around a subject's head, which lies a few millimetres off the middle.

        Raises
        ------
        InputError
            If MNE is missing or too old, or there is no such subject.
        """
        rng = generator(self.config, "seat", int(self.require_subject(subject)))
        seat = np.clip(rng.normal(0.0, SEAT_SD_M, 3), -SEAT_MAX_M, SEAT_MAX_M)
        return helmet_around(standard_head().centre).moved(seat)

    def _picks(self) -> NDArray[np.intp]:
        return np.array([CTF_271.index(name) for name in self.size.ch_names], dtype=np.intp)

    def _positions(self, subject: str) -> NDArray[np.float64]:
        return self.sensors(subject).positions[self._picks()]

    def _channels(self) -> pd.DataFrame:
        """Region and side of every sensor."""
        return sensor_table(self.size.ch_names)
