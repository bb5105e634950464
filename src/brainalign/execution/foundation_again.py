"""A finished foundation run with its model, members and data at hand again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brainalign.alignment.families import load_aligner
from brainalign.alignment.foundation import FoundationAligner
from brainalign.device import resolve_device
from brainalign.errors import InputError, unknown_name
from brainalign.evaluation.result import read_result
from brainalign.execution.joint import Member, open_members, source_name
from brainalign.execution.progress import Reporter
from brainalign.execution.reopen import dataset_name
from brainalign.files import read_json
from brainalign.recipes.recipe import Recipe

DOCUMENT = "foundation.json"


@dataclass(frozen=True)
class FoundationRun:
    """A finished foundation run.

    Attributes
    ----------
    document : dict
        What `foundation.json` holds.
    aligner : FoundationAligner
        Its recipe has the layer and pooling that were chosen.
    members : dict of str to Member
        By source name; with the newcomer, where one was asked for.
    newcomer : str
        Name of the subject that the run was not trained on; empty if none was asked for.
    """

    folder: Path
    document: Mapping[str, Any]
    aligner: FoundationAligner
    members: Mapping[str, Member]
    newcomer: str = ""

    @property
    def recipe(self) -> Recipe:
        """Settings of the run, layer and pooling frozen."""
        return self.aligner.recipe

    @property
    def label(self) -> tuple[str, str]:
        """Layer and pooling that were chosen."""
        return str(self.document["layer"]), str(self.document["pooling"])


def is_foundation(folder: str | Path) -> bool:
    """Whether a finished foundation run lies there."""
    return (Path(folder) / DOCUMENT).is_file()


def reopen_foundation(
    folder: str | Path,
    *,
    newcomer: tuple[str, str] | None = None,
    root: str | Path | None = None,
    device: str = "auto",
    cache: str | Path | None = None,
    reporter: Reporter | None = None,
    options: Mapping[str, Any] | None = None,
) -> FoundationRun:
    """Load a finished foundation run and open its data.

    Parameters
    ----------
    newcomer : (data set, subject), optional
        Somebody the run was not trained on, cut by the run's own protocol: none of the images that validate or test
        one subject trains another. The data set must be one of the run's.
    root, options
        As for `train foundation`.

    Raises
    ------
    InputError
        If the folder holds no finished foundation run, its data are not at hand or are others than the run's, or the
        newcomer is no newcomer.
    """
    place = Path(folder)
    document, aligner = open_foundation(place, device=resolve_device(device))
    trained = [one["name"] for one in document["sources"]]
    several = len(document["datasets"]) > 1
    subjects = {_located(name, root, several): who for name, who in _subjects(place, document, newcomer).items()}
    found = open_members(
        list(subjects),
        root=root,
        subjects=subjects,
        split=int(document["split"]),
        device=device,
        cache=cache,
        reporter=reporter,
        allow_leaks=_allowed(place, trained),
        options=options,
    )
    members = {m.name: m for m in found}
    _check_same(place, trained, members)
    added = source_name(*newcomer) if newcomer else ""
    wanted = [*trained, added] if added else [*trained]
    return FoundationRun(place, document, aligner, {name: members[name] for name in wanted}, added)


def open_foundation(place: Path, *, device: str) -> tuple[dict[str, Any], FoundationAligner]:
    """What a finished foundation run found, and its model; its data are not opened.

    Raises
    ------
    InputError
        If the folder holds no finished foundation run, or a file of it is damaged.
    """
    if not is_foundation(place):
        hint = "make one with `brainalign train foundation --dataset A,B,C --out DIR`"
        raise InputError("is no finished foundation run", where=place, hint=hint)
    document, file = read_document(place / DOCUMENT), place / "model.safetensors"
    aligner = load_aligner(file, device=device)
    if not isinstance(aligner, FoundationAligner):
        raise InputError("holds the model of another recipe", where=file, hint="train again")
    return document, aligner


def read_document(path: Path) -> dict[str, Any]:
    """What `foundation.json` holds.

    Raises
    ------
    InputError
        If it is damaged, or a name in it leads out of the folder.
    """
    found = read_json(path)
    try:
        sound = (
            str(found["schema"]).startswith("brainalign.foundation-run/")
            and all(isinstance(name, str) for name in found["datasets"])
            and all(isinstance(one["subject"], str) and _plain(one["name"]) for one in found["sources"])
            and all(isinstance(found[key], str) for key in ("layer", "pooling"))
            and isinstance(found["split"], int)
            and bool(found["datasets"])
            and bool(found["sources"])
        )
    except (KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise InputError("is damaged", where=path, hint="train again")
    return dict(found)


def _plain(name: Any) -> bool:
    return isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9-]+", name) is not None


def _allowed(place: Path, trained: Iterable[str]) -> tuple[str, ...]:
    """Leaks that the run was allowed to have: they stand in its results."""
    found = [finding for name in trained for finding in read_result(place / "sources" / name).lint]
    return tuple(dict.fromkeys(finding.code for finding in found if finding.severity == "leak"))


def _located(name: str, root: str | Path | None, several: bool) -> str:
    """What opens a data set that a run names: own recordings go by their title there, and open by their folder."""
    return dataset_name(name, Path(root) / name if several and root is not None else root)


def _subjects(place: Path, document: Mapping[str, Any], newcomer: tuple[str, str] | None) -> dict[str, list[str]]:
    """Subjects to open, of every data set of the run in its order."""
    found: dict[str, list[str]] = {name: [] for name in document["datasets"]}
    for one in document["sources"]:
        found[read_result(place / "sources" / one["name"]).dataset].append(one["subject"])
    if newcomer is None:
        return found
    dataset, subject = newcomer
    if dataset not in found:
        raise unknown_name("data set of this run", dataset, document["datasets"], where="--dataset")
    if source_name(dataset, subject) in {one["name"] for one in document["sources"]}:
        text = f"subject {subject} of {dataset} was trained on by this run"
        raise InputError(text, where="--subject", hint="name one that was left out")
    found[dataset].append(subject)
    return found


def _check_same(place: Path, trained: Iterable[str], members: Mapping[str, Member]) -> None:
    """The same data, cut the same way, as when the run was trained."""
    for name in trained:
        held = read_result(place / "sources" / name).split_fingerprint
        if name not in members or members[name].split.fingerprint != held:
            hint = "the data sets' files, options or subjects differ from those of the run"
            raise InputError(f"trained {name} on another cut of these data", where=place, hint=hint)
