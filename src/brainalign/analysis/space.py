"""`brainalign analyze space`: maps and numbers of the space that brain signals and images share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from brainalign.analysis import space_figures, words
from brainalign.analysis.base import NOT_MEASURED, Analysis, DataOptions, Finding, Table
from brainalign.analysis.concepts import Labels, find_labels
from brainalign.analysis.embeddings import Embeddings, Opened
from brainalign.analysis.maps import MAPS, available, embed_map
from brainalign.analysis.shared_space import (
    alignment_score,
    class_cohesion,
    hubness,
    modality_gap,
    mutual_neighbours,
)
from brainalign.analysis.space_figures import Measured
from brainalign.analysis.sweeps import SweepRow, best_on_validation, read_sweeps
from brainalign.errors import InputError
from brainalign.execution.progress import Reporter, Silent

REOPENED = (
    "The test set was opened again for these pictures, after the run was scored. No choice may rest on them: no layer, "
    "epoch, pooling or method may be chosen by what they show."
)


class Options(DataOptions):
    """Settings of the space analysis."""

    images: Literal["validation", "test"] = Field(
        "validation", description="validation, or test: a re-opening for pictures, on which no choice may rest."
    )
    map: Literal["both", "tsne", "umap", "none"] = Field(
        "both", description="tsne, umap (extra `maps`), both, or none: numbers alone."
    )
    k: int = Field(10, ge=1, description="Neighbours of the mutual overlap and of the hubs.")
    n_permutations: int = Field(1000, ge=19, description="Of pairs and labels.")
    seed: int = Field(0, ge=0, description="Of maps and permutations.")
    subject: str | None = Field(None, description="Of a sweep: the subject to show; the first one by default.")
    split: int | None = Field(None, description="Of a sweep: the split to show; the first one by default.")
    device: str = Field("auto", description="auto, cpu or cuda.")
    data_option: list[str] = Field(
        default=[], description="Option of a virtual data set or of bids, key=value, as in the run."
    )


def run(paths: Sequence[Path], options: Options, reporter: Reporter | None = None) -> Analysis:
    """Embed the validation (or test) images of a run, or of every layer of a sweep, and measure the space.

    Parameters
    ----------
    paths : sequence of one Path
        Folder of a finished run or sweep.
    options : Options
    reporter : Reporter, optional
        Shows how far it is.

    Returns
    -------
    Analysis

    Raises
    ------
    InputError
        If the folder or its data set cannot be used, the data are not those of the run, or UMAP is asked for and not
        installed.
    """
    if len(paths) != 1:
        raise InputError(f"takes one run or sweep, got {len(paths)}", where="analyze space")
    if options.map == "umap" and not available("umap"):
        raise InputError("umap-learn is not installed", where="--map umap", hint='pip install "brainalign[maps]"')
    rows = _rows_of_sweep(paths[0], options) if (paths[0] / "sweep.json").is_file() else []
    folders = [row.folder for row in rows] or [paths[0]]
    opened = Opened(folders[0], options, options.device, options.data_option, reporter)
    opened.prefetch(folders)
    maps = [name for name in MAPS if options.map in (name, "both") and available(name)]
    measured: list[Measured] = []
    labels: Labels | str = ""
    with (reporter or Silent()).step(f"measuring and mapping {len(folders)} space(s)") as tick:
        for number, folder in enumerate(folders, start=1):
            found = opened.embed(folder, options.images)
            labels = labels or find_labels(opened.stimuli(), list(found.ids))
            measured.append(_measure(found, labels, maps, options))
            tick(number, len(folders))
    return _analysis(paths[0], rows, measured, labels, opened, options)


def _rows_of_sweep(path: Path, options: Options) -> list[SweepRow]:
    """One row a layer, in one condition and the model chosen there: of several poolings the best on validation, of
    several methods that are compared the first.
    """
    sweeps = read_sweeps([path]).headline
    held = [
        row
        for row in sweeps.rows
        if options.subject in (None, row.subject) and (options.split is None or options.split == row.split)
    ]
    if not held:
        asked = f"subject {options.subject}, split {options.split}"
        subjects = ", ".join(sorted({row.subject for row in sweeps.rows}))
        raise InputError(f"holds no run of {asked}", where=path, hint=f"subjects: {subjects}")
    held = [row for row in held if row.condition == held[0].condition]
    model = best_on_validation(held, sweeps.rule).model
    layers: dict[str, list[SweepRow]] = {}
    for row in held:
        if row.model == model:
            layers.setdefault(row.layer, []).append(row)
    return [best_on_validation(rows, sweeps.rule) for rows in layers.values()]


def _measure(found: Embeddings, labels: Labels | str, maps: Sequence[str], options: Options) -> Measured:
    n = len(found.ids)
    if n < 8:
        raise InputError(f"{n} images are too few to measure a space, 8 are needed", where=found.folder)
    k = min(options.k, n - 2)
    codes = labels.codes(found.ids) if isinstance(labels, Labels) else None
    dealt = {"n_permutations": options.n_permutations, "seed": options.seed}
    return Measured(
        embeddings=found,
        k=k,
        alignment=alignment_score(found.brain, found.image),
        mutual=mutual_neighbours(found.brain, found.image, k, **dealt),
        gap=modality_gap(found.brain, found.image),
        hubness=hubness(found.brain, found.image, k),
        brain_cohesion=class_cohesion(found.brain, codes, **dealt) if codes is not None else None,
        image_cohesion=class_cohesion(found.image, codes, **dealt) if codes is not None else None,
        maps={name: embed_map(name, found.both, seed=options.seed) for name in maps},
    )


def _analysis(
    path: Path,
    rows: Sequence[SweepRow],
    measured: Sequence[Measured],
    labels: Labels | str,
    opened: Opened,
    options: Options,
) -> Analysis:
    first = measured[0].embeddings
    result = first.result
    chosen = [place for place, row in enumerate(rows) if row.chosen]
    facts = {
        "Data set": result.dataset + (" (VIRTUAL)" if result.virtual else ""),
        "Subject, split, seed": f"{result.subject}, {result.split}, {result.seed}",
        "Backbone, encoder": f"{result.target.backbone}, {result.encoder}",
        **({"Method": rows[0].method} if rows and rows[0].method else {}),
        "Images": f"{len(first.ids)} {options.images} images",
        "Repetitions averaged": str(first.repetitions),
        "Layers": ", ".join(str(m.embeddings.layer) for m in measured),
        "Test set opened": f"{result.test_reads} time(s) by the run"
        + (f", {opened.test_reads} time(s) again for these pictures" if opened.test_reads else "; not for this page"),
    }
    return Analysis(
        name="space",
        title=f"Shared space: {result.dataset}, subject {result.subject}",
        virtual=result.virtual,
        facts=facts,
        findings=(*_findings(measured, chosen, labels, options), *_limits(measured, options)),
        figures=space_figures.figures(measured, chosen, options.images),
        tables=(Table("numbers", "Numbers of the space", [m.row() for m in measured]),),
        numbers={
            "images": options.images,
            "test_reopened": opened.test_reads,
            "no_choice_may_rest_on_this": options.images == "test",
            "labels": labels.column if isinstance(labels, Labels) else None,
            "labels_missing": labels if isinstance(labels, str) else None,
            "k": measured[0].k,
            "runs": [m.to_dict() for m in measured],
        },
    )


def _findings(
    measured: Sequence[Measured], chosen: Sequence[int], labels: Labels | str, options: Options
) -> list[Finding]:
    kind: Literal["finding", "exploratory"] = "exploratory" if options.images == "test" else "finding"
    shown = [measured[place] for place in chosen] or list(measured[:1])
    found = [Finding(kind, _sentence(m, chosen=bool(chosen))) for m in shown]
    if len(measured) > 1:
        top = max(measured, key=lambda m: m.mutual.score)
        text = (
            f"Of {len(measured)} layers, brain and images share most neighbours at layer {top.embeddings.layer} "
            f"({words.percent(top.mutual.score)} of {top.k}); each layer has a space of its own."
        )
        found.append(Finding(kind, text))
    for m in shown:
        if m.brain_cohesion is None or m.image_cohesion is None or not isinstance(labels, Labels):
            continue
        b, i = m.brain_cohesion, m.image_cohesion
        text = (
            f"Images of one {labels.column} lie closer than others by a cosine of {b.score:.3f} in the brain's "
            f"embeddings ({words.p_value(b.p)}) and of {i.score:.3f} in the images' ({words.p_value(i.p)})."
        )
        found.append(Finding(kind, text))
    if isinstance(labels, str):
        found.append(Finding("not measured", f"Cohesion of kinds: {NOT_MEASURED}, {labels}."))
    if options.map == "both" and not available("umap"):
        text = 'UMAP: not drawn, umap-learn is not installed; pip install "brainalign[maps]".'
        found.append(Finding("not measured", text))
    return found


def _sentence(m: Measured, *, chosen: bool) -> str:
    e = m.embeddings
    null = f"{words.percent(m.mutual.null_mean)} when pairs are dealt anew, {words.p_value(m.mutual.p)}"
    return (
        f"Layer {e.layer} ({e.pooling}{', chosen on validation' if chosen else ''}): true pairs have a cosine "
        f"{m.alignment.estimate:.3f} above other pairs ({words.ends(m.alignment.as_list())}); {m.k} nearest neighbours "
        f"by brain and by image overlap by {words.percent(m.mutual.score)} ({null}); the centroids lie {m.gap:.3f} "
        f"apart; the {m.k}-occurrence of images has skewness {m.hubness:.2f}."
    )


def _limits(measured: Sequence[Measured], options: Options) -> list[Finding]:
    texts = [REOPENED] if options.images == "test" else [
        "Epoch and layer were chosen on these very validation images, so the numbers are somewhat better than on new "
        "images."
    ]  # fmt: skip
    texts.append(
        "On a map only neighbourhoods mean something: distances between far groups, their sizes and the axes do not, "
        "and another seed gives another map. The numbers are computed in the shared space itself."
    )
    if len(measured) > 1:
        texts.append(
            "Every layer was aligned by a model of its own: its space has its own axes, and cosines of different "
            "spaces do not compare exactly."
        )
    worst = max(m.embeddings.difference for m in measured)
    if worst > 0.0005:
        what = "similarities differ from those" if options.images == "test" else "validation top-1 differs from that"
        texts.append(f"The recomputed {what} that the run stored by {worst:.3f} at most.")
    if any(m.k != options.k for m in measured):
        texts.append(f"k was lowered from {options.k} to {measured[0].k}: there are too few images for more.")
    return [Finding("limit", text) for text in texts]
