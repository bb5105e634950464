"""Groups of channels: by the channel table, by 10-20 names of electrodes, by names of CTF sensors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

# Letters of the 10-20 system and its extensions, in front of the number or 'z'.
SCALP = {
    "FP": "frontal", "AF": "frontal", "F": "frontal", "FC": "central", "C": "central", "CP": "central",
    "FT": "temporal", "T": "temporal", "TP": "temporal", "P": "parietal", "PO": "occipital", "O": "occipital",
    "I": "occipital",
}  # fmt: skip
CTF = {"F": "frontal", "C": "central", "T": "temporal", "P": "parietal", "O": "occipital"}
ORDER = ("frontal", "central", "temporal", "parietal", "occipital")
_ELECTRODE = re.compile(r"([A-Za-z]+?)(?:\d+h?|[zZ])$")
_SENSOR = re.compile(r"M[LRZ]([FCTPO])\d")

Groups = Mapping[str, NDArray[np.intp]]


def region_of(name: str, modality: str) -> str | None:
    """The part of the scalp that an electrode (10-20 name) or a CTF sensor stands over; None for other names.

    Examples
    --------
    >>> region_of("PO7", "eeg"), region_of("Cz", "eeg"), region_of("MLO11", "meg"), region_of("E12", "eeg")
    ('occipital', 'central', 'occipital', None)
    """
    if modality == "meg":
        found = _SENSOR.match(name)
        return CTF[found[1]] if found else None
    if modality != "eeg":
        return None
    found = _ELECTRODE.fullmatch(name)
    return SCALP.get(found[1].upper()) if found else None


def channel_groups(names: Sequence[str], modality: str, table: pd.DataFrame | None) -> dict[str, NDArray[np.intp]]:
    """Channels by region, (n_members,) places each.

    The column `region` of the channel table counts first, then its columns of booleans (regions may overlap there),
    then names of electrodes and sensors. Channels of no known region are in no group.

    Parameters
    ----------
    names : sequence of str
    modality : str
    table : DataFrame, optional
        One row a channel.

    Returns
    -------
    dict
        Empty where nothing is known.
    """
    if table is not None and len(table) == len(names):
        if "region" in table.columns:
            return _by_label([str(value) if value else None for value in table["region"].fillna("")])
        marked = [column for column in table.columns if table[column].dtype.kind == "b" and table[column].any()]
        if marked:
            return {str(column): np.flatnonzero(table[column].to_numpy()) for column in marked}
    found = _by_label([region_of(name, modality) for name in names])
    return {name: found[name] for name in ORDER if name in found}


def _by_label(labels: Sequence[str | None]) -> dict[str, NDArray[np.intp]]:
    known = dict.fromkeys(label for label in labels if label)
    return {name: np.flatnonzero([label == name for label in labels]) for name in known}
