r"""Several subjects with one feature map and one channel layout: a shared linear map, and each one's departure from it.

.. math:: \min_{B_0, D_s} \sum_s \lVert Y_s - A_s (B_0 + D_s) \rVert^2 + \lambda_0 \lVert B_0 \rVert^2
          + \lambda \sum_s \lVert D_s \rVert^2

A constant column of A carries the intercepts; the shared one is not shrunk. This is the two-level linear model of
Lindley & Smith 1972 (J. R. Stat. Soc. B 34:1). With :math:`G_s = A_s^\top A_s` and :math:`C_s = A_s^\top Y_s` every
departure is :math:`D_s = (G_s + \lambda)^{-1} (C_s - G_s B_0)`; put back, it leaves one system of the size of a single
subject's,

.. math:: \Big(P_0 + \sum_s E_s\Big) B_0 = \sum_s F_s, \quad E_s = \lambda G_s (G_s + \lambda)^{-1},
          \quad F_s = \lambda (G_s + \lambda)^{-1} C_s.

What a subject adds are its sums: subjects join and leave without the others' data. `docs/generative-extensions.md` has
the derivations; `brainalign.alignment.adaptation` brings the fit to a subject that was not in it. Without departures
(an infinite penalty on them) an image's rows count as one: `brainalign.alignment.left_out`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from brainalign.alignment.ridge import GramStatistics, RidgeMap
from brainalign.errors import InputError

PAIRS = 4096  # rows of two subjects that show the same image, taken at a time


@dataclass(frozen=True)
class Observations:
    """What one subject was shown and what was measured.

    Attributes
    ----------
    features : Tensor of shape (n, n_features)
    outputs : Tensor of shape (n, n_outputs)
    images : tuple of n str
        Names that tell which rows, of this and other subjects, show the same image. Empty: all different.
    """

    features: Tensor
    outputs: Tensor
    images: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shapes = f"{tuple(self.features.shape)} and {tuple(self.outputs.shape)}"
        if self.features.ndim != 2 or self.outputs.ndim != 2 or len(self.features) != len(self.outputs):
            raise InputError(f"a subject needs one row of outputs a row of features, got {shapes}")
        if self.images and len(self.images) != len(self.features):
            raise InputError(f"{len(self.images)} names of images for {len(self.features)} rows")

    def statistics(self) -> GramStatistics:
        """The sums that a fit needs."""
        empty = GramStatistics(self.features.shape[1], self.outputs.shape[1], device=self.features.device)
        return empty.add(self.features, self.outputs)


class GroupRidge:
    """The joint fit of several subjects from their sums: one eigendecomposition a subject, then any penalties.

    Parameters
    ----------
    statistics : sequence of GramStatistics
        One a subject; the same features and outputs.
    constant : float
        Value of the constant column: a subject's own intercept is shrunk towards the group's with the penalty of the
        departures divided by its square. Large: intercepts are free.

    Raises
    ------
    InputError
        If there is no subject, one has no images, or their sizes differ.

    Examples
    --------
    >>> x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    >>> subjects = [Observations(x, x @ torch.ones(3, 2)), Observations(x, x @ torch.full((3, 2), 3.0))]
    >>> fit = GroupRidge([subject.statistics() for subject in subjects]).fit(1e-8, 1e-4)
    >>> [round(one.coefficients.mean().item(), 3) for one in (fit.map, fit.subject(0), fit.subject(1))]
    [2.0, 1.0, 3.0]
    """

    def __init__(self, statistics: Sequence[GramStatistics], *, constant: float = 1.0) -> None:
        if not statistics:
            raise InputError("a group needs a subject", hint="give the sums of one subject or more")
        if not 0 < constant < math.inf:
            raise InputError(f"the constant column must be positive, got {constant}")
        self.constant = float(constant)
        self._parts: list[_Spectrum] = []
        for one in statistics:
            self.add(one)

    @property
    def n_subjects(self) -> int:
        """Subjects in the group."""
        return len(self._parts)

    def add(self, statistics: GramStatistics) -> GroupRidge:
        """Take in one more subject.

        Raises
        ------
        InputError
            If the subject has no images, or another number of features or outputs than the ones before.
        """
        if statistics.n < 1:
            raise InputError(f"subject {self.n_subjects} has no images")
        part = _Spectrum.of(statistics, self.constant)
        if self._parts and part.shape != self._parts[0].shape:
            got, expected = ((rows - 1, p) for rows, p in (part.shape, self._parts[0].shape))
            hint = "subjects must share the feature map and the channels"
            raise InputError(f"subject {self.n_subjects} has {got} features and outputs, not {expected}", hint=hint)
        self._parts.append(part)
        return self

    def fit(self, group_penalty: float, subject_penalty: float, *, without: int | None = None) -> GroupFit:
        """Solve for the shared map.

        Parameters
        ----------
        group_penalty : float
            Of the shared map; infinite: subjects share nothing but an intercept.
        subject_penalty : float
            Of the departures; infinite: all subjects have the same map.
        without : int, optional
            A subject that is left out.

        Raises
        ------
        InputError
            If a penalty is not positive, or no subject is left.
        """
        if not (group_penalty > 0 and subject_penalty > 0):
            raise InputError(f"penalties must be positive, got {group_penalty} and {subject_penalty}")
        if without is not None and not 0 <= without < self.n_subjects:
            raise InputError(f"there is no subject {without} among {self.n_subjects}")
        parts = tuple(part for index, part in enumerate(self._parts) if index != without)
        if not parts:
            raise InputError("no subject is left in the group")
        system, right = parts[0].effective(subject_penalty)
        for part in parts[1:]:
            more_system, more_right = part.effective(subject_penalty)
            system, right = system + more_system, right + more_right
        # An infinite penalty takes the shared coefficients out of the system; the shared intercept stays.
        free = slice(-1, None) if math.isinf(group_penalty) else slice(None)
        if not math.isinf(group_penalty):
            system.diagonal()[:-1] += group_penalty
        factor, failed = torch.linalg.cholesky_ex(system[free, free])
        if bool(failed):
            raise InputError("the joint system is singular to rounding", hint="use larger penalties")
        shared = torch.zeros_like(right)
        shared[free] = torch.cholesky_solve(right[free], factor)
        return GroupFit(float(group_penalty), float(subject_penalty), self.constant, shared, factor, parts)


@dataclass(frozen=True)
class GroupFit:
    """The shared map and what is needed to go on from it.

    Attributes
    ----------
    group_penalty, subject_penalty, constant : float
    shared : Tensor of shape (n_features + 1, n_outputs)
        B_0; the last row belongs to the constant column.
    factor : Tensor
        Lower Cholesky factor of the system of B_0.
    parts : tuple
        The subjects' sums, decomposed.
    """

    group_penalty: float
    subject_penalty: float
    constant: float
    shared: Tensor
    factor: Tensor
    parts: tuple[_Spectrum, ...]

    @property
    def map(self) -> RidgeMap:
        """The shared map: the best guess for a subject of which nothing was measured."""
        return as_map(self.shared, self.constant)

    def subject(self, index: int) -> RidgeMap:
        """The map of a subject of the fit (a subject left out is not counted)."""
        part = self.parts[index]
        return as_map(self.shared + part.departure(self.shared, self.subject_penalty), self.constant)

    def loo_residuals(self, observations: Sequence[Observations]) -> list[Tensor]:
        """Residuals of each row under the joint fit without its image, of this and of all other subjects.

        The block form of the leave-one-out identity (Cook & Weisberg 1982, Residuals and Influence in Regression,
        section 3.6): with H the part of the hat matrix that belongs to the rows of one image,
        :math:`(1 - H)^{-1} e` are their residuals under the fit without all of them.

        Parameters
        ----------
        observations : sequence of Observations
            The same rows that the fit's sums were made of, in the order of its subjects.

        Returns
        -------
        list of Tensor
            (n_s, n_outputs) each.

        Raises
        ------
        InputError
            If there is not one for each subject, or one does not have its number of rows.
        """
        return self._left_out(observations)[0]

    def _left_out(self, observations: Sequence[Observations]) -> tuple[list[Tensor], Tensor, list[str]]:
        """Residuals by subject; of all rows their share in the joint system, and their images."""
        counts, expected = [len(one.features) for one in observations], [part.n for part in self.parts]
        if counts != expected:
            raise InputError(f"the fit has subjects of {expected} rows, {counts} given")
        found = [self._rows(part, one) for part, one in zip(self.parts, observations, strict=True)]
        errors, own, joint = (torch.cat(part) for part in zip(*found, strict=True))
        subject = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)).to(errors.device)
        images = [name for index, one in enumerate(observations) for name in _names(one, index)]
        residuals = torch.empty_like(errors)
        for rows in _same_image(images, errors.device):
            same = subject[rows][:, :, None] == subject[rows][:, None, :]
            hat = joint[rows] @ joint[rows].mT + same * (own[rows] @ own[rows].mT)
            left = torch.eye(rows.shape[1]).to(hat) - hat
            residuals[rows] = torch.linalg.solve(left, errors[rows])
        return list(torch.split(residuals, counts)), joint, images

    def _rows(self, part: _Spectrum, one: Observations) -> tuple[Tensor, Tensor, Tensor]:
        """Residuals of the fit; rows whose products are the hat matrix's own and shared part."""
        a = augmented(one.features, self.constant)
        coefficients = self.shared + part.departure(self.shared, self.subject_penalty)
        turned = a @ part.vectors
        own = turned / (part.values + self.subject_penalty).sqrt()
        shrunk = turned / (1 + part.values / self.subject_penalty) @ part.vectors.T
        return one.outputs.double() - a @ coefficients, own, self.inward(shrunk)

    def inward(self, rows: Tensor) -> Tensor:
        """Rows (m, n_features + 1) multiplied by the inverse root of the system of B_0."""
        free = rows[:, -len(self.factor) :]
        found: Tensor = torch.linalg.solve_triangular(self.factor, free.T, upper=False).T
        return found


