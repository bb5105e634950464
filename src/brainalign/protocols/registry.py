"""Protocols by name."""

from __future__ import annotations

from brainalign.errors import unknown_name
from brainalign.protocols.concept_holdout import ConceptHoldout, ConceptHoldoutLeftOut
from brainalign.protocols.holdout import ImageHoldout, LeaveSubjectOut, OfficialTest, OwnData, OwnLeaveSubjectOut
from brainalign.protocols.official_images import OfficialImages
from brainalign.protocols.papers import RandomValidation, RandomValidationLeftOut, TestImagesValidate
from brainalign.protocols.published_parts import PublishedParts
from brainalign.protocols.shared_test import SharedTest
from brainalign.protocols.split import Protocol


def _listed(*protocols: Protocol) -> tuple[Protocol, ...]:
    """Tells the type checker that all of them are protocols: they share no base class."""
    return protocols


PROTOCOLS: dict[str, Protocol] = {
    p.name: p
    for p in _listed(
        ImageHoldout(
            "macaque-v4/within-session/v1",
            "200 test photos and 100 validation photos of one session, the rest trains; photos carry no concept, so "
            "validation is disjoint by image.",
            n_test=200,
            n_validation=100,
        ),
        OfficialTest(
            "things-eeg2/intra/v1",
            "The published 200 test concepts of one subject; 100 of the 1,654 training concepts validate.",
            n_validation_concepts=100,
        ),
        OfficialTest(
            "things-meg/intra/v1",
            "The published 200 test photos of one subject, shown twelve times; training photos of their concepts are "
            "left out, and 100 of the 1,654 other concepts validate.",
            n_validation_concepts=100,
        ),
        OfficialTest(
            "things-fmri/intra/v1",
            "The published 100 test photos of one subject, shown twelve times; training photos of their concepts are "
            "left out, and 60 of the 620 other concepts validate.",
            n_validation_concepts=60,
        ),
        OfficialImages(
            "things-fmri/official/v1",
            "The published 100 test photos of one subject while other photos of their concepts train: not zero-shot. "
            "500 training photos validate.",
            n_validation=500,
        ),
        SharedTest(
            "nsd/intra/v1",
            "The shared images that one subject saw three times (up to 1,000); of the images that this subject alone "
            "saw 500 validate and the rest trains; images carry no concept, so validation is disjoint by image.",
        ),
        SharedTest(
            "nsd/intra/paper",
            "As brain-diffuser and most programs after it: every shared image that was shown at all is tested.",
            n_repetitions=1,
        ),
        PublishedParts(
            "eeg-imagenet/intra/v1",
            "The published training, validation and test images of one subject, whose 40 classes are in all parts and "
            "were shown in blocks: no score is zero-shot, and none shows that the image was decoded.",
        ),
        OfficialTest(
            "virtual-eeg/intra/v1",
            "200 held-out test concepts of one virtual subject; 40 training concepts validate.",
            n_validation_concepts=40,
        ),
        LeaveSubjectOut(
            "things-eeg2/inter/v1",
            "The published 200 test concepts of a subject who was left out; all others train, and 100 of the 1,654 "
            "training concepts validate.",
            n_validation_concepts=100,
        ),
        LeaveSubjectOut(
            "things-meg/inter/v1",
            "The published 200 test photos of a subject who was left out; all others train, and 100 of the 1,654 "
            "concepts that are not tested validate.",
            n_validation_concepts=100,
        ),
        LeaveSubjectOut(
            "virtual-eeg/inter/v1",
            "200 held-out test concepts of a virtual subject who was left out; all others train, and 40 training "
            "concepts validate.",
            n_validation_concepts=40,
        ),
        *(
            kind(
                f"virtual-{modality}/{scope}/v1",
                f"200 held-out test concepts of a virtual subject{who} ({modality.upper()}); 40 concepts validate.",
                n_validation_concepts=40,
            )
            for modality in ("meg", "fmri")
            for kind, scope, who in (
                (OfficialTest, "intra", ""),
                (LeaveSubjectOut, "inter", " who was left out; all others train"),
            )
        ),
        RandomValidation(
            "things-eeg2/intra/paper",
            "As NICE and most programs after it: 740 random training images validate, whose concepts are trained on.",
        ),
        RandomValidationLeftOut(
            "things-eeg2/inter/paper",
            "As NICE, one subject left out: the same 740 random training images of each other subject validate.",
        ),
        TestImagesValidate(
            "things-eeg2/inter/paper-ubp",
            "As UBP's program, one subject left out: the others' signals of the test images choose the epoch.",
        ),
        ConceptHoldout(
            "bids/intra/v1",
            "One subject of a BIDS data set: its own test part, or a sixth of the concepts held out, or, without "
            "concepts, of the images.",
        ),
        ConceptHoldoutLeftOut(
            "bids/inter/v1",
            "A BIDS data set, one subject left out: its own test part, or a sixth of the concepts or images, which "
            "train nobody.",
        ),
        OwnData(
            "own/intra/v1",
            "Own recordings of one subject: their own test part, or a sixth of the images held out.",
        ),
        OwnLeaveSubjectOut(
            "own/inter/v1",
            "Own recordings, one subject left out: its own test part, or a sixth of the images, which train nobody.",
        ),
    )
}


def find_protocol(name: str) -> Protocol:
    """A protocol by its versioned name.

    Raises
    ------
    InputError
        If there is none; names the nearest.
    """
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
