"""Intervals: coverage by exact sums and simulation, scipy where it has the method, the rest by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from brainalign.errors import InputError
from brainalign.evaluation import bootstrap_interval, proportion_interval

FloatArray = NDArray[np.float64]
RATES = [0.01, 0.1, 0.5, 0.9]
LOWEST = 0.93


def coverage(draw: Callable[[np.random.Generator], FloatArray], truth: float, repeats: int, **options: object) -> float:
    """Share of simulated data sets whose interval holds the truth, plus twice its Monte-Carlo error."""
    rng = np.random.default_rng(0)
    held = 0
    for i in range(repeats):
        found = bootstrap_interval(draw(rng), seed=i, **options)  # type: ignore[arg-type]
        held += found.lo <= truth <= found.hi
    share = held / repeats
    return share + 2 * float(np.sqrt(share * (1 - share) / repeats))


@pytest.mark.parametrize("hits", [0, 1, 37, 199, 200])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_hits_get_scipys_exact_interval(hits: int, level: float) -> None:
    found = bootstrap_interval(np.arange(200) < hits, level=level)
    expected = stats.binomtest(hits, 200).proportion_ci(level, method="exact")
    assert found.method == "clopper-pearson"
    assert found.as_list() == pytest.approx([expected.low, expected.high], abs=1e-12)


@pytest.mark.parametrize(
    ("p", "stated"), [(0.0025, 0.986), (0.005, 0.981), (0.01, 0.984), (0.1, 0.967), (0.5, 0.960), (0.9, 0.967)]
)
def test_coverage_of_hits_is_what_the_docstring_states(p: float, stated: float) -> None:
    """No simulation: summed over the binomial law of 200 queries."""
    intervals = [proportion_interval(np.arange(200) < x) for x in range(201)]
    held = [x for x, found in enumerate(intervals) if found.lo <= p <= found.hi]
    assert stats.binom.pmf(held, 200, p).sum() == pytest.approx(stated, abs=6e-4)


@pytest.mark.parametrize("p", RATES)
def test_coverage_of_repeated_queries(p: float) -> None:
    """60 images, 1 to 5 queries each, hit rates that differ between images."""

    def draw(rng: np.random.Generator) -> FloatArray:
        return (rng.random(len(images)) < rng.beta(2 * p, 2 * (1 - p), 60)[images]).astype(float)

    images = np.repeat(np.arange(60), np.arange(60) % 5 + 1)
    assert coverage(draw, p, 500, groups=images) >= LOWEST


def test_effective_queries_by_hand() -> None:
    """Korn and Graubard's recipe for 30 images of 4 queries, from the textbook variance of a mean of group means."""
    rng = np.random.default_rng(8)
    hits = (rng.random((30, 4)) < rng.beta(1, 1, (30, 1))).astype(float)
    p, variance = hits.mean(), stats.sem(hits.mean(axis=1)) ** 2
    n = min(120, p * (1 - p) / variance) * (stats.norm.ppf(0.975) / stats.t.ppf(0.975, 29)) ** 2
    expected = [stats.beta.ppf(0.025, n * p, n - n * p + 1), stats.beta.ppf(0.975, n * p + 1, n - n * p)]
    assert n < 100  # the queries do depend on each other
    assert bootstrap_interval(hits.ravel(), groups=np.repeat(np.arange(30), 4)).as_list() == pytest.approx(expected)


def test_ignoring_the_repetitions_would_not_cover() -> None:
    rng = np.random.default_rng(1)
    images = np.repeat(np.arange(40), 20)
    hits = (rng.random(800) < rng.beta(0.5, 0.5, 40)[images]).astype(float)
    grouped, single = bootstrap_interval(hits, groups=images), bootstrap_interval(hits)
    assert grouped.method == "clopper-pearson-clustered"
    assert grouped.hi - grouped.lo > 2 * (single.hi - single.lo)


