"""Reports in headless Chromium: search, sort, filter, click, download, dark mode, a phone's width, axe-core.

Run with `pytest -m browser`. Skipped, and counted as skipped, where Chromium or Playwright is not installed.
"""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from browser_support import DESK, PHONE, accessible, violations

from brainalign.report import write_run_report, write_sweep_report
from brainalign.report.query_signals import write_query_signals

pytestmark = pytest.mark.browser
N = 60


class Channels(NamedTuple):
    ch_names: tuple[str, ...] = tuple(f"E{i}" for i in range(7))
    sfreq: float | None = 100.0
    tmin: float | None = -0.1
    unit: str = "uV"
    modality: str = "eeg"


def fill(folder: Path, n_times: int = 100) -> np.ndarray:
    """Give a made run signals."""
    values = np.random.default_rng(3).normal(0, 4, (N, 7, n_times)).astype(np.float32)
    channels = Channels() if n_times > 1 else Channels(sfreq=None, tmin=None, unit="spikes / s", modality="spikes")
    write_query_signals(folder, values, channels)
    return values


@pytest.fixture
def run_page(make_run, shown, tmp_path) -> Path:
    make_run(tmp_path / "run", ids=list(shown.ids))
    fill(tmp_path / "run")
    return write_run_report(tmp_path / "run", shown)


def ranks_of(folder: Path) -> np.ndarray:
    scores = np.load(folder / "predictions.npz")["similarity"]
    return (scores > scores.diagonal()[:, None]).sum(1) + 1


def test_run_report_is_accessible_in_all_looks(look, run_page):
    accessible(look, run_page)


def test_search_sort_and_filter(look, run_page):
    watched = look(run_page)
    ranks, page = ranks_of(run_page.parent), watched.page
    assert watched.status() == "Showing 24 of 60 queries."
    assert watched.ranks() == sorted(ranks.tolist())[:24]
    page.select_option("#gallery-sort", "worst")
    assert watched.ranks() == sorted(ranks.tolist(), reverse=True)[:24]
    page.select_option("#gallery-filter", "failures")
    failures = int((ranks > 1).sum())
    assert f"of {failures} queries that fit (60 in all)" in watched.status()
    while page.locator("#gallery-more").is_visible():
        page.locator("#gallery-more").click()
    assert watched.ranks() == sorted(ranks[ranks > 1].tolist(), reverse=True)
    page.select_option("#gallery-filter", "right")
    assert set(watched.ranks()) == {1.0}
    page.select_option("#gallery-filter", "all")
    page.fill("#gallery-search", " C03 ")
    assert watched.status() == "Showing 10 of 10 queries that fit (60 in all)."
    assert set(watched.names()) == {"c03"}
    page.fill("#gallery-search", "nothing of that name")
    assert watched.status().startswith("No query fits")
    assert watched.names() == []
    watched.quiet()


def test_click_shows_nearest_images_and_the_signal_to_download(look, run_page):
    watched = look(run_page)
    page = watched.page
    page.fill("#gallery-search", "i003")
    page.locator("#gallery-list button").click()
    dialog = page.locator("#gallery-query")
    assert dialog.is_visible()
    scores = np.load(run_page.parent / "predictions.npz")
    ids = [str(name) for name in scores["query_ids"]]
    row = next(i for i, name in enumerate(ids) if name.endswith("i003"))
    assert f"rank {ranks_of(run_page.parent)[row]} of 60" in dialog.locator("h4").inner_text()
    assert dialog.locator(".near > li").count() == 8
    assert dialog.locator(".near img").count() == 8
    plot = dialog.locator("[data-part=plot] svg")
    assert plot.locator("path.channel").count() == 7
    alt = plot.get_attribute("aria-label")
    assert "7 channels, −100 to 890 ms" in alt
    assert "µV" in alt
    assert "time from stimulus onset (ms)" in plot.text_content()
    with page.expect_download() as waiting:
        dialog.locator("[data-part=save]").click()
    table = list(csv.reader(io.StringIO(Path(waiting.value.path()).read_text())))
    assert table[0] == ["time_ms", *Channels().ch_names]
    values = np.random.default_rng(3).normal(0, 4, (N, 7, 100))[row]
    restored = np.array(table[1:], dtype=float)
    assert restored[:, 0] == pytest.approx(np.arange(100) * 10 - 100)
    assert np.abs(restored[:, 1:].T - values).max() <= 1.01 * np.abs(values).max() / 254 + 1e-3
    assert violations(watched) == []
    watched.quiet()


