"""One cut for several data sets: what one holds out trains nobody, and a cut by image alone stays one."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import eeg_imagenet_support as made
import pytest
from foundation_support import give_classes
from tests_support import N_IMAGES, write_own

from brainalign.datasets import open_dataset
from brainalign.datasets.eeg_imagenet.classes import class_name
from brainalign.errors import InputError
from brainalign.execution.joint import Member, open_members
from brainalign.protocols import find_protocol

CLASSES = tuple(class_name(label) for label in made.LABELS)
PARTS = ("train", "validation", "test")


def members(root: Path, cache: Path, *names: str, **subjects: list[str]) -> dict[str, Member]:
    """By name in the model; EEG-ImageNet by the first subject, the others by all that they have."""
    asked = {name: subjects.get(name, ["1"] if name == "eeg-imagenet" else []) for name in names}
    wanted = {name if name == "eeg-imagenet" else str(root / name): who for name, who in asked.items()}
    found = open_members(
        list(wanted), root=root, subjects=wanted, split=0, device="cpu", cache=cache, reporter=None, allow_leaks=(),
        options=None,
    )  # fmt: skip
    return {member.name: member for member in found}


def concepts(member: Member, part: str) -> set[str]:
    table = member.session.stimuli(member.subject).table.set_index("stimulus_id")
    return set(table.loc[list(getattr(member.split, part)), "concept"])


def pictures(member: Member, part: str) -> set[str]:
    """sha256 of the files, read from the disk."""
    stimuli = member.session.stimuli(member.subject)
    table = stimuli.table.set_index("stimulus_id")["path"]
    files = [Path(stimuli.root or "") / table[name] for name in getattr(member.split, part)]
    return {hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def name_classes(folder: Path, names: list[str], tested: set[str] | None = None, subject: str = "01") -> None:
    """Give own images classes, in turn; those of `tested` are the test part of a subject."""
    rows = [f"i{i:03d},i{i:03d}.png,{names[i % len(names)]}" for i in range(N_IMAGES)]
    (folder / "stimuli.csv").write_text("\n".join(["stimulus_id,path,concept", *rows]) + "\n")
    if tested is not None:
        trials = folder / f"sub-{subject}/trials.csv"
        _, *shown = trials.read_text().splitlines()
        parts = ["test" if names[int(row[1:4]) % len(names)] in tested else "train" for row in shown]
        rows = [f"{row},{part}" for row, part in zip(shown, parts, strict=True)]
        trials.write_text("\n".join(["image,repetition,part", *rows]) + "\n")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Both subjects of EEG-ImageNet saw enough to train on."""
    root = tmp_path_factory.mktemp("joint") / "eeg-imagenet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made, "SECOND", 60)
        made.write_eeg_imagenet(root)
    return root


@pytest.fixture
def root(written, tmp_path):
    """`eeg-imagenet` beside `own`, 72 other pictures without classes."""
    (tmp_path / "eeg-imagenet").symlink_to(written)
    write_own(tmp_path / "own")
    return tmp_path


def test_a_cut_by_image_alone_is_not_made_stricter_by_itself(root, shared_cache):
    found = members(root, shared_cache, "eeg-imagenet", "own", **{"eeg-imagenet": ["1", "2"]})
    alone = open_dataset("eeg-imagenet", root / "eeg-imagenet", cache_dir=shared_cache)
    protocol = find_protocol("eeg-imagenet/intra/v1")
    for subject in ("1", "2"):
        member = found[f"eeg-imagenet-{subject}"]
        published = protocol.split(0, alone.stimuli(subject), alone.recording(subject))
        assert all(getattr(member.split, part) == getattr(published, part) for part in PARTS)
        assert concepts(member, "train") == set(CLASSES) > concepts(member, "test") > set()
        assert member.split.validation_kind == "image-disjoint"
        codes = {finding.code for finding in member.session.lint(subject, 0)}
        assert codes >= {"concepts-shared-training-test", "validation-by-image", "block-design"}


