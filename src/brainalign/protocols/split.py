"""A protocol names frozen splits; a split says which stimuli train, validate and test."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol as TypingProtocol

from brainalign.errors import InputError
from brainalign.files import sha256_json
from brainalign.recordings import Recording
from brainalign.stimuli import StimulusSet

DEVELOPMENT_SPLITS = range(5)
CONFIRMATION_SPLITS = range(10, 15)


@dataclass(frozen=True)
class Split:
    """Stimulus ids of one frozen split.

    Attributes
    ----------
    protocol : str
        Versioned name, such as `macaque-v4/within-session/v1`.
    index : int
        0 to 4 for development, 10 to 14 for confirmation.
    train, validation, test : tuple of str
        Disjoint stimulus ids. The gallery of a test query is `gallery`.
    gallery : tuple of str
        Images a test signal is compared with; by default exactly the test images.
    validation_kind : {'concept-disjoint', 'image-disjoint'}
        Whether validation concepts are absent from training.
    """

    protocol: str
    index: int
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    validation_kind: str
    gallery: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.gallery:
            object.__setattr__(self, "gallery", self.test)

    @property
    def fingerprint(self) -> str:
        """sha256 of all ids: two splits of one name with another fingerprint are another split."""
        return sha256_json([self.protocol, self.index, self.train, self.validation, self.test, self.gallery])


class Protocol(TypingProtocol):
    """A named, versioned way to cut a data set."""

    @property
    def name(self) -> str:
        """Versioned name."""

    @property
    def description(self) -> str:
        """What is held out, in a sentence."""

    def training_subjects(self, subject: str, subjects: Sequence[str]) -> tuple[str, ...]:
        """Whose signals train and validate when `subject` is tested."""

    def split(self, index: int, stimuli: StimulusSet, recording: Recording, sources: Sequence[Recording] = ()) -> Split:
        """The frozen split of this number.

        Parameters
        ----------
        recording : Recording
            Of the tested subject.
        sources : sequence of Recording
            Of the training subjects, where they are others.
        """


class WithinSubject:
    """Mixed into protocols that train, validate and test on one subject."""

    def training_subjects(self, subject: str, subjects: Sequence[str]) -> tuple[str, ...]:
        """The tested subject."""
        return (subject,)


class AcrossSubjects:
    """Mixed into protocols that leave a subject out: its training part is never read."""

    def training_subjects(self, subject: str, subjects: Sequence[str]) -> tuple[str, ...]:
        """All but the tested one.

        Raises
        ------
        InputError
            If there is nobody else.
        """
        others = tuple(name for name in subjects if name != subject)
        if not others:
            hint = "a protocol that leaves a subject out needs at least two"
            raise InputError(f"there is no subject besides '{subject}'", hint=hint)
        return others


def shuffled(names: Iterable[str], salt: str) -> list[str]:
    """Names in an order fixed for ever by their sha256 with a salt, whatever the machine, library or input order."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{salt}\n{name}".encode()).digest())


def check_index(index: int, protocol: str) -> None:
    """Refuse split numbers that are not frozen."""
    if index not in DEVELOPMENT_SPLITS and index not in CONFIRMATION_SPLITS:
        raise InputError(
            f"protocol '{protocol}' has no split {index}", hint="0 to 4 (development) or 10 to 14 (confirmation)"
        )


def seen_by(stimuli: StimulusSet, recording: Recording) -> list[str]:
    """Stimuli that have at least one trial, in table order.

    Raises
    ------
    InputError
        If a trial showed an image that the stimulus table lacks.
    """
    unknown = recording.index.keys() - set(stimuli.ids)
    if unknown:
        raise InputError(f"trials showed '{min(unknown)}', which the stimulus table lacks", hint="add it to the table")
    return [name for name in stimuli.ids if name in recording.index]


def need(count: int, wanted: int, what: str, protocol: str) -> None:
    """Refuse a data set too small for a protocol."""
    if count < wanted:
        raise InputError(f"protocol '{protocol}' needs at least {wanted} {what}, there are {count}")


def part_ids(recording: Recording, part: str, seen: Sequence[str]) -> list[str]:
    """Stimuli of `seen` shown in the given part of the recording."""
    trials = recording.trials
    members = set(trials["stimulus_id"][trials["part"] == part])
    return [name for name in seen if name in members]
