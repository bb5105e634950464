"""Every other kind of page in headless Chromium: analysis, methods, foundation, decode, and a run with its analyses."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from browser_support import accessible

from brainalign.analysis.base import Analysis, Figure, Finding, Table
from brainalign.report import write_run_report
from brainalign.report.analysis_page import write_analysis
from brainalign.report.foundation_page import write_foundation_report
from brainalign.report.methods_page import write_methods
from brainalign.report.reproduce_page import write_reproduction
from brainalign.tasks.decode_page import write_decode_page

pytestmark = pytest.mark.browser

SCORES = {
    "n_way": 60,
    "n_queries": 60,
    "repetitions": 4,
    "top1": 0.4,
    "top1_ci95": [0.28, 0.53],
    "top5": 0.7,
    "top5_ci95": [0.57, 0.81],
    "two_way": 0.93,
    "chance_top1": 1 / 60,
    "permutation_p": 0.0005,
}


def analysis(wide: bool = True) -> Analysis:
    def paint(ax: Any, look: Any) -> None:
        for number, name in enumerate(("first", "second")):
            ax.plot([0, 100, 200], [1 + number, 3, 2], color=look.series[number], label=name)
        ax.set_xlabel("time (ms)")
        ax.set_ylabel("top-1 (%)")
        look.legend(ax)

    rows = [{"ms": ms, "top1": 0.1} for ms in (0, 100, 200)]
    figures = tuple(
        Figure(name, f"Curve {name}", "Made.", "Top-1 over time, highest at 100 ms: 3 %.", paint, rows, wide=wide)
        for name in ("one", "two")
    )
    findings = (Finding("finding", "It rises."), Finding("exploratory", "It falls."), Finding("limit", "One subject."))
    tables = (Table("numbers", "Numbers of the curves", [{"name": "first", "value": 0.25}] * 3),)
    return Analysis("time", "Windows of time", True, {"Data set": "made"}, findings, figures, tables)


def test_analysis_page(look, tmp_path):
    write_analysis(analysis(), tmp_path / "out")
    accessible(look, tmp_path / "out" / "index.html")


def test_run_with_an_analysis_inside(look, make_run, tmp_path):
    make_run(tmp_path / "run", modality="eeg")
    write_analysis(analysis(wide=False), tmp_path / "run" / "analysis" / "time")
    page = write_run_report(tmp_path / "run", None)
    accessible(look, page)
    watched = look(page, colours="dark")
    assert watched.page.locator("#analyses figure svg").count() == 2
    fill = watched.page.evaluate("getComputedStyle(document.querySelector('#analyses svg text')).fill")
    assert min(int(part) for part in fill[4:-1].split(",")) > 180  # light text on dark


def method(name: str, protocol: str, **changes: Any) -> dict[str, Any]:
    measured = {key: SCORES[key] for key in ("top1", "top1_ci95", "top5", "top5_ci95", "permutation_p", "chance_top1")}
    measured |= {"n_permutations": 2000, "chance_top5": 5 / 60, "shuffled_top1": 0.02, "inflation_gap_top1": 0.0}
    measured |= {"validation_top1": 0.4, "validation_mrr": 0.5, "n_way": 60, "repetitions": 4, "n_train": 200}
    measured |= {"runs": 1, "subjects": ["m1"], "seeds": [0], "test_reads": 1, "train_s": 3.0, "budget": "full"}
    measured |= {"family": "contrastive", "encoder": "linear", "targets": {"made layer 5 (mean)": 1}, "transform": None}
    measured |= {"language": None, "lint": [], "always_said": [], "run": f"cells/{name}", "interval": "clopper-pearson"}
    found = {"recipe": name, "protocol": protocol, "summary": "What it is.", "source": "Somebody 2024", "reason": ""}
    return found | {"status": "measured", "measured": measured, "reference": False, "difference": None} | changes


def test_methods_page(look, tmp_path):
    difference = {"against": "a", "a": 0.4, "b": 0.5, "difference": -0.1, "ci95": [-0.2, 0.0], "p": 0.03}
    methods = []
    for protocol in ("made/intra/v1", "made/inter/v1"):
        methods += [method("a", protocol, reference=True)]
        methods += [method("b", protocol, difference=difference | {"n_units": 60, "conditions": 1, "p_holm": 0.06})]
        methods += [method("c", protocol, status="not measured", measured=None, reason="it needs text")]
    document = {"schema": "brainalign.methods/1", "brainalign": "0.1", "dataset": "made", "virtual": False}
    document |= {"modality": "eeg", "citation": "Somebody 2024", "protocols": ["made/intra/v1", "made/inter/v1"]}
    document |= {"subjects": ["m1"], "seeds": [0], "split": 0, "settings": [], "match": False, "against": None}
    (tmp_path / "out").mkdir()
    write_methods(document | {"methods_measured": 4, "methods": methods}, tmp_path / "out")
    accessible(look, tmp_path / "out" / "table.html")


def write_foundation(folder: Path) -> None:
    names = ("a-1", "b-1")
    sources = [
        {"name": n, "modality": m, "n_train": 200, "test": SCORES, "shuffled_top1": 0.02, "subject": "1"}
        for n, m in zip(names, ("eeg", "spikes"), strict=True)
    ]
    cell = {"n_pairs": 1, "pool": 60, "top1": 0.2, "top1_ci95": [0.1, 0.3], "top5": 0.4, "two_way": 0.8}
    cell |= {"two_way_ci95": [0.7, 0.9], "chance_top1": 1 / 60, "p": 0.0005, "normalised": 0.9}
    cells = [cell | {"source": a, "target": b} for a, b in (("eeg", "spikes"), ("spikes", "eeg"))]
    document = {"recipe": "foundation", "budget": "full", "datasets": ["a", "b"], "virtual": True, "seed": 0}
    document |= {"split": 0, "layer": "5", "pooling": "mean", "epoch": 2, "sources": sources, "test_reads": 1}
    document |= {"conversion": {"one space": cells, "closed form": cells}, "normalised": "by decoding"}
    document |= {"closed_form_channels": {"a-1": 17}, "config_hash": "ab" * 32, "schema": "brainalign.foundation-run/1"}
    folder.mkdir()
    (folder / "foundation.json").write_text(json.dumps(document))
    (folder / "recipe.yaml").write_text("name: foundation\n")
    with open(folder / "history.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["epoch", "train_loss", "validation_loss"], [1, 4.0, 4.1], [2, 3.0, 3.5], [3, 2.0, 3.6]])


def test_foundation_page(look, tmp_path):
    write_foundation(tmp_path / "run")
    page = write_foundation_report(tmp_path / "run")
    accessible(look, page)
    watched = look(page)
    assert watched.page.locator("figure svg").count() == 4


def test_decode_page(look, shown, tmp_path):
    rows = [
        {"signal": f"s{query}", "rank": place + 1, "image": shown.ids[query + place], "score": 0.5 - 0.1 * place}
        for query in range(3)
        for place in range(4)
    ]
    facts = {"family": "contrastive", "n_gallery": 60, "recipe": "made", "virtual": True, "run": "run"}
    facts |= {"score_is": "cosine similarity", "scores_in_words": ["Top-1 33.3 %."], "notes": ["The gallery is small."]}
    truth = [shown.ids[0], shown.ids[2], shown.ids[9]]
    accessible(look, write_decode_page(tmp_path / "decoded.html", rows, shown, facts, truth=truth))


def test_reproduction_page(look, tmp_path):
    published = {"value": 40.1, "sd": 0.9, "one_of": None, "bound": "=", "quoted_by": None, "note": None}
    cell = {"id": "nice-top1", "labels": {"method": "NICE"}, "condition": "intra", "subject": None, "metric": "top1"}
    cell |= {"published": published, "status": "not measured", "measured": None, "reason": "no data here"}
    document = {"table": "made-table", "dataset": "things-eeg2", "title": "Made table", "virtual": False}
    source = {"paper": "Somebody 2024", "arxiv": "", "table": "table 1", "section": "", "url": "https://example.org"}
    document |= {
        "source": source,
        "substitutes": {},
        "settings": [],
        "notes": [],
        "data_here": False,
        "unit": "percent",
        "citation": "None",
    }
    document |= {"subjects": [], "seeds": [0], "split": 0, "recipes": ["nice"], "protocols": ["p"], "cells": [cell]}
    write_reproduction(document, tmp_path)
    accessible(look, tmp_path / "table.html")