def test_dialog_by_keyboard(look, run_page):
    watched = look(run_page)
    page = watched.page
    page.locator("#gallery-list button").nth(1).focus()
    page.keyboard.press("Enter")
    dialog, title = page.locator("#gallery-query"), page.locator("#gallery-query h4")
    assert dialog.is_visible()
    assert "2 of 60" in dialog.inner_text()
    first = title.inner_text()
    page.keyboard.press("ArrowRight")
    assert "3 of 60" in dialog.inner_text()
    page.keyboard.press("ArrowLeft")
    assert title.inner_text() == first
    dialog.locator(".near button").first.click()  # a neighbour's own query
    assert dialog.is_visible()
    assert title.inner_text() != first
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert page.evaluate("document.activeElement.closest('#gallery-list') !== null")
    watched.quiet()


def test_no_channel_is_a_formula_in_a_saved_table(look, make_run, tmp_path):
    make_run(tmp_path / "run")
    names = ("=1+1", "+A1", "-A1", "@SUM(1)", "\t=1", "-0.5", "Oz")
    values = np.random.default_rng(3).normal(0, 4, (N, 7, 1)).astype(np.float32)
    write_query_signals(tmp_path / "run", values, Channels(names, None, None, "spikes / s", "spikes"))
    watched = look(write_run_report(tmp_path / "run", None))
    page = watched.page
    page.locator("#gallery-list button").first.click()
    with page.expect_download() as waiting:
        page.locator("#gallery-query [data-part=save]").click()
    rows = list(csv.reader(io.StringIO(Path(waiting.value.path()).read_text(), newline="")))[1:]
    assert [row[0] for row in rows] == ["'=1+1", "'+A1", "'-A1", "'@SUM(1)", "'\t=1", "-0.5", "Oz"]
    assert any(row[1].startswith("-") for row in rows)
    watched.quiet()


def test_signals_without_time_are_bars(look, make_run, tmp_path):
    make_run(tmp_path / "run")
    values = fill(tmp_path / "run", 1)
    watched = look(write_run_report(tmp_path / "run", None), PHONE, "dark")
    page = watched.page
    page.locator("#gallery-list button").first.click()
    plot = page.locator("#gallery-query svg")
    assert plot.locator("rect.bar").count() == 7
    assert plot.locator("line.mean").count() == 7
    with page.expect_download() as waiting:
        page.locator("[data-part=save]").click()
    table = list(csv.DictReader(io.StringIO(Path(waiting.value.path()).read_text())))
    means = [float(line["mean_over_queries"]) for line in table]
    assert means == pytest.approx(values[:, :, 0].mean(0), abs=0.1)
    box = page.locator("#gallery-query").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 375
    assert violations(watched) == []
    watched.quiet()


def test_every_figure_has_numbers_to_download(look, run_page):
    watched = look(run_page)
    page = watched.page
    figures = page.locator("figure[id]")
    assert figures.count() >= 5
    for number in range(figures.count()):
        figure = figures.nth(number)
        name = figure.get_attribute("id").removeprefix("figure-")
        with page.expect_download() as waiting:
            figure.locator("a.save").click()
        assert waiting.value.suggested_filename == f"plot-{name}.csv"
        rows = list(csv.reader(io.StringIO(Path(waiting.value.path()).read_text())))
        assert len(rows) > 1
        assert len({len(row) for row in rows}) == 1
        assert len(figure.locator("svg").first.get_attribute("aria-label")) > 20
    watched.quiet()


