"""Photos of the THINGS data base: one name for a photo whatever data set showed it, and where its file lies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from brainalign.errors import InputError
from brainalign.stimuli import StimulusSet

HOW_TO_GET = (
    "the photos are those of THINGS (osf.io/jum2f, under its agreement): unpack them as object_images/CONCEPT/*.jpg"
)
OBJECT_IMAGES = "object_images"
PLACES = (
    OBJECT_IMAGES,
    "images",
    "Images",
    "stimuli",
    f"image_set/{OBJECT_IMAGES}",
    f"stimuli/{OBJECT_IMAGES}",
    f"images/{OBJECT_IMAGES}",
    f"THINGS/Images/{OBJECT_IMAGES}",
    f"_images-THINGS/{OBJECT_IMAGES}",
    "images_meg",
    "stimuli/images_meg",
)
_NAME = re.compile(r"([^/\\.][^/\\]*)_\d{2,3}[a-z]{0,2}")


def photo_stem(name: str, where: object = None) -> str:
    """`aardvark_01b` out of any path to that photo.

    Raises
    ------
    InputError
        If it is not named as the photos of THINGS are.

    Examples
    --------
    >>> photo_stem("images_meg/aardvark/aardvark_01b.jpg")
    'aardvark_01b'
    """
    stem = PurePosixPath(name.replace("\\", "/")).stem
    if not _NAME.fullmatch(stem) or not stem.isprintable():
        problem = f"names the photo {name!a}, expected a name of THINGS such as aardvark_01b.jpg"
        raise InputError(problem, where=where, hint="the table is damaged or of another data set")
    return stem


def photo_id(stem: str) -> str:
    """Canonical stimulus id, the same in THINGS-EEG2, THINGS-MEG and THINGS-fMRI.

    Examples
    --------
    >>> photo_id("aardvark_01b")
    'things/aardvark_01b'
    """
    return f"things/{stem}"


def photo_concept(stem: str) -> str:
    """Concept of a photo: its name without the number (bat1 and bat2 are two concepts).

    Examples
    --------
    >>> photo_concept("bat1_05n"), photo_concept("aircraft_carrier_06s")
    ('bat1', 'aircraft_carrier')
    """
    return stem.rpartition("_")[0]


def photo_folder(root: Path, stems: Sequence[str]) -> str | None:
    """The folder below the root that holds `CONCEPT/PHOTO.jpg` for the first photo found; None if there is none."""
    for stem in (*stems[:1], *stems[-1:]):
        for place in PLACES:
            if (root / place / photo_concept(stem) / f"{stem}.jpg").is_file():
                return place
    return None


def photo_set(root: Path, stems: Sequence[str], folder: str | None = None) -> StimulusSet:
    """One row a photo; the files need not be there until one is read.

    A photo that lies flat in `images_test_meg` beside `images_meg` is found there.
    """
    place = folder or photo_folder(root, stems) or OBJECT_IMAGES
    flat = place.replace("images_meg", "images_test_meg") if place.endswith("images_meg") else None
    paths = []
    for stem in stems:
        test = f"{flat}/{stem}.jpg"
        paths.append(test if flat and (root / test).is_file() else f"{place}/{photo_concept(stem)}/{stem}.jpg")
    table = {"stimulus_id": [photo_id(s) for s in stems], "path": paths, "concept": [photo_concept(s) for s in stems]}
    return StimulusSet(pd.DataFrame(table), root)


def missing_photos(stimuli: StimulusSet) -> list[str]:
    """Paths, as the table names them, of photos whose file is not there."""
    root = stimuli.root or Path()
    return [name for name in stimuli.table["path"] if not (root / str(name)).is_file()]
