"""How published programs cut their data, so that numbers can be compared with theirs; see docs/protocols.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from brainalign.protocols.holdout import OfficialTest
from brainalign.protocols.split import AcrossSubjects, Split, check_index, need, shuffled
from brainalign.recordings import Recording
from brainalign.stimuli import StimulusSet


@dataclass(frozen=True)
class RandomValidation(OfficialTest):
    """Images drawn at random from the training part validate: their concepts are trained on (NICE and after it).

    Attributes
    ----------
    n_validation : int
        Images; at most a fifth of the training images is taken.
    """

    n_validation: int = 740

    def split(self, index: int, stimuli: StimulusSet, recording: Recording, sources: Sequence[Recording] = ()) -> Split:
        """Cut the training part by image.

        Raises
        ------
        InputError
            As `OfficialTest.split` does.
        """
        whole = super().split(index, stimuli, recording, sources)
        known = [*whole.train, *whole.validation]
        held = set(shuffled(known, f"{self.name}/{index}")[: min(self.n_validation, len(known) // 5)])
        return replace(
            whole,
            train=tuple(name for name in stimuli.ids if name in set(known) - held),
            validation=tuple(name for name in stimuli.ids if name in held),
            validation_kind="image-disjoint",
        )


@dataclass(frozen=True)
class RandomValidationLeftOut(AcrossSubjects, RandomValidation):
    """The same images of every other subject validate, the left-out subject is tested (NICE: 740 x 9)."""


@dataclass(frozen=True)
class TestImagesValidate(AcrossSubjects, OfficialTest):
    """Everybody else's signals of the TEST images choose the epoch, as UBP's program does; the lint refuses it."""

    __test__ = False  # not a pytest class

    def split(self, index: int, stimuli: StimulusSet, recording: Recording, sources: Sequence[Recording] = ()) -> Split:
        """All training images train, the test images validate.

        Raises
        ------
        InputError
            As `OfficialTest.split` does, or if no other subject saw the test images.
        """
        check_index(index, self.name)
        whole = super().split(index, stimuli, recording, sources)
        train = tuple(name for name in stimuli.ids if name in {*whole.train, *whole.validation})
        shown = tuple(name for name in whole.test if all(name in source.index for source in sources))
        need(len(shown), 2, "test images that all other subjects saw", self.name)
        return replace(whole, train=train, validation=shown)
