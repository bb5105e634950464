"""One run: fit every candidate, choose on validation, freeze, open the test set once, score."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.alignment import AnyTargets
from brainalign.alignment.calibration import calibrated_band, calibration_error
from brainalign.alignment.checkpoint import load_tensors, save_tensors
from brainalign.alignment.families import build_aligner, load_aligner
from brainalign.alignment.training import State
from brainalign.evaluation import evaluate_retrieval
from brainalign.evaluation.result import Result, environment
from brainalign.execution.fitting import Fitted
from brainalign.execution.job import Job
from brainalign.execution.rundir import RunDirectory
from brainalign.execution.session import Session
from brainalign.execution.weights import check_weights, weights_of
from brainalign.features.aliases import resolve_alias
from brainalign.protocols import lint_settings
from brainalign.recipes import Recipe, save_recipe
from brainalign.recipes.recipe import MIXTURE_MARK
from brainalign.recordings.selection import select_signals
from brainalign.report.query_signals import write_query_signals

FIT_FILES = (
    "recipe.yaml", "history.csv", "candidates.csv", "model.safetensors", "epochs.safetensors", "validation.npz",
    "steps.csv", "fit.json",
)  # fmt: skip
log = logging.getLogger("brainalign")
Similarity = np.ndarray[Any, np.dtype[np.float32]]


def save_fit(session: Session, job: Job, fitted: Fitted, directory: RunDirectory) -> None:
    """Freeze the choice: write the model, its history, its stored epochs and every candidate's validation score."""
    candidates = fitted.candidates
    best = candidates[0]
    layer, pooling = best.label
    directory.write_text("recipe.yaml", save_recipe(best.aligner.recipe))
    directory.write_table("history.csv", best.fit.history)
    directory.write_table(
        "candidates.csv", sorted((c.row() for c in candidates), key=lambda r: (r["depth"], r["pooling"]))
    )
    best.aligner.save(directory.path("model.safetensors"))
    stored = {f"{epoch}.{k}": v for epoch, state in best.fit.candidates.items() for k, v in state.items()}
    save_tensors(directory.path("epochs.safetensors"), stored, {"epochs": sorted(best.fit.candidates)})
    if best.fit.steps:
        directory.write_table("steps.csv", best.fit.steps)
    held = session.validation_data(job.subject, job.split, job.recipe.signals)
    images = {"image": best.targets.of(held.gallery_ids), **_texts(session, job, best.aligner, held.gallery_ids)}
    similarity = best.aligner.similarity(held.signals, images)
    write_similarity(directory, "validation.npz", similarity, held.query_ids, held.gallery_ids)
    scores = evaluate_retrieval(
        similarity,
        held.query_ids,
        held.gallery_ids,
        repetitions=held.repetitions,
        seed=job.seed,
        n_resamples=job.recipe.evaluation.n_resamples,
        n_permutations=job.recipe.evaluation.n_permutations,
    )
    directory.write_json(
        "fit.json",
        {
            "schema": "brainalign.fit/1",
            "config_hash": job.config_hash(session),
            "epoch": best.epoch,
            "layer": layer,
            "layers": [band.layer for band in best.targets.bands],
            "layer_weights": best.aligner.layer_weights,
            "cell_weights": getattr(best.aligner, "cell_weights", None),
            "settings": best.settings,
            "pooling": pooling,
            "weights": weights_of(best.targets),
            "depth": best.depth,
            "selection": best.row(),
            "validation": scores.to_dict(),
            "features_s": round(session.features_seconds, 3),
            "train_s": round(fitted.seconds, 3),
        },
    )


