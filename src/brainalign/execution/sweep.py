"""`brainalign sweep`: runs that differ along axes, chosen on validation, the test set opened once for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brainalign.errors import InputError
from brainalign.evaluation import paired_bootstrap
from brainalign.evaluation.hits import hits_of_run
from brainalign.evaluation.result import Result, read_result
from brainalign.execution.axes import COMPARED, CONDITIONS, Axis, expand, parse_axes, slugs
from brainalign.execution.fitting import selection_key
from brainalign.execution.job import Job
from brainalign.execution.parallel import check_jobs
from brainalign.execution.progress import Reporter
from brainalign.execution.rundir import RunDirectory
from brainalign.execution.session import Session
from brainalign.execution.sweep_work import freeze_all, score_all
from brainalign.execution.train import check_job, choose_subject, logged, open_session, resolve_recipe
from brainalign.files import sha256_json
from brainalign.recipes import Recipe
from brainalign.report import write_sweep_report

SCHEMA = "brainalign.sweep/1"


@dataclass
class Row:
    """One run of a sweep."""

    job: Job
    at: dict[str, Any]
    directory: RunDirectory
    fit: dict[str, Any]
    chosen: bool = False

    @property
    def condition(self) -> tuple[str, int, int]:
        """What its score stands for: subject, split, seed."""
        return (self.job.subject, self.job.split, self.job.seed)

    @property
    def compared(self) -> tuple[Any, ...]:
        """Values of the axes whose values are compared with each other."""
        return tuple(self.at[name] for name in COMPARED if name in self.at)


def sweep(
    recipe: str,
    *,
    over: Sequence[str],
    dataset: str,
    out: str | Path,
    root: str | Path | None = None,
    subject: str | None = None,
    protocol: str = "",
    split: int = 0,
    seed: int = 0,
    settings: Sequence[str] = (),
    device: str = "auto",
    cache: str | Path | None = None,
    reporter: Reporter | None = None,
    allow_leaks: Sequence[str] = (),
    options: dict[str, Any] | None = None,
    jobs: int = 1,
) -> dict[str, Any]:
    """Train all combinations of the axes, choose per subject, split and seed on validation, open the test set once.

    The rows that were not chosen are scored at the same opening; their test scores are exploratory. A killed sweep goes
    on where it was.

    Parameters
    ----------
    over : sequence of str
        Axes: `layer`, `pooling`, `backbone`, `encoder`, `subject`, `split`, `seed` or a recipe key, with values as in
        `split=0,1,2` or `seed=0-4`.
    jobs : int
        Processes that train at the same time, 0 for one a core; see `sweep_work`.

    Returns
    -------
    dict
        What `sweep.json` holds.

    Raises
    ------
    InputError
        If there is no axis, or what is asked for cannot be trained.
    """
    if not over:
        raise InputError("a sweep needs an axis", where="--over", hint="for example --over layer")
    folder = RunDirectory(out)
    at_once = check_jobs(jobs)
    opened: dict[str, Any] = {
        "dataset": dataset, "root": root, "protocol": protocol, "device": device, "cache": cache,
        "allow_leaks": allow_leaks, "options": options,
    }  # fmt: skip
    session = open_session(**opened, reporter=reporter)
    session.home = folder.root
    who = choose_subject(session, subject)
    resolved: Recipe = resolve_recipe(recipe, session, settings)
    axes = parse_axes(over, session, resolved, who)
    planned = expand(axes, resolved, who, split, seed)
    _claim(folder, session, planned)
    with logged(folder):
        names = slugs([at for _, at in planned])
        homes = [RunDirectory(folder.path("runs") / name) for name in names]
        placed = [(job, home) for (job, _), home in zip(planned, homes, strict=True)]
        freeze_all(session, placed, opened, at_once, folder.root)
        rows = [Row(job, at, home, home.read_json("fit.json")) for (job, at), home in zip(planned, homes, strict=True)]
        _choose(rows)
        chosen = {index for index, row in enumerate(rows) if row.chosen}
        score_all(session, placed, chosen, opened, at_once, folder.root)
    results = [read_result(row.directory.root) for row in rows]
    summary = _summary(session, resolved, axes, rows, results)
    folder.write_table("sweep.csv", [_csv_row(row, result) for row, result in zip(rows, results, strict=True)])
    folder.write_json("sweep.json", summary)
    write_sweep_report(folder.root, session.stimuli)
    return summary


def _claim(folder: RunDirectory, session: Session, jobs: Sequence[tuple[Job, dict[str, Any]]]) -> None:
    """Refuse a folder that holds another sweep; remember this one."""
    plan = sha256_json([job.config_hash(session) for job, _ in jobs])
    if folder.has("plan.json"):
        if folder.read_json("plan.json").get("plan") != plan:
            raise InputError("holds another sweep", where=folder.root, hint="choose another --out")
        return session.prefetch((job.subject, target) for job, _ in jobs for target in job.recipe.targets)
    if folder.has("result.json"):
        raise InputError("holds a single run", where=folder.root, hint="choose another --out")
    # Everything is opened once before the folder is made: bad input leaves nothing behind.
    session.prefetch((job.subject, target) for job, _ in jobs for target in job.recipe.targets)
    for job, _ in jobs:
        check_job(session, job)
    folder.write_json("plan.json", {"schema": "brainalign.plan/1", "plan": plan, "runs": slugs([at for _, at in jobs])})


def _choose(rows: Sequence[Row]) -> None:
    """Mark the best row of every condition by its validation score, for every value that is compared by itself."""
    best: dict[Any, Row] = {}
    for row in rows:
        held = best.get((row.condition, row.compared))
        if held is None or _key(row) < _key(held):
            best[row.condition, row.compared] = row
    for row in best.values():
        row.chosen = True


def _key(row: Row) -> tuple[float, float]:
    return selection_key(row.fit["selection"], row.job.recipe)


def _csv_row(row: Row, result: Result) -> dict[str, Any]:
    test = result.metrics.test
    fixed = {
        "recipe": result.recipe,
        "dataset": result.dataset,
        "subject": result.subject,
        "split": result.split,
        "seed": result.seed,
        "backbone": result.target.backbone,
        "layer": result.target.label,
        "depth": round(result.target.depth, 4),
        "pooling": result.target.pooling,
        "encoder": result.encoder,
        "validation_top1": result.metrics.validation.top1,
        "test_top1": test.top1,
        "test_top1_ci_lo": test.top1_ci95[0],
        "test_top1_ci_hi": test.top1_ci95[1],
        "test_top5": test.top5,
        "chosen": int(row.chosen),
        "total_s": result.timing.total_s,
        "validation_mrr": result.metrics.validation.mrr,
        "validation_loss": row.fit["selection"]["validation_loss"],
        "chance_top1": test.chance_top1,
        "run": f"runs/{row.directory.root.name}",
    }
    extra = {name: value for name, value in row.at.items() if name not in fixed}
    return fixed | extra


def _summary(
    session: Session, recipe: Recipe, axes: Sequence[Axis], rows: Sequence[Row], results: Sequence[Result]
) -> dict[str, Any]:
    groups: dict[tuple[str, int, int], list[int]] = {}
    first = _headline(axes)
    for index, row in enumerate(rows):
        if row.compared == first:
            groups.setdefault(row.condition, []).append(index)
    conditions = [_condition(rows, results, members) for members in groups.values()]
    return {
        "schema": SCHEMA,
        "recipe": recipe.name,
        "profile": recipe.profile,
        "budget": recipe.budget,
        "dataset": session.dataset.name,
        "virtual": session.dataset.info.virtual,
        "protocol": session.protocol,
        "axes": [
            {"name": a.name, "values": list(a.values), "choice": a.name not in (*CONDITIONS, *COMPARED)} for a in axes
        ],
        "chosen_by": f"validation_{recipe.selection.layer}",
        "conditions": conditions,
        "mean": {
            k: float(np.mean([c[k] for c in conditions])) for k in ("test_top1", "test_top5", "inflation_gap_top1")
        },
        "comparisons": _comparisons(axes, rows),
        "test_reads": max(result.test_reads for result in results),
    }


def _headline(axes: Sequence[Axis]) -> tuple[Any, ...]:
    """First value of every compared axis: the method itself, not what it is compared with."""
    return tuple(axis.values[0] for name in COMPARED for axis in axes if axis.name == name)


def _condition(rows: Sequence[Row], results: Sequence[Result], members: Sequence[int]) -> dict[str, Any]:
    chosen = next(i for i in members if rows[i].chosen)
    test, best = results[chosen].metrics.test, max(results[i].metrics.test.top1 for i in members)
    return {
        "subject": rows[chosen].job.subject,
        "split": rows[chosen].job.split,
        "seed": rows[chosen].job.seed,
        "chosen": {name: value for name, value in rows[chosen].at.items() if name not in (*CONDITIONS, *COMPARED)},
        "run": f"runs/{rows[chosen].directory.root.name}",
        "test_top1": test.top1,
        "test_top1_ci95": list(test.top1_ci95),
        "test_top5": test.top5,
        "best_row_on_test": best,
        "inflation_gap_top1": best - test.top1,
    }


def _comparisons(axes: Sequence[Axis], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Chosen rows against others, images paired, conditions pooled; see the two functions behind it."""
    names = [axis.name for axis in axes]
    found = []
    for axis in axes:
        if axis.name in COMPARED:
            found += [_against_value(axis, value, rows) for value in axis.values[1:]]
    method = [row for row in rows if row.compared == _headline(axes)]
    return [*found, *(_against_layers(method) if "layer" in names else [])]


