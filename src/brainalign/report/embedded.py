"""Figures of analyses inside the report of the run that they were made of: time course, topography, repetitions.

`brainalign analyze NAME RUN --out RUN/analysis/NAME` leaves `panels.json` beside its page. A report finds it there. The
file may come from anybody, so of its drawings only shapes and text are taken over.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from brainalign.errors import InputError
from brainalign.files import read_json
from brainalign.report.figures import SVG, XLINK, Panel

if TYPE_CHECKING:
    from markupsafe import Markup

    from brainalign.report.sweep_file import SweepFile

PANELS = "panels.json"
STEPS = "steps.csv"  # of runs whose loss has several terms
FOLDER = "analysis"  # in a run's folder
SCHEMA: Literal["brainalign.panels/1"] = "brainalign.panels/1"
BYTES_MAX = 6 * 2**20
PANELS_MAX = 12

# What matplotlib draws with; anything else (scripts, animation, foreign objects, links) is left out.
TAGS = frozenset(("svg", "g", "path", "text", "tspan", "defs", "clipPath", "rect", "use", "image", "circle", "line"))
ATTRIBUTES = frozenset(
    (
        "id", "d", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "width", "height", "transform", "style", "fill",
        "stroke", "opacity", "clip-path", "viewBox", "version", "role", "aria-label", "preserveAspectRatio",
    )
)  # fmt: skip
_REFERENCE = re.compile(r"url\(\s*(?!#)|\\", re.IGNORECASE)  # a backslash can spell it otherwise
_PICTURE = re.compile(r"data:image/png;base64,[A-Za-z0-9+/=\s]*\Z")

# What a report has room for: name, title, and the kinds of signals that have it.
OF_RUNS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("time", "Time course", ("eeg", "meg")),
    ("channels", "Topography: which channels matter", ("eeg", "meg", "fmri", "spikes")),
    ("repetitions", "Averaged repetitions", ("eeg", "meg", "fmri", "spikes")),
)
OF_SWEEPS = {"layers": "Layers, fitted and compared", "losses": "Course of the loss"}
CHOSEN_IN_A_RUN = frozenset(("layer", "pooling", "target.layer", "target.pooling"))  # differ in one setting's runs


class _Stored(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class StoredPanel(_Stored):
    """A figure as a file keeps it; see `Panel`."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,80}$")
    title: str
    caption: str
    alt: str = Field(min_length=1)
    svg: str
    table: str
    wide: bool = False


class StoredPanels(_Stored):
    """What `panels.json` holds."""

    schema_: Literal["brainalign.panels/1"] = Field(alias="schema")
    panels: list[StoredPanel] = Field(max_length=200)


@dataclass(frozen=True)
class Embedded:
    """An analysis in a run's report.

    Attributes
    ----------
    name, title : str
    panels : tuple of Panel
        Empty where the analysis was not made.
    """

    name: str
    title: str
    panels: tuple[Panel, ...] = ()


def panels_document(panels: Sequence[Panel]) -> dict[str, Any]:
    """What `panels.json` will hold."""
    keys = ("name", "title", "caption", "alt", "table", "wide")
    return {
        "schema": SCHEMA,
        "panels": [{**{key: getattr(p, key) for key in keys}, "svg": str(p.svg)} for p in panels],
    }


def run_analyses(folder: Path, modality: str, registered: Collection[str]) -> list[Embedded]:
    """Analyses in the folder of a run, and those that would suit its signals but are not there.

    Parameters
    ----------
    folder : Path
        Of a finished run; analyses lie in `analysis/NAME`.
    modality : str
    registered : collection of str
        Analyses there are: none is asked for that does not exist.

    Raises
    ------
    InputError
        If a `panels.json` is damaged or too large.
    """
    return _analyses(folder, {name: title for name, title, kinds in OF_RUNS if modality in kinds}, registered)


def sweep_analyses(sweep: SweepFile, registered: Collection[str]) -> list[Embedded]:
    """Analyses in the folder of a sweep, and those that would suit its axes but are not there; see `run_analyses`.

    The course of a loss is asked for where there is one to show: of several terms, in runs of one setting.
    """
    choices = {axis.name for axis in sweep.choices if len(axis.values) > 1}
    terms = all((sweep.run(condition) / STEPS).is_file() for condition in sweep.summary.conditions)
    suits = {
        "layers": bool({"layer", "target.layer"} & {axis.name for axis in sweep.summary.axes}),
        "losses": terms and choices <= CHOSEN_IN_A_RUN,
    }
    return _analyses(sweep.folder, {name: title for name, title in OF_SWEEPS.items() if suits[name]}, registered)


