"""`brainalign train foundation`: one space for several data sets and subjects, scored subject by subject and across."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.alignment import AnyTargets
from brainalign.alignment.checkpoint import load_tensors, save_tensors
from brainalign.alignment.conversion import Conversion
from brainalign.alignment.families import load_aligner
from brainalign.alignment.foundation import FoundationAligner
from brainalign.alignment.foundation_model import encoder_of
from brainalign.alignment.generative import GenerativeAligner
from brainalign.alignment.training import Fit
from brainalign.errors import InputError
from brainalign.evaluation import evaluate_retrieval
from brainalign.evaluation.conversion_matrix import NORMALISED, Samples, conversion_matrix
from brainalign.evaluation.result import Result
from brainalign.execution.fitting import layer_value, selection_key
from brainalign.execution.job import Job
from brainalign.execution.joint import Member, open_members, plan_hash, union_targets
from brainalign.execution.progress import Reporter, Silent
from brainalign.execution.run import build_result, top1_of, write_similarity
from brainalign.execution.rundir import RunDirectory
from brainalign.execution.train import logged
from brainalign.recipes import Recipe, load_recipe, save_recipe
from brainalign.recipes.recipe import SignalSettings
from brainalign.recordings import Recording

SCHEMA = "brainalign.foundation-run/1"
Array = NDArray[np.float32]
CLOSED_OUTPUTS = 2400


def train_foundation(
    recipe: str,
    *,
    datasets: Sequence[str],
    out: str | Path,
    root: str | Path | None = None,
    subjects: Sequence[str] = (),
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
    subjects : sequence of str
        Of every data set; all by default.
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
    resolved: Recipe = load_recipe(recipe, modality=members[0].modality, overrides=settings)
    if resolved.family != "foundation":
        text = f"recipe '{resolved.name}' aligns one subject at a time"
        raise InputError(text, where="RECIPE", hint="use foundation, or a sweep over subjects")
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
        file = directory.path("checkpoints") / f"training.{label[0]}.{label[1]}"
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
        "depth": chosen["depth"],
        "selection": chosen,
        "features_s": round(sum({id(m.session): m.session.features_seconds for m in members}.values()), 3),
        "train_s": round(sum(float(str(row["seconds"])) for _, row, *_ in tried), 3),
    }
    directory.write_json("fit.json", facts)
    directory.discard([f"checkpoints/{file.name}" for file in directory.path("checkpoints").glob("*")])


class _Opened:
    """A member's test set and how its gallery looks to the model."""

    def __init__(self, member: Member, recipe: Recipe, label: tuple[str, str]) -> None:
        from brainalign.alignment.foundation import inputs_of

        self.member = member
        source = recipe.model_copy(update={"signals": inputs_of(recipe, member.modality)})
        self.data = member.session.test_data(member.subject, member.split.index, source)
        self.held = member.session.validation_data(member.subject, member.split.index, source.signals)
        self.target = member.session.targets(member.subject, recipe.target)[label]
        self.gallery = self.target.of(self.data.gallery_ids)


def _score(
    members: Sequence[Member], recipe: Recipe, seed: int, directory: RunDirectory, reporter: Reporter, closed_form: bool
) -> None:
    facts = directory.read_json("fit.json")
    aligner = load_aligner(directory.path("model.safetensors"), device=members[0].session.device)
    assert isinstance(aligner, FoundationAligner)
    label = (str(facts["layer"]), str(facts["pooling"]))
    control = _control(members, recipe, seed, label, reporter)
    generative = _closed_form(members, recipe, label, reporter) if closed_form else {}
    opened = {m.name: _Opened(m, aligner.recipe, label) for m in members}
    samples = [Samples(m.name, m.modality, tuple(opened[m.name].data.query_ids)) for m in members]
    draws = {
        "seed": seed,
        "n_resamples": recipe.evaluation.n_resamples,
        "n_permutations": recipe.evaluation.n_permutations,
    }
    with reporter.step(f"opening the test sets of {len(members)} subjects") as tick:
        exploratory = _stored_epochs(aligner, directory, opened)
        results = []
        for number, member in enumerate(members, start=1):
            one = opened[member.name]
            results.append(_score_member(one, aligner, control, facts, exploratory, directory, draws, seed, members))
            tick(number, len(members))
    matrices = {"contrastive": _matrix(samples, aligner, opened, draws)}
    matrices["contrastive, shuffled pairs"] = _matrix(samples, control, opened, draws)
    if generative:
        matrices["closed form"] = _generated(samples, generative, members, opened, label, recipe, draws)
    document = {
        "schema": SCHEMA,
        "config_hash": facts["config_hash"],
        "recipe": recipe.name,
        "budget": recipe.budget,
        "datasets": list(dict.fromkeys(m.session.dataset.name for m in members)),
        "virtual": any(m.session.dataset.info.virtual for m in members),
        "seed": seed,
        "split": members[0].split.index,
        "layer": label[0],
        "pooling": label[1],
        "epoch": facts["epoch"],
        "sources": [
            {
                "name": m.name,
                "modality": m.modality,
                "subject": m.subject,
                "folder": f"sources/{m.name}",
                "n_train": r.n_train,
                "test": r.metrics.test.model_dump(mode="json"),
                "shuffled_top1": r.shuffled.top1,
            }
            for m, r in zip(members, results, strict=True)
        ],
        "normalised": NORMALISED,
        "closed_form_channels": {name: model.facts["n_chans"] for name, model in generative.items()},
        "conversion": {name: cells for name, cells in matrices.items() if cells is not None},
        "test_reads": max(r.test_reads for r in results),
    }
    directory.write_json("foundation.json", document)
    directory.path("epochs.safetensors").unlink(missing_ok=True)