def test_concepts_that_one_holds_out_train_nobody(root, shared_cache):
    iron, fish = "iron", "anemone_fish"
    name_classes(root / "own", ["bed", "cup", iron, "dog", "egg", fish, "fan", "gun"], {iron})
    found = members(root, shared_cache, "eeg-imagenet", "own")
    eeg, own = found["eeg-imagenet-1"], found["own-01"]
    assert concepts(own, "test") == {iron} and own.split.validation_kind == "concept-disjoint"
    assert {iron, fish} <= concepts(eeg, "test")
    assert iron not in concepts(eeg, "train") | concepts(eeg, "validation")
    assert concepts(eeg, "train") == set(CLASSES) - {iron} - concepts(own, "validation")
    # EEG-ImageNet tests fish and trains on others: that takes no concept from anybody.
    assert fish in concepts(own, "train") | concepts(own, "validation")
    assert len(concepts(own, "train") | concepts(own, "validation")) == 7


def test_two_cuts_by_image_share_their_classes(root, shared_cache):
    give_classes(root / "own", 4)
    write_own(root / "other", seed=1)
    for image in sorted((root / "other/images").glob("*.png")):
        image.rename(image.with_name(f"i1{image.name[2:]}"))
    trials = root / "other/sub-01/trials.csv"
    trials.write_text(trials.read_text().replace("\ni0", "\ni1"))
    for i in range(N_IMAGES):
        place = root / f"other/images/c{i % 4}"
        place.mkdir(exist_ok=True)
        (root / f"other/images/i1{i:02d}.png").rename(place / f"i1{i:02d}.png")
    head, *rows = trials.read_text().splitlines()
    trials.write_text("\n".join([head, *(f"c{int(row[2:4]) % 4}/{row}" for row in rows)]) + "\n")
    found = members(root, shared_cache, "own", "other")
    for member in found.values():
        assert concepts(member, "train") == {"c0", "c1", "c2", "c3"}
        assert sum(len(getattr(member.split, part)) for part in PARTS) == N_IMAGES


def test_images_are_held_out_whoever_has_them_and_whatever_their_name(root, shared_cache):
    for i, photo in enumerate(sorted((root / "eeg-imagenet/images").rglob("*.JPEG"))):
        shutil.copy(photo, root / f"own/images/i{i:03d}.png")
    found = members(root, shared_cache, "eeg-imagenet", "own", **{"eeg-imagenet": ["1", "2"]})
    held = {part: set().union(*(pictures(member, part) for member in found.values())) for part in PARTS}
    assert held["train"] and not held["train"] & (held["validation"] | held["test"])
    assert held["validation"] and not held["validation"] & held["test"]
    names = {name for member in found.values() for name in member.split.train}
    assert any(name.startswith("imagenet/") for name in names) and any(name.startswith("i0") for name in names)


def test_subjects_of_one_data_set_keep_each_others_test_concepts_out(root, shared_cache):
    """Where the protocol holds concepts out: what the first is tested on, the second saw in training."""
    own, names = root / "own", ["ant", "bed", *(f"thing{i}" for i in range(22))]
    shutil.copytree(own / "sub-01", own / "sub-02")
    name_classes(own, names, {"ant"}, "01")
    name_classes(own, names, {"bed"}, "02")
    found = members(root, shared_cache, "eeg-imagenet", "own")
    first, second = found["own-01"], found["own-02"]
    assert (concepts(first, "test"), concepts(second, "test")) == ({"ant"}, {"bed"})
    for member in (first, second):
        others = concepts(first, "validation") | concepts(second, "validation")
        assert not concepts(member, "train") & ({"ant", "bed"} | others)
        assert not concepts(member, "validation") & {"ant", "bed"}


@pytest.mark.parametrize("part", ["train", "validate"])
def test_nothing_left_is_said(root, shared_cache, part, monkeypatch):
    from dataclasses import replace

    from brainalign.execution import joint

    kept = {"train": {"train": ()}, "validate": {"validation": ("x",)}}[part]
    monkeypatch.setattr(joint, "_without", lambda member, held: replace(member.split, **kept))
    with pytest.raises(InputError, match=f"nothing is left to {part} eeg-imagenet-1 on"):
        members(root, shared_cache, "eeg-imagenet", "own")
