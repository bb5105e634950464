"""Single-trial betas made on demand: any trial at any time, the same bits every time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.datasets.virtual.brain import generator
from brainalign.datasets.virtual.config import VirtualBrainConfig
from brainalign.datasets.virtual.cortex import Cortex
from brainalign.datasets.virtual.glm import beta_covariance
from brainalign.datasets.virtual.noise import symmetric_root

Array32 = NDArray[np.float32]

GLOBAL_SHARE = 0.15
LOCAL_SHARE = 0.45
LOCAL_PATCHES = 100
LOCAL_REACH_M = 0.010


@dataclass(frozen=True, eq=False)
class VirtualBetas:
    """A `SignalSource` that computes the betas asked for and keeps none.

    A run is estimated as a whole, so its noise is made as a whole: run r takes its random numbers from counter block r
    of a counter-based generator (Philox).

    Attributes
    ----------
    responses : array of shape (n_images, n_voxels), float32
        Expected betas, percent signal change.
    images, sessions, runs, slots : arrays of shape (n_trials,)
        Row of the image a trial shows; session from 0; run from 0, over all sessions; place in the run from 0.
    mixing : array of shape (n_slots, n_slots), float32
        Root of the covariance between the betas of a run.
    scan_noise : array of shape (n_voxels,), float32
        Percent signal change.
    shared : array of shape (n_voxels, n_factors), float32
        Noise that voxels share; the squares of a row sum to the share of its variance.
    session_gain : array of shape (n_sessions, n_voxels), float32
    key : int
        128 bits that name the subject.
    """

    config: VirtualBrainConfig
    responses: Array32
    images: NDArray[np.intp]
    sessions: NDArray[np.intp]
    runs: NDArray[np.intp]
    slots: NDArray[np.intp]
    mixing: Array32
    scan_noise: Array32
    shared: Array32
    session_gain: Array32
    key: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(n_trials, n_voxels, 1)."""
        return len(self.images), self.responses.shape[1], 1

    def __getitem__(self, rows: Any, /) -> Array32:
        """Make trials; integer arrays, slices, masks or one integer."""
        chosen = np.arange(len(self.images))[rows]
        flat = np.atleast_1d(chosen)
        result = np.empty((len(flat), *self.shape[1:]), dtype=np.float32)
        order = np.argsort(self.runs[flat], kind="stable")
        for wanted in np.split(order, np.flatnonzero(np.diff(self.runs[flat][order])) + 1):
            if len(wanted):
                result[wanted, :, 0] = self._of_run(flat[wanted])
        return result if np.ndim(chosen) else result[0]

    def _of_run(self, rows: NDArray[np.intp]) -> Array32:
        """Trials of one run, (n, n_voxels)."""
        gains, noise = self._draw(int(self.runs[rows[0]]))
        slots = self.slots[rows]
        betas = self.responses[self.images[rows]] * (1 + np.float32(self.config.gain_sd) * gains[slots])[:, None]
        if noise is not None:
            betas += np.float32(self.config.noise) * noise[slots]
        return np.asarray(betas * self.session_gain[self.sessions[rows]], dtype=np.float32)

    def _draw(self, run: int) -> tuple[Array32, Array32 | None]:
        """Gains, (n_slots,), and noise, (n_slots, n_voxels), of a whole run."""
        rng = np.random.Generator(np.random.Philox(counter=run << 128, key=self.key))
        n_slots, (n_voxels, n_factors) = len(self.mixing), self.shared.shape
        gains = rng.standard_normal(n_slots, dtype=np.float32)
        if self.config.noise == 0:
            return gains, None
        own = rng.standard_normal((n_slots, n_voxels), dtype=np.float32)
        own *= np.sqrt(np.maximum(0, 1 - np.sum(self.shared**2, axis=1)))
        own += rng.standard_normal((n_slots, n_factors), dtype=np.float32) @ self.shared.T
        return gains, self.mixing @ (own * self.scan_noise)


def virtual_betas(
    config: VirtualBrainConfig,
    cortex: Cortex,
    patterns: NDArray[np.float64],
    order: dict[str, NDArray[np.intp]],
    n_slots: int,
    subject: int,
) -> VirtualBetas:
    """Assemble a subject.

    Parameters
    ----------
    patterns : array of shape (n_images, n_voxels)
        Mean 0 and variance 1 over the training images; 0 for voxels whose pathway does not answer.
    order : dict of arrays of shape (n_trials,)
        `images`, `sessions`, `runs` and `slots`; see `VirtualBetas`.
    n_slots : int
        Trials of a run, catch trials included.
    subject : int
        Number of the subject, from 0.
    """
    rng = generator(config, "sessions fmri", subject)
    n_sessions = int(order["sessions"].max()) + 1
    overall, each = rng.normal(0.0, 0.05, (n_sessions, 1)), rng.normal(0.0, 0.05, (n_sessions, len(cortex)))
    return VirtualBetas(
        config=config,
        responses=(cortex.mean + config.signal * cortex.amplitude * patterns).astype(np.float32),
        images=order["images"],
        sessions=order["sessions"],
        runs=order["runs"],
        slots=order["slots"],
        mixing=symmetric_root(beta_covariance(n_slots)).astype(np.float32),
        scan_noise=cortex.scan_noise.astype(np.float32),
        shared=shared_noise(cortex.positions, generator(config, "noise fmri", subject)).astype(np.float32),
        session_gain=np.exp(overall + each).astype(np.float32),
        key=int.from_bytes(generator(config, "trials fmri", subject).bytes(16), "little"),
    )


def shared_noise(positions: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Loadings of voxels on noise that all share and on patches neighbours share, (n_voxels, 1 + LOCAL_PATCHES)."""
    centres = positions[rng.integers(0, len(positions), LOCAL_PATCHES)]
    far = np.sum((positions[:, None] - centres) ** 2, axis=2)
    local = np.exp(-0.5 * (far - far.min(axis=1, keepdims=True)) / LOCAL_REACH_M**2)
    local *= rng.choice([-1.0, 1.0], LOCAL_PATCHES)
    local *= np.sqrt(LOCAL_SHARE) / np.linalg.norm(local, axis=1, keepdims=True)
    return np.hstack([np.full((len(positions), 1), np.sqrt(GLOBAL_SHARE)), local])
