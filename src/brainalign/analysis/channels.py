"""`brainalign analyze channels`: which channels know the image, which ones a model reads, and which ones it needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from brainalign.analysis.base import Analysis, Table
from brainalign.analysis.channels_attribution import Attributed, measure_attribution
from brainalign.analysis.channels_data import Material, gather
from brainalign.analysis.channels_encoding import Encoding, measure_encoding
from brainalign.analysis.channels_figures import figures
from brainalign.analysis.channels_findings import channels_text, findings
from brainalign.analysis.channels_knockout import Knockouts, measure_knockouts
from brainalign.analysis.channels_pattern import Patterns, measure_patterns
from brainalign.analysis.channels_tables import channel_rows, convergence_rows, document, region_rows
from brainalign.analysis.reopened import RunOptions, count_reads, facts_of, reopen
from brainalign.analysis.sweeps import best_on_validation, read_sweeps
from brainalign.analysis.time_scores import chance_of
from brainalign.execution.progress import Reporter, Silent


class Options(RunOptions):
    """Settings of the channels analysis."""

    images: Literal["validation", "test"] = Field(
        "validation", description="validation, or test: opened once more for this page, exploratory."
    )
    attribution: Literal["ig", "deeplift", "none"] = Field(
        "ig", description="ig (integrated gradients), deeplift, or none; of contrastive runs."
    )
    metric: Literal["top1", "top5", "two_way"] = Field(
        "two_way", description="top1, top5 or two_way: the score that a knock-out lowers."
    )
    width: float = Field(0.1, gt=0, description="Seconds of the windows of encoding strength over time.")
    components: int = Field(3, ge=1, le=50, description="Components of the latents that have patterns.")
    most: int = Field(1000, ge=0, description="Channels knocked out one by one, at most; beyond, regions only.")
    alpha: float = Field(0.05, gt=0, lt=1, description="Level of the tests, corrected for all channels.")
    permutations: int = Field(1000, ge=99, description="Of predicted signals among images.")
    resamples: int = Field(1000, ge=100, description="Of images, for intervals.")
    seed: int = Field(0, ge=0, description="Of permutations and resamples.")


@dataclass(frozen=True)
class Measured:
    """Everything that was measured of one run; a text says why something was not.

    Attributes
    ----------
    planted : dict or None
        Signal-to-noise ratio by channel name that a virtual subject was given.
    """

    material: Material
    encoding: Encoding
    patterns: Patterns | str
    attributed: Attributed | str
    knockouts: Knockouts | str
    planted: dict[str, float] | None

    @property
    def name(self) -> str:
        """Of the run."""
        return self.material.run.name


def run(paths: Sequence[Path], options: Options, reporter: Reporter | None = None) -> Analysis:
    """Measure the channels of finished runs: encoding strength, Haufe patterns, attributions, knock-outs.

    Parameters
    ----------
    paths : sequence of Path
        Folders of finished runs or sweeps; of a sweep the run that was chosen in each condition, of several methods
        that are compared the first one's.
    options : Options
    reporter : Reporter, optional

    Returns
    -------
    Analysis

    Raises
    ------
    InputError
        If a folder or its data cannot be used, too few images are held out, or captum is missing.
    """
    runs = reopen(_runs_of(paths), options, "analyze channels", reporter)
    measured = []
    for one in runs:
        with (reporter or Silent()).step(f"{one.name}: reading signals") as tick:
            material = gather(one, options.images)
            tick(1, 1)
        measured.append(_measure(material, options, reporter or Silent()))
    reads = count_reads(runs)
    facts = facts_of(runs) | {
        "Images": ", ".join(dict.fromkeys(f"{one.encoding.n_images} {options.images} images" for one in measured)),
        "Channels": ", ".join(dict.fromkeys(channels_text(one.material) for one in measured)),
        "Repetitions averaged": ", ".join(dict.fromkeys(str(one.material.held.repetitions) for one in measured)),
        "Test set opened": f"{reads} time(s) again for this page; exploratory" if reads else "not for this page",
    }
    several = len(measured) > 1
    tables = [Table("channels", "Channels", [row for one in measured for row in channel_rows(one, several)])]
    regions = [row for one in measured for row in region_rows(one, several)]
    if regions:
        tables.append(Table("regions", "Regions", regions))
    checks = [row for one in measured for row in convergence_rows(one, several)]
    if checks:
        tables.append(Table("convergence", "Convergence of the attributions, image by image", checks))
    return Analysis(
        name="channels",
        title=f"Channels: {', '.join(dict.fromkeys(one.result.dataset for one in runs))}",
        virtual=any(one.result.virtual for one in runs),
        facts=facts,
        findings=findings(measured, options.images, options.alpha),
        figures=figures(measured, options.images, options.alpha),
        tables=tuple(tables),
        numbers={
            "images": options.images,
            "test_reads": reads,
            "no_choice_may_rest_on_this": options.images == "test",
            "alpha": options.alpha,
            "runs": [document(one) for one in measured],
        },
    )


def _runs_of(paths: Sequence[Path]) -> list[Path]:
    """Runs as they are; of a sweep the run that was chosen in each condition, of its first method."""
    folders: list[Path] = []
    for path in paths:
        if not (path / "sweep.json").is_file():
            folders.append(path)
            continue
        sweeps = read_sweeps([path]).headline
        for condition in dict.fromkeys(row.condition for row in sweeps.rows):
            rows = [row for row in sweeps.rows if row.condition == condition]
            folders.append(best_on_validation(rows, sweeps.rule).folder)
    return folders


def _measure(material: Material, options: Options, reporter: Reporter) -> Measured:
    name, dealt = material.run.name, {"n_resamples": options.resamples, "seed": options.seed}
    windows = material.channels.windows(options.width)
    with reporter.step(f"{name}: encoding strength of {len(material.channels.names)} channels") as tick:
        encoding = measure_encoding(
            material, windows, n_permutations=options.permutations, alpha=options.alpha, tick=tick, **dealt
        )
    patterns = measure_patterns(material, options.components, **dealt)
    attributed: Attributed | str = "not asked for (--attribution none)"
    if options.attribution != "none":
        with reporter.step(f"{name}: attributions") as tick:
            attributed = measure_attribution(material, options.attribution, tick=tick, **dealt)
    chance = chance_of(options.metric, len(material.held.gallery_ids))
    with reporter.step(f"{name}: knocking channels out") as tick:
        knockouts = measure_knockouts(material, options.metric, chance, most=options.most, tick=tick, **dealt)
    return Measured(material, encoding, patterns, attributed, knockouts, planted_snr(material, options.images))


def planted_snr(material: Material, images: str) -> dict[str, float] | None:
    """Signal-to-noise ratio of single trials that a virtual subject's channels were given, by name.

    None for measured data, and where the held-out signals are of other subjects than the one that is tested.
    """
    run = material.run
    truth: Any = getattr(run.session.dataset, "truth", None)
    others = images == "validation" and run.session.leaves_out(run.result.subject)
    if not run.result.virtual or not callable(truth) or others:
        return None
    planted = truth(run.result.subject)
    ratios = dict(zip(planted["ch_names"], map(float, planted["snr"]), strict=True))
    return {name: ratios[name] for name in material.channels.names} if "snr" in planted else None
