r"""A group's map brought to a new subject by some images of its own.

With the prior :math:`B \sim \mathcal{MN}(B_0, 1/\lambda, \Sigma)` around the group's map and rows A, Y of the subject,

.. math:: D = (A^\top A + \lambda)^{-1} A^\top (Y - A B_0), \qquad
          y \mid x \sim \mathcal N\big((B_0 + D)^\top a,\; \Sigma\,(1 + a^\top (A^\top A + \lambda)^{-1} a)\big).

The factor beside the covariance is what is not yet known of the subject's map; it falls to 1 as images come in.
(Bayesian linear regression with a matrix-normal prior: Bishop 2006, Pattern Recognition and Machine Learning, 3.3.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from brainalign.alignment.calibration import identification
from brainalign.alignment.group import GroupFit, Observations, as_map, augmented, augmented_sums
from brainalign.alignment.ridge import FLOOR, GramStatistics, RidgeMap
from brainalign.errors import InputError

PENALTIES: tuple[float, ...] = (*(float(p) for p in np.logspace(-3, 4, 22)), math.inf)
SMALLEST = 1e-12  # of the largest power: directions below are rounding


@dataclass(frozen=True)
class Adapted:
    """The map of a new subject.

    Attributes
    ----------
    map : RidgeMap
    penalty : float
        Of its departure from the group; infinite: it is the group's map, taken as certain.
    constant : float
    directions : Tensor of shape (n_features + 1, r)
        Orthonormal directions in which the subject's own images lie.
    powers : Tensor of shape (r,)
        Sum of squares of its images along each.
    scale : float
        See `residual_scale`.
    """

    map: RidgeMap
    penalty: float
    constant: float
    directions: Tensor
    powers: Tensor
    scale: float = 1.0

    def spread(self, features: Tensor) -> Tensor:
        """Factor on the covariance for what is not known of the map, (m,), at least 1."""
        a = augmented(features, self.constant)
        if math.isinf(self.penalty):
            return torch.ones_like(a[:, 0])
        known = (a @ self.directions).square() @ (self.powers / (self.powers + self.penalty))
        return 1 + (a.square().sum(1) - known).clamp_min(0) / self.penalty

    def log_density(self, signals: Tensor, features: Tensor, factor: Tensor) -> Tensor:
        """Log-density of signals (n, p) under images (m, n_features), (n, m), nats.

        With a scale s it is the log-density under s times the covariance, to the power s: as cautious as the covariance
        that is given, but the spread of an image costs what it gains on average.

        Parameters
        ----------
        factor : Tensor of shape (p, p)
            Lower Cholesky factor of the covariance of a subject whose map is known.
        """
        solve = torch.linalg.solve_triangular
        a = solve(factor, signals.double().T, upper=False)
        b = solve(factor, self.map(features.double()).T, upper=False)
        centre = b.mean(1, keepdim=True)  # squares stay small, so their difference keeps its digits
        a, b, spread = a - centre, b - centre, self.spread(features)
        distance = a.square().sum(0)[:, None] + b.square().sum(0) - 2 * a.T @ b
        normal = len(factor) * torch.log(2 * torch.pi * self.scale * spread) + 2 * factor.diagonal().log().sum()
        density: Tensor = -0.5 * (distance / spread + self.scale * normal)
        return density


class Adaptation:
    """A new subject's own images, decomposed once; then its map for any penalty.

    Parameters
    ----------
    prior : Tensor of shape (n_features + 1, n_outputs)
        `GroupFit.shared`; zeros for a subject that borrows nothing.
    features : Tensor of shape (k, n_features)
    outputs : Tensor of shape (k, n_outputs)
    constant : float
        `GroupFit.constant`.

    Raises
    ------
    InputError
        If the shapes do not belong together.
    """

    def __init__(self, prior: Tensor, features: Tensor, outputs: Tensor, *, constant: float = 1.0) -> None:
        shapes = f"features {tuple(features.shape)} and outputs {tuple(outputs.shape)}"
        if features.ndim != 2 or outputs.ndim != 2 or len(features) != len(outputs):
            raise InputError(f"{shapes} do not belong together")
        if prior.shape != (features.shape[1] + 1, outputs.shape[1]):
            raise InputError(f"{shapes} do not fit the group's map {tuple(prior.shape)}, its last row the intercepts")
        self.prior, self.constant = prior, float(constant)
        a = augmented(features, constant)
        self._residuals = outputs.double() - a @ prior
        powers, left = torch.linalg.eigh(a @ a.T)
        keep = powers > SMALLEST * powers.max().clamp_min(0) if len(powers) else powers > 0
        self._powers, self._left = powers[keep], left[:, keep]
        self._directions = a.T @ (self._left / self._powers.sqrt())
        self._turned = self._left.T @ self._residuals

    def at(self, penalty: float, *, scale: float = 1.0) -> Adapted:
        """The subject's map with this penalty on its departure from the group."""
        penalty, scale = _positive(penalty), _positive(scale)
        departure = self._directions @ ((self._powers.sqrt() / (self._powers + penalty))[:, None] * self._turned)
        linear = as_map(self.prior + departure, self.constant)
        return Adapted(linear, penalty, self.constant, self._directions, self._powers, scale)

    def loo_log_likelihood(self, penalty: float, factor: Tensor, *, scale: float = 1.0) -> float:
        """Mean log-density of each own image under the map that the other own images give, nats.

        With h the diagonal of the hat matrix around the prior, the residual without the image is r / (1 - h) and its
        covariance the given one / (1 - h).

        Parameters
        ----------
        factor : Tensor of shape (n_outputs, n_outputs)
            Lower Cholesky factor of the covariance.
        scale : float
            Of the covariance; see `residual_scale`.

        Raises
        ------
        InputError
            If there are no images, or a number is not positive.
        """
        if not len(self._residuals):
            raise InputError("there are no own images to leave one out of", hint="use the group's own penalty")
        share = self._powers / (self._powers + _positive(penalty))
        room = (1 - self._left.square() @ share).clamp_min(FLOOR)
        residuals = self._residuals - self._left @ (share[:, None] * self._turned)
        white = torch.linalg.solve_triangular(factor, residuals.T, upper=False)
        # (r / room)' (s S / room)^-1 (r / room), and the determinant of s S / room
        distance = white.square().sum(0) / (room * _positive(scale))
        normal = len(factor) * torch.log(2 * torch.pi * scale / room) + 2 * factor.diagonal().log().sum()
        return float(-0.5 * (distance + normal).mean())

    def choose(self, factor: Tensor, *, scale: float = 1.0, penalties: Sequence[float] = PENALTIES) -> Adapted:
        """The map with the largest leave-one-out likelihood; the group's where there are no own images."""
        if not len(self._residuals):
            return self.at(math.inf, scale=scale)
        best = max(penalties, key=lambda penalty: self.loo_log_likelihood(penalty, factor, scale=scale))
        return self.at(best, scale=scale)

    def choose_on(
        self, held: Observations, factor: Tensor, *, scale: float = 1.0, penalties: Sequence[float] = PENALTIES
    ) -> Adapted:
        """The map that is least surprised which image of a validation set each of its signals belongs to."""
        signals = held.outputs.double()

        def surprise(penalty: float) -> float:
            density = self.at(penalty, scale=scale).log_density(signals, held.features, factor)
            return identification(density)["validation_loss"]

        return self.at(min(penalties, key=surprise), scale=scale)


