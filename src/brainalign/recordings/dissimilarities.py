"""Dissimilarities: how unlike the responses to every two images were, for recordings that are published only so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainalign.errors import InputError, unknown_name

CONDITIONS_MIN = 4  # of 3 images there are 3 pairs, which any two orders match by chance in one case of six
TOLERANCE = 1e-6  # of the diagonal and of symmetry, as a share of the largest value


@dataclass(frozen=True)
class Dissimilarities:
    """Square matrices of dissimilarities between images, one a subject.

    Use `Dissimilarities.from_array`: it checks what it is given.

    Attributes
    ----------
    values : array of shape (n_subjects, n_stimuli, n_stimuli), float64
        Symmetric with a diagonal of 0. Cross-validated distances may be negative.
    stimulus_ids : tuple of n_stimuli str
    subjects : tuple of n_subjects str
    name : str
        What they are of: a region, a layer, a window of time.
    measure : str
        Which distance they are: 'correlation', 'crossnobis', ..., or 'as published'.

    Examples
    --------
    >>> found = Dissimilarities.from_array(np.abs(np.subtract.outer(range(4), range(4))), list("abcd"), name="IT")
    >>> found.vectors.shape, found.select(["d", "b", "a", "c"]).stimulus_ids
    ((1, 6), ('d', 'b', 'a', 'c'))
    """

    values: NDArray[np.float64]
    stimulus_ids: tuple[str, ...]
    subjects: tuple[str, ...]
    name: str = ""
    measure: str = ""

    @classmethod
    def from_array(
        cls,
        values: ArrayLike,
        stimulus_ids: Sequence[str],
        subjects: Sequence[str] | None = None,
        *,
        name: str = "",
        measure: str = "",
        where: object = None,
    ) -> Dissimilarities:
        """Check matrices and make them exactly symmetric.

        Parameters
        ----------
        values : array of shape (n_subjects, n_stimuli, n_stimuli) or (n_stimuli, n_stimuli)
        stimulus_ids : sequence of n_stimuli str
        subjects : sequence of n_subjects str, optional
            '1', '2', ... by default.
        where : optional
            File they come from, for errors.

        Raises
        ------
        InputError
            If shapes do not fit, fewer than 4 images are given, a name stands twice, a value is no finite number, a
            matrix is not symmetric, its diagonal is not 0, or all its pairs are equally unlike.
        """
        array = np.asarray(values)
        array = array[None] if array.ndim == 2 else array
        if array.dtype.kind not in "fiu" or array.ndim != 3 or array.shape[1] != array.shape[2] or not len(array):
            problem = (
                f"has dissimilarities of shape {array.shape} of {array.dtype}, expected (subjects, images, images)"
            )
            raise InputError(problem, where=where, hint="give one square matrix a subject")
        people = tuple(map(str, subjects)) if subjects is not None else tuple(str(i + 1) for i in range(len(array)))
        ids = tuple(map(str, stimulus_ids))
        for kind, names, expected in (("image", ids, array.shape[1]), ("subject", people, array.shape[0])):
            if len(names) != expected or len(set(names)) != len(names):
                problem = f"{len(names)} {kind} names ({len(set(names))} distinct) for matrices of shape {array.shape}"
                raise InputError(problem, where=where, hint=f"give every {kind} its own name")
        if array.shape[1] < CONDITIONS_MIN:
            problem = f"has {array.shape[1]} images, at least {CONDITIONS_MIN} are needed to compare dissimilarities"
            raise InputError(problem, where=where)
        return cls(_checked(array.astype(np.float64), people, ids, where), ids, people, name, measure)

    @property
    def vectors(self) -> NDArray[np.float64]:
        """Every pair once, (n_subjects, n_stimuli * (n_stimuli - 1) / 2), rows of the upper triangle in turn."""
        return upper_triangle(self.values)

    def select(self, stimulus_ids: Sequence[str]) -> Dissimilarities:
        """Some images, in the order given.

        Raises
        ------
        InputError
            If an image is not here.
        """
        row = {name: i for i, name in enumerate(self.stimulus_ids)}
        missing = [name for name in stimulus_ids if name not in row]
        if missing:
            raise InputError(f"no dissimilarities of stimulus '{missing[0]}'", where=self.name or None)
        rows = [row[name] for name in stimulus_ids]
        return replace(self, values=self.values[:, rows][:, :, rows], stimulus_ids=tuple(stimulus_ids))

    def of(self, subjects: Sequence[str]) -> Dissimilarities:
        """Some subjects, in the order given.

        Raises
        ------
        InputError
            If one is not here.
        """
        for name in subjects:
            if name not in self.subjects:
                raise unknown_name("subject", name, self.subjects, where=self.name or None)
        rows = [self.subjects.index(name) for name in subjects]
        return replace(self, values=self.values[rows], subjects=tuple(subjects))


def upper_triangle(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Entries above the diagonal, row by row: (..., n, n) to (..., n * (n - 1) / 2)."""
    rows, columns = np.triu_indices(values.shape[-1], 1)
    found: NDArray[np.float64] = values[..., rows, columns]
    return found


def _checked(
    array: NDArray[np.float64], people: Sequence[str], ids: Sequence[str], where: object
) -> NDArray[np.float64]:
    """Matrices made exactly symmetric, or the reason why they cannot be used."""
    for person, matrix in zip(people, array, strict=True):
        who = f"the matrix of subject {person}"
        if not np.isfinite(matrix).all():
            i, j = np.argwhere(~np.isfinite(matrix))[0]
            problem = f"{who} holds {matrix[i, j]} for images {ids[i]} and {ids[j]}"
            raise InputError(problem, where=where, hint="leave that subject or image out")
        slack = TOLERANCE * np.abs(matrix).max()
        skew = np.abs(matrix - matrix.T)
        if skew.max() > slack:
            i, j = divmod(int(skew.argmax()), len(ids))
            problem = f"{who} is not symmetric: {matrix[i, j]:.6g} and {matrix[j, i]:.6g} for {ids[i]} and {ids[j]}"
            raise InputError(problem, where=where, hint="a dissimilarity has no direction")
        own = np.abs(np.diag(matrix))
        if own.max() > slack:
            i = int(own.argmax())
            problem = f"{who} has {matrix[i, i]:.6g} on its diagonal (image {ids[i]}), expected 0"
            raise InputError(problem, where=where, hint="these may be similarities: give 1 - r")
        if np.ptp(upper_triangle(matrix)) == 0:
            raise InputError(f"in {who} all pairs are equally unlike", where=where, hint="leave that subject out")
    even = (array + array.transpose(0, 2, 1)) / 2
    even[:, np.arange(len(ids)), np.arange(len(ids))] = 0.0
    return even
