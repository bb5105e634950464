"""Where the files of THINGS-MEG lie: `preprocessed_P1-epo.fif` with its further parts, and the table of trials."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from brainalign.errors import InputError

EPOCH_PLACES = ("derivatives/preprocessed", "preprocessed", "")
TABLE_PLACES = ("sourcedata", "", "derivatives/preprocessed", "preprocessed")
_FIRST = re.compile(r"preprocessed_P(\d+)-epo\.fif")


@dataclass(frozen=True)
class SubjectFiles:
    """Files of one subject.

    Attributes
    ----------
    parts : tuple of Path
        `preprocessed_P1-epo.fif`, `-epo-1.fif`, `-epo-2.fif`, ... : one recording cut at 2 GB.
    table : Path or None
        `sample_attributes_P1.csv`; the epochs file may carry the same table.
    """

    parts: tuple[Path, ...]
    table: Path | None

    @property
    def all(self) -> tuple[Path, ...]:
        """Parts and table."""
        return self.parts if self.table is None else (*self.parts, self.table)


def subjects_in(root: Path) -> dict[str, Path]:
    """Subject to its first epochs file, in order.

    Raises
    ------
    InputError
        If a subject lies in two places: nobody could tell which one a score came from.
    """
    found: dict[str, Path] = {}
    for place in EPOCH_PLACES:
        for path in sorted((root / place).glob("preprocessed_P*-epo.fif")):
            match = _FIRST.fullmatch(path.name)
            if not match:
                continue
            if match[1] in found:
                problem = f"subject {match[1]} lies here and in {found[match[1]].parent}"
                raise InputError(problem, where=path, hint="keep one of them below this root")
            found[match[1]] = path
    return dict(sorted(found.items(), key=lambda item: int(item[0])))


def subject_files(root: Path, subject: str) -> SubjectFiles:
    """The files of a subject.

    Raises
    ------
    InputError
        If there is no first part, or one of the following is missing in between.
    """
    first = subjects_in(root).get(subject)
    if first is None:
        name = f"preprocessed_P{subject}-epo.fif"
        looked = ", ".join(place or "." for place in EPOCH_PLACES)
        raise InputError(f"no {name}", where=root, hint=f"looked in {looked}; see brainalign datasets check things-meg")
    numbers = sorted(
        int(match[1])
        for path in first.parent.glob(f"preprocessed_P{subject}-epo-*.fif")
        if (match := re.fullmatch(rf"preprocessed_P{subject}-epo-(\d+)\.fif", path.name))
    )
    if numbers != list(range(1, len(numbers) + 1)):
        gap = next(i for i in range(1, len(numbers) + 2) if i not in numbers)
        missing = first.with_name(f"preprocessed_P{subject}-epo-{gap}.fif")
        raise InputError("no such file, later parts are there", where=missing, hint="get the missing part")
    parts = (first, *(first.with_name(f"preprocessed_P{subject}-epo-{i}.fif") for i in numbers))
    tables = (root / place / f"sample_attributes_P{subject}.csv" for place in TABLE_PLACES)
    return SubjectFiles(parts, next((path for path in tables if path.is_file()), None))
