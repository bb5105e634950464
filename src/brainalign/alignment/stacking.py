r"""Scores of several models as one: logits :math:`\sum_k w_k S_k` with weights fitted on validation, none below 0.

.. math:: \min_{w \ge 0} \; -\frac1n \sum_i \Big(\sum_k w_k S_k[i, t_i] - \log \sum_j e^{\sum_k w_k S_k[i, j]}\Big)
          + \frac1{2 n \tau^2} \sum_k (\sigma_k w_k)^2

with t the true image of every query and :math:`\sigma_k` the deviation of S_k within its rows. The first part is the
mean surprise of the truth; the second a normal prior of deviation :math:`\tau` on weights in units of the scores' own
size, which keeps them bounded where validation is solved and makes them unique where two models say the same. The
problem is convex. Such a weighted product of probabilities is a logarithmic opinion pool (Genest & Zidek 1986,
Statistical Science 1:114); weights fitted on held-out scores make it a stack (Wolpert 1992, Neural Networks 5:241).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainalign.errors import InputError

Array = NDArray[np.float64]
PRIOR_SD = 10.0
N_FOLDS = 10
MAX_STEPS = 200
TOLERANCE = 1e-8  # of the projected gradient, in nats a unit of scaled weight; the loss is then exact to rounding


@dataclass(frozen=True)
class StackedScores:
    """Fitted weights.

    Attributes
    ----------
    weights : tuple of float
        One a model; 0 for one that adds nothing.
    scales : tuple of float
        Deviation of each model's validation scores within rows: `weights` times `scales` compares models.
    loss : float
        Mean surprise of the truth on the queries the weights were fitted on, nats: optimistic.
    prior_sd : float

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> good, bad = 5 * np.eye(50) + rng.normal(size=(50, 50)), rng.normal(size=(50, 50))
    >>> found = StackedScores.fit([good, bad])
    >>> found.shares[0] > 0.9, found.combine([good, bad]).shape
    (True, (50, 50))
    """

    weights: tuple[float, ...]
    scales: tuple[float, ...]
    loss: float
    prior_sd: float = PRIOR_SD

    @classmethod
    def fit(
        cls, scores: Sequence[ArrayLike], truth: ArrayLike | None = None, *, prior_sd: float = PRIOR_SD
    ) -> StackedScores:
        """Fit the weights on validation.

        Parameters
        ----------
        scores : sequence of arrays of shape (n, m)
            Scores of each model for the same queries and images, higher is more similar: log-likelihoods, scaled
            cosines. What all images of a query share does not matter.
        truth : array of n int, optional
            Column of each query's image; the diagonal where None.
        prior_sd : float
            Deviation of the prior on scaled weights.

        Raises
        ------
        InputError
            If there is no matrix, shapes differ, a value is not finite, a truth is no column, a model says the same of
            every image, or no model says more than chance about the truth.
        """
        stack, columns = _checked(scores, truth)
        if not prior_sd > 0:
            raise InputError(f"the prior's deviation must be positive, got {prior_sd}")
        scales = _scales(stack)
        weights = _solve(stack / scales[:, None, None], columns, prior_sd)
        if not weights.any():
            hint = "check that scores are higher for better matches, and that rows and columns belong together"
            raise InputError("no model finds validation images better than chance: every weight is 0", hint=hint)
        loss = float(surprise(np.tensordot(weights / scales, stack, 1), columns).mean())
        return cls(tuple((weights / scales).tolist()), tuple(scales.tolist()), loss, prior_sd)

    def combine(self, scores: Sequence[ArrayLike]) -> Array:
        """Logits of any queries and images, (n, m); a softmax over images is a probability.

        Raises
        ------
        InputError
            If there is not one matrix a model, shapes differ, or a value is not finite.
        """
        if len(scores) != len(self.weights):
            raise InputError(f"{len(scores)} matrices of scores for {len(self.weights)} models")
        found: Array = np.tensordot(np.array(self.weights), _centred(scores), 1)
        return found

    @property
    def shares(self) -> tuple[float, ...]:
        """What each model contributes: weights times scales, summing to 1."""
        sizes = np.array(self.weights) * np.array(self.scales)
        return tuple((sizes / sizes.sum()).tolist())


@dataclass(frozen=True)
class CrossValidated:
    """Validation scores of a stack whose weights did not see the query.

    Attributes
    ----------
    logits : array of shape (n, m)
        Each row under weights fitted on queries of other images.
    loss : float
        Mean surprise of the truth, nats.
    single_losses : tuple of float
        The same of each model by itself, its one weight fitted likewise: what the stack must beat.
    n_folds : int
    """

    logits: Array
    loss: float
    single_losses: tuple[float, ...]
    n_folds: int


def cross_validate(
    scores: Sequence[ArrayLike],
    truth: ArrayLike | None = None,
    *,
    n_folds: int = N_FOLDS,
    prior_sd: float = PRIOR_SD,
    seed: int = 0,
) -> CrossValidated:
    """Validation loss that is not optimistic: every fold is scored with weights fitted on the others.

    Queries of one image stay in one fold. The gallery stays whole.

    Parameters
    ----------
    scores, truth, prior_sd
        As `StackedScores.fit`.
    n_folds : int
        2 or more; as many as there are images, at most: that is leave-one-out.
    seed : int
        Of the folds.

    Raises
    ------
    InputError
        As `StackedScores.fit`, and if there are fewer than two images or folds.
    """
    stack, columns = _checked(scores, truth)
    images = np.unique(columns)
    folds = min(n_folds, len(images))
    if folds < 2:
        raise InputError(f"{len(images)} images in {n_folds} folds cannot be cross-validated", hint="give 2 or more")
    part = dict(zip(np.random.default_rng(seed).permutation(images).tolist(), np.arange(len(images)) % folds))
    fold = np.array([part[column] for column in columns.tolist()])
    members = [stack, *(stack[k : k + 1] for k in range(len(stack) if len(stack) > 1 else 0))]
    logits = [_out_of_fold(member, columns, fold, prior_sd) for member in members]
    losses = [float(surprise(one, columns).mean()) for one in logits]
    return CrossValidated(logits[0], losses[0], tuple(losses[1:] or losses), folds)


def surprise(logits: NDArray[Any], truth: NDArray[np.intp]) -> Array:
    """Minus the log-probability of the true column of each row, (n,), nats."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    found: Array = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(truth)), truth]
    return found


