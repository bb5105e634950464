"""`brainalign methods`: all methods under all protocols of one data set, in one table."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from brainalign import __version__
from brainalign.cache import default_cache_dir
from brainalign.device import resolve_device
from brainalign.errors import InputError, unknown_name
from brainalign.execution.cells import CELLS, Place, claim_folder, finish_sweep, open_place
from brainalign.execution.methods_plan import MethodCell, plan_methods
from brainalign.execution.methods_scores import score_method, set_apart
from brainalign.execution.parallel import check_jobs, in_processes
from brainalign.execution.progress import Reporter, Silent
from brainalign.execution.reproduce_plan import too_large
from brainalign.execution.rundir import RunDirectory
from brainalign.execution.sweep import sweep
from brainalign.protocols.split import check_index
from brainalign.report.methods_page import write_methods
from brainalign.report.sweep_file import read_sweep

SCHEMA = "brainalign.methods/1"
PLAN_SCHEMA = "brainalign.methods-plan/1"
N_PERMUTATIONS = 10_000
log = logging.getLogger("brainalign")


def methods(
    dataset: str,
    *,
    out: str | Path,
    root: str | Path | None = None,
    recipes: Sequence[str] = (),
    protocols: Sequence[str] = (),
    subjects: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    split: int = 0,
    settings: Sequence[str] = (),
    match: bool = False,
    against: str | None = None,
    device: str = "auto",
    cache: str | Path | None = None,
    reporter: Reporter | None = None,
    allow_leaks: Sequence[str] = (),
    options: dict[str, Any] | None = None,
    jobs: int = 1,
) -> dict[str, Any]:
    """Train every method on every subject and seed, and set their scores beside each other.

    One sweep a method and protocol. A killed call goes on where it was; the same folder takes more recipes and
    protocols later.

    Parameters
    ----------
    dataset : str
        Name, or the folder of own recordings.
    out : path-like
        Gets `table.md`, `table.csv`, `table.html`, `methods.json`, and the sweeps under `cells/`.
    recipes : sequence of str
        All that ship by default; one that cannot run on the data is listed with its reason.
    protocols : sequence of str
        `intra`, `inter` or versioned names; both where the data set has them by default.
    subjects : sequence of str
        Who is tested; all by default.
    match : bool
        Give all methods the same image target; see `methods_plan.MATCHED`.
    against : str, optional
        The recipe that the others are measured against; the best on validation by default.
    jobs : int
        Sweeps trained at the same time, each in a process of its own; 0 for one a core.

    Returns
    -------
    dict
        What `methods.json` holds.

    Raises
    ------
    InputError
        If anything given cannot be used, or the folder holds something else.
    """
    device, folder = resolve_device(device), RunDirectory(out)
    place = open_place(dataset, root, subjects, cache=cache, options=options)
    _check(place, subjects, seeds, split)
    cells = plan_methods(place, recipes, protocols, settings, match=match)
    if against is not None and against not in {cell.recipe for cell in cells}:
        raise unknown_name("recipe of this table", against, {cell.recipe for cell in cells}, where="--against")
    _claim(folder, place, seeds, split, settings, match)
    how = {
        "root": root, "device": device, "cache": cache, "reporter": reporter or Silent(), "allow_leaks": allow_leaks,
        "options": options,
    }  # fmt: skip
    if check_jobs(jobs) > 1:
        reasons = _train_beside(cells, folder, place, seeds, split, how, check_jobs(jobs))
    else:
        reasons = {cell.slug: _run(cell, folder, place, seeds, split, how) for cell in cells if cell.resolved}
    entries = [_entry(cell, folder, reasons.get(cell.slug, cell.reason)) for cell in cells]
    found = list(dict.fromkeys(cell.protocol for cell in cells))
    for protocol in found:
        set_apart([one for one in entries if one["protocol"] == protocol], against, folder.root)
    document = _document(place, seeds, split, settings, match, against, found, entries)
    write_methods(document, folder.root)
    return document


def _check(place: Place, subjects: Sequence[str], seeds: Sequence[int], split: int) -> None:
    if place.dataset is None:
        raise InputError(place.why_not)
    if not place.subjects:
        raise InputError("holds no subject", where=place.dataset.root, hint="see `brainalign datasets check`")
    check_index(split, place.dataset.info.protocol)
    for name, values in (("--seed", seeds), ("--subject", subjects)):
        if len(set(values)) < len(values):
            raise InputError("names a value twice", where=name)


def _claim(
    folder: RunDirectory, place: Place, seeds: Sequence[int], split: int, settings: Sequence[str], match: bool
) -> None:
    assert place.dataset is not None
    facts = {
        "dataset": place.dataset.facts(),
        "subjects": list(place.subjects),
        "seeds": list(seeds),
        "split": split,
        "settings": list(settings),
        "match": match,
    }
    same = "data, subjects, seeds, split and settings"
    plan = claim_folder(folder, facts, schema=PLAN_SCHEMA, what="table of methods", same=same)
    folder.write_json("plan.json", {"schema": PLAN_SCHEMA, "plan": plan})


def _train_beside(
    cells: Sequence[MethodCell],
    folder: RunDirectory,
    place: Place,
    seeds: Sequence[int],
    split: int,
    how: dict[str, Any],
    jobs: int,
) -> dict[str, str]:
    """Train several sweeps at a time; of each, why it cannot be done here, or nothing.

    The last protocol goes first: subjects left out train on everybody else and take longest.
    """
    assert place.dataset is not None
    place.dataset.prepare(None)
    able = [cell for cell in cells if cell.resolved][::-1]
    reporter, quiet = how["reporter"], how | {"reporter": Silent()}
    where = (place.name, how["root"], place.subjects, how["cache"], how["options"])
    calls = [(cell, folder.root, where, tuple(seeds), split, quiet) for cell in able]
    found = in_processes(_train_one, calls, jobs, reporter, f"training {len(able)} methods, {jobs} at a time")
    return {cell.slug: reason for cell, reason in zip(able, found, strict=True)}


def _train_one(
    cell: MethodCell,
    root: Path,
    where: tuple[Any, ...],
    seeds: Sequence[int],
    split: int,
    how: dict[str, Any],
) -> str:
    """A sweep in a process of its own."""
    name, data, subjects, cache, options = where
    return _run(
        cell, RunDirectory(root), open_place(name, data, subjects, cache=cache, options=options), seeds, split, how
    )


def _entry(cell: MethodCell, folder: RunDirectory, reason: str) -> dict[str, Any]:
    """One line of the table: measured, or why not."""
    measured = None
    if not reason:
        assert cell.resolved is not None
        found = read_sweep(folder.path(CELLS) / cell.slug)
        measured = score_method(found, cell.resolved.family, N_PERMUTATIONS) | {"run": f"{CELLS}/{cell.slug}"}
    return {
        "recipe": cell.recipe,
        "protocol": cell.protocol,
        "summary": cell.resolved.summary if cell.resolved else "",
        "source": cell.resolved.source if cell.resolved else "",
        "status": "measured" if measured else "not measured",
        "reason": reason,
        "measured": measured,
    }


def _run(
    cell: MethodCell, folder: RunDirectory, place: Place, seeds: Sequence[int], split: int, how: dict[str, Any]
) -> str:
    """Bring a method's sweep to its end; the reason where that cannot be done here."""
    assert place.dataset is not None
    assert cell.resolved is not None
    backbones = cell.resolved.target.backbones

    def run(home: Path) -> None:
        for backbone in backbones:
            if reason := too_large(backbone, how["device"], default_cache_dir(how["cache"])):
                raise InputError(reason)
        log.info("%s under %s", cell.recipe, cell.protocol)
        sweep(
            cell.recipe,
            over=cell.over(place.subjects, seeds),
            dataset=place.name,
            out=home,
            protocol=cell.protocol,
            split=split,
            settings=cell.settings,
            **how,
        )

    with how["reporter"].step(f"{cell.recipe} under {cell.protocol}"):
        return finish_sweep(folder, cell.slug, cell.request(place.dataset, place.subjects, seeds, split), run)


def _document(
    place: Place,
    seeds: Sequence[int],
    split: int,
    settings: Sequence[str],
    match: bool,
    against: str | None,
    protocols: Sequence[str],
    entries: list[dict[str, Any]],
) -> dict[str, Any]:
    assert place.dataset is not None
    info = place.dataset.info
    return {
        "schema": SCHEMA,
        "brainalign": __version__,
        "dataset": place.dataset.name,
        "virtual": info.virtual,
        "modality": info.modality,
        "citation": info.citation,
        "protocols": list(protocols),
        "subjects": list(place.subjects),
        "seeds": list(seeds),
        "split": split,
        "settings": list(settings),
        "match": match,
        "against": against,
        "methods_measured": sum(one["status"] == "measured" for one in entries),
        "methods": entries,
    }
