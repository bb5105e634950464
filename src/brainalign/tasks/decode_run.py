"""`brainalign decode`: a trained run, new signals, any folder of images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import InputError, unknown_name
from brainalign.evaluation import bootstrap_interval, evaluate_retrieval, proportion_interval
from brainalign.evaluation.retrieved import class_top_k_chance, class_top_k_hits, two_way_of_retrieved
from brainalign.report.run_report import score_name
from brainalign.stimuli import StimulusSet
from brainalign.tasks.decode import LEAST_BACKGROUND, NONE_PRIOR, Decoded, decode, rows_of
from brainalign.tasks.decode_page import write_decode_page
from brainalign.tasks.output import check_output, write_rows
from brainalign.tasks.signal_files import FileOptions, read_signals
from brainalign.tasks.signal_format import NewSignals, SignalFormat
from brainalign.tasks.trained import TrainedRun

KINDS = (".csv", ".jsonl", ".json", ".html")


def decode_run(
    run: TrainedRun,
    *,
    signals: str | Path,
    gallery: str | Path,
    out: str | Path,
    top: int = 5,
    options: FileOptions | None = None,
    none_prior: float = NONE_PRIOR,
    repetitions: int | None = None,
    truth: str | Path | None = None,
) -> dict[str, Any]:
    """Decode a file of signals, write the answer, and say what was done.

    Parameters
    ----------
    signals : path-like
        See `brainalign.tasks.signal_files.read_signals`.
    gallery : path-like
        Folder of images; subfolders are classes.
    out : path-like
        `.csv`, `.jsonl`, `.json` or `.html`.
    truth : path-like, optional
        The image of each signal, one name a line: the answer is then scored.

    Returns
    -------
    dict
        Run, gallery, notes, and, with `truth`, scores with intervals and chance.

    Raises
    ------
    InputError
        If anything given cannot be used; nothing is written then.
    """
    file = check_output(out, KINDS)
    wanted = SignalFormat.of(run.aligner.facts, run.result.modality)
    given = read_signals(signals, wanted, run.aligner.signal_transform, options)
    images = StimulusSet.from_folder(gallery)
    shown = None if truth is None else _read_truth(truth, given, images)
    _check_numbers(top, none_prior, repetitions)
    features = run.features(images)
    background, source = _background(run, features)
    found = decode(
        run.aligner,
        given.signals,
        features,
        top=top,
        background=background,
        none_prior=none_prior,
        repetitions=repetitions,
    )
    rows = rows_of(found, given.names, images.ids)
    facts = _facts(run, given, images, found, source, none_prior) | {
        "signals": str(signals),
        "gallery": str(gallery),
        "scores": None if shown is None else _score(run, given, images, features, found, shown, repetitions),
    }
    facts["scores_in_words"] = [] if facts["scores"] is None else words_of(facts["scores"])
    if file.suffix.lower() == ".html":
        write_decode_page(file, rows, images, facts, truth=shown)
    else:
        write_rows(file, rows, facts)
    return facts


def _check_numbers(top: int, none_prior: float, repetitions: int | None) -> None:
    if top < 1:
        raise InputError(f"{top} images asked for", where="--top", hint="1 or more")
    if not 0 < none_prior < 1:
        raise InputError(f"{none_prior} is no probability between 0 and 1", where="--none-prior")
    if repetitions is not None and repetitions < 1:
        raise InputError(f"{repetitions} repetitions", where="--repetitions", hint="1 or more")


def _background(run: TrainedRun, gallery: NDArray[np.float32]) -> tuple[NDArray[np.float32] | None, str]:
    """Features of other images, for 'none of these', and where they come from."""
    if not run.generative:
        return None, ""
    try:
        features = run.background()
    except InputError:
        if len(gallery) < LEAST_BACKGROUND:
            return None, ""
        return gallery, "the gallery itself (the run's data set is not at hand; give --root for its training images)"
    known = features is not None and len(features) >= LEAST_BACKGROUND
    return (features, "the run's training images") if known else (None, "")


def _facts(
    run: TrainedRun, given: NewSignals, images: StimulusSet, found: Decoded, source: str, none_prior: float
) -> dict[str, Any]:
    notes = list(given.notes)
    doubles = len(images) - len(set(images.image_ids))
    if doubles:
        notes.append(f"{doubles} gallery images are byte by byte the same as another one: they share its score")
    if found.none_of_these is not None:
        notes.append(f"'none of these' is measured against {source}; before the signal it has {none_prior:g}")
    elif run.generative:
        text = f"no 'none of these': it needs {LEAST_BACKGROUND} other images (give --root, or a larger gallery)"
        notes.append(f"{text}; probabilities take the image to be in the gallery")
    else:
        text = "scores rank images of one signal"
        notes.append(f"a {run.aligner.recipe.family} run has no probabilities: {text}")
    measured = run.result.calibration
    if measured is not None:
        low, high = measured.calibrated95
        text = f"the run's confidence was off by {measured.error:.3f} on its own test images"
        verdict = "as of a calibrated model" if measured.error <= high else "take probabilities as ranks with a scale"
        notes.append(f"{text} (a calibrated model: {low:.3f} to {high:.3f}): {verdict}")
    if run.result.virtual:
        notes.append("the run was trained on virtual data")
    notes += run.result.always_said
    return {
        "schema": "brainalign.decode/1",
        "run": str(run.folder),
        "recipe": run.result.recipe,
        "family": run.aligner.recipe.family,
        "score_is": score_name(run.result),
        "config_hash": run.result.config_hash,
        "layers": run.layers,
        "dataset": run.result.dataset,
        "subject": run.result.subject,
        "virtual": run.result.virtual,
        "n_signals": len(given.names),
        "n_gallery": len(images),
        "none_prior": none_prior if found.none_of_these is not None else None,
        "notes": notes,
    }


def _read_truth(path: str | Path, given: NewSignals, images: StimulusSet) -> tuple[str, ...]:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("cannot be read as text", where=path, hint="give one image name a line") from error
    names = [line.strip() for line in lines if line.strip()]
    if len(names) != len(given.names):
        raise InputError(f"names {len(names)} images for {len(given.names)} signals", where=path)
    if len(images) < 2:
        raise InputError("the gallery holds one image", where=path, hint="a score needs 2 or more to choose from")
    known = {name: name for name in images.ids} | {
        str(file): name for file, name in zip(images.table["path"], images.ids, strict=True)
    }
    missing = [name for name in names if name not in known]
    if missing:
        raise unknown_name("gallery image", missing[0], known, where=path)
    return tuple(known[name] for name in names)


def _score(
    run: TrainedRun,
    given: NewSignals,
    images: StimulusSet,
    features: NDArray[np.float32],
    found: Decoded,
    truth: Sequence[str],
    repetitions: int | None,
) -> dict[str, Any]:
    """Image and class scores, each with interval and chance."""
    similarity = run.aligner.similarity(given.signals, {"image": features}, repetitions=repetitions)
    scores = evaluate_retrieval(similarity, truth, images.ids, repetitions=repetitions or 1, n_resamples=2000)
    document: dict[str, Any] = dataclasses.asdict(scores)
    name, judged = run.judge(images)
    where = images.rows(truth)
    if len(truth) > 1:
        pairs = two_way_of_retrieved(judged[where], judged[found.columns[:, 0]])
        interval = bootstrap_interval(pairs, bounds=(0.0, 1.0), n_resamples=2000)
        document["two_way_retrieved"] = interval.estimate
        document |= {"two_way_retrieved_ci95": interval.as_list(), "two_way_retrieved_by": name}
    if images.has_concepts:
        classes = images.table["concept"].to_numpy()
        retrieved = [[str(classes[c]) for c in row] for row in found.columns]
        shown = [str(classes[row]) for row in where]
        for k in (1, 5):
            if found.columns.shape[1] >= k:
                hits = proportion_interval(class_top_k_hits(retrieved, shown, k))
                document[f"class_top{k}"] = hits.estimate
                document[f"class_top{k}_ci95"] = hits.as_list()
                document[f"chance_class_top{k}"] = class_top_k_chance(classes.tolist(), shown, k)
    return document


def words_of(scores: dict[str, Any]) -> list[str]:
    """Scores as sentences."""

    def said(name: str, key: str, chance: float) -> str:
        low, high = scores[f"{key}_ci95"]
        shares = f"{100 * scores[key]:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f} %"
        return f"{name}: {shares}, chance {100 * chance:.2g} %)"

    found = [
        said(f"top-1 among {scores['n_way']} images", "top1", scores["chance_top1"]),
        said("top-5", "top5", scores["chance_top5"]),
        said("two-way identification", "two_way", 0.5),
    ]
    for k in (1, 5):
        if f"class_top{k}" in scores:
            found.append(said(f"class top-{k} of retrieved images", f"class_top{k}", scores[f"chance_class_top{k}"]))
    if "two_way_retrieved" in scores:
        name = f"two-way of the first retrieved image, compared by {scores['two_way_retrieved_by']}"
        found.append(said(name, "two_way_retrieved", 0.5))
    return found
