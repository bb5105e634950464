"""What the channels analysis says in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from brainalign.analysis import words
from brainalign.analysis.base import Finding
from brainalign.analysis.channels_attribution import NAMES, Attributed
from brainalign.analysis.channels_data import Estimates, Material
from brainalign.analysis.channels_knockout import Knocked, Knockouts
from brainalign.analysis.channels_pattern import Patterns
from brainalign.analysis.onset import Values
from brainalign.analysis.regression import fit_line
from brainalign.analysis.time_findings import METRICS

if TYPE_CHECKING:
    from brainalign.analysis.channels import Measured


def channels_text(material: Material) -> str:
    """How many channels of what, in words."""
    kind = {"fmri": "voxels", "spikes": "neurons or sites", "eeg": "EEG channels", "meg": "MEG sensors"}
    channels = material.channels
    text = f"{len(channels.names)} {kind.get(channels.modality, 'channels')}"
    return f"{text} in {len(channels.groups)} region(s)" if channels.groups else text


def findings(measured: Sequence[Measured], images: str, alpha: float) -> tuple[Finding, ...]:
    """Strengths, patterns, attributions, drops; what was not measured; what none of it can say."""
    kind: Literal["finding", "exploratory"] = "exploratory" if images == "test" else "finding"
    found: list[Finding] = []
    for one in measured:
        name = f"{one.name}: " if len(measured) > 1 else ""
        said = [_encoding(one, alpha)]
        if one.planted is not None:
            said.append(_planted(one, one.planted))
        missing = []
        for what, part in (
            ("Haufe patterns", one.patterns),
            ("Attributions", one.attributed),
            ("Knock-outs", one.knockouts),
        ):
            if isinstance(part, str):
                missing.append(f"{what}: {part}.")
        if isinstance(one.patterns, Patterns):
            said.append(_patterns(one, one.patterns))
        if isinstance(one.attributed, Attributed):
            said += _attributed(one, one.attributed)
        if isinstance(one.knockouts, Knockouts):
            said += _knockouts(one, one.knockouts, alpha)
            if one.knockouts.channels is None:
                missing.append(
                    "Knock-out of single channels: there are more than --most, only regions were knocked out."
                )
        if not one.material.channels.groups:
            missing.append("Regions: neither a channel table nor the names of the channels tell any.")
        found += [Finding(kind, name + text) for text in said]
        found += [Finding("not measured", name + text) for text in missing]
    return (*found, *_limits(measured, images))


def _encoding(one: Measured, alpha: float) -> str:
    whole, names = one.encoding.whole, one.material.channels.names
    assert whole.p is not None
    sure = int((whole.p <= alpha).sum())
    best = int(whole.values.argmax())
    text = (
        f"Encoding strength stands above chance in {sure} of {len(names)} channels (corrected p <= {alpha:g}); highest "
        f"in {names[best]}, r = {whole.values[best]:.2f} ({words.ends([whole.lo[best], whole.hi[best]])}, corrected "
        f"{words.p_value(float(whole.p[best]))})."
    )
    if whole.regions:
        text += f" {_by_region(whole, 'r')}"
    if one.encoding.windows:
        text += f" {_when(one, alpha)}"
    return text


def _when(one: Measured, alpha: float) -> str:
    encoding = one.encoding
    place, at = np.unravel_index(int(encoding.by_window.argmax()), encoding.by_window.shape)
    window = encoding.windows[int(at)]
    sure = int((encoding.p_by_window <= alpha).sum())
    return (
        f"In windows it is highest in {one.material.channels.names[int(place)]} from {1000 * window.start:.0f} to "
        f"{1000 * window.stop:.0f} ms (r = {encoding.by_window[place, at]:.2f}); {sure} of {encoding.by_window.size} "
        "pairs of channel and window stand above chance, corrected."
    )


def _by_region(found: Estimates, unit: str) -> str:
    name, (mean, lo, hi) = max(found.regions.items(), key=lambda item: item[1][0])
    if len(found.regions) == 1:
        return f"All channels with a region are {name} (mean {unit} {mean:.2f}, {words.ends([lo, hi])})."
    return f"By region it is highest in {name} (mean {unit} {mean:.2f}, {words.ends([lo, hi])})."


def _planted(one: Measured, planted: dict[str, float]) -> str:
    from scipy.stats import spearmanr

    snr, measured = np.array(list(planted.values())), one.encoding.whole.values
    if not np.isfinite(snr).all() or np.ptp(snr) == 0 or len(snr) < 4:
        return "The virtual subject was given no signal that differs between channels."
    line = fit_line(snr, measured)
    rank = float(spearmanr(snr, measured).statistic)
    return (
        f"The virtual subject's planted signal-to-noise ratio and the encoding strength correlate over {len(snr)} "
        f"channels with r = {line.r:.2f} ({words.ends(line.r_ci95)}), by ranks {rank:.2f}."
    )


def _patterns(one: Measured, patterns: Patterns) -> str:
    best = int(patterns.explained.values.argmax())
    found = patterns.explained
    return (
        f"Haufe patterns of the {patterns.latent} ({len(patterns.maps)} component(s) that covary most with the image): "
        f"they explain most of "
        f"{one.material.channels.names[best]}, {words.percent(found.values[best])} of its variance between images "
        f"({words.ends([found.lo[best], found.hi[best]], '%')})."
    )


def _attributed(one: Measured, found: Attributed) -> list[str]:
    names, raw, share = one.material.channels.names, found.raw, found.share
    best = int(share.values.argmax())
    finite = raw.relative[np.isfinite(raw.relative)]
    steps = f", up to {int(raw.steps.max())} steps" if found.method == "ig" else ""
    check = (
        "below 1 % for every image"
        if raw.n_missed == 0
        else f"NOT below 1 % for {raw.n_missed} of {len(raw.delta)} images; read their attributions with care"
    )
    largest = f"{100 * finite.max():.2g} %" if len(finite) else "not defined"
    said = [
        f"Attributions ({NAMES[found.method]}{steps}): {names[best]} has the largest share, "
        f"{words.percent(share.values[best])} ({words.ends([share.lo[best], share.hi[best]], '%')}; an even share is "
        f"{words.percent(1 / len(names))}).",
        f"Convergence: the attributions miss f(x) - f(0) by {100 * raw.overall:.2g} % over all images, at most "
        f"{largest} in one image: {check}.",
    ]
    return said + ([f"{found.note}: integrated gradients were taken instead."] if found.note else [])


def _knockouts(one: Measured, found: Knockouts, alpha: float) -> list[str]:
    what = METRICS[found.metric]
    full = found.channels or found.regions
    if full is None:
        return []
    said = []
    if found.above_chance_p > alpha:
        said.append(
            f"The model's {what} with all channels, {words.percent(full.full)}, is not above chance "
            f"({words.p_value(found.above_chance_p)}): there is little that a knock-out could take away."
        )
    whole = f"{what.capitalize()} is {words.percent(full.full)} with all channels."
    if found.channels is not None:
        said.append(_knocked(found.channels, f"{whole} Without one", alpha))
    if found.regions is not None:
        begin = "Without one region" if found.channels is not None else f"{whole} Without one region"
        said.append(_knocked(found.regions, begin, alpha))
    return said


def _knocked(found: Knocked, begin: str, alpha: float) -> str:
    drop: Values = found.drop.difference
    worst, sure = int(drop.argmax()), int((found.drop.p <= alpha).sum())
    ends = words.ends([float(found.drop.lo[worst]), float(found.drop.hi[worst])], "%")
    return (
        f"{begin} it drops most for {found.names[worst]}, by {100 * drop[worst]:.1f} points ({ends}, corrected "
        f"{words.p_value(float(found.drop.p[worst]))}); {sure} of {len(drop)} differ from 0, corrected."
    )


def _limits(measured: Sequence[Measured], images: str) -> list[Finding]:
    texts = []
    if images == "test":
        texts.append(
            "The test set was opened again for this page. All of it is exploratory: no channel, region, layer, epoch "
            "or method may be chosen by it."
        )
    else:
        texts.append("The run's epoch was chosen on these very validation images; encoding strength does not use it.")
    texts += [
        "Encoding strength is not corrected for noise: a channel with little signal in its averages cannot reach 1. It "
        "is of one layer's features: a channel that knows something else of the image looks silent.",
        "A Haufe pattern shows what moves with the model's latents, noise that they let through included; it is no "
        "test. Weights and attributions show what the model uses, which may be noise that it subtracts.",
        "A channel at its training mean is a signal that the model may never have seen, and channels that say the same "
        "stand in for each other: a small drop does not mean that a channel knows nothing.",
        "Neighbouring sensors record the same sources: a topography is no map of places in the brain.",
    ]
    if any(_concepts_repeat(one.material) for one in measured):
        texts.append(
            "Several of these images show the same concept, and intervals and tests take every image by itself: as far "
            "as signals follow the concept, intervals are too narrow and p-values too small."
        )
    if any(one.material.run.recipe.signals.whiten != "none" for one in measured):
        texts.append(
            "The model whitens noise: knock-outs and attributions are of whitened channels, each a mixture with the "
            "channel of its name in front. Encoding strength and patterns are of the signals as recorded."
        )
    return [Finding("limit", text) for text in texts]


def _concepts_repeat(material: Material) -> bool:
    """Whether two of the held-out images show one concept."""
    shown = list(dict.fromkeys(material.held.query_ids))
    stimuli = material.run.session.stimuli(material.run.result.subject)
    concepts = [name for name in stimuli.column("concept", shown) if name]
    return len(set(concepts)) < len(concepts)
