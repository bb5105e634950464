"""What the representational similarity analysis says in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from brainalign.analysis import words
from brainalign.analysis.base import NOT_MEASURED, Finding
from brainalign.analysis.rsa_results import Best, Compared, Timed

SYMBOLS = {"spearman": "Spearman's ρ", "kendall": "Kendall's τ-a", "pearson": "Pearson's r", "cosine": "cosine"}


def facts(compared: Sequence[Compared], options: Any) -> dict[str, str]:
    """How it was measured."""
    counts = [f"{c.source.name}: {len(c.source.found.subjects)}" for c in compared]
    images = dict.fromkeys(str(len(c.source.found.stimulus_ids)) for c in compared)
    distances = dict.fromkeys(c.source.found.measure for c in compared)
    models = dict.fromkeys(f"{m.backbone} ({m.pooling})" for c in compared for m in c.models)
    return {
        "Subjects": ", ".join(counts),
        "Number of images": ", ".join(images),
        "Models": f"{', '.join(models)}; {options.weights} weights",
        "Dissimilarities": f"of layers: {options.layer_distance}; of brains: {', '.join(distances)}",
        "Compared by": SYMBOLS[options.measure],
        "Resamples": f"{options.n_resamples} of subjects and images; {options.n_permutations} permutations; seed "
        f"{options.seed}",
    }


def findings(
    compared: Sequence[Compared], timed: Sequence[Timed], options: Any, notes: Sequence[str]
) -> Iterator[Finding]:
    """Ceilings, best layers, the step from one region to the next, windows of time, limits."""
    symbol = SYMBOLS[options.measure]
    for one in compared:
        yield _ceiling(one, symbol)
        for best in one.best():
            yield Finding("finding", _best(best, one, symbol))
    yield from _regions(compared)
    yield from _windows(timed, symbol)
    yield from (Finding("not measured", note) for note in notes)
    yield from (Finding("limit", text) for text in _limits(compared, options))


def _ceiling(one: Compared, symbol: str) -> Finding:
    bounds, name, n = one.assessed.bounds(), one.source.name, len(one.source.found.subjects)
    if bounds is None:
        return Finding("not measured", f"{name}: noise ceiling {NOT_MEASURED}, one subject.")
    lower, upper = bounds
    text = (
        f"{name}: the noise ceiling over {n} subjects is {lower.mean:.3f} ({words.ends(lower.interval)}) to "
        f"{upper.mean:.3f} ({words.ends(upper.interval)}), {symbol}."
    )
    if lower.interval[0] <= 0:
        text += " The lower bound is not above 0 for sure: these data do not show that one subject predicts another."
    return Finding("finding", text)


def _best(best: Best, one: Compared, symbol: str) -> str:
    m, estimate = best.model, best.estimate
    known = "over subjects and images" if estimate.over_both else "over images alone"
    text = (
        f"{best.source}, {m.backbone} ({m.pooling}): most alike is layer {m.layer}, depth {m.depth:.2f}, with {symbol} "
        f"{estimate.mean:.3f} ({words.ends(estimate.interval)} {known}; {words.p_value(best.p_corrected)} corrected "
        f"for {len(one.models)} layers). It is the best layer in {words.percent(best.wins)} of resamples"
    )
    rivals = [place for place in one.curves()[m.curve] if place != best.place]
    if not rivals:
        return f"{text}."
    alike = [place for place in rivals if one.assessed.difference(best.place, place).interval[0] <= 0]
    if not alike:
        return f"{text}, and above every other one."
    return f"{text}; {len(alike)} of the {len(rivals)} others are not below it for sure."


def _regions(compared: Sequence[Compared]) -> Iterator[Finding]:
    """Whether the best layer lies deeper in one source than in another."""
    if len(compared) < 2 or any(c.models is not compared[0].models for c in compared):
        return
    for number, curve in enumerate(compared[0].curves()):
        tops = [one.best()[number] for one in compared]
        places = ", ".join(f"{t.source} layer {t.model.layer} (depth {t.model.depth:.2f})" for t in tops)
        yield Finding("finding", f"{curve[0]} ({curve[1]}), layer most alike: {places}.")


def _windows(timed: Sequence[Timed], symbol: str) -> Iterator[Finding]:
    for name in dict.fromkeys(one.source.name for one in timed):
        mine = [one for one in timed if one.source.name == name]
        tops = [(float(one.assessed.scores.mean(axis=1).max()), one) for one in mine]
        value, top = max(tops, key=lambda pair: pair[0])
        model = top.models[int(top.assessed.scores.mean(axis=1).argmax())]
        assert top.source.window is not None
        start, stop = (1000 * t for t in top.source.window)
        text = (
            f"{name}: of {len(mine)} windows the most alike is {start:.0f} to {stop:.0f} ms, with layer {model.layer} "
            f"of {model.backbone} ({symbol} {value:.3f}). Windows and layers were not corrected for their number."
        )
        yield Finding("exploratory", text)


def _limits(compared: Sequence[Compared], options: Any) -> list[str]:
    texts = [
        "The best of many layers on the same images and subjects is flattered by the choice: take it for the shape of "
        "the curve, and test it on others.",
        "Layers of one model are alike: neighbours in depth have nearly the same dissimilarities.",
        "Similar geometry says that the same images are told apart, not that the same features do it.",
    ]
    published = [c for c in compared if c.source.found.measure == "as published"]
    if published:
        texts.append(
            "Dissimilarities are taken as published: their distance and noise normalisation are their authors'."
        )
    else:
        texts.append(f"Only {options.images} images were looked at; test images stay sealed.")
    if any(len(c.source.found.subjects) == 1 for c in compared):
        texts.append("Of one subject intervals are over images and say nothing of other subjects.")
    if options.measure == "kendall":
        texts.append(
            "P-values come from shuffled labels with Spearman's ρ as the statistic; the upper ceiling of τ-a rests on "
            "mean ranks and is not strict."
        )
    if options.measure == "cosine":
        texts.append("The cosine is not centred: distances that are all above 0 are alike for that reason alone.")
    return texts
