"""What the signal files hold: items of one trial each, the names of the classes and of the images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import InputError

N_CHANS, N_SUBJECTS = 128, 6
# The published program: items of 450 to 600 samples, of which samples 20 to 459 are used.
SAMPLES_MIN, SAMPLES_MAX = 450, 600
WINDOW = (20, 460)
AGAIN = "get it anew"
_IMAGE = re.compile(r"(n\d{8})_\d+")


@dataclass(frozen=True)
class Items:
    """Items in the order of the file.

    Attributes
    ----------
    subject, image, label, samples : int arrays of shape (n_items,)
        Subject from 1, rows of `images` and `labels` from 0, and the number of samples at 1 kHz.
    images : tuple of str
        `n02951358_31190`, without a suffix.
    labels : tuple of str
        Synsets such as `n02951358`.
    """

    subject: NDArray[np.int64]
    image: NDArray[np.int64]
    label: NDArray[np.int64]
    samples: NDArray[np.int64]
    images: tuple[str, ...]
    labels: tuple[str, ...]

    @property
    def used(self) -> NDArray[np.bool_]:
        """Items whose length the published program takes, and that hold the whole window; (n_items,)."""
        low = max(SAMPLES_MIN, WINDOW[1])
        found: NDArray[np.bool_] = (self.samples >= low) & (self.samples <= SAMPLES_MAX)
        return found

    def of_subject(self, subject: str) -> NDArray[np.intp]:
        """Numbers of all items of a subject."""
        return np.flatnonzero(self.subject == int(subject))


def read_items(loaded: Any, path: Path) -> Items:
    """Check what `load_tensors` gave; reads no sample.

    Raises
    ------
    InputError
        For a missing key, an item of another form, a number out of range, or a name that is not one of ImageNet or
        stands twice.
    """
    if not isinstance(loaded, dict):
        raise InputError(f"holds a {type(loaded).__name__}, expected a dict", where=path, hint=AGAIN)
    for key in ("dataset", "labels", "images"):
        if key not in loaded:
            listed = ", ".join(map(str, list(loaded)[:8])) or "nothing"
            raise InputError(f"has no '{key}', it holds {listed}", where=path, hint=AGAIN)
        if not isinstance(loaded[key], list | tuple) or not loaded[key]:
            raise InputError(f"'{key}' is no list, or empty", where=path, hint=AGAIN)
    labels = tuple(str(name) for name in loaded["labels"])
    images = tuple(str(name).removesuffix(".JPEG") for name in loaded["images"])
    _check_names(labels, re.compile(r"n\d{8}"), "class", path)
    _check_names(images, _IMAGE, "image", path)
    rows = [_item(item, number, path) for number, item in enumerate(loaded["dataset"])]
    subject, image, label, samples = np.array(rows, dtype=np.int64).T
    _check_range(subject, 1, N_SUBJECTS, "subject", path)
    _check_range(image, 0, len(images) - 1, "image", path)
    _check_range(label, 0, len(labels) - 1, "label", path)
    items = Items(subject, image, label, samples, images, labels)
    _check_items(items, path)
    return items


def _check_names(names: Sequence[str], form: re.Pattern[str], kind: str, path: Path) -> None:
    for name in names:
        if not form.fullmatch(name):
            raise InputError(f"names the {kind} {name[:60]!a}, expected a name of ImageNet", where=path, hint=AGAIN)
    if len(set(names)) < len(names):
        twice = next(name for at, name in enumerate(names) if name in names[:at])
        raise InputError(f"the {kind} {twice} stands twice", where=path, hint=AGAIN)


def _item(item: Any, number: int, path: Path) -> tuple[int, int, int, int]:
    import torch

    if not isinstance(item, dict):
        raise InputError(f"item {number} is a {type(item).__name__}, expected a dict", where=path, hint=AGAIN)
    for key in ("eeg", "subject", "image", "label"):
        if key not in item:
            raise InputError(f"item {number} has no '{key}'", where=path, hint=AGAIN)
    eeg = item["eeg"]
    if not isinstance(eeg, torch.Tensor) or eeg.layout != torch.strided or eeg.is_quantized:
        raise InputError(f"'eeg' of item {number} is no plain tensor", where=path, hint=AGAIN)
    if eeg.is_complex() or eeg.dtype == torch.bool:
        raise InputError(f"'eeg' of item {number} is of {eeg.dtype}, expected numbers", where=path, hint=AGAIN)
    if eeg.ndim != 2 or eeg.shape[0] != N_CHANS:
        problem = f"'eeg' of item {number} has shape {tuple(eeg.shape)}, expected ({N_CHANS}, samples)"
        raise InputError(problem, where=path, hint=AGAIN)
    subject, image, label = (_whole(item[key], key, number, path) for key in ("subject", "image", "label"))
    return subject, image, label, int(eeg.shape[1])


def _whole(value: Any, key: str, number: int, path: Path) -> int:
    import torch

    if isinstance(value, torch.Tensor) and value.numel() == 1 and not value.is_floating_point():
        value = value.item()
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 2**31:
        raise InputError(f"'{key}' of item {number} is no whole number", where=path, hint=AGAIN)
    return value


def _check_range(values: NDArray[np.int64], low: int, high: int, key: str, path: Path) -> None:
    wrong = np.flatnonzero((values < low) | (values > high))
    if len(wrong):
        problem = f"'{key}' of item {wrong[0]} is {values[wrong[0]]}, expected {low} to {high}"
        raise InputError(problem, where=path, hint=AGAIN)


def _check_items(items: Items, path: Path) -> None:
    """An image is of the class the item says, and a subject saw it once."""
    own = np.array([name.partition("_")[0] for name in items.images])[items.image]
    wrong = np.flatnonzero(own != np.array(items.labels)[items.label])
    if len(wrong):
        at = int(wrong[0])
        problem = f"item {at} is of class {items.labels[items.label[at]]} and shows {items.images[items.image[at]]}"
        raise InputError(problem, where=path, hint=AGAIN)
    pairs = items.subject * len(items.images) + items.image
    _, first = np.unique(pairs, return_index=True)
    if len(first) < len(pairs):
        at = int(np.setdiff1d(np.arange(len(pairs)), first)[0])
        problem = f"item {at} shows {items.images[items.image[at]]} to subject {items.subject[at]} again"
        raise InputError(problem, where=path, hint=AGAIN)
