"""The images of a BIDS data set: ids, concepts, and which part of the experiment showed them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from brainalign.datasets.bids.events import Shown
from brainalign.datasets.bids.layout import STIMULI
from brainalign.datasets.bids.options import AUTO, NONE
from brainalign.errors import InputError, unknown_name
from brainalign.stimuli import StimulusSet

FOLDER = "folder"
CONCEPT_COLUMN, PART_COLUMN = "trial_type", "part"
FEWEST_CONCEPTS = 10
PARTS = ("train", "test")


def stimulus_id(image: str) -> str:
    """The image's path below `stimuli/` without its suffix, as in folders of own recordings."""
    return PurePosixPath(image).with_suffix("").as_posix()


def stimulus_set(root: Path, runs: Sequence[Shown], concept: str) -> tuple[StimulusSet, str]:
    """All images that any of the runs showed, by name, and where their concepts are from ('' for none).

    Parameters
    ----------
    concept : str
        A column, 'folder', 'none' or 'auto'. 'auto' takes the column `trial_type`, else the subfolder, if it gives
        every image exactly one concept and there are at least ten concepts, but fewer than images; else none. (Few of
        them are conditions, such as 'target', and as many as images are names of images.)

    Raises
    ------
    InputError
        If two files differ only in their suffix, the column is missing, or an image has no concept or two.
    """
    images = sorted({image for shown in runs for image in shown.images})
    by_id: dict[str, str] = {}
    for image in images:
        other = by_id.setdefault(stimulus_id(image), image)
        if other != image:
            hint = "rename one of them: the id of an image is its path without the suffix"
            raise InputError(f"'{other}' and '{image}' are shown", where=root / STIMULI, hint=hint)
    concepts, source = _concepts(runs, images, concept)
    table = {"stimulus_id": list(by_id), "path": images, "concept": [concepts.get(image, "") for image in images]}
    return StimulusSet(pd.DataFrame(table), root / STIMULI), source


def _concepts(runs: Sequence[Shown], images: list[str], concept: str) -> tuple[dict[str, str], str]:
    if concept == NONE:
        return {}, ""
    if concept == AUTO:
        for source in (CONCEPT_COLUMN, FOLDER):
            try:
                found = _from(runs, images, source)
            except InputError:
                continue
            if FEWEST_CONCEPTS <= len(set(found.values())) < len(images):
                return found, source
        return {}, ""
    return _from(runs, images, concept), concept


def _from(runs: Sequence[Shown], images: list[str], source: str) -> dict[str, str]:
    """The one concept of every image."""
    if source != FOLDER:
        return of_images(runs, source, "concept")
    found = {image: PurePosixPath(image).parent.as_posix() for image in images}
    if bare := [image for image, folder in found.items() if folder == "."]:
        raise InputError(f"'{bare[0]}' lies in no subfolder", where=STIMULI, hint="give concept=COLUMN or concept=none")
    return found


def of_images(runs: Iterable[Shown], column: str, what: str, check: Callable[[str], bool] = bool) -> dict[str, str]:
    """From image to its value in a column, the same in every event that shows it.

    Raises
    ------
    InputError
        If the column is missing, a value is not accepted by `check`, or an image has two values.
    """
    found: dict[str, str] = {}
    for shown in runs:
        if not len(shown):
            continue
        if column not in shown.table.columns:
            raise unknown_name("column", column, shown.table.columns, where=shown.table.path)
        for event, (image, value) in enumerate(zip(shown.images, shown.column(column), strict=True)):
            if not check(value):
                raise shown.problem(event, f"the {what} of '{image}' is '{value}'", f"mend the column '{column}'")
            if found.setdefault(image, value) != value:
                problem = f"'{image}' is of the {what} '{value}', elsewhere of '{found[image]}'"
                raise shown.problem(event, problem, f"an image has one {what}; mend '{column}', or give {what}=none")
    return found


def parts_of_images(runs: Sequence[Shown], part: str) -> dict[str, str]:
    """From image to 'train' or 'test'; empty where the protocol holds images out.

    Parameters
    ----------
    part : str
        A column, 'none' or 'auto': the column `part`, if every run has it and it holds nothing but train and test.

    Raises
    ------
    InputError
        If a named column holds something else, or an image is shown in both parts.
    """
    if part == NONE:
        return {}
    if part == AUTO:
        with_images = [shown for shown in runs if len(shown)]
        if not all(PART_COLUMN in s.table.columns and set(s.column(PART_COLUMN)) <= set(PARTS) for s in with_images):
            return {}
        part = PART_COLUMN
    return of_images(runs, part, "part", PARTS.__contains__)
