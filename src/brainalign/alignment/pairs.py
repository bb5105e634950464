"""The data of a training run on the device, and the batches of an epoch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from brainalign.recipes.recipe import TrainingSettings


@dataclass
class Batch:
    """Some pairs: signals and what belongs to each, row by row.

    Attributes
    ----------
    signals : Tensor of shape (n, ...)
        Ready for the encoder.
    targets : Tensor of shape (n, dim)
        Image features.
    texts : Tensor of shape (n, text dim), optional
    subjects : Tensor of shape (n,), optional
        Whom each signal is from, numbered from 0.
    """

    signals: Tensor
    targets: Tensor
    texts: Tensor | None = None
    subjects: Tensor | None = None


@dataclass
class Pairs:
    """Signals ready for the encoder and the images they belong to, on the device.

    Attributes
    ----------
    signals : Tensor of shape (n, ...)
    targets : Tensor of shape (n_images, dim)
    images : Tensor of shape (n,), optional
        Row of `targets` that each signal belongs to; None where row i belongs to row i.
    subjects : Tensor of shape (n,), optional
        Whom each signal is from, numbered from 0; None for one subject.
    texts : Tensor of shape (n_images, text dim), optional
    levels : Tensor of shape (n_levels, n_images, dim), optional
        The same images seen otherwise (blurred more or less), for training.
    """

    signals: Tensor
    targets: Tensor
    images: Tensor | None = None
    subjects: Tensor | None = None
    texts: Tensor | None = None
    levels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.signals)

    def rows_of_images(self, rows: Tensor) -> Tensor:
        """Rows of `targets` that some signals belong to."""
        return rows if self.images is None else self.images[rows]

    def batch(self, rows: Tensor, level: Tensor | None = None) -> Batch:
        """Some signals with their images.

        Parameters
        ----------
        rows : Tensor of shape (m,)
        level : Tensor of shape (n_images,), optional
            Which of `levels` to take of each image.
        """
        where = self.rows_of_images(rows)
        targets = self.targets[where] if level is None or self.levels is None else self.levels[level[where], where]
        return Batch(
            self.signals[rows],
            targets,
            None if self.texts is None else self.texts[where],
            None if self.subjects is None else self.subjects[rows],
        )

    def parts(self) -> list[Pairs]:
        """Pairs of each subject by themselves; one part where there is one subject."""
        if self.subjects is None:
            return [self]
        found = []
        for number in torch.unique(self.subjects).tolist():
            rows = torch.nonzero(self.subjects == number)[:, 0]
            where = self.rows_of_images(rows)
            texts = None if self.texts is None else self.texts[where]
            found.append(Pairs(self.signals[rows], self.targets[where], subjects=self.subjects[rows], texts=texts))
        return found


def batches(order: Tensor, size: int) -> list[Tensor]:
    """Batches of nearly equal size, none of a single image."""
    n = max(1, -(-len(order) // size))
    return list(order.tensor_split(n))


def epoch_batches(pairs: Pairs, settings: TrainingSettings) -> list[Tensor]:
    """Rows of an epoch's batches in random order; every signal comes once.

    Where an image has several signals (subjects, or trials), `settings.batches` says whether one batch may hold it
    twice: with 'distinct' an epoch goes over the images as often as the most frequent one has signals, each time with
    another signal of each, so that no pair is ever contrasted with itself.
    """
    device = pairs.targets.device
    order = torch.randperm(len(pairs))
    if pairs.images is None or settings.batches == "random":
        return batches(order.to(device), settings.batch_size)
    turns = _turns(pairs.images.cpu()[order])
    found: list[Tensor] = []
    for turn in range(int(turns.max()) + 1):
        found += batches(order[turns == turn].to(device), settings.batch_size)
    # A turn of one image contrasts nothing by itself.
    single = [rows for rows in found if len(rows) < 2]
    whole = [rows for rows in found if len(rows) >= 2]
    if single and whole:
        whole[-1] = torch.cat([whole[-1], *single])
    return whole or found


def _turns(images: Tensor) -> Tensor:
    """How often each image has come before, (n,)."""
    grouped = torch.argsort(images, stable=True)
    ordered = images[grouped]
    first = torch.ones(len(images), dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    starts = torch.nonzero(first)[:, 0]
    within = torch.arange(len(images)) - starts[torch.cumsum(first, 0) - 1]
    turns = torch.empty_like(within)
    turns[grouped] = within
    return turns
