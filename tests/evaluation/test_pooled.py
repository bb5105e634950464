"""One permutation test over several runs, against enumeration and against the single-run test."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from brainalign.errors import InputError
from brainalign.evaluation.permutation import permutation_test
from brainalign.evaluation.pooled import pooled_permutation


def named(n):
    return [f"image{i}" for i in range(n)]


def top1(similarity, columns):
    """Share of rows whose own column is the only largest one."""
    return np.mean([row.argmax() == column for row, column in zip(similarity, columns, strict=True)])


def test_p_is_the_share_of_all_shuffles(rng):
    """Five images, two runs, all 120 shuffles by hand; rows and columns come in another order in each run."""
    ids, runs, plain = named(5), [], []
    for bonus in (1.0, 0.4):
        matrix = rng.normal(size=(5, 5)) + bonus * np.eye(5)
        plain.append(matrix)
        rows, columns = rng.permutation(5), rng.permutation(5)
        runs.append((matrix[np.ix_(rows, columns)], [ids[r] for r in rows], [ids[c] for c in columns]))
    found = pooled_permutation(runs, n_permutations=40_000)
    null = [np.mean([top1(m, order) for m in plain]) for order in itertools.permutations(range(5))]
    assert found.observed == pytest.approx(np.mean([top1(m, range(5)) for m in plain]))
    assert found.p_value == pytest.approx(np.mean(np.array(null) >= found.observed - 1e-12), abs=0.012)
    assert found.null_mean == pytest.approx(np.mean(null), abs=0.01)
    assert found.null_std == pytest.approx(np.std(null), abs=0.01)


def test_of_one_run_it_is_the_test_of_one_run(rng):
    ids, matrix = named(30), rng.normal(size=(30, 30)) + 0.8 * np.eye(30)
    one, pooled = permutation_test(matrix, np.arange(30)), pooled_permutation([(matrix, ids, ids)])
    assert pooled.observed == pytest.approx(one.observed)
    assert pooled.p_value == pytest.approx(one.p_value, abs=0.01)


def test_a_copy_of_a_run_is_no_more_evidence(rng):
    ids, matrix = named(20), rng.normal(size=(20, 20)) + 0.5 * np.eye(20)
    once, twice = (pooled_permutation([(matrix, ids, ids)] * n) for n in (1, 5))
    assert twice.p_value == pytest.approx(once.p_value, abs=0.015)


def test_runs_on_other_images_are_more_evidence(rng):
    runs = []
    for number in range(6):
        ids = [f"{number}/{name}" for name in named(20)]
        runs.append((rng.normal(size=(20, 20)) + 1.2 * np.eye(20), ids, ids))
    single = [pooled_permutation([run], n_permutations=2000).p_value for run in runs]
    assert pooled_permutation(runs, n_permutations=2000).p_value < np.median(single)


def test_under_the_hypothesis_p_is_not_too_small(rng):
    """Two runs that share what they confuse, as two seeds of a model do."""
    ids, small = named(12), 0
    for _ in range(200):
        shared = rng.normal(size=(12, 12))
        runs = [(shared + 0.3 * rng.normal(size=(12, 12)), ids, ids) for _ in range(2)]
        small += pooled_permutation(runs, n_permutations=199).p_value <= 0.1
    assert small <= 200 * 0.1 + 4 * np.sqrt(200 * 0.1 * 0.9)


def test_nothing_is_refused():
    with pytest.raises(InputError):
        pooled_permutation([])
