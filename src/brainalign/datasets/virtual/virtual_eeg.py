"""`virtual-eeg`: EEG of virtual subjects that look at rendered pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from brainalign.datasets.base import DatasetInfo
from brainalign.datasets.virtual.config import PRESETS
from brainalign.datasets.virtual.head import Sensors, pick_channels, standard_head
from brainalign.datasets.virtual.noise import SENSOR_UV_PER_SQRT_HZ
from brainalign.datasets.virtual.virtual_field import VirtualField

MODEL_VERSION = 1  # raised when the same options give other signals


class VirtualEEG(VirtualField):
    """EEG computed from a model of the brain whose every parameter is known; see `VirtualDataset`."""

    info = DatasetInfo(
        name="virtual-eeg",
        title="VIRTUAL EEG: computed from a model of the brain, not measured",
        modality="eeg",
        subjects=PRESETS["small"].subjects,
        protocol="virtual-eeg/intra/v1",
        licence="same as this library",
        citation="computed by brainalign; the model is written down in docs/virtual-brain.md",
        size="made on demand; about 30 MB of pictures and features (small)",
        layout="no files; presets small (default) and full",
        virtual=True,
    )
    presets = tuple(PRESETS)
    sizes = PRESETS
    model_version = MODEL_VERSION
    unit = "uV"
    sensor_noise = SENSOR_UV_PER_SQRT_HZ

    def sensors(self, subject: str) -> Sensors:
        """The 63 electrodes, the same for all subjects."""
        return standard_head()

    def _picks(self) -> NDArray[np.intp]:
        return pick_channels(self.size.ch_names)

    def _positions(self, subject: str) -> NDArray[np.float64]:
        return standard_head().positions[self._picks()]