def score_job(session: Session, job: Job, directory: RunDirectory, *, control: bool = True) -> Result:
    """Open the test set and score the frozen choice, the stored epochs beside it.

    Parameters
    ----------
    control : bool
        Also train the same settings on shuffled pairs and score them: what the whole pipeline gives without a signal.
    """
    began = time.perf_counter()
    facts = directory.read_json("fit.json")
    aligner = load_aligner(directory.path("model.safetensors"), device=session.device)
    target = session.targets(job.subject, aligner.recipe.target)[facts["layer"], facts["pooling"]]
    check_weights(directory.root, weights_of(target))
    shuffled = _shuffled_control(session, job, aligner.recipe, (facts["layer"], facts["pooling"])) if control else None
    data = session.test_data(job.subject, job.split, aligner.recipe)
    images = {"image": _gallery(session, job, target, data.gallery_ids)}
    images |= _texts(session, job, aligner, data.gallery_ids)
    similarity = aligner.similarity(data.signals, images, repetitions=data.counts)
    scores = evaluate_retrieval(
        similarity,
        data.query_ids,
        data.gallery_ids,
        repetitions=data.repetitions,
        seed=job.seed,
        n_resamples=job.recipe.evaluation.n_resamples,
        n_permutations=job.recipe.evaluation.n_permutations,
    )
    epochs = _score_epochs(aligner, directory, data, images)
    control_top1 = None
    if shuffled is not None:
        control_top1 = float(top1_of(shuffled.similarity(data.signals, images, repetitions=data.counts), data))
    write_similarity(directory, "predictions.npz", similarity, data.query_ids, data.gallery_ids)
    if control:  # of the runs that a report shows, not of a sweep's other rows
        seen = select_signals(session.recording(job.subject), aligner.recipe.signals)
        write_query_signals(directory.root, data.signals, seen)
    calibration = None if aligner.has_epochs else _calibration(similarity, data)
    result = build_result(session, job, aligner, facts, scores.to_dict(), epochs, control_top1, calibration, began)
    directory.write_json("result.json", result.model_dump(mode="json"))
    directory.path("epochs.safetensors").unlink(missing_ok=True)
    return result


def _gallery(session: Session, job: Job, target: AnyTargets, ids: Sequence[str]) -> NDArray[np.float32]:
    """Features of the gallery: of the images shown, or the mean over other images of each concept."""
    if job.recipe.evaluation.gallery == "shown":
        return target.of(ids)
    templates = session.templates(job.subject, job.split)
    return np.stack([target.of(templates[name]).mean(axis=0) for name in ids])


