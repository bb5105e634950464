"""Batches of an epoch where images have several signals."""

import pytest
import torch

from brainalign.alignment.pairs import Pairs, epoch_batches
from brainalign.recipes.recipe import TrainingSettings

SUBJECTS = torch.arange(3).repeat_interleave(10)
IMAGES = torch.arange(10).repeat(3)


def pairs(images=IMAGES, subjects=SUBJECTS):
    n = len(images)
    return Pairs(torch.arange(n).float()[:, None], torch.arange(10).float()[:, None], images=images, subjects=subjects)


@pytest.mark.parametrize("size", [2, 4, 7, 100])
@pytest.mark.parametrize("kind", ["distinct", "random"])
def test_every_signal_comes_once(size, kind):
    torch.manual_seed(0)
    found = epoch_batches(pairs(), TrainingSettings(batch_size=size, batches=kind))
    assert sorted(torch.cat(found).tolist()) == list(range(30))
    assert all(len(rows) >= 2 for rows in found)


@pytest.mark.parametrize("size", [2, 4, 7, 100])
def test_no_image_twice_in_a_batch(size):
    for seed in range(20):
        torch.manual_seed(seed)
        for rows in epoch_batches(pairs(), TrainingSettings(batch_size=size)):
            assert len(IMAGES[rows].unique()) == len(rows)


def test_the_order_of_signals_of_an_image_is_random():
    firsts = set()
    for seed in range(40):
        torch.manual_seed(seed)
        rows = torch.cat(epoch_batches(pairs(), TrainingSettings(batch_size=100)))
        firsts.add(int(next(SUBJECTS[row] for row in rows if IMAGES[row] == 0)))
    assert firsts == {0, 1, 2}


def test_a_lonely_last_turn_joins_another_batch():
    images = torch.tensor([0, 1, 2, 2])
    for seed in range(10):
        torch.manual_seed(seed)
        found = epoch_batches(pairs(images, None), TrainingSettings(batch_size=2))
        assert sorted(torch.cat(found).tolist()) == [0, 1, 2, 3]
        assert min(map(len, found)) >= 2


def test_one_signal_an_image_is_a_permutation():
    single = Pairs(torch.zeros(30, 1), torch.zeros(30, 1))
    torch.manual_seed(3)
    found = torch.cat(epoch_batches(single, TrainingSettings(batch_size=8)))
    torch.manual_seed(3)
    assert torch.equal(found, torch.randperm(30))


def test_a_batch_holds_what_belongs_together():
    held = pairs()
    held.texts = 100 + torch.arange(10).float()[:, None]
    held.levels = torch.stack([held.targets + 10 * level for level in range(3)])
    rows = torch.tensor([25, 3, 14])
    batch = held.batch(rows, level=torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 0]))
    assert batch.signals[:, 0].tolist() == [25.0, 3.0, 14.0]
    assert batch.targets[:, 0].tolist() == [5 + 20.0, 3.0, 4 + 10.0]
    assert batch.texts[:, 0].tolist() == [105.0, 103.0, 104.0]
    assert batch.subjects.tolist() == [2, 0, 1]


def test_parts_are_the_subjects():
    parts = pairs().parts()
    assert [part.subjects.unique().tolist() for part in parts] == [[0], [1], [2]]
    assert all(part.targets[:, 0].tolist() == list(range(10)) for part in parts)
    assert parts[1].signals[:, 0].tolist() == list(range(10, 20))
