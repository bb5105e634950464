"""Splits that a data set publishes image by image: its own training, validation and test part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from brainalign.errors import InputError
from brainalign.protocols.holdout import TRAIN_MIN
from brainalign.protocols.split import (
    CONFIRMATION_SPLITS,
    DEVELOPMENT_SPLITS,
    Split,
    WithinSubject,
    check_index,
    need,
    seen_by,
)
from brainalign.recordings import Recording
from brainalign.stimuli import StimulusSet
from brainalign.stimuli.columns import PARTS, PUBLISHED, part_column


@dataclass(frozen=True)
class PublishedParts(WithinSubject):
    """The parts that the data set publishes; choices are made on its own validation part.

    Splits 0 to 4 are the published ones of these numbers, splits 10 to 14 the published numbers 5 to 9, as far as there
    are so many. The stimulus table names the parts: `published_split_0` holds 'train', 'val', 'test' or nothing.
    Classes are in all three parts, so the split is called image-disjoint.
    """

    name: str
    description: str

    def split(self, index: int, stimuli: StimulusSet, recording: Recording, sources: Sequence[Recording] = ()) -> Split:
        """The images of each part that have trials, in the order of the stimulus table.

        Raises
        ------
        InputError
            If there is no published split of this number, or a part is too small.
        """
        check_index(index, self.name)
        number = index if index in DEVELOPMENT_SPLITS else index - CONFIRMATION_SPLITS.start + len(DEVELOPMENT_SPLITS)
        column = part_column(number)
        published = [name for name in map(str, stimuli.table.columns) if name.startswith(PUBLISHED)]
        if column not in published:
            hint = "give one of these" if published else "put the data set's file of splits beside its signals"
            there = f"there are {len(published)}, counted from 0" if published else "there are none"
            raise InputError(f"split {index} would be published split {number}, {there}", where=self.name, hint=hint)
        seen = seen_by(stimuli, recording)
        part = dict(zip(seen, stimuli.column(column, seen), strict=True))
        train, validation, test = (tuple(name for name in seen if part[name] == wanted) for wanted in PARTS)
        need(len(test), 2, "test images", self.name)
        need(len(validation), 2, "validation images", self.name)
        need(len(train), TRAIN_MIN, "training images", self.name)
        return Split(self.name, index, train, validation, test, "image-disjoint")
