from __future__ import annotations

import math

import numpy as np
import pytest
import timm
from scipy import stats

from brainalign.analysis import analyze
from brainalign.analysis.parameters import Size, find_size, parse_sizes
from brainalign.analysis.regression import fit_line
from brainalign.errors import InputError
from brainalign.report.analysis_page import write_analysis

# Shallow Alignment, arXiv 2601.21948, table of THINGS-EEG2 intra: parameters (millions), best and final top-1 (%).
MILLIONS = [38, 56, 86, 632, 1140, 1840, 4350, 5540]
BEST = [67.7, 59.2, 68.6, 76.8, 75.9, 75.2, 79.0, 82.6]
FINAL = [40.3, 36.5, 37.1, 33.5, 17.5, 33.2, 37.9, 55.9]


@pytest.mark.parametrize(("scores", "r", "p"), [(BEST, 0.90, 0.002), (FINAL, 0.13, 0.765)])
def test_published_correlations_come_out_of_the_published_table(scores, r, p):
    line = fit_line(np.log(np.array(MILLIONS) * 1e6), scores)
    assert line.r == pytest.approx(r, abs=0.006)  # the table's sizes are rounded
    assert line.p == pytest.approx(p, abs=0.006)


def test_line_is_scipys():
    rng = np.random.default_rng(0)
    for n in (3, 4, 9, 40):
        x = rng.normal(size=n)
        y = 0.5 * x + rng.normal(size=n)
        line, fit, pearson = fit_line(x, y), stats.linregress(x, y), stats.pearsonr(x, y)
        assert (line.r, line.p) == pytest.approx((pearson.statistic, pearson.pvalue))
        assert (line.slope, line.intercept) == pytest.approx((fit.slope, fit.intercept))
        reach = stats.t.ppf(0.975, n - 2) * fit.stderr
        assert line.slope_ci95 == pytest.approx((fit.slope - reach, fit.slope + reach))
        if n > 3:
            ends = pearson.confidence_interval(0.95)
            assert line.r_ci95 == pytest.approx((ends.low, ends.high))
        else:
            assert line.r_ci95 is None


def test_band_is_that_of_the_design_matrix():
    rng = np.random.default_rng(1)
    x, at = rng.normal(size=12), np.linspace(-2, 2, 7)
    y = 2 * x + rng.normal(size=12)
    design, there = np.stack([np.ones(12), x], axis=1), np.stack([np.ones(7), at], axis=1)
    coefficients, rest, *_ = np.linalg.lstsq(design, y, rcond=None)
    error = np.sqrt(rest[0] / 10 * np.einsum("ij,jk,ik->i", there, np.linalg.inv(design.T @ design), there))
    low, high = fit_line(x, y).band(at)
    np.testing.assert_allclose(low, there @ coefficients - stats.t.ppf(0.975, 10) * error)
    np.testing.assert_allclose(high, there @ coefficients + stats.t.ppf(0.975, 10) * error)


@pytest.mark.parametrize("y", [[1.0, 2.0], [1.0, 1.0, 1.0], [1.0, 2.0, math.nan]])
def test_what_has_no_correlation_is_refused(y):
    with pytest.raises(InputError):
        fit_line(np.arange(len(y)), y)


def test_a_perfect_line_has_p_zero():
    line = fit_line([0, 1, 2, 3], [0, 2, 4, 6])
    assert (line.r, line.p, line.r_ci95) == (1.0, 0.0, (1.0, 1.0))


def test_sizes_are_given_listed_or_counted(monkeypatch):
    model = timm.create_model("test_vit")
    count = sum(p.numel() for p in model.parameters())
    assert find_size("timm:test_vit").n_parameters == count
    monkeypatch.setattr("brainalign.features.timm_source.sizes", lambda name: (None, None))
    assert find_size("timm:test_vit") == Size(count, "counted")
    lite = timm.create_model("tf_efficientnet_lite0")
    assert find_size("pip:efficientnet-lite0") == Size(sum(p.numel() for p in lite.parameters()), "listed")
    given = parse_sizes(["a=1.5B", "b=2000"], ["a", "b"])
    assert (given["a"].n_parameters, given["b"].n_parameters) == (1_500_000_000, 2000)


@pytest.mark.parametrize("word", ["a", "a=", "a=many", "a=-3", "a=nan", "a=inf"])
def test_sizes_that_cannot_be_read(word):
    with pytest.raises(InputError, match="is not backbone=NUMBER"):
        parse_sizes([word], ["a"])


def test_sizes_of_a_strange_backbone():
    with pytest.raises(InputError, match="did you mean 'timm:test_vit'"):
        parse_sizes(["timm:test_vot=3M"], ["timm:test_vit"])
    with pytest.raises(InputError, match="--parameters timm:nothing_like_it=NUMBER"):
        find_size("timm:nothing_like_it")


