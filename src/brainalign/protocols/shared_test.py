"""A few images that everybody saw several times are tested; the many that one subject alone saw train (NSD)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from brainalign.errors import InputError
from brainalign.protocols.holdout import TRAIN_MIN
from brainalign.protocols.split import Split, WithinSubject, check_index, need, part_ids, seen_by, shuffled
from brainalign.recordings import Recording
from brainalign.stimuli import StimulusSet


@dataclass(frozen=True)
class SharedTest(WithinSubject):
    """The data set's own test images that were shown often enough; random other images validate, the rest trains.

    A test image shown less often is left out, it does not train: subjects with all sessions and with fewer are then
    tested on signals of one quality, and no shared image is in anybody's training data.

    Attributes
    ----------
    n_validation : int
        Images held out for validation; at most a fifth of the training images is taken.
    n_repetitions : int
        Times a test image must have been shown.
    """

    name: str
    description: str
    n_validation: int = 500
    n_repetitions: int = 3

    def split(self, index: int, stimuli: StimulusSet, recording: Recording, sources: Sequence[Recording] = ()) -> Split:
        """Cut the training part by image.

        Raises
        ------
        InputError
            If too few images were shown often enough, too few train, or a test image was also shown in training.
        """
        check_index(index, self.name)
        seen = seen_by(stimuli, recording)
        shared, train = part_ids(recording, "test", seen), part_ids(recording, "train", seen)
        both = set(train) & set(shared)
        if both:
            raise InputError(f"'{min(both)}' was shown in the training and in the test part", hint="remove one of them")
        counts = recording.repetitions(shared)
        test = tuple(name for name, count in zip(shared, counts, strict=True) if count >= self.n_repetitions)
        need(len(test), 2, f"test images shown {self.n_repetitions} times", self.name)
        need(len(train), 2 * TRAIN_MIN, "training images", self.name)
        order = shuffled(train, f"{self.name}/{index}")
        n_validation = min(self.n_validation, len(train) // 5)
        return Split(
            protocol=self.name,
            index=index,
            train=tuple(order[n_validation:]),
            validation=tuple(order[:n_validation]),
            test=test,
            validation_kind="image-disjoint",
        )
