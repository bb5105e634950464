"""The report of a sweep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from brainalign.analysis.registry import ANALYSES
from brainalign.evaluation.result import Result
from brainalign.report.caveats import sweep_caveats
from brainalign.report.embedded import sweep_analyses
from brainalign.report.gallery import build_gallery
from brainalign.report.page import csv_text, data_uri, read_small, write_page
from brainalign.report.pictures import Pictures
from brainalign.report.query_signals import read_query_signals
from brainalign.report.retrievals import Retrievals
from brainalign.report.run_report import (
    N_HUBS,
    N_PAIRS,
    N_PICTURE_ROWS,
    downloads,
    lead_name,
    mistakes_table,
    score_name,
)
from brainalign.report.sweep_figures import headline, panels
from brainalign.report.sweep_file import CONDITION_KEYS, SweepFile, read_sweep
from brainalign.report.verdict import verdict
from brainalign.report.words import times
from brainalign.stimuli import StimulusSet

N_TABLE_ROWS = 500


def write_sweep_report(
    folder: str | Path, stimuli_of: Callable[[str], StimulusSet | None], *, out: str | Path | None = None
) -> Path:
    """Write a sweep's report: one HTML file that needs nothing else.

    Parameters
    ----------
    folder : path-like
        Folder of a finished sweep.
    stimuli_of : callable
        Gives the images shown to a subject, or None where they are not at hand.
    out : path-like, optional
        `report.html` in the folder by default.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    InputError
        If the sweep is not finished, a file of it is missing or damaged, or the report cannot be written.
    """
    sweep = read_sweep(folder)
    summary, first = sweep.summary, sweep.results[0]
    retrievals = Retrievals(sweep.run(summary.conditions[0]))
    rows_each = Counter(tuple(row[key] for key in CONDITION_KEYS) for row in sweep.headline)
    place, interval, one = sweep.run(summary.conditions[0]), sweep.interval, len(sweep.results) == 1
    signals = read_query_signals(place, len(retrievals.query_ids))
    pictures = Pictures(stimuli_of(first.subject))
    chances = sorted({result.metrics.test.chance_top1 for result in sweep.results})
    subjects = subject_rows(sweep)
    caveats = sweep_caveats(
        sweep.results,
        n_rows=max(rows_each.values()),
        gap=summary.mean.inflation_gap_top1,
        test_reads=summary.test_reads,
    )
    return write_page(
        "sweep.html",
        Path(out) if out is not None else sweep.folder / "report.html",
        scripts=("gallery.js",),
        sweep=sweep,
        summary=summary,
        first=first,
        conditions=list(zip(summary.conditions, sweep.results, strict=True)),
        interval=interval,
        chances=chances,
        verdict=verdict(
            summary.mean.test_top1,
            interval.as_list() if interval is not None else None,
            max(chances),
            # Runs that no interval pools stand above chance together only if each one does.
            max(r.metrics.test.permutation_p for r in sweep.results) if interval is None or one else None,
            caveats,
            virtual=summary.virtual,
            n_runs=len(sweep.results),
        ),
        subjects=subjects,
        subjects_href=data_uri(csv_text(subjects)),
        score=score_name(first),
        gallery=build_gallery(retrievals, pictures, signals, lead=lead_name(first)),
        in_time=signals is not None and signals.in_time,
        signals_cut=signals.cut if signals is not None else "",
        ratio=times(summary.mean.test_top1 / max(chances)),
        headline=headline(sweep),
        panels=panels(sweep),
        analyses=sweep_analyses(sweep, ANALYSES),
        caveats=caveats,
        choices=[axis.name for axis in sweep.choices],
        table=_table(sweep),
        n_backbones=len({row["backbone"] for row in sweep.rows}),
        n_hidden=max(0, len(sweep.rows) - N_TABLE_ROWS),
        **_pictures(retrievals, pictures),
        environments=_environments(sweep.results),
        total_s=sum(row["total_s"] for row in sweep.rows),
        recipe_yaml=read_small(sweep.run(summary.conditions[0]) / "recipe.yaml"),
        files=downloads(sweep.folder, ("sweep.csv", "sweep.json")),
        title=f"Sweep of {summary.recipe} on {summary.dataset}",
    )


def _pictures(retrievals: Retrievals, pictures: Pictures) -> dict[str, Any]:
    """Queries with what was retrieved, and what is retrieved too often or for another."""
    return {
        "best": retrievals.best(N_PICTURE_ROWS),
        "worst": retrievals.worst(N_PICTURE_ROWS),
        "drawn": retrievals.drawn(N_PICTURE_ROWS),
        "hubs": retrievals.hubs(N_HUBS),
        "confusions": retrievals.confusions(N_PAIRS),
        "mistakes": mistakes_table(retrievals),
        "pictures": pictures,
    }


def subject_rows(sweep: SweepFile) -> list[dict[str, Any]]:
    """One line a subject: means over its splits and seeds, and the ends of what they gave; none for one subject."""
    by_subject: dict[str, list[int]] = {}
    for number, condition in enumerate(sweep.summary.conditions):
        by_subject.setdefault(condition.subject, []).append(number)
    if len(by_subject) < 2:
        return []
    rows = []
    for subject, numbers in by_subject.items():
        scores = [sweep.results[i].metrics.test for i in numbers]
        top1 = [one.top1 for one in scores]
        rows.append(
            {
                "subject": subject,
                "conditions": len(numbers),
                "top1": sum(top1) / len(top1),
                "lowest": min(top1),
                "highest": max(top1),
                "ci95": list(scores[0].top1_ci95) if len(numbers) == 1 else None,
                "top5": sum(one.top5 for one in scores) / len(scores),
                "median_rank": sum(one.median_rank for one in scores) / len(scores),
                "chance": sum(one.chance_top1 for one in scores) / len(scores),
                "n_queries": sum(one.n_queries for one in scores),
            }
        )
    return rows


def _table(sweep: SweepFile) -> list[dict[str, Any]]:
    """Rows for the page: the chosen ones first where there are too many."""
    rows = sweep.rows
    if len(rows) > N_TABLE_ROWS:
        rows = sorted(rows, key=lambda row: not row["chosen"])
    return rows[:N_TABLE_ROWS]


def _environments(results: Sequence[Result]) -> dict[str, str]:
    """Each version or device once; several where runs differ."""
    found: dict[str, list[str]] = {}
    for result in results:
        for name, value in result.environment.items():
            if value is not None and value not in found.setdefault(name, []):
                found[name].append(value)
    return {name: ", ".join(values) for name, values in found.items()}
