"""What was planted in the voxels of a virtual subject, computed from the model itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.datasets.virtual.betas import VirtualBetas
from brainalign.datasets.virtual.brain import EARLY, LATE, source_layers
from brainalign.datasets.virtual.cortex import REGIONS, Cortex

Array = NDArray[np.float64]


def noise_ceiling(signal: Array, noise: Array, n: int) -> Array:
    """Share of a mean's variance that comes from the image, percent.

    100 s / (s + 1 / n) with s = signal variance / noise variance of single trials (Allen et al. 2022, Nature
    Neuroscience 25, Methods; THINGS-fMRI gives it for n = 1 and n = 12).

    Parameters
    ----------
    signal, noise : arrays of shape (n_voxels,)
        Variance between images, and between the trials of an image.
    n : int
        Trials averaged.

    Examples
    --------
    >>> import numpy as np
    >>> noise_ceiling(np.array([0.0, 1.0]), np.array([2.0, 12.0]), 12).tolist()
    [0.0, 50.0]
    """
    total = signal + noise / n
    return np.divide(100.0 * signal, total, out=np.zeros_like(total), where=total > 0)


def voxel_variances(betas: VirtualBetas, n_train: int) -> tuple[Array, Array]:
    """Variance between the training images, and between the trials of an image; (n_voxels,) each.

    With r the responses, g the deviation of the trial gain, v the session gains and s the deviation of a beta's noise:
    signal = mean(v)^2 var(r), noise = mean(v^2) (g^2 mean(r^2) + s^2) + var(v) mean(r^2); the trials of an image lie in
    different sessions.
    """
    config, responses = betas.config, betas.responses[:n_train].astype(np.float64)
    gains = betas.session_gain.astype(np.float64)
    power = np.mean(responses**2, axis=0)
    per_beta = float(np.mean(np.sum(betas.mixing.astype(np.float64) ** 2, axis=1)))
    measured = config.noise**2 * betas.scan_noise.astype(np.float64) ** 2 * per_beta
    signal = np.mean(gains, axis=0) ** 2 * np.var(responses, axis=0)
    between_sessions = np.var(gains, axis=0, ddof=1) if len(gains) > 1 else np.zeros(len(power))
    noise = np.mean(gains**2, axis=0) * (config.gain_sd**2 * power + measured) + between_sessions * power
    return signal, noise


def planted_voxels(
    betas: VirtualBetas, cortex: Cortex, n_train: int, n_test_trials: int, layers: int
) -> dict[str, Any]:
    """Pathways, signal-to-noise ratios and noise ceilings of a subject.

    Parameters
    ----------
    n_train : int
        Number of training images, the first ones.
    n_test_trials : int
        Presentations of a test image.
    layers : int
        Number of planted layers.

    Returns
    -------
    dict
        Per voxel, arrays of shape (n_voxels,): `pathway` ('early' or 'late'), `region`, `signal_variance`,
        `noise_variance` (squared percent signal change), `snr` (of single trials; the mean over R has R times that),
        `nc_singletrial`, `nc_testset` (percent). `weights` (n_voxels, n_sources): what a voxel takes from each source.
        `regions`: a dict a region, with `pathway`, `n_voxels`, `answers` (whether its pathway does), means over its
        voxels of `snr` and of both ceilings and, in late ones, `layer_share`: how much of its weights' power lies on
        each planted layer.
    """
    signal, noise = voxel_variances(betas, n_train)
    snr = np.divide(signal, noise, out=np.full_like(signal, np.inf), where=noise > 0)
    voxels = {
        "snr": snr,
        "nc_singletrial": noise_ceiling(signal, noise, 1),
        "nc_testset": noise_ceiling(signal, noise, n_test_trials),
    }
    regions = {}
    for region in REGIONS:
        own = cortex.region == region.name
        regions[region.name] = {
            "pathway": region.pathway,
            "n_voxels": int(own.sum()),
            "answers": bool(np.any(signal[own] > 0)),
            **{name: float(np.mean(values[own])) for name, values in voxels.items()},
        }
        if region.pathway == "late":
            power = np.mean(cortex.weights[own][:, EARLY.n_sources :] ** 2, axis=0)
            share = np.bincount(source_layers(LATE.n_sources, layers), weights=power)
            regions[region.name]["layer_share"] = share / share.sum()
    pathway = np.where(cortex.early, "early", "late")
    return {
        "pathway": pathway,
        "region": cortex.region,
        "signal_variance": signal,
        "noise_variance": noise,
        **voxels,
        "weights": cortex.weights,
        "regions": regions,
    }
