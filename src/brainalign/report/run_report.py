"""The report of one run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from brainalign.analysis.registry import ANALYSES
from brainalign.evaluation import smallest_detectable_difference
from brainalign.evaluation.result import Result, read_result
from brainalign.report import fit_figures, loss_figures, run_figures
from brainalign.report.beside import beside_panels, rivals
from brainalign.report.caveats import run_caveats
from brainalign.report.embedded import run_analyses
from brainalign.report.figures import Panel
from brainalign.report.gallery import build_gallery
from brainalign.report.page import TABLE_BYTES_MAX, csv_text, data_uri, number, read_small, read_table, write_page
from brainalign.report.pictures import Pictures
from brainalign.report.query_signals import read_query_signals
from brainalign.report.retrievals import Retrievals
from brainalign.report.verdict import verdict
from brainalign.report.words import times
from brainalign.stimuli import StimulusSet

N_PICTURE_ROWS = 3  # examples; the gallery holds all
N_HUBS = 6
N_PAIRS = 6
HISTORY = ("epoch", "train_loss", "validation_loss")
SETTINGS = ("validation_loss",)
# Of encoders whose stored numbers are neither cosines nor log-likelihoods.
SCORES = {
    "ridge": "scaled cosine similarity",
    "random": "guessed score",
    "bravl": "score",  # of three kinds, by the recipe's `bravl.score`
    "stacked": "weighted sum of its runs' scores below that of the first",
}
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
    panels = [
        run_figures.learning_curve(history, result)
        if trained
        else fit_figures.settings_tried(_settings_of(history, place / "history.csv"), result),
        *loss_figures.loss_panels(loss_figures.read_steps(place / "steps.csv")),
        fit_figures.layer_weights(result),
        fit_figures.receptive_field(result),
        run_figures.candidates(candidates, result),
        run_figures.stored_epochs(result),
        run_figures.cumulative_ranks(retrievals),
    ]
    return write_run_page(
        place,
        result,
        retrievals,
        stimuli,
        out=out,
        beside=beside,
        panels=panels,
        last_epoch=len(history) if trained else None,
        files=("result.json", "history.csv", "candidates.csv", "recipe.yaml"),
    )


def write_run_page(
    place: Path,
    result: Result,
    retrievals: Retrievals,
    stimuli: StimulusSet | None,
    *,
    out: str | Path | None,
    beside: Sequence[str | Path],
    panels: Sequence[Panel | None],
    files: tuple[str, ...],
    last_epoch: int | None = None,
) -> Path:
    """The page of anything that has a `result.json` and `predictions.npz`: a run or a stack of runs.

    Parameters
    ----------
    panels : sequence of Panel or None
        How it was trained and chosen.
    files : tuple of str
        Files of the folder that can be saved from the page.
    last_epoch : int, optional
        Number of epochs trained.
    """
    test, others = result.metrics.test, rivals(place, beside)
    caveats = run_caveats(result, stored_top1=retrievals.top1, last_epoch=last_epoch)
    pictures = Pictures(stimuli)
    signals = read_query_signals(place, len(retrievals.query_ids))
    return write_page(
        "run.html",
        Path(out) if out is not None else place / "report.html",
        scripts=("gallery.js",),
        result=result,
        scores=[("test", test), ("validation", result.metrics.validation)],
        headline=run_figures.headline(result),
        verdict=verdict(
            test.top1, test.top1_ci95, test.chance_top1, test.permutation_p, caveats, virtual=result.virtual
        ),
        rivals=others,
        rivals_panels=beside_panels(place, result, others) if others else [],
        panels=[panel for panel in panels if panel is not None],
        analyses=run_analyses(place, result.modality, ANALYSES),
        caveats=caveats,
        ratio=times(test.top1 / test.chance_top1),
        smallest=smallest_detectable_difference(test.n_queries, test.top1),
        score=score_name(result),
        gallery=build_gallery(retrievals, pictures, signals, lead=lead_name(result)),
        in_time=signals is not None and signals.in_time,
        signals_cut=signals.cut if signals is not None else "",
        best=retrievals.best(N_PICTURE_ROWS),
        drawn=retrievals.drawn(N_PICTURE_ROWS),
        worst=retrievals.worst(N_PICTURE_ROWS),
        hubs=retrievals.hubs(N_HUBS),
        confusions=retrievals.confusions(N_PAIRS),
        mistakes=mistakes_table(retrievals),
        pictures=pictures,
        recipe_yaml=read_small(place / "recipe.yaml"),
        files=downloads(place, files),
        title=run_title(result),
    )


def score_name(result: Result) -> str:
    """What the stored similarities are, in words."""
    usual = "cosine similarity" if result.selection.epoch is not None else "log-likelihood below that of the first"
    return SCORES.get(result.encoder, usual)


def lead_name(result: Result) -> str:
    """What a lead of one image over another is counted in."""
    name = score_name(result).removesuffix(" below that of the first")
    return "nats of log-likelihood" if name.startswith("log") else f"of {name}"


def mistakes_table(retrievals: Retrievals) -> str:
    """Hubs and pairs that were taken for one another as CSV in an address: all of them."""
    n = len(retrievals.query_ids)
    rows: list[dict[str, Any]] = [
        {"kind": "hub", "image": h.stimulus_id, "other": "", "queries": h.wrongly_first, "mutual": "", "deficit_sd": ""}
        for h in retrievals.hubs(n)
    ]
    for c in retrievals.confusions(n):
        rows.append(
            {"kind": "pair", "image": c.shown, "other": c.taken_for, "queries": c.queries, "mutual": c.mutual}
            | {"deficit_sd": round(c.deficit, 4)}
        )
    return data_uri(csv_text(rows))


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
