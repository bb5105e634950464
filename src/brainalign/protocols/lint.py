"""Looks for leaks: what the field does wrong, found before a score is believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from brainalign.protocols.split import Split
from brainalign.stimuli import StimulusSet
from brainalign.stimuli.columns import BLOCKED, PRESENTATION

BLOCK_DESIGN = "block-design"
# Of notes, those that no figure made from the data may go without.
ALWAYS_SAID = frozenset({BLOCK_DESIGN})


@dataclass(frozen=True)
class LintFinding:
    """One leak or weakness.

    Attributes
    ----------
    code : str
        Stable name, such as `selection-on-test`.
    severity : {'leak', 'note'}
        A leak is refused unless it is asked for by name; a note is written into the result.
    text : str
        One sentence a reader of the result needs.
    """

    code: str
    severity: str
    text: str


def lint_split(split: Split, stimuli: StimulusSet) -> list[LintFinding]:
    """Find images or concepts shared between training, validation and test.

    Images are compared by the sha256 of their bytes, so one picture under two names is found. Data that showed all
    images of a concept in one block (the stimulus table's column `presentation` says 'block') are noted as such.
    """
    parts = {"training": split.train, "validation": split.validation, "test": split.test}
    pairs = (("training", "test"), ("validation", "test"), ("training", "validation"))
    found = [f for a, b in pairs for f in _shared_images(a, parts[a], b, parts[b], stimuli)]
    if stimuli.has_concepts:
        found += [f for a, b in pairs for f in _shared_concepts(a, parts[a], b, parts[b], stimuli, split)]
    found += _block_design(stimuli)
    if split.validation_kind == "image-disjoint":
        found.append(
            LintFinding(
                "validation-by-image",
                "note",
                "Validation holds out images, not concepts: choices were made under easier conditions than "
                "a zero-shot test.",
            )
        )
    if set(split.gallery) != set(split.test):
        found.append(
            LintFinding(
                "gallery-differs",
                "note",
                f"The gallery ({len(split.gallery)} images) is not the set of test images ({len(split.test)}): "
                "not comparable with a retrieval of the shown image among the test images.",
            )
        )
    return found


def _shared_images(
    a: str, first: Sequence[str], b: str, second: Sequence[str], stimuli: StimulusSet
) -> list[LintFinding]:
    ids = stimuli.image_ids
    content = {ids[row]: name for name, row in zip(first, stimuli.rows(first), strict=True)}
    shared = [
        (content[ids[row]], name) for name, row in zip(second, stimuli.rows(second), strict=True) if ids[row] in content
    ]
    if not shared:
        return []
    first_pair = f"{shared[0][0]} = {shared[0][1]}"
    text = f"{len(shared)} {b} images are also {a} images (first: {first_pair}): the score is not zero-shot."
    return [LintFinding(f"images-shared-{a}-{b}", "leak", text)]


def _shared_concepts(
    a: str, first: Sequence[str], b: str, second: Sequence[str], stimuli: StimulusSet, split: Split
) -> list[LintFinding]:
    shared = set(stimuli.column("concept", first)) & set(stimuli.column("concept", second))
    if not shared:
        return []
    # Image hold-outs share concepts by construction; the result then says so, and is not called zero-shot.
    declared = split.validation_kind == "image-disjoint"
    text = f"{len(shared)} concepts (first: {min(shared)}) are in {a} and in {b}: not a test of unseen concepts."
    return [LintFinding(f"concepts-shared-{a}-{b}", "note" if declared else "leak", text)]


def _block_design(stimuli: StimulusSet) -> list[LintFinding]:
    """Li et al., The perils and pitfalls of block design for EEG classification experiments, TPAMI 43(1), 2021."""
    if PRESENTATION not in stimuli.table.columns or not (stimuli.table[PRESENTATION] == BLOCKED).any():
        return []
    text = (
        "All images of a class were shown in one block, so its training and test signals were recorded close together "
        "in time: slow drifts of the recording that have nothing to do with the images tell the classes apart, and "
        "this score does not show that anything seen was decoded (Li et al., TPAMI 2021)."
    )
    return [LintFinding(BLOCK_DESIGN, "note", text)]


def lint_settings(settings: Mapping[str, Any]) -> list[LintFinding]:
    """Find choices that would use the test set.

    Parameters
    ----------
    settings : mapping
        `selection_on` ('validation' or 'test'), `statistics_from` ('train' or 'test'), `assignment` ('independent',
        'hungarian', 'sinkhorn', 'csls'), `weights_from_other_subjects` (bool), `test_reads` (int), `leaves_out` (bool),
        `gallery` ('shown' or 'templates'), `text_apart` (bool: image and text encoder are two models).
    """
    found = []
    if settings.get("selection_on", "validation") == "test":
        found.append(LintFinding("selection-on-test", "leak", "The model was chosen by its score on the test set."))
    if settings.get("statistics_from", "train") == "test":
        text = "Statistics of the test set (mean, covariance or whitening) were used on the test set."
        found.append(LintFinding("test-statistics", "leak", text))
    if settings.get("assignment", "independent") != "independent":
        how = settings["assignment"]
        text = f"Test queries were assigned jointly ({how}): a transductive score, not for the main column."
        found.append(LintFinding("joint-assignment", "leak", text))
    if settings.get("weights_from_other_subjects", False):
        text = "Weights were carried over from a run that trained on the subject now held out."
        found.append(LintFinding("weights-carried-over", "leak", text))
    if settings.get("gallery", "shown") == "templates":
        text = (
            "The gallery holds concept templates (the mean of a concept's other images), not the images shown: this is "
            "a classification among concepts, not comparable with a retrieval of the shown image."
        )
        found.append(LintFinding("gallery-of-templates", "note", text))
    if settings.get("text_apart", False):
        text = (
            "Image and text were read by two models that share no pretrained space: what language does here says "
            "nothing about methods that rest on such a space, either way."
        )
        found.append(LintFinding("text-in-another-space", "note", text))
    if settings.get("leaves_out", False):
        text = (
            "Validation signals come from the subjects who trained (their validation images did not): choices were "
            "made under easier conditions than for the left-out subject."
        )
        found.append(LintFinding("validation-by-trained-subjects", "note", text))
    if int(settings.get("test_reads", 1)) > 1:
        text = f"The test set was opened {settings['test_reads']} times for this run."
        found.append(LintFinding("test-read-twice", "note", text))
    return found