def held_out_residuals(
    group: GroupRidge, observations: Sequence[Observations], group_penalty: float, subject_penalty: float
) -> list[Tensor]:
    """Residuals of each subject under the map that the others share, each image left out of the others too.

    What a new subject's signals do around the group's predictions of new images: their mean square by channel and their
    covariance are those to score it with before anything of it is measured.

    Parameters
    ----------
    group : GroupRidge
        Of two subjects or more.
    observations : sequence of Observations
        The rows that the group's sums were made of.

    Returns
    -------
    list of Tensor
        (n_s, n_outputs) each.

    Raises
    ------
    InputError
        As `GroupRidge.fit` and `GroupFit.loo_residuals`.
    """
    found = []
    for index, one in enumerate(observations):
        fit = group.fit(group_penalty, subject_penalty, without=index)
        others, joint, images = fit._left_out([*observations[:index], *observations[index + 1 :]])
        a, left = augmented(one.features, fit.constant), torch.cat(others)
        residuals, inside = one.outputs.double() - a @ fit.shared, fit.inward(a)
        # Without its image the shared map changes by the system's inverse times the left-out rows' residuals.
        for mine, theirs in _pairs(_names(one, -1), images):
            weights = (inside[mine] * joint[theirs]).sum(1, keepdim=True)
            residuals.index_add_(0, mine, weights * left[theirs])
        found.append(residuals)
    return found


