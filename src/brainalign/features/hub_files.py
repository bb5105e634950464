"""The folder of a model's files: one that was given, or a repository of the hub, downloaded once."""

from __future__ import annotations

import hashlib
from pathlib import Path

from brainalign.errors import InputError
from brainalign.features.hub import cannot, local_folder, quick_offline
from brainalign.files import sha256_file

SMALL = ("*.json", "*.txt", "*.model", "*.jinja")
ELSEWHERE = ("onnx/*", "openvino/*", "original/*", "*.onnx", "*.gguf")
HINT = "connect to the internet once, or give a folder that holds the repository's files"


def model_folder(place: str, *, where: str, revision: str | None = None) -> Path:
    """A folder with a model's files: safetensors, pickled weights only where there are none.

    Parameters
    ----------
    place : str
        `ORG/NAME`, or a path that starts as one does (`/models/x`, `./x`).
    revision : str, optional
        Commit, branch or tag of the repository; a folder has none.

    Raises
    ------
    InputError
        If there is no such folder, or the files cannot be had.
    """
    folder = local_folder(place)
    if folder is not None:
        if revision is not None:
            raise InputError("a folder has no revision", where=where, hint="leave ?revision= out")
        if not folder.is_dir():
            raise InputError("no such folder", where=where)
        return folder
    found = _downloaded(place, revision, [*SMALL, "*.safetensors"], where)
    if not any(found.rglob("*.safetensors")):
        found = _downloaded(place, revision, [*SMALL, "*.bin"], where)
    return found


def _downloaded(place: str, revision: str | None, patterns: list[str], where: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        with quick_offline("huggingface_hub"):
            return Path(
                snapshot_download(place, revision=revision, allow_patterns=patterns, ignore_patterns=list(ELSEWHERE))
            )
    except Exception as error:  # hub clients raise their own types
        raise cannot(where, "the model's files cannot be had", error, HINT) from error


def folder_revision(place: str, folder: Path) -> str:
    """What exactly a folder holds: the commit of a repository, else `sha256:` over all files' names and contents."""
    if local_folder(place) is None:
        return folder.name  # the hub's cache names a snapshot's folder by its commit
    digest = hashlib.sha256()
    for path in sorted(one for one in folder.iterdir() if one.is_file() and not one.name.startswith(".")):
        digest.update(f"{path.name} {sha256_file(path)}\n".encode())
    return f"sha256:{digest.hexdigest()}"
