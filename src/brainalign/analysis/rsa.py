"""`brainalign analyze rsa`: which layers of which models find the same images alike as a brain does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from brainalign.analysis import rsa_figures, rsa_words
from brainalign.analysis.base import Analysis, Table
from brainalign.analysis.reopened import RunOptions, reopen
from brainalign.analysis.rsa_inference import LabelTest, assess, label_test
from brainalign.analysis.rsa_layers import LayerModel, layer_models
from brainalign.analysis.rsa_results import Compared, Timed, rows_of, timed_rows
from brainalign.analysis.rsa_sources import Gathered, Published, Wanted, of_run, published, recorded
from brainalign.cache import default_cache_dir
from brainalign.datasets.registry import open_dataset
from brainalign.device import resolve_device
from brainalign.errors import InputError
from brainalign.execution.progress import Reporter, Silent
from brainalign.execution.session import Session
from brainalign.options import parse_options

WINDOW_RESAMPLES = 200  # intervals over windows of time are drawn, not tested


class Options(RunOptions):
    """Settings of the representational similarity analysis."""

    dataset: str = Field("", description="Data set to compare with, instead of runs.")
    backbone: list[str] = Field(default=[], description="Model; may be repeated. Of runs: their own by default.")
    layers: str = Field("all", description="all, blocks, or a list: 0,3,head; 3-7; 0.5")
    pooling: str = Field("mean", description="cls, mean, gridN; a list.")
    weights: Literal["pretrained", "random"] = Field("pretrained", description="pretrained, or random: a control.")
    region: list[str] = Field(default=[], description="Region; may be repeated. All by default.")
    subject: list[str] = Field(default=[], description="Subject of --dataset; may be repeated. All by default.")
    images: Literal["validation", "training"] = Field(
        "validation", description="Of recordings: validation or training images; test images stay sealed."
    )
    split: int = Field(0, ge=0, description="Of recordings: the split whose images are taken; a run has its own.")
    n_stimuli: int = Field(200, ge=8, description="Of recordings: at most so many images, drawn with the seed.")
    measure: Literal["spearman", "kendall", "pearson", "cosine"] = Field(
        "spearman", description="spearman, kendall (tau-a), pearson or cosine."
    )
    layer_distance: Literal["correlation", "euclidean"] = Field(
        "correlation", description="Between features of a layer: correlation or euclidean."
    )
    signal_distance: Literal["auto", "crossnobis", "correlation", "euclidean", "mahalanobis"] = Field(
        "auto", description="auto (crossnobis where images were repeated), correlation, euclidean, mahalanobis."
    )
    window: float = Field(0.1, ge=0, description="Of EEG and MEG: length of the sliding window, s; 0 for none.")
    step: float = Field(0.05, gt=0, description="How far the window moves, s.")
    n_resamples: int = Field(1000, ge=2, description="Of subjects and stimuli, for intervals.")
    n_permutations: int = Field(2000, ge=19, description="Of the labels of stimuli, for p-values.")
    seed: int = Field(0, ge=0, description="Of resamples, permutations and the draw of images.")


def run(paths: Sequence[Path], options: Options, reporter: Reporter | None = None) -> Analysis:
    """Compare dissimilarities of layers with those of brains.

    Parameters
    ----------
    paths : sequence of Path
        Folders of finished runs; empty where `options.dataset` names a data set.
    options : Options
    reporter : Reporter, optional

    Returns
    -------
    Analysis

    Raises
    ------
    InputError
        If neither or both of runs and a data set are given, or something they name cannot be used.
    """
    if bool(paths) == bool(options.dataset):
        problem = "takes runs or a data set, got " + ("both" if paths else "neither")
        raise InputError(problem, where="analyze rsa", hint="give RUN ... or --dataset D --backbone ID")
    poolings = [word.strip() for word in options.pooling.split(",") if word.strip()]
    if not poolings:
        raise InputError("names no pooling", where="--pooling", hint="such as mean or mean,grid4")
    gathered, facts, backbones = _of_runs(paths, options, reporter) if paths else _of_dataset(options, reporter)
    compared: list[Compared] = []
    timed: list[Timed] = []
    for one in gathered:
        models = layer_models(
            one.stimuli,
            backbones,
            layers=options.layers,
            poolings=poolings,
            distance=options.layer_distance,
            cache_dir=default_cache_dir(options.cache),
            device=resolve_device(options.device),
            weights=options.weights,
            reporter=reporter,
        )
        compared += _compare(one, models, options, reporter)
        timed += _over_time(one, models, options, reporter)
    return _analysis(compared, timed, gathered, facts, options)


def _of_dataset(options: Options, reporter: Reporter | None) -> tuple[list[Gathered], dict[str, str], list[str]]:
    if not options.backbone:
        raise InputError(
            "names no model", where="analyze rsa", hint="give --backbone pip:efficientnet-lite0, or others"
        )
    cache = default_cache_dir(options.cache)
    dataset = open_dataset(options.dataset, options.root, cache_dir=cache, **parse_options(options.data_option))
    facts = {"Data set": dataset.name + (" (VIRTUAL)" if dataset.info.virtual else "")}
    if isinstance(dataset, Published):
        return [published(dataset, options.region, options.subject)], facts, options.backbone
    session = Session(dataset, cache, resolve_device(options.device), reporter=reporter or Silent())
    found = recorded(session, options.subject, options.region, _wanted(options, options.split))
    facts |= {"Protocol": session.protocol, "Images": f"{options.images} images of split {options.split}"}
    return found, facts, options.backbone


def _of_runs(
    paths: Sequence[Path], options: Options, reporter: Reporter | None
) -> tuple[list[Gathered], dict[str, str], list[str]]:
    for name in ("region", "subject"):
        if getattr(options, name):
            raise InputError("is of data sets, a run has its own", where=f"--{name}", hint="leave it out")
    runs = reopen(paths, options, "analyze rsa", reporter)
    found = [of_run(one, _wanted(options, one.result.split)) for one in runs]
    own = [band.backbone for one in runs for band in one.targets.bands]
    facts = {
        "Data set": ", ".join(
            dict.fromkeys(r.result.dataset + (" (VIRTUAL)" if r.result.virtual else "") for r in runs)
        ),
        "Runs": ", ".join(f"{one.name} ({one.result.recipe})" for one in runs),
        "Images": f"{options.images} images of each run's split",
    }
    return found, facts, options.backbone or list(dict.fromkeys(own))


def _wanted(options: Options, split: int) -> Wanted:
    o = options
    return Wanted(o.images, split, o.n_stimuli, o.signal_distance, o.window, o.step, o.seed)


def _compare(
    one: Gathered, models: Sequence[LayerModel], options: Options, reporter: Reporter | None
) -> list[Compared]:
    vectors, groups = np.array([model.vector for model in models]), [source.found.vectors for source in one.whole]
    n = len(one.stimuli)
    with (reporter or Silent()).step(f"resampling {n} images and their subjects") as tick:
        scored = assess(
            vectors,
            groups,
            n,
            measure=options.measure,
            n_resamples=options.n_resamples,
            seed=options.seed,
            tick=tick,
        )
    found, shared = [], tuple(models)
    for source, group, assessed in zip(one.whole, groups, scored, strict=True):
        tests: LabelTest = label_test(
            vectors, group, n, measure=options.measure, n_permutations=options.n_permutations, seed=options.seed
        )
        found.append(Compared(source, shared, assessed, tests))
    return found


def _over_time(one: Gathered, models: Sequence[LayerModel], options: Options, reporter: Reporter | None) -> list[Timed]:
    if not one.windows:
        return []
    with (reporter or Silent()).step(f"scoring {len(one.windows)} windows of time") as tick:
        scored = assess(
            np.array([model.vector for model in models]),
            [source.found.vectors for source in one.windows],
            len(one.stimuli),
            measure=options.measure,
            n_resamples=min(options.n_resamples, WINDOW_RESAMPLES),
            seed=options.seed,
            ceilings=False,
            tick=tick,
        )
    return [Timed(source, tuple(models), assessed) for source, assessed in zip(one.windows, scored, strict=True)]


def _analysis(
    compared: Sequence[Compared],
    timed: Sequence[Timed],
    gathered: Sequence[Gathered],
    facts: dict[str, str],
    options: Options,
) -> Analysis:
    tables = [Table("layers", "Similarity by layer", rows_of(compared))]
    ceilings = [one.ceiling_row() for one in compared]
    tables.append(Table("ceilings", "Noise ceilings", ceilings))
    if timed:
        tables.append(Table("time", "Similarity by layer and window of time", timed_rows(timed)))
    virtual = "VIRTUAL" in facts["Data set"]
    return Analysis(
        name="rsa",
        title=f"Representational similarity: {facts['Data set']}",
        virtual=virtual,
        facts=facts | rsa_words.facts(compared, options),
        findings=tuple(rsa_words.findings(compared, timed, options, [note for one in gathered for note in one.notes])),
        figures=rsa_figures.figures(compared, timed, options.measure),
        tables=tuple(tables),
        numbers={
            "measure": options.measure,
            "layers": rows_of(compared),
            "ceilings": ceilings,
            "best": [best.to_dict() for one in compared for best in one.best()],
            "time": timed_rows(timed),
        },
    )
