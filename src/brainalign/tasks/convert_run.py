"""`brainalign convert`: signals of one run to signals of another, through images that both models know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.alignment.conversion import DEFAULT_LEVEL, Conversion, check_level
from brainalign.errors import InputError, unknown_name
from brainalign.evaluation import count_ranks, evaluate_retrieval
from brainalign.evaluation.retrieved import NORMALISED_MEANS, normalised_conversion
from brainalign.stimuli import StimulusSet
from brainalign.tasks.convert import convert_generate, convert_retrieve, generative_pair
from brainalign.tasks.output import check_output, write_arrays, write_rows
from brainalign.tasks.signal_files import FileOptions, read_signals
from brainalign.tasks.signal_format import SignalFormat
from brainalign.tasks.trained import Recorded, TrainedRun

Array = NDArray[np.float64]
Scorer = Callable[[NDArray[Any], NDArray[Any], NDArray[np.intp]], Array]
WAYS = ("retrieve", "generate")
TABLES = (".csv", ".jsonl", ".json")
ANCHORS_MAX = 1000
FEWEST_ANCHORS = 10


@dataclass(frozen=True)
class Anchors:
    """Images both models know, none of them a test image of either run.

    Attributes
    ----------
    source, target : arrays of shapes (n, dim_1) and (n, dim_2)
        Their features as either model takes them.
    """

    source: NDArray[np.float32]
    target: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.source)


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
    given = _new_signals(source, signals, options)
    anchors = _anchors(source, target)
    recorded, pool = _source_signals(source, given), target.recorded("test")
    source_repetitions = source_repetitions or _averaged(recorded)
    target_repetitions = target_repetitions or _averaged(pool)
    counts = source_repetitions, target_repetitions
    facts = _facts(source, target, how, len(anchors), len(pool.signals)) | {
        "signals": "test signals of the source run" if signals is None else str(signals),
        "scores": _score(source, target, anchors, recorded, pool, how, counts) if signals is None else None,
    }
    if how == "generate":
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
        arrays = {"expected": made.expected, "low": made.low, "high": made.high}
        arrays = {name: values.astype(np.float32) for name, values in arrays.items()}
        names = np.array(recorded.stimulus_ids, dtype=np.str_)
        channels = np.array(target.aligner.facts["ch_names"], dtype=np.str_)
        write_arrays(file, {**arrays, "names": names, "ch_names": channels}, {**facts, "level": level})
    else:
        similarity = _retrieval(source, target, anchors, counts)(
            recorded.signals, pool.signals, np.arange(len(anchors))
        )
        write_rows(file, _rows(similarity, recorded, pool, top), facts)
    return facts


def _new_signals(source: TrainedRun, signals: str | Path | None, options: FileOptions | None) -> Recorded | None:
    if signals is None:
        return None
    wanted = SignalFormat.of(source.aligner.facts, source.result.modality)
    read = read_signals(signals, wanted, source.aligner.signal_transform, options)
    return Recorded(read.signals, read.names, ())


def _averaged(side: Recorded) -> int | None:
    """Trials that every signal averages, where it is known and the same for all."""
    return side.counts[0] if len(set(side.counts)) == 1 else None


def _source_signals(source: TrainedRun, given: Recorded | None) -> Recorded:
    return source.recorded("test") if given is None else given


def _anchors(source: TrainedRun, target: TrainedRun) -> Anchors:
    """Training images of the target that neither run tests on, evenly spaced."""
    stimuli = target.stimuli("train")
    tested = {*target.stimuli("test").image_ids, *source.stimuli("test").image_ids}
    rows = [row for row, image in enumerate(stimuli.image_ids) if image not in tested]
    rows = rows[:: max(1, -(-len(rows) // ANCHORS_MAX))]
    if len(rows) < FEWEST_ANCHORS:
        text = f"{len(rows)} images are left that both models know and neither tests on"
        raise InputError(text, where=target.folder, hint=f"{FEWEST_ANCHORS} or more are needed")
    chosen = stimuli.select([stimuli.ids[row] for row in rows])
    return Anchors(source.features(chosen), target.features(chosen))


def _facts(source: TrainedRun, target: TrainedRun, how: str, n_anchors: int, pool: int) -> dict[str, Any]:
    sides = {
        name: {
            "run": str(run.folder),
            "recipe": run.result.recipe,
            "config_hash": run.result.config_hash,
            "dataset": run.result.dataset,
            "modality": run.result.modality,
            "subject": run.result.subject,
            "layers": run.layers,
            "test_reads": run.result.test_reads + 1,
        }
        for name, run in (("source", source), ("target", target))
    }
    return {
        "schema": "brainalign.convert/1",
        "how": how,
        **sides,
        "virtual": source.result.virtual or target.result.virtual,
        "notes": sorted({*source.result.always_said, *target.result.always_said}),
        "anchors": f"{n_anchors} training images of the target run that neither run tests on",
        "n_anchors": n_anchors,
        "pool": f"test signals of subject {target.result.subject}",
        "pool_size": pool,
    }


def _retrieval(
    source: TrainedRun, target: TrainedRun, anchors: Anchors, counts: tuple[int | None, int | None]
) -> Scorer:
    """Similarity of source and target signals through the anchors, dealt anew to the target in the order given."""
    both = source.generative and target.generative

    def profile(run: TrainedRun, signals: NDArray[Any], images: NDArray[np.float32], repetitions: int | None) -> Array:
        found = run.aligner.similarity(signals, {"image": images}, repetitions=repetitions).astype(np.float64)
        if both:
            found -= np.logaddexp.reduce(found, axis=1, keepdims=True)
        return np.asarray(found, dtype=np.float64)

    def score(sources: NDArray[Any], targets: NDArray[Any], order: NDArray[np.intp]) -> Array:
        a = profile(source, sources, anchors.source, counts[0])
        b = profile(target, targets, anchors.target[order], counts[1])
        return convert_retrieve(a, b, space="posterior" if both else "scores")

    return score


def _generation(
    source: TrainedRun, target: TrainedRun, anchors: Anchors, counts: tuple[int | None, int | None]
) -> Scorer:
    def score(sources: NDArray[Any], targets: NDArray[Any], order: NDArray[np.intp]) -> Array:
        made = Conversion(source.aligner, target.aligner, anchors.source, anchors.target[order])
        return made.gain(sources, targets, source_repetitions=counts[0], target_repetitions=counts[1])

    return score


def _score(
    source: TrainedRun,
    target: TrainedRun,
    anchors: Anchors,
    recorded: Recorded,
    pool: Recorded,
    how: str,
    counts: tuple[int | None, int | None],
) -> dict[str, Any] | None:
    """Identification of the target signal of the same image, among those of all images that both runs tested on."""
    sides = [(source, recorded), (target, pool)]
    first, second = (_by_image(run.stimuli("test"), side) for run, side in sides)
    common = [image for image in first if image in second]
    if len(common) < 2:
        return None
    a = recorded.signals[[first[image] for image in common]]
    b = pool.signals[[second[image] for image in common]]
    score = (_generation if how == "generate" else _retrieval)(source, target, anchors, counts)
    truth = np.arange(len(anchors))
    similarity = score(a, b, truth)
    found = evaluate_retrieval(similarity, common, common, n_resamples=2000, n_permutations=2000)
    control = score(a, b, np.random.default_rng(0).permutation(truth))
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
        "shuffled_is": "the same conversion with the anchor images of the target dealt anew",
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
