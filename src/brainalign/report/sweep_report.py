"""The report of a sweep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from brainalign.evaluation.result import Result
from brainalign.report.caveats import sweep_caveats
from brainalign.report.page import read_small, write_page
from brainalign.report.pictures import Pictures
from brainalign.report.retrievals import Retrievals
from brainalign.report.run_report import downloads
from brainalign.report.sweep_figures import headline, panels
from brainalign.report.sweep_file import CONDITION_KEYS, SweepFile, read_sweep
from brainalign.report.words import times
from brainalign.stimuli import StimulusSet

N_PICTURE_ROWS = 4
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
    rows_each = Counter(tuple(row[key] for key in CONDITION_KEYS) for row in sweep.rows)
    return write_page(
        "sweep.html",
        Path(out) if out is not None else sweep.folder / "report.html",
        sweep=sweep,
        summary=summary,
        first=first,
        conditions=list(zip(summary.conditions, sweep.results, strict=True)),
        interval=sweep.interval,
        chances=sorted({result.metrics.test.chance_top1 for result in sweep.results}),
        ratio=times(summary.mean.test_top1 / first.metrics.test.chance_top1),
        headline=headline(sweep),
        panels=panels(sweep),
        caveats=sweep_caveats(
            sweep.results,
            n_rows=max(rows_each.values()),
            gap=summary.mean.inflation_gap_top1,
            test_reads=summary.test_reads,
        ),
        choices=[axis.name for axis in sweep.choices],
        table=_table(sweep),
        n_backbones=len({row["backbone"] for row in sweep.rows}),
        n_hidden=max(0, len(sweep.rows) - N_TABLE_ROWS),
        best=retrievals.best(N_PICTURE_ROWS),
        worst=retrievals.worst(N_PICTURE_ROWS),
        pictures=Pictures(stimuli_of(first.subject)),
        environments=_environments(sweep.results),
        total_s=sum(row["total_s"] for row in sweep.rows),
        recipe_yaml=read_small(sweep.run(summary.conditions[0]) / "recipe.yaml"),
        files=downloads(sweep.folder, ("sweep.csv", "sweep.json")),
        title=f"Sweep of {summary.recipe} on {summary.dataset}",
    )


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
