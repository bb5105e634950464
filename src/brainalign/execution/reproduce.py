"""`brainalign reproduce`: a published table, ours beside theirs, cell by cell."""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from brainalign.cache import default_cache_dir
from brainalign.device import resolve_device
from brainalign.errors import InputError
from brainalign.execution.cells import CELLS, Place, finish_sweep, open_place
from brainalign.execution.progress import Reporter, Silent
from brainalign.execution.reproduce_document import claim, document_of, entry, measured_entry
from brainalign.execution.reproduce_plan import (
    Group,
    Wishes,
    check_wishes,
    groups_of,
    is_foundation_table,
    known_dataset,
    too_large,
    why_not,
)
from brainalign.execution.reproduce_scores import marks_of, not_comparable, score_cell
from brainalign.execution.rundir import RunDirectory
from brainalign.execution.sweep import sweep
from brainalign.recipes.published_tables import Cell, PublishedTable, read_table, table_names
from brainalign.report.reproduce_page import write_reproduction
from brainalign.report.sweep_file import read_sweep

log = logging.getLogger("brainalign")


def list_tables() -> list[dict[str, Any]]:
    """One row a published table."""
    tables = [read_table(name) for name in table_names()]
    return [
        {
            "table": table.name,
            "cells": len(table.cells),
            "data": ", ".join(table.datasets),
            "title": table.title,
            "source": table.source.paper,
        }
        for table in tables
    ]


def reproduce(
    table: str,
    *,
    out: str | Path,
    dataset: str | None = None,
    root: str | Path | None = None,
    only: str | None = None,
    subjects: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    split: int = 0,
    settings: Sequence[str] = (),
    backbones: Mapping[str, str] | None = None,
    judge: str | None = None,
    device: str = "auto",
    cache: str | Path | None = None,
    reporter: Reporter | None = None,
    allow_leaks: Sequence[str] = (),
    options: dict[str, Any] | None = None,
    jobs: int = 1,
) -> dict[str, Any]:
    """Measure the cells of a published table that can be measured here, and say why the others cannot.

    Every choice is made on validation, as in any sweep. A killed call goes on where it was.

    Parameters
    ----------
    table : str
        Name of a table, or a YAML file of the same form.
    out : path-like
        Gets `table.md`, `table.csv`, `table.html`, `reproduce.json`, and the sweeps under `cells/`.
    dataset : str, optional
        The table's own by default. Other data of the same modality (virtual, own) may stand in: their scores are shown
        without a comparison. Of `foundation/table1` several with commas between them: one space for all.
    only : str, optional
        A wildcard over cell ids and labels, or a part of one: `rn50/*`, `intra-best`, `ResNet`.
    subjects : sequence of str
        All that are there by default.
    backbones : mapping, optional
        Name in the table to the id of a model that stands in for it.
    judge : str, optional
        Of `foundation/table1`: backbone whose final output images are compared by; that of the run's anchor by default.
    jobs : int
        Processes that train at the same time, 0 for one a core; see `sweep`. A foundation run is one training.

    Returns
    -------
    dict
        What `reproduce.json` holds.

    Raises
    ------
    InputError
        If what is asked for cannot be meant, or the folder holds another reproduction.
    """
    found = read_table(table)
    selected = selected_cells(found, only)
    reporter = reporter or Silent()
    device = resolve_device(device)
    wishes = Wishes(tuple(seeds), split, tuple(subjects), tuple(settings), dict(backbones or {}))
    how: dict[str, Any] = {"device": device, "cache": cache, "reporter": reporter, "allow_leaks": allow_leaks}
    if is_foundation_table(found):
        from brainalign.execution.reproduce_foundation import reproduce_foundation

        names = None if dataset is None else [name.strip() for name in dataset.split(",") if name.strip()]
        return reproduce_foundation(
            found, selected, wishes, out=out, datasets=names, root=root, judge=judge, options=options, **how
        )
    if judge is not None:
        raise InputError(f"no cell of {found.name} compares images", where="--judge", hint="leave it out")
    place = find_place(found, dataset, root, subjects, cache=cache, options=options)
    check_wishes(found, wishes, place)
    folder = RunDirectory(out)
    claim(folder, found, [place], wishes)
    reasons = {cell.id: why_not(cell, found, place) for cell in found.cells}
    groups = groups_of([cell for cell in found.cells if not reasons[cell.id]], place, wishes)
    wanted = [group for group in groups if any(cell.id in selected for cell in group.cells)]
    measured: dict[str, dict[str, Any]] = {}
    for group in wanted:
        if reason := _run(group, folder, place, wishes, root, how | {"options": options, "jobs": jobs}):
            reasons |= {cell.id: reason for cell in group.cells}
        else:
            measured |= _scores(group, found, selected, folder, place)
    cells = [entry(cell, measured.get(cell.id), reasons[cell.id]) for cell in found.cells if cell.id in selected]
    ran = {"protocols": [group.protocol for group in groups], "recipes": [group.recipe for group in groups]}
    document = document_of(found, [place], wishes, cells, **ran)
    write_reproduction(document, folder.root)
    return document


