"""Where in the image the signal comes from: weights of the cells of a grid, learned on leave-one-out residuals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from brainalign.alignment.band_weights import IMAGES, OUTPUTS, loo_loss
from brainalign.alignment.feature_map import FeatureMap
from brainalign.alignment.targets import AnyTargets
from brainalign.features.pooling import check_pooling

STEPS = 60
PULL = 1e-3  # towards equal weights, so that a signal that follows no cell draws no field


def grid_side(targets: AnyTargets) -> int | None:
    """N where every layer is pooled by `gridN` with the same N above 1; None otherwise."""
    sides = {check_pooling(band.pooling) for band in targets.bands}
    side = sides.pop() if len(sides) == 1 else None
    return side if side is not None and side > 1 else None


def learn_cells(
    features: FeatureMap,
    side: int,
    images: Callable[[Sequence[str]], Tensor],
    signals: Callable[[Sequence[str]], Tensor],
    ids: Sequence[str],
) -> list[float]:
    """Weights of the N x N cells with the largest leave-one-out likelihood, shared by all layers and outputs.

    Neurons of one array, or sensors over one cortex, see a part of the image: features from elsewhere are noise to
    them. One weight a cell is a receptive field that the data draw themselves; see `learn_weights` for the criterion.

    Parameters
    ----------
    features : FeatureMap
        Of layers pooled by `gridN`, all with this N, no principal components.
    side : int
        N.

    Returns
    -------
    list of float
        N * N weights row by row from the top left, mean 1.

    References
    ----------
    Receptive field models that weight a feature map by one spatial profile: St-Yves & Naselaris 2018 (NeuroImage
    180:188), there fitted voxel by voxel.
    """
    some = ids[:: max(1, -(-len(ids) // IMAGES))]
    raw, cells = images(some), side * side
    kernels = torch.zeros(cells, len(some), len(some), dtype=torch.float64, device=raw.device)
    for weight, band in zip(features.weights, features.band_features(raw), strict=True):
        by_cell = band.reshape(len(some), -1, cells)
        for cell in range(cells):
            part = by_cell[:, :, cell]
            part = part - part.mean(0)
            kernels[cell].addmm_(part, part.T, alpha=cells * weight)
    y = signals(some)
    y = y[:, :: max(1, -(-y.shape[1] // OUTPUTS))]
    y = y - y.mean(0)
    logits = torch.zeros(cells, dtype=torch.float64, device=raw.device, requires_grad=True)
    log_penalty = torch.zeros((), dtype=torch.float64, device=raw.device, requires_grad=True)
    optimizer = torch.optim.Adam([logits, log_penalty], lr=0.15)
    for _ in range(STEPS):
        loss = loo_loss(torch.softmax(logits, 0), log_penalty.exp(), kernels, y) + PULL * logits.square().mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return [cells * float(w) for w in torch.softmax(logits.detach(), 0)]


def with_cells(features: FeatureMap, weights: Sequence[float]) -> FeatureMap:
    """The same bands with the features of each cell scaled by the square root of its weight."""
    root = torch.tensor(weights, dtype=torch.float64).clamp_min(1e-12).sqrt()
    bands = tuple(
        replace(band, scale=band.scale / root.to(band.scale).repeat(len(band.scale) // len(root)))
        for band in features.bands
    )
    return replace(features, bands=bands)
