"""The report of one run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from brainalign.evaluation import smallest_detectable_difference
from brainalign.evaluation.result import Result, read_result
from brainalign.report import fit_figures, loss_figures, run_figures
from brainalign.report.beside import rivals, scores_panel
from brainalign.report.caveats import run_caveats
from brainalign.report.page import TABLE_BYTES_MAX, data_uri, number, read_small, read_table, write_page
from brainalign.report.pictures import Pictures
from brainalign.report.retrievals import Retrievals
from brainalign.report.words import times
from brainalign.stimuli import StimulusSet

N_PICTURE_ROWS = 5
N_HUBS = 6
HISTORY = ("epoch", "train_loss", "validation_loss")
SETTINGS = ("validation_loss",)
CANDIDATES = ("depth", "validation_loss", "validation_top1", "validation_mrr")


def write_run_report(
    folder: str | Path,
    stimuli: StimulusSet | None,
    *,
    out: str | Path | None = None,
    beside: Sequence[str | Path] = (),
) -> Path:
    """Write a run's report: one HTML file that needs nothing else.

    Parameters
    ----------
    folder : path-like
        Folder of a finished run.
    stimuli : StimulusSet or None
        The images shown; without them the report shows names instead of pictures.
    out : path-like, optional
        `report.html` in the folder by default.
    beside : sequence of path-like
        Other runs on the same test images, compared with this one image by image.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    InputError
        If the run is not finished, a file of it is missing or damaged, or the report cannot be written.
    """
    place = Path(folder)
    result = read_result(place)
    retrievals = Retrievals(place)
    trained = result.selection.epoch is not None
    history = _numbers(place / "history.csv", HISTORY if trained else SETTINGS)
    if trained and "train_brain_image" in history[0]:  # several terms: validation has the brain-image one
        history = [{**row, "train_loss": number(row, "train_brain_image", place / "history.csv")} for row in history]
    candidates = _numbers(place / "candidates.csv", CANDIDATES)
    pictures, others = Pictures(stimuli), rivals(place, beside)
    panels = [
        run_figures.learning_curve(history, result.selection.epoch)
        if trained
        else fit_figures.settings_tried(_settings_of(history, place / "history.csv"), result),
        *loss_figures.loss_panels(loss_figures.read_steps(place / "steps.csv")),
        fit_figures.layer_weights(result),
        fit_figures.receptive_field(result),
        run_figures.candidates(candidates, result),
        run_figures.stored_epochs(result),
        run_figures.cumulative_ranks(retrievals),
    ]
    return write_page(
        "run.html",
        Path(out) if out is not None else place / "report.html",
        result=result,
        scores=[("test", result.metrics.test), ("validation", result.metrics.validation)],
        headline=run_figures.headline(result),
        rivals=others,
        rivals_panel=scores_panel(result, others) if others else None,
        panels=[panel for panel in panels if panel is not None],
        caveats=run_caveats(result, stored_top1=retrievals.top1, last_epoch=len(history) if trained else None),
        ratio=times(result.metrics.test.top1 / result.metrics.test.chance_top1),
        smallest=smallest_detectable_difference(result.metrics.test.n_queries, result.metrics.test.top1),
        best=retrievals.best(N_PICTURE_ROWS),
        drawn=retrievals.drawn(N_PICTURE_ROWS),
        worst=retrievals.worst(N_PICTURE_ROWS),
        hubs=retrievals.hubs(N_HUBS),
        pictures=pictures,
        recipe_yaml=read_small(place / "recipe.yaml"),
        files=downloads(place, ("result.json", "history.csv", "candidates.csv", "recipe.yaml")),
        title=run_title(result),
    )


def run_title(result: Result) -> str:
    """What the page is called."""
    left_out = " (left out)" if result.leaves_out else ""
    return f"{result.recipe} on {result.dataset}, subject {result.subject}{left_out}"


def downloads(place: Path, names: tuple[str, ...]) -> list[tuple[str, str]]:
    """Files of a folder as (name, data address)."""
    kinds = {".json": "application/json", ".csv": "text/csv", ".yaml": "text/plain"}
    return [(name, data_uri(read_small(place / name, TABLE_BYTES_MAX), kinds[Path(name).suffix])) for name in names]


def _settings_of(history: list[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    """The rows of a closed-form fit with the settings they tried read as numbers."""
    tried = [name for name in fit_figures.TRIED if name in history[0]]
    return [{**row, **{name: number(row, name, path) for name in tried}} for row in history]


def _numbers(path: Path, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    """Rows of a table with these columns read as numbers."""
    return [{**row, **{key: number(row, key, path) for key in keys}} for row in read_table(path)]
