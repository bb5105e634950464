"""Time and frequency instead of time alone: windows of 40 ms, as Ferrante et al. feed their EEG encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

WINDOW_S = 0.04  # Ferrante et al., arXiv 2411.09723, "Data"
HOP_S = 0.02  # the paper does not give it
FREQUENCY_MAX = 100.0
FLOOR = 1e-12  # -120 dB


def spectrogram(
    signals: ArrayLike, sfreq: float, *, window_s: float = WINDOW_S, hop_s: float = HOP_S, fmax: float = FREQUENCY_MAX
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """Power in decibels, 10 log10(|sum_t w_t x_t exp(-2 pi i f t)|^2 / (sum_t w_t)^2), w a Hann window.

    Parameters
    ----------
    signals : array of shape (n_trials, n_chans, n_times)
    sfreq : float
        Hz.
    window_s, hop_s : float
        Length of a window, and how far the next one begins; seconds.
    fmax : float
        Highest frequency kept, Hz; zero frequency is left out.

    Returns
    -------
    power : array of shape (n_trials, n_chans, n_freqs, n_frames), float32
        Decibels, never below -120.
    frequencies : array of shape (n_freqs,)
        Hz, multiples of 1 / window_s.
    centres : array of shape (n_frames,)
        Middle of each window, seconds from the first sample.

    Examples
    --------
    >>> wave = np.cos(2 * np.pi * 50 * np.arange(440) / 1000)[None, None]
    >>> power, frequencies, centres = spectrogram(wave, 1000.0)
    >>> power.shape, frequencies.tolist(), float(frequencies[power[0, 0, :, 3].argmax()])
    ((1, 1, 4, 21), [25.0, 50.0, 75.0, 100.0], 50.0)
    """
    values = np.asarray(signals, dtype=np.float64)
    length, hop = round(window_s * sfreq), round(hop_s * sfreq)
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    frames = np.lib.stride_tricks.sliding_window_view(values, length, axis=-1)[..., ::hop, :]
    frequencies = np.fft.rfftfreq(length, 1 / sfreq)
    kept = (frequencies > 0) & (frequencies <= fmax)
    spectrum = np.fft.rfft(frames * taper, axis=-1)[..., kept] / taper.sum()
    power = 10 * np.log10(np.maximum(np.square(np.abs(spectrum)), FLOOR))
    centres = (hop * np.arange(frames.shape[-2], dtype=np.float64) + (length - 1) / 2) / sfreq
    turned: NDArray[np.float32] = np.swapaxes(power, -1, -2).astype(np.float32)
    return turned, np.asarray(frequencies[kept], dtype=np.float64), np.asarray(centres, dtype=np.float64)


@dataclass(frozen=True)
class Spectrograms:
    """Spectrograms of stored trials, made when they are read.

    Attributes
    ----------
    source : array of shape (n_trials, n_chans, n_times)
    sfreq : float
    """

    source: NDArray[np.float32]
    sfreq: float

    @property
    def frequencies(self) -> NDArray[np.float64]:
        """Hz."""
        return self._layout[0]

    @property
    def centres(self) -> NDArray[np.float64]:
        """Seconds from the first sample."""
        return self._layout[1]

    @property
    def _layout(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        _, frequencies, centres = spectrogram(np.zeros((1, 1, self.source.shape[2])), self.sfreq)
        return frequencies, centres

    @property
    def shape(self) -> tuple[int, ...]:
        """(n_trials, n_chans x n_freqs, n_frames): the frequencies of a channel follow one another."""
        return self.source.shape[0], self.source.shape[1] * len(self.frequencies), len(self.centres)

    def __getitem__(self, rows: Any, /) -> NDArray[np.float32]:
        """Spectrograms of some trials, (len(rows), n_chans x n_freqs, n_frames)."""
        power = spectrogram(self.source[rows], self.sfreq)[0]
        return power.reshape(len(power), -1, power.shape[-1])
