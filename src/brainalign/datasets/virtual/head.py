"""The head: electrodes, a three-shell sphere and the potentials of dipoles in it, all from MNE."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from brainalign.datasets.virtual.config import CHANNELS_63
from brainalign.errors import InputError

if TYPE_CHECKING:
    import mne

Array = NDArray[np.float64]
NAM_TO_UV = 1e-9 * 1e6  # dipole moment in nAm, potential in microvolts


class Sensors(Protocol):
    """Whatever records the fields of dipoles."""

    def leadfield(self, positions: Array, orientations: Array) -> Array:
        """What 1 nAm dipoles evoke at all sensors, (n_sensors, n_dipoles); microvolts (EEG) or femtotesla (MEG)."""


@dataclass(frozen=True)
class Head:
    """A spherical head under the 63 electrodes of THINGS-EEG2.

    Attributes
    ----------
    info : mne.Info
        The electrodes, moved along their radius onto the sphere.
    sphere : mne.bem.ConductorModel
        Brain, fluid, skull and skin shells fitted to the electrodes (MNE's default radii and conductivities).
    positions : array of shape (63, 3)
        The electrodes where the standard 10-05 montage has them, metres, head coordinates.
    """

    info: mne.Info
    sphere: mne.bem.ConductorModel
    positions: Array

    @property
    def centre(self) -> Array:
        """Centre of the sphere, metres, (3,)."""
        return np.asarray(self.sphere["r0"], dtype=np.float64)

    @property
    def radius(self) -> float:
        """Outer radius of the sphere, metres."""
        return float(self.sphere["layers"][-1]["rad"])

    def direction(self, ch_name: str) -> Array:
        """Unit vector from the centre to an electrode, (3,)."""
        offset = self.positions[CHANNELS_63.index(ch_name)] - self.centre
        return np.asarray(offset / np.linalg.norm(offset))

    def leadfield(self, positions: Array, orientations: Array) -> Array:
        """Potentials of unit dipoles against the average of the 63 electrodes.

        Parameters
        ----------
        positions : array of shape (n_dipoles, 3)
            Metres, head coordinates, inside the brain shell.
        orientations : array of shape (n_dipoles, 3)
            Unit vectors.

        Returns
        -------
        array of shape (63, n_dipoles)
            Microvolts for 1 nAm.
        """
        import mne

        n = len(positions)
        dipoles = mne.Dipole(np.arange(n) / 1000.0, positions, np.ones(n), orientations, np.ones(n))
        with mne.utils.use_log_level("ERROR"):
            forward, _ = mne.make_forward_dipole(dipoles, self.sphere, self.info)
        gain = np.asarray(forward["sol"]["data"], dtype=np.float64) * NAM_TO_UV
        return np.asarray(gain - gain.mean(axis=0))


@functools.cache
def standard_head() -> Head:
    """The head that all virtual subjects share (their brains differ).

    Raises
    ------
    InputError
        If MNE is not installed.
    """
    try:
        import mne
    except ImportError as error:
        raise InputError(
            "a virtual brain needs MNE for its head model", hint="pip install 'brainalign[meeg]'"
        ) from error
    # MNE 1.13 renames the standard 10-05 montage after its head.
    montage = next(n for n in ("colin27_1005", "standard_1005") if n in mne.channels.get_builtin_montages())
    with mne.utils.use_log_level("ERROR"):
        info = mne.create_info(list(CHANNELS_63), 100.0, "eeg")
        info.set_montage(mne.channels.make_standard_montage(montage))
        sphere = mne.make_sphere_model("auto", "auto", info)
        positions = np.array([channel["loc"][:3] for channel in info["chs"]], dtype=np.float64)
        offsets = positions - sphere["r0"]
        placed = sphere["r0"] + offsets * (sphere["layers"][-1]["rad"] / np.linalg.norm(offsets, axis=1, keepdims=True))
        # MNE takes each electrode's own distance as the radius of the head; on the sphere all have the same.
        info.set_montage(mne.channels.make_dig_montage(dict(zip(CHANNELS_63, placed, strict=True)), coord_frame="head"))
    return Head(info, sphere, positions)


def pick_channels(ch_names: tuple[str, ...]) -> NDArray[np.intp]:
    """Rows of the 63 electrodes that hold the named channels."""
    return np.array([CHANNELS_63.index(name) for name in ch_names], dtype=np.intp)
