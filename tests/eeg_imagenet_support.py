"""Small files in exactly the layout of ImageNetEEG, written with torch.save."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

LABELS = ("n02389026", "n03888257", "n03584829", "n02607072", "n03297495", "n02951358")
A_CLASS = 12  # images of a class
N_IMAGES = len(LABELS) * A_CLASS
FIRST, SECOND = 64, 10  # images that subjects 1 and 2 saw
SHORT, SHORTEST, LONG = 70, 71, 72  # items of odd lengths
LENGTHS = {SHORT: 455, SHORTEST: 430, LONG: 601}


def image_names() -> list[str]:
    """Names without a suffix, in an order of their own."""
    names = [f"{label}_{100 + 7 * i}" for i in range(A_CLASS) for label in LABELS]
    return [names[i] for i in np.random.default_rng(0).permutation(N_IMAGES)]


def colours(image: int) -> np.ndarray:
    """3 x 3 colours of an image, (27,) in 0 to 255."""
    return np.random.default_rng([3, image]).uniform(0, 255, 27)


def signals_file(**changes: Any) -> dict[str, Any]:
    """What eeg_5_95_std.pth holds: items of subject 1 and 2, a linear map of the colours and noise."""
    rng = np.random.default_rng(1)
    patterns = rng.normal(size=(27, 128))
    names = image_names()
    shown = [(1, image) for image in range(FIRST)] + [(2, image) for image in range(SECOND)]
    order = rng.permutation(len(shown))
    items = []
    for number, (subject, image) in enumerate(shown[i] for i in order):
        samples = LENGTHS.get(number, int(rng.integers(490, 520)))
        wave = np.sin(np.arange(samples) / 40)
        clean = ((colours(image) - 128) / 74 @ patterns)[:, None] * wave
        eeg = torch.from_numpy((clean + rng.normal(size=(128, samples))).astype(np.float32))
        label = LABELS.index(names[image].partition("_")[0])
        items.append({"eeg": eeg, "image": image, "label": label, "subject": subject})
    return {"dataset": items, "labels": list(LABELS), "images": names} | changes


def splits_file(n_items: int = FIRST + SECOND, *, by_image: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """What block_splits_by_image_all.pth holds; with items, the images are cut, else the numbers."""
    keys = [item["image"] for item in by_image] if by_image else list(range(n_items))
    splits = []
    for seed in (0, 1):
        order = np.random.default_rng([9, seed]).permutation(max(keys) + 1)
        ends = (len(order) * 6 // 10, len(order) * 8 // 10)
        part = {int(key): ("train", "val", "test")[(at >= ends[0]) + (at >= ends[1])] for at, key in enumerate(order)}
        splits.append({name: [i for i, k in enumerate(keys) if part[k] == name] for name in ("train", "val", "test")})
    return {"splits": splits}


def write_images(root: Path) -> None:
    """Photos as ImageNet lays them out."""
    for image, name in enumerate(image_names()):
        path = root / "images" / name.partition("_")[0] / f"{name}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        field = colours(image).reshape(3, 3, 3).astype(np.uint8)
        Image.fromarray(field).resize((32, 32), Image.Resampling.BICUBIC).save(path, quality=95)


def write_eeg_imagenet(root: Path, *, name: str = "eeg_5_95_std.pth", old: bool = False) -> dict[str, Any]:
    """Signals, splits and photos; returns what the signal file holds."""
    root.mkdir(parents=True, exist_ok=True)
    held = signals_file()
    torch.save(held, root / name, _use_new_zipfile_serialization=not old)
    torch.save(splits_file(by_image=held["dataset"]), root / "block_splits_by_image_all.pth")
    write_images(root)
    return held
