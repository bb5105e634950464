"""The forward model against the analytic potential of a sphere and against another way through MNE."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from brainalign.datasets.virtual.config import CHANNELS_63, POSTERIOR_17
from brainalign.datasets.virtual.head import Head, pick_channels, standard_head

mne = pytest.importorskip("mne")


def dipoles(head: Head, n: int = 6) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(3)
    places = rng.normal(size=(n, 3)) * [1, 1, 0.5]
    places *= rng.uniform(0.3, 0.75, (n, 1)) * head.radius / np.linalg.norm(places, axis=1, keepdims=True)
    ways = rng.normal(size=(n, 3))
    return head.centre + places, ways / np.linalg.norm(ways, axis=1, keepdims=True)


def sphere_potential(
    place: NDArray[np.float64],
    moment: NDArray[np.float64],
    electrodes: NDArray[np.float64],
    radius: float,
    sigma: float,
) -> NDArray[np.float64]:
    """Surface potential of a dipole in a homogeneous sphere about the origin, by its Legendre series, volts."""
    from scipy.special import lpmv

    eccentricity = np.linalg.norm(place)
    axis = place / eccentricity
    radial = moment @ axis
    tangential = moment - radial * axis
    ways = electrodes / np.linalg.norm(electrodes, axis=1, keepdims=True)
    cosine = ways @ axis
    across = ways - cosine[:, None] * axis
    size = np.linalg.norm(across, axis=1)
    along = np.divide(across @ tangential, size, out=np.zeros_like(size), where=size > 0)
    total = np.zeros(len(electrodes))
    for n in range(1, 200):
        weight = (2 * n + 1) / n * (eccentricity / radius) ** (n - 1)
        total += weight * (n * radial * lpmv(0, n, cosine) - along * lpmv(1, n, cosine))
    return total / (4 * np.pi * sigma * radius**2)


def test_leadfield_of_a_homogeneous_sphere_is_the_analytic_one() -> None:
    base = standard_head()
    sphere = mne.make_sphere_model(base.centre, base.radius, sigmas=(0.33,) * 4, verbose="ERROR")
    head = replace(base, sphere=sphere)
    places, ways = dipoles(head)
    found = head.leadfield(places, ways)
    electrodes = head.positions - head.centre
    for k in range(len(places)):
        volts = sphere_potential(places[k] - head.centre, ways[k] * 1e-9, electrodes, head.radius, 0.33)
        expected = (volts - volts.mean()) * 1e6
        np.testing.assert_allclose(found[:, k], expected, atol=0.02 * np.abs(expected).max())


def test_leadfield_agrees_with_a_forward_solution_on_a_discrete_source_space() -> None:
    head = standard_head()
    places, ways = dipoles(head)
    source = mne.setup_volume_source_space(
        pos={"rr": places, "nn": ways}, sphere=head.sphere, sphere_units="m", verbose="ERROR"
    )
    forward = mne.make_forward_solution(head.info, None, source, head.sphere, meg=False, mindist=0.0, verbose="ERROR")
    fixed = np.einsum("ckx,kx->ck", forward["sol"]["data"].reshape(63, len(places), 3), ways) * 1e-3
    np.testing.assert_allclose(head.leadfield(places, ways), fixed - fixed.mean(axis=0), rtol=1e-4, atol=1e-7)


def test_average_reference_and_posterior_maximum() -> None:
    head = standard_head()
    way = head.direction("Oz")[None]
    field = head.leadfield(head.centre + 0.78 * head.radius * way, way)
    assert abs(field.sum()) < 1e-9
    assert CHANNELS_63[int(field.argmax())] in ("Oz", "O1", "O2", "POz")
    assert 0.02 < field.max() < 1.0  # some 10 nAm of cortex give microvolts


def test_channel_order_is_that_of_things_eeg2() -> None:
    assert len(set(CHANNELS_63)) == 63
    assert CHANNELS_63[:3] == ("Fp1", "Fp2", "AF7") and CHANNELS_63[-3:] == ("O1", "Oz", "O2")
    assert [CHANNELS_63[i] for i in pick_channels(POSTERIOR_17)] == list(POSTERIOR_17)
    assert POSTERIOR_17[0] == "P7" and len(POSTERIOR_17) == 17
