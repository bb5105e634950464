"""Which cells of a published table can be measured here, in which sweeps, and why the others cannot."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from brainalign.datasets.registry import DATASETS
from brainalign.encoders.registry import ENCODERS
from brainalign.errors import InputError, unknown_name
from brainalign.execution.cells import Place
from brainalign.features.aliases import ALIASES, resolve_alias
from brainalign.features.sources import parse_id
from brainalign.plain_yaml import parse_yaml
from brainalign.protocols.registry import PROTOCOLS
from brainalign.protocols.split import check_index
from brainalign.recipes import load_recipe, recipe_names
from brainalign.recipes.published_tables import RETRIEVAL_METRICS, Cell, PublishedTable, Way, settings_of

SUBSTITUTE_LAYERS = [d / 10 for d in range(11)]
CANDIDATES = "target.candidates"
# What a cell itself sets: changing these would measure something that the cell does not claim.
OWN_KEYS = ("target.backbone", "target.layer", "target.layers", "encoder.name", "projector.image")
BYTES_PER_WEIGHT = 4
ROOM = 1.2  # weights, and what one batch needs beside them


@dataclass(frozen=True)
class Wishes:
    """What the user asked for.

    Attributes
    ----------
    subjects : tuple of str
        Empty: all that are there.
    backbones : mapping
        Name in the table to the id that stands in for it.
    """

    seeds: tuple[int, ...] = (0,)
    split: int = 0
    subjects: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    backbones: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Group:
    """Cells that one sweep answers: every candidate layer, subject and seed of one recipe on one backbone.

    Attributes
    ----------
    slug : str
        Name of its folder.
    marks : tuple of str
        What was done otherwise than the paper did, to be shown beside the score.
    """

    slug: str
    way: Way
    cells: list[Cell]
    recipe: str
    settings: list[str]
    protocol: str
    over: list[str]
    marks: tuple[str, ...]

    def request(self, place: Place, wishes: Wishes) -> dict[str, Any]:
        """What decides the sweep, to tell whether a finished one answers it."""
        assert place.dataset is not None
        return {
            "recipe": self.recipe,
            "settings": self.settings,
            "protocol": self.protocol,
            "over": self.over,
            "split": wishes.split,
            "dataset": place.dataset.facts(),
        }


def check_wishes(table: PublishedTable, wishes: Wishes, place: Place) -> None:
    """Refuse what cannot be meant, ahead of any work.

    Raises
    ------
    InputError
        For a backbone that is not in the table, an id without a source, a setting that a cell fixes itself or that no
        recipe knows, a seed or a subject named twice, a split that is not frozen.
    """
    check_index(wishes.split, place.dataset.info.protocol if place.dataset else table.name)
    for name, stand_in in wishes.backbones.items():
        if name not in table.backbones:
            raise unknown_name(f"backbone of {table.name}", name, table.backbones, where="--backbone")
        parse_id(stand_in)
    for key in settings_of(wishes.settings):
        if key in OWN_KEYS:
            hint = (
                "use --backbone NAME=ID" if key == "target.backbone" else "use `brainalign sweep` for other questions"
            )
            raise InputError(f"'{key}' is what the cells of {table.name} differ in", where="--set", hint=hint)
    for name, values in (("--seed", wishes.seeds), ("--subject", wishes.subjects)):
        if len(set(values)) < len(values):
            raise InputError("names a value twice", where=name)
    modality = place.dataset.info.modality if place.dataset else "eeg"
    for recipe in sorted({cell.run.recipe for cell in table.cells if cell.run.recipe}):
        if recipe.partition("/")[0] in recipe_names():
            load_recipe(recipe, modality=modality, overrides=wishes.settings)


def is_foundation_table(table: PublishedTable) -> bool:
    """Whether its cells are of one space for several data sets."""
    return any((cell.run.recipe or "").partition("/")[0] == "foundation" for cell in table.cells)


def why_not(cell: Cell, table: PublishedTable, place: Place) -> str:
    """Why a cell cannot be measured here, as far as that can be said without running anything; empty if it can."""
    way = cell.run
    if way.why_not or not way.recipe:
        return way.why_not or "the table does not say how it would be measured"
    if cell.metric not in RETRIEVAL_METRICS:
        return f"no run scores {cell.metric}"
    return (
        _recipe_missing(way.recipe)
        or _encoder_missing(way)
        or _data_missing(cell, table, place)
        or ("" if protocol_of(way, place) else f"the protocol {way.protocol} is not in this version")
    )


def _recipe_missing(name: str) -> str:
    return "" if name.partition("/")[0] in recipe_names() else f"the recipe '{name}' is not built in this version"


def _encoder_missing(way: Way) -> str:
    name = settings_of(way.settings).get("encoder.name", "")
    return "" if not name or name in ENCODERS else f"the encoder '{name}' is not registered in this version"


def _data_missing(cell: Cell, table: PublishedTable, place: Place) -> str:
    wanted = cell.run.dataset or ""
    if place.base in table.datasets and place.base != wanted:
        return f"needs the data set {wanted}, {place.base} was given"
    if place.dataset is None:
        return place.why_not
    if place.base == wanted:
        if not place.subjects:
            return f"no subject of {wanted} in {place.dataset.root}"
        if cell.subject is not None and same_subject(cell.subject, place.subjects) is None:
            return "the subject is not among those measured here"
        return ""
    if place.dataset.info.modality != cell.run.modality:
        return f"needs the data set {wanted} ({cell.run.modality}), {place.name} holds {place.dataset.info.modality}"
    return f"{place.name} has no subject of {wanted}" if cell.subject is not None else ""


def same_subject(published: str, subjects: Iterable[str]) -> str | None:
    """The subject whose number is the published one's: '1' is '01' and 'P1'.

    Examples
    --------
    >>> same_subject("1", ["01", "02"]), same_subject("3", ["01", "02"])
    ('01', None)
    """
    wanted = _digits(published)
    return next((one for one in subjects if _digits(one) == wanted), None)


def _digits(name: str) -> str:
    return re.sub(r"\D", "", name).lstrip("0") or name


def protocol_of(way: Way, place: Place) -> str:
    """The protocol a cell would be measured with on the data at hand, its counterpart on other data; empty if none."""
    wanted = way.protocol or ""
    if place.dataset is None or place.base == way.dataset:
        return wanted if wanted in PROTOCOLS else ""
    own = place.dataset.info.protocol
    if "/intra/" in wanted:
        return own
    counterpart = "/".join([own.partition("/")[0], *wanted.split("/")[1:]])
    return counterpart if counterpart in PROTOCOLS else ""


def groups_of(cells: Sequence[Cell], place: Place, wishes: Wishes) -> list[Group]:
    """Gather measurable cells into sweeps, in the order of the table.

    A sweep holds all layers its cells need, `final` among them, so that the images pass through a model once.
    """
    together: dict[str, list[Cell]] = {}
    for cell in cells:
        way = cell.run.model_copy(update={"layer": "given" if cell.run.layer == "given" else "some"})
        key = way.model_dump_json(exclude={"not_comparable", "why_not", "n_way"})
        together.setdefault(key, []).append(cell)
    return [_group(members, place, wishes) for members in together.values()]


def _group(cells: list[Cell], place: Place, wishes: Wishes) -> Group:
    way = cells[0].run
    conditions = dict.fromkeys(cell.condition for cell in cells)
    stand_in = wishes.backbones.get(way.backbone or "")
    backbone = stand_in or way.backbone
    settings = [*way.settings, *(w for w in wishes.settings if w.partition("=")[0].strip() != CANDIDATES)]
    if backbone:
        settings.append(f"target.backbone={json.dumps(backbone)}")
    kinds = {cell.run.layer for cell in cells}
    over = []
    if kinds & {"best", "final"}:
        settings += ["target.layer=auto", f"{CANDIDATES}={json.dumps(_candidates(way, kinds, stand_in, wishes))}"]
        over.append("layer")
    over += [f"subject={','.join(place.subjects)}", f"seed={','.join(map(str, wishes.seeds))}"]
    slug = "_".join([cells[0].row, *conditions])
    marks = marks_of_way(way, stand_in, wishes)
    return Group(slug, way, cells, way.recipe or "", settings, protocol_of(way, place), over, marks)


def _candidates(way: Way, kinds: set[Any], stand_in: str | None, wishes: Wishes) -> list[Any]:
    """Layers of a sweep; another model than the paper's has other stages, so depths stand in for them."""
    asked = settings_of(wishes.settings).get(CANDIDATES)
    if asked is not None:
        try:
            value = parse_yaml(asked)
        except yaml.YAMLError as error:
            raise InputError(
                f"'{asked[:80]}' is no list of layers", where=CANDIDATES, hint="for example [3, 6]"
            ) from error
        found = value if isinstance(value, list) else [value]
    else:
        found = list(SUBSTITUTE_LAYERS if stand_in or not way.layers else way.layers)
    found = [layer for layer in found if layer != "final"] if "best" in kinds else []
    return [*found, "final"] if "final" in kinds else found


