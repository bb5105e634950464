"""Several data sets and subjects as one plan: who takes part, one cut for all, one table of image features."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.alignment import AnyTargets, MixedTargets, Targets
from brainalign.alignment.foundation import inputs_of
from brainalign.errors import InputError
from brainalign.execution.progress import Reporter
from brainalign.execution.session import Session
from brainalign.execution.train import open_session
from brainalign.files import sha256_json
from brainalign.protocols import Split, find_protocol
from brainalign.protocols.held_out import check_held_out
from brainalign.recipes import Recipe
from brainalign.recordings import Recording
from brainalign.stimuli import StimulusSet

JOINT = "joint/v1"


@dataclass(frozen=True)
class Member:
    """One subject of one data set.

    Attributes
    ----------
    name : str
        Of its folder and in the model: data set and subject.
    session : Session
        Of its data set, shared with the other members from there.
    subject : str
    split : Split
    """

    name: str
    session: Session
    subject: str
    split: Split

    @property
    def modality(self) -> str:
        """What was measured."""
        return self.session.dataset.info.modality

    def recording(self, recipe: Recipe) -> Recording:
        """Training and validation signals, repetitions averaged."""
        (found,) = self.session.development(self.subject, self.split.index, inputs_of(recipe, self.modality))
        return found

    def noise(self, recipe: Recipe) -> NDArray[np.float64] | None:
        """Noise covariance, where the modality's signals are whitened."""
        own = recipe.model_copy(update={"signals": inputs_of(recipe, self.modality)})
        return self.session.noise(self.subject, self.split.index, own)


def open_members(
    datasets: Sequence[str],
    *,
    root: str | Path | None,
    subjects: Sequence[str] | Mapping[str, Sequence[str]],
    split: int,
    device: str,
    cache: str | Path | None,
    reporter: Reporter | None,
    allow_leaks: Sequence[str],
    options: Mapping[str, Any] | None,
) -> list[Member]:
    """Open data sets and cut all their subjects alike.

    With one data set, its own protocol cuts every subject. With several, each data set's way of cutting is salted with
    one name, so that data sets with the same concepts hold out the same ones. Then no image that is tested or validated
    anywhere trains anywhere, whatever its name; nor does an image of a concept that somebody's own cut holds out.

    Parameters
    ----------
    root : path-like, optional
        The folder of a single data set; of several, a folder that holds one named after each.
    subjects : sequence of str, or mapping of data set to sequence of str
        Of every data set, or of each its own. All that a data set has, where none is named.

    Raises
    ------
    InputError
        If a data set or subject is not there, or nothing is left to train or validate on.
    """
    found: list[Member] = []
    for name in datasets:
        own = Path(root) / name if root is not None and len(datasets) > 1 else root
        place = own if own is None or Path(own).is_dir() else None
        session = open_session(
            name, root=place, device=device, cache=cache, reporter=reporter, allow_leaks=allow_leaks,
            options=dict(options or {}),
        )  # fmt: skip
        asked = subjects.get(name, ()) if isinstance(subjects, Mapping) else subjects
        for subject in [session.dataset.require_subject(one) for one in asked] or session.dataset.subjects:
            cut = _cut(session, subject, split, joint=len(datasets) > 1)
            found.append(Member(source_name(session.dataset.name, subject), session, subject, cut))
    if len({m.name for m in found}) < len(found):
        raise InputError("a subject is named twice", where="--subject")
    if len(datasets) > 1:
        held = _held_out(found)
        found = [replace(m, split=_without(m, held)) for m in found]
    for member in found:
        for part, verb in (("train", "train"), ("validation", "validate")):
            if len(getattr(member.split, part)) < 2:
                hint = "its images are all held out for another data set"
                raise InputError(f"nothing is left to {verb} {member.name} on", hint=hint)
        member.session.fix_split(member.subject, split, member.split)
    check_held_out({m.name: m.split for m in found})
    return found


def _cut(session: Session, subject: str, index: int, *, joint: bool) -> Split:
    protocol = find_protocol(session.protocol)
    if joint:
        protocol = replace(protocol, name=JOINT)  # type: ignore[type-var]
    return protocol.split(index, session.stimuli(subject), session.recording(subject))


