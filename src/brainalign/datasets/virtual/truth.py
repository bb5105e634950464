"""What was planted in a virtual subject, computed from the model itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.datasets.virtual.brain import EARLY, LATE, Sources
from brainalign.datasets.virtual.trials import EARLIEST_SHIFT_S, VirtualTrials

Array = NDArray[np.float64]

JITTER_NODES = 9


def planted(trials: VirtualTrials, sources: Sources, drive: Array, unit: str = "uv") -> dict[str, Any]:
    """Latencies, topographies, time courses and signal-to-noise ratios of a subject.

    Parameters
    ----------
    drive : array of shape (n_images, n_sources)
        Zero mean; 0 where a pathway does not answer.
    unit : {'uv', 'ft'}
        Ends the names of what has a unit.

    Returns
    -------
    dict
        `times_s` (n_times,), `noise_variance_uv2` (n_chans,), `snr` (n_chans,) and, per answering pathway,
        `latency_s` (weighted mean over sources), `latency_range_s`, `topography_uv` (n_chans,) and `time_course_uv`
        (n_times,), both standard deviations between images (at the pathway's latency; root mean square over
        channels), `snr` (n_chans,).
        A signal-to-noise ratio is of single trials: variance between images over variance between the trials of an
        image, both averaged over 0 s to the end of the epoch. The mean over R repetitions has R times that.
    """
    noise = trials.noise
    after = noise.times >= 0
    background = trials.config.noise**2 * noise.variance()
    centred = trials.config.signal * drive
    variability = _trial_variance(trials, sources, centred)[:, after].mean(axis=1)
    total = background + variability
    signal = _between_images(trials, sources, centred)
    found: dict[str, Any] = {
        "times_s": noise.times,
        f"noise_variance_{unit}2": total,
        "snr": _ratio(signal[:, after].mean(axis=1), total),
        "pathways": {},
    }
    for code, pathway in enumerate((EARLY, LATE)):
        own = np.flatnonzero((sources.pathway == code) & (centred.std(axis=0) > 0))
        if not len(own):
            continue
        variance = _between_images(trials, sources, np.where(np.isin(np.arange(centred.shape[1]), own), centred, 0.0))
        weight = np.sum(sources.topographies[:, own] ** 2, axis=0)
        latency = float(np.average(sources.latency_s[own], weights=weight))
        at = int(np.argmin(np.abs(noise.times - latency)))
        found["pathways"][pathway.name] = {
            "n_sources": len(own),
            "latency_s": latency,
            "latency_range_s": (float(sources.latency_s[own].min()), float(sources.latency_s[own].max())),
            f"topography_{unit}": np.sqrt(variance[:, at]),
            f"time_course_{unit}": np.sqrt(variance.mean(axis=0)),
            "snr": _ratio(variance[:, after].mean(axis=1), total),
        }
    return found


def expected_signals(trials: VirtualTrials, sources: Sources, images: NDArray[np.intp]) -> NDArray[np.float32]:
    """What the mean over endless trials of an image would be, session gains left out.

    Parameters
    ----------
    images : array of shape (n,)
        Rows of images.

    Returns
    -------
    array of shape (n, n_chans, n_times), float32
    """
    shifts, weights = _jitter(trials)
    kernels = sum(w * sources.kernels(trials.noise.times, s) for s, w in zip(shifts, weights, strict=True))
    fields = trials.amplitudes[images][:, None, :] * sources.topographies.astype(np.float32)
    return np.asarray(fields @ np.asarray(kernels, dtype=np.float32), dtype=np.float32)


def _ratio(signal: Array, noise: Array) -> Array:
    """Signal over noise, infinite where there is no noise at all."""
    return np.divide(signal, noise, out=np.full_like(signal, np.inf), where=noise > 0)


def _jitter(trials: VirtualTrials) -> tuple[Array, Array]:
    """Latency shifts and their probabilities (Gauss-Hermite nodes of the normal distribution)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(JITTER_NODES)
    return np.maximum(nodes * trials.config.jitter_s, EARLIEST_SHIFT_S), weights / weights.sum()


def _quadratic(topographies: Array, kernels: Array, moments: Array) -> Array:
    """sum_kl g_ck g_cl M_kl k_k(t) k_l(t), (n_chans, n_times)."""
    fields = topographies[:, :, None] * kernels
    return np.asarray(np.einsum("ckt,ckt->ct", fields, np.matmul(moments, fields)))


def _between_images(trials: VirtualTrials, sources: Sources, centred: Array) -> Array:
    """Variance between images of the response expected over trials, (n_chans, n_times)."""
    shifts, weights = _jitter(trials)
    mean = sum(w * sources.kernels(trials.noise.times, s) for s, w in zip(shifts, weights, strict=True))
    return _quadratic(sources.topographies, np.asarray(mean), np.cov(centred.T, bias=True))


def _trial_variance(trials: VirtualTrials, sources: Sources, centred: Array) -> Array:
    """Variance between the trials of an image that jitter and gain cause, mean over images, (n_chans, n_times)."""
    shifts, weights = _jitter(trials)
    moments = np.cov(centred.T, bias=True) + np.outer(sources.common, sources.common)
    kernels = [sources.kernels(trials.noise.times, s) for s in shifts]
    squares = sum(w * _quadratic(sources.topographies, k, moments) for k, w in zip(kernels, weights, strict=True))
    mean = sum(w * k for k, w in zip(kernels, weights, strict=True))
    expected = _quadratic(sources.topographies, np.asarray(mean), moments)
    return np.asarray((1 + trials.config.gain_sd**2) * squares - expected)
