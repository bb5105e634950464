"""From one modality to another: scores of retrieving a signal by a signal that showed the same image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import InputError
from brainalign.evaluation.evaluate import evaluate_retrieval

NORMALISED = (
    "two-way identification of the conversion divided by two-way identification of the target modality's own decoding "
    "(mean over its subjects) in the same pool of images"
)


@dataclass(frozen=True)
class Samples:
    """Test signals of one subject as a matrix can compare them.

    Attributes
    ----------
    name, modality : str
    ids : tuple of n str
        Images shown.
    """

    name: str
    modality: str
    ids: tuple[str, ...]


def conversion_matrix(
    samples: Sequence[Samples],
    similarity: Mapping[tuple[str, str], NDArray[Any]],
    decoding: Mapping[str, NDArray[Any]],
    *,
    seed: int = 0,
    n_resamples: int = 2000,
    n_permutations: int = 2000,
) -> list[dict[str, Any]]:
    """Scores of every pair of modalities; on the diagonal, another subject of the same modality.

    A query is a signal of a source subject, its gallery the signals of one target subject, one an image, of the same
    pool: images that every subject was tested on. Queries of all pairs of subjects are scored together; intervals and
    permutations take the image as the unit.

    Parameters
    ----------
    samples : sequence of Samples
    similarity : mapping of (source name, target name) to array of shape (n_source, n_target)
        Rows and columns in the order of the samples' ids.
    decoding : mapping of name to array of shape (n, n_images)
        Similarity of a subject's signals with the images themselves, columns in the order of its ids.

    Returns
    -------
    list of dict
        One a cell: source, target, n_pairs (of subjects), pool, top1, top5, two_way with intervals, chance, p, and
        `normalised` (see `NORMALISED`). Cells without a pair of subjects are left out.

    Raises
    ------
    InputError
        If fewer than two images were shown to all.
    """
    pool = [name for name in samples[0].ids if all(name in one.ids for one in samples)]
    if len(pool) < 2:
        raise InputError(f"{len(pool)} test images were shown to all subjects, a conversion needs at least 2")
    where = {one.name: np.array([one.ids.index(name) for name in pool]) for one in samples}
    draws = {"seed": seed, "n_resamples": n_resamples, "n_permutations": n_permutations}
    modalities = list(dict.fromkeys(one.modality for one in samples))

    def decoded(modality: str) -> float:
        rows = [
            decoding[one.name][np.ix_(where[one.name], where[one.name])] for one in samples if one.modality == modality
        ]
        return evaluate_retrieval(np.concatenate(rows), pool * len(rows), pool, **draws).two_way

    own = {modality: decoded(modality) for modality in modalities}
    cells = []
    for source in modalities:
        for target in modalities:
            pairs = [
                (a, b)
                for a in samples
                for b in samples
                if a.modality == source and b.modality == target and a.name != b.name
            ]
            if not pairs:
                continue
            rows = [similarity[a.name, b.name][np.ix_(where[a.name], where[b.name])] for a, b in pairs]
            scores = evaluate_retrieval(np.concatenate(rows), pool * len(rows), pool, **draws)
            cells.append(
                {
                    "source": source,
                    "target": target,
                    "n_pairs": len(pairs),
                    "pool": len(pool),
                    "top1": scores.top1,
                    "top1_ci95": scores.top1_ci95,
                    "top5": scores.top5,
                    "top5_ci95": scores.top5_ci95,
                    "two_way": scores.two_way,
                    "two_way_ci95": scores.two_way_ci95,
                    "chance_top1": scores.chance_top1,
                    "p": scores.permutation_p,
                    "target_two_way": own[target],
                    "normalised": scores.two_way / own[target],
                }
            )
    return cells
