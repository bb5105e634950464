"""`brainalign stack`: several finished runs on the same images as one, weights fitted on validation."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from brainalign.alignment.calibration import calibrated_band, calibration_error
from brainalign.alignment.stacking import (
    N_FOLDS,
    PRIOR_SD,
    CrossValidated,
    StackedScores,
    cross_validate,
    surprise,
)
from brainalign.errors import InputError
from brainalign.evaluation import evaluate_retrieval
from brainalign.evaluation.result import Result, environment, read_result
from brainalign.execution.reopen import shown_stimuli
from brainalign.execution.rundir import RunDirectory
from brainalign.execution.stack_members import SHARED, Member, Scores, read_members, same_images
from brainalign.files import sha256_json
from brainalign.report.stack_file import FILE, StackFile, StackMember
from brainalign.report.stack_report import write_stack_report

RECIPE = "stacked"
FILES = (FILE, "recipe.yaml", "validation.npz", "predictions.npz", "result.json", "report.html")
N_DRAWS = 2000
KNOWN_TEST = (
    "The test scores of the stacked runs were known when they were stacked: the score counts only if the choice of "
    "runs did not depend on them."
)


def stack_runs(
    run_folders: Sequence[str | Path],
    out: str | Path,
    *,
    prior_sd: float = PRIOR_SD,
    n_folds: int = N_FOLDS,
    root: str | Path | None = None,
    cache: str | Path | None = None,
    report: bool = True,
) -> Result:
    """Stack finished runs of one data set, subject and split; write the folder of a run.

    Weights are fitted on the runs' validation similarities. The test set is not opened: the runs' stored test
    similarities are combined. A stack that is finished already is returned as it is.

    Parameters
    ----------
    run_folders : sequence of path-like
        Two or more.
    out : path-like
        Folder of the stack.
    prior_sd : float
        Of the prior on scaled weights; see `brainalign.alignment.stacking`.
    n_folds : int
        Of the cross-validation behind the validation scores.
    root, cache : path-like, optional
        Where the data set and its cache lie, for the pictures of the report.

    Returns
    -------
    Result
        Its validation scores are cross-validated; `selection.settings` holds the weights.

    Raises
    ------
    InputError
        If there are fewer than two different runs, one is not finished or kept no validation similarities, they differ
        in data, split or images, `root` does not hold their data set, or their scores cannot be stacked. Nothing
        half-written stays behind.
    """
    began = time.perf_counter()
    members = read_members(run_folders)
    directory = RunDirectory(out)
    hashes = [member.result.config_hash for member in members]
    config_hash = sha256_json({"stack": hashes, "prior_sd": float(prior_sd), "n_folds": n_folds})
    state = directory.claim(config_hash)
    one, shows = members[0].result, report and not directory.has("report.html")
    stimuli = shown_stimuli(one.dataset, one.subject, root, cache) if shows else None
    if state != "done":
        stacked = _Stacked.fit(members, prior_sd, n_folds)
        try:
            _write(directory, stacked, config_hash, began)
        except InputError:
            directory.discard(FILES)
            raise
    result = read_result(directory.root)
    if shows:
        write_stack_report(directory.root, stimuli, beside=[m.folder for m in members])
    return result


@dataclass(frozen=True)
class _Stacked:
    members: list[Member]
    weights: StackedScores
    crossed: CrossValidated

    @classmethod
    def fit(cls, members: list[Member], prior_sd: float, n_folds: int) -> _Stacked:
        first = members[0].validation
        scores = [same_images(m.validation, first, m, members[0], "validated") for m in members]
        weights = StackedScores.fit(scores, first.truth, prior_sd=prior_sd)
        return cls(members, weights, cross_validate(scores, first.truth, n_folds=n_folds, prior_sd=prior_sd))

    def validation(self) -> Scores:
        """Every row under weights that did not see its image."""
        first = self.members[0].validation
        return Scores(_below_best(self.crossed.logits), first.query_ids, first.gallery_ids)

    def test(self) -> Scores:
        first = self.members[0].test
        scores = [same_images(m.test, first, m, self.members[0], "tested") for m in self.members]
        return Scores(_below_best(self.weights.combine(scores)), first.query_ids, first.gallery_ids)

    def document(self) -> StackFile:
        facts = zip(self.members, self.weights.weights, self.weights.shares, self.crossed.single_losses, strict=True)
        rows = [
            StackMember(
                name=member.name,
                config_hash=member.result.config_hash,
                recipe=member.result.recipe,
                target=_target(member.result),
                seed=member.result.seed,
                weight=weight,
                share=share,
                validation_loss=loss,
                test_top1=member.result.metrics.test.top1,
            )
            for member, weight, share, loss in facts
        ]
        return StackFile(
            prior_sd=self.weights.prior_sd,
            n_folds=self.crossed.n_folds,
            fitted_loss=self.weights.loss,
            validation_loss=self.crossed.loss,
            members=rows,
        )


def _write(directory: RunDirectory, stacked: _Stacked, config_hash: str, began: float) -> None:
    test, validation, document = stacked.test(), stacked.validation(), stacked.document()
    result = _result(stacked, test, validation, config_hash, began)
    directory.make()
    directory.write_json(FILE, document.model_dump(mode="json"))
    names = [{"name": m.name, "recipe": m.recipe, "target": m.target, "seed": m.seed} for m in document.members]
    settings = {"prior_sd": document.prior_sd, "n_folds": document.n_folds, "members": names}
    directory.write_text("recipe.yaml", yaml.safe_dump({"name": RECIPE, **settings}, sort_keys=False))
    for name, scores in (("validation.npz", validation), ("predictions.npz", test)):
        arrays = {
            "similarity": scores.similarity.astype(np.float32),
            "query_ids": np.array(scores.query_ids, dtype=np.str_),
            "gallery_ids": np.array(scores.gallery_ids, dtype=np.str_),
        }
        directory.write_arrays(name, arrays)
    directory.write_json("result.json", result.model_dump(mode="json"))


def _result(stacked: _Stacked, test: Scores, validation: Scores, config_hash: str, began: float) -> Result:
    results = [member.result for member in stacked.members]
    first = results[0]
    scores = _evaluate(test, first.metrics.test.repetitions)
    facts = first.model_dump(include={*SHARED, "virtual", "validation_kind"}) | {
        "recipe": RECIPE,
        "profile": "",
        "budget": next((r.budget for r in results if r.budget != "full"), "full"),
        "config_hash": config_hash,
        "seed": min(r.seed for r in results),
        "target": _targets(results),
        "encoder": RECIPE,
        "selection": {
            "metric": "validation_loss",
            "settings": {f"weight of {m.name}": w for m, w in zip(stacked.members, stacked.weights.weights)},
            "split": "validation",
            "epoch": None,
            "layer_chosen_on": "_and_".join(dict.fromkeys(r.selection.layer_chosen_on for r in results)),
        },
        "metrics": {"test": scores, "validation": _evaluate(validation, first.metrics.validation.repetitions)},
        "shuffled": {"top1": None},
        "calibration": _calibration(test),
        "inflation_gap_top1": max(scores["top1"], *(r.metrics.test.top1 for r in results)) - scores["top1"],
        "epochs_exploratory": [],
        "lint": _lint(stacked),
        "test_reads": max(r.test_reads for r in results),
        "timing": _timing(results, time.perf_counter() - began),
        "environment": environment("cpu"),
        "n_train": max(r.n_train for r in results),
        "data": first.data.model_dump(),
    }
    return Result.model_validate(facts)


def _targets(results: Sequence[Result]) -> dict[str, Any]:
    """What all members together were aligned with."""
    targets = [r.target for r in results]
    return {
        "backbone": "+".join(dict.fromkeys(t.backbone for t in targets)),
        "layers": list(dict.fromkeys(str(layer) for t in targets for layer in t.layers)),
        "depth": float(np.mean([t.depth for t in targets])),
        "pooling": "+".join(dict.fromkeys(t.pooling for t in targets)),
    }


def _lint(stacked: _Stacked) -> list[dict[str, str]]:
    """The members' findings, each once, and what stacking adds."""
    found = {finding.text: finding.model_dump() for m in stacked.members for finding in m.result.lint}
    notes = [*found.values(), {"code": "test-known-before-stacking", "severity": "note", "text": KNOWN_TEST}]
    loss, singles = stacked.crossed.loss, stacked.crossed.single_losses
    best = int(np.argmin(singles))
    if loss >= singles[best]:
        text = (
            f"On left-out validation queries the stack is no better than {stacked.members[best].name} by itself "
            f"({loss:.3f} and {singles[best]:.3f} nats): validation does not ask for a stack."
        )
        notes.append({"code": "stack-no-better", "severity": "note", "text": text})
    return notes


