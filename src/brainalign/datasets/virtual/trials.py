"""Trials made on demand: any row at any time, the same bits every time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.datasets.virtual.brain import Sources, generator
from brainalign.datasets.virtual.config import VirtualBrainConfig
from brainalign.datasets.virtual.noise import NoiseModel

Array32 = NDArray[np.float32]

SHIFT_STEP_S = 0.001
EARLIEST_SHIFT_S = -0.04  # no answer before the stimulus, however early the trial
CHUNK_NUMBERS = 2**22


@dataclass(frozen=True, eq=False)
class VirtualTrials:
    """A `SignalSource` that computes the trials asked for and keeps none.

    Attributes
    ----------
    amplitudes : array of shape (n_images, n_sources), float32
        Drive of every source by every image, the common part included.
    images, sessions : arrays of shape (n_trials,)
        Row of the image each trial shows; session from 0.
    topographies : array of shape (n_chans, n_sources), float32
    kernels : array of shape (n_shifts, n_sources, n_times), float32
        Evoked kernels at every latency shift.
    shifts : array of shape (n_shifts,)
        Seconds.
    session_gain : array of shape (n_sessions, n_chans), float32
    key : int
        128 bits that name the subject; trial t uses counter block t.
    """

    config: VirtualBrainConfig
    amplitudes: Array32
    images: NDArray[np.intp]
    sessions: NDArray[np.intp]
    topographies: Array32
    kernels: Array32
    shifts: NDArray[np.float64]
    session_gain: Array32
    noise: NoiseModel
    key: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(n_trials, n_chans, n_times)."""
        return len(self.images), len(self.topographies), self.kernels.shape[2]

    def __getitem__(self, rows: Any, /) -> Array32:
        """Make trials; integer arrays, slices, masks or one integer."""
        chosen = np.arange(len(self.images))[rows]
        flat = np.atleast_1d(chosen)
        result = np.empty((len(flat), *self.shape[1:]), dtype=np.float32)
        step = max(1, CHUNK_NUMBERS // self.noise.n_normals)
        for start in range(0, len(flat), step):
            result[start : start + step] = self._make(flat[start : start + step])
        return result if np.ndim(chosen) else result[0]

    def _make(self, rows: NDArray[np.intp]) -> Array32:
        normals, uniforms = self._draw(rows)
        signals = self.evoked(rows, normals[:, 0], normals[:, 1])
        if self.config.noise > 0:
            signals += np.float32(self.config.noise) * self.noise.mix(normals[:, 2:], uniforms, self.sessions[rows])
        signals *= self.session_gain[self.sessions[rows]][:, :, None]
        signals -= signals[:, :, self.noise.times < 0].mean(axis=2, keepdims=True)
        return signals

    def _draw(self, rows: NDArray[np.intp]) -> tuple[Array32, NDArray[np.float64]]:
        """White numbers of each trial from its own block of a counter-based generator (Philox)."""
        wanted = 2 + (self.noise.n_normals if self.config.noise > 0 else 0)
        normals = np.empty((len(rows), wanted), dtype=np.float32)
        uniforms = np.empty((len(rows), 2))
        for at, row in enumerate(rows):
            rng = np.random.Generator(np.random.Philox(counter=int(row) << 128, key=self.key))
            rng.random(out=uniforms[at])
            rng.standard_normal(out=normals[at], dtype=np.float32)
        return normals, uniforms

    def evoked(self, rows: NDArray[np.intp], shift: Array32, gain: Array32) -> Array32:
        """Responses without noise.

        Parameters
        ----------
        shift, gain : arrays of shape (n_trials,)
            Standard normal numbers that set a trial's latency and gain.
        """
        wanted = np.asarray(shift, dtype=np.float64) * self.config.jitter_s
        nearest = np.clip(np.round((wanted - self.shifts[0]) / SHIFT_STEP_S), 0, len(self.shifts) - 1).astype(np.intp)
        drive = self.amplitudes[self.images[rows]] * (1 + np.float32(self.config.gain_sd) * gain)[:, None]
        result: Array32 = (self.topographies * drive[:, None, :]) @ self.kernels[nearest]
        return result


def latency_shifts(jitter_s: float) -> NDArray[np.float64]:
    """The grid latency shifts are rounded to: 1 ms steps over four standard deviations, never before the stimulus."""
    last = round(4 * jitter_s / SHIFT_STEP_S)
    first = max(-last, round(EARLIEST_SHIFT_S / SHIFT_STEP_S))
    return np.asarray(np.arange(first, last + 1) * SHIFT_STEP_S, dtype=np.float64)


def virtual_trials(
    config: VirtualBrainConfig,
    sources: Sources,
    noise: NoiseModel,
    drive: NDArray[np.float64],
    images: NDArray[np.intp],
    sessions: NDArray[np.intp],
    subject: int,
    kind: str = "",
) -> VirtualTrials:
    """Assemble a subject.

    Parameters
    ----------
    drive : array of shape (n_images, n_sources)
        Mean 0 and variance 1 over the training images; 0 for pathways that do not answer.
    kind : str
        Recordings of different kinds have trials and sessions of their own.
    """
    rng = generator(config, f"sessions{kind}", subject)
    n_sessions = int(sessions.max()) + 1
    overall = rng.normal(0.0, 0.08, (n_sessions, 1))
    each = rng.normal(0.0, 0.05, (n_sessions, len(sources.topographies)))
    shifts = latency_shifts(config.jitter_s)
    return VirtualTrials(
        config=config,
        amplitudes=(sources.common + config.signal * drive).astype(np.float32),
        images=images,
        sessions=sessions,
        topographies=sources.topographies.astype(np.float32),
        kernels=np.stack([sources.kernels(noise.times, s) for s in shifts]).astype(np.float32),
        shifts=shifts,
        session_gain=np.exp(overall + each).astype(np.float32),
        noise=noise,
        key=int.from_bytes(generator(config, f"trials{kind}", subject).bytes(16), "little"),
    )
