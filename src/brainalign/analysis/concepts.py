"""Concept accuracy: are the images retrieved of the same kind as the one shown?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import InputError
from brainalign.stimuli import StimulusSet

FloatArray = NDArray[np.float64]
TOP = 5


@dataclass(frozen=True)
class Labels:
    """What kind each image is of.

    Attributes
    ----------
    column : str
        'category' or 'concept', of the stimulus table.
    of : dict
        From stimulus id to its label.
    """

    column: str
    of: dict[str, str]

    def codes(self, stimulus_ids: Sequence[str]) -> NDArray[np.intp]:
        """Labels as whole numbers, equal for equal labels: (n,)."""
        found: NDArray[np.intp] = np.unique([self.of[name] for name in stimulus_ids], return_inverse=True)[1]
        return found


def find_labels(stimuli: StimulusSet, stimulus_ids: Sequence[str]) -> Labels | str:
    """Labels of some images: the column `category`, else `concept`, that says something of all of them.

    Returns
    -------
    Labels or str
        A sentence says why there are none.
    """
    why = []
    for column in ("category", "concept"):
        values = stimuli.column(column, stimulus_ids)
        if not all(values):
            why.append(f"{sum(not value for value in values)} of {len(values)} images have no {column}")
        elif len(set(values)) < 2:
            why.append(f"all images are of one {column}")
        elif len(set(values)) == len(values):
            why.append(f"every image is of its own {column}")
        else:
            return Labels(column, dict(zip(stimulus_ids, values, strict=True)))
    return " and ".join(why)


def concept_accuracy(similarity: NDArray[Any], targets: NDArray[np.intp], labels: NDArray[Any]) -> FloatArray:
    """Share of each query's five nearest other images that are of the shown image's kind.

    Shallow Alignment (arXiv 2601.21948), concept accuracy: the query's own image is taken out of the ranking first, so
    that an exact hit counts for nothing. Ties across the fifth place count in expectation.

    Parameters
    ----------
    similarity : array of shape (n_queries, n_gallery)
        Higher is more similar.
    targets : int array of shape (n_queries,)
        Gallery column of each query's own image.
    labels : array of shape (n_gallery,)
        Kind of every gallery image.

    Returns
    -------
    array of shape (n_queries,)
        0 to 1; NaN where no other image is of the query's kind.

    Raises
    ------
    InputError
        For fewer than six gallery images.

    Examples
    --------
    >>> labels = np.array([0, 0, 0, 1, 1, 1, 1])
    >>> similarity = np.array([[9.0, 8, 7, 6, 5, 4, 3]])
    >>> concept_accuracy(similarity, np.array([0]), labels).tolist()
    [0.4]
    """
    n_queries, n_gallery = similarity.shape
    if n_gallery <= TOP:
        raise InputError(f"concept accuracy needs {TOP + 1} gallery images or more, got {n_gallery}")
    rows = np.arange(n_queries)
    scores = similarity.astype(np.float64)
    scores[rows, targets] = -np.inf
    edge = np.partition(scores, n_gallery - TOP, axis=1)[:, n_gallery - TOP, None]  # the fifth largest
    above, tied = scores > edge, scores == edge
    share = (TOP - above.sum(axis=1)) / tied.sum(axis=1)
    same = labels[targets][:, None] == labels[None, :]
    same[rows, targets] = False
    found = ((above & same).sum(axis=1) + share * (tied & same).sum(axis=1)) / TOP
    return np.where(same.any(axis=1), found, np.nan)


def concept_chance(targets: NDArray[np.intp], labels: NDArray[Any]) -> FloatArray:
    """What guessing gives each query: the share of its kind among the other images, (n_queries,); NaN if there is none.

    Examples
    --------
    >>> concept_chance(np.array([0, 3]), np.array([0, 0, 0, 1])).round(3).tolist()
    [0.667, nan]
    """
    counts = (labels[targets][:, None] == labels[None, :]).sum(axis=1) - 1
    return np.where(counts > 0, counts / (len(labels) - 1), np.nan)
