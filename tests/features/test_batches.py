"""Decoding ahead: in order, bounded, and errors arrive."""

from __future__ import annotations

import threading

import pytest
import torch

from brainalign.errors import InputError
from brainalign.features.batches import AHEAD, image_batches
from brainalign.features.preprocessing import Preprocessing
from brainalign.stimuli import StimulusSet

HOW = Preprocessing(16, "bicubic", (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))


@pytest.fixture
def stimuli(image_folder) -> StimulusSet:
    return StimulusSet.from_folder(image_folder[0])


def test_batches_come_in_the_order_asked_for(stimuli) -> None:
    rows = [7, 3, 11, 0, 1]
    one = torch.cat([HOW.batch([HOW.resized(stimuli.image(row))]) for row in rows])
    found = list(image_batches(stimuli, rows, HOW, batch_size=2))
    assert [first for first, _ in found] == [0, 2, 4]
    assert torch.equal(torch.cat([images for _, images in found]), one)
    later = list(image_batches(stimuli, rows, HOW, batch_size=2, start=4))
    assert len(later) == 1
    assert torch.equal(later[0][1], one[4:])
    assert list(image_batches(stimuli, rows, HOW, batch_size=2, start=5)) == []


class Counting:
    """A transform that counts pictures and turns them upside down."""

    key = "flip"

    def __init__(self) -> None:
        self.n, self._lock = 0, threading.Lock()

    def __call__(self, image):
        with self._lock:
            self.n += 1
        return image.rotate(180)


def test_no_more_than_a_few_batches_are_held(stimuli) -> None:
    count = Counting()
    batches = image_batches(stimuli, range(12), HOW, batch_size=2, transform=count)
    _, first = next(batches)
    assert count.n <= 2 * (AHEAD + 1)
    batches.close()
    assert count.n <= 2 * (AHEAD + 1)
    assert torch.equal(first[0], HOW.batch([HOW.resized(stimuli.image(0).rotate(180))])[0])


def test_a_damaged_picture_is_named(stimuli) -> None:
    path = stimuli.path(5)
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(InputError, match=r"i005\.png: cannot be decoded"):
        list(image_batches(stimuli, range(12), HOW, batch_size=4))
