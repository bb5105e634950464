"""The test sets of a foundation run, opened once: the frozen choice, its stored epochs and the shuffled control."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.alignment.checkpoint import load_tensors
from brainalign.alignment.families import load_aligner
from brainalign.alignment.foundation import FoundationAligner, inputs_of
from brainalign.alignment.foundation_model import encoder_of
from brainalign.errors import InputError
from brainalign.evaluation import evaluate_retrieval
from brainalign.evaluation.result import Result
from brainalign.execution.fitting import layer_value
from brainalign.execution.job import Job
from brainalign.execution.joint import Member, union_targets
from brainalign.execution.progress import Reporter
from brainalign.execution.run import build_result, top1_of, write_similarity
from brainalign.execution.rundir import RunDirectory
from brainalign.recipes import Recipe, save_recipe
from brainalign.recordings import Recording

EMBEDDED = "embeddings.npz"


class Opened:
    """A member's test set and how its gallery looks to the model.

    Parameters
    ----------
    member : Member
    recipe : Recipe
        With one layer and one pooling.
    label : (str, str)
        Layer and pooling that were chosen.

    Attributes
    ----------
    data, held : TestData
        Test signals and validation signals, repetitions averaged.
    target : Targets or MixedTargets
    gallery : array of shape (n_gallery, dim)
        Features of the gallery.
    """

    def __init__(self, member: Member, recipe: Recipe, label: tuple[str, str]) -> None:
        self.member = member
        source = recipe.model_copy(update={"signals": inputs_of(recipe, member.modality)})
        self.data = member.session.test_data(member.subject, member.split.index, source)
        self.held = member.session.validation_data(member.subject, member.split.index, source.signals)
        self.target = member.session.targets(member.subject, recipe.target)[label]
        self.gallery = self.target.of(self.data.gallery_ids)


def train_control(
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


def stored_epochs(
    aligner: FoundationAligner, directory: RunDirectory, opened: Mapping[str, Opened]
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


def score_member(
    one: Opened,
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
    write_embedded(folder, aligner.embed_brain(one.data.signals, source=name), one.data.query_ids)
    write_similarity(folder, "validation.npz", held, one.held.query_ids, one.held.gallery_ids)
    folder.write_text("recipe.yaml", save_recipe(aligner.recipe))
    folder.write_json("result.json", result.model_dump(mode="json"))
    return result


def write_embedded(folder: RunDirectory, embedded: NDArray[np.float32], ids: Sequence[str]) -> None:
    """Keep where test signals lie in the shared space, so that conversions are scored without opening the set again."""
    folder.write_arrays(EMBEDDED, {"embedded": embedded.astype(np.float32), "query_ids": np.array(ids, dtype=np.str_)})


def read_embedded(folder: str | Path) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Test signals of one source in the shared space, unit norm, (n, shared), and what each showed.

    Raises
    ------
    InputError
        If the file is missing or damaged, or its shapes do not agree.
    """
    path = Path(folder) / EMBEDDED
    try:
        with np.load(path, allow_pickle=False) as file:
            embedded, ids = file["embedded"], file["query_ids"]
    except FileNotFoundError as error:
        raise InputError("no such file", where=path, hint="train the foundation run again") from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"is damaged ({error})", where=path, hint="train the foundation run again") from error
    if embedded.ndim != 2 or embedded.dtype.kind != "f" or ids.shape != (len(embedded),):
        text = f"embeddings have shape {embedded.shape} for {ids.shape} ids"
        raise InputError(text, where=path, hint="train the foundation run again")
    return np.asarray(embedded, dtype=np.float32), tuple(map(str, ids))
