"""What the representational similarity analysis found, as rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from brainalign.analysis.rsa_inference import Assessed, Estimate, LabelTest
from brainalign.analysis.rsa_layers import LayerModel
from brainalign.analysis.rsa_sources import Source

Curve = tuple[str, str]  # backbone, pooling


@dataclass(frozen=True)
class Best:
    """The layer of a curve that is most like a source.

    Attributes
    ----------
    place : int
        Among all models of the comparison.
    wins : float
        Share of resamples in which it is the best of its curve.
    """

    source: str
    model: LayerModel
    place: int
    estimate: Estimate
    p_corrected: float
    wins: float

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        m = self.model
        named = {
            "source": self.source,
            "backbone": m.backbone,
            "pooling": m.pooling,
            "layer": m.layer,
            "depth": m.depth,
        }
        return {**named, **self.estimate.to_dict(), "p_corrected": self.p_corrected, "best_in_resamples": self.wins}


@dataclass(frozen=True)
class Compared:
    """All layers against one source over all samples."""

    source: Source
    models: tuple[LayerModel, ...]
    assessed: Assessed
    tests: LabelTest

    def curves(self) -> dict[Curve, list[int]]:
        """Places of the models of each backbone and pooling, in model order."""
        found: dict[Curve, list[int]] = {}
        for place, model in enumerate(self.models):
            found.setdefault(model.curve, []).append(place)
        return found

    def best(self) -> list[Best]:
        """The best layer of each curve."""
        found = []
        for places in self.curves().values():
            wins = self.assessed.wins(places)
            at = max(range(len(places)), key=lambda i: self.assessed.scores[places[i]].mean())
            place = places[at]
            p = float(self.tests.p_corrected[place])
            estimate = self.assessed.estimate(place)
            found.append(Best(self.source.name, self.models[place], place, estimate, p, float(wins[at])))
        return found

    def ceiling_row(self) -> dict[str, Any]:
        """Lower and upper noise ceiling, None where a single subject was measured."""
        source, bounds = self.source, self.assessed.bounds()
        row: dict[str, Any] = {
            "source": source.name,
            "subjects": len(source.found.subjects),
            "images": len(source.found.stimulus_ids),
            "distance": source.found.measure,
        }
        for i, name in enumerate(("lower", "upper")):
            bound = bounds[i] if bounds else None
            lo, hi = bound.interval if bound else (None, None)
            row |= {name: bound.mean if bound else None, f"{name}_ci95_lo": lo, f"{name}_ci95_hi": hi}
        return row


@dataclass(frozen=True)
class Timed:
    """All layers against one source in one window of time."""

    source: Source
    models: tuple[LayerModel, ...]
    assessed: Assessed


def rows_of(compared: Sequence[Compared]) -> list[dict[str, Any]]:
    """One row a source and model."""
    rows = []
    for one in compared:
        wins = {
            place: float(share)
            for places in one.curves().values()
            for place, share in zip(places, one.assessed.wins(places), strict=True)
        }
        for place, model in enumerate(one.models):
            p, corrected = float(one.tests.p[place]), float(one.tests.p_corrected[place])
            row = {"source": one.source.name, **_named(model), **_numbers(one.assessed.estimate(place))}
            rows.append(row | {"p": p, "p_corrected": corrected, "best_in_resamples": wins[place]})
    return rows


def timed_rows(timed: Sequence[Timed]) -> list[dict[str, Any]]:
    """One row a source, window and model."""
    rows = []
    for one in timed:
        assert one.source.window is not None
        start, stop = one.source.window
        for place, model in enumerate(one.models):
            estimate = one.assessed.estimate(place)
            lo, hi = estimate.interval
            row = {"source": one.source.name, "start_s": start, "stop_s": stop, **_named(model)}
            rows.append(row | {"similarity": estimate.mean, "ci95_lo": lo, "ci95_hi": hi})
    return rows


def _named(model: LayerModel) -> dict[str, Any]:
    return {"backbone": model.backbone, "pooling": model.pooling, "layer": model.layer, "depth": round(model.depth, 4)}


def _numbers(estimate: Estimate) -> dict[str, Any]:
    row: dict[str, Any] = {"similarity": estimate.mean}
    named = {"both": estimate.over_both, "subjects": estimate.over_subjects, "stimuli": estimate.over_stimuli}
    for name, ends in named.items():
        lo, hi = ends or (None, None)
        row |= {f"ci95_{name}_lo": lo, f"ci95_{name}_hi": hi}
    return row
