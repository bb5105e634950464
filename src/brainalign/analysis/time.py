"""`brainalign analyze time`: from when, and until when, a signal says which image was shown.

NeuroAlign (figure 3) retrains in growing windows [0, t] and shrinking windows [t, end]; time-resolved decoding slides a
short window. Outside of a window transformed signals are 0, before any filter of the encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from brainalign.analysis import time_figures, time_findings
from brainalign.analysis.base import Analysis, Table
from brainalign.analysis.onset import Difference
from brainalign.analysis.reopened import Reopened, RunOptions, count_reads, facts_of, reopen
from brainalign.analysis.time_scores import Curve, Generalised, Settings, compare, generalise, score
from brainalign.analysis.windows import KINDS, Retrained, Ridged, times_of, windows_of
from brainalign.cache import default_cache_dir
from brainalign.errors import InputError, unknown_name
from brainalign.execution.progress import Reporter, Silent


class Options(RunOptions):
    """Settings of the time analysis."""

    windows: str = Field("growing,shrinking,sliding", description="Kinds of windows, a list.")
    model: Literal["retrain", "ridge"] = Field(
        "retrain", description="Growing and shrinking windows: retrain with the run's settings, or ridge (cheap)."
    )
    sliding: Literal["ridge", "retrain"] = Field("ridge", description="The same for sliding windows.")
    step: float = Field(0.1, gt=0, description="Seconds between growing, and shrinking, windows.")
    width: float = Field(0.1, gt=0, description="Seconds of a sliding window.")
    slide: float = Field(0.02, gt=0, description="Seconds that a sliding window moves.")
    generalise: bool = Field(
        False, description="Also train at every sliding window and test at every other one (ridge)."
    )
    images: Literal["validation", "test"] = Field(
        "validation", description="validation, or test: opened once more for all windows, exploratory."
    )
    metric: Literal["top1", "top5", "two_way"] = Field("top1", description="top1, top5 or two_way: what is drawn.")
    alpha: float = Field(0.05, gt=0, lt=1, description="Level of the test against chance, corrected for all windows.")
    consecutive: int = Field(2, ge=1, description="Windows in a row that must be above chance for an onset.")
    permutations: int = Field(2000, ge=99, description="Of signals among images.")
    resamples: int = Field(2000, ge=100, description="Of images.")
    seed: int = Field(0, ge=0, description="Of permutations and resamples; training keeps the run's seed.")
    runs: Path | None = Field(
        None,
        description="Folder that keeps the windows' models, to go on from; else OUT/runs (from Python: the cache).",
    )


def run(paths: Sequence[Path], options: Options, reporter: Reporter | None = None) -> Analysis:
    """Score finished runs in windows of time, retrained or in closed form; several runs are overlaid.

    Retrained windows are kept one folder each, and taken up from there when the analysis is run again.

    Parameters
    ----------
    paths : sequence of Path
        Folders of finished runs on signals with a time axis.
    options : Options
    reporter : Reporter, optional

    Returns
    -------
    Analysis

    Raises
    ------
    InputError
        If a folder or its data cannot be used, or a window does not suit the signals.
    """
    kinds = _kinds(options)
    runs = reopen(paths, options, "analyze time", reporter)
    settings = Settings(
        options.images,
        options.metric,
        options.alpha,
        options.permutations,
        options.resamples,
        options.consecutive,
        options.seed,
    )
    curves: list[Curve] = []
    grids: list[Generalised] = []
    for one in runs:
        curves += _curves(one, kinds, options, settings, reporter or Silent())
        if options.generalise:
            windows = _windows(one, ["sliding"], options)
            with (reporter or Silent()).step(f"{one.name}: every window tried on every window") as tick:
                grids.append(generalise(one.name, windows, Ridged(one), settings, tick))
    differences = _differences(runs, curves, settings)
    reads = count_reads(runs)
    planted = time_findings.planted(runs)
    facts = facts_of(runs) | {
        "Images": f"{len(set(curves[0].query_ids))} {options.images} images, {curves[0].n_gallery}-way",
        "Repetitions averaged": ", ".join(dict.fromkeys(str(curve.repetitions) for curve in curves)),
        "Models": "; ".join(dict.fromkeys(f"{c.kind}: {c.model}" for c in curves)),
        "Test set opened": f"{reads} time(s) again for this page; exploratory" if reads else "not for this page",
    }
    return Analysis(
        name="time",
        title=f"Windows of time: {', '.join(dict.fromkeys(one.result.dataset for one in runs))}",
        virtual=any(one.result.virtual for one in runs),
        facts=facts,
        findings=time_findings.findings(curves, grids, differences, planted, settings),
        figures=time_figures.figures(curves, grids, differences, planted, settings),
        tables=(Table("windows", "Scores by window", time_figures.rows(curves)),),
        numbers={
            "images": options.images,
            "test_reads": reads,
            "no_choice_may_rest_on_this": options.images == "test",
            "alpha": options.alpha,
            "planted": planted,
            "curves": [time_findings.document(curve) for curve in curves],
            "differences": [_difference(*found) for found in differences],
        },
    )


def _kinds(options: Options) -> list[str]:
    kinds = [word.strip() for word in options.windows.split(",") if word.strip()]
    for kind in kinds:
        if kind not in KINDS:
            raise unknown_name("kind of window", kind, KINDS, where="--windows")
    if not kinds:
        raise InputError("names no kind of window", where="--windows", hint=f"such as {','.join(KINDS)}")
    return list(dict.fromkeys(kinds))


def _windows(one: Reopened, kinds: Sequence[str], options: Options) -> Any:
    return windows_of(times_of(one), kinds, step=options.step, width=options.width, slide=options.slide)


def _curves(
    one: Reopened, kinds: Sequence[str], options: Options, settings: Settings, reporter: Reporter
) -> list[Curve]:
    """All kinds of windows of one run; the slow ones say how far they are."""
    folder = options.runs or default_cache_dir(options.cache) / "windows"
    models = {kind: options.sliding if kind == "sliding" else options.model for kind in kinds}
    windows = _windows(one, kinds, options)
    scorers: dict[str, Any] = {}
    if "retrain" in models.values():
        scorers["retrain"] = Retrained(one, folder / f"{one.folder.resolve().name}-{one.result.config_hash[:12]}")
    if "ridge" in models.values():
        scorers["ridge"] = Ridged(one)
    found = []
    for kind, model in models.items():
        mine = [window for window in windows if window.kind == kind]
        what = "training and scoring" if model == "retrain" else "fitting"
        with reporter.step(f"{one.name}: {what} {len(mine)} {kind} windows") as tick:
            found.append(score(one.name, kind, model, mine, scorers[model], settings, tick))
    return found


def _differences(
    runs: Sequence[Reopened], curves: Sequence[Curve], settings: Settings
) -> list[tuple[Curve, Curve, Difference]]:
    """The first run against every other one on the same images."""
    first, found = runs[0], []
    condition = (first.result.dataset, first.result.subject, first.result.split)
    for other in runs[1:]:
        if (other.result.dataset, other.result.subject, other.result.split) != condition:
            continue
        for mine in (c for c in curves if c.name == first.name):
            (theirs,) = [c for c in curves if c.name == other.name and c.kind == mine.kind]
            if mine.windows == theirs.windows and mine.query_ids == theirs.query_ids:
                found.append((mine, theirs, compare(mine, theirs, settings)))
    return found


def _difference(first: Curve, second: Curve, found: Difference) -> dict[str, Any]:
    return {
        "run": first.name,
        "minus": second.name,
        "kind": first.kind,
        "metric": first.scored.metric,
        "windows": [list(window.ends) for window in first.windows],
        "difference": found.difference.tolist(),
        "ci95": [[lo, hi] for lo, hi in zip(found.lo.tolist(), found.hi.tolist(), strict=True)],
        "p_corrected": found.p.tolist(),
    }