def marks_of_way(way: Way, stand_in: str | None, wishes: Wishes) -> tuple[str, ...]:
    """What is run otherwise than the paper did: another model, other weights, budget or settings."""
    marks = []
    if stand_in:
        marks.append(f"{stand_in} stands in for {way.backbone}")
    changed = settings_of(wishes.settings)
    if changed.get("target.weights", "").strip() == "random":
        marks.append("random weights")
    if "budget" in changed:
        marks.append(f"budget {changed['budget'].strip()}")
    if changed.keys() - {"target.weights", "budget"}:
        marks.append("changed settings")
    return tuple(marks)


def too_large(backbone: str, device: str, cache: Path) -> str:
    """Why a model cannot be loaded here, empty if it can, if its features are kept already, or if nobody knows."""
    alias = next((a for name, a in ALIASES.items() if backbone in (name, a.id)), None)
    free = free_bytes(device)
    if alias is None or free is None or _kept(backbone, cache):
        return ""
    needed = alias.n_parameters * BYTES_PER_WEIGHT * ROOM
    if needed <= free:
        return ""
    where = "memory" if device == "cpu" else f"memory of {device}"
    return f"{backbone} needs about {needed / 2**30:.0f} GiB, {free / 2**30:.0f} GiB of {where} are free"


def _kept(backbone: str, cache: Path) -> bool:
    """Whether the cache holds features of a model."""

    def plain(name: str) -> str:
        return re.sub(r"[^a-z0-9]+", "", name.lower())

    folder = cache / "features"
    wanted = plain(resolve_alias(backbone))
    return folder.is_dir() and any(plain(one.name).startswith(wanted) for one in folder.iterdir() if one.is_dir())


def free_bytes(device: str) -> int | None:
    """Free memory of a device; None where the system does not tell."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info()[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = next((line for line in lines if line.startswith("MemAvailable:")), None)
    return int(found.split()[1]) * 1024 if found else None


def known_dataset(name: str) -> bool:
    """Whether a name is in the registry of data sets."""
    return name.partition(":")[0] in DATASETS
