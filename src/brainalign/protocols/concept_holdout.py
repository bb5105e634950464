"""For data of others without a test part of their own: whole concepts are held out where there are enough of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from brainalign.protocols.holdout import TRAIN_MIN, OwnData
from brainalign.protocols.split import AcrossSubjects, Split, check_index, need, part_ids, seen_by, shuffled
from brainalign.recordings import Recording
from brainalign.stimuli import StimulusSet

CONCEPTS_MIN = 10


@dataclass(frozen=True)
class ConceptHoldout(OwnData):
    """The data's own test part if they name one; else a sixth of the concepts is tested and an eighth validates.

    At most 200 concepts are tested and 100 validate, with all their images. Where not every image has a concept, or
    there are fewer than ten, images are held out as in `OwnData`.
    """

    def split(self, index: int, stimuli: StimulusSet, recording: Recording, sources: Sequence[Recording] = ()) -> Split:
        """Cut by concept; of `sources`, where training subjects are others, what any of them saw trains.

        Raises
        ------
        InputError
            If the number is not frozen or there are too few images.
        """
        check_index(index, self.name)
        seen = seen_by(stimuli, recording)
        if part_ids(recording, "test", seen) or not stimuli.has_concepts:
            return super().split(index, stimuli, recording, sources)
        concept = dict(zip(seen, stimuli.column("concept", seen), strict=True))
        n_concepts = len(set(concept.values()))
        if n_concepts < CONCEPTS_MIN:
            return super().split(index, stimuli, recording, sources)
        order = shuffled(sorted(set(concept.values())), f"{self.name}/{index}")
        n_test = min(200, max(2, n_concepts // 6))
        tested, held = set(order[:n_test]), set(order[n_test : n_test + min(100, max(2, n_concepts // 8))])
        known = {name for source in sources or (recording,) for name in seen_by(stimuli, source)}
        others = [name for name in stimuli.ids if name in known]
        of_other = dict(zip(others, stimuli.column("concept", others), strict=True))
        train = tuple(name for name in others if of_other[name] not in tested | held)
        validation = tuple(name for name in others if of_other[name] in held)
        need(len(train), TRAIN_MIN, "training images", self.name)
        need(len(validation), 2, "validation images", self.name)
        test = tuple(name for name in seen if concept[name] in tested)
        return Split(self.name, index, train, validation, test, "concept-disjoint")


@dataclass(frozen=True)
class ConceptHoldoutLeftOut(AcrossSubjects, ConceptHoldout):
    """Everybody else trains and validates, the left-out subject is tested, cut as in `ConceptHoldout`."""