def residual_scale(residuals: Iterable[Tensor], factor: Tensor) -> float:
    """How large residuals are in units of a covariance: 1 for their own, below 1 for one shrunk towards its diagonal.

    A shrunk covariance exceeds the residuals in most directions. That serves identification, but taken at its word it
    calls every adaptation too dear: weighing penalties, and images by their spread, needs the size of real residuals.

    Parameters
    ----------
    residuals : iterable of Tensor of shape (n, p)
        Left out, for example `GroupFit.loo_residuals`.
    factor : Tensor of shape (p, p)
        Lower Cholesky factor of the covariance.

    Raises
    ------
    InputError
        If there are none.
    """
    total, count = 0.0, 0
    for chunk in residuals:
        white = torch.linalg.solve_triangular(factor, chunk.double().T, upper=False)
        total, count = total + float(white.square().sum()), count + white.numel()
    if not count:
        raise InputError("no residuals to measure a covariance with")
    return total / count


def adapt(fit: GroupFit, statistics: GramStatistics, penalty: float | None = None) -> Adapted:
    """The map of a new subject from the sums of its own images.

    Parameters
    ----------
    fit : GroupFit
    statistics : GramStatistics
        Of the new subject; with no images in it the map is the group's.
    penalty : float, optional
        Of the departure; the group's own penalty of departures where None. Sums do not tell images apart: to choose it,
        see `Adaptation.choose` and `Adaptation.choose_on`.

    Raises
    ------
    InputError
        If sizes differ or the penalty is not positive.

    Examples
    --------
    >>> from brainalign.alignment.group import GroupRidge
    >>> x = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    >>> fit = GroupRidge([Observations(x, x @ torch.ones(2, 2)).statistics()]).fit(1e-6, 1.0)
    >>> bool((adapt(fit, GramStatistics(2, 2)).map.coefficients == fit.map.coefficients).all())
    True
    """
    gram, cross = augmented_sums(statistics, fit.constant)
    if cross.shape != fit.shared.shape:
        got, expected = ((rows - 1, p) for rows, p in (cross.shape, fit.shared.shape))
        raise InputError(f"the subject has {got} features and outputs, the group {expected}")
    amount = _positive(fit.subject_penalty if penalty is None else penalty)
    powers, directions = torch.linalg.eigh(gram)
    powers = powers.clamp_min(0)
    departure = directions @ ((directions.T @ (cross - gram @ fit.shared)) / (powers + amount)[:, None])
    return Adapted(as_map(fit.shared + departure, fit.constant), amount, fit.constant, directions, powers)