@dataclass(frozen=True)
class _Held:
    """What is held out, by part: names and contents of images, and concepts."""

    images: Mapping[str, set[str]]
    concepts: Mapping[str, set[str]]


def _held_out(members: Sequence[Member]) -> _Held:
    """What any member validates or tests.

    A part of a member holds its concepts out where the member's own cut trains on none of them. One that is cut by
    image alone, such as that of EEG-ImageNet, trains on the classes it is tested on and holds out images only.
    """
    held = _Held({"validation": set(), "test": set()}, {"validation": set(), "test": set()})
    for member in members:
        stimuli = member.session.stimuli(member.subject)
        trained = set(_concepts(stimuli, member.split.train))
        for part in held.images:
            names = getattr(member.split, part)
            held.images[part].update(names, _contents(stimuli, names))
            concepts = set(_concepts(stimuli, names)) - {""}
            if not concepts & trained:
                held.concepts[part].update(concepts)
    return held


def _contents(stimuli: StimulusSet, names: Sequence[str]) -> list[str]:
    """sha256 of each image's file: one picture may have another name in another data set."""
    return [stimuli.image_ids[row] for row in stimuli.rows(names)]


def _concepts(stimuli: StimulusSet, names: Sequence[str]) -> list[str]:
    """Concept of each image; empty where not every image of the data set has one."""
    return stimuli.column("concept", names) if stimuli.has_concepts else [""] * len(names)


def _without(member: Member, held: _Held) -> Split:
    """A member's split without training images that are held out anywhere, and validation images tested anywhere."""
    stimuli = member.session.stimuli(member.subject)

    def keep(names: Sequence[str], parts: Sequence[str]) -> tuple[str, ...]:
        images, concepts = (set[str]().union(*(of[p] for p in parts)) for of in (held.images, held.concepts))
        rows = zip(names, _contents(stimuli, names), _concepts(stimuli, names), strict=True)
        return tuple(name for name, file, concept in rows if not {name, file} & images and concept not in concepts)

    split = member.split
    return replace(split, train=keep(split.train, ("validation", "test")), validation=keep(split.validation, ("test",)))


def union_targets(members: Sequence[Member], recipe: Recipe) -> dict[tuple[str, str], AnyTargets]:
    """Features of all training and validation images, for every candidate layer and pooling."""
    banks = [(m, m.session.targets(m.subject, recipe.target)) for m in members]
    labels = banks[0][1].keys()
    return {label: _joined([(m, bank[label]) for m, bank in banks]) for label in labels}


def _joined(parts: Sequence[tuple[Member, AnyTargets]]) -> AnyTargets:
    first = parts[0][1]
    if isinstance(first, MixedTargets):
        return MixedTargets(tuple(_band([(m, t.bands[i]) for m, t in parts]) for i in range(len(first.bands))))
    return _band([(m, t.bands[0]) for m, t in parts])


def _band(parts: Sequence[tuple[Member, Targets]]) -> Targets:
    rows: dict[str, int] = {}
    arrays = []
    for member, bank in parts:
        names = [n for n in (*member.split.train, *member.split.validation) if n not in rows]
        if names:
            arrays.append(bank.of(names))
        rows |= {name: len(rows) + i for i, name in enumerate(names)}
    first = parts[0][1]
    return replace(first, array=np.concatenate(arrays), rows=rows)


def plan_hash(recipe: Recipe, members: Sequence[Member], seed: int) -> str:
    """sha256 over recipe, members, their splits and the seed: the name of the run."""
    people = [[m.session.data_facts([m.subject]), m.subject, m.split.fingerprint] for m in members]
    return sha256_json({"recipe": recipe.facts(), "members": people, "seed": seed})


def source_name(dataset: str, subject: str) -> str:
    """What a subject of a data set is called in a joint run.

    Examples
    --------
    >>> source_name("virtual-eeg:small", "1")
    'virtual-eeg-small-1'
    """
    return re.sub(r"[^A-Za-z0-9]+", "-", f"{dataset}-{subject}").strip("-")
