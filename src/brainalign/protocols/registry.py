"""Protocols by name."""

from __future__ import annotations

from brainalign.errors import unknown_name
from brainalign.protocols.holdout import ImageHoldout, LeaveSubjectOut, OfficialTest, OwnData, OwnLeaveSubjectOut
from brainalign.protocols.papers import RandomValidation, RandomValidationLeftOut, TestImagesValidate
from brainalign.protocols.split import Protocol

PROTOCOLS: dict[str, Protocol] = {
    p.name: p
    for p in (
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
            "virtual-eeg/inter/v1",
            "200 held-out test concepts of a virtual subject who was left out; all others train, and 40 training "
            "concepts validate.",
            n_validation_concepts=40,
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
