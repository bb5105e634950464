"""`brainalign analyze scaling`: scores of backbones over the logarithm of their number of parameters.

Shallow Alignment (arXiv 2601.21948) reports Pearson's r between test top-1 and ln(parameters): high for the best layer,
none for the final one. There the best layer was chosen on the test set; here on validation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from brainalign.analysis import words
from brainalign.analysis.base import Analysis, Figure, Finding, Look, Table
from brainalign.analysis.base import Options as BaseOptions
from brainalign.analysis.parameters import Size, find_size, parse_sizes
from brainalign.analysis.pooling import Pooled, Queries, pool_queries
from brainalign.analysis.regression import POINTS_MIN, Line, fit_line
from brainalign.analysis.sweeps import SweepRow, Sweeps, best_on_validation, read_sweeps
from brainalign.errors import InputError
from brainalign.execution.progress import Reporter, Silent

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Options(BaseOptions):
    """Settings of the scaling analysis."""

    parameters: list[str] = Field(
        default=[], description="backbone=NUMBER (86.6M), where the number cannot be found; may be repeated."
    )


@dataclass(frozen=True)
class Model:
    """One backbone.

    Attributes
    ----------
    layers : tuple of str
        Layer chosen on validation in each condition.
    chosen : Pooled
        Test top-1 of these.
    final : Pooled or None
        Test top-1 of layer `final`; None where it was not run in every condition.
    """

    backbone: str
    size: Size
    layers: tuple[str, ...]
    chosen: Pooled
    final: Pooled | None


def run(paths: Sequence[Path], options: Options, reporter: Reporter | None = None) -> Analysis:
    """Score of each backbone over its size.

    Parameters
    ----------
    paths : sequence of Path
        Folders of sweeps over layers, on the same data set, protocol and budget; one sweep over backbones, or several.
        Of several methods that a sweep compares, the first is taken.
    options : Options
    reporter : Reporter, optional
        Shows how far it is.

    Returns
    -------
    Analysis

    Raises
    ------
    InputError
        If a sweep cannot be read, backbones share no condition, or a number of parameters cannot be found.
    """
    sweeps = read_sweeps(paths).headline
    by_backbone = _comparable(sweeps)
    sizes = parse_sizes(options.parameters, list(by_backbone))
    with (reporter or Silent()).step(f"reading {len(sweeps.rows)} runs of {len(by_backbone)} backbone(s)"):
        models = [
            _model(sweeps.rule, name, rows, sizes.get(name) or find_size(name)) for name, rows in by_backbone.items()
        ]
    models.sort(key=lambda model: (model.size.n_parameters, model.backbone))
    lines = {part: _line(models, part) for part in ("chosen", "final")}
    rows = [_row(model) for model in models]
    return Analysis(
        name="scaling",
        title=f"Scaling: {sweeps.dataset}",
        virtual=sweeps.virtual,
        facts=sweeps.facts,
        findings=(*_findings(models, lines), *_limits(sweeps, models)),
        figures=(_figure(models, lines),),
        tables=(Table("backbones", "Backbones by number of parameters", rows),),
        numbers={
            "backbones": rows,
            "fits": {part: line.to_dict() if line is not None else None for part, line in lines.items()},
        },
    )


def _comparable(sweeps: Sweeps) -> dict[str, list[SweepRow]]:
    """Single-layer rows by backbone, in the conditions that all backbones have."""
    found: dict[str, list[SweepRow]] = {}
    for row in sweeps.rows:
        if row.kind != "mixture":
            found.setdefault(row.backbone, []).append(row)
    if not found:
        raise InputError("holds mixtures of layers only", where=sweeps.paths[0], hint="give sweeps over layers")
    methods = {
        name: {(row.recipe, row.encoder, row.compared, row.extra) for row in rows} for name, rows in found.items()
    }
    first, *others = methods.items()
    for name, kinds in others:
        if kinds != first[1]:
            text = f"{name} and {first[0]} were not aligned by the same recipes, encoders and settings"
            raise InputError(text, hint="give sweeps that differ in the backbone alone")
    shared = set.intersection(*({row.condition for row in rows} for rows in found.values()))
    if not shared:
        raise InputError("the backbones share no subject, split and seed", hint="run them on the same ones")
    return {name: [row for row in rows if row.condition in shared] for name, rows in found.items()}


def _model(rule: str, backbone: str, rows: Sequence[SweepRow], size: Size) -> Model:
    conditions = list(dict.fromkeys(row.condition for row in rows))
    best = [best_on_validation([row for row in rows if row.condition == one], rule) for one in conditions]
    finals = []
    for one in conditions:
        mine = [row for row in rows if row.condition == one and row.layer == "final"]
        finals += [best_on_validation(mine, rule)] if mine else []
    whole = len(finals) == len(conditions)
    return Model(backbone, size, tuple(row.layer for row in best), _pool(best), _pool(finals) if whole else None)


def _pool(rows: Sequence[SweepRow]) -> Pooled:
    return pool_queries([Queries(row.subject, *row.hits) for row in rows], hits=True)


def _points(models: Sequence[Model], part: str) -> list[tuple[Model, Pooled]]:
    return [(model, pooled) for model in models if (pooled := getattr(model, part)) is not None]


def _line(models: Sequence[Model], part: str) -> Line | None:
    """Top-1 over ln(parameters); None with fewer than three backbones, or where sizes or scores are all the same."""
    held = _points(models, part)
    x, y = [math.log(model.size.n_parameters) for model, _ in held], [pooled.mean for _, pooled in held]
    return fit_line(x, y) if len(held) >= POINTS_MIN and len(set(x)) > 1 and len(set(y)) > 1 else None


def _row(model: Model) -> dict[str, Any]:
    final = model.final
    return {
        "backbone": model.backbone,
        "parameters": model.size.n_parameters,
        "parameters are": model.size.origin,
        "chosen layers": words.counted(model.layers),
        "chosen top-1": model.chosen.mean,
        "chosen ci95_lo": model.chosen.lo,
        "chosen ci95_hi": model.chosen.hi,
        "final top-1": final.mean if final else None,
        "final ci95_lo": final.lo if final else None,
        "final ci95_hi": final.hi if final else None,
        "conditions": model.chosen.n_runs,
        "subjects": model.chosen.n_subjects,
    }


def _findings(models: Sequence[Model], lines: dict[str, Line | None]) -> list[Finding]:
    found = []
    for part, what in (("chosen", "best layer, chosen on validation"), ("final", "final layer")):
        held, line = _points(models, part), lines[part]
        if line is None:
            why = f"{len(held)} backbone(s), {POINTS_MIN} are needed"
            why = "all have the same size or score" if len(held) >= POINTS_MIN else why
            found.append(Finding("not measured", f"Correlation with ln(parameters), {what}: not measured, {why}."))
            continue
        sizes = [model.size.n_parameters for model, _ in held]
        ratio = max(sizes) / min(sizes)
        text = (
            f"{what[0].upper()}{what[1:]}: Pearson's r between test top-1 and ln(parameters) is {line.r:.2f} "
            f"({words.ends(line.r_ci95)}, {words.p_value(line.p)}, {line.n} backbones); from the smallest to the "
            f"largest, {ratio:.3g} times its size, the line moves by {words.points(math.log(ratio) * line.slope)}."
        )
        found.append(Finding("finding", text))
    return found


def _limits(sweeps: Sweeps, models: Sequence[Model]) -> list[Finding]:
    texts = [
        f"{len(models)} backbone(s): they differ in training data, objective and architecture, not in size alone; a "
        "correlation over so few does not say that size is the cause.",
        "r, its p-value and the band take every backbone's score as exact; the bars show how exact it is.",
    ]
    listed = {row.condition for row in sweeps.rows}
    used = models[0].chosen.n_runs
    if used < len(listed):
        texts.append(f"{used} of {len(listed)} conditions are used: those that every backbone was run in.")
    return [Finding("limit", text) for text in texts]


def _figure(models: Sequence[Model], lines: dict[str, Line | None]) -> Figure:
    parts = (("chosen", "best layer, by validation"), ("final", "final layer"))
    said = "; ".join(
        f"{m.backbone}, {m.size.n_parameters:,} parameters: {words.percent(m.chosen.mean)}"
        + (f", final {words.percent(m.final.mean)}" if m.final else "")
        for m in models
    )

    def paint(ax: Axes, look: Look) -> None:
        ax.set_xscale("log")
        for number, (part, label) in enumerate(parts):
            _paint(ax, look, _points(models, part), lines[part], label, number)
        _name(ax, look, models)
        _dress(ax, [model.size.n_parameters for model in models])
        look.legend(ax)

    fitted = [part for part, line in lines.items() if line is not None]
    band = " Lines: least squares on ln(parameters), with 95 % bands of the line." if fitted else ""
    return Figure(
        name="scaling",
        title="Score over size of the backbone",
        caption="Test top-1 of each backbone at the layer that validation chose, and at its final layer. Bars: 95 % "
        f"intervals over {models[0].chosen.over}.{band}",
        alt=f"Test top-1 over the number of parameters. {said}.",
        paint=paint,
        rows=_table(models, lines),
        size=(7.2, 4.0),
        wide=True,
    )


def _paint(
    ax: Axes, look: Look, held: Sequence[tuple[Model, Pooled]], line: Line | None, label: str, number: int
) -> None:
    if not held:
        return
    colour, marker = look.series[number], look.markers[number]
    sizes = np.array([model.size.n_parameters for model, _ in held], dtype=np.float64)
    if line is not None:
        x = np.geomspace(sizes.min(), sizes.max(), 60)
        low, high = line.band(np.log(x))
        ax.fill_between(x, 100 * low, 100 * high, color=colour, alpha=0.14, linewidth=0)
        ax.plot(x, 100 * line.at(np.log(x)), color=colour, linewidth=1.2)
        label = f"{label}: r = {line.r:.2f}"
    for size, (_, pooled) in zip(sizes, held, strict=True):
        if pooled.lo is not None and pooled.hi is not None:
            ax.plot([size, size], [100 * pooled.lo, 100 * pooled.hi], color=colour, linewidth=1.2, alpha=0.6)
    ax.plot(sizes, [100 * pooled.mean for _, pooled in held], marker, color=colour, markersize=6, label=label)


def _name(ax: Axes, look: Look, models: Sequence[Model]) -> None:
    """Names over the points; where sizes crowd, one above the other."""
    sizes = np.log([model.size.n_parameters for model in models])
    crowded = 0.3 * max(float(np.ptp(sizes)), 0.5)
    level, height = 0, 0.0
    for place, model in enumerate(models):
        top = max(100 * (p.hi if p.hi is not None else p.mean) for p in (model.chosen, model.final) if p is not None)
        level = level + 1 if place and sizes[place] - sizes[place - 1] < crowded else 0
        height = max(height, top) if level else top
        text = look.name(model.backbone.partition(":")[2], 22)
        style: dict[str, Any] = {"ha": "center", "fontsize": 8.5, "color": look.muted}
        at = (model.size.n_parameters, height)
        ax.annotate(text, at, (0, 5 + 11 * level), textcoords="offset points", **style)


def _dress(ax: Axes, sizes: Sequence[int]) -> None:
    from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

    ratio = max(sizes) / min(sizes)
    room = min(2.5, max(1.2, ratio**0.25))
    low, high = min(sizes) / room, max(sizes) * room
    steps = (1, 2, 5) if ratio > 8 else range(1, 10)
    ticks = [m * 10**e for e in range(3, 13) for m in steps if low <= m * 10**e <= high]
    ticks = [t for t in ticks if str(t)[0] == "1"] if len(ticks) > 8 else ticks
    ax.xaxis.set_major_locator(FixedLocator([float(t) for t in ticks]))
    ax.set_xticklabels([_short(t) for t in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlim(low, high)
    bottom, top = ax.get_ylim()
    ax.set_ylim(max(0.0, min(bottom, 0.0)), min(top + 0.15 * (top - bottom), 118.0))
    ax.set_xlabel("parameters of the backbone (logarithmic)")
    ax.set_ylabel("test top-1 (%)")


def _short(count: int) -> str:
    for step, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if count >= step:
            return f"{count / step:g} {unit}"
    return str(count)


def _table(models: Sequence[Model], lines: dict[str, Line | None]) -> list[dict[str, Any]]:
    rows = []
    for part, line in lines.items():
        for model, pooled in _points(models, part):
            x = math.log(model.size.n_parameters)
            ends: list[float | None] = [None, None, None]
            if line is not None:
                ends = [float(line.at(x)), *(float(end) for end in line.band(x))]
            row = {"layer": part, "backbone": model.backbone, "parameters": model.size.n_parameters, "ln_parameters": x}
            row |= pooled.to_dict()
            rows.append(row | dict(zip(("line", "band_lo", "band_hi"), ends, strict=True)))
    return rows
