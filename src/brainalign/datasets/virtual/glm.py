"""What a single-trial general linear model makes of a run: unbiased betas, and noise that neighbouring trials share."""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Timing of THINGS-fMRI: a picture for 0.5 s every 4.5 s, a volume every 1.5 s. After every ten pictures two places stay
# blank, else the mean of all betas could not be told from the baseline.
TR_S = 1.5
PICTURES_IN_A_ROW = 10
BLANK_PLACES = 2
SPACING_S = 4.5
SHOWN_S = 0.5
LEAD_S = 6.0
TAIL_S = 15.0
CUTOFF_S = 128.0
AUTOCORRELATION = 0.5
WHITE_SHARE = 0.5


def double_gamma_response(times: Array, shown_s: float = SHOWN_S) -> Array:
    """Canonical haemodynamic response to a picture shown for `shown_s`, 1 at its peak.

    The difference of two gamma densities with peaks near 5 and 15 s, the second a sixth of the first (Friston et al.
    1998, NeuroImage 7(1); the defaults of SPM), integrated over the time the picture is shown: with P(a, t) the
    regularised incomplete gamma function, G(t) = P(6, t) - P(16, t) / 6 and the response is G(t) - G(t - shown).

    Parameters
    ----------
    times : array of any shape
        Seconds from stimulus onset.

    Examples
    --------
    >>> import numpy as np
    >>> fine = np.linspace(0, 30, 3001)
    >>> float(fine[double_gamma_response(fine).argmax()])
    5.25
    """
    fine = np.arange(0.0, 15.0, 0.001)
    return np.asarray(_integrated(times, shown_s) / _integrated(fine, shown_s).max())


def _integrated(times: Array, shown_s: float) -> Array:
    from scipy.special import gammainc

    def grown(t: Array) -> Array:
        late = np.maximum(t, 0.0)
        return np.asarray(gammainc(6.0, late) - gammainc(16.0, late) / 6.0)

    return grown(times) - grown(times - shown_s)


def run_design(n_trials: int) -> Array:
    """Design matrix of a run: one regressor a trial, then a constant and slow cosines against drift.

    Returns
    -------
    array of shape (n_scans, n_trials + n_slow)
    """
    places = np.arange(n_trials) + BLANK_PLACES * (np.arange(n_trials) // PICTURES_IN_A_ROW)
    onsets = LEAD_S + SPACING_S * places
    n_scans = math.ceil((onsets[-1] + SPACING_S + TAIL_S) / TR_S)
    scans = TR_S * np.arange(n_scans)
    n_slow = 1 + int(2 * n_scans * TR_S / CUTOFF_S)
    slow = np.cos(np.pi * (np.arange(n_scans)[:, None] + 0.5) * np.arange(n_slow) / n_scans)
    return np.hstack([double_gamma_response(scans[:, None] - onsets), slow])


def scan_noise_correlation(n_scans: int) -> Array:
    """Correlation of a voxel's noise between scans: first-order autoregressive plus white, (n_scans, n_scans)."""
    steps = np.arange(n_scans)
    physiological = AUTOCORRELATION ** np.abs(steps[:, None] - steps).astype(np.float64)
    return np.asarray((1 - WHITE_SHARE) * physiological + WHITE_SHARE * np.eye(n_scans))


@functools.cache
def beta_covariance(n_trials: int) -> Array:
    """Covariance of a run's least-squares betas for scan noise of variance 1.

    With D the design and V the noise correlation, betas are rows of pinv(D) y: their mean is the response, whatever
    the neighbours and the drift, and their covariance is pinv(D) V pinv(D)'.

    Returns
    -------
    array of shape (n_trials, n_trials)
    """
    estimate = np.linalg.pinv(run_design(n_trials))[:n_trials]
    return np.asarray(estimate @ scan_noise_correlation(estimate.shape[1]) @ estimate.T)