def _texts(session: Session, job: Job, aligner: Any, ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Text of the gallery, for a model that ranks by image and text (BraVL)."""
    text = session.texts(job.subject, aligner.recipe) if aligner.recipe.family == "bravl" else None
    return {} if text is None else {"text": text.of(ids)}


def _score_epochs(aligner: Any, directory: RunDirectory, data: Any, images: dict[str, Any]) -> dict[int, float]:
    """Test top-1 of the stored epochs; exploratory, for the inflation gap alone."""
    tensors, facts = load_tensors(directory.path("epochs.safetensors"))
    chosen = load_aligner(directory.path("model.safetensors"), device=str(aligner.device))
    scores = {}
    for epoch in facts["epochs"]:
        prefix = f"{epoch}."
        state: State = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        chosen.load_state(state)
        scores[int(epoch)] = float(top1_of(chosen.similarity(data.signals, images), data))
    return scores


def top1_of(similarity: Similarity, data: Any) -> float:
    """Share of queries of `TestData` whose image comes first."""
    from brainalign.evaluation import top_k_accuracy

    where = {name: column for column, name in enumerate(data.gallery_ids)}
    return float(top_k_accuracy(similarity, np.array([where[q] for q in data.query_ids]), 1))


def _calibration(similarity: Similarity, data: Any) -> dict[str, Any]:
    """Whether log-likelihoods are probabilities: confidence of the first choice against how often it is right."""
    logits = similarity.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    posterior = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = np.array([data.gallery_ids.index(name) for name in data.query_ids])
    confidence, correct = posterior.max(axis=1), posterior.argmax(axis=1) == truth
    shares = posterior[np.arange(len(truth)), truth]
    return {
        "error": calibration_error(confidence, correct),
        "calibrated95": calibrated_band(confidence),
        "log_loss": float(-np.log(np.maximum(shares, 1e-300)).mean()),
    }


def _shuffled_control(session: Session, job: Job, recipe: Recipe, label: tuple[str, str]) -> Any:
    """The same settings trained on images dealt anew to the training and validation signals."""
    split = session.training_split(job.subject, job.split, job.recipe)
    rng = np.random.default_rng([job.seed, 0xC0])
    partner: dict[str, str] = {}
    for ids in (split.train, split.validation):
        partner |= dict(zip(ids, rng.permutation(np.array(ids, dtype=object)), strict=True))
    aligner = build_aligner(recipe, seed=job.seed, device=session.device)
    where = (job.subject, job.split, job.recipe.signals)
    recordings = session.trials(*where) if recipe.training.trials == "single" else session.development(*where)
    # Image and text of a stimulus stay together: only the signals lose theirs.
    features = {name: bank.dealt(partner) for name, bank in session.feature_sets(job.subject, recipe)[label].items()}
    with session.reporter.step("control: the same training on shuffled pairs") as tick:
        aligner.fit(recordings, features, split, noise=session.noise(job.subject, job.split, recipe), progress=tick)
    return aligner


def write_similarity(
    directory: RunDirectory, name: str, similarity: Similarity, queries: Sequence[str], gallery: Sequence[str]
) -> None:
    """Keep similarities with the names of their rows and columns."""
    arrays = {
        "similarity": similarity.astype(np.float32),
        "query_ids": np.array(queries, dtype=np.str_),
        "gallery_ids": np.array(gallery, dtype=np.str_),
    }
    directory.write_arrays(name, arrays)


def _one_model(recipe: Recipe) -> bool:
    """Whether image and text are the two sides of one model."""
    image, text = (resolve_alias(name).partition("?")[0] for name in (recipe.target.backbone, recipe.text.encoder))
    return image == text


def build_result(
    session: Session,
    job: Job,
    aligner: Any,
    facts: dict[str, Any],
    test: dict[str, Any],
    epochs: dict[int, float],
    control_top1: float | None,
    calibration: dict[str, Any] | None,
    began: float,
) -> Result:
    """What `result.json` will hold."""
    recipe, info = aligner.recipe, session.dataset.info
    reads = session.sealed(job.subject, job.split).reads
    facts_of_run = {
        "test_reads": reads,
        "leaves_out": session.leaves_out(job.subject),
        "gallery": recipe.evaluation.gallery,
        "text_apart": recipe.text.prior != "none" and not _one_model(recipe),
    }
    findings = [*session.lint(job.subject, job.split), *lint_settings(facts_of_run)]
    auto = job.recipe.target
    score_s = time.perf_counter() - began
    return Result.model_validate(
        {
            "recipe": recipe.name,
            "profile": recipe.profile,
            "budget": recipe.budget,
            "config_hash": facts["config_hash"],
            "dataset": session.dataset.name,
            "virtual": info.virtual,
            "modality": session.recording(job.subject).modality,
            "protocol": session.protocol,
            "subject": job.subject,
            "split": job.split,
            "seed": job.seed,
            "target": {
                "backbone": MIXTURE_MARK.join(map(resolve_alias, recipe.target.backbones)),
                "layers": facts["layers"],
                "layer_weights": facts["layer_weights"],
                "cell_weights": facts["cell_weights"],
                "depth": facts["depth"],
                "pooling": facts["pooling"],
                "transform": recipe.target.transform,
            },
            "encoder": recipe.encoder.name if recipe.family == "contrastive" else recipe.family,
            "selection": {
                "metric": "validation_loss" if recipe.selection.epoch == "loss" else "last epoch",
                "settings": facts["settings"],
                "split": "validation",
                "epoch": facts["epoch"],
                "layer_chosen_on": f"validation_{recipe.selection.layer}"
                if (auto.layer == "auto" and auto.mixed is None) or auto.pooling == "auto"
                else "given",
            },
            "metrics": {"test": test, "validation": facts["validation"]},
            "shuffled": {"top1": control_top1},
            "calibration": calibration,
            "inflation_gap_top1": max([*epochs.values(), test["top1"]]) - test["top1"],
            "epochs_exploratory": [{"epoch": e, "test_top1": s} for e, s in sorted(epochs.items())],
            "lint": [{"code": f.code, "severity": f.severity, "text": f.text} for f in findings],
            "test_reads": reads,
            "timing": {
                "features_s": facts["features_s"],
                "train_s": facts["train_s"],
                "total_s": round(facts["features_s"] + facts["train_s"] + score_s, 3),
            },
            "environment": environment(session.device),
            "split_fingerprint": session.split(job.subject, job.split).fingerprint,
            "validation_kind": session.split(job.subject, job.split).validation_kind,
            "n_train": len(session.training_split(job.subject, job.split, recipe).train),
            "training_subjects": list(session.training_subjects(job.subject)),
            "language": None
            if recipe.text.prior == "none"
            else {"prior": recipe.text.prior, "encoder": recipe.text.encoder},
            "data": {"licence": info.licence, "citation": info.citation, "url": info.url},
        }
    )