def _scores(
    group: Group, table: PublishedTable, selected: set[str], folder: RunDirectory, place: Place
) -> dict[str, dict[str, Any]]:
    """What the sweep of a group says of those of its cells that were selected, by their ids."""
    run = f"{CELLS}/{group.slug}"
    held = read_sweep(folder.root / run)
    found = {}
    for cell in group.cells:
        if cell.id in selected:
            score = score_cell(cell, held, place)
            marks, odd = marks_of(cell, score, group, table), not_comparable(cell, score, place)
            found[cell.id] = measured_entry(cell, score, odd, marks, run=run, altered=bool(group.marks))
    return found


def find_place(
    table: PublishedTable,
    dataset: str | None,
    root: str | Path | None,
    subjects: Sequence[str] = (),
    *,
    cache: str | Path | None = None,
    options: dict[str, Any] | None = None,
) -> Place:
    """Open the data, or say why they are not here.

    Raises
    ------
    InputError
        If the data set is unknown, the folder is not there, or it lacks a subject asked for.
    """
    name = dataset or table.dataset
    if not known_dataset(name) and name in table.datasets:
        return Place(name, None, why_not=f"the data set {name} is not in this version")
    return open_place(name, root, subjects, cache=cache, options=options)


def selected_cells(table: PublishedTable, only: str | None) -> set[str]:
    """Ids of the cells that `--only` means; all without it.

    Raises
    ------
    InputError
        If no cell is called so.
    """
    if only is None:
        return {cell.id for cell in table.cells}
    pattern = only.lower() if set(only) & set("*?[") else f"*{only.lower()}*"
    found = {cell.id for cell in table.cells if any(fnmatch.fnmatchcase(t, pattern) for t in _texts(cell))}
    if not found:
        ids = ", ".join(cell.id for cell in table.cells[:4])
        raise InputError(
            f"no cell of {table.name} matches '{only}'", where="--only", hint=f"cells are called {ids}, ..."
        )
    return found


def _texts(cell: Cell) -> list[str]:
    return [cell.id, cell.condition_label.lower(), *(str(value).lower() for value in cell.labels.values())]


def _run(
    group: Group, folder: RunDirectory, place: Place, wishes: Wishes, root: str | Path | None, how: dict[str, Any]
) -> str:
    """Bring a group's sweep to its end; the reason where that cannot be done here."""
    backbone = wishes.backbones.get(group.way.backbone or "", group.way.backbone or "")

    def run(home: Path) -> None:
        if reason := too_large(backbone, how["device"], default_cache_dir(how["cache"])):
            raise InputError(reason)
        log.info("cells of %s", group.slug)
        sweep(
            group.recipe,
            over=group.over,
            dataset=place.name,
            out=home,
            root=root,
            protocol=group.protocol,
            split=wishes.split,
            settings=group.settings,
            **how,
        )

    return finish_sweep(folder, group.slug, group.request(place, wishes), run)
