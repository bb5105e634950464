"""From one modality to another in a foundation run: through the shared space, and in closed form beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from brainalign.alignment.conversion import Conversion
from brainalign.alignment.foundation import FoundationAligner, inputs_of
from brainalign.alignment.generative import GenerativeAligner
from brainalign.errors import InputError
from brainalign.evaluation.conversion_matrix import Samples, conversion_matrix
from brainalign.execution.fitting import layer_value
from brainalign.execution.foundation_scoring import Opened
from brainalign.execution.joint import Member, union_targets
from brainalign.execution.progress import Reporter
from brainalign.recipes import Recipe, load_recipe
from brainalign.recipes.recipe import SignalSettings
from brainalign.recordings import Recording

CLOSED_OUTPUTS = 2400
Cells = list[dict[str, Any]]


def space_matrix(
    samples: Sequence[Samples], aligner: FoundationAligner, opened: Mapping[str, Opened], draws: dict[str, Any]
) -> Cells | None:
    """Conversion by retrieval through the shared space."""
    brain = {name: aligner.embed_brain(one.data.signals, source=name) for name, one in opened.items()}
    image = {name: aligner.embed_image(one.target.of(one.data.query_ids)) for name, one in opened.items()}
    pairs = {(a, b): brain[a] @ brain[b].T for a in brain for b in brain if a != b}
    return _cells(samples, pairs, {name: brain[name] @ image[name].T for name in brain}, draws)


def closed_form_models(
    members: Sequence[Member], recipe: Recipe, label: tuple[str, str], reporter: Reporter
) -> dict[str, GenerativeAligner]:
    """The generative model of every subject, on the same images, layer and signals."""
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
                noise=session.noise(member.subject, member.split.index, own),
                trials=session.trials(*where),
            )
            found[member.name] = aligner
            tick(number, len(members))
    return found


def closed_form_matrix(
    samples: Sequence[Samples],
    models: Mapping[str, GenerativeAligner],
    members: Sequence[Member],
    opened: Mapping[str, Opened],
    label: tuple[str, str],
    recipe: Recipe,
    draws: dict[str, Any],
) -> Cells | None:
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


def _bounded(inputs: SignalSettings, recording: Recording) -> SignalSettings:
    """At most `CLOSED_OUTPUTS` values a signal: a covariance of all values of 84 sensors would take minutes."""
    most = max(1, CLOSED_OUTPUTS // recording.n_times)
    return inputs if recording.n_chans <= most else inputs.model_copy(update={"n_channels": most})


def _cells(
    samples: Sequence[Samples],
    pairs: Mapping[tuple[str, str], NDArray[Any]],
    decoding: Mapping[str, NDArray[Any]],
    draws: dict[str, Any],
) -> Cells | None:
    try:
        return conversion_matrix(samples, pairs, decoding, **draws) or None
    except InputError:  # no images in common: there is nothing to convert between
        return None
