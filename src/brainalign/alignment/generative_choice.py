"""What a generative aligner chooses: penalty and shrinkage on left-out images, the temperature on validation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor

from brainalign.alignment.calibration import PRIOR_SD, fit_temperature, identification
from brainalign.alignment.covariance import ResidualMoments, add_products, cholesky, log_likelihood, mirror, shrink
from brainalign.alignment.generative_inputs import Inputs, shown_to
from brainalign.alignment.generative_solvers import Solver
from brainalign.errors import InputError
from brainalign.recipes.recipe import GenerativeSettings
from brainalign.recordings import Recording

PENALTIES = tuple(float(p) for p in np.logspace(-3, 4, 29))  # the best is about noise over signal variance
AROUND = (1.0, 1.778, 3.162)  # of the leave-one-out optimum, tried on validation
SHRINKAGES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8)


@dataclass(frozen=True)
class Choice:
    """Settings that were tried, and the residuals that the best of them leaves.

    Attributes
    ----------
    rows : list of dict
        `ridge`, `shrinkage`, and the scores of `identification`.
    best : int
        The row with the smallest validation loss.
    moments : tuple of ResidualMoments
        One a subject.
    """

    rows: list[dict[str, float]]
    best: int
    moments: tuple[ResidualMoments, ...]

    @property
    def row(self) -> dict[str, float]:
        """The best row."""
        return self.rows[self.best]

    @property
    def covariance(self) -> Tensor:
        """Second moment of all residuals, (p, p), not shrunk."""
        return _pooled(self.moments).second

    def covariance_for(self, number: int) -> Tensor:
        """The same from the residuals of all other subjects; of a single subject, from its own."""
        return _pooled(_others(self.moments, number)).second


def choose(settings: GenerativeSettings, data: Inputs, solver: Solver) -> Choice:
    """Try every setting that is to be compared, and score it on validation images.

    Several subjects are scored one by one, each with map and covariance from the others, and count alike: what is
    chosen is what serves a subject that nothing is known of. A covariance that had seen how a subject departs from the
    others would know where not to look.

    Raises
    ------
    InputError
        If no subject has two validation images.
    """
    penalty = _start(settings, solver)
    search = settings.ridge == "validation" and solver.form == "dual"
    validation = _validation(data)
    rows: list[dict[str, float]] = []
    best = 0
    kept: tuple[ResidualMoments, ...] = ()
    for ridge in [penalty * factor for factor in AROUND] if search else [penalty]:
        moments = _moments(solver.loo_residuals(ridge), len(data.recordings), settings.shrinkage == "analytic")
        tried = [{"ridge": ridge, "shrinkage": amount} for amount in _amounts(settings, moments)]
        predictions = solver.validation(ridge)
        for number, seen, signals in validation:
            covariance, among = _pooled(_others(moments, number)).second, predictions[number][seen]
            for row in tried:
                factor = cholesky(shrink(covariance, row["shrinkage"]))
                for key, score in identification(log_likelihood(signals, among, factor)).items():
                    row[key] = row.get(key, 0.0) + score / len(validation)
        rows += tried
        least = min(range(len(rows)), key=lambda at: rows[at]["validation_loss"])
        if not kept or least != best:
            best, kept = least, moments
    return Choice(rows, best, kept)


def _start(settings: GenerativeSettings, solver: Solver) -> float:
    """The penalty asked for, or the leave-one-out optimum."""
    if not isinstance(settings.ridge, str):
        return float(settings.ridge)
    errors = solver.loo_errors(PENALTIES)
    return PENALTIES[errors.index(min(errors))]


def _amounts(settings: GenerativeSettings, moments: Sequence[ResidualMoments]) -> Sequence[float]:
    """Shrinkages to try."""
    if settings.shrinkage == "analytic":
        return (_pooled(moments).analytic_shrinkage(),)
    return SHRINKAGES if isinstance(settings.shrinkage, str) else (float(settings.shrinkage),)


def _moments(residuals: Iterable[tuple[int, Tensor]], n_subjects: int, fourth: bool) -> tuple[ResidualMoments, ...]:
    """Second moments, and fourth where asked for, of each subject's residuals."""
    if n_subjects == 1:
        return (ResidualMoments.of((rows for _, rows in residuals), fourth=fourth),)
    counts, second, quartic = [0] * n_subjects, torch.empty(0), torch.empty(0)
    for number, rows in residuals:  # subjects take turns, so that signals are gone through once
        if not second.numel():
            p = rows.shape[1]
            second = rows.new_zeros(n_subjects, p, p)
            quartic = torch.zeros_like(second) if fourth else rows.new_empty(n_subjects, 0, 0)
        counts[number] += len(rows)
        add_products(second[number], rows)
        if fourth:
            add_products(quartic[number], rows.square())
    return tuple(
        ResidualMoments(n, mirror(two).div_(max(1, n)), mirror(four).div_(max(1, n)))
        for n, two, four in zip(counts, second, quartic, strict=True)
    )


