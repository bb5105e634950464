"""Splits are disjoint, frozen and sealed; the lint finds every planted leak."""

from __future__ import annotations

import hashlib
import shutil

import numpy as np
import pandas as pd
import pytest
from tests_support import write_images

from brainalign.errors import InputError
from brainalign.protocols import PROTOCOLS, SealedTest, Split, find_protocol, lint_settings, lint_split
from brainalign.protocols.holdout import ImageHoldout, OfficialTest, OwnData
from brainalign.recordings import Recording
from brainalign.stimuli import StimulusSet


def images(n, concepts=0):
    ids = [f"x/{i:03d}" for i in range(n)]
    table = {"stimulus_id": ids, "path": ids}
    if concepts:
        table["concept"] = [f"c{i % concepts}" for i in range(n)]
    return StimulusSet(pd.DataFrame(table)), ids


def recorded(ids, parts=None):
    extra = {"part": parts} if parts else {}
    return Recording.from_arrays(np.zeros((len(ids), 1)), ids, modality="spikes", **extra)


def test_image_holdout_follows_the_documented_hash_order():
    stimuli, ids = images(60)
    split = ImageHoldout("p/v1", "", n_test=20, n_validation=10).split(3, stimuli, recorded(ids))
    order = sorted(ids, key=lambda name: hashlib.sha256(f"p/v1/3\n{name}".encode()).hexdigest())
    assert split.test == tuple(order[:20])
    assert split.validation == tuple(order[20:30])
    assert split.train == tuple(order[30:])
    assert split.gallery == split.test


def test_splits_do_not_depend_on_row_order_and_differ_by_number():
    stimuli, ids = images(60)
    turned = StimulusSet(stimuli.table.iloc[::-1])
    protocol = ImageHoldout("p/v1", "", 20, 10)
    assert protocol.split(0, stimuli, recorded(ids)) == protocol.split(0, turned, recorded(ids[::-1]))
    prints = {protocol.split(k, stimuli, recorded(ids)).fingerprint for k in (0, 1, 2, 3, 4, 10, 11, 12, 13, 14)}
    assert len(prints) == 10
    with pytest.raises(InputError, match="no split 7"):
        protocol.split(7, stimuli, recorded(ids))


def test_the_real_protocol_is_frozen(v4):
    """The first ids of split 0 and the fingerprint: if they change, published numbers stop being comparable."""
    from brainalign.datasets import open_dataset

    dataset = open_dataset("macaque-v4", v4)
    split = find_protocol("macaque-v4/within-session/v1").split(
        0, dataset.stimuli("201025"), dataset.recording("201025")
    )
    assert (len(split.train), len(split.validation), len(split.test)) == (900, 100, 200)
    every = sorted(f"macaque-v4/201025/image{i:04d}" for i in range(1, 1201))
    order = sorted(every, key=lambda n: hashlib.sha256(f"macaque-v4/within-session/v1/0\n{n}".encode()).digest())
    assert split.test == tuple(order[:200])


def test_official_test_holds_out_concepts_and_drops_tested_ones():
    stimuli, ids = images(60, concepts=20)
    parts = ["test" if i >= 50 else "train" for i in range(60)]
    split = OfficialTest("p/v1", "", n_validation_concepts=2).split(0, stimuli, recorded(ids, parts))
    concept = dict(zip(ids, stimuli.table["concept"], strict=True))
    sets = [{concept[i] for i in part} for part in (split.train, split.validation, split.test)]
    assert split.test == tuple(ids[50:])
    assert len(sets[1]) == 2
    assert not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])
    # concepts 10 to 19 are tested: their training images are dropped
    assert len(split.train) + len(split.validation) == 30


def test_official_test_refuses_what_would_leak():
    stimuli, ids = images(20, concepts=10)
    both = Recording.from_arrays(
        np.zeros((21, 1)), [*ids, ids[0]], modality="spikes", part=["train"] * 15 + ["test"] * 5 + ["test"]
    )
    with pytest.raises(InputError, match="'x/000' was shown in the training and in the test part"):
        OfficialTest("p/v1", "").split(0, stimuli, both)
    bare, ids = images(20)
    with pytest.raises(InputError, match="needs a concept for every image"):
        OfficialTest("p/v1", "").split(0, bare, recorded(ids, ["train"] * 15 + ["test"] * 5))
    with pytest.raises(InputError, match="at least 2 test images"):
        OfficialTest("p/v1", "").split(0, stimuli, recorded(ids, ["train"] * 20))


def test_own_data_uses_its_own_test_part_or_holds_out():
    stimuli, ids = images(48)
    held = OwnData("own/intra/v1", "").split(0, stimuli, recorded(ids))
    assert (len(held.test), len(held.validation), len(held.train)) == (8, 6, 34)
    own = OwnData("own/intra/v1", "").split(0, stimuli, recorded(ids, ["train"] * 40 + ["test"] * 8))
    assert own.test == tuple(ids[40:])
    small, few = images(10)
    with pytest.raises(InputError, match="needs at least 16 images"):
        OwnData("own/intra/v1", "").split(0, small, recorded(few))


def test_trials_of_unknown_images_are_refused():
    stimuli, ids = images(40)
    with pytest.raises(InputError, match="trials showed 'zzz'"):
        OwnData("own/intra/v1", "").split(0, stimuli, recorded([*ids, "zzz"]))


