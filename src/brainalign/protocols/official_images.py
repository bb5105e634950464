"""A data set's own test images, though their concepts were trained: an easier question, and it says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from brainalign.errors import InputError
from brainalign.protocols.holdout import TRAIN_MIN
from brainalign.protocols.split import Split, WithinSubject, check_index, need, part_ids, seen_by, shuffled
from brainalign.recordings import Recording
from brainalign.stimuli import StimulusSet


@dataclass(frozen=True)
class OfficialImages(WithinSubject):
    """The data set's own test images; validation images are held out of its training part at random.

    Other photos of the test concepts train, so nothing here is zero-shot: the split is called image-disjoint, and the
    lint notes the shared concepts in every result.

    Attributes
    ----------
    n_validation : int
        Images held out for validation.
    """

    name: str
    description: str
    n_validation: int = 100

    def split(self, index: int, stimuli: StimulusSet, recording: Recording, sources: Sequence[Recording] = ()) -> Split:
        """Cut the training part by image.

        Raises
        ------
        InputError
            If there is no test part, too few training images, or a test image was also shown in training.
        """
        check_index(index, self.name)
        seen = seen_by(stimuli, recording)
        test, train = part_ids(recording, "test", seen), part_ids(recording, "train", seen)
        both = set(train) & set(test)
        if both:
            raise InputError(f"'{min(both)}' was shown in the training and in the test part", hint="remove one of them")
        need(len(test), 2, "test images", self.name)
        need(len(train), self.n_validation + TRAIN_MIN, "training images", self.name)
        order = shuffled(train, f"{self.name}/{index}")
        return Split(
            protocol=self.name,
            index=index,
            train=tuple(order[self.n_validation :]),
            validation=tuple(order[: self.n_validation]),
            test=tuple(test),
            validation_kind="image-disjoint",
        )
