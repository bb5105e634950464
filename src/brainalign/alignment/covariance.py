"""Covariance of what a linear model leaves unexplained: shrinkage, and the share that trial noise has in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from brainalign.errors import InputError

SMALLEST_SHARE = 0.05  # of every direction's variance that is never ascribed to trial noise
BLOCK = 512  # columns of a symmetric product that are multiplied at once


@dataclass(frozen=True)
class ResidualMoments:
    """Second moments of residuals, float64.

    Attributes
    ----------
    n : int
    second : Tensor of shape (p, p)
        Mean of r r'.
    fourth : Tensor of shape (p, p)
        Mean of (r r')^2 by element, for the analytic shrinkage; (0, 0) where it was not kept.
    """

    n: int
    second: Tensor
    fourth: Tensor

    @classmethod
    def of(cls, residuals: Iterable[Tensor], *, fourth: bool = True) -> ResidualMoments:
        """Sum over chunks of residuals (m, p).

        Raises
        ------
        InputError
            If there are no residuals.
        """
        n, second, quartic = 0, torch.empty(0), torch.empty(0)
        for chunk in residuals:
            r = chunk.double()
            if not n:
                second = torch.zeros(r.shape[1], r.shape[1], dtype=r.dtype, device=r.device)
                quartic = torch.zeros_like(second) if fourth else torch.empty(0, 0)
            n += len(r)
            add_products(second, r)
            if fourth:
                add_products(quartic, r.square())
        if n == 0:
            raise InputError("no residuals to take a covariance of")
        return cls(n, mirror(second).div_(n), mirror(quartic).div_(n))

    def analytic_shrinkage(self) -> float:
        """Share of the diagonal with the smallest expected error, from the residuals alone.

        Schäfer & Strimmer 2005 (Stat. Appl. Genet. Mol. Biol. 4:32), target D: variances kept, correlations shrunk.
        """
        scale = self.second.diagonal().clamp_min(1e-300).rsqrt()
        correlation = self.second * scale[:, None] * scale
        fourth = self.fourth * scale.square()[:, None] * scale.square()
        variance = (fourth - correlation.square()) / max(1, self.n - 1)
        off = ~torch.eye(len(scale), dtype=torch.bool, device=scale.device)
        strength = correlation.square()[off].sum()
        return float((variance[off].sum() / strength.clamp_min(1e-300)).clamp(0, 1)) if len(scale) > 1 else 0.0


def add_products(total: Tensor, rows: Tensor) -> None:
    """Add ``rows.T @ rows`` to the lower triangle of a total (p, p), in place.

    What stands above the diagonal is left undefined until `mirror` puts it there: with many columns that saves almost
    half of the multiplications.
    """
    p = len(total)
    for start in range(0, p, BLOCK):
        stop = min(start + BLOCK, p)
        total[start:stop, :stop].addmm_(rows[:, start:stop].T, rows[:, :stop])


def mirror(total: Tensor) -> Tensor:
    """Copy the lower triangle of a square matrix to the upper one, in place; the matrix itself."""
    p = len(total)
    for start in range(0, p, BLOCK):
        stop = min(start + BLOCK, p)
        total[:start, start:stop] = total[start:stop, :start].T
        block = total[start:stop, start:stop].tril()
        total[start:stop, start:stop] = block + block.tril(-1).T
    return total


def shrink(covariance: Tensor, amount: float) -> Tensor:
    """(1 - amount) of a covariance and amount of its diagonal, (p, p).

    Raises
    ------
    InputError
        If the amount is outside [0, 1].
    """
    if not 0 <= amount <= 1:
        raise InputError(f"shrinkage {amount} is outside 0 to 1")
    shrunk = (1 - amount) * covariance
    shrunk.diagonal().copy_(covariance.diagonal())
    return shrunk


def cholesky(covariance: Tensor) -> Tensor:
    """Lower factor; a covariance that is singular to rounding gets the smallest diagonal load that makes it regular.

    Raises
    ------
    InputError
        If it is not positive by more than rounding.
    """
    load = 0.0
    scale = float(covariance.diagonal().mean())
    for _ in range(12):
        loaded = covariance
        if load:
            loaded = covariance.clone()
            loaded.diagonal().add_(load * scale)
        factor, failed = torch.linalg.cholesky_ex(loaded)
        if not bool(failed):
            regular: Tensor = factor
            return regular
        load = max(1e-10, 10 * load)
    raise InputError("the residual covariance is not positive", hint="use more shrinkage")


def split_noise(total: Tensor, trial_noise: Tensor, inverse_repetitions: float) -> Tensor:
    """What is left of the residual covariance without the trial noise of the training averages.

    Parameters
    ----------
    total : Tensor of shape (p, p)
        Residual covariance of training averages.
    trial_noise : Tensor of shape (p, p)
        Covariance of single trials around their image's mean.
    inverse_repetitions : float
        Mean over training images of 1 / repetitions.

    Returns
    -------
    Tensor of shape (p, p)
        ``total - trial_noise * inverse_repetitions``; no direction keeps less than 5 % of its variance, so that an
        overestimated noise cannot leave a negative one.
    """
    noise = trial_noise * inverse_repetitions
    # Where every direction keeps its 5 %, which a Cholesky factor tells, the difference is the answer already.
    if not bool(torch.linalg.cholesky_ex((1 - SMALLEST_SHARE) * total - noise).info):
        return total - noise
    factor = cholesky(total)
    inside = torch.linalg.solve_triangular(factor, noise, upper=False)
    inside = torch.linalg.solve_triangular(factor, inside.T, upper=False)
    shares, turned = torch.linalg.eigh((inside + inside.T) / 2)
    back = factor @ turned
    left: Tensor = back * (1 - shares.clamp(0, 1 - SMALLEST_SHARE)) @ back.T
    return left


def log_likelihood(signals: Tensor, predictions: Tensor, factor: Tensor) -> Tensor:
    """Gaussian log-density of every signal under every prediction.

    Parameters
    ----------
    signals : Tensor of shape (n, p)
    predictions : Tensor of shape (m, p)
    factor : Tensor of shape (p, p)
        Lower Cholesky factor of the covariance.

    Returns
    -------
    Tensor of shape (n, m), nats
    """
    p = len(factor)
    a, b = torch.linalg.solve_triangular(factor, torch.cat([signals, predictions]).T, upper=False).split(
        [len(signals), len(predictions)], dim=1
    )
    # Both centred on the mean prediction: the squares stay small, so their difference keeps its digits.
    centre = b.mean(1, keepdim=True)
    a, b = a - centre, b - centre
    distance = a.square().sum(0)[:, None] + b.square().sum(0) - 2 * a.T @ b
    constant = p * torch.log(torch.tensor(2 * torch.pi, dtype=factor.dtype)) + 2 * factor.diagonal().log().sum()
    density: Tensor = -0.5 * (distance + constant)
    return density