def select_penalties(
    group: GroupRidge,
    observations: Sequence[Observations],
    group_penalties: Sequence[float],
    subject_penalties: Sequence[float],
) -> list[dict[str, float]]:
    """Mean squared residual of left-out images for every pair of penalties, the best first.

    Returns
    -------
    list of dict
        `group_penalty`, `subject_penalty`, `loo_error`.
    """
    rows = []
    for group_penalty in group_penalties:
        for subject_penalty in subject_penalties:
            residuals = torch.cat(group.fit(group_penalty, subject_penalty).loo_residuals(observations))
            error = float(residuals.square().mean())
            rows.append({"group_penalty": group_penalty, "subject_penalty": subject_penalty, "loo_error": error})
    return sorted(rows, key=lambda row: row["loo_error"])


def augmented(features: Tensor, constant: float) -> Tensor:
    """Features with the constant column at their right, float64."""
    a = features.double()
    return torch.cat([a, torch.full_like(a[:, :1], constant)], dim=1)


def as_map(coefficients: Tensor, constant: float) -> RidgeMap:
    """Coefficients (n_features + 1, n_outputs) as a map with an intercept."""
    return RidgeMap(coefficients[:-1], constant * coefficients[-1])


def augmented_sums(statistics: GramStatistics, constant: float) -> tuple[Tensor, Tensor]:
    """Gram matrix and cross products with the constant column."""
    d, p = statistics.cross.shape
    gram, cross = statistics.gram.new_empty(d + 1, d + 1), statistics.cross.new_empty(d + 1, p)
    gram[:d, :d], cross[:d] = statistics.gram, statistics.cross
    gram[:d, d] = gram[d, :d] = constant * statistics.features
    gram[d, d], cross[d] = constant**2 * statistics.n, constant * statistics.outputs
    return gram, cross


