"""Concept templates as a gallery: the mean of a concept's other images stands for it (NICE, NICE-LLM)."""

from __future__ import annotations

from collections.abc import Container

from brainalign.errors import InputError
from brainalign.protocols.split import Split
from brainalign.stimuli import StimulusSet


def concept_templates(split: Split, stimuli: StimulusSet, shown: Container[str]) -> dict[str, tuple[str, ...]]:
    """Images that stand for each test image: others of its concept, which no trial showed.

    Parameters
    ----------
    split : Split
    stimuli : StimulusSet
        Holding, besides the images shown, others of the test concepts.
    shown : container of str
        Stimuli with trials.

    Returns
    -------
    dict of str to tuple of str
        Of every gallery image, the stimuli whose features are averaged.

    Raises
    ------
    InputError
        If images carry no concept, two gallery images share one, or a concept has no other image.
    """
    if not stimuli.has_concepts:
        raise InputError("a gallery of concept templates needs a concept for every image", hint="use gallery=shown")
    concepts = dict(zip(split.gallery, stimuli.column("concept", split.gallery), strict=True))
    if len(set(concepts.values())) < len(concepts):
        raise InputError("two test images share a concept, so that templates cannot tell them apart")
    others: dict[str, list[str]] = {concept: [] for concept in concepts.values()}
    for name, concept in zip(stimuli.ids, stimuli.column("concept", stimuli.ids), strict=True):
        if concept in others and name not in shown:
            others[concept].append(name)
    if bare := [concept for concept, found in others.items() if not found]:
        raise InputError(
            f"{len(bare)} test concepts (first: {bare[0]}) have no image beside the one shown",
            where="evaluation.gallery",
            hint="add other images of the test concepts to the data set (docs/protocols.md), or use gallery=shown",
        )
    return {name: tuple(others[concept]) for name, concept in concepts.items()}
