"""The two ways to cut: hold out images, or keep a data set's own test part and hold out validation concepts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from brainalign.errors import InputError
from brainalign.protocols.split import (
    AcrossSubjects,
    Split,
    WithinSubject,
    check_index,
    need,
    part_ids,
    seen_by,
    shuffled,
)
from brainalign.recordings import Recording
from brainalign.stimuli import StimulusSet

TRAIN_MIN = 8


@dataclass(frozen=True)
class ImageHoldout(WithinSubject):
    """Random images held out for test and validation; for data without concepts.

    Attributes
    ----------
    n_test, n_validation : int
        Number of images.
    """

    name: str
    description: str
    n_test: int = 200
    n_validation: int = 100

    def split(self, index: int, stimuli: StimulusSet, recording: Recording, sources: Sequence[Recording] = ()) -> Split:
        """Cut the images that have trials.

        Raises
        ------
        InputError
            If the number is not frozen or there are too few images.
        """
        check_index(index, self.name)
        seen = seen_by(stimuli, recording)
        need(len(seen), self.n_test + self.n_validation + TRAIN_MIN, "images with trials", self.name)
        order = shuffled(seen, f"{self.name}/{index}")
        held = self.n_test + self.n_validation
        return Split(
            protocol=self.name,
            index=index,
            test=tuple(order[: self.n_test]),
            validation=tuple(order[self.n_test : held]),
            train=tuple(order[held:]),
            validation_kind="image-disjoint",
        )


@dataclass(frozen=True)
class OfficialTest(WithinSubject):
    """The data set's own test images; validation concepts held out of its training part.

    All images of a validation concept validate; none of them trains.

    Attributes
    ----------
    n_validation_concepts : int
        Concepts held out for validation; at most a fifth of the training concepts is taken.
    """

    name: str
    description: str
    n_validation_concepts: int = 40

    def split(self, index: int, stimuli: StimulusSet, recording: Recording, sources: Sequence[Recording] = ()) -> Split:
        """Cut the training part by concept; of `sources`, where training subjects are others, what any of them saw.

        Raises
        ------
        InputError
            If there is no test part, no concept, or a test image was also shown in training.
        """
        check_index(index, self.name)
        seen = seen_by(stimuli, recording)
        test = part_ids(recording, "test", seen)
        trained: set[str] = set()
        for source in sources or (recording,):
            trained |= set(part_ids(source, "train", seen_by(stimuli, source)))
        train = [name for name in stimuli.ids if name in trained]
        both = set(train) & set(test)
        if both:
            raise InputError(f"'{min(both)}' was shown in the training and in the test part", hint="remove one of them")
        need(len(test), 2, "test images", self.name)
        need(len(train), TRAIN_MIN, "training images", self.name)
        if not stimuli.has_concepts:
            raise InputError(f"protocol '{self.name}' needs a concept for every image", hint="add the column 'concept'")
        concept = dict(zip(train, stimuli.column("concept", train), strict=True))
        tested = set(stimuli.column("concept", test))
        train = [name for name in train if concept[name] not in tested]
        concepts = shuffled(sorted({concept[name] for name in train}), f"{self.name}/{index}")
        need(len(concepts), 5, "training concepts that are not tested", self.name)
        held = set(concepts[: min(self.n_validation_concepts, max(1, len(concepts) // 5))])
        return Split(
            protocol=self.name,
            index=index,
            train=tuple(name for name in train if concept[name] not in held),
            validation=tuple(name for name in train if concept[name] in held),
            test=tuple(test),
            validation_kind="concept-disjoint",
        )


@dataclass(frozen=True)
class LeaveSubjectOut(AcrossSubjects, OfficialTest):
    """Everybody else trains and validates, the left-out subject is tested.

    Stimuli are cut as in `OfficialTest`: no test concept is in anybody's training data.
    """


@dataclass(frozen=True)
class OwnData(WithinSubject):
    """For own recordings: their own test part if they name one, else a sixth of the images (at most 200) held out.

    With a test part and a concept for every image it cuts as `OfficialTest`: tested concepts do not train, and other
    concepts validate. In any other case images are held out, whatever their concepts: other images of a tested or
    validated concept may train.
    """

    name: str
    description: str

    def split(self, index: int, stimuli: StimulusSet, recording: Recording, sources: Sequence[Recording] = ()) -> Split:
        """Cut by what the recording offers; see the class."""
        check_index(index, self.name)
        seen = seen_by(stimuli, recording)
        if part_ids(recording, "test", seen):
            if stimuli.has_concepts:
                return OfficialTest(self.name, self.description).split(index, stimuli, recording, sources)
            return self._own_test(index, recording, seen)
        need(len(seen), 2 * TRAIN_MIN, "images with trials", self.name)
        n_test = min(200, max(2, len(seen) // 6))
        n_validation = min(100, max(2, len(seen) // 8))
        return ImageHoldout(self.name, self.description, n_test, n_validation).split(index, stimuli, recording)

    def _own_test(self, index: int, recording: Recording, seen: list[str]) -> Split:
        test, train = part_ids(recording, "test", seen), part_ids(recording, "train", seen)
        both = set(train) & set(test)
        if both:
            raise InputError(f"'{min(both)}' was shown in the training and in the test part", hint="remove one of them")
        need(len(train), 2 * TRAIN_MIN, "training images", self.name)
        order = shuffled(train, f"{self.name}/{index}")
        n_validation = min(100, max(2, len(train) // 8))
        return Split(
            self.name, index, tuple(order[n_validation:]), tuple(order[:n_validation]), tuple(test), "image-disjoint"
        )


@dataclass(frozen=True)
class OwnLeaveSubjectOut(AcrossSubjects, OwnData):
    """For own recordings of several subjects with shared images, cut as in `OwnData`: test images train nobody."""
