"""Which recordings lie in a BIDS folder, and the small files that belong to each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brainalign.datasets.bids.options import DATATYPES, BidsOptions
from brainalign.errors import InputError, unknown_name
from brainalign.files import read_json

DESCRIPTION = "dataset_description.json"
STIMULI = "stimuli"
# Formats that BIDS names and MNE reads from the file (or folder) alone.
SUFFIXES = {
    "eeg": (".vhdr", ".edf", ".bdf", ".set"),
    "meg": (".fif", ".ds", ".con", ".sqd"),
    "ieeg": (".vhdr", ".edf", ".set", ".mefd"),
}
_LABEL = re.compile(r"[A-Za-z0-9+]+")
_ENTITY = re.compile(r"([a-z]+)-([A-Za-z0-9+]+)")
_NOT_SUBJECTS = ("emptyroom",)


@dataclass(frozen=True)
class Run:
    """One recording.

    Attributes
    ----------
    path : Path
        The recording: a file, its header, or a folder (`.ds`).
    entities : dict of str to str
        `sub`, `ses`, `task`, `run`, `acq`, ... as the name has them.
    datatype : {'eeg', 'meg', 'ieeg'}
    """

    root: Path
    path: Path
    datatype: str
    entities: dict[str, str] = field(hash=False)

    def __getitem__(self, entity: str) -> str:
        return self.entities.get(entity, "")

    @property
    def prefix(self) -> str:
        """The name up to the suffix: `sub-01_ses-1_task-things_run-1`."""
        names = (f"{key}-{value}" for key, value in self.entities.items() if key != "split")
        return "_".join(names)

    @property
    def where(self) -> str:
        """The recording below the root, for messages."""
        return self.path.relative_to(self.root).as_posix()

    def beside(self, suffix: str) -> Path | None:
        """A file that goes with the recording (`events.tsv`), found by the inheritance principle of BIDS.

        The nearest one counts: beside the recording, then in the folders above it up to the root; its name holds no
        entity that contradicts the recording's.
        """
        own = self.path.parent / f"{self.prefix}_{suffix}"
        if own.is_file():
            return own
        for folder in self.path.parents:
            fitting = [(len(entities), path) for path, entities in _named(folder, suffix) if self._agrees(entities)]
            if fitting:
                return max(fitting)[1]
            if folder == self.root:
                break
        return None

    def _agrees(self, entities: dict[str, str]) -> bool:
        return all(self.entities.get(key) == value for key, value in entities.items())

    def parts(self) -> list[Path]:
        """Every file of the recording and what belongs to it alone, in order: changes in any of them count."""
        folder = self.path.parent
        found = [p for p in folder.glob(f"{self.prefix}_*") if p.is_file()]
        found += [p for p in self.path.rglob("*") if p.is_file()] if self.path.is_dir() else []
        for suffix in ("electrodes.tsv", "coordsystem.json"):
            found += folder.glob(f"*_{suffix}")
        for suffix in ("events.tsv", "channels.tsv", f"{self.datatype}.json"):
            path = self.beside(suffix)
            found += [path] if path is not None else []
        return sorted(set(found))


def _named(folder: Path, suffix: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """Files `key-value_..._SUFFIX` of a folder, with their entities."""
    for path in sorted(folder.glob(f"*{suffix}")):
        stem = path.name[: -len(suffix)]
        if path.is_file() and (stem == "" or stem.endswith("_")):
            yield path, dict(_ENTITY.findall(stem))


def read_description(root: Path) -> dict[str, Any]:
    """`dataset_description.json`.

    Raises
    ------
    InputError
        If it is missing or damaged: every BIDS data set has one.
    """
    path = root / DESCRIPTION
    if not path.is_file():
        raise InputError(f"holds no {DESCRIPTION}", where=root, hint="give the root of a BIDS data set")
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("BIDSVersion"), str):
        raise InputError("has no BIDSVersion", where=path, hint="it must be an object with Name and BIDSVersion")
    return content


def all_runs(root: Path) -> list[Run]:
    """Every EEG, MEG and iEEG recording, by name.

    Raises
    ------
    InputError
        If a name contradicts its folder, or one run lies there in two formats.
    """
    found = [run for folder in sorted(root.glob("sub-*")) if folder.is_dir() for run in _runs_of(root, folder)]
    first: dict[tuple[str, str], Run] = {}
    for run in found:
        other = first.setdefault((run.datatype, run.prefix), run)
        if other.path.suffix != run.path.suffix:
            problem = f"is the recording of {other.path.name} in another format"
            raise InputError(problem, where=run.path, hint="keep one of them")
    return list(first.values())


def _runs_of(root: Path, subject: Path) -> Iterator[Run]:
    for datatype in DATATYPES:
        for folder in (subject / datatype, *sorted(subject.glob(f"ses-*/{datatype}"))):
            for path in sorted(folder.glob(f"*_{datatype}.*")):
                if path.suffix.lower() in SUFFIXES[datatype] and not path.name.startswith("."):
                    yield _run(root, path, datatype, subject.name)


def _run(root: Path, path: Path, datatype: str, subject: str) -> Run:
    words = path.name[: path.name.rindex(f"_{datatype}.")].split("_")
    matches = [_ENTITY.fullmatch(word) for word in words]
    entities = {match[1]: match[2] for match in matches if match}
    if None in matches or len(entities) != len(words):
        raise InputError(
            "is not a name of BIDS", where=path, hint="expected sub-LABEL_task-LABEL_... before the suffix"
        )
    session = path.parents[1].name
    if f"sub-{entities.get('sub')}" != subject or (session != subject and f"ses-{entities.get('ses')}" != session):
        raise InputError(
            f"lies in {path.parent}", where=path.name, hint="subject and session must be those of the folder"
        )
    return Run(root, path, datatype, entities)


def choose_runs(root: Path, runs: list[Run], options: BidsOptions) -> list[Run]:
    """The recordings that the options name, still of any number of tasks.

    Raises
    ------
    InputError
        If nothing fits, several data types do, or a run is there in several versions.
    """
    if not runs:
        kinds = ", ".join(sorted({suffix for suffixes in SUFFIXES.values() for suffix in suffixes}))
        hint = f"looked for sub-*/[ses-*/]{{eeg,meg,ieeg}}/ with {kinds}"
        raise InputError("holds no recording", where=root, hint=hint)
    runs = [run for run in runs if run["sub"] not in _NOT_SUBJECTS]
    for entity, wanted, name in (
        ("task", options.task, "task"),
        ("ses", options.session, "session"),
        ("run", options.run, "run"),
        ("acq", (options.acquisition,) if options.acquisition else (), "acquisition"),
        ("proc", (options.processing,) if options.processing else (), "processing"),
    ):
        runs = _with_labels(root, runs, entity, wanted, name)
    kinds_there = [kind for kind in DATATYPES if any(run.datatype == kind for run in runs)]
    if options.datatype and options.datatype not in kinds_there:
        raise InputError(f"holds no {options.datatype}", where=root, hint=f"there is {', '.join(kinds_there)}")
    if not options.datatype and len(kinds_there) > 1:
        listed = " or ".join(f"datatype={kind}" for kind in kinds_there)
        raise InputError(f"holds {' and '.join(kinds_there)}", where=root, hint=f"choose with --data-option {listed}")
    chosen = [run for run in runs if run.datatype == (options.datatype or kinds_there[0])]
    _refuse_versions(chosen)
    return chosen


def _with_labels(root: Path, runs: list[Run], entity: str, wanted: tuple[str, ...], name: str) -> list[Run]:
    """Runs with any of the labels; `1` finds `01` where there is no `1`, for numbers lose their zeros in YAML."""
    if not wanted:
        return runs
    there = {run[entity] for run in runs if run[entity]}
    labels = set()
    for label in wanted:
        found = {label} & there or {t for t in there if t.isdigit() and label.isdigit() and int(t) == int(label)}
        if not found:
            raise unknown_name(name, label, there, where=root)
        labels |= found
    return [run for run in runs if run[entity] in labels]


def _refuse_versions(runs: list[Run]) -> None:
    """One run recorded or processed in several ways would count its trials twice."""
    first: dict[tuple[str, ...], Run] = {}
    for run in runs:
        other = first.setdefault((run["sub"], run["ses"], run["task"], run["run"]), run)
        if other is run:
            continue
        for entity, name in (("acq", "acquisition"), ("proc", "processing")):
            if run[entity] != other[entity]:
                labels = " or ".join(f"{name}={r[entity]}" for r in (other, run) if r[entity])
                raise InputError(f"is a version of {other.path.name}", where=run.path, hint=f"choose with {labels}")
        raise InputError(f"is a version of {other.path.name}", where=run.path, hint="keep one of them")