@dataclass(frozen=True)
class _Spectrum:
    """One subject's sums: eigenvalues and eigenvectors of G, and C in their coordinates."""

    n: int
    values: Tensor
    vectors: Tensor
    cross: Tensor

    @classmethod
    def of(cls, statistics: GramStatistics, constant: float) -> _Spectrum:
        gram, cross = augmented_sums(statistics, constant)
        values, vectors = torch.linalg.eigh(gram)
        return cls(statistics.n, values.clamp_min(0), vectors, vectors.T @ cross)

    @property
    def shape(self) -> tuple[int, int]:
        return self.cross.shape[0], self.cross.shape[1]

    def effective(self, penalty: float) -> tuple[Tensor, Tensor]:
        """E and F: what the subject says of the shared map once its departure is eliminated."""
        share = 1 / (1 + self.values / penalty)
        return (self.vectors * (self.values * share)) @ self.vectors.T, self.vectors @ (share[:, None] * self.cross)

    def departure(self, shared: Tensor, penalty: float) -> Tensor:
        """D, (n_features + 1, n_outputs)."""
        unexplained = self.cross - self.values[:, None] * (self.vectors.T @ shared)
        return self.vectors @ (unexplained / (self.values + penalty)[:, None])


def _names(one: Observations, index: int) -> list[str]:
    """Names of the images; where there are none, names that no other row has."""
    return list(one.images) or [f"\0{index}:{row}" for row in range(len(one.features))]


def _same_image(images: Sequence[str], device: torch.device) -> Iterator[Tensor]:
    """Rows that show the same image, (n_images, m) for each number m of rows an image has."""
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(images):
        rows.setdefault(name, []).append(row)
    for size in sorted({len(found) for found in rows.values()}):
        yield torch.tensor([found for found in rows.values() if len(found) == size], device=device)


def _pairs(mine: Sequence[str], theirs: Sequence[str]) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows of two lists with the same name, some at a time."""
    where: dict[str, list[int]] = {}
    for row, name in enumerate(theirs):
        where.setdefault(name, []).append(row)
    pairs = torch.tensor([(i, j) for i, name in enumerate(mine) for j in where.get(name, ())]).reshape(-1, 2)
    for chunk in torch.split(pairs.long(), PAIRS):
        yield chunk[:, 0], chunk[:, 1]
