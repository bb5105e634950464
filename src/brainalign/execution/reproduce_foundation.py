"""`brainalign reproduce foundation/table1`: one space for the data sets at hand, scored as Ferrante et al. 2024 do."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.cache import default_cache_dir
from brainalign.errors import InputError
from brainalign.execution.cells import CELLS, Place, finish_sweep, open_place
from brainalign.execution.foundation import train_foundation
from brainalign.execution.joint import source_name
from brainalign.execution.reproduce_document import claim, document_of, entry, measured_entry
from brainalign.execution.reproduce_foundation_cells import (
    Looked,
    is_conversion,
    missing_modalities,
    not_comparable_here,
    place_of,
    remarks,
    score_of,
)
from brainalign.execution.reproduce_foundation_scores import Source, gallery_of, read_source
from brainalign.execution.reproduce_plan import Wishes, check_wishes, known_dataset, marks_of_way, too_large
from brainalign.execution.rundir import RunDirectory
from brainalign.execution.train import open_session
from brainalign.features import extract_features
from brainalign.recipes.load import load_recipe
from brainalign.recipes.published_tables import Cell, PublishedTable
from brainalign.report.reproduce_page import write_reproduction
from brainalign.stimuli import StimulusSet

SLUG = "one-space"
log = logging.getLogger("brainalign")


@dataclass(frozen=True)
class _Plan:
    """One space for all data sets at hand, once a seed."""

    recipe: str
    settings: tuple[str, ...]
    marks: tuple[str, ...]
    places: tuple[Place, ...]
    wishes: Wishes

    def request(self) -> dict[str, Any]:
        """What decides the runs."""
        data = [[p.dataset.facts(), list(p.subjects)] for p in self.places if p.dataset is not None]
        seeds = list(self.wishes.seeds)
        return {"recipe": self.recipe, "settings": list(self.settings), "data": data, "seeds": seeds}


def reproduce_foundation(
    table: PublishedTable,
    selected: set[str],
    wishes: Wishes,
    *,
    out: str | Path,
    datasets: Sequence[str] | None,
    root: str | Path | None,
    judge: str | None = None,
    options: Mapping[str, Any] | None = None,
    **how: Any,
) -> dict[str, Any]:
    """Measure the cells that the data at hand allow; see `brainalign.execution.reproduce.reproduce`.

    Parameters
    ----------
    selected : set of str
        Ids of the cells to measure.
    datasets : sequence of str, optional
        Those of the table that lie below `root` by default.
    judge : str, optional
        Backbone whose final output images are compared by; that of the anchor by default.
    **how
        `device`, `cache`, `reporter`, `allow_leaks`.

    Raises
    ------
    InputError
        If what is asked for cannot be meant, or the folder holds another reproduction.
    """
    places = open_places(table, datasets, root, wishes.subjects, cache=how["cache"], options=options)
    check_wishes(table, wishes, next((place for place in places if place.subjects), places[0]))
    folder = RunDirectory(out)
    claim(folder, table, places, wishes, {"judge": judge} if judge else None)
    reasons = {cell.id: why_not_here(cell, places) for cell in table.cells}
    wanted = [cell for cell in table.cells if cell.id in selected and not reasons[cell.id]]
    measured: dict[str, dict[str, Any]] = {}
    protocols: list[str] = []
    conversions: list[dict[str, Any]] = []
    if wanted:
        plan = _plan(table, wanted[0], places, wishes)
        reason = _run(plan, folder, root, options, how)
        if reason:
            reasons |= {cell.id: reason for cell in wanted}
        else:
            looked = _look(plan, folder, root, judge, options, how)
            for cell in wanted:
                _measure(cell, table, plan, looked, measured, reasons)
            protocols = [one.result.protocol for run in looked.runs for one in run]
            conversions = looked.described()
    cells = [entry(cell, measured.get(cell.id), reasons[cell.id]) for cell in table.cells if cell.id in selected]
    recipes = [wanted[0].run.recipe or ""] if wanted else []
    document = document_of(table, places, wishes, cells, protocols=protocols, recipes=recipes)
    document |= {"conversions": conversions}
    write_reproduction(document, folder.root)
    return document


def open_places(
    table: PublishedTable,
    datasets: Sequence[str] | None,
    root: str | Path | None,
    subjects: Sequence[str],
    *,
    cache: str | Path | None,
    options: Mapping[str, Any] | None,
) -> list[Place]:
    """Open every data set, or say why it is not here.

    Parameters
    ----------
    root : path-like, optional
        Of a single data set its folder, of several a folder that holds one named after each.

    Raises
    ------
    InputError
        If a data set is unknown or named twice, a folder is not there, or nobody has a subject asked for.
    """
    names = list(datasets) if datasets else list(table.datasets)
    if len(set(names)) < len(names):
        raise InputError("names a data set twice", where="--dataset")
    if root is not None and not Path(root).is_dir():
        raise InputError("is not a folder", where=root, hint="check --root")
    found = []
    for name in names:
        own = Path(root) / name if root is not None and len(names) > 1 else root
        place = own if own is None or Path(own).is_dir() else None
        if datasets is None and not known_dataset(name):
            found.append(Place(name, None, why_not=f"the data set {name} is not in this version"))
            continue
        found.append(open_place(name, place, (), cache=cache, options=dict(options or {})))
    return [_with_subjects(place, subjects) for place in _all_known(found, subjects)]


def _all_known(places: list[Place], subjects: Sequence[str]) -> list[Place]:
    """The places, if each subject asked for is in one of them."""
    here = [place for place in places if place.dataset is not None]
    for subject in subjects if here else ():
        if not any(subject in place.subjects for place in here):
            known = "; ".join(f"{place.name} {', '.join(place.subjects)}" for place in here)
            raise InputError(f"no data set has a subject '{subject}'", where="--subject", hint=f"there are {known}")
    return places


def _with_subjects(place: Place, subjects: Sequence[str]) -> Place:
    if place.dataset is None or not subjects:
        return place
    kept = tuple(subject for subject in place.subjects if subject in subjects)
    return Place(place.name, place.dataset, kept, "" if kept else f"no subject asked for is in {place.name}")


def why_not_here(cell: Cell, places: Sequence[Place]) -> str:
    """Why a cell cannot be measured on these data, as far as that can be said ahead; empty if it can."""
    if cell.run.why_not:
        return cell.run.why_not
    if is_conversion(cell):
        missing = missing_modalities(cell, places)
        if not missing:
            return ""
        here = ", ".join(dict.fromkeys(_modality(p) for p in places if p.subjects)) or "nothing"
        return f"needs {' and '.join(missing)} in one space beside {here} (--dataset A,B,C)"
    place = place_of(cell, places)
    if place is None:
        given = ", ".join(f"{p.name} ({_modality(p)})" if p.dataset else p.name for p in places)
        return f"needs the data set {cell.run.dataset} ({cell.run.modality}); given: {given}"
    return place.why_not or ("" if place.subjects else f"no subject of {place.name} is here")


def _modality(place: Place) -> str:
    return place.dataset.info.modality if place.dataset is not None else ""


def _plan(table: PublishedTable, cell: Cell, places: Sequence[Place], wishes: Wishes) -> _Plan:
    way = cell.run
    stand_in = wishes.backbones.get(way.backbone or "")
    here = tuple(place for place in places if place.dataset is not None and place.subjects)
    settings = [*_settings(table, {place.base for place in here}), *wishes.settings]
    settings += [f"target.backbone={json.dumps(stand_in)}"] if stand_in else []
    return _Plan(way.recipe or "", tuple(settings), marks_of_way(way, stand_in, wishes), here, wishes)


def _settings(table: PublishedTable, bases: set[str]) -> list[str]:
    """Settings that all cells share, and those of cells about a data set at hand: one run answers all cells."""
    every = [set(cell.run.settings) for cell in table.cells]
    shared = set.intersection(*every)
    found = [s for cell in table.cells for s in cell.run.settings if s in shared or cell.run.dataset in bases]
    return list(dict.fromkeys(found))


def _run(
    plan: _Plan,
    folder: RunDirectory,
    root: str | Path | None,
    options: Mapping[str, Any] | None,
    how: Mapping[str, Any],
) -> str:
    """Bring the runs to their end; the reason where that cannot be done here."""
    modality = _modality(plan.places[0])
    backbone = load_recipe(plan.recipe, modality=modality, overrides=plan.settings).target.backbone
    own = None if plan.places[0].dataset is None else plan.places[0].dataset.root
    place = root if len(plan.places) > 1 else own

    def run(home: Path) -> None:
        if reason := too_large(backbone, how["device"], default_cache_dir(how["cache"])):
            raise InputError(reason)
        for seed in plan.wishes.seeds:
            log.info("one space for %s, seed %s", ", ".join(p.name for p in plan.places), seed)
            train_foundation(
                plan.recipe,
                datasets=[place.name for place in plan.places],
                subjects={place.name: place.subjects for place in plan.places},
                out=home / f"seed-{seed}",
                root=place,
                split=plan.wishes.split,
                seed=seed,
                settings=plan.settings,
                options=options,
                closed_form=False,
                **how,
            )

    return finish_sweep(folder, SLUG, plan.request(), run)


def _look(
    plan: _Plan,
    folder: RunDirectory,
    root: str | Path | None,
    judge: str | None,
    options: Mapping[str, Any] | None,
    how: Mapping[str, Any],
) -> Looked:
    """Read the finished runs, and let the judge look at their galleries."""
    recipe = load_recipe(plan.recipe, modality=_modality(plan.places[0]), overrides=plan.settings)
    name = judge or recipe.target.backbones[0]
    weights = "pretrained" if judge else recipe.target.weights
    stimuli: dict[tuple[str, str], StimulusSet] = {}
    for place in plan.places:
        assert place.dataset is not None
        session = open_session(
            place.name, root=place.dataset.root, device=how["device"], cache=how["cache"], reporter=how["reporter"],
            allow_leaks=how["allow_leaks"], options=dict(options or {}),
        )  # fmt: skip
        stimuli |= {(place.dataset.name, subject): session.stimuli(subject) for subject in place.subjects}

    def judged(images: StimulusSet) -> NDArray[np.float32]:
        with how["reporter"].step(f"output of {name}, to compare images by") as tick:
            banks = extract_features(
                images, name, ["final"], ["final"], cache_dir=default_cache_dir(how["cache"]), device=how["device"],
                weights=weights, progress=tick,
            )  # fmt: skip
        found: NDArray[np.float32] = next(iter(banks.values())).rows(images.image_ids)
        return found

    def source(home: Path, dataset: str, subject: str) -> Source:
        place = home / "sources" / source_name(dataset, subject)
        images = stimuli[dataset, subject].select(gallery_of(place))
        classes = images.table["concept"].astype(str).tolist() if images.has_concepts else ()
        return read_source(place, judged(images), classes)

    runs = []
    for seed in plan.wishes.seeds:
        home = folder.path(CELLS) / SLUG / f"seed-{seed}"
        runs.append(tuple(source(home, dataset, subject) for dataset, subject in stimuli))
    return Looked(tuple(runs), name, judge is not None, weights == "random", plan.places)


def _measure(
    cell: Cell,
    table: PublishedTable,
    plan: _Plan,
    looked: Looked,
    measured: dict[str, dict[str, Any]],
    reasons: dict[str, str],
) -> None:
    """Score one cell, or note why it has no score."""
    score = score_of(cell, looked)
    if isinstance(score, str):
        reasons[cell.id] = score
        return
    odd = not_comparable_here(cell, score, table, looked)
    marks = remarks(cell, score, plan.marks, looked)
    measured[cell.id] = measured_entry(cell, score, odd, marks, run=f"{CELLS}/{SLUG}", altered=bool(plan.marks))
