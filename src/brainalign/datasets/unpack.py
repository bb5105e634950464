"""Unpacking downloaded zip archives inside the data folder, without trusting what their members are called."""

from __future__ import annotations

import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from brainalign.datasets.resume import check_room
from brainalign.errors import InputError
from brainalign.files import atomic_write, read_json, write_json

MARK = ".unpacked.json"
_JUNK = ("__MACOSX/", ".DS_Store", "Thumbs.db")
_COPY_BYTES = 2**20


def unpack(archive: Path, folder: Path, sha256: str, progress: Callable[[int, int], None] | None = None) -> bool:
    """Unpack an archive so that its files lie below `folder`, whether or not it holds a folder of that name itself.

    Parameters
    ----------
    archive : Path
        A zip archive; `<archive>.unpacked.json` remembers that it was unpacked.
    folder : Path
        For example `DIR/sub-01` for `sub-01.zip`.
    sha256 : str
        Of the archive: another archive of that name is unpacked anew.

    Returns
    -------
    bool
        Whether there was anything to do.

    Raises
    ------
    InputError
        If the archive is damaged, a member leads out of the folder, or the disk is too small.
    """
    mark = archive.with_name(archive.name + MARK)
    if mark.is_file() and folder.is_dir() and read_json(mark).get("sha256") == sha256:
        return False
    try:
        with zipfile.ZipFile(archive) as source:
            members = _members(source, archive)
            wrapped = all(PurePosixPath(m.filename).parts[0] == folder.name for m in members)
            check_room(folder.parent, sum(m.file_size for m in members))
            base = folder.parent if wrapped else folder
            for done, member in enumerate(members, start=1):
                with source.open(member) as packed, atomic_write(base / member.filename) as file:
                    shutil.copyfileobj(packed, file, _COPY_BYTES)
                if progress is not None:
                    progress(done, len(members))
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"is damaged or encrypted ({reason})", where=archive, hint="delete it, fetch again") from error
    write_json(mark, {"sha256": sha256, "folder": folder.name, "files": len(members)})
    return True


def _members(source: zipfile.ZipFile, archive: Path) -> list[zipfile.ZipInfo]:
    kept = []
    for member in source.infolist():
        name = member.filename
        if member.is_dir() or name.startswith(_JUNK[0]) or PurePosixPath(name).name in _JUNK[1:]:
            continue
        parts = name.split("/")
        outside = any(part in ("", ".", "..") for part in parts) or "\\" in name or ":" in name
        if outside or not name.isprintable() or stat.S_ISLNK(member.external_attr >> 16):
            problem = f"has the member {name!a}, which leads out of the folder or is a link"
            raise InputError(problem, where=archive, hint="do not trust this archive")
        kept.append(member)
    if not kept:
        raise InputError("holds no file", where=archive, hint="delete it, fetch again")
    return kept
