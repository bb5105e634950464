"""Weights of the layers of a linear model, by gradient descent on leave-one-out residuals (banded ridge)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

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
    loss: Tensor = _LooLoss.apply(torch.einsum("l,lij->ij", weights, kernels), penalty, outputs)
    return loss


class _LooLoss(torch.autograd.Function):
    """`loo_loss` of one kernel, its gradient written out: one product of n x n matrices instead of several."""

    @staticmethod
    def forward(ctx: Any, kernel: Tensor, penalty: Tensor, outputs: Tensor) -> Tensor:
        """Loss, and what its gradient needs."""
        n, p = outputs.shape
        factor = torch.linalg.cholesky(kernel + penalty * torch.eye(n, dtype=kernel.dtype, device=kernel.device))
        inverse = torch.cholesky_inverse(factor)
        solved = inverse @ outputs
        # y - K (K + p)^-1 y = p (K + p)^-1 y, and 1 - H_ii = p (K + p)^-1_ii - 1/n with the intercept.
        room = (penalty * inverse.diagonal() - 1 / n)[:, None]
        residuals = penalty * solved / room
        power = residuals.square().mean(0)
        by_residual = 2 * residuals / (n * p * power)
        by_room = -(by_residual * residuals / room).sum(1)
        ctx.save_for_backward(inverse, solved, by_residual / room, by_room, penalty)
        return power.log().mean()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, Tensor, None]:
        """Gradient for kernel and penalty."""
        inverse, solved, by_solved, by_room, penalty = ctx.saved_tensors
        # By the inverse G: penalty * by_solved y' + penalty * diag(by_room); and dG = -G dK G.
        by_kernel = -penalty * ((inverse @ by_solved) @ solved.T + (inverse * by_room) @ inverse)
        by_kernel = (by_kernel + by_kernel.T) / 2
        by_penalty = by_kernel.trace() + (by_solved * solved).sum() + (by_room * inverse.diagonal()).sum()
        return above * by_kernel, above * by_penalty, None


def _centred(kernel: Tensor) -> Tensor:
    kernel = kernel - kernel.mean(0)
    return kernel - kernel.mean(1, keepdim=True)
