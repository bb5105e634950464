"""How well each brain signal's latent posterior fits those of a gallery's images."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brainalign.alignment.bravl.posterior import Gaussian
from brainalign.errors import InputError

SVM_IMAGES_MAX = 2000
NUMBERS = 2**22  # numbers of one array held at once


def cosine_scores(brain: Gaussian, gallery: Gaussian) -> NDArray[np.float64]:
    """Cosine of latent means, (n_signals, n_images)."""
    one, two = (torch.nn.functional.normalize(part.mean.double(), dim=1) for part in (brain, gallery))
    found: NDArray[np.float64] = (one @ two.T).cpu().numpy()
    return found


def likelihood_scores(brain: Gaussian, gallery: Gaussian) -> NDArray[np.float64]:
    r"""Log of how much likelier a signal is with an image than without, (n_signals, n_images), nats.

    Signal b and image g are independent given the latent variable, so with posteriors q and the prior p

    .. math:: \log \frac{p(b \mid g)}{p(b)} = \log \int \frac{q(z \mid b)\, q(z \mid g)}{p(z)} dz,

    which is closed for Gaussians. No posterior is wider than the prior; where a network's is, it is taken as wide.
    """
    found = []
    size = max(1, NUMBERS // max(1, gallery.mean.numel()))
    other, other_precision = gallery.mean.double(), _precision(gallery)
    for rows in range(0, len(brain.mean), size):
        part = brain.of(slice(rows, rows + size))
        mean, precision = part.mean.double()[:, None], _precision(part)[:, None]
        joint = precision + other_precision - 1
        pulled = precision * mean + other_precision * other
        square = precision * mean.square() + other_precision * other.square() - pulled.square() / joint
        logs = precision.log() + other_precision.log() - joint.log()
        found.append(0.5 * (logs - square).sum(-1))
    scores: NDArray[np.float64] = torch.cat(found).cpu().numpy()
    return scores


def svm_scores(brain: Gaussian, gallery: Sequence[Gaussian], *, gamma: float, c: float) -> NDArray[np.float64]:
    """Decision of a support vector machine with a class an image, (n_signals, n_images).

    It learns from the latent means of the gallery's images alone, under each posterior that is given, and never from a
    signal: the images of a gallery are known where something is to be retrieved from it. Votes of one-versus-one
    decisions, ties broken by their sum, as scikit-learn's `decision_function_shape='ovr'`.

    Parameters
    ----------
    brain : Gaussian of shape (n_signals, latent)
    gallery : sequence of Gaussian of shape (n_images, latent)
        Posteriors given the image, the text, and both.
    gamma, c : float
        Width of the radial basis function, and penalty.

    Raises
    ------
    InputError
        If the gallery is too large for a decision a pair of images.
    """
    from sklearn.svm import SVC

    n = len(gallery[0].mean)
    if n > SVM_IMAGES_MAX:
        raise InputError(
            f"score=svm decides between every two of {n} images, at most {SVM_IMAGES_MAX}",
            where="bravl.score",
            hint="set bravl.score=likelihood",
        )
    points, queries = _numpy(torch.cat([part.mean for part in gallery])), _numpy(brain.mean)
    if n == 1:
        return np.zeros((len(queries), 1))
    machine = SVC(kernel="rbf", gamma=gamma, C=c, decision_function_shape="ovo")
    with warnings.catch_warnings():
        # One or three points a class are what is asked for here, not a regression by mistake.
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        machine.fit(points, np.tile(np.arange(n), len(gallery)))
    size = max(1, NUMBERS // (n * (n - 1) // 2))
    parts = [_votes(machine.decision_function(queries[i : i + size]), n) for i in range(0, len(queries), size)]
    return np.concatenate(parts)


def _votes(decisions: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """From decisions a pair of classes (n_queries, n (n - 1) / 2) to votes and their tie-breaks, (n_queries, n)."""
    if n == 2:
        one = decisions.reshape(-1)  # scikit-learn turns the sign for two classes: positive is the second
        decisions = -one[:, None]
    table = np.zeros((len(decisions), n, n))
    first, second = np.triu_indices(n, 1)
    table[:, first, second] = decisions
    sums = table.sum(2) - table.sum(1)
    won = np.zeros(table.shape, dtype=bool)
    won[:, first, second], won[:, second, first] = decisions >= 0, decisions < 0
    found: NDArray[np.float64] = won.sum(2) + sums / (3 * (np.abs(sums) + 1))
    return found


def _precision(posterior: Gaussian) -> Tensor:
    return (-posterior.log_variance.double()).exp().clamp_min(1.0)


def _numpy(values: Tensor) -> NDArray[np.float64]:
    found: NDArray[np.float64] = values.double().cpu().numpy()
    return found
