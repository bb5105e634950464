"""`brainalign analyze newcomer`: what a trained space is worth to a subject with few images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from brainalign.analysis import words
from brainalign.analysis.base import Analysis, Figure, Finding, Look, Table
from brainalign.analysis.newcomer_curve import WAYS, Point, newcomer_curve
from brainalign.analysis.reopened import RunOptions
from brainalign.errors import InputError
from brainalign.execution.foundation_again import (
    DOCUMENT,
    FoundationRun,
    is_foundation,
    read_document,
    reopen_foundation,
)
from brainalign.execution.progress import Reporter, Silent
from brainalign.options import parse_options

LABELS = {"added": "added to the space by its layer alone", "scratch": "trained from scratch"}
FEWEST = 10


class Options(RunOptions):
    """Settings of the newcomer analysis."""

    dataset: str = Field("", description="Data set of the newcomer, one of the run's; its only one by default.")
    subject: str = Field("", description="The newcomer: a subject that the run was not trained on.")
    images: str = Field("50,100,200,400", description="Numbers of its training images.")
    draws: int = Field(3, ge=1, le=50, description="Random choices of the images at every number.")
    seed: int = Field(0, ge=0, description="Of the choices, the first weights and the batches.")


def run(paths: Sequence[Path], options: Options, reporter: Reporter | None = None) -> Analysis:
    """Add a subject to a foundation run with few images, beside training on the same images from scratch.

    Parameters
    ----------
    paths : sequence of Path
        The folder of one finished foundation run.
    options : Options
    reporter : Reporter, optional

    Returns
    -------
    Analysis

    Raises
    ------
    InputError
        If the folder or its data cannot be used, or the newcomer is missing or no newcomer.
    """
    if len(paths) != 1:
        raise InputError(f"takes one foundation run, got {len(paths)}", where="analyze newcomer")
    if not options.subject:
        hint = "a subject that the run was not trained on"
        raise InputError("names nobody", where="--subject", hint=hint)
    counts = _counts(options.images)
    found = _reopen(paths[0], options, reporter)
    member = found.members[found.newcomer]
    with (reporter or Silent()).step(f"bringing {member.name} into the space, and training it from scratch") as tick:
        curve = newcomer_curve(found, counts, draws=options.draws, seed=options.seed, tick=tick)
    virtual = member.session.dataset.info.virtual
    chance = 1 / len(member.split.gallery)
    return Analysis(
        name="newcomer",
        title=f"A newcomer in a trained space: {member.name}",
        virtual=virtual,
        facts={
            "Run": f"{paths[0].name} ({found.document['recipe']}, layer {found.label[0]}, {found.label[1]})",
            "Trained on": ", ".join(one["name"] for one in found.document["sources"]),
            "Newcomer": f"{member.name}{' (VIRTUAL)' if virtual else ''}, {len(member.split.train)} training images",
            "Chosen on": f"{len(member.split.validation)} validation images of the newcomer (the epoch), both ways",
            "Draws": f"{options.draws} at every number of images, seed {options.seed}",
            "Test": f"{len(member.split.test)} images, opened once for this page",
        },
        findings=(*_findings(curve), *_limits(options)),
        figures=(_figure(curve, chance),),
        tables=(Table("newcomer", "Scores by number of training images", _rows(curve, chance)),),
        numbers={
            "newcomer": member.name,
            "chance_top1": chance,
            "test_reads": member.session.sealed(member.subject, member.split.index).reads,
            "points": [_document(point) for point in curve],
        },
    )


def _reopen(folder: Path, options: Options, reporter: Reporter | None) -> FoundationRun:
    dataset = options.dataset
    if not dataset and is_foundation(folder):
        named = read_document(folder / DOCUMENT)["datasets"]
        if len(named) > 1:
            hint = f"give one of {', '.join(named)}"
            raise InputError("the run has several data sets", where="--dataset", hint=hint)
        dataset = named[0]
    return reopen_foundation(
        folder,
        newcomer=(dataset, options.subject),
        root=options.root,
        device=options.device,
        cache=options.cache,
        reporter=reporter,
        options=parse_options(options.data_option),
    )


def _counts(text: str) -> list[int]:
    parts = [word.strip() for word in text.split(",") if word.strip()]
    if not parts or not all(word.isdecimal() and int(word) >= FEWEST for word in parts):
        hint = f"such as 50,100,200; {FEWEST} or more"
        raise InputError(f"takes whole numbers, got {text!r}", where="--images", hint=hint)
    return sorted({int(word) for word in parts})


def _findings(curve: Sequence[Point]) -> list[Finding]:
    found = []
    for point in curve:
        gap = point.difference
        text = (
            f"With {point.n_images} images: {words.percent(point.added.estimate)} {LABELS['added']}, "
            f"{words.percent(point.scratch.estimate)} {LABELS['scratch']}; {words.points(gap.difference)} "
            f"({words.ends([gap.lo, gap.hi], '%')}, {words.p_value(gap.p)})."
        )
        found.append(Finding("finding", text))
    return found


def _limits(options: Options) -> list[Finding]:
    texts = [
        "Intervals are over test images, at the draws made; p-values are not corrected for the numbers tried.",
        "Layer and pooling are those the run chose on its own subjects. Both ways know the newcomer's validation "
        "images, however few its training images are.",
    ]
    if options.draws == 1:
        texts.append("One draw: how much the choice of images matters is not measured.")
    return [Finding("limit", text) for text in texts]


def _rows(curve: Sequence[Point], chance: float) -> list[dict[str, Any]]:
    return [
        {
            "images": point.n_images,
            "way": LABELS[way],
            "top1": point.of(way).estimate,
            "top1_ci95_lo": point.of(way).lo,
            "top1_ci95_hi": point.of(way).hi,
            "lowest draw": min(point.by_draw[way]),
            "highest draw": max(point.by_draw[way]),
            "chance_top1": chance,
        }
        for point in curve
        for way in WAYS
    ]


def _document(point: Point) -> dict[str, Any]:
    scores = {
        way: {"top1": point.of(way).estimate, "top1_ci95": point.of(way).as_list(), "draws": point.by_draw[way]}
        for way in WAYS
    }
    return {"n_images": point.n_images, **scores, "added_minus_scratch": point.difference.to_dict()}


def _figure(curve: Sequence[Point], chance: float) -> Figure:
    """Both ways over the number of images."""

    def paint(ax: Any, look: Look) -> None:
        images = [point.n_images for point in curve]
        for number, way in enumerate(WAYS):
            scores = [point.of(way) for point in curve]
            colour = look.series[number]
            ax.fill_between(
                images,
                [100 * s.lo for s in scores],
                [100 * s.hi for s in scores],
                color=colour,
                alpha=0.14,
                linewidth=0,
            )
            ax.plot(
                images, [100 * s.estimate for s in scores], marker=look.markers[number], color=colour, label=LABELS[way]
            )
            for point in curve:
                draws = [100 * value for value in point.by_draw[way]]
                ax.plot([point.n_images] * len(draws), draws, ".", color=colour, alpha=0.6, markersize=4)
        ax.axhline(100 * chance, color=look.muted, linewidth=0.9, linestyle=(0, (2, 2)), label="chance")
        ax.set_xscale("log", base=2)
        ax.set_xticks(images, [str(n) for n in images])
        ax.minorticks_off()
        ax.set_ylim(0, None)
        ax.set_xlabel("training images of the newcomer (log scale)")
        ax.set_ylabel("test top-1 (%)")
        look.legend(ax)

    said = "; ".join(
        f"{p.n_images} images: {words.percent(p.added.estimate)} added, {words.percent(p.scratch.estimate)} alone"
        for p in curve
    )
    return Figure(
        name="newcomer-top1",
        title="A newcomer's score over its number of training images",
        caption="Bands: 95 % intervals over test images. Dots: draws of the training images. Grey: chance.",
        alt=f"Test top-1 of a newcomer. {said}.",
        paint=paint,
        rows=_rows(curve, chance),
        size=(6.6, 3.6),
        wide=True,
    )