def learning_curve(
    fit: GroupFit,
    pool: Observations,
    held: Observations,
    numbers: Sequence[int],
    factor: Tensor,
    *,
    scale: float = 1.0,
    penalties: Sequence[float] = PENALTIES,
    draws: int = 5,
    seed: int = 0,
) -> list[dict[str, float | str]]:
    """What a new subject gains from own images: the group alone, the group adapted, and the subject by itself.

    Every number of images is drawn several times from the pool, without replacement; penalties are chosen by
    leave-one-out likelihood within the draw. All three use the same covariance: the curves differ by the maps only.

    Parameters
    ----------
    fit : GroupFit
        Without the new subject.
    pool : Observations
        Images of the subject to draw from.
    held : Observations
        Other images of it, to be identified among each other: validation images, never test images, if anything is
        chosen by the curve.
    numbers : sequence of int
        Own images, 0 to the size of the pool.
    factor : Tensor of shape (n_outputs, n_outputs)
        Lower Cholesky factor of the covariance, for example of pooled leave-one-out residuals.
    scale : float
        Of the covariance; see `residual_scale`.

    Returns
    -------
    list of dict
        `arm` (group, adapted, own), `n_images`, `draw`, `penalty`, `error` (mean squared), `validation_loss`,
        `validation_top1`, `validation_mrr`. A draw of 0 images has no arm `own`.

    Raises
    ------
    InputError
        If a number is outside the pool.
    """
    wrong = [n for n in numbers if not 0 <= n <= len(pool.features)]
    if wrong:
        raise InputError(f"{wrong[0]} own images asked for, the pool has {len(pool.features)}")
    arms = {"group": fit.shared, "adapted": fit.shared, "own": torch.zeros_like(fit.shared)}
    rows: list[dict[str, float | str]] = []
    for n in numbers:
        for draw in range(draws if n else 1):
            rng = np.random.default_rng([seed, n, draw])
            drawn = torch.from_numpy(rng.permutation(len(pool.features))[:n])
            for arm, prior in arms.items():
                if arm == "own" and n == 0:
                    continue
                own = Adaptation(prior, pool.features[drawn], pool.outputs[drawn], constant=fit.constant)
                tried = (math.inf,) if arm == "group" else penalties
                found = own.choose(factor, scale=scale, penalties=tried)
                facts: dict[str, float | str] = {"arm": arm, "n_images": n, "draw": draw, "penalty": found.penalty}
                rows.append({**facts, **_scores(found, held, factor)})
    return rows


def _scores(found: Adapted, held: Observations, factor: Tensor) -> dict[str, float]:
    signals = held.outputs.double()
    error = float((signals - found.map(held.features.double())).square().mean())
    return {"error": error, **identification(found.log_density(signals, held.features, factor))}


def _positive(penalty: float) -> float:
    if not penalty > 0:
        raise InputError(f"penalties and scales must be positive, got {penalty}")
    return float(penalty)
