"""The uncertainty schedule against numbers worked out by hand, and against the published steps in plain numpy."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from brainalign.errors import InputError
from brainalign.objectives.uncertainty import UncertaintyBlur, confidence_interval


def rows(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers)


def all_levels(blur: UncertaintyBlur) -> list[int]:
    return blur.levels(torch.arange(len(blur.level))).tolist()


@pytest.mark.parametrize("alpha", [0.05, 0.32, 0.001])
def test_interval(alpha, rng) -> None:
    values = rng.normal(3, 2, 50)
    low, high = confidence_interval(torch.from_numpy(values), alpha)
    reach = norm.ppf(1 - alpha / 2) * values.std(ddof=1)
    assert float(low) == pytest.approx(values.mean() - reach)
    assert float(high) == pytest.approx(values.mean() + reach)


def test_two_epochs_by_hand() -> None:
    """Averages: 0.3 s + 0.7 m; the first is s itself. Nine images at 0.5, one moves."""
    blur = UncertaintyBlur(10)
    assert all_levels(blur) == [1] * 10
    first = torch.full((10,), 0.5)
    first[0] = 0.9
    blur.update(torch.arange(10), first)
    assert all_levels(blur) == [1] * 10
    blur.end_epoch()
    # mean 0.54, sum of squares 0.36^2 + 9 * 0.04^2 = 0.144, deviation sqrt(0.016) = 0.126491: up to 0.787918
    assert all_levels(blur) == [0] + [1] * 9
    second = torch.full((10,), 0.5)
    second[0] = -0.5
    blur.update(torch.arange(10), second)
    blur.end_epoch()
    # 0.3 * -0.5 + 0.7 * 0.9 = 0.48; mean 0.498, deviation 0.02 / sqrt(10): from 0.4856
    assert blur.smoothed.tolist() == pytest.approx([0.48] + [0.5] * 9)
    assert all_levels(blur) == [2] + [1] * 9
    blur.update(torch.arange(1, 10), torch.full((9,), 0.5))
    blur.end_epoch()
    assert all_levels(blur) == [2] + [1] * 9  # not seen: stays; all others equal: inside
    assert blur.smoothed[0] == pytest.approx(0.48)


def test_compared_with_the_newest_similarity() -> None:
    """The average hides what the newest similarity shows, and the other way round."""
    found = {}
    for compare in ("smoothed", "current"):
        blur = UncertaintyBlur(6, compare=compare, alpha=0.3)
        blur.update(torch.arange(6), torch.tensor([0.0, 0.5, 0.5, 0.5, 0.5, 0.6]))
        blur.end_epoch()
        blur.update(torch.arange(6), torch.tensor([0.5, 0.5, 0.5, 0.5, 0.5, 0.0]))
        blur.end_epoch()
        found[compare] = all_levels(blur)
    # averages 0.15 and 0.42 among four of 0.5: mean 0.4283, deviation 0.1400; z = 1.0364: 0.2832 to 0.5735
    assert found == {"smoothed": [2, 1, 1, 1, 1, 1], "current": [1, 1, 1, 1, 1, 2]}


def published_levels(batches: list[tuple[np.ndarray, np.ndarray]], n: int, gamma: float, alpha: float) -> np.ndarray:
    """The authors' step for every batch: smooth from 1 on, interval of the smoothed, compare the newest with it."""
    average, level = np.ones(n), np.ones(n, dtype=int)
    z = norm.ppf(1 - alpha / 2)
    for index, similarity in batches:
        smoothed = gamma * similarity + (1 - gamma) * average[index]
        centre, spread = smoothed.mean(), smoothed.std(ddof=1)
        level[index] = np.where(similarity > centre + z * spread, 0, np.where(similarity < centre - z * spread, 2, 1))
        average[index] = smoothed
    return level


def test_the_codes_reading(rng) -> None:
    n = 60
    blur = UncertaintyBlur(n, compare="current", initial=1.0, interval="batch")
    batches: list[tuple[np.ndarray, np.ndarray]] = []
    seen = set()
    for epoch in range(6):
        before = all_levels(blur)
        for index in np.split(rng.permutation(n), 3):
            similarity = rng.normal(epoch, 1 + index / n)
            batches.append((index, similarity))
            blur.update(torch.from_numpy(index), torch.from_numpy(similarity))
            assert all_levels(blur) == before
        blur.end_epoch()
        expected = published_levels(batches, n, 0.3, 0.05)
        assert all_levels(blur) == expected.tolist()
        seen |= set(expected.tolist())
    assert seen == {0, 1, 2}


