"""Dissimilarities of layers of backbones, from their feature banks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brainalign.analysis.rsa_distances import DISTANCES
from brainalign.errors import InputError
from brainalign.execution.progress import Reporter, Silent
from brainalign.features import extract_features
from brainalign.recordings.dissimilarities import upper_triangle
from brainalign.stimuli import StimulusSet


@dataclass(frozen=True)
class LayerModel:
    """A layer of a backbone under one pooling.

    Attributes
    ----------
    vector : array of shape (n_pairs,)
        Its dissimilarities, every pair once.
    """

    backbone: str
    pooling: str
    layer: str
    depth: float
    vector: NDArray[np.float64]

    @property
    def curve(self) -> tuple[str, str]:
        """Backbone and pooling: what a curve over depth is of; `final` belongs to the pooling it is drawn with."""
        return self.backbone, self.pooling


def layer_models(
    stimuli: StimulusSet,
    backbones: Sequence[str],
    *,
    layers: str,
    poolings: Sequence[str],
    distance: str,
    cache_dir: Path,
    device: str,
    weights: str = "pretrained",
    reporter: Reporter | None = None,
) -> list[LayerModel]:
    """Dissimilarities of every layer asked for, in model order; features come from the cache where they are.

    `final`, which has only its own pooling, is part of every pooling's curve.

    Raises
    ------
    InputError
        If a backbone, layer or pooling does not exist, or a layer gives the same features for two images' every unit.
    """
    found = []
    for backbone in backbones:
        with (reporter or Silent()).step(f"features of {backbone}") as tick:
            features = extract_features(
                stimuli,
                backbone,
                layers,
                poolings,
                cache_dir=cache_dir,
                device=device,
                weights=weights,
                progress=tick,
            )
        name, rows = features.backbone, stimuli.image_ids
        vectors = {key: _vector(bank.rows(rows), distance, f"{name}, layer {key[0]}") for key, bank in features.items()}
        for pooling in poolings:
            found += [
                LayerModel(name, pooling, layer, features.depth(layer), vector)
                for (layer, pooled), vector in vectors.items()
                if pooled == pooling or layer == "final"
            ]
    return found


def _vector(patterns: NDArray[np.float32], distance: str, where: str) -> NDArray[np.float64]:
    try:
        vector = upper_triangle(DISTANCES[distance](patterns))
    except InputError as error:
        raise InputError(error.problem, where=where, hint="--layer-distance euclidean, or leave it out") from error
    return vector
