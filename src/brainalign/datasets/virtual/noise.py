"""Everything an electrode or a field sensor records that does not answer to the stimulus."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainalign.datasets.virtual.head import Head, Sensors

Array = NDArray[np.float64]
Array32 = NDArray[np.float32]

# Standard deviations in microvolts over the 63 electrodes; facts and sources in docs/virtual-brain.md.
BACKGROUND_UV = 4.0
BACKGROUND_EXPONENT = 1.3
BACKGROUND_KNEE_HZ = 1.0
BACKGROUND_DIPOLES = 1500
ALPHA_UV = 2.0
ALPHA_WIDTH_HZ = 1.0
ALPHA_DIPOLES = 6
SENSOR_UV_PER_SQRT_HZ = 0.05
DRIFT_UV_PER_S = 1.5
BLINK_UV = 100.0
BLINK_PROBABILITY = 0.02
BLINK_S = 0.3
FREQUENCY_STEP_HZ = 0.02


@dataclass(frozen=True)
class NoiseModel:
    """Noise of one subject at the recorded channels, as matrices that turn white numbers into microvolts (or fT).

    Attributes
    ----------
    background_space, background_time : arrays of shape (n_chans, n_chans), (n_times, n_times)
        Symmetric roots of the spatial covariance and of the temporal correlation of the 1/f background.
    alpha_space, alpha_time : arrays of shape (n_chans, ALPHA_DIPOLES), (n_times, n_times)
        The same for the alpha rhythm.
    sensor_sd : float
        White noise, in the unit of the signals.
    session_slope : array of shape (n_sessions, n_chans)
        Mean drift of a session, in units of `DRIFT_UV_PER_S` before spatial mixing.
    blink : array of shape (n_chans,)
        A blink at its height.
    """

    times: Array
    background_space: Array32
    background_time: Array32
    alpha_space: Array32
    alpha_time: Array32
    sensor_sd: float
    session_slope: Array32
    blink: Array32

    @property
    def n_normals(self) -> int:
        """Standard normal numbers one trial consumes."""
        n_times = len(self.times)
        return len(self.blink) * (1 + 2 * n_times) + int(self.alpha_space.shape[1]) * n_times

    def mix(self, normals: Array32, uniforms: Array, sessions: NDArray[np.intp]) -> Array32:
        """Turn white numbers into noise.

        Every product has the same shape whatever the batch, so a trial's bits do not depend on its company.

        Parameters
        ----------
        normals : array of shape (n_trials, n_normals)
        uniforms : array of shape (n_trials, 2)
            Whether and when the subject blinks.
        sessions : array of shape (n_trials,)
            Session of each trial, from 0.

        Returns
        -------
        array of shape (n_trials, n_chans, n_times), microvolts or femtotesla
        """
        n, n_chans, n_times, n_alpha = len(normals), len(self.blink), len(self.times), self.alpha_space.shape[1]
        slope, background, sensor, alpha = np.split(
            normals, np.cumsum([n_chans, n_chans * n_times, n_chans * n_times]), axis=1
        )
        drift = (slope + self.session_slope[sessions]) * np.float32(DRIFT_UV_PER_S / BACKGROUND_UV)
        source = background.reshape(n, n_chans, n_times) @ self.background_time
        source += drift[:, :, None] * self.times.astype(np.float32)
        noise: Array32 = self.background_space @ source
        noise += self.alpha_space @ (alpha.reshape(n, n_alpha, n_times) @ self.alpha_time)
        noise += np.float32(self.sensor_sd) * sensor.reshape(n, n_chans, n_times)
        for trial in np.flatnonzero(uniforms[:, 0] < BLINK_PROBABILITY):
            noise[trial] += self.blink[:, None] * blink_shape(self.times, float(uniforms[trial, 1]))
        return noise

    def variance(self) -> Array:
        """Expected variance at each channel after baseline correction, mean over t >= 0, (n_chans,)."""
        after, baseline = self.times >= 0, self.times < 0

        def corrected(root: Array32 | Array) -> float:
            rows = np.asarray(root, dtype=np.float64)
            return float(np.sum((rows - rows[:, baseline].mean(axis=1, keepdims=True))[:, after] ** 2) / after.sum())

        background = np.sum(self.background_space.astype(np.float64) ** 2, axis=1)
        alpha = np.sum(self.alpha_space.astype(np.float64) ** 2, axis=1)
        ramp = corrected(self.times[None]) * (DRIFT_UV_PER_S / BACKGROUND_UV) ** 2
        shapes = np.stack([blink_shape(self.times, u) for u in (np.arange(200) + 0.5) / 200])
        blinks = BLINK_PROBABILITY * corrected(shapes) / len(shapes)
        slopes = self.background_space.astype(np.float64) @ self.session_slope.T.astype(np.float64)
        return np.asarray(
            background * (corrected(self.background_time) + ramp)
            + np.mean(slopes**2, axis=1) * ramp
            + alpha * corrected(self.alpha_time)
            + self.sensor_sd**2 * corrected(np.eye(len(self.times)))
            + self.blink.astype(np.float64) ** 2 * blinks
        )


def blink_shape(times: Array, when: float) -> Array32:
    """A raised cosine of 0.3 s that starts anywhere from 0.3 s before the epoch to its end, (n_times,)."""
    start = times[0] - BLINK_S + when * (times[-1] - times[0] + BLINK_S)
    phase = (times - start) / BLINK_S
    inside = (phase > 0) & (phase < 1)
    return np.where(inside, 0.5 - 0.5 * np.cos(2 * np.pi * phase), 0.0).astype(np.float32)


def noise_model(
    head: Head,
    picks: NDArray[np.intp],
    times: Array,
    sfreq: float,
    n_sessions: int,
    rng: np.random.Generator,
    *,
    sensors: Sensors | None = None,
    sensor_noise: float = SENSOR_UV_PER_SQRT_HZ,
) -> NoiseModel:
    """Draw the noise of a subject.

    Dipoles are as strong as the 63 electrodes' microvolts ask, whatever records them: the noise of a subject's EEG and
    MEG comes from the same dipoles.

    Parameters
    ----------
    picks : array of int
        Recorded channels among all of the sensors.
    rng : numpy.random.Generator
        The subject's own.
    sensors : Sensors, optional
        The head's 63 electrodes by default.
    sensor_noise : float
        White noise of a sensor, its unit per square root of Hz.
    """
    background = _recorded(head, sensors, random_cortex(head, BACKGROUND_DIPOLES, rng), BACKGROUND_UV, 0.15, rng)
    alpha = _recorded(head, sensors, alpha_dipoles(head, rng), ALPHA_UV, 0.25, rng)
    alpha_hz = float(np.clip(rng.normal(10.0, 0.6), 8.5, 11.5))
    spectrum = frequencies(sfreq)
    aperiodic = 1.0 / (BACKGROUND_KNEE_HZ**BACKGROUND_EXPONENT + spectrum**BACKGROUND_EXPONENT)
    rhythm = np.exp(-0.5 * ((spectrum - alpha_hz) / ALPHA_WIDTH_HZ) ** 2)
    mixing = background[picks]
    return NoiseModel(
        times=times,
        background_space=symmetric_root(mixing @ mixing.T).astype(np.float32),
        background_time=symmetric_root(correlation(aperiodic, spectrum, times)).astype(np.float32),
        alpha_space=alpha[picks].astype(np.float32),
        alpha_time=symmetric_root(correlation(rhythm, spectrum, times)).astype(np.float32),
        sensor_sd=sensor_noise * float(np.sqrt(sfreq)),
        session_slope=rng.standard_normal((n_sessions, len(picks))).astype(np.float32),
        blink=blink_topography(head, sensors)[picks].astype(np.float32),
    )


def _recorded(
    head: Head,
    sensors: Sensors | None,
    dipoles: tuple[Array, Array],
    size_uv: float,
    spread: float,
    rng: np.random.Generator,
) -> Array:
    """Field of dipoles at all sensors, of a log-normal size about `size_uv` at the electrodes."""
    potential = head.leadfield(*dipoles)
    field = potential if sensors is None else sensors.leadfield(*dipoles)
    return np.asarray(field * (rng.lognormal(0.0, spread) * size_uv / np.sqrt(np.mean(np.sum(potential**2, axis=1)))))


def random_cortex(head: Head, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Dipoles anywhere in a shell below the skull, of any orientation; positions and orientations, (n, 3) each."""
    places = rng.standard_normal((4 * n, 3))
    places /= np.linalg.norm(places, axis=1, keepdims=True)
    places = places[places[:, 2] > -0.5][:n]
    depth = rng.uniform(0.65, 0.85, size=(n, 1))
    ways = rng.standard_normal((n, 3))
    return head.centre + places * depth * head.radius, ways / np.linalg.norm(ways, axis=1, keepdims=True)