@pytest.mark.parametrize("p", RATES)
@pytest.mark.parametrize("n_subjects", [4, 10])
def test_coverage_over_subjects_and_images(p: float, n_subjects: int) -> None:
    """Hits of a latent normal: subjects differ by 0.3, images by 1, trials by 1."""
    cut = stats.norm.ppf(p) * np.sqrt(0.3**2 + 1 + 1)

    def draw(rng: np.random.Generator) -> FloatArray:
        subject, image = 0.3 * rng.standard_normal((n_subjects, 1)), rng.standard_normal((1, 200))
        return (subject + image + rng.standard_normal((n_subjects, 200)) < cut).astype(float)

    assert coverage(draw, p, 400) >= LOWEST


def ranked(rng: np.random.Generator, signal: float) -> NDArray[np.int64]:
    """Ranks of 200 queries among 200 images when true images score `signal` standard deviations higher."""
    return rng.binomial(199, stats.norm.sf(rng.standard_normal(200) + signal))


@pytest.mark.parametrize("signal", [0.0, 2.0])
def test_coverage_of_two_way_shares(signal: float) -> None:
    truth = stats.norm.cdf(signal / np.sqrt(2))
    found = coverage(lambda rng: 1 - ranked(rng, signal) / 199, truth, 400, n_resamples=800, bounds=(0, 1))
    assert found >= LOWEST


def test_coverage_of_reciprocal_ranks() -> None:
    rng = np.random.default_rng(2)
    truth = np.mean([np.mean(1 / (ranked(rng, 2.0) + 1)) for _ in range(4000)])
    assert coverage(lambda rng: 1 / (ranked(rng, 2.0) + 1), truth, 400, n_resamples=800, bounds=(0, 1)) >= LOWEST


def test_the_studentised_bootstrap_agrees_with_scipy_where_both_must() -> None:
    """Symmetric values, many images: Student's t and scipy's BCa are the same interval up to simulation error."""
    values = np.random.default_rng(3).normal(0.6, 0.1, 400)
    found = bootstrap_interval(values, seed=0)
    bca = stats.bootstrap((values,), np.mean, n_resamples=10_000, rng=np.random.default_rng(0)).confidence_interval
    student = stats.t.interval(0.95, 399, values.mean(), stats.sem(values))
    width = student[1] - student[0]
    assert found.method == "bootstrap-t"
    assert found.as_list() == pytest.approx([bca.low, bca.high], abs=0.05 * width)
    assert found.as_list() == pytest.approx(list(student), abs=0.05 * width)


def test_the_studentised_bootstrap_by_hand() -> None:
    """Skewed values: the long tail of t* on the left stretches the interval to the right."""
    values = np.random.default_rng(9).exponential(size=25)
    drawn = values[np.random.default_rng(3).integers(0, 25, size=(2000, 25))]
    t = np.sort((drawn.mean(axis=1) - values.mean()) / (drawn.std(axis=1, ddof=1) / 5))
    found = bootstrap_interval(values, seed=3, n_resamples=2000)
    expected = [values.mean() - t[-51] * stats.sem(values), values.mean() - t[50] * stats.sem(values)]
    assert found.as_list() == pytest.approx(expected)
    assert found.hi - values.mean() > 1.3 * (values.mean() - found.lo)


def test_crossed_layouts_with_one_source_of_variance_are_students_t() -> None:
    rng = np.random.default_rng(4)
    subject, image = rng.uniform(0.2, 0.6, 6), rng.uniform(0.2, 0.6, 50)
    by_subject = bootstrap_interval(np.repeat(subject[:, None], 50, axis=1))
    assert by_subject.method == "t-crossed"
    assert by_subject.as_list() == pytest.approx(list(stats.t.interval(0.95, 5, subject.mean(), stats.sem(subject))))
    by_image = bootstrap_interval(np.repeat(image[None], 6, axis=0))
    assert by_image.as_list() == pytest.approx(list(stats.t.interval(0.95, 49, image.mean(), stats.sem(image))))


