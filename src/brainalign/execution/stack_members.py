"""The runs of a stack: what their folders hold, checked to belong together."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import InputError
from brainalign.evaluation.result import Result, read_result

SHARED = ("dataset", "modality", "protocol", "subject", "split", "split_fingerprint")
AGAIN = "run it again in another folder"


@dataclass(frozen=True)
class Scores:
    """Stored similarities of a run, (n_queries, n_gallery), and the names of rows and columns."""

    similarity: NDArray[np.float64]
    query_ids: tuple[str, ...]
    gallery_ids: tuple[str, ...]

    @property
    def truth(self) -> NDArray[np.intp]:
        """Column of each query's image."""
        columns = {name: column for column, name in enumerate(self.gallery_ids)}
        return np.array([columns[name] for name in self.query_ids], dtype=np.intp)

    def ordered_as(self, other: Scores) -> NDArray[np.float64] | None:
        """The similarities with rows and columns in another's order; None where the images are not the same."""
        rows, columns = _order(self.query_ids, other.query_ids), _order(self.gallery_ids, other.gallery_ids)
        return None if rows is None or columns is None else self.similarity[np.ix_(rows, columns)]


@dataclass(frozen=True)
class Member:
    """A finished run that is to be stacked."""

    folder: Path
    name: str
    result: Result
    validation: Scores
    test: Scores


def read_members(folders: Sequence[str | Path]) -> list[Member]:
    """Finished runs of one data set, subject and split.

    Raises
    ------
    InputError
        If there are fewer than two, one is not finished or kept no validation similarities, two are the same run, or
        they differ in data, split or repetitions.
    """
    if len(folders) < 2:
        hint = "name the folders of finished runs"
        raise InputError(f"a stack needs two runs or more, got {len(folders)}", hint=hint)
    names = _names([Path(folder) for folder in folders])
    members = [_read_member(Path(folder), name) for folder, name in zip(folders, names, strict=True)]
    first = members[0]
    seen: dict[str, Member] = {}
    for member in members:
        _same_job(member, first)
        twin = seen.setdefault(member.result.config_hash, member)
        if twin is not member:
            raise InputError(f"is the same run as {twin.folder}", where=member.folder, hint="name every run once")
    return members


def same_images(scores: Scores, first: Scores, member: Member, other: Member, verb: str) -> NDArray[np.float64]:
    """A member's similarities in the order of another's rows and columns.

    Raises
    ------
    InputError
        If their images differ.
    """
    found = scores.ordered_as(first)
    if found is None:
        text = f"was not {verb} on the images of {other.folder}"
        raise InputError(text, where=member.folder, hint="stack runs of one data set, subject and split")
    return found


def _read_member(folder: Path, name: str) -> Member:
    result = read_result(folder)
    validation = _read_scores(folder, "validation.npz")
    return Member(folder, name, result, validation, _read_scores(folder, "predictions.npz"))


def _read_scores(folder: Path, name: str) -> Scores:
    path = folder / name
    if not path.is_file() and name == "validation.npz":
        hint = "its version of brainalign did not keep them: train it again in another folder"
        raise InputError("holds no validation similarities (validation.npz)", where=folder, hint=hint)
    try:
        with np.load(path, allow_pickle=False) as file:
            similarity, queries, gallery = (file[key] for key in ("similarity", "query_ids", "gallery_ids"))
    except FileNotFoundError as error:
        raise InputError("no such file", where=path, hint="is this the folder of a finished run?") from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"is damaged ({error})", where=path, hint=AGAIN) from error
    found = Scores(similarity, tuple(map(str, queries.tolist())), tuple(map(str, gallery.tolist())))
    _check(found, path)
    return replace(found, similarity=similarity.astype(np.float64))


def _check(scores: Scores, path: Path) -> None:
    matrix, shape = scores.similarity, (len(scores.query_ids), len(scores.gallery_ids))
    missing = set(scores.query_ids) - set(scores.gallery_ids)
    problem = None
    if matrix.shape != shape or matrix.dtype.kind != "f":
        problem = f"similarity has shape {matrix.shape} and type {matrix.dtype}, expected floats {shape}"
    elif not np.isfinite(matrix).all():
        problem = "similarity holds NaN or infinity"
    elif missing:
        problem = f"query '{min(missing)}' is not in the gallery"
    elif len(set(scores.gallery_ids)) < shape[1]:
        problem = "the gallery holds an image twice"
    if problem:
        raise InputError(problem, where=path, hint=AGAIN)


def _same_job(member: Member, first: Member) -> None:
    for key in SHARED:
        mine, theirs = getattr(member.result, key), getattr(first.result, key)
        if mine != theirs:
            text = f"has {key.replace('_', ' ')} {mine}, {first.folder} has {theirs}"
            raise InputError(text, where=member.folder, hint="stack runs of one data set, subject and split")
    for part in ("test", "validation"):
        mine, theirs = (getattr(m.result.metrics, part).repetitions for m in (member, first))
        if mine != theirs:
            text = f"averages {mine} repetitions in a {part} query, {first.folder} averages {theirs}"
            raise InputError(text, where=member.folder, hint="evaluate all runs with the same evaluation.repetitions")


def _order(names: tuple[str, ...], wanted: tuple[str, ...]) -> NDArray[np.intp] | None:
    """Where each wanted name stands; None where names differ, or cannot be told apart in another order."""
    if names == wanted:
        return np.arange(len(names))
    where = {name: place for place, name in enumerate(names)}
    if len(where) < len(names) or len(names) != len(wanted) or set(wanted) != set(names):
        return None
    return np.array([where[name] for name in wanted], dtype=np.intp)


def _names(folders: Sequence[Path]) -> list[str]:
    """Names of the folders, with as many parents as tell them apart."""
    paths = [folder.resolve() for folder in folders]
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{path.name} ({number})" for number, path in enumerate(paths, start=1)]
