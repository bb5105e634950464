"""The papers' own ways to cut the data: what they hold, and what the lint says of each."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from brainalign.errors import InputError
from brainalign.protocols import Split, find_protocol, lint_settings, lint_split
from brainalign.protocols.papers import RandomValidation, RandomValidationLeftOut, TestImagesValidate
from brainalign.protocols.templates import concept_templates
from brainalign.recordings import Recording
from brainalign.stimuli import StimulusSet

IDS = [f"x/{i:03d}" for i in range(120)]  # 20 training concepts of 5, then 20 tested ones
CONCEPTS = [f"c{i // 5:02d}" for i in range(100)] + [f"t{i:02d}" for i in range(20)]


def data(tmp_path):
    paths = []
    for name in IDS:
        path = tmp_path / f"{name.replace('/', '_')}.png"
        path.write_bytes(name.encode())  # the lint compares bytes, it does not look at pictures
        paths.append(path.name)
    stimuli = StimulusSet(pd.DataFrame({"stimulus_id": IDS, "path": paths, "concept": CONCEPTS}), tmp_path)
    parts = ["train"] * 100 + ["test"] * 20
    people = [
        Recording.from_arrays(np.zeros((120, 1)), IDS, modality="spikes", subject=s, part=parts)
        for s in ("1", "2", "3")
    ]
    return stimuli, people


def codes(split, stimuli):
    return {finding.code: finding.severity for finding in lint_split(split, stimuli)}


def test_random_images_validate_and_share_concepts(tmp_path):
    stimuli, people = data(tmp_path)
    split = RandomValidation("p/paper", "", n_validation=12).split(0, stimuli, people[0])
    assert len(split.validation) == 12
    assert len(split.train) == 88
    assert split.test == tuple(IDS[100:])
    assert not set(split.train) & set(split.validation)
    concept = dict(zip(IDS, CONCEPTS, strict=True))
    assert {concept[n] for n in split.validation} & {concept[n] for n in split.train}
    found = codes(split, stimuli)
    assert found == {"concepts-shared-training-validation": "note", "validation-by-image": "note"}
    again = RandomValidation("p/paper", "", n_validation=12).split(1, stimuli, people[0])
    assert set(again.validation) != set(split.validation)


def test_the_published_number_of_images():
    assert find_protocol("things-eeg2/intra/paper").n_validation == 740
    assert find_protocol("things-eeg2/inter/paper").n_validation == 740


def test_left_out_with_random_images(tmp_path):
    stimuli, people = data(tmp_path)
    protocol = RandomValidationLeftOut("p/paper", "", n_validation=12)
    assert protocol.training_subjects("2", ("1", "2", "3")) == ("1", "3")
    split = protocol.split(0, stimuli, people[1], [people[0], people[2]])
    assert len(split.validation) == 12
    assert codes(split, stimuli)["concepts-shared-training-validation"] == "note"


def test_choosing_on_the_others_test_signals_is_a_leak(tmp_path):
    stimuli, people = data(tmp_path)
    split = TestImagesValidate("p/paper-ubp", "").split(0, stimuli, people[0], people[1:])
    assert split.validation == split.test
    assert set(split.train) == set(IDS[:100])
    found = {f.code: f for f in lint_split(split, stimuli)}
    assert found["images-shared-validation-test"].severity == "leak"
    assert found["concepts-shared-validation-test"].severity == "leak"
    assert "not zero-shot" in found["images-shared-validation-test"].text


@pytest.mark.parametrize(
    ("leak", "code"),
    [
        (lambda s: (s.train + s.test[:1], s.validation, s.test), "images-shared-training-test"),
        (lambda s: (s.train, s.validation + s.test[:1], s.test), "images-shared-validation-test"),
        (lambda s: (s.train + s.validation[:1], s.validation, s.test), "images-shared-training-validation"),
    ],
)
@pytest.mark.parametrize("kind", [RandomValidation, RandomValidationLeftOut])
def test_the_lint_finds_what_is_planted_in_a_paper_variant(tmp_path, kind, leak, code):
    stimuli, people = data(tmp_path)
    split = kind("p/paper", "", n_validation=12).split(0, stimuli, people[0], people[1:])
    train, validation, test = leak(split)
    planted = Split("p/paper", 0, train, validation, test, split.validation_kind)
    assert codes(planted, stimuli)[code] == "leak"


def test_templates_are_the_other_images_of_a_concept(tmp_path):
    ids = ["a1", "a2", "a3", "b1", "b2", "c1"]
    table = pd.DataFrame({"stimulus_id": ids, "path": ids, "concept": list("aaabbc")})
    stimuli = StimulusSet(table, tmp_path)
    split = Split("p/v1", 0, ("c1",), (), ("a1", "b1"), "concept-disjoint")
    assert concept_templates(split, stimuli, {"a1", "b1", "c1"}) == {"a1": ("a2", "a3"), "b1": ("b2",)}
    assert concept_templates(split, stimuli, {"a1", "a2", "b1", "c1"}) == {"a1": ("a3",), "b1": ("b2",)}
    with pytest.raises(InputError, match=r"1 test concepts \(first: b\) have no image"):
        concept_templates(split, stimuli, {"a1", "b1", "b2", "c1"})
    twins = Split("p/v1", 0, ("c1",), (), ("a1", "a2"), "concept-disjoint")
    with pytest.raises(InputError, match="share a concept"):
        concept_templates(twins, stimuli, {"a1", "a2"})


def test_settings_that_answer_another_question_are_noted():
    assert [f.code for f in lint_settings({"gallery": "templates"})] == ["gallery-of-templates"]
    assert [f.code for f in lint_settings({"leaves_out": True})] == ["validation-by-trained-subjects"]
