"""The MEG helmet: CTF's 275 axial gradiometers as MNE ships them, and the fields of dipoles in a sphere."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from brainalign.datasets.virtual.config import CTF_271, CTF_275
from brainalign.errors import InputError

Array = NDArray[np.float64]

COIL_RADIUS_M = 0.009
BASELINE_M = 0.050
# A mean over four points at radius / sqrt(2) is that over the disc for fields up to the third order in place.
POINTS = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)]) * COIL_RADIUS_M / 2
# The sphere's centre in the helmet's coordinates (x right, y front, z up): the back of the head leans on the helmet,
# about 2 cm of dewar and hair between scalp and occipital coils.
CENTRE_IN_HELMET_M = (0.0, -0.012, -0.015)
MU0_OVER_4PI = 1e-7
NAM_TO_FT = 1e-9 * 1e15
DIPOLES_AT_ONCE = 128


@dataclass(frozen=True, eq=False)
class Helmet:
    """Axial gradiometers around a head.

    Attributes
    ----------
    positions : array of shape (n_sensors, 3)
        Centres of the coils next to the head, metres, head coordinates.
    axes : array of shape (n_sensors, 3, 3)
        Rows: two directions in the coil's plane, and its outward normal.
    centre : array of shape (3,)
        Centre of the sphere the head is taken for.
    ch_names : tuple of str
    """

    positions: Array
    axes: Array
    centre: Array
    ch_names: tuple[str, ...] = CTF_271

    def moved(self, by: Array) -> Helmet:
        """The helmet around a head that lies elsewhere in it; `by` in metres, (3,)."""
        return replace(self, positions=self.positions + by)

    def leadfield(self, positions: Array, orientations: Array) -> Array:
        """Flux of unit dipoles through the coils: field at the inner coil minus field 50 mm further out.

        Parameters
        ----------
        positions : array of shape (n_dipoles, 3)
            Metres, head coordinates, inside the sensors.
        orientations : array of shape (n_dipoles, 3)
            Unit vectors.

        Returns
        -------
        array of shape (n_sensors, n_dipoles)
            Femtotesla for 1 nAm.
        """
        inner = self.positions[:, None] + POINTS @ self.axes[:, :2]
        coils = np.stack([inner, inner + BASELINE_M * self.axes[:, None, 2]], axis=1)  # (n_sensors, 2, 4, 3)
        points = coils.reshape(-1, 3) - self.centre
        normals = np.repeat(self.axes[:, 2], 2 * len(POINTS), axis=0)
        found = np.empty((len(self.positions), len(positions)))
        for start in range(0, len(positions), DIPOLES_AT_ONCE):
            chosen = slice(start, start + DIPOLES_AT_ONCE)
            field = sarvas_field(positions[chosen] - self.centre, orientations[chosen], points, normals)
            mean = field.reshape(len(self.positions), 2, len(POINTS), -1).mean(axis=2)
            found[:, chosen] = mean[:, 0] - mean[:, 1]
        return found * NAM_TO_FT


def sarvas_field(places: Array, moments: Array, points: Array, normals: Array) -> Array:
    """Magnetic field of current dipoles in a spherically symmetric conductor about the origin.

    Sarvas 1987, Phys. Med. Biol. 32(1), equation 25. With r a point outside, r0 a dipole's place, Q its moment and
    d = r - r0:

        F = |d| (|r| |d| + |r|^2 - r0.r)
        grad F = (|d|^2 / |r| + d.r / |d| + 2 |d| + 2 |r|) r - (|d| + 2 |r| + d.r / |d|) r0
        B = mu0 / (4 pi F^2) (F Q x r0 - ((Q x r0).r) grad F)

    Conductivities and radii of the shells drop out; a radial dipole has no field.

    Parameters
    ----------
    places, moments : arrays of shape (n_dipoles, 3)
        Metres, ampere metres.
    points : array of shape (n_points, 3)
        Metres, outside the conductor.
    normals : array of shape (n_points, 3)
        Directions the field is measured along.

    Returns
    -------
    array of shape (n_points, n_dipoles), tesla

    Examples
    --------
    >>> import numpy as np
    >>> radial = np.array([[0.0, 0.0, 1.0]])
    >>> bool(sarvas_field(0.07 * radial, radial, np.array([[0.03, 0.0, 0.11]]), radial)[0, 0] == 0)
    True
    """
    r = np.linalg.norm(points, axis=1)[:, None]
    inner = points @ places.T
    d = np.linalg.norm(points[:, None] - places[None], axis=2)
    along = r**2 - inner  # d . r
    f = d * (r * d + along)
    turned = np.cross(moments, places)
    gradient = (d**2 / r + along / d + 2 * d + 2 * r) * np.sum(points * normals, axis=1)[:, None]
    gradient -= (d + 2 * r + along / d) * (normals @ places.T)
    return np.asarray(MU0_OVER_4PI / f**2 * (f * (normals @ turned.T) - (points @ turned.T) * gradient))


@functools.cache
def ctf_sensors() -> tuple[Array, Array]:
    """Places and axes of the sensors `CTF_271`, as MNE ships them, in the helmet's own coordinates.

    MNE's canonical CTF-275 geometry holds 274 sensors; MLO42 is missing. It is put at the mirror image of MRO42
    (the other pairs mirror each other to within 2 mm and 1 degree).

    Returns
    -------
    positions : array of shape (271, 3)
    axes : array of shape (271, 3, 3)

    Raises
    ------
    InputError
        If MNE is not installed or older than 1.12, which was the first to ship the geometry.
    """
    hint = "pip install 'brainalign[meeg]' 'mne>=1.12'"
    try:
        import mne
    except ImportError as error:
        raise InputError("virtual MEG needs MNE for its sensors", hint=hint) from error
    if not hasattr(mne.channels, "read_meg_canonical_info"):
        raise InputError(f"virtual MEG needs MNE 1.12 or newer, found {mne.__version__}", hint=hint)
    with mne.utils.use_log_level("ERROR"):
        info = mne.channels.read_meg_canonical_info("ctf275")
    shipped = {name.partition("-")[0]: ch["loc"] for name, ch in zip(info["ch_names"], info["chs"], strict=True)}
    places = {name: np.asarray(loc[:3], dtype=np.float64) for name, loc in shipped.items()}
    axes = {name: np.asarray(loc[3:12], dtype=np.float64).reshape(3, 3) for name, loc in shipped.items()}
    for name in set(CTF_275) - set(places):
        twin = name.replace("ML", "MR") if name.startswith("ML") else name.replace("MR", "ML")
        places[name], axes[name] = places[twin] * [-1, 1, 1], axes[twin] * [-1, 1, 1]
    return np.stack([places[name] for name in CTF_271]), np.stack([axes[name] for name in CTF_271])


def helmet_around(centre: Array) -> Helmet:
    """The helmet in the coordinates of a head whose sphere lies about `centre` (metres, (3,)).

    Raises
    ------
    InputError
        See `ctf_sensors`.
    """
    positions, axes = ctf_sensors()
    return Helmet(positions - np.array(CENTRE_IN_HELMET_M) + centre, axes, np.asarray(centre, dtype=np.float64))
