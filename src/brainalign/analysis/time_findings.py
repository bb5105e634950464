"""What the time analysis says in words and numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from brainalign.analysis import words
from brainalign.analysis.base import Finding
from brainalign.analysis.onset import Difference, Latency
from brainalign.analysis.reopened import Reopened
from brainalign.analysis.time_scores import Curve, Generalised, Scored, Settings
from brainalign.analysis.windows import Window

METRICS = {"top1": "top-1", "top5": "top-5", "two_way": "two-way identification"}
Planted = Mapping[str, Mapping[str, Mapping[str, Any]]]
Differences = Sequence[tuple[Curve, Curve, Difference]]


def planted(runs: Sequence[Reopened]) -> dict[str, dict[str, dict[str, Any]]]:
    """Latencies that a virtual brain was given, by run and pathway; seconds. Empty for measured data."""
    found = {}
    for run in runs:
        truth = getattr(run.session.dataset, "truth", None)
        if run.result.virtual and callable(truth):
            pathways = truth(run.result.subject).get("pathways", {})
            found[run.name] = {
                name: {"latency_s": float(p["latency_s"]), "range_s": [float(t) for t in p["latency_range_s"]]}
                for name, p in pathways.items()
                if "latency_s" in p
            }
    return found


def findings(
    curves: Sequence[Curve],
    grids: Sequence[Generalised],
    differences: Differences,
    truth: Planted,
    settings: Settings,
) -> tuple[Finding, ...]:
    """Onsets, peaks, differences, generalisation, and what they cannot say."""
    kind: Literal["finding", "exploratory"] = "exploratory" if settings.images == "test" else "finding"
    several = len({curve.name for curve in curves}) > 1
    found = []
    for curve in curves:
        name = f"{curve.name}: " if several else ""
        found.append(Finding(kind, name + _sentence(curve, settings)))
    found += [Finding(kind, _planted(name, pathways, curves)) for name, pathways in truth.items() if pathways]
    found += [Finding(kind, _compared(*one)) for one in differences]
    found += [Finding(kind, _generalised(grid, settings)) for grid in grids]
    return (*found, *_limits(curves, settings))


def document(curve: Curve) -> dict[str, Any]:
    """A curve as JSON values."""
    return {
        "run": curve.name,
        "kind": curve.kind,
        "model": curve.model,
        "n_way": curve.n_gallery,
        "n_images": len(set(curve.query_ids)),
        "windows": [list(window.ends) for window in curve.windows],
        **{scored.metric: _document(curve, scored) for scored in (curve.fine, curve.scored)},
    }


def _document(curve: Curve, scored: Scored) -> dict[str, Any]:
    return {
        "scores": scored.corrected.scores.tolist(),
        "ci95": [[i.lo, i.hi] for i in scored.intervals],
        "chance": scored.chance,
        "p_corrected": scored.corrected.p.tolist(),
        "threshold": scored.corrected.threshold if np.isfinite(scored.corrected.threshold) else None,
        "last" if curve.kind == "shrinking" else "onset": _latency(curve, scored.onset),
        "peak": _latency(curve, scored.peak),
    }


def _latency(curve: Curve, latency: Latency) -> dict[str, Any] | None:
    if latency.index is None:
        return None
    window = curve.windows[latency.index]
    ends = None if latency.lo is None or latency.hi is None else [latency.lo, latency.hi]
    return {"at_s": window.at, "window_s": list(window.ends), "ci95_s": ends, "share_of_resamples": latency.found}


def ms(window: Window) -> str:
    """A window in milliseconds."""
    return f"{1000 * window.start:.0f} to {1000 * window.stop:.0f} ms"


def _between(latency: Latency) -> str:
    if latency.lo is None or latency.hi is None:
        return "no interval"
    return f"95 % interval over images {1000 * latency.lo:.0f} to {1000 * latency.hi:.0f} ms"


def _sentence(curve: Curve, settings: Settings) -> str:
    """Onset (or last) and peak of one curve, by the drawn metric and, where that is another one, by two-way."""
    shown = [curve.scored] if curve.scored.metric == curve.fine.metric else [curve.scored, curve.fine]
    said = {"growing": "Growing windows", "shrinking": "Shrinking windows", "sliding": "Sliding windows"}[curve.kind]
    how = "retrained" if curve.model == "retrain" else "ridge maps"
    parts = [_onset(curve, scored) for scored in shown]
    best = curve.scored.peak
    assert best.index is not None
    top = (
        f"Highest {METRICS[curve.scored.metric]}: {words.percent(curve.scored.corrected.scores[best.index])} in "
        f"{ms(curve.windows[best.index])} ({_between(best)}; chance {words.percent(curve.scored.chance)})"
    )
    return f"{said} ({how}): {'; '.join(parts)}. {top}."


def _onset(curve: Curve, scored: Scored) -> str:
    by = f"by {METRICS[scored.metric]}"
    if scored.onset.index is None:
        return f"{by} none stands above chance"
    window = curve.windows[scored.onset.index]
    first = "the last" if curve.kind == "shrinking" else "the first"
    place = "start" if curve.kind == "shrinking" else "end" if curve.kind == "growing" else "middle"
    return (
        f"{by} {first} above chance is {ms(window)} (its {place}: {_between(scored.onset)}; in "
        f"{words.percent(scored.onset.found)} of resamples)"
    )


def _planted(name: str, pathways: Mapping[str, Mapping[str, Any]], curves: Sequence[Curve]) -> str:
    said = "; ".join(
        f"{pathway} {1000 * p['latency_s']:.0f} ms ({1000 * p['range_s'][0]:.0f} to {1000 * p['range_s'][1]:.0f})"
        for pathway, p in pathways.items()
    )
    text = f"{name}: the virtual brain answers with mean latencies (range over its sources) {said}."
    slid = [curve for curve in curves if curve.name == name and curve.kind == "sliding"]
    if not slid:
        return text
    first = min(p["range_s"][0] for p in pathways.values())
    last = max(p["range_s"][1] for p in pathways.values())
    best = slid[0].fine.peak
    assert best.index is not None
    at = slid[0].windows[best.index].at
    inside = "lies inside" if first <= at <= last else "does not lie inside"
    text += f" The best sliding window (two-way) is centred on {1000 * at:.0f} ms and {inside} the planted ranges."
    begun = slid[0].fine.onset
    # Without windows ahead of the stimulus, that nothing answers there was not looked at.
    if begun.index is not None and slid[0].windows[0].stop <= 0:
        window = slid[0].windows[begun.index]
        touches = window.stop > 0
        text += (
            f" The first one above chance, {ms(window)}, {'ends after' if touches else 'lies before'} the stimulus, as "
            f"{'it must' if touches else 'it must not'}."
        )
    return text


def _compared(first: Curve, second: Curve, found: Difference) -> str:
    place = int(np.abs(found.difference).argmax())
    n_sure = int((found.p <= 0.05).sum())
    return (
        f"{first.name} minus {second.name}, {first.kind} windows: furthest from 0 in {ms(first.windows[place])}, "
        f"{words.points(float(found.difference[place]))} "
        f"({words.ends([float(found.lo[place]), float(found.hi[place])], '%')}, corrected "
        f"{words.p_value(float(found.p[place]))}); {n_sure} of {len(found.p)} windows differ at 0.05, corrected."
    )


def _generalised(grid: Generalised, settings: Settings) -> str:
    above = grid.p <= settings.alpha
    off = ~np.eye(len(grid.windows), dtype=bool)
    trained, tested = np.unravel_index(int(np.where(off, grid.scores, -np.inf).argmax()), grid.scores.shape)
    return (
        f"{grid.name}: {int(above.sum())} of {above.size} pairs of training and test windows stand above chance "
        f"({int((above & off).sum())} off the diagonal); the best off it is trained in {ms(grid.windows[trained])} and "
        f"tested in {ms(grid.windows[tested])}, {words.percent(float(grid.scores[trained, tested]))}."
    )


def _limits(curves: Sequence[Curve], settings: Settings) -> list[Finding]:
    texts = []
    if settings.images == "test":
        texts.append(
            "The test set was opened again, once for all windows. All scores here are exploratory: no window, layer, "
            "epoch or method may be chosen by them."
        )
    else:
        texts.append(
            "Epochs were chosen on these very validation images, so retrained scores are somewhat better than on new "
            "images, in windows that hold no signal too; the permutation test does not know of that choice."
        )
    texts += [
        "An onset is no earlier than the window that finds it and no finer than the windows' width and step: a weaker "
        "signal may begin before. Filters of the preprocessing can move a signal ahead of itself.",
        "Intervals of onsets come from resampled images under a fixed threshold; models are not retrained for them.",
    ]
    if any(curve.model == "retrain" for curve in curves):
        texts.append(
            "Each window was trained once, with the run's seed: neighbouring windows differ by chance as well."
        )
    if any(curve.model == "ridge" for curve in curves):
        texts.append("Ridge maps are another model than the run's: their heights do not compare with its score.")
    return [Finding("limit", text) for text in texts]