def test_order_and_size_of_updates_do_not_matter(rng) -> None:
    similarity = torch.from_numpy(rng.normal(size=40).astype(np.float32))
    one, other = UncertaintyBlur(40, alpha=0.4), UncertaintyBlur(40, alpha=0.4)
    for _ in range(2):
        one.update(torch.arange(40), similarity)
        one.end_epoch()
        for part in torch.from_numpy(rng.permutation(40)).split(7):
            other.update(part, similarity[part])
        other.end_epoch()
    assert all_levels(one) == all_levels(other)
    assert set(all_levels(one)) == {0, 1, 2}
    assert torch.equal(one.smoothed, other.smoothed)


def test_several_pairs_of_an_image_are_averaged() -> None:
    blur, plain = UncertaintyBlur(4, alpha=0.5), UncertaintyBlur(4, alpha=0.5)
    blur.update(rows(0, 1, 2, 0), torch.tensor([0.2, 0.5, 0.1, 0.6]))
    blur.update(rows(3, 0), torch.tensor([0.9, 1.0]))
    plain.update(torch.arange(4), torch.tensor([0.6, 0.5, 0.1, 0.9]))
    blur.end_epoch(), plain.end_epoch()
    torch.testing.assert_close(blur.smoothed, plain.smoothed)
    assert all_levels(blur) == all_levels(plain) == [1, 1, 2, 0]


def test_scale_does_not_matter(rng) -> None:
    """Cosines and scaled logits give the same levels, without an initial value."""
    similarity = torch.from_numpy(rng.normal(size=(3, 30)))
    found = []
    for scale in (1.0, 87.0):
        blur = UncertaintyBlur(30, alpha=0.3)
        for epoch in similarity:
            blur.update(torch.arange(30), scale * epoch)
            blur.end_epoch()
        found.append(all_levels(blur))
    assert found[0] == found[1] and set(found[0]) == {0, 1, 2}


def test_saved_and_restored(rng) -> None:
    draws = torch.from_numpy(rng.normal(size=(5, 20)))
    straight = UncertaintyBlur(20, alpha=0.4)
    for draw in draws:
        straight.update(torch.arange(20), draw)
        straight.end_epoch()
    first = UncertaintyBlur(20, alpha=0.4)
    for draw in draws[:2]:
        first.update(torch.arange(20), draw)
        first.end_epoch()
    first.update(torch.arange(7), draws[2, :7])  # killed within an epoch
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    resumed = UncertaintyBlur(20, alpha=0.4)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert all_levels(resumed) == all_levels(first)
    resumed.update(torch.arange(7, 20), draws[2, 7:])
    resumed.end_epoch()
    for draw in draws[3:]:
        resumed.update(torch.arange(20), draw)
        resumed.end_epoch()
    assert all_levels(resumed) == all_levels(straight)
    assert torch.equal(resumed.smoothed, straight.smoothed)
    assert not list(resumed.parameters())


def test_too_few_to_judge() -> None:
    blur = UncertaintyBlur(3)
    blur.end_epoch()
    blur.update(rows(1), torch.tensor([0.4]))
    blur.end_epoch()
    blur.update(torch.arange(0), torch.rand(0))
    blur.end_epoch()
    assert all_levels(blur) == [1, 1, 1]
    assert blur.smoothed[1] == pytest.approx(0.4) and math.isnan(blur.smoothed[0])


def test_no_gradient_is_kept() -> None:
    similarity = torch.rand(4, requires_grad=True)
    blur = UncertaintyBlur(4)
    blur.update(torch.arange(4), similarity * 2)
    blur.end_epoch()
    assert not blur.smoothed.requires_grad
    assert blur.levels(rows(3, 1)).dtype == torch.int64 and blur.levels(rows(3, 1)).shape == (2,)


def test_refusals() -> None:
    blur = UncertaintyBlur(4)
    for call, problem in [
        (lambda: UncertaintyBlur(0), "n_images is 0"),
        (lambda: UncertaintyBlur(4, gamma=0), "gamma is 0"),
        (lambda: UncertaintyBlur(4, gamma=1.1), "gamma is 1.1"),
        (lambda: UncertaintyBlur(4, alpha=1), "alpha is 1"),
        (lambda: UncertaintyBlur(4, compare="smooth"), "unknown compare 'smooth'; did you mean 'smoothed'"),
        (lambda: UncertaintyBlur(4, interval="epochs"), "unknown interval 'epochs'"),
        (lambda: blur.update(rows(0, 1), torch.rand(3)), r"got rows \(2,\) of torch.int64 and similarities \(3,\)"),
        (lambda: blur.update(torch.rand(2), torch.rand(2)), "rows of int64"),
        (lambda: blur.update(rows(0, 4), torch.rand(2)), "rows go from 0 to 4, there are 4 images"),
        (lambda: blur.update(rows(0, -1), torch.rand(2)), "rows go from -1 to 0"),
        (lambda: blur.update(rows(0, 1), torch.tensor([1.0, math.nan])), "not a finite number"),
    ]:
        with pytest.raises(InputError, match=problem) as caught:
            call()
        assert "\n" not in str(caught.value)