def alpha_dipoles(head: Head, rng: np.random.Generator) -> tuple[Array, Array]:
    """The alpha generators, mostly radial dipoles under parietal electrodes; places, ways (ALPHA_DIPOLES, 3)."""
    anchors = ("POz", "Oz", "PO3", "PO4", "P1", "P2")
    places = np.stack([head.direction(name) for name in anchors]) + 0.1 * rng.standard_normal((ALPHA_DIPOLES, 3))
    places /= np.linalg.norm(places, axis=1, keepdims=True)
    ways = places + 0.4 * rng.standard_normal(places.shape)
    return head.centre + 0.75 * head.radius * places, ways / np.linalg.norm(ways, axis=1, keepdims=True)


def blink_topography(head: Head, sensors: Sensors | None = None) -> Array:
    """A blink at all sensors (the 63 electrodes by default), (n_sensors,).

    Two dipoles behind the eyes that point away from the centre, with `BLINK_UV` at Fp1 and Fp2. In a sphere such
    dipoles have no magnetic field; for other sensors they point straight ahead, with the same moment.
    """
    places = np.stack([head.direction("AF7"), head.direction("AF8")]) * [0.6, 1.0, 1.0] - [0.0, 0.0, 0.15]
    places /= np.linalg.norm(places, axis=1, keepdims=True)
    eyes = head.centre + 0.85 * head.radius * places
    potential = head.leadfield(eyes, places).sum(axis=1)
    ahead = np.array([[0.0, 1.0, 0.0]] * 2)
    field = potential if sensors is None else sensors.leadfield(eyes, ahead).sum(axis=1)
    return np.asarray(field * BLINK_UV / potential[:2].mean())


def frequencies(sfreq: float) -> Array:
    """Grid from 0 to Nyquist over which spectra are integrated, Hz."""
    return np.arange(FREQUENCY_STEP_HZ / 2, sfreq / 2, FREQUENCY_STEP_HZ)


def correlation(spectrum: Array, grid: Array, times: Array) -> Array:
    """Correlation of a stationary process between the samples of an epoch (Wiener and Khinchin), (n_times, n_times)."""
    lags = times - times[0]
    values = np.cos(2 * np.pi * lags[:, None] * grid) @ spectrum / spectrum.sum()
    steps = np.arange(len(times))
    return np.asarray(values[np.abs(steps[:, None] - steps)])


def symmetric_root(covariance: Array) -> Array:
    """The one symmetric root of a covariance (unlike eigenvectors, free of arbitrary signs)."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T)
