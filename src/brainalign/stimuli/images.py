"""Reading image files, loose or inside a zip archive, without trusting them."""

from __future__ import annotations

import functools
import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from brainalign.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

IMAGE_BYTES_MAX = 128 * 2**20
IMAGE_PIXELS_MAX = 64_000_000
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"})
ZIP_MARK = "!"


@functools.lru_cache(maxsize=16)
def _archive(path: str, size: int, modified_ns: int) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise InputError("is not a whole zip archive", where=path, hint="download it again") from error


def open_archive(path: str | Path) -> zipfile.ZipFile:
    """Open a zip archive once and keep it open; a changed file is opened anew.

    Raises
    ------
    InputError
        If the file is missing or is not a whole zip archive.
    """
    try:
        status = Path(path).stat()
    except OSError as error:
        raise InputError("no such archive", where=path, hint="check the path") from error
    return _archive(str(path), status.st_size, status.st_mtime_ns)


def read_image_bytes(path: str) -> bytes:
    """Bytes of an image file, given as `folder/name.jpg` or `folder/archive.zip!name.jpg`.

    Raises
    ------
    InputError
        If the file or archive member is missing, damaged, or larger than 128 MiB.
    """
    archive, mark, member = path.rpartition(ZIP_MARK)
    if mark and archive.lower().endswith(".zip"):
        return _read_member(archive, member)
    file = Path(path)
    try:
        if file.stat().st_size > IMAGE_BYTES_MAX:
            raise InputError(
                f"is larger than {IMAGE_BYTES_MAX >> 20} MiB", where=path, hint="this is no stimulus image"
            )
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"the image cannot be read ({error.strerror})", where=path, hint="check the path") from error


def _read_member(archive: str, member: str) -> bytes:
    source = open_archive(archive)
    where = f"{archive}{ZIP_MARK}{member}"
    try:
        if source.getinfo(member).file_size > IMAGE_BYTES_MAX:
            raise InputError(
                f"is larger than {IMAGE_BYTES_MAX >> 20} MiB", where=where, hint="this is no stimulus image"
            )
        return source.read(member)
    except KeyError as error:
        raise InputError("the archive has no such image", where=where, hint="download the archive again") from error
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        raise InputError(f"the archive is damaged ({error})", where=where, hint="download the archive again") from error


def open_image(path: str) -> Image.Image:
    """Decode an image to RGB.

    Returns
    -------
    PIL.Image.Image
        Mode RGB; transparency is laid on mid-grey, as on the grey screen of an experiment.

    Raises
    ------
    InputError
        If the file cannot be decoded or has more than 64 megapixels.
    """
    return decode_image(read_image_bytes(path), path)


def decode_image(data: bytes, where: str) -> Image.Image:
    """Decode bytes read by `read_image_bytes`; see `open_image`.

    Raises
    ------
    InputError
        If the bytes are no image, or one of more than 64 megapixels.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > IMAGE_PIXELS_MAX:
                raise InputError(f"has {image.width} x {image.height} pixels, more than 64 megapixels", where=where)
            image.load()
            if "A" in image.getbands() or "transparency" in image.info:
                grey = Image.new("RGBA", image.size, (128, 128, 128, 255))
                return Image.alpha_composite(grey, image.convert("RGBA")).convert("RGB")
            return image.convert("RGB")
    except InputError:
        raise
    except Exception as error:  # Pillow raises many types on damaged files
        raise InputError(
            f"cannot be decoded as an image ({error})", where=where, hint="replace or remove it"
        ) from error
