"""`brainalign train foundation`: one space for several data sets and subjects, scored subject by subject and across."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from brainalign.alignment import AnyTargets
from brainalign.alignment.checkpoint import save_tensors
from brainalign.alignment.families import load_aligner
from brainalign.alignment.foundation import FoundationAligner
from brainalign.alignment.training import Fit
from brainalign.errors import InputError
from brainalign.evaluation.conversion_matrix import NORMALISED, Samples
from brainalign.evaluation.result import Result
from brainalign.execution.fitting import checkpoint_of, layer_value, selection_key
from brainalign.execution.foundation_conversion import closed_form_matrix, closed_form_models, space_matrix
from brainalign.execution.foundation_scoring import Opened, score_member, stored_epochs, train_control
from brainalign.execution.joint import Member, open_members, plan_hash, union_targets
from brainalign.execution.progress import Reporter, Silent
from brainalign.execution.rundir import RunDirectory
from brainalign.execution.train import logged
from brainalign.execution.weights import weights_of
from brainalign.recipes import Recipe, load_recipe, save_recipe

SCHEMA = "brainalign.foundation-run/1"


def train_foundation(
    recipe: str,
    *,
    datasets: Sequence[str],
    out: str | Path,
    root: str | Path | None = None,
    subjects: Sequence[str] | Mapping[str, Sequence[str]] = (),
    split: int = 0,
    seed: int = 0,
    settings: Sequence[str] = (),
    device: str = "auto",
    cache: str | Path | None = None,
    reporter: Reporter | None = None,
    allow_leaks: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    closed_form: bool = True,
) -> dict[str, Any]:
    """Train one space for all subjects of all data sets, choose on validation, open every test set once.

    A finished run is returned as it is; a killed one goes on where it was.

    Parameters
    ----------
    datasets : sequence of str
    subjects : sequence of str, or mapping of data set to sequence of str
        Of every data set, or of each its own; all by default.
    closed_form : bool
        Also fit the generative model to every subject, for the same conversion matrix beside the contrastive one.

    Returns
    -------
    dict
        What `foundation.json` holds.

    Raises
    ------
    InputError
        If anything given cannot be used.
    """
    reporter = reporter or Silent()
    directory = RunDirectory(out)
    members = open_members(
        datasets, root=root, subjects=subjects, split=split, device=device, cache=cache, reporter=reporter,
        allow_leaks=allow_leaks, options=options,
    )  # fmt: skip
    for member in members:
        member.session.home = directory.root
    resolved: Recipe = load_recipe(recipe, modality=members[0].modality, overrides=settings)
    if resolved.family != "foundation":
        text = f"recipe '{resolved.name}' aligns one subject at a time"
        raise InputError(text, where="RECIPE", hint="use foundation, or a sweep over subjects")
    if resolved.training.n_images is not None:
        text = "a foundation run trains on all images of every data set"
        raise InputError(text, where="training.n_images", hint="leave it null")
    config_hash = plan_hash(resolved, members, seed)
    for kind in ("result.json", "sweep.json"):
        if directory.has(kind):
            raise InputError("holds another kind of run", where=directory.root, hint="choose another --out")
    state = _claim(directory, config_hash)
    if state != "done":
        with logged(directory):
            if state == "new":
                _freeze(members, resolved, seed, directory, config_hash, reporter)
            _score(members, resolved, seed, directory, reporter, closed_form)
    if not directory.has("report.html"):
        from brainalign.report.foundation_page import write_foundation_report

        write_foundation_report(directory.root)
    found: dict[str, Any] = directory.read_json("foundation.json")
    return found


def _claim(directory: RunDirectory, config_hash: str) -> str:
    for name, state in (("foundation.json", "done"), ("fit.json", "frozen")):
        if directory.has(name):
            held = directory.read_json(name).get("config_hash")
            if held != config_hash:
                text = f"holds another run ({str(held)[:12]})"
                raise InputError(text, where=directory.root, hint="choose another --out")
            return state
    return "new"


def _fit(
    members: Sequence[Member],
    recipe: Recipe,
    seed: int,
    features: AnyTargets,
    label: tuple[str, str],
    reporter: Reporter,
    checkpoint: Path | None = None,
    title: str = "training one space",
) -> tuple[FoundationAligner, Fit, float]:
    aligner = FoundationAligner(
        recipe.with_target(layer=layer_value(label[0]), pooling=label[1]), seed=seed, device=members[0].session.device
    )
    recordings = {m.name: m.recording(recipe) for m in members}
    noise = {m.name: found for m in members if (found := m.noise(recipe)) is not None}
    splits = {m.name: m.split for m in members}
    began = time.perf_counter()
    with reporter.step(f"{title} for {len(members)} subjects, layer {label[0]} ({label[1]})") as tick:
        fit = aligner.fit_sources(
            recordings, {"image": features}, splits, noise=noise, checkpoint=checkpoint, progress=tick
        )
    return aligner, fit, time.perf_counter() - began


def _freeze(
    members: Sequence[Member], recipe: Recipe, seed: int, directory: RunDirectory, config_hash: str, reporter: Reporter
) -> None:
    """Fit every candidate layer, keep the best on validation."""
    tried = []
    for label, features in union_targets(members, recipe).items():
        file = checkpoint_of(directory.checkpoint(config_hash), label)
        aligner, fit, seconds = _fit(members, recipe, seed, features, label, reporter, file)
        row = {"layer": label[0], "pooling": label[1], "depth": features.depth, "seconds": round(seconds, 3)}
        row |= {k: v for k, v in fit.chosen.items() if k.startswith("validation_")}
        tried.append((selection_key(row, recipe), row, aligner, fit, features))
    _, chosen, aligner, fit, features = min(tried, key=lambda one: one[0])
    directory.write_text("recipe.yaml", save_recipe(aligner.recipe))
    directory.write_table("history.csv", fit.history)
    directory.write_table("candidates.csv", [row for _, row, *_ in tried])
    aligner.save(directory.path("model.safetensors"))
    stored = {f"{epoch}.{k}": v for epoch, state in fit.candidates.items() for k, v in state.items()}
    save_tensors(directory.path("epochs.safetensors"), stored, {"epochs": sorted(fit.candidates)})
    facts = {
        "schema": SCHEMA,
        "config_hash": config_hash,
        "epoch": fit.epoch,
        "layer": chosen["layer"],
        "layers": [band.layer for band in features.bands],
        "layer_weights": aligner.layer_weights,
        "cell_weights": None,
        "settings": {},
        "pooling": chosen["pooling"],
        "weights": weights_of(features),
        "depth": chosen["depth"],
        "selection": chosen,
        "features_s": round(sum({id(m.session): m.session.features_seconds for m in members}.values()), 3),
        "train_s": round(sum(float(str(row["seconds"])) for _, row, *_ in tried), 3),
    }
    directory.write_json("fit.json", facts)
    directory.discard_checkpoints()


def _score(
    members: Sequence[Member], recipe: Recipe, seed: int, directory: RunDirectory, reporter: Reporter, closed_form: bool
) -> None:
    facts = directory.read_json("fit.json")
    aligner = load_aligner(directory.path("model.safetensors"), device=members[0].session.device)
    assert isinstance(aligner, FoundationAligner)
    label = (str(facts["layer"]), str(facts["pooling"]))
    control = train_control(members, recipe, seed, label, reporter)
    generative = closed_form_models(members, recipe, label, reporter) if closed_form else {}
    opened = {m.name: Opened(m, aligner.recipe, label) for m in members}
    samples = [Samples(m.name, m.modality, tuple(opened[m.name].data.query_ids)) for m in members]
    draws = {
        "seed": seed,
        "n_resamples": recipe.evaluation.n_resamples,
        "n_permutations": recipe.evaluation.n_permutations,
    }
    with reporter.step(f"opening the test sets of {len(members)} subjects") as tick:
        exploratory = stored_epochs(aligner, directory, opened)
        results = []
        for number, member in enumerate(members, start=1):
            one = opened[member.name]
            results.append(score_member(one, aligner, control, facts, exploratory, directory, draws, seed, members))
            tick(number, len(members))
    matrices = {"contrastive": space_matrix(samples, aligner, opened, draws)}
    matrices["contrastive, shuffled pairs"] = space_matrix(samples, control, opened, draws)
    if generative:
        matrices["closed form"] = closed_form_matrix(samples, generative, members, opened, label, recipe, draws)
    document = {
        "schema": SCHEMA,
        "config_hash": facts["config_hash"],
        "recipe": recipe.name,
        "profile": recipe.profile,
        "budget": recipe.budget,
        "datasets": list(dict.fromkeys(m.session.dataset.name for m in members)),
        "virtual": any(m.session.dataset.info.virtual for m in members),
        "seed": seed,
        "split": members[0].split.index,
        "layer": label[0],
        "pooling": label[1],
        "epoch": facts["epoch"],
        "sources": [_source(m, r) for m, r in zip(members, results, strict=True)],
        "normalised": NORMALISED,
        "closed_form_channels": {name: model.facts["n_chans"] for name, model in generative.items()},
        "conversion": {name: cells for name, cells in matrices.items() if cells is not None},
        "test_reads": max(r.test_reads for r in results),
        "always_said": sorted({text for r in results for text in r.always_said}),
    }
    directory.write_json("foundation.json", document)
    directory.path("epochs.safetensors").unlink(missing_ok=True)


def _source(member: Member, result: Result) -> dict[str, Any]:
    """What the document says of one subject."""
    return {
        "name": member.name,
        "modality": member.modality,
        "subject": member.subject,
        "folder": f"sources/{member.name}",
        "n_train": result.n_train,
        "test": result.metrics.test.model_dump(mode="json"),
        "shuffled_top1": result.shuffled.top1,
        "lint": [finding.model_dump(mode="json") for finding in result.lint],
    }