def _control(
    members: Sequence[Member], recipe: Recipe, seed: int, label: tuple[str, str], reporter: Reporter
) -> FoundationAligner:
    """The same training on images dealt anew, the same way to all subjects of a modality, differently to modalities."""
    dealt = []
    for number, member in enumerate(members):
        rng = np.random.default_rng([seed, 0xC0, number])
        partner: dict[str, str] = {}
        for ids in (member.split.train, member.split.validation):
            partner |= dict(zip(ids, rng.permutation(np.array(ids, dtype=object)), strict=True))
        dealt.append((member, partner))
    features = union_targets(members, recipe)[label]
    aligner = FoundationAligner(
        recipe.with_target(layer=layer_value(label[0]), pooling=label[1]), seed=seed, device=members[0].session.device
    )
    recordings = {m.name: _relabelled(m.recording(recipe), partner) for m, partner in dealt}
    noise = {m.name: found for m in members if (found := m.noise(recipe)) is not None}
    with reporter.step("control: the same training on shuffled pairs") as tick:
        splits = {m.name: m.split for m in members}
        aligner.fit_sources(recordings, {"image": features}, splits, noise=noise, progress=tick)
    return aligner


def _relabelled(recording: Recording, partner: Mapping[str, str]) -> Recording:
    """A recording whose trials claim to have shown other images."""
    trials = recording.trials.assign(stimulus_id=recording.trials["stimulus_id"].map(lambda n: partner.get(n, n)))
    return replace(recording, trials=trials)


