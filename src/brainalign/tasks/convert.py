r"""From signals of one modality to those of another, through the images both models know.

Two ways. *Retrieve*: among recorded target signals, those that seem to have come from the same image. Both sides are
described in one space: embeddings of one shared space, or what each says of the same anchor images (scores, or
probabilities). *Generate*: the expected target signal and its law, in closed form (`brainalign.alignment.conversion`).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from brainalign.alignment.conversion import DEFAULT_LEVEL, Conversion, Interval
from brainalign.errors import InputError, unknown_name

Array = NDArray[np.float64]
Space = Literal["embedding", "scores", "posterior"]
SPACES = ("embedding", "scores", "posterior")
FAMILY_WORDS = {"ridge": "a ridge regression", "random": "a guess", "foundation": "of the recipe foundation"}


def convert_retrieve(source: NDArray[Any], target: NDArray[Any], *, space: Space = "embedding") -> Array:
    r"""How much each source signal and each target signal seem to come from one image.

    Parameters
    ----------
    source, target : arrays of shapes (n, d) and (m, d)
        Row by row a signal; columns are the dimensions of a shared space, or anchor images.
    space : {'embedding', 'scores', 'posterior'}
        - 'embedding': both live in one learned space; cosine.
        - 'scores': similarity to each anchor image, of models with spaces of their own; Pearson's correlation of the
          two profiles. Profiles are centred over signals first: what all signals of a side share says nothing.
        - 'posterior': log-probabilities of each anchor image; the log-probability that both came from the same anchor,
          :math:`\log \sum_j p(j \mid y_1)\, p(j \mid y_2)`, signals independent given the image.

    Returns
    -------
    array of shape (n, m)

    Raises
    ------
    InputError
        If the two do not share their columns, hold NaN, or the space is unknown.

    Examples
    --------
    >>> convert_retrieve(np.eye(2), np.eye(2)[::-1]).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    a, b = (np.asarray(side, dtype=np.float64) for side in (source, target))
    if space not in SPACES:
        raise unknown_name("space", space, SPACES)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or not a.size or not b.size:
        raise InputError(f"source {a.shape} and target {b.shape} do not share a space", hint="equal columns are needed")
    if np.isnan(a).any() or np.isnan(b).any():
        raise InputError("source or target holds NaN")
    if space == "posterior":
        return _same_image(a, b)
    if space == "scores":
        a, b = (_centred(side) for side in (a, b))
    found: Array = _unit(a) @ _unit(b).T
    return found


def convert_generate(
    source: Any,
    target: Any,
    source_images: NDArray[Any],
    target_images: NDArray[Any],
    signals: NDArray[Any],
    *,
    source_repetitions: int | None = None,
    target_repetitions: int | None = None,
    level: float = DEFAULT_LEVEL,
) -> Interval:
    """Expected target signals of source signals, with intervals; see `brainalign.alignment.conversion.Conversion`.

    Parameters
    ----------
    source, target : GenerativeAligner
    source_images, target_images : arrays of shapes (n, dim_1) and (n, dim_2)
        Features of the same images for either: the prior over images. Never those whose signals are converted.
    signals : array of shape (m, n_chans, n_times)
        Of the source.

    Raises
    ------
    InputError
        If a model is not generative, or anything does not fit.
    """
    made = Conversion(*generative_pair(source, target), source_images, target_images)
    return made.convert(
        signals, source_repetitions=source_repetitions, target_repetitions=target_repetitions, level=level
    )


def generative_pair(source: Any, target: Any) -> tuple[Any, Any]:
    """Both models, if both are generative.

    Raises
    ------
    InputError
        If one is not: it maps no image to a signal.
    """
    from brainalign.alignment.generative import GenerativeAligner

    for name, one in (("source", source), ("target", target)):
        if not isinstance(one, GenerativeAligner):
            text = f"the {name} run is {FAMILY_WORDS.get(one.recipe.family, one.recipe.family)} and generates no signal"
            raise InputError(text, where="--how", hint="use --how retrieve, or two runs of the recipe generative")
    return source, target


def _same_image(a: Array, b: Array) -> Array:
    for side in (a, b):
        if not np.allclose(np.logaddexp.reduce(side, axis=1), 0.0, atol=1e-6):
            raise InputError("posteriors must be log-probabilities, each row summing to 1")
    best_a, best_b = a.max(axis=1, keepdims=True), b.max(axis=1, keepdims=True)
    with np.errstate(divide="ignore"):
        near: Array = np.log(np.exp(a - best_a) @ np.exp(b - best_b).T) + best_a + best_b.T
    far = ~np.isfinite(near)  # sums that underflow: both are sure, of different images
    for i, j in zip(*np.nonzero(far), strict=True):
        near[i, j] = np.logaddexp.reduce(a[i] + b[j])
    return near


def _centred(values: Array) -> Array:
    """Less the mean of each column over signals (where there are several), then less the mean of each row."""
    values = values - values.mean(axis=0) if len(values) > 1 else values
    found: Array = values - values.mean(axis=1, keepdims=True)
    return found


def _unit(values: Array) -> Array:
    norm = np.linalg.norm(values, axis=1, keepdims=True)
    found: Array = np.divide(values, norm, out=np.zeros_like(values), where=norm > 0)
    return found
