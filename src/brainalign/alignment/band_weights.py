"""Weights of the layers of a linear model, by gradient descent on leave-one-out residuals (banded ridge)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from brainalign.alignment.feature_map import FeatureMap

IMAGES = 1500
OUTPUTS = 256
STEPS = 40


def learn_weights(
    features: FeatureMap,
    images: Callable[[Sequence[str]], Tensor],
    signals: Callable[[Sequence[str]], Tensor],
    ids: Sequence[str],
) -> list[float]:
    r"""Weights and one penalty with the largest leave-one-out likelihood, outputs taken as independent.

    Minimises :math:`\sum_c \log \frac1n \sum_i r_{ic}^2`, r the exact leave-one-out residuals of the dual form: the
    profile likelihood of a Gaussian with one variance an output. At most 1,500 images and 256 outputs, evenly spaced.

    Returns
    -------
    list of float
        One a layer, summing to 1.

    References
    ----------
    Banded ridge: Nunez-Elizalde, Huth & Gallant 2019 (NeuroImage 197:482); Dupré la Tour et al. 2022 (NeuroImage
    264:119728).
    """
    some = ids[:: max(1, -(-len(ids) // IMAGES))]
    kernels = torch.stack([_centred(band @ band.T) for band in features.band_features(images(some))])
    y = signals(some)
    y = y[:, :: max(1, -(-y.shape[1] // OUTPUTS))]
    y = y - y.mean(0)
    logits = torch.zeros(len(kernels), dtype=torch.float64, device=kernels.device, requires_grad=True)
    log_penalty = torch.zeros((), dtype=torch.float64, device=kernels.device, requires_grad=True)
    optimizer = torch.optim.Adam([logits, log_penalty], lr=0.15)
    for _ in range(STEPS):
        loss = loo_loss(torch.softmax(logits, 0), log_penalty.exp(), kernels, y)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return [float(w) for w in torch.softmax(logits.detach(), 0)]


def loo_loss(weights: Tensor, penalty: Tensor, kernels: Tensor, outputs: Tensor) -> Tensor:
    """Mean over outputs of the log of the mean squared leave-one-out residual.

    Parameters
    ----------
    weights : Tensor of shape (n_layers,)
    penalty : Tensor of shape ()
    kernels : Tensor of shape (n_layers, n, n)
        Centred.
    outputs : Tensor of shape (n, p)
        Centred.
    """
    n = kernels.shape[1]
    kernel = torch.einsum("l,lij->ij", weights, kernels)
    factor = torch.linalg.cholesky(kernel + penalty * torch.eye(n, dtype=kernel.dtype, device=kernel.device))
    inverse = torch.cholesky_inverse(factor)
    # y - K (K + p)^-1 y = p (K + p)^-1 y, and 1 - H_ii = p (K + p)^-1_ii - 1/n with the intercept.
    residuals = penalty * (inverse @ outputs) / (penalty * inverse.diagonal() - 1 / n)[:, None]
    return residuals.square().mean(0).log().mean()


def _centred(kernel: Tensor) -> Tensor:
    kernel = kernel - kernel.mean(0)
    return kernel - kernel.mean(1, keepdim=True)
