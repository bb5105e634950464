"""The scenes as files: taken out of `nsd_stimuli.hdf5` one by one and kept as lossless PNG."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

from brainalign.datasets.derived import check_copy_room
from brainalign.datasets.nsd.design import N_ALL_IMAGES
from brainalign.datasets.nsd.hdf5 import open_array
from brainalign.files import atomic_write, sha256_json
from brainalign.locks import locked

ARRAY = "imgBrick"
SHAPE = (N_ALL_IMAGES, 425, 425, 3)
SCHEMA = "brainalign.nsd-pictures/1"
PNG_LEVEL = 3  # half the time of the default for 2 % more bytes
PNG_BYTES = 400_000  # a photo of 425 x 425, about

Progress = Callable[[int, int], None]


def picture_name(number: int) -> str:
    """Path of a picture below the folder of pictures; a thousand a folder.

    Examples
    --------
    >>> picture_name(46002)
    '46/46002.png'
    """
    return f"{number // 1000:02d}/{number:05d}.png"


def check_pictures(path: Path) -> None:
    """Refuse a file of scenes that is damaged or not the published one; reads no scene.

    Raises
    ------
    InputError
        Saying what is wrong.
    """
    with open_array(path, ARRAY, "uint8", SHAPE):
        pass


def export_pictures(path: Path, numbers: Sequence[int], cache_dir: Path, progress: Progress | None = None) -> Path:
    """Write the scenes that are not there yet, one after another: an interrupted export goes on where it was.

    Parameters
    ----------
    path : Path
        `nsd_stimuli.hdf5`; 0.5 MB of it is in memory at a time.
    numbers : sequence of int
        Scenes wanted, 0 to 72,999.

    Returns
    -------
    Path
        The folder, `cache_dir/derived/nsd-pictures/KEY`; see `picture_name`.

    Raises
    ------
    InputError
        If the file is missing, damaged or not the published one, or the disk is too small.
    """
    check_pictures(path)
    status = path.stat()
    key = sha256_json([SCHEMA, str(path.resolve()), status.st_size, status.st_mtime_ns])[:32]
    folder = cache_dir / "derived" / "nsd-pictures" / key
    with locked(folder.with_suffix(".lock")):
        missing = [number for number in sorted(set(numbers)) if not (folder / picture_name(number)).is_file()]
        if missing:
            check_copy_room(folder, PNG_BYTES * len(missing))
            _write(path, missing, folder, progress)
    return folder


def _write(path: Path, numbers: Sequence[int], folder: Path, progress: Progress | None) -> None:
    from PIL import Image

    with open_array(path, ARRAY, "uint8", SHAPE) as brick:
        for done, number in enumerate(numbers, start=1):
            packed = io.BytesIO()
            Image.fromarray(brick[number]).save(packed, format="PNG", compress_level=PNG_LEVEL)
            with atomic_write(folder / picture_name(number)) as file:
                file.write(packed.getvalue())
            if progress is not None:
                progress(done, len(numbers))
