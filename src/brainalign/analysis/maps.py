"""Two-dimensional maps of embeddings: t-SNE and UMAP."""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import InputError, unknown_name

MAPS = {"tsne": "t-SNE", "umap": "UMAP"}
PERPLEXITY = 30.0
NEIGHBOURS = 15


def available(name: str) -> bool:
    """Whether the library behind a map is installed."""
    return name != "umap" or importlib.util.find_spec("umap") is not None


def embed_map(name: str, rows: NDArray[Any], *, seed: int = 0) -> NDArray[np.float64]:
    """Place rows on a plane so that near ones stay near, by cosine.

    Parameters
    ----------
    name : {'tsne', 'umap'}
    rows : array of shape (n, dim)
        At least eight.
    seed : int

    Returns
    -------
    array of shape (n, 2)
        Without unit: only who is near whom means something.

    Raises
    ------
    InputError
        For an unknown map, too few rows, or UMAP where `umap-learn` is not installed.
    """
    if name not in MAPS:
        raise unknown_name("map", name, MAPS, where="--map")
    if len(rows) < 8:
        raise InputError(f"a map needs 8 points or more, got {len(rows)}")
    if not available(name):
        raise InputError("umap-learn is not installed", where="--map umap", hint='pip install "brainalign[maps]"')
    return _tsne(rows, seed) if name == "tsne" else _umap(rows, seed)


def _tsne(rows: NDArray[Any], seed: int) -> NDArray[np.float64]:
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
    model = TSNE(metric="cosine", init="pca", perplexity=perplexity, random_state=seed)
    return np.asarray(model.fit_transform(np.asarray(rows, dtype=np.float64)), dtype=np.float64)


def _umap(rows: NDArray[Any], seed: int) -> NDArray[np.float64]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries it stands on
        from umap import UMAP

        neighbours = min(NEIGHBOURS, len(rows) - 1)
        # Started from principal components: a spectral start fails where the modalities fall into unconnected parts.
        model = UMAP(metric="cosine", n_neighbors=neighbours, init="pca", random_state=seed, n_jobs=1)
        return np.asarray(model.fit_transform(np.asarray(rows, dtype=np.float32)), dtype=np.float64)
