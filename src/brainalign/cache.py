"""Where things that can be computed again are kept, and what is there."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from brainalign.errors import InputError
from brainalign.files import write_error

ENVIRONMENT = "BRAINALIGN_CACHE"
KINDS = ("features", "backbones", "datasets", "derived")


def default_cache_dir(given: str | os.PathLike[str] | None = None) -> Path:
    """The cache folder: the one given, else `BRAINALIGN_CACHE`, else the user's. It is made on first use.

    Raises
    ------
    InputError
        If it is a file or cannot be made.
    """
    if given is None:
        given = os.environ.get(ENVIRONMENT) or None
    if given is None:
        import platformdirs

        given = platformdirs.user_cache_dir("brainalign", appauthor=False)
    folder = Path(given)
    if folder.exists() and not folder.is_dir():
        raise InputError("is a file, not a folder", where=folder, hint="give another --cache")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(error, folder) from error
    return folder


@dataclass(frozen=True)
class CacheEntry:
    """One folder of the cache."""

    kind: str
    name: str
    bytes: int
    date: str


def list_cache(folder: Path) -> list[CacheEntry]:
    """What the cache holds: a row a backbone, data set or derived store."""
    entries = []
    for kind in KINDS:
        for path in sorted((folder / kind).glob("*")):
            files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
            if path.suffix == ".lock" or not files:
                continue
            newest = max(f.stat().st_mtime for f in files)
            date = time.strftime("%Y-%m-%d", time.localtime(newest))
            entries.append(CacheEntry(kind, path.name, sum(f.stat().st_size for f in files), date))
    return entries


def clear_cache(folder: Path) -> None:
    """Remove what this program put into the cache folder, and nothing else."""
    for kind in KINDS:
        shutil.rmtree(folder / kind, ignore_errors=True)