def _stored_epochs(
    aligner: FoundationAligner, directory: RunDirectory, opened: Mapping[str, _Opened]
) -> dict[str, dict[int, float]]:
    """Test top-1 of the stored epochs of every source; exploratory."""
    tensors, facts = load_tensors(directory.path("epochs.safetensors"))
    model = load_aligner(directory.path("model.safetensors"), device=str(aligner.device))
    found: dict[str, dict[int, float]] = {name: {} for name in opened}
    for epoch in facts["epochs"]:
        prefix = f"{epoch}."
        model.load_state({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        for name, one in opened.items():
            similarity = model.similarity(one.data.signals, {"image": one.gallery}, source=name)
            found[name][int(epoch)] = float(top1_of(similarity, one.data))
    return found


def _score_member(
    one: _Opened,
    aligner: FoundationAligner,
    control: FoundationAligner,
    facts: dict[str, Any],
    exploratory: Mapping[str, dict[int, float]],
    directory: RunDirectory,
    draws: dict[str, Any],
    seed: int,
    members: Sequence[Member],
) -> Result:
    """Write one subject's result as any run's, so that reports and comparisons read it."""
    began = time.perf_counter()
    member, name = one.member, one.member.name
    folder = RunDirectory(directory.path("sources") / name)
    gallery = {"image": one.gallery}
    similarity = aligner.similarity(one.data.signals, gallery, source=name)
    held = aligner.similarity(one.held.signals, {"image": one.target.of(one.held.gallery_ids)}, source=name)
    test = evaluate_retrieval(
        similarity, one.data.query_ids, one.data.gallery_ids, repetitions=one.data.repetitions, **draws
    )
    validation = evaluate_retrieval(
        held, one.held.query_ids, one.held.gallery_ids, repetitions=one.held.repetitions, **draws
    )
    shuffled = float(top1_of(control.similarity(one.data.signals, gallery, source=name), one.data))
    own = facts | {"validation": validation.to_dict()}
    job = Job(aligner.recipe, member.subject, member.split.index, seed)
    result = build_result(
        member.session, job, aligner, own, test.to_dict(), exploratory[name], shuffled, None, began
    ).model_copy(
        update={
            "encoder": encoder_of(aligner.recipe, member.modality).name,
            "protocol": member.split.protocol,
            "training_subjects": [m.name if m.session is not member.session else m.subject for m in members],
        }
    )
    write_similarity(folder, "predictions.npz", similarity, one.data.query_ids, one.data.gallery_ids)
    write_similarity(folder, "validation.npz", held, one.held.query_ids, one.held.gallery_ids)
    folder.write_text("recipe.yaml", save_recipe(aligner.recipe))
    folder.write_json("result.json", result.model_dump(mode="json"))
    return result


def _matrix(
    samples: Sequence[Samples], aligner: FoundationAligner, opened: Mapping[str, _Opened], draws: dict[str, Any]
) -> list[dict[str, Any]] | None:
    """Conversion by retrieval through the shared space."""
    brain = {name: aligner.embed_brain(one.data.signals, source=name) for name, one in opened.items()}
    image = {name: aligner.embed_image(one.target.of(one.data.query_ids)) for name, one in opened.items()}
    pairs = {(a, b): brain[a] @ brain[b].T for a in brain for b in brain if a != b}
    return _cells(samples, pairs, {name: brain[name] @ image[name].T for name in brain}, draws)


def _cells(
    samples: Sequence[Samples],
    pairs: Mapping[tuple[str, str], NDArray[Any]],
    decoding: Mapping[str, NDArray[Any]],
    draws: dict[str, Any],
) -> list[dict[str, Any]] | None:
    try:
        return conversion_matrix(samples, pairs, decoding, **draws) or None
    except InputError:  # no images in common: there is nothing to convert between
        return None


def _closed_form(
    members: Sequence[Member], recipe: Recipe, label: tuple[str, str], reporter: Reporter
) -> dict[str, GenerativeAligner]:
    """The generative model of every subject, on the same images, layer and signals."""
    from brainalign.alignment.foundation import inputs_of

    found = {}
    features = union_targets(members, recipe)[label]
    with reporter.step(f"closed-form models of {len(members)} subjects") as tick:
        for number, member in enumerate(members, start=1):
            base = load_recipe("generative", modality=member.modality)
            inputs = _bounded(inputs_of(recipe, member.modality), member.recording(recipe))
            own = base.model_copy(update={"signals": inputs, "target": recipe.target})
            aligner = GenerativeAligner(own.with_target(layer=layer_value(label[0]), pooling=label[1]))
            known = features.restrict([*member.split.train, *member.split.validation])
            where = (member.subject, member.split.index, inputs)
            session = member.session
            aligner.fit(
                session.development(*where),
                {"image": known},
                member.split,
                noise=session.noise(*where),
                trials=session.trials(*where),
            )
            found[member.name] = aligner
            tick(number, len(members))
    return found


def _bounded(inputs: SignalSettings, recording: Recording) -> SignalSettings:
    """At most `CLOSED_OUTPUTS` values a signal: a covariance of all values of 84 sensors would take minutes."""
    most = max(1, CLOSED_OUTPUTS // recording.n_times)
    return inputs if recording.n_chans <= most else inputs.model_copy(update={"n_channels": most})


def _generated(
    samples: Sequence[Samples],
    models: Mapping[str, GenerativeAligner],
    members: Sequence[Member],
    opened: Mapping[str, _Opened],
    label: tuple[str, str],
    recipe: Recipe,
    draws: dict[str, Any],
) -> list[dict[str, Any]] | None:
    """Conversion in closed form: how much likelier a target's signal is given a source's, images integrated out."""
    features = union_targets(members, recipe)[label]
    of = {m.name: m for m in members}
    signals = {
        name: of[name].session.test_data(of[name].subject, of[name].split.index, model.recipe)
        for name, model in models.items()
    }
    pairs, decoding = {}, {}
    for a in models:
        data = signals[a]
        decoding[a] = models[a].similarity(
            data.signals, {"image": opened[a].target.of(data.query_ids)}, repetitions=data.counts
        )
        for b in models:
            if a == b:
                continue
            prior = [n for n in of[a].split.train if n in set(of[b].split.train)]
            if len(prior) < 3:
                continue
            shared = features.of(prior)
            conversion = Conversion(models[a], models[b], shared, shared)
            pairs[a, b] = conversion.gain(
                data.signals,
                signals[b].signals,
                source_repetitions=data.repetitions,
                target_repetitions=signals[b].repetitions,
            )
    if len(pairs) < len(models) * (len(models) - 1):
        return None
    return _cells(samples, pairs, decoding, draws)
