"""What `steps.csv` of several runs says together: means over an epoch's steps, over runs and over subjects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainalign.analysis.sweeps import read_sweeps
from brainalign.errors import InputError
from brainalign.evaluation.result import Result, read_result
from brainalign.recipes import Recipe, load_recipe

STEPS = "steps.csv"
STEPS_BYTES_MAX = 512 * 2**20
VARYING = ("seed", "split", "layer", "pooling")
KINDS = ("weight", "loss", "norm", "velocity")
FIFTH = 5


@dataclass(frozen=True)
class Trained:
    """How the loss of one run went.

    Attributes
    ----------
    epochs : array of shape (n_epochs,)
    values : dict of (kind, term) to array of shape (n_epochs,)
        Mean over the steps of an epoch; kinds are `weight`, `loss` and, under dynamic adjustment, `norm` and
        `velocity`.
    """

    folder: Path
    result: Result
    recipe: Recipe
    epochs: NDArray[np.float64]
    values: dict[tuple[str, str], NDArray[np.float64]]

    @property
    def terms(self) -> tuple[str, ...]:
        """Terms of the loss, in order."""
        return tuple(term for kind, term in self.values if kind == "loss")

    def change(self, term: str) -> tuple[float, float]:
        """Mean weight of a term in the first and in the last fifth of the epochs."""
        weights = self.values["weight", term]
        size = max(1, len(weights) // FIFTH)
        return float(weights[:size].mean()), float(weights[-size:].mean())


@dataclass(frozen=True)
class Band:
    """Mean and standard deviation over runs, epoch by epoch.

    Attributes
    ----------
    mean, sd : arrays of shape (n_epochs,)
        `sd` has n - 1 in its denominator; NaN of a single run.
    n : int
        Runs, or subjects.
    """

    epochs: NDArray[np.float64]
    mean: NDArray[np.float64]
    sd: NDArray[np.float64]
    n: int


def runs_in(paths: Sequence[Path]) -> list[Path]:
    """Folders of the runs that paths name: runs, and those of sweeps in their order.

    Of a sweep that compares methods, such as ablations, those of its first one alone.

    Raises
    ------
    InputError
        If a sweep is not finished or damaged, or a run is named twice.
    """
    found: list[Path] = []
    for path in paths:
        if (path / "sweep.json").is_file():
            found += [row.folder for row in read_sweeps([path]).headline.rows]
        else:
            found.append(path)
    if len({folder.resolve() for folder in found}) < len(found):
        raise InputError("a run is given twice", where="analyze losses")
    return found


def read_run(folder: Path) -> Trained:
    """Read one run.

    Raises
    ------
    InputError
        If the run is not finished, its loss has one term (there is then no `steps.csv`), or the file is damaged.
    """
    result = read_result(folder)
    path = folder / STEPS
    if not path.is_file():
        hint = "give runs of a loss with several terms, such as neuroalign or nice-llm"
        raise InputError(f"has no {STEPS}: its loss has one term", where=folder, hint=hint)
    if path.stat().st_size > STEPS_BYTES_MAX:
        raise InputError(f"is larger than {STEPS_BYTES_MAX // 2**20} MiB", where=path)
    try:
        table = pd.read_csv(path, dtype=np.float64)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read as a table of numbers ({error})", where=path, hint="it is damaged") from error
    terms = [str(name).removeprefix("loss_") for name in table.columns if str(name).startswith("loss_")]
    needed = ["epoch", *(f"{kind}_{term}" for kind in ("loss", "weight") for term in terms)]
    missing = [name for name in needed if name not in table.columns]
    if not terms or missing or table.empty or not np.isfinite(table.to_numpy()).all():
        what = f"has no column '{missing[0]}'" if missing else "holds no finite losses"
        raise InputError(what, where=path, hint="the file is damaged")
    means = table.groupby("epoch").mean()
    values = {
        (kind, term): means[f"{kind}_{term}"].to_numpy()
        for term in terms
        for kind in KINDS
        if f"{kind}_{term}" in means.columns
    }
    recipe = load_recipe(str(folder / "recipe.yaml"), modality=result.modality)
    return Trained(folder, result, recipe, means.index.to_numpy(dtype=np.float64), values)


def check_same_settings(runs: Sequence[Trained]) -> None:
    """Refuse runs that differ in more than subject, split, seed, layer and pooling.

    Raises
    ------
    InputError
        Naming the first setting that differs.
    """
    first = _settings(runs[0])
    for other in runs[1:]:
        theirs = _settings(other)
        for key in first.keys() | theirs.keys():
            if first.get(key) != theirs.get(key):
                text = f"differs from {runs[0].folder} in {key}: {theirs.get(key)} and {first.get(key)}"
                hint = "give runs that differ in subject and seed alone, one analysis a setting"
                raise InputError(text, where=other.folder, hint=hint)


def _settings(run: Trained) -> dict[str, object]:
    """Settings with dotted names, without what a run chooses for itself."""
    flat: dict[str, object] = {"dataset": run.result.dataset, "protocol": run.result.protocol}

    def walk(value: object, name: str) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, f"{name}.{key}" if name else str(key))
        elif name not in ("target.layer", "target.layers", "target.pooling"):
            flat[name] = value

    walk(run.recipe.facts(), "")
    return flat


def band(runs: Sequence[Trained], kind: str, term: str) -> Band:
    """Mean and standard deviation over runs, over the epochs that all of them have."""
    n_epochs = min(len(run.epochs) for run in runs)
    values = np.stack([run.values[kind, term][:n_epochs] for run in runs])
    return Band(runs[0].epochs[:n_epochs], values.mean(0), deviation(values), len(runs))


def band_of_subjects(runs: Sequence[Trained], kind: str, term: str) -> Band:
    """Mean and standard deviation over subjects, the runs of a subject averaged first."""
    groups = by_subject(runs)
    n_epochs = min(len(run.epochs) for run in runs)
    values = np.stack([np.mean([r.values[kind, term][:n_epochs] for r in mine], axis=0) for mine in groups.values()])
    return Band(runs[0].epochs[:n_epochs], values.mean(0), deviation(values), len(groups))


def by_subject(runs: Sequence[Trained]) -> dict[str, list[Trained]]:
    """Runs of each subject, in order."""
    found: dict[str, list[Trained]] = {}
    for run in runs:
        found.setdefault(run.result.subject, []).append(run)
    return found


def differences(runs: Sequence[Trained]) -> tuple[str, ...]:
    """What runs of one subject differ in, of `VARYING`."""
    keys = [(r.result.seed, r.result.split, r.result.target.label, r.result.target.pooling) for r in runs]
    return tuple(name for name, values in zip(VARYING, zip(*keys, strict=True), strict=True) if len(set(values)) > 1)


def kind_of_runs(groups: Iterable[Sequence[Trained]]) -> str:
    """What the runs of a subject are: 'seeds' where they differ in nothing else, or 'runs'."""
    several = [differences(runs) for runs in groups if len(runs) > 1]
    return "seeds" if several and all(names == ("seed",) for names in several) else "runs"


def deviation(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviation over rows, (n, n_epochs) to (n_epochs,); NaN of a single row."""
    return values.std(axis=0, ddof=1) if len(values) > 1 else np.full(values.shape[1], np.nan)
