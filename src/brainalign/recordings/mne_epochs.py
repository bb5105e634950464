"""Signals of `mne.Epochs`, a bounded number at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from brainalign.recordings.rows import CHUNK_BYTES

if TYPE_CHECKING:
    import mne


def scaled(epochs: mne.BaseEpochs, picks: NDArray[np.int64], scale: float) -> NDArray[np.float32]:
    """Channels of all epochs times a factor, (n_epochs, n_picks, n_times), filled in blocks: MNE gives float64."""
    epochs.drop_bad(verbose="error")
    data = np.empty((len(epochs), len(picks), len(epochs.times)), dtype=np.float32)
    step = max(1, CHUNK_BYTES // max(1, 8 * len(epochs.ch_names) * data.shape[2]))
    for start in range(0, len(data), step):
        rows = slice(start, min(start + step, len(data)))
        data[rows] = epochs.get_data(item=rows, copy=False, verbose="error")[:, picks] * scale
    return data