def test_the_seal_keeps_test_trials_away_and_counts_openings(rng):
    ids = [f"i{i}" for i in range(10)]
    x = rng.normal(size=(20, 2))
    recording = Recording.from_arrays(x, ids * 2, modality="spikes")
    split = Split("p/v1", 0, tuple(ids[:5]), tuple(ids[5:7]), tuple(ids[7:]), "image-disjoint")
    sealed = SealedTest(recording, split)
    assert sealed.reads == 0
    for name in ids[7:]:
        with pytest.raises(InputError, match="no trial"):
            sealed.development.average([name])
    assert sealed.development.signals.shape[0] == 14
    opened = sealed.open()
    data = opened.data()
    assert sealed.reads == 1
    assert data.repetitions == 2
    np.testing.assert_allclose(data.signals[:, :, 0], (x[7:10] + x[17:]) / 2, rtol=1e-5)
    one = opened.data(repetitions=1)
    np.testing.assert_allclose(one.signals[:, :, 0], x[7:10], rtol=1e-5)
    sealed.open()
    assert sealed.reads == 2
    assert SealedTest(recording, split, earlier_reads=1).reads == 1


def sealed_with(signals, ids, **columns):
    names = [f"i{i}" for i in range(6)]
    extra = {name: [1] * 4 + list(values) for name, values in columns.items()}
    recording = Recording.from_arrays(
        np.concatenate([np.zeros((4, 1)), signals]), [*names[:4], *ids], modality="spikes", **extra
    )
    return SealedTest(recording, Split("p/v1", 0, tuple(names[:2]), tuple(names[2:4]), tuple(names[4:]), "x"))


def test_stored_averages_count_for_what_they_hold(rng):
    x = rng.normal(size=(4, 1))
    sealed = sealed_with(x, ["i4", "i5", "i4", "i5"], n_averaged=[12, 12, 6, 12])
    opened = sealed.open()
    assert opened.data().counts == (18, 24)
    sealed.require_repetitions(12)
    data = opened.data(repetitions=12)
    assert (data.counts, data.repetitions) == ((12, 12), 12)
    np.testing.assert_allclose(data.signals[:, :, 0], x[:2], rtol=1e-5)
    for wanted, holds in ((1, "6, 12"), (18, "12")):
        with pytest.raises(InputError, match=f"{wanted} repetitions asked for, stimulus 'i.' has averages of {holds};"):
            opened.data(repetitions=wanted)
        with pytest.raises(InputError, match=f"^evaluation.repetitions: {wanted} .*; give null, or data with single"):
            sealed.require_repetitions(wanted)


def test_single_trials_are_counted_one_by_one(rng):
    x = rng.normal(size=(5, 1))
    sealed = sealed_with(x, ["i4", "i5", "i4", "i5", "i4"])
    for wanted, expected in ((1, x[:2]), (2, (x[:2] + x[2:4]) / 2)):
        sealed.require_repetitions(wanted)
        data = sealed.open().data(repetitions=wanted)
        assert data.counts == (wanted, wanted)
        np.testing.assert_allclose(data.signals[:, :, 0], expected, rtol=1e-5)
    sealed.require_repetitions(None)
    with pytest.raises(InputError, match="3 repetitions asked for, stimulus 'i5' has 2; ask for fewer, or null"):
        sealed.require_repetitions(3)


def planted(tmp_path, leak):
    folder = tmp_path / "images"
    names = write_images(folder, 30, concepts=10)
    names.sort()
    stimuli = StimulusSet.from_folder(folder)
    concept = dict(zip(stimuli.ids, stimuli.table["concept"], strict=True))
    pick = {part: [n for n in names if int(concept[n][1:]) in span]
            for part, span in {"train": range(6), "validation": range(6, 8), "test": range(8, 10)}.items()}  # fmt: skip
    kind = "concept-disjoint"
    if leak.startswith("images"):
        _, a, b = leak.split(":")
        shutil.copy(folder / f"{pick[a][0]}.png", folder / f"{pick[b][0]}.png")
        stimuli = StimulusSet.from_folder(folder)
    elif leak.startswith("concepts"):
        _, a, b = leak.split(":")
        pick[b].append(pick[a].pop())
    elif leak == "gallery":
        pick["gallery"] = pick["test"][:-1]
    return Split("p/v1", 0, *(tuple(pick[k]) for k in ("train", "validation", "test")), kind,
                 tuple(pick.get("gallery", ()))), stimuli  # fmt: skip


@pytest.mark.parametrize(
    ("leak", "code"),
    [
        ("images:train:test", "images-shared-training-test"),
        ("images:validation:test", "images-shared-validation-test"),
        ("images:train:validation", "images-shared-training-validation"),
        ("concepts:train:test", "concepts-shared-training-test"),
        ("concepts:validation:test", "concepts-shared-validation-test"),
        ("concepts:train:validation", "concepts-shared-training-validation"),
        ("gallery", "gallery-differs"),
    ],
)
def test_lint_finds_each_planted_leak_and_only_it(tmp_path, leak, code):
    split, stimuli = planted(tmp_path, leak)
    found = lint_split(split, stimuli)
    assert [f.code for f in found] == [code]
    assert found[0].severity == ("note" if leak == "gallery" else "leak")


def test_lint_is_silent_on_a_clean_split(tmp_path):
    assert lint_split(*planted(tmp_path, "none")) == []


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"selection_on": "test"}, "selection-on-test"),
        ({"statistics_from": "test"}, "test-statistics"),
        ({"assignment": "hungarian"}, "joint-assignment"),
        ({"weights_from_other_subjects": True}, "weights-carried-over"),
        ({"test_reads": 2}, "test-read-twice"),
    ],
)
def test_lint_of_settings(settings, code):
    assert [f.code for f in lint_settings(settings)] == [code]
    assert lint_settings({}) == []


def test_protocol_names_are_versioned_and_misspellings_are_answered():
    assert all(name.rsplit("/", 1)[1].startswith(("v", "paper")) for name in PROTOCOLS)
    with pytest.raises(InputError, match="did you mean 'things-eeg2/intra/v1'"):
        find_protocol("things-eeg2/intra/v2")
