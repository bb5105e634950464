"""`brainalign convert`: signals of one run to signals of another, through images that both models know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.alignment.conversion import DEFAULT_LEVEL, Interval, check_level
from brainalign.errors import InputError, unknown_name
from brainalign.evaluation import count_ranks, evaluate_retrieval
from brainalign.evaluation.retrieved import NORMALISED_MEANS, normalised_conversion
from brainalign.stimuli import StimulusSet
from brainalign.tasks.convert import convert_generate, generative_pair
from brainalign.tasks.meeting import Anchors, Meeting, meet_at_anchors, meet_in_space, share_space
from brainalign.tasks.output import check_output, write_arrays, write_rows
from brainalign.tasks.signal_files import FileOptions, read_signals
from brainalign.tasks.signal_format import SignalFormat
from brainalign.tasks.trained import Recorded, TrainedRun

Array = NDArray[np.float64]
WAYS = ("retrieve", "generate")
TABLES = (".csv", ".jsonl", ".json")


def convert_runs(
    source: TrainedRun,
    target: TrainedRun,
    *,
    out: str | Path,
    how: str = "retrieve",
    signals: str | Path | None = None,
    options: FileOptions | None = None,
    top: int = 5,
    level: float = DEFAULT_LEVEL,
    source_repetitions: int | None = None,
    target_repetitions: int | None = None,
) -> dict[str, Any]:
    """Convert signals of the source's subject to those of the target's, write them, and score where images agree.

    Two sources of one foundation run meet in its space, two other runs at images that both know.

    Parameters
    ----------
    source, target : TrainedRun
    out : path-like
        `.csv`, `.jsonl`, `.json`; `.npz` for generated signals.
    how : {'retrieve', 'generate'}
    signals : path-like, optional
        New signals of the source; the source run's test signals where None.
    top : int
        Retrieved target signals a source signal.
    level : float
        Of the intervals of generated signals.
    source_repetitions, target_repetitions : int, optional
        Trials averaged; as recorded where None, and as in training for new signals.

    Returns
    -------
    dict
        What was done; scores with intervals, chance, pool size and shuffled control, where both runs were tested on
        the same images.

    Raises
    ------
    InputError
        If anything given cannot be used; nothing is written then.
    """
    file = _check(source, target, out, how=how, top=top, level=level)
    given, notes = _new_signals(source, signals, options)
    anchors = None if share_space(source, target) else Anchors.of(source, target)
    recorded, pool = source.recorded("test") if given is None else given, target.recorded("test")
    source_repetitions = source_repetitions or _averaged(recorded)
    target_repetitions = target_repetitions or _averaged(pool)
    counts = source_repetitions, target_repetitions
    if anchors is None:
        meeting = meet_in_space(source, target)
    else:
        meeting = meet_at_anchors(source, target, anchors, how, counts)
    facts = _facts(source, target, how, meeting, len(pool.signals), given is None) | {
        "notes": [*notes, *sorted({*source.result.always_said, *target.result.always_said})],
        "signals": "test signals of the source run" if signals is None else str(signals),
        "scores": _score(source, target, meeting, recorded, pool) if signals is None else None,
    }
    if how == "generate" and anchors is not None:
        made = convert_generate(
            source.aligner,
            target.aligner,
            anchors.source,
            anchors.target,
            recorded.signals,
            level=level,
            source_repetitions=source_repetitions,
            target_repetitions=target_repetitions,
        )
        _write_generated(file, made, recorded, target, {**facts, "level": level})
    else:
        similarity = meeting.score(recorded.signals, pool.signals)
        write_rows(file, _rows(similarity, recorded, pool, top), facts)
    return facts


def _check(source: TrainedRun, target: TrainedRun, out: str | Path, *, how: str, top: int, level: float) -> Path:
    """Refuse what cannot be done before anything is read; the file to write."""
    if how not in WAYS:
        raise unknown_name("way to convert", how, WAYS, where="--how")
    file = check_output(out, (".npz",) if how == "generate" else TABLES)
    check_level(level)
    if top < 1:
        raise InputError(f"{top} signals asked for", where="--top", hint="1 or more")
    if source.folder.resolve() == target.folder.resolve():
        raise InputError("is the source run too", where=target.folder, hint="give a run of another modality or subject")
    if how == "generate":
        generative_pair(source.aligner, target.aligner)
    return file


def _write_generated(file: Path, made: Interval, recorded: Recorded, target: TrainedRun, facts: dict[str, Any]) -> None:
    """Expected target signals with their intervals, (n, channels x samples), and what each row and column is."""
    arrays = {"expected": made.expected, "low": made.low, "high": made.high}
    arrays = {name: values.astype(np.float32) for name, values in arrays.items()}
    names = np.array(recorded.stimulus_ids, dtype=np.str_)
    channels = np.array(target.aligner.facts["ch_names"], dtype=np.str_)
    write_arrays(file, {**arrays, "names": names, "ch_names": channels}, facts)


def _new_signals(
    source: TrainedRun, signals: str | Path | None, options: FileOptions | None
) -> tuple[Recorded | None, tuple[str, ...]]:
    """Signals of a file, if one is given, and what is to be said of them."""
    if signals is None:
        if options is not None and options.given:
            text = "is for new signals, and none are given"
            raise InputError(text, where=f"--{options.given[0]}", hint="give them with --signals, or leave it out")
        return None, ()
    wanted = SignalFormat.of(source.aligner.facts, source.result.modality)
    read = read_signals(signals, wanted, source.aligner.signal_transform, options)
    return Recorded(read.signals, read.names, ()), read.notes


def _averaged(side: Recorded) -> int | None:
    """Trials that every signal averages, where it is known and the same for all."""
    return side.counts[0] if len(set(side.counts)) == 1 else None


def _facts(
    source: TrainedRun, target: TrainedRun, how: str, meeting: Meeting, pool: int, recorded: bool
) -> dict[str, Any]:
    sides = {
        name: {
            "run": str(run.folder),
            "recipe": run.result.recipe,
            "config_hash": run.result.config_hash,
            "dataset": run.result.dataset,
            "modality": run.result.modality,
            "subject": run.result.subject,
            "layers": run.layers,
            "test_reads": run.result.test_reads + (1 if run is target or recorded else 0),
        }
        for name, run in (("source", source), ("target", target))
    }
    return {
        "schema": "brainalign.convert/1",
        "how": how,
        **sides,
        "virtual": source.result.virtual or target.result.virtual,
        "anchors": meeting.words,
        "n_anchors": meeting.n_anchors,
        "pool": f"test signals of subject {target.result.subject}",
        "pool_size": pool,
    }


def _score(
    source: TrainedRun, target: TrainedRun, meeting: Meeting, recorded: Recorded, pool: Recorded
) -> dict[str, Any] | None:
    """Identification of the target signal of the same image, among those of all images that both runs tested on."""
    sides = [(source, recorded), (target, pool)]
    first, second = (_by_image(run.stimuli("test"), side) for run, side in sides)
    common = [image for image in first if image in second]
    if len(common) < 2:
        return None
    a = recorded.signals[[first[image] for image in common]]
    b = pool.signals[[second[image] for image in common]]
    similarity, control = meeting.score(a, b), meeting.control(a, b)
    found = evaluate_retrieval(similarity, common, common, n_resamples=2000, n_permutations=2000)
    shuffled = evaluate_retrieval(control, common, common, n_resamples=100, n_permutations=100)
    own, columns = _own_decoding(target, pool, [second[image] for image in common]), np.arange(len(common))
    two_way = count_ranks(similarity, columns).beaten()
    normalised = normalised_conversion(two_way, own)
    return {
        "n_images": len(common),
        "pool_size": len(common),
        "top1": found.top1,
        "top1_ci95": found.top1_ci95,
        "chance_top1": found.chance_top1,
        "top5": found.top5,
        "top5_ci95": found.top5_ci95,
        "chance_top5": found.chance_top5,
        "two_way": found.two_way,
        "two_way_ci95": found.two_way_ci95,
        "chance_two_way": 0.5,
        "permutation_p": found.permutation_p,
        "target_two_way": float(own.mean()),
        "normalised": normalised.estimate,
        "normalised_ci95": normalised.as_list(),
        "chance_normalised": 0.5 / float(own.mean()),
        "normalised_is": NORMALISED_MEANS,
        "shuffled": {"top1": shuffled.top1, "two_way": shuffled.two_way, "two_way_ci95": shuffled.two_way_ci95},
        "shuffled_is": meeting.control_words,
    }


def _by_image(stimuli: StimulusSet, side: Recorded) -> dict[str, int]:
    """Row of the signal of each image, by the sha256 of its file."""
    names = dict(zip(stimuli.ids, stimuli.image_ids, strict=True))
    return {names[name]: row for row, name in enumerate(side.stimulus_ids)}


def _own_decoding(target: TrainedRun, pool: Recorded, rows: list[int]) -> Array:
    """Two-way share of each image when the target decodes its own signals among the same images."""
    stimuli = target.stimuli("test").select([pool.stimulus_ids[row] for row in rows])
    counts = [pool.counts[row] for row in rows]
    similarity = target.aligner.similarity(
        pool.signals[rows], {"image": target.features(stimuli)}, repetitions=counts if target.generative else None
    )
    return count_ranks(similarity, np.arange(len(rows))).beaten()


def _rows(similarity: Array, recorded: Recorded, pool: Recorded, top: int) -> list[dict[str, Any]]:
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :top]
    return [
        {
            "signal": name,
            "rank": rank + 1,
            "target_signal": int(column),
            "target_showed": pool.stimulus_ids[column],
            "score": round(float(similarity[row, column]), 6),
        }
        for row, name in enumerate(recorded.stimulus_ids)
        for rank, column in enumerate(order[row])
    ]
