"""The published splits: numbers of items, in training, validation and test part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.datasets.eeg_imagenet.items import AGAIN, Items
from brainalign.datasets.eeg_imagenet.tensors import load_tensors
from brainalign.errors import InputError
from brainalign.stimuli.columns import PARTS

ALL, SINGLE = "block_splits_by_image_all.pth", "block_splits_by_image_single.pth"
BYTES_MAX = 64 * 2**20
ITEM_MAX = 2**31


def read_splits(path: Path) -> list[dict[str, NDArray[np.int64]]]:
    """Numbers of the items in each part of each split.

    Raises
    ------
    InputError
        If the file is damaged, a part is missing, empty or holds something else than numbers of items, or an item
        stands twice.
    """
    if path.is_file() and path.stat().st_size > BYTES_MAX:
        raise InputError("is larger than 64 MiB", where=path, hint="this is no file of splits")
    loaded = load_tensors(path)
    splits = loaded.get("splits") if isinstance(loaded, dict) else None
    if not isinstance(splits, list | tuple) or not splits:
        raise InputError("has no list 'splits'", where=path, hint=AGAIN)
    return [_split(split, number, path) for number, split in enumerate(splits)]


def _split(split: Any, number: int, path: Path) -> dict[str, NDArray[np.int64]]:
    found = {}
    for part in PARTS:
        if not isinstance(split, dict) or part not in split:
            raise InputError(f"split {number} has no '{part}'", where=path, hint=AGAIN)
        found[part] = _numbers(split[part], f"'{part}' of split {number}", path)
    values, counts = np.unique(np.concatenate(list(found.values())), return_counts=True)
    if counts.max() > 1:
        problem = f"item {values[counts.argmax()]} stands twice in split {number}"
        raise InputError(problem, where=path, hint=AGAIN)
    return found


def _numbers(values: Any, what: str, path: Path) -> NDArray[np.int64]:
    import torch

    listed = values.tolist() if isinstance(values, torch.Tensor) else values
    whole = isinstance(listed, list | tuple) and all(isinstance(v, int) and not isinstance(v, bool) for v in listed)
    if not whole or not listed or not all(0 <= v < ITEM_MAX for v in listed):
        raise InputError(f"{what} is no list of numbers of items", where=path, hint=AGAIN)
    return np.array(listed, dtype=np.int64)


def parts_of_images(split: dict[str, NDArray[np.int64]], items: Items, subject: str, path: Path) -> dict[int, str]:
    """From each image that a subject saw to its part; images of no part are left out.

    `block_splits_by_image_all.pth` counts the items of the whole file, `..._single.pth` those of one subject, as the
    published program does, which leaves the others out before it counts.

    Raises
    ------
    InputError
        If a number is larger than there are items.
    """
    own = items.of_subject(subject)
    single = path.name == SINGLE
    n_items = len(own) if single else len(items.subject)
    of_item = np.full(n_items, "", dtype="<U5")
    for part, numbers in split.items():
        if numbers.max() >= n_items:
            who = f"subject {subject} has" if single else "there are"
            problem = f"names item {numbers.max()}, {who} {n_items}"
            raise InputError(problem, where=path, hint="splits and signals must be of one version")
        of_item[numbers] = part
    named = of_item if single else of_item[own]
    return {int(items.image[item]): str(part) for item, part in zip(own, named, strict=True) if part}
