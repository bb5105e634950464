"""Log-likelihoods as probabilities: identification scores, temperature, calibration error."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from brainalign.errors import InputError

PRIOR_SD = 0.3


def identification(density: Tensor) -> dict[str, float]:
    """How a square matrix of log-likelihoods, truth on the diagonal, identifies images.

    Returns
    -------
    dict
        `validation_loss` (mean surprise of the truth under a flat prior, nats), `validation_top1`, `validation_mrr`;
        ties count half.
    """
    truth = density.diagonal().unsqueeze(1)
    rank = (density > truth).sum(1) + 0.5 * ((density == truth).sum(1) - 1)
    return {
        "validation_loss": float((density.logsumexp(1) - density.diagonal()).mean()),
        "validation_top1": float((rank < 0.5).double().mean()),
        "validation_mrr": float((1 / (rank + 1)).double().mean()),
    }


def fit_temperature(density: Tensor, *, prior_sd: float = PRIOR_SD) -> float:
    """Factor on log-likelihoods with the smallest surprise of the truth (Guo et al. 2017, arXiv 1706.04599).

    Parameters
    ----------
    density : Tensor of shape (n, n)
        Truth on the diagonal.
    prior_sd : float
        Deviation of a normal prior on the factor's logarithm, around 0. Without one, images that are all identified
        would be taken as a licence for boundless confidence.

    Returns
    -------
    float
        Between 0.01 and 100, by golden section on its logarithm.
    """
    # In numpy: 120 small sums would each wait for a second thread where other work holds the cores.
    held = density.double().cpu().numpy()
    best = held.max(1)
    below, missing = held - best[:, None], float((best - held.diagonal()).sum())

    def loss(log_factor: float) -> float:
        factor = math.exp(log_factor)
        surprise = float(np.log(np.exp(factor * below).sum(1)).sum()) + factor * missing
        return surprise + 0.5 * (log_factor / prior_sd) ** 2

    low, high = math.log(0.01), math.log(100.0)
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(60):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if loss(left) <= loss(right):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def calibration_error(confidence: NDArray[np.float64], correct: NDArray[np.bool_], *, n_bins: int = 10) -> float:
    """Expected calibration error over bins of equal width (Guo et al. 2017, eq. 3).

    Parameters
    ----------
    confidence : array of shape (n,)
        Probability given to the first choice, 0 to 1.
    correct : array of shape (n,)
        Whether it was right.

    Raises
    ------
    InputError
        If shapes do not agree or a confidence is no probability.
    """
    if confidence.shape != correct.shape or confidence.ndim != 1 or not len(confidence):
        raise InputError(f"confidence {confidence.shape} and correct {correct.shape} do not belong together")
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise InputError("a confidence is outside 0 to 1")
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    gaps = np.bincount(bins, weights=confidence - correct, minlength=n_bins)
    return float(np.abs(gaps).sum() / len(confidence))


def calibrated_band(
    confidence: NDArray[np.float64], *, n_bins: int = 10, n_draws: int = 2000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Where the calibration error of a perfectly calibrated model with these confidences lies.

    A finite number of queries gives even a calibrated model an error above 0: each answer is drawn right with its own
    confidence, and the error of the draws has this central interval.
    """
    rng = np.random.default_rng(seed)
    errors = [
        calibration_error(confidence, rng.random(len(confidence)) < confidence, n_bins=n_bins) for _ in range(n_draws)
    ]
    low, high = np.quantile(errors, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