def _out_of_fold(stack: Array, columns: NDArray[np.intp], fold: NDArray[np.intp], prior_sd: float) -> Array:
    logits = np.empty(stack.shape[1:])
    for number in np.unique(fold):
        rest, held = fold != number, fold == number
        scales = _scales(stack[:, rest])
        weights = _solve(stack[:, rest] / scales[:, None, None], columns[rest], prior_sd)
        logits[held] = np.tensordot(weights / scales, stack[:, held], 1)
    return logits


def _solve(stack: Array, columns: NDArray[np.intp], prior_sd: float) -> Array:
    """Scaled weights at the minimum: Newton steps in the free weights, projected on w >= 0 (Bertsekas 1982)."""
    penalty = 1 / (stack.shape[1] * prior_sd**2)
    weights = np.full(len(stack), 1 / len(stack))
    value, gradient, hessian = _objective(weights, stack, columns, penalty)
    for _ in range(MAX_STEPS):
        bound = (weights <= 0) & (gradient >= 0)
        if np.abs(np.where(bound, 0.0, gradient)).max() < TOLERANCE:
            break
        # A weight near 0 that wants to fall counts as bound: its Newton step would only be cut off.
        free = ~((weights <= 1e-6) & (gradient > 0))
        step = np.where(free, 0.0, gradient)
        step[free] = np.linalg.solve(hessian[np.ix_(free, free)], gradient[free])
        length = 1.0
        while length > 1e-12:
            tried = np.maximum(weights - length * step, 0.0)
            found = _objective(tried, stack, columns, penalty)
            if found[0] <= value - 1e-4 * float(gradient @ (weights - tried)):
                break
            length /= 2
        else:
            break  # no step improves on rounding
        weights, (value, gradient, hessian) = tried, found
    return weights


def _objective(weights: Array, stack: Array, columns: NDArray[np.intp], penalty: float) -> tuple[float, Array, Array]:
    """Value, gradient and Hessian: mean and covariance of the scores under the probabilities they give."""
    logits = np.tensordot(weights, stack, 1)
    logits -= logits.max(axis=1, keepdims=True)
    shares = np.exp(logits)
    total = shares.sum(axis=1, keepdims=True)
    rows, n = np.arange(len(columns)), len(columns)
    value = float((np.log(total[:, 0]) - logits[rows, columns]).mean() + 0.5 * penalty * (weights @ weights))
    shares /= total
    means = np.einsum("knm,nm->kn", stack, shares)
    gradient = (means - stack[:, rows, columns]).mean(axis=1) + penalty * weights
    weighted = (stack * shares).reshape(len(stack), -1)
    second = weighted @ stack.reshape(len(stack), -1).T
    hessian = (second - means @ means.T) / n + penalty * np.eye(len(stack))
    return value, gradient, hessian


def _checked(scores: Sequence[ArrayLike], truth: ArrayLike | None) -> tuple[Array, NDArray[np.intp]]:
    stack = _centred(scores)
    n, m = stack.shape[1:]
    if truth is None and n != m:
        raise InputError(f"scores have shape {(n, m)}, so the truth is not the diagonal", hint="give the true columns")
    columns = np.arange(n) if truth is None else np.asarray(truth)
    if columns.shape != (n,) or columns.dtype.kind not in "iu" or not ((columns >= 0) & (columns < m)).all():
        raise InputError(f"the truth must name one of {m} columns for each of {n} queries")
    for index, one in enumerate(stack):
        if not one.any():
            raise InputError(f"scores of model {index} are the same for every image", hint="leave it out")
    return stack, columns.astype(np.intp)


def _centred(scores: Sequence[ArrayLike]) -> Array:
    """The matrices as one array (k, n, m), each row's mean taken off."""
    if not len(scores):
        raise InputError("there are no scores to stack")
    arrays = [np.asarray(one, dtype=np.float64) for one in scores]
    shapes = [one.shape for one in arrays]
    if len(set(shapes)) > 1 or arrays[0].ndim != 2 or 0 in shapes[0] or shapes[0][1] < 2:
        listed = ", ".join(map(str, shapes))
        raise InputError(f"scores must be matrices (queries, 2 images or more) of one shape, got {listed}")
    for index, one in enumerate(arrays):
        if not np.isfinite(one).all():
            raise InputError(f"scores of model {index} hold NaN or infinity", hint="leave it out, or score again")
    return np.stack([one - one.mean(axis=1, keepdims=True) for one in arrays])


def _scales(stack: Array) -> Array:
    found: Array = np.sqrt(np.square(stack).mean(axis=(1, 2)))
    return np.where(found > 0, found, 1.0)
