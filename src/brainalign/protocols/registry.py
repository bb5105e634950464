"""Protocols by name."""

from __future__ import annotations

from brainalign.errors import unknown_name
from brainalign.protocols.holdout import ImageHoldout, OfficialTest, OwnData
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
        OwnData(
            "own/intra/v1",
            "Own recordings of one subject: their own test part, or a sixth of the images held out.",
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