def _pooled(moments: Sequence[ResidualMoments]) -> ResidualMoments:
    """Of several subjects' residuals together."""
    if len(moments) == 1:
        return moments[0]
    n = sum(one.n for one in moments)
    second, fourth = torch.zeros_like(moments[0].second), torch.zeros_like(moments[0].fourth)
    for one in moments:
        second.add_(one.second, alpha=one.n / n)
        fourth.add_(one.fourth, alpha=one.n / n)
    return ResidualMoments(n, second, fourth)


def _others(moments: Sequence[ResidualMoments], number: int) -> Sequence[ResidualMoments]:
    """Those of all subjects but one; of a single subject, its own."""
    return moments if len(moments) == 1 else [*moments[:number], *moments[number + 1 :]]


def _validation(data: Inputs) -> list[tuple[int, Tensor, Tensor]]:
    """Of each subject its number, which validation images it saw, and their signals."""
    seen = data.seen(data.validation)
    found = [
        (number, seen[number], data.of_subject(number, known))
        for number, known in enumerate(shown_to(data.recordings, data.validation))
        if len(known) > 1
    ]
    if not found:
        raise InputError("no training subject has signals of two validation images", hint="choose on others")
    return found


def calibrate(
    data: Inputs,
    trials: Sequence[Recording] | None,
    asked: int | None,
    density: Callable[[int, NDArray[np.float32], list[int], list[int] | None], NDArray[np.float64]],
) -> float:
    """Temperature from validation: each image of each subject among all that it saw, averaged as a test query will be.

    Parameters
    ----------
    trials : sequence of Recording, optional
        One a subject, single trials; None where their noise is not known: what the fit saw is then what is scored.
    asked : int, optional
        Trials of a query; all where None.
    density : callable
        Log-density of a subject's signals (n, n_chans, n_times) under validation images (their places), given the
        repetitions of each.

    Raises
    ------
    InputError
        If no subject has two images that were shown so often.
    """
    recordings = data.recordings if trials is None else trials
    asked = None if trials is None else asked
    place = {name: at for at, name in enumerate(data.validation)}
    found, most = [], 0
    for number, known in enumerate(shown_to(recordings, data.validation)):
        recording = recordings[number]
        available = recording.repetitions(known)
        enough = available >= (asked or 1)
        ids = [name for name, keep in zip(known, enough, strict=True) if keep]
        most = max(most, len(ids))
        if len(ids) > 1:
            counts = None if trials is None else [asked or int(n) for n in available[enough]]
            signals, among = recording.average(ids, repetitions=asked), [place[name] for name in ids]
            found.append(torch.from_numpy(density(number, signals, among, counts)))
    if not found:
        text = f"{most} validation images were shown {asked or 1} times"
        raise InputError(text, where="evaluation.repetitions", hint="ask for fewer")
    return common_temperature(found)


def common_temperature(densities: Sequence[Tensor]) -> float:
    """One temperature for several sets of queries; see `fit_temperature`.

    Parameters
    ----------
    densities : sequence of Tensor of shape (n, n)
        One a subject, truth on the diagonal.
    """
    if len(densities) == 1:
        return fit_temperature(densities[0])
    held = [density.double().cpu().numpy() for density in densities]
    below = [one - one.max(1, keepdims=True) for one in held]
    missing = -sum(float(one.diagonal().sum()) for one in below)

    def loss(log_factor: float) -> float:
        factor = math.exp(log_factor)
        surprise = sum(float(np.log(np.exp(factor * one).sum(1)).sum()) for one in below) + factor * missing
        return surprise + 0.5 * (log_factor / PRIOR_SD) ** 2

    found = minimize_scalar(loss, bounds=(math.log(0.01), math.log(100.0)), method="bounded", options={"xatol": 1e-9})
    return math.exp(float(found.x))