def test_dark_mode_changes_page_and_figures(look, run_page):
    colours = {}
    for scheme in ("light", "dark"):
        page = look(run_page, DESK, scheme).page
        colours[scheme] = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor,"
            " getComputedStyle(document.querySelector('#figure-learning svg text')).fill]"
        )
    light, dark = ([brightness(text) for text in colours[scheme]] for scheme in ("light", "dark"))
    assert light[0] > 0.9 > 0.3 > light[1]
    assert dark[0] < 0.2 < 0.7 < dark[1]


def brightness(colour: str) -> float:
    parts = [float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    return sum(parts) / 765


def test_first_screen_answers_the_four_questions(look, run_page):
    test = json.loads((run_page.parent / "result.json").read_text())["metrics"]["test"]
    watched = look(run_page)
    seen = watched.page.evaluate(
        "[...document.querySelectorAll('h1, .verdict, .big, .facts, .questions > div')]"
        ".filter((e) => e.getBoundingClientRect().bottom <= innerHeight).map((e) => e.innerText).join('\\n')"
    ).replace("\xa0", " ")
    for said in ("How good?", "Compared with chance?", "How sure?", "Why might it be wrong?", "First reason for doubt"):
        assert said in seen
    assert f"{100 * test['top1']:.1f} %" in seen
    assert f"{100 * test['top1_ci95'][0]:.1f} to {100 * test['top1_ci95'][1]:.1f} %" in seen
    assert f"{100 * test['chance_top1']:.1f} %" in seen
    assert "p = 0.0005" in seen
    phone = look(run_page, PHONE).page
    bottom = phone.evaluate("document.querySelector('.facts').getBoundingClientRect().bottom")
    assert bottom <= PHONE["height"]


def test_print_holds_what_is_folded_and_no_controls(look, run_page):
    watched = look(run_page)
    page = watched.page
    page.emulate_media(media="print")
    assert not page.locator("#gallery").is_visible()
    page.set_viewport_size({"width": 718, "height": 1000})  # A4 with margins of 10 mm
    assert watched.sideways() <= 718
    outside = "[...document.querySelectorAll('table')].filter((t) => t.getBoundingClientRect().right > innerWidth + 1)"
    assert page.evaluate(f"{outside}.length") == 0
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    assert len(page.pdf(format="A4")) > 20_000
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() > 0


def test_without_script_the_page_still_says_everything(browser, run_page):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(run_page.as_uri())
    assert page.locator(".retrieval").count() >= 6
    assert "With JavaScript" in page.locator("#retrievals").inner_text()
    assert not page.locator("#gallery").is_visible()
    context.close()


def test_hostile_names_stay_text(look, make_run, tmp_path):
    names = [f'<img src=x onerror="alert(1)"></script>{i}' for i in range(N)]
    make_run(tmp_path / "run", ids=names, subject="<script>alert(1)</script>")
    watched = look(write_run_report(tmp_path / "run", None))
    assert watched.page.locator("#gallery-list button").count() == 24
    assert watched.page.locator("#gallery-list img").count() == 0
    watched.page.locator("#gallery-list button").first.click()
    assert watched.page.locator("#gallery-query").is_visible()
    watched.quiet()


def test_virtual_sweep_report(look, make_sweep, shown, tmp_path):
    summary = make_sweep(tmp_path / "sweep", ids=list(shown.ids), splits=(0, 1), virtual=True)
    path = tmp_path / "sweep" / "sweep.json"
    path.write_text(json.dumps(summary | {"virtual": True}))
    fill(tmp_path / "sweep" / summary["conditions"][0]["run"])
    page = write_sweep_report(tmp_path / "sweep", lambda subject: shown)
    accessible(look, page)
    watched = look(page)
    assert "VIRTUAL DATA" in watched.page.locator("header").inner_text()
    watched.page.select_option("#gallery-filter", "failures")
    watched.page.fill("#gallery-search", "c01")
    assert set(watched.names()) <= {"c01"}
    watched.page.fill("#gallery-search", "")
    watched.page.locator("#gallery-list button").first.click()
    assert watched.page.locator("#gallery-query path.strength").is_visible()
    with watched.page.expect_download() as waiting:
        watched.page.keyboard.press("Escape")
        watched.page.locator("a[download='sweep.csv']").click()
    assert Path(waiting.value.path()).read_bytes() == (tmp_path / "sweep" / "sweep.csv").read_bytes().replace(
        b"\r\n", b"\n"
    )
    watched.quiet()


@pytest.mark.real_data
def test_report_of_a_macaque_run(look, tmp_path):
    """A real run, from recordings to the page: a tiny backbone with random weights, so that features take seconds."""
    root = os.environ.get("BRAINALIGN_TEST_DATA")
    if not root:
        pytest.skip("BRAINALIGN_TEST_DATA is not set")
    from brainalign.execution.train import train

    settings = ["target.backbone=timm:test_resnet", "target.weights=random", "target.layer=final"]
    settings += ["evaluation.n_resamples=200", "evaluation.n_permutations=200"]
    result = train(
        "ridge",
        dataset="macaque-v4",
        root=Path(root) / "macaque-v4",
        subject="201025",
        out=tmp_path / "run",
        settings=settings,
        cache=tmp_path / "cache",
    )
    page = tmp_path / "run" / "report.html"
    assert page.stat().st_size < 15e6
    accessible(look, page)
    watched = look(page)
    body = watched.page
    assert "virtual" not in body.locator("body").inner_text().lower()
    assert f"{100 * result.metrics.test.top1:.1f}" in body.locator(".big").inner_text()
    body.select_option("#gallery-filter", "failures")
    failures = int((ranks_of(tmp_path / "run") > 1).sum())
    assert f"of {failures} quer" in watched.status()
    body.select_option("#gallery-sort", "worst")
    assert watched.ranks()[0] == max(ranks_of(tmp_path / "run"))
    body.locator("#gallery-list button").first.click()
    dialog = body.locator("#gallery-query")
    assert dialog.locator(".near img").count() == 8
    assert dialog.locator("svg rect.bar").count() == 89  # neurons of this session
    assert "spikes" in dialog.locator("svg").text_content()
    assert violations(watched) == []
    watched.quiet()


def test_comparison_of_runs(look, make_run, shown, tmp_path):
    make_run(tmp_path / "a", ids=list(shown.ids))
    for number, name in enumerate(("b", "c"), start=1):
        make_run(tmp_path / name, ids=list(shown.ids), noise=1.0 + number, seed=number, recipe=f"other-{name}")
    page = write_run_report(tmp_path / "a", shown, beside=[tmp_path / "b", tmp_path / "c"])
    accessible(look, page)
    watched = look(page)
    assert watched.page.locator("#beside tbody tr").count() == 3
    assert "difference" in watched.page.locator("#beside thead").inner_text()
    for name in ("beside", "beside-ranks", "beside-learning"):
        assert watched.page.locator(f"#figure-{name} svg").is_visible()


def test_a_tie_for_the_first_place_is_called_one(look, make_run, tmp_path):
    """A model that tells no images apart: nothing came first instead of the shown image."""
    make_run(tmp_path / "run", n=12, similarity=np.zeros((12, 12), dtype=np.float32))
    page = look(write_run_report(tmp_path / "run", None)).page
    assert page.locator("#gallery-list .rank").first.inner_text() == "rank 6.5"
    page.fill("#gallery-search", "i000")  # the first of the gallery, so the first of its row too
    page.locator("#gallery-list button").click()
    assert "shares its place" in page.locator("[data-part=words]").inner_text()
