"""Two-way identification, classes of retrieved images and normalised conversion, by hand."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest

from brainalign.errors import InputError
from brainalign.evaluation.retrieved import (
    class_top_k_chance,
    class_top_k_hits,
    normalised_conversion,
    two_way_of_embeddings,
    two_way_of_retrieved,
)


def test_embeddings_by_hand():
    # Cosines of query 0: own 1, others 0 and .8 (both below); of 1: own 0, others 1 and .6; of 2: own .96, 0.6..., 0.8
    images = np.array([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]])
    queries = np.array([[1.0, 0.0], [1.0, 0.0], [0.6, 0.8]])
    # query 2: own .6*.8+.8*.6 = .96; image 0 .6; image 1 .8 -> both below
    assert two_way_of_embeddings(queries, images).tolist() == [1.0, 0.0, 1.0]


def test_retrieved_images_by_hand():
    true = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    other = np.array([[0, 0, 0, 1.0]])  # an image that is as little like any of the three
    assert two_way_of_retrieved(true, true).tolist() == [1, 1, 1]
    assert two_way_of_retrieved(true, true[[1, 0, 2]]).tolist() == [0.25, 0.25, 1]
    assert two_way_of_retrieved(true, np.repeat(other, 3, axis=0)).tolist() == [0.5, 0.5, 0.5]
    several = np.stack([true, true[[1, 0, 2]]], axis=1)
    assert two_way_of_retrieved(true, several).tolist() == [0.625, 0.625, 1]


def test_retrieved_images_by_definition(rng):
    true, found = rng.normal(size=(12, 30)), rng.normal(size=(12, 30))
    r = np.corrcoef(found, true)[:12, 12:]
    expected = [np.mean([r[i, i] > r[i, j] for j in range(12) if j != i]) for i in range(12)]
    assert two_way_of_retrieved(true, found).tolist() == pytest.approx(expected)


def test_retrieved_at_chance(rng):
    values = two_way_of_retrieved(rng.normal(size=(300, 40)), rng.normal(size=(300, 40)))
    assert values.mean() == pytest.approx(0.5, abs=0.05)


def test_classes():
    rows = [["cat", "dog", "cow"], ["dog", "dog", "cat"]]
    assert class_top_k_hits(rows, ["dog", "cat"], 1).tolist() == [0, 0]
    assert class_top_k_hits(rows, ["dog", "cat"], 2).tolist() == [1, 0]
    gallery = ["cat"] * 3 + ["dog"] * 5 + ["cow"] * 2
    expected = 1 - comb(7, 4) / comb(10, 4)
    assert class_top_k_chance(gallery, ["cat"], 4) == pytest.approx(expected)
    assert class_top_k_chance(gallery, ["cat", "cow"], 1) == pytest.approx((0.3 + 0.2) / 2)
    assert class_top_k_chance(gallery, ["cow"], 9) == 1.0


def test_forty_classes_of_equal_size():
    """Chance of 40 classes that the literature gives for top-1: 2.5 %."""
    gallery = [f"class{i % 40}" for i in range(400)]
    assert class_top_k_chance(gallery, ["class3"], 1) == pytest.approx(0.025)


def test_normalised(rng):
    a, b = rng.uniform(size=200), rng.uniform(size=200)
    found = normalised_conversion(a, b)
    assert found.estimate == pytest.approx(a.mean() / b.mean())
    assert found.lo < found.estimate < found.hi
    same = normalised_conversion(b, b)
    assert (same.lo, same.estimate, same.hi) == (1, 1, 1)  # images are paired: nothing is left to vary


@pytest.mark.parametrize(
    "call",
    [
        lambda: two_way_of_retrieved(np.eye(3), np.eye(2)),
        lambda: two_way_of_embeddings(np.eye(3), np.eye(2)),
        lambda: two_way_of_retrieved(np.eye(3)[:1], np.eye(3)[:1]),
        lambda: class_top_k_hits([["cat"]], ["cat"], 2),
        lambda: class_top_k_chance(["cat"], ["cat"], 2),
        lambda: normalised_conversion(np.ones(3), np.zeros(3)),
        lambda: normalised_conversion(np.ones(3), np.ones(4)),
    ],
)
def test_refused(call):
    with pytest.raises(InputError):
        call()
