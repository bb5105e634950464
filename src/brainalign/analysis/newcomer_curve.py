"""A new subject with few images: brought into a trained space by its layer alone, or trained from scratch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.alignment import AnyTargets
from brainalign.alignment.families import load_aligner
from brainalign.alignment.foundation import FoundationAligner, inputs_of
from brainalign.alignment.preparation import mean_noise
from brainalign.errors import InputError
from brainalign.evaluation import Interval, bootstrap_interval, count_ranks
from brainalign.evaluation.paired import PairedComparison, paired_bootstrap
from brainalign.execution.foundation_again import FoundationRun
from brainalign.execution.joint import Member, union_targets
from brainalign.protocols import Split
from brainalign.recipes.recipe import Recipe

Array = NDArray[np.float64]
WAYS = ("added", "scratch")


@dataclass(frozen=True)
class Point:
    """Both ways at one number of training images.

    Attributes
    ----------
    n_images : int
    draws : int
        Random choices of the images.
    added, scratch : Interval
        Test top-1, mean over draws; interval over test images.
    by_draw : dict of str to list of float
        Top-1 of each draw.
    difference : PairedComparison
        Added minus scratch on the same test images.
    """

    n_images: int
    draws: int
    added: Interval
    scratch: Interval
    by_draw: dict[str, list[float]]
    difference: PairedComparison

    def of(self, way: str) -> Interval:
        """Score of a way."""
        return self.added if way == "added" else self.scratch


def newcomer_curve(
    run: FoundationRun,
    counts: Sequence[int],
    *,
    draws: int = 3,
    seed: int = 0,
    tick: Callable[[int, int], None] | None = None,
) -> list[Point]:
    """Score a newcomer at several numbers of training images, both ways on the same images and validation.

    Added: its alignment layer is trained, the run's encoder and image projection stay as they are. Scratch: the same
    recipe, nobody but the newcomer, for as many epochs. Either way the epoch is chosen on the newcomer's validation
    images; its test set is opened once, when everything is trained. A draw's smaller numbers of images are part of its
    larger ones.

    Parameters
    ----------
    run : FoundationRun
        Reopened with a newcomer.
    counts : sequence of int
        Training images, rising.

    Raises
    ------
    InputError
        If the newcomer has fewer training images than asked for.
    """
    member = run.members[run.newcomer]
    train = np.array(member.split.train, dtype=object)
    if counts[-1] > len(train):
        text = f"{counts[-1]} training images asked for, {member.name} has {len(train)}"
        raise InputError(text, where="--images", hint="ask for fewer")
    features = union_targets([member], run.recipe)[run.label]
    trained: dict[tuple[int, str], list[FoundationAligner]] = {}
    done, total = 0, draws * len(counts) * len(WAYS)
    for draw in range(draws):
        order = train[np.random.default_rng([seed, draw]).permutation(len(train))]
        for n in counts:
            split = replace(member.split, train=tuple(sorted(order[:n])))
            for way in WAYS:
                trained.setdefault((n, way), []).append(_train(run, member, features, split, way, seed + draw))
                done += 1
                if tick is not None:
                    tick(done, total)
    return _score(run, member, trained, counts)


def _train(
    run: FoundationRun, member: Member, features: AnyTargets, split: Split, way: str, seed: int
) -> FoundationAligner:
    """One model; what its inputs are whitened by comes from its own training images alone."""
    inputs = inputs_of(run.recipe, member.modality)
    noise = None
    if inputs.whiten != "none":
        noise = mean_noise(member.session.trials(member.subject, split.index, inputs), split.train)
    recording = member.recording(run.recipe)
    if way == "added":
        aligner = load_aligner(run.folder / "model.safetensors", device=member.session.device)
        assert isinstance(aligner, FoundationAligner)
        aligner.seed = seed
        aligner.add_source(member.name, recording, {"image": features}, split, noise=noise)
    else:
        aligner = FoundationAligner(_patient(run.recipe), seed=seed, device=member.session.device)
        noises = None if noise is None else {member.name: noise}
        aligner.fit_sources({member.name: recording}, {"image": features}, {member.name: split}, noise=noises)
    return aligner


def _patient(recipe: Recipe) -> Recipe:
    """As many epochs as the added layer gets: with few images an epoch is one step."""
    ours, theirs = recipe.training, recipe.foundation.newcomer
    waits = (ours.patience, theirs.patience)
    longer = {
        "epochs": max(ours.epochs, theirs.epochs),
        "patience": None if None in waits else max(w for w in waits if w is not None),
    }
    return recipe.model_copy(update={"training": ours.model_copy(update=longer)})


def _score(
    run: FoundationRun,
    member: Member,
    trained: dict[tuple[int, str], list[FoundationAligner]],
    counts: Sequence[int],
) -> list[Point]:
    """Open the test set, once."""
    source = run.recipe.model_copy(update={"signals": inputs_of(run.recipe, member.modality)})
    data = member.session.test_data(member.subject, member.split.index, source)
    gallery = member.session.targets(member.subject, run.recipe.target)[run.label].of(data.gallery_ids)
    where = {name: column for column, name in enumerate(data.gallery_ids)}
    truth = np.array([where[name] for name in data.query_ids])

    def hits(aligner: FoundationAligner) -> Array:
        similarity = aligner.similarity(data.signals, {"image": gallery}, source=member.name)
        return count_ranks(similarity, truth).hits(1)

    found = []
    for n in counts:
        rows = {way: np.stack([hits(aligner) for aligner in trained[n, way]]) for way in WAYS}
        means: dict[str, Any] = {way: values.mean(axis=0) for way, values in rows.items()}
        found.append(
            Point(
                n_images=n,
                draws=len(rows["added"]),
                added=bootstrap_interval(means["added"], bounds=(0.0, 1.0)),
                scratch=bootstrap_interval(means["scratch"], bounds=(0.0, 1.0)),
                by_draw={way: values.mean(axis=1).tolist() for way, values in rows.items()},
                difference=paired_bootstrap(means["added"], means["scratch"]),
            )
        )
    return found
