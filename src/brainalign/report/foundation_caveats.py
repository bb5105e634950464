"""How the scores of a foundation run could be wrong, for all its sources together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from brainalign.evaluation.result import Lint
from brainalign.protocols.lint import BLOCK_DESIGN
from brainalign.report.caveats import Caveat, finding_caveat, in_order, upper_tail
from brainalign.report.words import percent, plural

Source = Mapping[str, Any]


def foundation_caveats(document: Mapping[str, Any]) -> list[Caveat]:
    """Everything a reader of a foundation run should know, the most serious first.

    Parameters
    ----------
    document : mapping
        What `foundation.json` holds.
    """
    sources = document["sources"]
    found = [
        *_data(document),
        *_lint(sources, int(document["test_reads"])),
        *_above_chance(sources),
        *_controls(sources),
        *_scope(bool(document["conversion"])),
    ]
    return in_order(found)


def _data(document: Mapping[str, Any]) -> list[Caveat]:
    found = []
    if document["virtual"]:
        text = (
            "The signals were computed from planted rules, not measured. The scores show that the program recovers "
            "what was planted; they say nothing about brains and rank no methods."
        )
        found.append(Caveat("serious", "Virtual data", text))
    if document["budget"] != "full":
        text = (
            f"The recipe's training was shortened (budget {document['budget']}); its full budget may score otherwise."
        )
        found.append(Caveat("limit", "Shortened training", text))
    return found


def _lint(sources: Sequence[Source], test_reads: int) -> list[Caveat]:
    """Each finding of the lint once, with the sources it is about where it is not about all."""
    about: dict[tuple[str, str, str], list[str]] = {}
    for one in sources:
        for finding in one.get("lint", ()):
            key = (finding["code"], finding["severity"], finding["text"])
            about.setdefault(key, []).append(one["name"])
    found = []
    for (code, severity, text), names in about.items():
        said = text if len(names) == len(sources) else f"{', '.join(names)}: {text}"
        found.append(finding_caveat(Lint.model_validate({"code": code, "severity": severity, "text": said})))
    looked = all("lint" in one for one in sources)
    if looked and not any(severity == "leak" or code == BLOCK_DESIGN for code, severity, _ in about):
        text = "The lint found no image or concept shared between parts where the protocols forbid it."
        found.append(Caveat("checked", "No leak found", text))
    if test_reads == 1:
        text = "All that was chosen was chosen on validation images and frozen; then every test set was opened, once."
        found.append(Caveat("checked", "Test sets opened once", text))
    return found


def _above_chance(sources: Sequence[Source]) -> list[Caveat]:
    weak = [
        one["name"]
        for one in sources
        if one["test"]["top1_ci95"][0] <= one["test"]["chance_top1"] or one["test"]["permutation_p"] >= 0.05
    ]
    if not weak:
        return []
    text = f"The intervals of {', '.join(weak)} reach down to chance: guessing explains these scores well enough."
    return [Caveat("serious", f"{plural(len(weak), 'source')} not clearly above chance", text)]


def _controls(sources: Sequence[Source]) -> list[Caveat]:
    """Whether the pipeline scores without a signal: hits of every control against Binomial(queries, chance)."""
    high = []
    for one in sources:
        test, control = one["test"], float(one["shuffled_top1"])
        p = upper_tail(round(control * test["n_queries"]), test["n_queries"], test["chance_top1"])
        if p < 0.01 / len(sources):  # Bonferroni over sources
            high.append(f"{one['name']} ({percent(control)}, chance {percent(test['chance_top1'])})")
    if high:
        text = (
            f"The same training on shuffled pairs scores more than guessing would in {', '.join(high)}. Something "
            "other than the pairing of signals and images helps."
        )
        return [Caveat("serious", "Control above chance", text)]
    text = "In every source the same training on shuffled pairs scores what guessing explains."
    return [Caveat("checked", "Controls at chance", text)]


def _scope(converts: bool) -> list[Caveat]:
    said = {
        "One split, one seed": "Intervals cover the choice of test images; other subjects, splits or seeds may differ "
        "by more.",
        "The pool decides": "Decoding and conversion depend on the pool: scores of pools of another size cannot be "
        "compared.",
        "Two-way saturates": "Two-way identification hides differences among good models; top-1 beside it does not.",
    }
    if converts:
        said |= {
            "Pairs are not independent": "Queries of several pairs of subjects depend on each other: intervals and "
            "permutations take the image as the unit.",
            "The diagonal of a conversion": "Subjects of one modality share an encoder, which keeps signals alike that "
            "were alike before: there even a model trained on shuffled pairs can lie above chance.",
        }
    return [Caveat("limit", title, text) for title, text in said.items()]
