"""Fit every candidate of a job, or of many jobs on one recording at once; choose on validation."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from brainalign.alignment import AnyTargets
from brainalign.alignment.contrastive import fit_together
from brainalign.alignment.families import build_aligner
from brainalign.alignment.preparation import Preparation
from brainalign.alignment.training import Fit
from brainalign.execution.job import Job
from brainalign.execution.session import Session
from brainalign.recipes import Recipe

log = logging.getLogger("brainalign")


@dataclass
class Candidate:
    """A target that was tried: its aligner at its chosen epoch, and how it did on validation."""

    aligner: Any
    targets: AnyTargets
    label: tuple[str, str]
    fit: Fit
    seconds: float

    @property
    def depth(self) -> float:
        """Relative depth of the layer, of a mixture the mean."""
        return self.targets.depth

    @property
    def epoch(self) -> int | None:
        """The chosen epoch; None for a closed-form fit."""
        return self.fit.epoch if self.aligner.has_epochs else None

    @property
    def settings(self) -> dict[str, float]:
        """What a closed-form fit chose on validation (ridge, shrinkage); empty where epochs are chosen."""
        if self.aligner.has_epochs:
            return {}
        return {k: v for k, v in self.fit.chosen.items() if not k.startswith("validation_")}

    def row(self) -> dict[str, Any]:
        """One line of the candidates table."""
        layer, pooling = self.label
        chosen = self.fit.chosen
        return {
            "layer": layer,
            "pooling": pooling,
            "depth": self.depth,
            "epoch": self.epoch,
            "seconds": round(self.seconds, 3),
            **{k: chosen[k] for k in ("validation_loss", "validation_top1", "validation_mrr")},
        }


@dataclass
class Fitted:
    """A job whose candidates are all fitted, the best on validation first."""

    index: int
    candidates: list[Candidate]

    @property
    def seconds(self) -> float:
        """Its share of the time."""
        return sum(candidate.seconds for candidate in self.candidates)


@dataclass(frozen=True)
class Task:
    """One candidate to fit.

    Attributes
    ----------
    job : int
        Index of its job.
    label : tuple of str
        Layer and pooling.
    targets : Targets or MixedTargets
        Image features of all stimuli, for when it is scored.
    features : dict
        What it is fitted with: training and validation stimuli alone.
    """

    job: int
    label: tuple[str, str]
    targets: AnyTargets
    features: dict[str, AnyTargets]


def fit_jobs(
    session: Session, jobs: Sequence[tuple[Job, Path | None]], *, done: Collection[int] = ()
) -> Iterator[Fitted]:
    """Train every candidate target of several jobs that share subject, split and signals.

    Parameters
    ----------
    jobs : sequence of (Job, path or None)
        Each with the stem of its checkpoints' names.
    done : collection of int
        Indices of jobs that are fitted already; they are here because runs that train together are chosen among all.

    Yields
    ------
    Fitted
        As soon as all candidates of a job are done. Weights of intermediate epochs are kept for its best one only.
    """
    first = jobs[0][0]
    split = session.training_split(first.subject, first.split, first.recipe)
    known = [*split.train, *split.validation]
    # Jobs that share banks share their transform: one object stands for them.
    seen: dict[tuple[int, ...], AnyTargets] = {}

    def development(targets: AnyTargets) -> AnyTargets:
        return seen.setdefault(tuple(map(id, targets.bands)), targets.restrict(known))

    tasks = [
        Task(number, label, features["image"], {name: development(bank) for name, bank in features.items()})
        for number, (job, _) in enumerate(jobs)
        for label, features in session.feature_sets(job.subject, job.recipe).items()
    ]
    open_tasks = [0] * len(jobs)
    for task in tasks:
        open_tasks[task.job] += 1
    found: list[list[Candidate]] = [[] for _ in jobs]
    with session.reporter.step(_title(first, len(jobs), len(tasks))) as tick:
        for index, aligner, fit, seconds in _fit_tasks(session, jobs, tasks, done, tick):
            number = tasks[index].job
            found[number].append(Candidate(aligner, tasks[index].targets, tasks[index].label, fit, seconds))
            _keep_epochs_of_best(found[number], jobs[number][0].recipe)
            log.info("candidate %s", found[number][-1].row())
            open_tasks[number] -= 1
            if not open_tasks[number]:
                recipe = jobs[number][0].recipe
                yield Fitted(number, sorted(found[number], key=lambda c, r=recipe: selection_key(c.row(), r)))  # type: ignore[misc]
                found[number] = []
        tick(1, 1)


def _fit_tasks(
    session: Session, jobs: Sequence[tuple[Job, Path | None]], tasks: Sequence[Task], done: Collection[int], tick: Any
) -> Iterator[tuple[int, Any, Fit, float]]:
    """Index, aligner, fit and seconds of every task, in the order in which they end."""
    first = jobs[0][0]
    where = (first.subject, first.split, first.recipe.signals)
    split = session.training_split(first.subject, first.split, first.recipe)
    single = first.recipe.training.trials == "single"
    recordings = session.trials(*where) if single else session.development(*where)
    noise = session.noise(first.subject, first.split, first.recipe)
    aligners, checkpoints = [], []
    for task in tasks:
        job, stem = jobs[task.job]
        layer, pooling = task.label
        recipe = job.recipe.with_target(layer=layer_value(layer), pooling=pooling)
        aligners.append(build_aligner(recipe, seed=job.seed, device=session.device))
        checkpoints.append(checkpoint_of(stem, task.label) if stem else None)
    if first.recipe.family == "contrastive":
        preparation = Preparation(recordings, split, torch.device(session.device), noise)
        skip = {index for index, task in enumerate(tasks) if task.job in done}
        features = [task.features for task in tasks]
        together = fit_together(aligners, preparation, features, checkpoints=checkpoints, done=skip, progress=tick)
        yield from ((index, aligners[index], fit, seconds) for index, fit, seconds in together)
        return
    for index, (aligner, task) in enumerate(zip(aligners, tasks, strict=True)):
        if task.job in done:
            continue
        began = time.perf_counter()
        how = {"checkpoint": checkpoints[index], "progress": tick} if aligner.has_epochs else {}
        fit = aligner.fit(recordings, task.features, split, noise=noise, trials=session.trials(*where), **how)
        tick(index + 1, len(tasks))
        yield index, aligner, fit, time.perf_counter() - began


def selection_key(row: dict[str, Any], recipe: Recipe) -> tuple[float, float]:
    """Sorts candidates, best first: by the recipe's validation score, ties by validation loss."""
    loss = float(row["validation_loss"])
    metric = recipe.selection.layer
    return (loss, loss) if metric == "loss" else (-float(row[f"validation_{metric}"]), loss)


def _keep_epochs_of_best(candidates: list[Candidate], recipe: Recipe) -> None:
    best = min(candidates, key=lambda c: selection_key(c.row(), recipe))
    for candidate in candidates:
        if candidate is not best:
            candidate.fit.candidates = {}
            candidate.fit.state = {}


def _title(job: Job, jobs: int, targets: int) -> str:
    what = f"{targets} targets" if targets > 1 else "one target"
    name = job.recipe.encoder.name if job.recipe.family == "contrastive" else job.recipe.family
    runs = f" of {jobs} runs" if jobs > 1 else f", seed {job.seed}"
    return f"training {name} on {what}{runs}, subject {job.subject}, split {job.split}"


def checkpoint_of(stem: Path, label: tuple[str, str]) -> Path:
    """The checkpoint of one candidate, (layer name, pooling), of a run."""
    return stem.with_name(f"{stem.name}.{label[0]}.{label[1]}")


def layer_value(name: str) -> int | str:
    """A layer's name as a recipe has it: blocks are numbers."""
    return int(name) if name.isdigit() else name
