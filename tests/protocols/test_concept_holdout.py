from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from brainalign.errors import InputError
from brainalign.protocols import find_protocol
from brainalign.recordings import Recording
from brainalign.stimuli import StimulusSet

INTRA, INTER = find_protocol("bids/intra/v1"), find_protocol("bids/inter/v1")
IDS = [f"i{i:02d}" for i in range(48)]


def stimuli(n_concepts: int = 16) -> StimulusSet:
    concepts = [f"c{i % n_concepts:02d}" if n_concepts else "" for i in range(48)]
    return StimulusSet(pd.DataFrame({"stimulus_id": IDS, "path": IDS, "concept": concepts}))


def recorded(ids: list[str], subject: str = "1", **columns: list[str]) -> Recording:
    return Recording.from_arrays(np.ones((len(ids), 2)), ids, modality="spikes", subject=subject, **columns)


def concepts(split, table: StimulusSet) -> list[set[str]]:
    return [set(table.column("concept", part)) for part in (split.train, split.validation, split.test)]


@pytest.mark.parametrize("index", [0, 4, 10])
def test_parts_share_no_concept_and_leave_none_out(index: int) -> None:
    split = INTRA.split(index, stimuli(), recorded(IDS))
    train, validation, test = concepts(split, stimuli())
    assert (len(train), len(validation), len(test)) == (12, 2, 2)  # 16 // 6 tested, 16 // 8 validate
    assert not (train & validation or train & test or validation & test)
    assert sorted((*split.train, *split.validation, *split.test)) == IDS
    assert split.validation_kind == "concept-disjoint"


def test_splits_differ_and_stay() -> None:
    tests = [INTRA.split(index, stimuli(), recorded(IDS)).test for index in (0, 1, 2, 3, 4, 0)]
    assert tests[0] == tests[5]
    assert len(set(tests)) > 1
    with pytest.raises(InputError, match="has no split 7"):
        INTRA.split(7, stimuli(), recorded(IDS))


@pytest.mark.parametrize("n_concepts", [0, 9])
def test_few_or_no_concepts_hold_out_images(n_concepts: int) -> None:
    split = INTRA.split(0, stimuli(n_concepts), recorded(IDS))
    assert split.validation_kind == "image-disjoint"
    assert (len(split.test), len(split.validation)) == (8, 6)  # 48 // 6, 48 // 8


def test_their_own_test_part_comes_first() -> None:
    parts = ["test" if i < 4 else "train" for i in range(48)]
    split = INTRA.split(0, stimuli(), recorded(IDS, part=parts))
    assert sorted(split.test) == IDS[:4]
    train, validation, test = concepts(split, stimuli())
    assert not (train & validation or train & test or validation & test)


def test_left_out_subject_is_tested_on_what_it_saw_and_the_others_train_on_what_they_saw() -> None:
    table = stimuli()
    split = INTER.split(0, table, recorded(IDS[:32]), [recorded(IDS[16:], "2")])
    assert set(split.test) <= set(IDS[:32])
    assert set(split.train) | set(split.validation) <= set(IDS[16:])
    assert set(split.train) & set(IDS[32:])  # seen by the others alone
    train, validation, test = concepts(split, table)
    assert not (train & validation or train & test or validation & test)
    assert INTER.training_subjects("1", ("1", "2", "3")) == ("2", "3")