def _timing(results: Sequence[Result], own: float) -> dict[str, float]:
    """All the members took, and the stacking."""
    total = {key: sum(getattr(r.timing, key) for r in results) for key in ("features_s", "train_s", "total_s")}
    return {key: round(value + (own if key != "features_s" else 0), 3) for key, value in total.items()}


def _evaluate(scores: Scores, repetitions: int) -> dict[str, Any]:
    matrix = scores.similarity.astype(np.float32)  # as it is stored
    found = evaluate_retrieval(
        matrix,
        scores.query_ids,
        scores.gallery_ids,
        repetitions=repetitions,
        n_resamples=N_DRAWS,
        n_permutations=N_DRAWS,
    )
    return found.to_dict()


def _calibration(scores: Scores) -> dict[str, Any]:
    """Whether the stacked scores are probabilities."""
    posterior = np.exp(scores.similarity - np.logaddexp.reduce(scores.similarity, axis=1)[:, None])
    confidence, correct = posterior.max(axis=1), posterior.argmax(axis=1) == scores.truth
    return {
        "error": calibration_error(confidence, correct),
        "calibrated95": calibrated_band(confidence),
        "log_loss": float(surprise(scores.similarity, scores.truth).mean()),
    }


def _target(result: Result) -> str:
    return f"{result.target.backbone} {result.target.words} ({result.target.pooling})"


def _below_best(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Less the best of each row: 32 bits then hold the differences that matter."""
    found: NDArray[np.float64] = logits - logits.max(axis=1, keepdims=True)
    return found
