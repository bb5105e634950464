"""What `brainalign datasets` does: overview, description, check, fetch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainalign.datasets.base import Dataset
from brainalign.datasets.registry import DATASETS, dataset_class, open_dataset

if TYPE_CHECKING:
    from brainalign.datasets.fetch_plan import FetchPlan


def overview() -> list[dict[str, str]]:
    """One row a data set: name, kind of signal, whether virtual, subjects, size, title."""
    rows = []
    for name in DATASETS:
        info = dataset_class(name).info
        rows.append(
            {
                "name": name,
                "signal": f"{info.modality}{' (VIRTUAL)' if info.virtual else ''}",
                "subjects": str(len(info.subjects)),
                "size": info.size,
                "title": info.title,
            }
        )
    return rows


def describe(name: str, root: str | Path | None = None) -> dict[str, Any]:
    """All facts about one data set, its presets, and the subjects found at `root`."""
    opened = open_dataset(name, root)
    facts: dict[str, Any] = asdict(opened.info)
    facts["presets"] = list(type(opened).presets)
    facts["subjects"] = list(opened.subjects)
    return facts


def check(name: str, root: str | Path | None = None) -> list[dict[str, Any]]:
    """What is there, what is missing or damaged, and what to do; one row a finding."""
    return [asdict(found) for found in open_dataset(name, root).check()]


def plan(name: str, root: str | Path, subjects: Sequence[str] = ()) -> FetchPlan:
    """What `fetch` will download, and how much: for the question before it.

    Parameters
    ----------
    name : str
        Registry name; `things-eeg2:raw` names a variant.

    Raises
    ------
    InputError
        If the data set cannot be fetched, or a subject is unknown.
    """
    from brainalign.datasets.fetch_plan import plan_fetch

    base, _, variant = name.partition(":")
    found: type[Dataset] = dataset_class(base)
    return plan_fetch(found.remote_files(tuple(subjects), variant or None), root)


def fetch(
    name: str,
    root: str | Path,
    subjects: Sequence[str] = (),
    *,
    planned: FetchPlan | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Download chosen subjects of a public data set, resumable, checked by sha256; unpack archives.

    Parameters
    ----------
    planned : FetchPlan, optional
        What `plan` found for the same arguments, so that it is not looked up twice.

    Raises
    ------
    InputError
        If the data set cannot be fetched, a subject is unknown, or a download fails.
    """
    from brainalign.datasets.fetch import fetch_files
    from brainalign.datasets.unpack import unpack

    planned = planned or plan(name, root, subjects)
    report = fetch_files(planned.files, root, progress=progress)
    for file, fetched in zip(planned.files, report.files, strict=True):
        if file.unpack is not None:
            unpack(Path(root) / file.path, Path(root) / file.unpack, fetched.sha256)
    return {
        "root": str(root),
        "summary": str(report),
        "files": [asdict(file) for file in report.files],
    }
