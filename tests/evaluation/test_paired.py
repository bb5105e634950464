"""Paired comparisons against exact tests, coverage of the difference, and the power promised."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from brainalign.errors import InputError
from brainalign.evaluation import paired_bootstrap, smallest_detectable_difference

FloatArray = NDArray[np.float64]


def correlated_hits(
    rng: np.random.Generator, n: int, p: float, q: float, shared: float, repeats: int = 1
) -> tuple[FloatArray, FloatArray]:
    """Hits of two runs at rates p and q whose latent normals share a part: arrays (repeats, n)."""
    easy, first, second = rng.standard_normal((3, repeats, n))
    a = np.sqrt(shared) * easy + np.sqrt(1 - shared) * first < stats.norm.ppf(p)
    b = np.sqrt(shared) * easy + np.sqrt(1 - shared) * second < stats.norm.ppf(q)
    return a.astype(float), b.astype(float)


@pytest.mark.parametrize(("only_a", "only_b"), [(7, 0), (9, 3), (30, 18), (4, 4)])
def test_p_of_hits_is_mcnemars_exact_test(only_a: int, only_b: int) -> None:
    a = np.r_[np.ones(only_a), np.zeros(only_b), np.ones(20), np.zeros(60)]
    b = np.r_[np.zeros(only_a), np.ones(only_b), np.ones(20), np.zeros(60)]
    exact = stats.binomtest(only_a, only_a + only_b, 0.5).pvalue
    found = paired_bootstrap(a, b, n_resamples=20_000)
    assert found.p == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 20_000) + 1e-4)
    assert found.difference == pytest.approx((only_a - only_b) / len(a))
    assert (found.a, found.b, found.n_units) == (pytest.approx(a.mean()), pytest.approx(b.mean()), len(a))


def test_p_of_values_is_scipys_exact_permutation_test() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random(11) + 0.2, rng.random(11)
    exact = stats.permutation_test(
        (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=np.inf
    ).pvalue
    found = paired_bootstrap(a, b, n_resamples=20_000)
    assert found.p == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 20_000) + 1e-4)


def test_p_is_uniform_where_both_runs_are_alike() -> None:
    rng = np.random.default_rng(1)
    p = [paired_bootstrap(*rng.exponential(size=(2, 40)), n_resamples=400, seed=i).p for i in range(500)]
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert 0.025 <= np.mean(np.array(p) <= 0.05) <= 0.08


def test_hits_of_equal_runs_are_rejected_no_more_often_than_promised() -> None:
    rng = np.random.default_rng(2)
    a, b = correlated_hits(rng, 200, 0.2, 0.2, 0.5, repeats=500)
    p = np.array([paired_bootstrap(x, y, n_resamples=300, seed=i).p for i, (x, y) in enumerate(zip(a, b, strict=True))])
    assert np.mean(p <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 500)


@pytest.mark.parametrize(("p", "q", "shared"), [(0.01, 0.02, 0.0), (0.1, 0.1, 0.7), (0.55, 0.5, 0.5), (0.9, 0.95, 0.3)])
def test_coverage_of_a_difference_in_hits(p: float, q: float, shared: float) -> None:
    rng = np.random.default_rng(3)
    a, b = correlated_hits(rng, 200, p, q, shared, repeats=400)
    found = [paired_bootstrap(x, y, n_resamples=600, seed=i) for i, (x, y) in enumerate(zip(a, b, strict=True))]
    share = np.mean([f.lo <= p - q <= f.hi for f in found])
    assert share + 2 * np.sqrt(share * (1 - share) / 400) >= 0.93


def test_coverage_of_a_difference_in_values_with_splits() -> None:
    """Three splits of different size and difference: the truth is their weighted mean."""
    rng = np.random.default_rng(4)
    split = np.repeat([0, 1, 2], [20, 40, 100])
    shift = np.array([0.5, 0.0, -0.2])[split]
    held = []
    for i in range(400):
        easy = rng.standard_normal(160)
        a, b = easy + shift + rng.exponential(size=160), easy + rng.exponential(size=160)
        found = paired_bootstrap(a, b, groups=split, n_resamples=600, seed=i)
        held.append(found.lo <= shift.mean() <= found.hi)
    assert np.mean(held) + 2 * np.sqrt(np.mean(held) * (1 - np.mean(held)) / 400) >= 0.93


def test_groups_take_their_own_differences_out_of_the_interval() -> None:
    rng = np.random.default_rng(5)
    split = np.repeat([0, 1], 50)
    a, b = rng.random(100) + 3 * split, rng.random(100)
    inside, across = paired_bootstrap(a, b, groups=split), paired_bootstrap(a, b)
    assert inside.hi - inside.lo < 0.5 * (across.hi - across.lo)


def test_repeated_images_are_one_unit() -> None:
    """Five copies of every query hold no more than one: same interval and p, where the plain comparison is fooled."""
    rng = np.random.default_rng(6)
    a, b = correlated_hits(rng, 100, 0.4, 0.3, 0.3)
    once = paired_bootstrap(a[0], b[0], n_resamples=4000)
    images = np.repeat(np.arange(100), 5)
    together = paired_bootstrap(np.repeat(a[0], 5), np.repeat(b[0], 5), images=images, n_resamples=4000)
    fooled = paired_bootstrap(np.repeat(a[0], 5), np.repeat(b[0], 5), n_resamples=4000)
    assert (together.lo, together.hi, together.p) == pytest.approx((once.lo, once.hi, once.p))
    assert together.n_units == 100
    assert fooled.hi - fooled.lo < 0.6 * (once.hi - once.lo)
    assert fooled.p < once.p


def test_shared_images_keep_the_error_rate() -> None:
    """Four seeds of two equal methods on the same 50 images, each method with its own favourite images."""
    rng = np.random.default_rng(7)
    images = np.tile(np.arange(50), 4)
    p = []
    for i in range(300):
        taste = rng.standard_normal((2, 50))
        runs = [(np.tile(t, 4) + 0.5 * rng.standard_normal(200) > 1).astype(float) for t in taste]
        p.append(paired_bootstrap(*runs, images=images, n_resamples=200, seed=i).p)
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_equal_hits_are_no_proof_of_equality() -> None:
    hits = np.arange(200) < 60
    found = paired_bootstrap(hits, hits)
    assert (found.difference, found.p) == (0.0, 1.0)
    assert -0.015 <= found.lo < 0 < found.hi <= 0.015
    extreme = paired_bootstrap(np.ones(30), np.zeros(30))
    assert extreme.difference == extreme.hi == 1.0 and extreme.lo < 1.0


def test_values_that_differ_on_few_images() -> None:
    """Two of 100 values differ: resamples without spread leave Student's interval."""
    b = np.full(100, 0.5)
    a = b.copy()
    a[:2] = 0.9, 0.8
    found = paired_bootstrap(a, b)
    expected = stats.t.interval(0.95, 99, (a - b).mean(), stats.sem(a - b))
    assert (found.lo, found.hi) == pytest.approx(expected)
    same = paired_bootstrap(b, b)
    assert (same.lo, same.hi, same.p) == (0.0, 0.0, 1.0)


