"""Generated signals of the test images against recorded ones: by channel, by time, by region, and in one figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import InputError
from brainalign.evaluation.ceilings_of import Ceilings, ceilings_of
from brainalign.evaluation.encoding import median_correlation
from brainalign.evaluation.noise_ceiling import correlation, covariance, noise_corrected
from brainalign.recordings import Recording
from brainalign.recordings.selection import select_signals
from brainalign.tasks.trained import Recorded, TrainedRun

Array = NDArray[np.float64]
NO_REPEATS = "the test images have no single trials that were repeated: correlations are not corrected for noise"


@dataclass(frozen=True)
class EncodingScore:
    """Scores of generated signals.

    Attributes
    ----------
    summary : dict
        Medians with intervals and shuffled control; JSON values.
    rows : list of dict
        One a channel and sample.
    """

    summary: dict[str, Any]
    rows: list[dict[str, Any]]


def score_encoding(run: TrainedRun, expected: Array, recorded: Recorded) -> EncodingScore:
    """Compare generated with recorded test signals.

    Parameters
    ----------
    expected : array of shape (n_images, n_chans, n_times)
        Recording units.
    recorded : Recorded
        The test set, in the same order.
    """
    recording = _selected(run)
    asked = run.aligner.recipe.evaluation.repetitions
    ceilings = ceilings_of(recording, recorded.stimulus_ids, repetitions=asked)
    r, explained = correlation(expected, recorded.signals), covariance(expected, recorded.signals)
    corrected = None if ceilings is None else noise_corrected(r, ceilings.by_variance)
    regions = _regions(recording)
    rows = _rows(recording, r, explained, ceilings, corrected, regions)
    summary: dict[str, Any] = {
        "n_images": len(expected),
        "repetitions": float(np.mean(recorded.counts)),
        "correlation": _median(expected, recorded.signals, None),
        "noise_corrected": None,
        "reliability": None,
        "by_region": _by_region(r, corrected, regions),
        "by_time": _by_time(recording, r, explained, corrected),
        "note": NO_REPEATS if ceilings is None else None,
    }
    if ceilings is not None:
        summary["reliability"] = {
            "by_variance_median": float(np.median(ceilings.by_variance)),
            "by_halves_median": float(np.median(ceilings.by_halves)),
        }
        try:
            summary["noise_corrected"] = _median(expected, recorded.signals, ceilings.by_variance)
        except InputError as error:
            summary["note"] = str(error)
    return EncodingScore(summary, rows)


def _selected(run: TrainedRun) -> Recording:
    session = run.session
    return select_signals(session.recording(run.result.subject), run.aligner.recipe.signals)


def _median(predicted: Array, recorded: NDArray[Any], reliability: Array | None) -> dict[str, Any]:
    found = asdict(median_correlation(predicted, recorded, reliability))
    return {**found, "ci95": list(found["ci95"])}


def _regions(recording: Recording) -> list[str]:
    table = recording.channels
    if table is None or "region" not in table:
        return ["all"] * recording.n_chans
    return [str(name) for name in table["region"]]


def _rows(
    recording: Recording,
    r: Array,
    explained: Array,
    ceilings: Ceilings | None,
    corrected: Array | None,
    regions: list[str],
) -> list[dict[str, Any]]:
    rows = []
    for c, name in enumerate(recording.ch_names):
        for t, time in enumerate(recording.times):
            row: dict[str, Any] = {"channel": name, "region": regions[c], "time_s": round(float(time), 6)}
            row["pearson"] = round(float(r[c, t]), 6)
            row["explained"] = float(f"{explained[c, t]:.6g}")
            row["reliability"] = None if ceilings is None else round(float(ceilings.by_variance[c, t]), 6)
            row["reliability_by_halves"] = None if ceilings is None else round(float(ceilings.by_halves[c, t]), 6)
            value = float("nan") if corrected is None else float(corrected[c, t])
            row["noise_corrected"] = None if np.isnan(value) else round(value, 6)
            rows.append(row)
    return rows


def _by_region(r: Array, corrected: Array | None, regions: list[str]) -> list[Mapping[str, Any]]:
    labels = np.array(regions)
    return [
        {"region": name, "n_chans": int((labels == name).sum())}
        | _medians(r[labels == name], None if corrected is None else corrected[labels == name])
        for name in dict.fromkeys(regions)
    ]


def _by_time(recording: Recording, r: Array, explained: Array, corrected: Array | None) -> list[Mapping[str, Any]]:
    """`mean_explained`: variance of the recorded signals that the generated ones explain, mean over channels."""
    return [
        {"time_s": round(float(time), 6), "mean_explained": float(f"{explained[:, t].mean():.6g}")}
        | _medians(r[:, t], None if corrected is None else corrected[:, t])
        for t, time in enumerate(recording.times)
    ]


def _medians(r: Array, corrected: Array | None) -> dict[str, Any]:
    known = np.empty(0) if corrected is None else corrected[~np.isnan(corrected)]
    return {
        "median_pearson": float(np.median(r)),
        "median_noise_corrected": float(np.median(known)) if known.size else None,
        "n_corrected": int(known.size),
    }
