"""What `brainalign reproduce` writes down: its plan, its cells, and the document of the whole table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from brainalign import __version__
from brainalign.execution.cells import Place, claim_folder
from brainalign.execution.reproduce_plan import Wishes
from brainalign.execution.reproduce_scores import Score, difference
from brainalign.execution.rundir import RunDirectory
from brainalign.recipes.published_tables import Cell, PublishedTable

SCHEMA = "brainalign.reproduce/1"
PLAN_SCHEMA = "brainalign.reproduce-plan/1"


def claim(
    folder: RunDirectory,
    table: PublishedTable,
    places: Sequence[Place],
    wishes: Wishes,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Refuse a folder that holds something else.

    Parameters
    ----------
    more : mapping, optional
        What else must be given again for the same table.

    Raises
    ------
    InputError
        If another reproduction, a run or a sweep lies there.
    """
    facts = {
        "table": table.name,
        "dataset": names_of(places),
        "subjects": subjects_of(places),
        "seeds": list(wishes.seeds),
        "split": wishes.split,
        "settings": list(wishes.settings),
        "backbones": dict(wishes.backbones),
        **(more or {}),
    }
    same = "data, subjects, seeds, settings and backbones"
    plan = claim_folder(folder, facts, schema=PLAN_SCHEMA, what="reproduction", same=same)
    if any(place.dataset is not None and place.subjects for place in places):
        folder.write_json("plan.json", {"schema": PLAN_SCHEMA, "table": table.name, "plan": plan})


def names_of(places: Sequence[Place]) -> str:
    """Names of data sets, with commas between them."""
    return ",".join(place.name for place in places)


def subjects_of(places: Sequence[Place]) -> list[str]:
    """Subjects; with the data set ahead of them where there are several."""
    if len(places) == 1:
        return list(places[0].subjects)
    return [f"{place.name} {subject}" for place in places for subject in place.subjects]


def measured_entry(
    cell: Cell, score: Score, odd: str, marks: Sequence[str], *, run: str, altered: bool
) -> dict[str, Any]:
    """What is said of a cell that was measured; shares in percent.

    Parameters
    ----------
    odd : str
        Why ours and theirs are not to be subtracted; empty if they are.
    run : str
        Where our runs lie, relative to the table's folder.
    altered : bool
        Whether another model or other settings than the paper's were run.
    """
    interval = score.interval
    return {
        "ours": 100 * interval.estimate,
        "ours_ci95": [100 * interval.lo, 100 * interval.hi],
        "interval": interval.method,
        **_apart(score, cell, odd),
        "exploratory": _exploratory(score),
        "not_comparable": odd,
        "altered": altered,
        "marks": list(marks),
        "subjects": list(score.subjects),
        "seeds": list(score.seeds),
        "layers": score.layers,
        "depth": round(score.depth, 4),
        "n_way": score.n_way,
        "chance": 100 * score.chance,
        "n_train": score.n_train,
        "repetitions": score.repetitions,
        "run": run,
    }


def _apart(score: Score, cell: Cell, odd: str) -> dict[str, Any]:
    if odd:
        return {"difference": None, "difference_ci95": None}
    apart, low, high = difference(score.interval, cell.published)
    return {"difference": apart, "difference_ci95": [low, high]}


def _exploratory(score: Score) -> dict[str, Any] | None:
    found = score.exploratory
    if found is None:
        return None
    gap = 100 * (found.value - score.interval.estimate)
    return {"layer": found.layer, "value": 100 * found.value, "inflation_gap": gap}


def entry(cell: Cell, measured: dict[str, Any] | None, reason: str) -> dict[str, Any]:
    """A cell of the document, measured or with the reason why not."""
    return {
        "id": cell.id,
        "labels": cell.labels,
        "condition": cell.condition_label,
        "subject": cell.subject,
        "metric": cell.metric,
        "published": cell.published.model_dump(mode="json"),
        "status": "measured" if measured else "not measured",
        "reason": "" if measured else reason,
        "measured": measured,
    }


def document_of(
    table: PublishedTable,
    places: Sequence[Place],
    wishes: Wishes,
    cells: list[dict[str, Any]],
    *,
    protocols: Sequence[str],
    recipes: Sequence[str],
) -> dict[str, Any]:
    """What `reproduce.json` holds."""
    infos = [place.dataset.info for place in places if place.dataset is not None]
    return {
        "schema": SCHEMA,
        "brainalign": __version__,
        "table": table.name,
        "title": table.title,
        "source": table.source.model_dump(mode="json"),
        "unit": table.unit,
        "notes": table.notes,
        "dataset": names_of(places),
        "data_here": any(place.dataset is not None and place.subjects for place in places),
        "virtual": any(place.virtual for place in places),
        "citation": "; ".join(dict.fromkeys(info.citation for info in infos)),
        "protocols": sorted(set(protocols)),
        "recipes": sorted(set(recipes)),
        "subjects": subjects_of(places),
        "published_subjects": len(table.subjects),
        "seeds": list(wishes.seeds),
        "published_seeds": table.seeds,
        "split": wishes.split,
        "settings": list(wishes.settings),
        "substitutes": dict(wishes.backbones),
        "cells_measured": sum(cell["status"] == "measured" for cell in cells),
        "cells": cells,
    }