def test_swapping_the_runs_mirrors_the_result_and_the_seed_decides() -> None:
    rng = np.random.default_rng(8)
    a, b = rng.random((2, 60))
    first, again, other, swapped = (
        paired_bootstrap(*pair, seed=seed) for pair, seed in (((a, b), 1), ((a, b), 1), ((a, b), 2), ((b, a), 1))
    )
    assert first == again
    assert first.lo != other.lo
    assert swapped.difference == -first.difference
    assert (swapped.lo, swapped.hi) == pytest.approx((-first.hi, -first.lo))
    assert swapped.p == first.p


def test_the_dict_names_its_level() -> None:
    rng = np.random.default_rng(9)
    assert set(paired_bootstrap(*rng.random((2, 9))).to_dict()) == {"a", "b", "difference", "ci95", "p", "n_units"}
    assert "ci90" in paired_bootstrap(*rng.random((2, 9)), level=0.9).to_dict()


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="same queries"):
        paired_bootstrap([1, 0], [1, 0, 1])
    with pytest.raises(InputError, match="not both"):
        paired_bootstrap([1, 0], [1, 0], groups=[0, 0], images=[0, 1])
    with pytest.raises(InputError, match="two images or more"):
        paired_bootstrap([1, 0, 1], [1, 0, 0], groups=[0, 0, 1])
    with pytest.raises(InputError, match="two images or more"):
        paired_bootstrap([1, 0], [0, 0], images=["x", "x"])
    with pytest.raises(InputError, match="b hold NaN"):
        paired_bootstrap([1, 0], [1, np.nan])
    with pytest.raises(InputError, match=r"shape \(n_images,\)"):
        paired_bootstrap([[1, 0]], [[1, 0]])


@pytest.mark.parametrize(
    ("n", "p", "correlation"), [(200, 0.3, 0.0), (200, 0.3, 0.4), (1000, 0.05, 0.0), (100, 0.5, 0.0)]
)
def test_the_smallest_detectable_difference_is_found_as_often_as_said(n: int, p: float, correlation: float) -> None:
    """Power of McNemar's z at the stated difference, simulated with hits of exactly that correlation."""
    d = smallest_detectable_difference(n, p, correlation=correlation)
    rng = np.random.default_rng(10)

    def power(q: float) -> float:
        both = p * q + correlation * np.sqrt(p * (1 - p) * q * (1 - q))
        cells = rng.multinomial(n, [both, p - both, q - both, 1 - p - q + both], size=20_000)
        only_a, only_b = cells[:, 1], cells[:, 2]
        return float(np.mean(np.abs(only_a - only_b) > 1.959964 * np.sqrt(np.maximum(only_a + only_b, 1))))

    powers = [power(q) for q in (p + d, p - d) if 0 <= q <= 1]
    assert max(powers) == pytest.approx(0.8, abs=0.025)


def test_more_images_or_shared_ease_show_smaller_differences() -> None:
    found = [smallest_detectable_difference(n, 0.3) for n in (50, 200, 1000)]
    assert found == sorted(found, reverse=True)
    assert smallest_detectable_difference(200, 0.3, correlation=0.6) < found[1]
    assert smallest_detectable_difference(200, 0.3, power=0.9) > found[1]
    assert smallest_detectable_difference(200, 0.1) == pytest.approx(smallest_detectable_difference(200, 0.9))


def test_too_few_images_show_nothing() -> None:
    assert smallest_detectable_difference(2, 0.5) == 1.0


@pytest.mark.parametrize("arguments", [{"n": 0}, {"p": 1.1}, {"power": 1.0}, {"correlation": 1.0}, {"level": 0.0}])
def test_bad_arguments_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(InputError):
        smallest_detectable_difference(**({"n": 100, "p": 0.3} | arguments))  # type: ignore[arg-type]