def four(make_sweep, draw, tmp_path, n=100):
    """Four backbones: the best layer grows with size, final does not; validation prefers layer 2."""
    sizes = {"timm:a": 1e6, "timm:b": 1e7, "timm:c": 1e8, "timm:d": 2e9}
    best, final = [0.3, 0.45, 0.5, 0.7], [0.2, 0.1, 0.25, 0.15]
    folders = []
    for number, (name, top, last) in enumerate(zip(sizes, best, final, strict=True)):
        rates = {"0": 0.1, "2": top, "4": min(0.95, top + 0.1), "head": 0.1, "final": last}
        validation = {"0": 0.1, "2": 0.9, "4": 0.5, "head": 0.1, "final": 0.2}
        hits = {("m1", 0): draw(rates, n, number)}
        folders.append(make_sweep(tmp_path / f"s{number}", hits, backbone=name, validation=validation))
    return folders, [f"{name}={size:g}" for name, size in sizes.items()], np.log(list(sizes.values())), best, final


def test_best_layer_is_that_of_validation_and_final_stands_beside(make_sweep, draw, tmp_path):
    folders, sizes, x, best, final = four(make_sweep, draw, tmp_path)
    found = analyze("scaling", folders[::-1], {"parameters": sizes})
    rows = found.numbers["backbones"]
    assert [row["backbone"] for row in rows] == ["timm:a", "timm:b", "timm:c", "timm:d"]  # by size
    assert [row["chosen top-1"] for row in rows] == pytest.approx(best)  # not layer 4, better on test
    assert [row["final top-1"] for row in rows] == pytest.approx(final)
    for part, y in (("chosen", best), ("final", final)):
        fit = found.numbers["fits"][part]
        expected = stats.pearsonr(x, y)
        assert (fit["r"], fit["p"]) == pytest.approx((expected.statistic, expected.pvalue))
    write_analysis(found, tmp_path / "out", formats=["svg"])
    text = (tmp_path / "out/scaling.csv").read_text().splitlines()
    assert len(text) == 1 + 8
    assert f"r = {stats.pearsonr(x, best).statistic:.2f}" in (tmp_path / "out/scaling.svg").read_text()


def test_the_method_itself_is_scaled_not_its_ablations(make_sweep, draw, tmp_path):
    folders = []
    for name, rate in (("timm:a", 0.2), ("timm:b", 0.4)):
        hits, better = ({("m1", 0): draw({"0": r, "final": r / 2}, 50, 0)} for r in (rate, 2 * rate))
        folders.append(make_sweep(tmp_path / name[-1], hits, backbone=name, ablated={"no-text": better}))
    found = analyze("scaling", folders, {"parameters": ["timm:a=1M", "timm:b=2M"]})
    assert [row["chosen top-1"] for row in found.numbers["backbones"]] == pytest.approx([0.2, 0.4])
    assert found.facts["Methods"] == "ablation full"


def test_two_backbones_have_no_correlation(make_sweep, draw, tmp_path):
    folders, sizes, *_ = four(make_sweep, draw, tmp_path)
    found = analyze("scaling", folders[:2], {"parameters": sizes[:2]})
    texts = [finding.text for finding in found.findings if finding.kind == "not measured"]
    assert len(texts) == 2
    assert all("2 backbone(s), 3 are needed" in text for text in texts)
    assert found.numbers["fits"] == {"chosen": None, "final": None}
    assert not any("Pearson" in finding.text for finding in found.findings)
    write_analysis(found, tmp_path / "out")


def test_backbones_are_compared_in_the_conditions_they_share(make_sweep, draw, tmp_path):
    a = draw({"0": 0.2, "final": 0.3}, 50, 0)
    b = draw({"0": 0.4, "final": 0.6}, 50, 1)
    one = make_sweep(tmp_path / "1", {("m1", 0): a, ("m2", 0): b}, backbone="timm:a")
    two = make_sweep(tmp_path / "2", {("m1", 0): b}, backbone="timm:b")
    found = analyze("scaling", [one, two], {"parameters": ["timm:a=1M", "timm:b=2M"]})
    assert [row["final top-1"] for row in found.numbers["backbones"]] == pytest.approx([0.3, 0.6])
    assert any("1 of 2 conditions" in finding.text for finding in found.findings)
    three = make_sweep(tmp_path / "3", {("m3", 0): b}, backbone="timm:c")
    with pytest.raises(InputError, match="share no subject"):
        analyze("scaling", [two, three], {"parameters": ["timm:b=1M", "timm:c=2M"]})
