"""The numbers of the channels analysis as rows and as JSON values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from brainalign.analysis.channels_attribution import NAMES, TOLERANCE, Attributed
from brainalign.analysis.channels_data import Estimates
from brainalign.analysis.channels_knockout import Knocked, Knockouts
from brainalign.analysis.channels_pattern import Patterns

if TYPE_CHECKING:
    from brainalign.analysis.channels import Measured

Row = dict[str, Any]


def channel_rows(one: Measured, several: bool = False) -> list[Row]:
    """One row a channel with everything that was measured of it; None where something was not."""
    channels, found = one.material.channels, []
    for place, name in enumerate(channels.names):
        row: Row = {"run": one.name} if several else {}
        row |= {"channel": name, "region": channels.label(place)}
        row |= one.encoding.whole.row(place, "encoding_r")
        row |= _cells(one.patterns.explained if isinstance(one.patterns, Patterns) else None, place, "pattern_share")
        attributed = one.attributed if isinstance(one.attributed, Attributed) else None
        row |= _cells(attributed.share if attributed else None, place, "attribution_share")
        row |= _cells(attributed.signed if attributed else None, place, "attribution_signed")
        row |= _drop(_knocked(one, "channels"), place)
        if one.planted is not None:
            row["planted_snr"] = one.planted[name]
        found.append(row)
    return found


def region_rows(one: Measured, several: bool = False) -> list[Row]:
    """One row a region: means over its channels, and the drop when all of it is knocked out."""
    knocked, found = _knocked(one, "regions"), []
    for name, members in one.material.channels.groups.items():
        row: Row = {"run": one.name} if several else {}
        row |= {"region": name, "n_channels": len(members)}
        row |= _region(one.encoding.whole, name, "encoding_r")
        row |= _region(one.patterns.explained if isinstance(one.patterns, Patterns) else None, name, "pattern_share")
        at = knocked.names.index(name) if knocked is not None and name in knocked.names else None
        row |= _drop(knocked if at is not None else None, at or 0)
        found.append(row)
    return found


def convergence_rows(one: Measured, several: bool = False) -> list[Row]:
    """One row an image: what the attributions should add up to, and what they miss."""
    if not isinstance(one.attributed, Attributed):
        return []
    raw, found = one.attributed.raw, []
    for place, name in enumerate(one.material.held.query_ids):
        row: Row = {"run": one.name} if several else {}
        gap = float(raw.answer[place] - raw.baseline[place])
        row |= {
            "image": name,
            "answer": float(raw.answer[place]),
            "answer_of_zero_signal": float(raw.baseline[place]),
            "difference": gap,
            "sum_of_attributions": gap + float(raw.delta[place]),
            "delta": float(raw.delta[place]),
            "delta_percent": 100 * float(raw.relative[place]) if np.isfinite(raw.relative[place]) else None,
            "below_1_percent": bool(raw.relative[place] < TOLERANCE),
            "steps": int(raw.steps[place]),
        }
        found.append(row)
    return found


def document(one: Measured) -> Row:
    """A run as JSON values."""
    patterns, attributed, knockouts = one.patterns, one.attributed, one.knockouts
    encoding = one.encoding
    return {
        "run": one.name,
        "channels": list(one.material.channels.names),
        "modality": one.material.channels.modality,
        "regions": {
            name: [one.material.channels.names[i] for i in members]
            for name, members in one.material.channels.groups.items()
        },
        "n_images": encoding.n_images,
        "encoding": {
            **_estimates(encoding.whole),
            "threshold": encoding.threshold if np.isfinite(encoding.threshold) else None,
            "ridge_penalty": encoding.penalty,
            "windows_s": [list(window.ends) for window in encoding.windows],
            "by_window": encoding.by_window.tolist(),
            "by_window_p_corrected": encoding.p_by_window.tolist(),
        },
        "pattern": patterns
        if isinstance(patterns, str)
        else {
            "latent": patterns.latent,
            "share": _estimates(patterns.explained),
            "n_components": len(patterns.maps),
            "unit": one.material.channels.unit,
            "at_strongest_sample": [_strongest(one, patterns, k) for k in range(len(patterns.maps))],
        },
        "attribution": attributed if isinstance(attributed, str) else _attribution(attributed),
        "knockout": knockouts if isinstance(knockouts, str) else _knockouts(knockouts),
        "planted_snr": None if one.planted is None else list(one.planted.values()),
    }


def _strongest(one: Measured, patterns: Patterns, component: int) -> Row:
    sample, times = patterns.strongest_sample(component, one.material.channels.after), one.material.channels.times
    at = None if times is None else float(times[sample])
    return {"component": component + 1, "time_s": at, "pattern": patterns.maps[component, :, sample].tolist()}


def _attribution(found: Attributed) -> Row:
    finite = found.raw.relative[np.isfinite(found.raw.relative)]
    return {
        "method": NAMES[found.method],
        "note": found.note,
        "share": _estimates(found.share),
        "signed": _estimates(found.signed),
        "delta_overall": found.raw.overall,
        "delta_largest": float(finite.max()) if len(finite) else None,
        "tolerance": TOLERANCE,
        "images_that_miss_it": found.raw.n_missed,
        "most_steps": int(found.raw.steps.max()),
        "share_by_time": found.by_time.tolist(),
    }


def _knockouts(found: Knockouts) -> Row:
    parts = {"channels": found.channels, "regions": found.regions}
    return {
        "metric": found.metric,
        "chance": found.chance,
        "full_above_chance_p": found.above_chance_p,
        **{
            name: None
            if part is None
            else {
                "names": list(part.names),
                "full": part.full,
                "without": part.scores.tolist(),
                "drop": part.drop.difference.tolist(),
                "ci95": [list(ends) for ends in zip(part.drop.lo.tolist(), part.drop.hi.tolist(), strict=True)],
                "p_corrected": part.drop.p.tolist(),
            }
            for name, part in parts.items()
        },
    }


def _estimates(found: Estimates) -> Row:
    return {
        "values": found.values.tolist(),
        "ci95": [list(ends) for ends in zip(found.lo.tolist(), found.hi.tolist(), strict=True)],
        "p_corrected": None if found.p is None else found.p.tolist(),
    }


def _cells(found: Estimates | None, place: int, name: str) -> Row:
    if found is None:
        return dict.fromkeys((name, f"{name}_ci95_lo", f"{name}_ci95_hi"))
    return dict(found.row(place, name))


def _region(found: Estimates | None, region: str, name: str) -> Row:
    values: tuple[float | None, ...] = (None, None, None) if found is None else found.regions[region]
    return dict(zip((name, f"{name}_ci95_lo", f"{name}_ci95_hi"), values, strict=True))


def _knocked(one: Measured, part: str) -> Knocked | None:
    return getattr(one.knockouts, part) if isinstance(one.knockouts, Knockouts) else None


def _drop(found: Knocked | None, place: int) -> Row:
    names = ("knockout_drop", "knockout_drop_ci95_lo", "knockout_drop_ci95_hi", "knockout_drop_p_corrected")
    if found is None:
        return dict.fromkeys(names)
    parts = (found.drop.difference, found.drop.lo, found.drop.hi, found.drop.p)
    return {name: float(part[place]) for name, part in zip(names, parts, strict=True)}
