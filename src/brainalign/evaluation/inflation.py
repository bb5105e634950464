"""How much a score gains when the choice is made on the very images it is reported on."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from brainalign.errors import InputError


def inflation_gap(chosen: float, candidates: ArrayLike) -> float:
    """Best test score among all candidates minus the test score of the one chosen on validation.

    It is what picking the best epoch (or layer, or row of a sweep) on the test set would have claimed on top of the
    honest number: part real (validation chose a worse candidate), part luck (the largest of many noisy scores). It is a
    report about the selection, never a correction to the headline. `expected_inflation_of_noise` gives the size of the
    luck.

    Parameters
    ----------
    chosen : float
        Test score of the candidate that validation chose.
    candidates : array of shape (n_candidates,)
        Test scores of everything that could have been chosen, higher is better. The chosen one counts as a candidate
        whether listed or not, so the gap is never negative.

    Returns
    -------
    float
        In the unit of the scores, 0 or more.

    Raises
    ------
    InputError
        For no candidates, or a score that is NaN or infinite.

    Examples
    --------
    >>> round(inflation_gap(0.25, [0.20, 0.25, 0.31]), 6)
    0.06
    """
    scores = np.atleast_1d(np.asarray(candidates, dtype=np.float64))
    if scores.size == 0:
        raise InputError("the inflation gap needs the test scores of the candidates, got none")
    if not (np.isfinite(scores).all() and math.isfinite(chosen)):
        raise InputError("the inflation gap needs finite scores, got NaN or infinity")
    return max(0.0, float(scores.max()) - chosen)


def expected_inflation_of_noise(n_queries: int, p: float, n_candidates: int) -> float:
    """Mean inflation gap when all candidates are equally good, so that all of it is luck.

    The expected maximum of `n_candidates` independent hit rates, each Binomial(n_queries, p) / n_queries, minus p.
    Epochs of one run are positively correlated, for which this is an upper bound.

    Parameters
    ----------
    n_queries : int
        Test images.
    p : float
        True hit rate of every candidate, 0 to 1.
    n_candidates : int

    Returns
    -------
    float

    Raises
    ------
    InputError
        For counts below 1 or p outside 0..1.

    Examples
    --------
    Choosing among 50 equally good epochs on 200 test images, at a true top-1 of 30 %:

    >>> round(expected_inflation_of_noise(200, 0.3, 50), 3)
    0.074
    """
    if n_queries < 1 or n_candidates < 1 or not 0 <= p <= 1:
        got = f"n_queries {n_queries}, n_candidates {n_candidates}, p {p}"
        raise InputError(f"needs n_queries and n_candidates of 1 or more and p in 0..1, got {got}")
    from scipy.special import bdtr

    below = np.asarray(bdtr(np.arange(n_queries), n_queries, p))  # P(one candidate has x hits or fewer), x < n_queries
    return float((1 - below**n_candidates).sum() / n_queries - p)
