"""Which photo each condition of THINGS-EEG2 showed: `image_metadata.npy`, or the sorted image folders."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from brainalign.datasets.safe_pickle import load_untrusted_npy
from brainalign.errors import InputError
from brainalign.stimuli import StimulusSet

METADATA = "image_metadata.npy"
METADATA_BYTES_MAX = 64 * 2**20
IMAGE_PLACES = (
    "",
    "Image_set",
    "image_set",
    "images_set",
    "Images",
    "images",
    "Image_set/image_set",
    "Image_set_Resize",
)
FOLDERS = {"train": ("training_images", "train_images"), "test": ("test_images",)}
OTHERS = "template_images"  # other THINGS photos of the test concepts, for a gallery of concept templates
_SUFFIXES = (".jpg", ".jpeg", ".png")
_NUMBERED = re.compile(r"\d+_(.+)")


@dataclass(frozen=True)
class Photos:
    """The photos of one part in the order of the conditions.

    Attributes
    ----------
    names : tuple of str
        `00001_aardvark/aardvark_01b.jpg`.
    folder : str
        Where they lie below the root, or should lie.
    there : bool
        Whether that folder exists.
    source : str
        What the order was read from.
    """

    names: tuple[str, ...]
    folder: str
    there: bool
    source: str

    @property
    def ids(self) -> tuple[str, ...]:
        """`things/aardvark_01b`: the file name says which photo of THINGS it is."""
        return tuple(stimulus_id(name) for name in self.names)

    @property
    def concepts(self) -> tuple[str, ...]:
        """`aardvark`; the number before it counts training and test concepts apart, so it is left out."""
        return tuple(concept(name) for name in self.names)


def stimulus_id(name: str) -> str:
    """Canonical name of a photo.

    Examples
    --------
    >>> stimulus_id("training_images/00001_aardvark/aardvark_01b.jpg")
    'things/aardvark_01b'
    """
    return f"things/{PurePosixPath(name).stem}"


def concept(name: str) -> str:
    """Concept of a photo from its folder.

    Examples
    --------
    >>> concept("00001_aardvark/aardvark_01b.jpg")
    'aardvark'
    """
    folder = PurePosixPath(name).parent.name
    numbered = _NUMBERED.fullmatch(folder)
    return numbered[1] if numbered else folder


def image_folder(root: Path, part: str) -> str | None:
    """The folder of a part's photos below the root."""
    places = (f"{place}/{name}" if place else name for place in IMAGE_PLACES for name in FOLDERS[part])
    return next((place for place in places if (root / place).is_dir()), None)


def metadata_file(root: Path) -> Path | None:
    """`image_metadata.npy`, wherever it lies below the root."""
    return next((root / place / METADATA for place in IMAGE_PLACES if (root / place / METADATA).is_file()), None)


def list_photos(root: Path, part: str, named: Sequence[str] | None = None) -> Photos:
    """The photos of a part.

    Parameters
    ----------
    root : Path
    part : {'train', 'test'}
    named : sequence of str, optional
        Names that the signal file itself gives, used where there is neither a table nor a folder.

    Raises
    ------
    InputError
        If nothing says which photos were shown; lists what was looked for.
    """
    folder, table = image_folder(root, part), metadata_file(root)
    place = folder or f"Image_set/{FOLDERS[part][0]}"
    if table is not None:
        names, source = _from_metadata(table, part), table.name
    elif folder is not None:
        names, source = _from_folder(root / folder), f"{folder}/"
    elif named is not None:
        names, source = tuple(_last_two(name) for name in named), "the signal file"
    else:
        looked = f"{METADATA} or {' or '.join(FOLDERS[part])} in the root or {', '.join(IMAGE_PLACES[1:])}"
        hint = f"looked for {looked}; {METADATA} is osf.io/qkgtf"
        raise InputError(f"nothing says which {part} photos were shown", where=root, hint=hint)
    return Photos(names, place, folder is not None, source)


def _from_metadata(path: Path, part: str) -> tuple[str, ...]:
    table = load_untrusted_npy(path, max_bytes=METADATA_BYTES_MAX)
    keys = (f"{part}_img_concepts", f"{part}_img_files")
    if not isinstance(table, dict) or any(key not in table for key in keys):
        got = sorted(map(str, table)) if isinstance(table, dict) else f"an array of shape {table.shape}"
        raise InputError(f"holds {got}, expected {keys[0]} and {keys[1]}", where=path, hint="get it from osf.io/qkgtf")
    folders, files = (_texts(table[key], key, path) for key in keys)
    if len(folders) != len(files) or not files:
        raise InputError(f"has {len(folders)} {keys[0]} and {len(files)} {keys[1]}", where=path, hint="get it anew")
    return tuple(f"{folder}/{file}" for folder, file in zip(folders, files, strict=True))


def _texts(values: Any, key: str, path: Path) -> list[str]:
    texts = [str(value) for value in values]
    bad = next((t for t in texts if not t or t.startswith(".") or "/" in t or "\\" in t), None)
    if bad is not None:
        raise InputError(f"has {bad!r} in {key}, expected plain names", where=path, hint="get it from osf.io/qkgtf")
    return texts


def _from_folder(folder: Path) -> tuple[str, ...]:
    """Concept folders in the order of their names, photos within in the order of theirs."""
    names = [
        f"{concept_folder.name}/{file.name}"
        for concept_folder in sorted((p for p in folder.iterdir() if p.is_dir()), key=_name)
        for file in sorted(concept_folder.iterdir(), key=_name)
        if file.suffix.lower() in _SUFFIXES and not file.name.startswith(".")
    ]
    if not names:
        raise InputError("holds no photo", where=folder, hint="expected folders such as 00001_aardvark with .jpg files")
    return tuple(names)


def _name(path: Path) -> str:
    return path.name  # code-point order on every system, which is the order of the conditions


def _last_two(name: str) -> str:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return "/".join(parts[-2:])


def stimulus_set(photos: dict[str, Photos], root: Path) -> StimulusSet:
    """One table of the training and the test photos, and of others of the test concepts where they are there.

    Raises
    ------
    InputError
        If a photo stands twice.
    """
    ids = [name for part in photos.values() for name in part.ids]
    train, test = set(photos["train"].ids), set(photos["test"].ids)
    if train & test:
        problem = f"photo {min(train & test)} is a training and a test photo"
        raise InputError(problem, where=root, hint="check the image folders and the metadata")
    parts = [*photos.values(), *_others(root, set(ids), set(photos["test"].concepts))]
    table = pd.DataFrame(
        {
            "stimulus_id": [name for part in parts for name in part.ids],
            "path": [f"{part.folder}/{name}" for part in parts for name in part.names],
            "concept": [name for part in parts for name in part.concepts],
        }
    )
    return StimulusSet(table, root)


def _others(root: Path, shown: set[str], tested: set[str]) -> list[Photos]:
    """Photos of test concepts that nobody was shown, where the folder `template_images` holds some."""
    if not (root / OTHERS).is_dir():
        return []
    found = Photos(_from_folder(root / OTHERS), OTHERS, True, f"{OTHERS}/")
    names = tuple(n for n in found.names if stimulus_id(n) not in shown and concept(n) in tested)
    return [Photos(names, OTHERS, True, found.source)]