def _analyses(folder: Path, wanted: Mapping[str, str], registered: Collection[str]) -> list[Embedded]:
    found = [Embedded(name, title, _read(folder, name)) for name, title in wanted.items() if name in registered]
    titles = {name: title for name, title, _ in OF_RUNS} | OF_SWEEPS
    for name in sorted(set(registered) - set(wanted)):
        panels = _read(folder, name)
        if panels:
            found.append(Embedded(name, titles.get(name, f"Analysis: {name}"), panels))
    return found


def _read(folder: Path, name: str) -> tuple[Panel, ...]:
    path = folder / FOLDER / name / PANELS
    if not path.is_file():
        return ()
    if path.stat().st_size > BYTES_MAX:
        raise InputError(f"is larger than {BYTES_MAX} bytes", where=path, hint=f"remove it, or analyze {name} again")
    try:
        stored = StoredPanels.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(f"{key}: {first['msg']}", where=path, hint=f"analyze {name} again") from error
    names = [one.name for one in stored.panels]
    if len(set(names)) < len(names):
        raise InputError("names two figures alike", where=path, hint=f"analyze {name} again")
    left = len(names) - PANELS_MAX
    made = []
    for one in stored.panels[:PANELS_MAX]:
        own = f"{name}-{one.name}" if not one.name.startswith(name) else one.name
        svg = harmless(one.svg, own, one.alt, path)
        made.append(Panel(own, one.title, one.caption, one.alt, svg, one.table, one.wide))
    if left > 0:
        said = f"{made[-1].caption} {left} more figures stand in {FOLDER}/{name}/index.html."
        made[-1] = replace(made[-1], caption=said)
    return tuple(made)


def harmless(svg: str, name: str, alt: str, path: Path) -> Markup:
    """A drawing with nothing but shapes, text and small pictures; its ids are made the page's own.

    Raises
    ------
    InputError
        If it is no SVG.
    """
    from markupsafe import Markup

    if "<!" in svg or "<?" in svg:  # no document types and entities
        raise InputError(f"figure '{name}' is not one of our drawings", where=path, hint="analyze the run again")
    try:
        root = ET.fromstring(svg)
    except ET.ParseError as error:
        raise InputError(f"figure '{name}' is no SVG ({error})", where=path, hint="analyze the run again") from error
    if root.tag != f"{{{SVG}}}svg":
        raise InputError(f"figure '{name}' is no SVG", where=path, hint="analyze the run again")
    for parent in list(root.iter()):
        for child in list(parent):
            if not (isinstance(child.tag, str) and child.tag.startswith(f"{{{SVG}}}") and _local(child.tag) in TAGS):
                parent.remove(child)
    for element in root.iter():
        _clean(element, name)
    for key in ("width", "height", "style"):
        root.attrib.pop(key, None)
    root.attrib |= {"role": "img", "aria-label": alt}
    ET.register_namespace("", SVG)
    ET.register_namespace("xlink", XLINK)
    try:
        return Markup(ET.tostring(root, encoding="unicode"))  # the serialiser escapes text and attributes
    except RecursionError as error:
        raise InputError(f"figure '{name}' is nested too deep", where=path, hint="analyze the run again") from error


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _clean(element: ET.Element, name: str) -> None:
    for key, value in list(element.attrib.items()):
        if key in (f"{{{XLINK}}}href", "href"):
            del element.attrib[key]
            if value.startswith("#"):
                element.set(f"{{{XLINK}}}href", f"#{name}.{value[1:]}")
            elif _local(element.tag) == "image" and _PICTURE.match(value):
                element.set(f"{{{XLINK}}}href", value)
        elif key not in ATTRIBUTES or _REFERENCE.search(value):
            del element.attrib[key]
        elif key == "id":
            element.set(key, f"{name}.{value}")
        else:
            element.set(key, re.sub(r"url\(\s*#([^)]+)\)", rf"url(#{name}.\1)", value))