def _against_value(axis: Axis, value: Any, rows: Sequence[Row]) -> dict[str, Any]:
    """Chosen rows of a compared axis' first value against those of another one, all else alike."""

    def chosen(wanted: Any) -> dict[Any, Row]:
        return {
            (row.condition, *(row.at[n] for n in COMPARED if n in row.at and n != axis.name)): row
            for row in rows
            if row.chosen and row.at[axis.name] == wanted
        }

    ours, theirs = chosen(axis.values[0]), chosen(value)
    both = [(ours[at].directory.root, theirs[at].directory.root) for at in ours if at in theirs]
    pairs = [(*hits_of_run(mine), hits_of_run(other)[1]) for mine, other in both]
    return {"against": f"{axis.name} {value}", "conditions": len(pairs), **_paired(pairs)}


def _paired(pairs: Sequence[tuple[Any, Any, Any]]) -> dict[str, Any]:
    # Conditions share test images: an image is drawn with all its queries, so that none counts as new evidence.
    ids, ours, theirs = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return paired_bootstrap(ours, theirs, images=ids).to_dict()


def _against_layers(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Chosen rows against `head` and `final` rows trained alike, over all conditions that have them.

    The rival has the chosen row's pooling where it can (`final` has only its own), else the best on validation. Where
    validation chose the rival, both sides are that row: leaving the condition out would flatter the choice.
    """
    found = []
    for other in ("head", "final"):
        pairs = []
        chosen = [row for row in rows if row.chosen]
        for row in chosen:
            twin = [r for r in rows if r.condition == row.condition and _alike(r, row) and str(r.at["layer"]) == other]
            twin.sort(key=lambda r, pooling=row.fit["pooling"]: (r.fit["pooling"] != pooling, _key(r)))  # type: ignore[misc]
            if twin:
                pairs.append((*hits_of_run(row.directory.root), hits_of_run(twin[0].directory.root)[1]))
        if pairs and any(str(row.at["layer"]) != other for row in chosen):
            found.append({"against": f"layer {other}", "conditions": len(pairs), **_paired(pairs)})
    return found


def _alike(a: Row, b: Row) -> bool:
    """Whether two rows differ in the layer alone (its pooling follows: `final` has only its own)."""
    skip = ("layer", "pooling")
    return {k: v for k, v in a.at.items() if k not in skip} == {k: v for k, v in b.at.items() if k not in skip}
