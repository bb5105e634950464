"""`brainalign analyze losses`: terms, weights, gradients and velocities of a loss over training.

NeuroAlign (figures 5b and 8) reports that the weight of brain-image alignment dominates early and decays while that of
semantic guidance rises, alike over seeds (standard deviation below 0.1) and subjects. Here each becomes numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brainalign.analysis import losses_figures, words
from brainalign.analysis.base import NOT_MEASURED, Analysis, Finding, Table
from brainalign.analysis.base import Options as BaseOptions
from brainalign.analysis.loss_curves import (
    KINDS,
    Trained,
    band,
    band_of_subjects,
    by_subject,
    check_same_settings,
    differences,
    kind_of_runs,
    read_run,
    runs_in,
)
from brainalign.execution.progress import Reporter, Silent
from brainalign.recipes.loss_settings import TERM_NAMES


class Options(BaseOptions):
    """Settings of the losses analysis: none."""


def run(paths: Sequence[Path], options: Options, reporter: Reporter | None = None) -> Analysis:
    """Average the course of a loss over runs and subjects; opens no data and no test set.

    Parameters
    ----------
    paths : sequence of Path
        Folders of finished runs or sweeps of one setting: they differ in subject, split, seed, layer and pooling. Of a
        sweep that compares methods, such as ablations, its first one is taken.
    options : Options
    reporter : Reporter, optional

    Returns
    -------
    Analysis

    Raises
    ------
    InputError
        If a folder cannot be used, a loss has one term, or the runs differ in other settings.
    """
    folders, runs = runs_in(paths), []
    with (reporter or Silent()).step(f"reading {len(folders)} run(s)") as tick:
        for number, folder in enumerate(folders, start=1):
            runs.append(read_run(folder))
            tick(number, len(folders))
    check_same_settings(runs)
    groups, first = by_subject(runs), runs[0].result
    kinds = [kind for kind in KINDS if (kind, runs[0].terms[0]) in runs[0].values]
    lengths = sorted({len(one.epochs) for one in runs})
    facts = {
        "Data set": first.dataset + (" (VIRTUAL)" if first.virtual else ""),
        "Recipe, budget": f"{first.recipe}, {first.budget}",
        "Subjects": ", ".join(groups),
        "Runs": str(len(runs)),
        **_runs_of_subjects(groups),
        "Weights": runs[0].recipe.losses.balance,
        "Epochs": " to ".join(str(n) for n in sorted({lengths[0], lengths[-1]})),
        "Test set opened": "not for this page",
    }
    deviations = {name: _largest(mine, "weight") for name, mine in groups.items() if len(mine) > 1}
    over_seeds = {name: most for name, most in deviations.items() if kind_of_runs([groups[name]]) == "seeds"}
    between = _largest_between_subjects(runs) if len(groups) > 1 else None
    changes = {term: _change(runs, term) for term in runs[0].terms}
    return Analysis(
        name="losses",
        title=f"Course of the loss: {first.recipe} on {first.dataset}",
        virtual=any(one.result.virtual for one in runs),
        facts=facts,
        findings=(*_findings(runs, deviations, between, changes), *_limits(runs, lengths)),
        figures=losses_figures.figures(runs, kinds),
        tables=(Table("changes", "Weights early and late", [_row(term, c) for term, c in changes.items()]),),
        numbers={
            "n_runs": len(runs),
            "terms": list(runs[0].terms),
            "largest_sd_over_seeds": over_seeds or None,
            "largest_sd_over_other_runs": {n: most for n, most in deviations.items() if n not in over_seeds} or None,
            "largest_sd_over_subjects": between,
            "weights": changes,
            "test_reads": 0,
        },
    )


def _largest(runs: Sequence[Trained], kind: str) -> dict[str, Any]:
    """Where the standard deviation over runs is largest, over all terms and epochs."""
    bands = {term: band(runs, kind, term) for term in runs[0].terms}
    term = max(bands, key=lambda name: float(bands[name].sd.max()))
    place = int(bands[term].sd.argmax())
    return {
        "sd": float(bands[term].sd[place]),
        "term": term,
        "epoch": float(bands[term].epochs[place]),
        "n": len(runs),
        "differ_in": list(differences(runs)),
    }


def _runs_of_subjects(groups: dict[str, list[Trained]]) -> dict[str, str]:
    """How many runs a subject has, as seeds where they are nothing else, and what they differ in."""
    counts = ", ".join(dict.fromkeys(str(len(mine)) for mine in groups.values()))
    if (kind := kind_of_runs(groups.values())) == "seeds":
        return {"Seeds a subject": counts}
    differ = dict.fromkeys(name for mine in groups.values() for name in differences(mine))
    return {f"{kind.capitalize()} a subject": counts + (f", differing in {_listed(differ)}" if differ else "")}


def _listed(names: Iterable[str]) -> str:
    return " and ".join(", ".join(names).rsplit(", ", 1))


def _largest_between_subjects(runs: Sequence[Trained]) -> dict[str, Any]:
    bands = {term: band_of_subjects(runs, "weight", term) for term in runs[0].terms}
    term = max(bands, key=lambda name: float(bands[name].sd.max()))
    place = int(bands[term].sd.argmax())
    found = bands[term]
    return {"sd": float(found.sd[place]), "term": term, "epoch": float(found.epochs[place]), "n": found.n}


def _change(runs: Sequence[Trained], term: str) -> dict[str, Any]:
    """First against last fifth of training, run by run."""
    pairs = np.array([run.change(term) for run in runs])
    moved = pairs[:, 1] - pairs[:, 0]
    moved[np.isclose(pairs[:, 1], pairs[:, 0], rtol=1e-9, atol=0)] = 0  # means of equal weights differ by rounding
    return {
        "first_fifth": float(pairs[:, 0].mean()),
        "last_fifth": float(pairs[:, 1].mean()),
        "change": float(moved.mean()),
        "sd_of_change": float(moved.std(ddof=1)) if len(moved) > 1 else None,
        "runs_rising": int((moved > 0).sum()),
        "runs_falling": int((moved < 0).sum()),
        "runs": len(moved),
    }


def _row(term: str, change: dict[str, Any]) -> dict[str, Any]:
    return {
        "term": TERM_NAMES.get(term, term),
        "weight, first fifth": change["first_fifth"],
        "weight, last fifth": change["last_fifth"],
        "change": change["change"],
        "sd of change": change["sd_of_change"],
        "runs rising": change["runs_rising"],
        "runs falling": change["runs_falling"],
    }


def _findings(
    runs: Sequence[Trained],
    deviations: dict[str, dict[str, Any]],
    between: dict[str, Any] | None,
    changes: dict[str, dict[str, Any]],
) -> list[Finding]:
    if runs[0].recipe.losses.balance == "fixed":
        return [Finding("not measured", "Course of the weights: they are fixed in these runs.")]
    found = [Finding("finding", _direction(term, change)) for term, change in changes.items()]
    if "brain_image" in changes and "semantic_guidance" in changes:
        found.insert(0, Finding("finding", _published(changes)))
    for subject, most in deviations.items():
        seeds = most["differ_in"] == ["seed"]
        differing = f" that differ in {_listed(most['differ_in'])}" if most["differ_in"] and not seeds else ""
        text = (
            f"Subject {subject}: over {most['n']} {'seeds' if seeds else 'runs'}{differing} the largest standard "
            f"deviation of a weight is {most['sd']:.3f} ({TERM_NAMES.get(most['term'], most['term'])}, "
            f"epoch {most['epoch']:.0f})"
        )
        if seeds:
            text += f"; NeuroAlign states below 0.1, here that is {'so' if most['sd'] < 0.1 else 'not so'}"
        found.append(Finding("finding", f"{text}."))
    if not deviations:
        found.append(Finding("not measured", f"Spread over seeds: {NOT_MEASURED}, each subject has one run."))
    elif all(most["differ_in"] != ["seed"] for most in deviations.values()):
        why = "no subject has runs that differ in the seed alone"
        found.append(Finding("not measured", f"Spread over seeds: {NOT_MEASURED}, {why}."))
    if between is not None:
        text = (
            f"Over {between['n']} subjects the largest standard deviation of a weight is {between['sd']:.3f} "
            f"({TERM_NAMES.get(between['term'], between['term'])}, epoch {between['epoch']:.0f})."
        )
        found.append(Finding("finding", text))
    else:
        found.append(Finding("not measured", f"Spread over subjects: {NOT_MEASURED}, there is one subject."))
    return found


def _direction(term: str, change: dict[str, Any]) -> str:
    name, rising, falling = TERM_NAMES.get(term, term), change["runs_rising"], change["runs_falling"]
    if change["change"] == 0:
        moved = f"{rising} of {change['runs']} run(s) rise, {falling} fall" if rising or falling else "in every run"
        return (
            f"The weight of {name} is {change['last_fifth']:.3f} in the first and the last fifth of training ({moved})."
        )
    verb, agree = ("rises", rising) if change["change"] > 0 else ("falls", falling)
    return (
        f"The weight of {name} {verb} from {change['first_fifth']:.3f} in the first fifth of "
        f"training to {change['last_fifth']:.3f} in the last ({agree} of {change['runs']} run(s) in that direction)."
    )


def _published(changes: dict[str, dict[str, Any]]) -> str:
    falls, rises = changes["brain_image"]["change"] < 0, changes["semantic_guidance"]["change"] > 0
    first = max(changes, key=lambda term: float(changes[term]["first_fifth"]))
    said = {
        (True, True): "both are so here",
        (True, False): "here the first falls, but the second does not rise",
        (False, True): "here the first does not fall, the second rises",
        (False, False): "neither is so here",
    }[falls, rises]
    return (
        "NeuroAlign reports that the weight of brain–image alignment falls over training and that of semantic guidance "
        f"rises: {said}. The largest weight of the first fifth is that of {TERM_NAMES.get(first, first)}."
    )


def _limits(runs: Sequence[Trained], lengths: Sequence[int]) -> list[Finding]:
    texts = []
    if lengths[0] != lengths[-1]:
        texts.append(
            f"Runs stopped after {lengths[0]} to {lengths[-1]} epochs: bands end with the shortest, fifths are each "
            "run's own."
        )
    if runs[0].result.budget != "full":
        texts.append("Training was shortened (budget small): the course of a full training may differ.")
    counts = words.counted([one.result.target.label for one in runs])
    if len({one.result.target.label for one in runs}) > 1:
        texts.append(f"Layers differ between runs: {counts}.")
    texts.append("Values are means over the steps of an epoch; the spread within an epoch is not shown.")
    return [Finding("limit", text) for text in texts]