def test_coverage_of_values_over_subjects_and_images() -> None:
    def draw(rng: np.random.Generator) -> FloatArray:
        return rng.normal(0, 0.5, (5, 1)) + rng.normal(0, 1, (1, 50)) + rng.normal(0, 1, (5, 50))

    assert coverage(draw, 0.0, 600) >= LOWEST


def test_seeds_are_averaged_within_their_subject() -> None:
    rng = np.random.default_rng(5)
    hits = (rng.random((6, 80)) < 0.3).astype(float)
    labels = ["a", "b", "c", "a", "b", "c"]
    assert bootstrap_interval(hits, groups=labels).estimate == pytest.approx(hits.mean())
    values = rng.random((6, 80))
    averaged = (values[:3] + values[3:]) / 2
    assert bootstrap_interval(values, groups=labels) == bootstrap_interval(averaged)
    one_row = bootstrap_interval(hits[:1])
    assert one_row == bootstrap_interval(hits[0])


@pytest.mark.parametrize("shape", [(50,), (4, 50)])
def test_no_variation_still_has_a_width(shape: tuple[int, ...]) -> None:
    none, every = bootstrap_interval(np.zeros(shape)), bootstrap_interval(np.ones(shape))
    assert none.lo == 0.0 and every.hi == 1.0
    assert none.hi == pytest.approx(stats.binomtest(0, 50).proportion_ci(method="exact").high)  # images, not trials
    assert every.lo == pytest.approx(1 - none.hi)
    grouped = bootstrap_interval(np.zeros(100), groups=np.arange(100) // 10)
    assert grouped.hi > bootstrap_interval(np.zeros(100)).hi


def test_values_that_hardly_vary_fall_back_to_their_bounds() -> None:
    nearly = np.r_[0.5, np.ones(199)]
    found = bootstrap_interval(nearly, bounds=(0, 1))
    assert found.method == "clopper-pearson"
    assert 0.96 < found.lo < nearly.mean() < found.hi <= 1.0
    constant = bootstrap_interval(np.full(200, 0.3), bounds=(0, 1))
    assert constant.lo < 0.3 < constant.hi
    shifted = bootstrap_interval(np.full(200, -0.4), bounds=(-1, 1))
    assert shifted.as_list() == pytest.approx([2 * x - 1 for x in constant.as_list()])
    unbounded = bootstrap_interval(nearly)
    assert unbounded.method == "t"
    assert unbounded.as_list() == pytest.approx(list(stats.t.interval(0.95, 199, nearly.mean(), stats.sem(nearly))))


def test_bounds_other_than_those_of_hits_are_no_hits() -> None:
    assert bootstrap_interval([0.0, 1.0, 1.0, 0.0] * 20, bounds=(-1, 1)).method == "bootstrap-t"


def test_the_seed_decides() -> None:
    values = np.random.default_rng(6).random(60)
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)


def test_a_higher_level_is_wider() -> None:
    values = np.random.default_rng(7).random(60)
    narrow, wide = (bootstrap_interval(values, level=level) for level in (0.8, 0.99))
    assert wide.lo < narrow.lo < narrow.hi < wide.hi


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([], {}, "at least one"),
        (np.zeros((2, 2, 2)), {}, r"got \(2, 2, 2\)"),
        (["a"], {}, "must be numbers"),
        ([0.1, np.nan], {}, r"NaN or infinity, first at \[1\]"),
        ([0.1], {}, "one image"),
        ([0.1, 1.2], {"bounds": (0, 1)}, "outside the bounds"),
        ([0.1, 0.2], {"level": 1.0}, "level"),
        ([0.1, 0.2], {"n_resamples": 0}, "n_resamples"),
        ([0.1, 0.2], {"groups": [1]}, r"one a value, shape \(2,\)"),
        (np.zeros((2, 3)), {"groups": [1, 2, 3]}, "label the 2 rows"),
        ([[0.1], [0.3]], {}, "one image"),
    ],
)
def test_bad_input_is_named(values: FloatArray, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        bootstrap_interval(values, **options)  # type: ignore[arg-type]


def test_hits_outside_0_to_1_are_refused() -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        proportion_interval([0.0, 1.5])
