"""`brainalign encode`: a trained run and images; signals generated, or retrieved among the run's recorded ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.alignment.conversion import DEFAULT_LEVEL, Interval, check_level
from brainalign.errors import InputError, unknown_name
from brainalign.evaluation import bootstrap_interval
from brainalign.evaluation.retrieved import two_way_of_retrieved
from brainalign.stimuli import StimulusSet
from brainalign.tasks.encode import Retrieved, encode_generate, encode_retrieve
from brainalign.tasks.encode_score import score_encoding
from brainalign.tasks.output import check_output, write_arrays, write_rows
from brainalign.tasks.trained import Recorded, TrainedRun

TEST = "test"
WAYS = ("generate", "retrieve")
PARTS = ("train", "validation", "test")
TABLES = (".csv", ".jsonl", ".json")
ROWS_MAX = 2_000_000


def encode_run(
    run: TrainedRun,
    *,
    images: str | Path,
    out: str | Path,
    how: str = "generate",
    level: float = DEFAULT_LEVEL,
    repetitions: int | None = None,
    top: int = 5,
    pool: str = TEST,
    judge: str | None = None,
) -> dict[str, Any]:
    """Encode images, write signals, and score them where something recorded is there to compare with.

    Parameters
    ----------
    images : path-like
        A folder, or `test`: the test images of the run, whose recorded signals are then compared with.
    out : path-like
        `.npz` (generated signals as arrays), `.csv`, `.jsonl` or `.json`.
    how : {'generate', 'retrieve'}
    level
        Of the predictive intervals of generated signals.
    repetitions : int, optional
        Trials in the averages that the intervals are for; where None, those of the recorded test averages, and as many
        as in training for other images.
    top, pool
        How many recorded signals an image, and of which part of the run's split.
    judge : str, optional
        Backbone whose output retrieved images are compared by; the run's own where None.

    Returns
    -------
    dict
        What was done, and scores with intervals, chance and pool size.

    Raises
    ------
    InputError
        If anything given cannot be used, or a contrastive run is to generate; nothing is written then.
    """
    if how not in WAYS:
        raise unknown_name("way to encode", how, WAYS, where="--how")
    if pool not in PARTS:
        raise unknown_name("part", pool, PARTS, where="--pool")
    file = check_output(out, (".npz", *TABLES) if how == "generate" else TABLES)
    check_level(level)
    if repetitions is not None and repetitions < 1:
        raise InputError(f"{repetitions} repetitions", where="--repetitions", hint="1 or more")
    if how == "generate" and not run.generative:
        encode_generate(run.aligner, np.empty((0, 0)))  # says why not, before anything is read
    stimuli = run.stimuli(TEST) if str(images) == TEST else StimulusSet.from_folder(images)
    facts = _facts(run, images, stimuli, how)
    if how == "generate":
        return facts | _generate(run, stimuli, str(images) == TEST, file, facts, level, repetitions)
    return facts | _retrieve(run, stimuli, file, facts, top, pool, judge)


def _facts(run: TrainedRun, images: str | Path, stimuli: StimulusSet, how: str) -> dict[str, Any]:
    return {
        "schema": "brainalign.encode/1",
        "how": how,
        "run": str(run.folder),
        "recipe": run.result.recipe,
        "config_hash": run.result.config_hash,
        "layers": run.layers,
        "dataset": run.result.dataset,
        "subject": run.result.subject,
        "virtual": run.result.virtual,
        "notes": run.result.always_said,
        "images": str(images),
        "n_images": len(stimuli),
    }


def _generate(
    run: TrainedRun,
    stimuli: StimulusSet,
    tested: bool,
    file: Path,
    facts: dict[str, Any],
    level: float,
    repetitions: int | None,
) -> dict[str, Any]:
    n_values = len(stimuli) * run.aligner.facts["n_chans"] * run.aligner.facts["n_times"]
    if file.suffix.lower() != ".npz" and n_values > ROWS_MAX:
        raise InputError(f"would have {n_values} rows", where=file, hint="write arrays: --out FILE.npz")
    features = run.features(stimuli)
    recorded = run.recorded(TEST) if tested else None
    if recorded is not None and recorded.stimulus_ids != stimuli.ids:
        raise InputError("recorded and generated test images differ", where=run.folder, hint="train again")
    counts, words = _interval_counts(run.aligner, repetitions, recorded)
    made = encode_generate(run.aligner, features, level=level, repetitions=counts)
    more: dict[str, Any] = {"level": level, "repetitions": counts, "intervals_are_for": words}
    more |= {"scores": None, "test_reads": None}
    if recorded is not None:
        score = score_encoding(run, made.expected.astype(np.float64), recorded)
        inside = (recorded.signals >= made.low) & (recorded.signals <= made.high)
        more["scores"] = {**score.summary, "inside_interval": float(inside.mean())}
        more["test_reads"] = run.result.test_reads + 1
        write_rows(file.with_name(f"{file.stem}.scores.csv"), score.rows, {**facts, **more})
    if file.suffix.lower() == ".npz":
        write_arrays(file, _arrays(run, stimuli, made), {**facts, **more})
    else:
        write_rows(file, _long(run, stimuli, made), {**facts, **more})
    return more


def _interval_counts(aligner: Any, asked: int | None, recorded: Recorded | None) -> tuple[int | list[int] | None, str]:
    """Trials in the averages that intervals are for (of all images, of each, or None for as in training), in words."""
    as_trained = f"averages of as many trials as in training ({aligner.facts['training_repetitions']:.3g})"
    if aligner.trial_noise is None:
        return None, f"{as_trained}, the noise of single trials not being known"
    if asked is not None:
        return asked, "single trials" if asked == 1 else f"averages of {asked} trials"
    if recorded is None:
        return None, as_trained
    counts = [int(count) for count in recorded.counts]
    fewest, most = min(counts), max(counts)
    if fewest == most:
        return fewest, f"{'single trials' if most == 1 else f'averages of {most} trials'}, as recorded"
    return counts, f"averages of {fewest} to {most} trials, of each image as recorded"


def _times(run: TrainedRun) -> NDArray[np.float64]:
    known = run.aligner.facts
    times: NDArray[np.float64] = known["tmin"] + np.arange(known["n_times"]) / (known["sfreq"] or 1.0)
    return times


def _arrays(run: TrainedRun, stimuli: StimulusSet, made: Interval) -> dict[str, NDArray[Any]]:
    return {
        "expected": made.expected.astype(np.float32),
        "low": made.low.astype(np.float32),
        "high": made.high.astype(np.float32),
        "images": np.array(stimuli.ids, dtype=np.str_),
        "ch_names": np.array(run.aligner.facts["ch_names"], dtype=np.str_),
        "times": _times(run),
    }


def _long(run: TrainedRun, stimuli: StimulusSet, made: Interval) -> list[dict[str, Any]]:
    rows = []
    for i, image in enumerate(stimuli.ids):
        for c, channel in enumerate(run.aligner.facts["ch_names"]):
            for t, time in enumerate(_times(run)):
                values = (float(f"{part[i, c, t]:.6g}") for part in (made.expected, made.low, made.high))
                expected, low, high = values
                row = {"image": image, "channel": channel, "time_s": round(float(time), 6)}
                rows.append({**row, "expected": expected, "low": low, "high": high})
    return rows


def _retrieve(
    run: TrainedRun, stimuli: StimulusSet, file: Path, facts: dict[str, Any], top: int, pool: str, judge: str | None
) -> dict[str, Any]:
    shown = run.stimuli(pool)
    recorded = run.recorded(pool)
    found = encode_retrieve(
        run.aligner,
        run.features(stimuli),
        recorded.signals,
        top=top,
        background=run.background(),
        repetitions=list(recorded.counts),
    )
    more = {
        "pool": f"{pool} signals of subject {run.result.subject}",
        "pool_size": len(recorded.signals),
        "top": top,
        "test_reads": run.result.test_reads + 1 if pool == TEST else None,
        "scores": _score(run, stimuli, shown, recorded, found, judge) if len(stimuli) > 1 else None,
    }
    rows = [
        {
            "image": image,
            "rank": rank + 1,
            "signal": int(found.rows[i, rank]),
            "signal_showed": recorded.stimulus_ids[found.rows[i, rank]],
            "score": round(float(found.scores[i, rank]), 6),
        }
        for i, image in enumerate(stimuli.ids)
        for rank in range(found.rows.shape[1])
    ]
    write_rows(file, rows, {**facts, **more})
    return more


def _score(
    run: TrainedRun, stimuli: StimulusSet, shown: StimulusSet, recorded: Recorded, found: Retrieved, judge: str | None
) -> dict[str, Any]:
    """Two-way identification between the image asked for and the images of the retrieved signals."""
    name, asked = run.judge(stimuli, judge)
    _, pool = run.judge(shown, judge)
    of_signals = pool[shown.rows(recorded.stimulus_ids)]
    values = two_way_of_retrieved(asked, of_signals[found.rows])
    rng = np.random.default_rng(0)
    dealt = found.rows[rng.permutation(len(found.rows))]  # what the retrieved signals of another image would score
    interval = bootstrap_interval(values, bounds=(0.0, 1.0), n_resamples=2000)
    seen = _in_pool(stimuli.image_ids, shown.image_ids)
    return {
        "two_way": interval.estimate,
        "two_way_ci95": interval.as_list(),
        "chance": 0.5,
        "shuffled": float(two_way_of_retrieved(asked, of_signals[dealt]).mean()),
        "compared_by": name,
        "images_also_in_pool": seen,
    }


def _in_pool(images: Sequence[str], pool: Sequence[str]) -> int:
    return len(set(images) & set(pool))
