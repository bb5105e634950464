"""Finished runs with their model, targets and data at hand again; runs on the same data share one session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from brainalign.alignment import AnyTargets
from brainalign.alignment.families import load_aligner
from brainalign.analysis.base import DataOptions
from brainalign.analysis.embeddings import MODEL, Opened
from brainalign.errors import InputError
from brainalign.evaluation.result import Result, read_result
from brainalign.execution.progress import Reporter
from brainalign.execution.session import Session
from brainalign.execution.weights import check_weights, weights_of
from brainalign.files import read_json
from brainalign.recipes.recipe import Recipe


class RunOptions(DataOptions):
    """Settings of an analysis that takes up the models of finished runs again."""

    device: str = Field("auto", description="auto, cpu or cuda.")
    data_option: list[str] = Field(
        default=[], description="Option of a virtual data set or of bids, key=value, as in the run."
    )


@dataclass(frozen=True)
class Reopened:
    """A finished run and everything it was made from.

    Attributes
    ----------
    name : str
        Its folder's, made unique among the runs that are shown together.
    aligner : Aligner
        Any family.
    targets : Targets or MixedTargets
        Image features of all stimuli, of the layer and pooling that the run froze.
    session : Session
        Shared with the other runs on the same data set, protocol, subject and split.
    """

    name: str
    folder: Path
    result: Result
    aligner: Any
    targets: AnyTargets
    session: Session

    @property
    def recipe(self) -> Recipe:
        """Settings of the run, layer and pooling frozen."""
        found: Recipe = self.aligner.recipe
        return found


def reopen(
    folders: Sequence[Path], options: RunOptions, where: str, reporter: Reporter | None = None
) -> list[Reopened]:
    """Load finished runs and open their data, every data set, subject and split once.

    Parameters
    ----------
    folders : sequence of Path
        Of finished runs.
    where : str
        Command, for errors.

    Raises
    ------
    InputError
        If a folder holds no finished run or is given twice, its data are not at hand or are others than the run's.
    """
    names = _names(folders, where)
    opened: dict[tuple[str, str, str, int], Session] = {}
    found = []
    for folder, name in zip(folders, names, strict=True):
        if (folder / "sweep.json").is_file():
            raise InputError("is a sweep", where=folder, hint=f"{where} takes runs: folders in its runs/")
        result = read_result(folder)
        key = (result.dataset, result.protocol, result.subject, result.split)
        if key not in opened:
            opened[key] = Opened(folder, options, options.device, options.data_option, reporter).session
        found.append(_reopen(folder, name, result, opened[key]))
    return found


def count_reads(runs: Sequence[Reopened]) -> int:
    """How often a test set was opened for these runs, each data set, subject and split counted by itself."""
    sessions = {id(run.session): run for run in runs}
    return sum(run.session.sealed(run.result.subject, run.result.split).reads for run in sessions.values())


def facts_of(runs: Sequence[Reopened]) -> dict[str, str]:
    """What was analysed, in words."""
    results = [run.result for run in runs]
    conditions = [f"{r.subject}, {r.split}, {r.seed}" for r in results]
    return {
        "Data set": ", ".join(dict.fromkeys(r.dataset + (" (VIRTUAL)" if r.virtual else "") for r in results)),
        "Protocol": ", ".join(dict.fromkeys(r.protocol for r in results)),
        "Budget": ", ".join(dict.fromkeys(r.budget for r in results)),
        "Subject, split, seed": "; ".join(dict.fromkeys(conditions)),
        "Runs": ", ".join(f"{run.name} ({run.result.recipe}, {run.result.encoder})" for run in runs),
        "Target": "; ".join(dict.fromkeys(f"{r.target.backbone}, layer {r.target.label}" for r in results)),
    }


def _reopen(folder: Path, name: str, result: Result, session: Session) -> Reopened:
    split = session.split(result.subject, result.split)
    if split.fingerprint != result.split_fingerprint:
        hint = "the data set's files or options differ from those of the run"
        raise InputError("was trained on another split of this data set", where=folder, hint=hint)
    aligner, fit = load_aligner(folder / MODEL, device=session.device), read_json(folder / "fit.json")
    candidates = session.targets(result.subject, aligner.recipe.target)
    try:
        targets = candidates[str(fit["layer"]), str(fit["pooling"])]
    except (KeyError, TypeError) as error:
        raise InputError("names a layer that its recipe lacks", where=folder / "fit.json") from error
    check_weights(folder, weights_of(targets))
    return Reopened(name, folder, result, aligner, targets, session)


def _names(folders: Sequence[Path], where: str) -> list[str]:
    """A name a run: its folder's, with the folder above where two are called alike."""
    whole = [folder.resolve() for folder in folders]
    if len(set(whole)) < len(whole):
        raise InputError("a run is given twice", where=where)
    short = [path.name for path in whole]
    return [n if short.count(n) == 1 else f"{p.parent.name}/{n}" for n, p in zip(short, whole, strict=True)]
