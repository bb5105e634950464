"""How a score could be wrong: what speaks against it, what limits it, and what was checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from brainalign.evaluation import expected_inflation_of_noise, smallest_detectable_difference
from brainalign.evaluation.result import Lint, Result
from brainalign.protocols.lint import BLOCK_DESIGN
from brainalign.protocols.split import DEVELOPMENT_SPLITS
from brainalign.report.words import p_value, percent, plural, points

LAST_EPOCH = "last epoch"  # as `selection.metric` says it
ORDER = {"serious": 0, "limit": 1, "checked": 2}


@dataclass(frozen=True)
class Caveat:
    """One reason to doubt, or one doubt that was looked into.

    Attributes
    ----------
    kind : {'serious', 'limit', 'checked'}
        Speaks against the score; limits what it means; was looked into and found well.
    title : str
        A few words, for the first screen.
    text : str
    """

    kind: str
    title: str
    text: str


def run_caveats(result: Result, *, stored_top1: float | None = None, last_epoch: int | None = None) -> list[Caveat]:
    """Everything a reader of one run should know, the most serious first.

    Parameters
    ----------
    stored_top1 : float, optional
        Top-1 as the stored similarities have it; it must agree with the result.
    last_epoch : int, optional
        Number of epochs trained.
    """
    found = [
        *_data(result),
        *_lint([result]),
        *_above_chance(result),
        *_control(result),
        *_stored(result, stored_top1),
        *_inflation(result),
        *_too_short(result, last_epoch),
        *_validation(result),
        _scope(result),
        _queries(result),
        *_development([result]),
        *_task(result),
    ]
    return in_order(found)


def in_order(found: Sequence[Caveat]) -> list[Caveat]:
    """The most serious first, otherwise as given."""
    return sorted(found, key=lambda caveat: ORDER[caveat.kind])


def _data(result: Result) -> list[Caveat]:
    found = []
    if result.virtual:
        text = (
            "The signals were computed from planted rules, not measured. The score shows that the program recovers "
            "what was planted; it says nothing about brains and ranks no methods."
        )
        found.append(Caveat("serious", "Virtual data", text))
    if result.budget != "full":
        text = f"The recipe's training was shortened (budget {result.budget}); its full budget may score differently."
        found.append(Caveat("limit", "Shortened training", text))
    return found


def _lint(results: Sequence[Result]) -> list[Caveat]:
    """Each finding of the lint once."""
    found = {f.text: f for result in results for f in result.lint}
    caveats = [finding_caveat(f) for f in found.values()]
    if not any(f.severity == "leak" or f.code == BLOCK_DESIGN for f in found.values()):
        text = "The lint found no image or concept shared between parts where the protocol forbids it."
        caveats.append(Caveat("checked", "No leak found", text))
    reads = max(result.test_reads for result in results)
    if reads == 1:
        text = f"{_frozen(results)}; then the test set was opened, once."
        caveats.append(Caveat("checked", "Test set opened once", text))
    elif not any(f.code == "test-read-twice" for f in found.values()):
        caveats.append(Caveat("limit", "Test set opened again", f"The test set was opened {reads} times."))
    return caveats


def _frozen(results: Sequence[Result]) -> str:
    """What was settled before the opening, and by what."""
    by_validation = "with validation images alone to choose by"
    if all(result.selection.epoch is None for result in results):
        return f"Settings, layer and pooling were frozen, {by_validation}"
    if all(result.selection.metric == LAST_EPOCH for result in results):
        return f"Layer and pooling were frozen, {by_validation}, and the last epoch was taken as it was"
    return f"Epoch, layer and pooling were frozen, {by_validation}"


def finding_caveat(finding: Lint) -> Caveat:
    """A leak speaks against the score, and so does a block design, which no way of cutting the data mends."""
    if finding.severity == "leak":
        return Caveat("serious", f"Leak, {finding.code}", finding.text)
    return Caveat("serious" if finding.code == BLOCK_DESIGN else "limit", _title(finding.code), finding.text)


def _title(code: str) -> str:
    """A finding's code in words: `validation-by-image` becomes 'Validation by image'."""
    return code.replace("-", " ").capitalize()


def _above_chance(result: Result) -> list[Caveat]:
    test = result.metrics.test
    if test.top1_ci95[0] > test.chance_top1 and test.permutation_p < 0.05:
        return []
    text = (
        f"The interval reaches down to {percent(test.top1_ci95[0])}, chance is {percent(test.chance_top1)} "
        f"({p_value(test.permutation_p)}): guessing explains this score well enough."
    )
    return [Caveat("serious", "Not clearly above chance", text)]


def _control(result: Result) -> list[Caveat]:
    """Whether the pipeline scores without a signal: the control's hits against Binomial(queries, chance)."""
    control, test = result.shuffled.top1, result.metrics.test
    if control is None:
        return [
            Caveat("limit", "No shuffled control", "The same training on shuffled pairs was not run for this model.")
        ]
    p = upper_tail(round(control * test.n_queries), test.n_queries, test.chance_top1)
    said = f"The same training on shuffled pairs scores {percent(control)}; chance is {percent(test.chance_top1)}"
    if p < 0.01:
        text = (
            f"{said} (one-sided binomial {p_value(p)}). Something other than the pairing of signals and images helps."
        )
        return [Caveat("serious", "Control above chance", text)]
    return [
        Caveat("checked", "Control at chance", f"{said} (one-sided binomial {p_value(p)}), which guessing explains.")
    ]


def upper_tail(hits: int, n: int, chance: float) -> float:
    """Probability of `hits` or more among n guesses."""
    from scipy.stats import binom

    return float(binom.sf(hits - 1, n, chance))


def _stored(result: Result, stored_top1: float | None) -> list[Caveat]:
    test = result.metrics.test
    if stored_top1 is None or abs(stored_top1 - test.top1) <= 1.5 / test.n_queries:
        return []
    text = f"predictions.npz gives a top-1 of {percent(stored_top1)}, result.json says {percent(test.top1)}."
    return [Caveat("serious", "Files disagree", text)]


def _inflation(result: Result) -> list[Caveat]:
    gap, n = result.inflation_gap_top1, len(result.epochs_exploratory)
    if n == 0:
        return []
    test = result.metrics.test
    luck = expected_inflation_of_noise(test.n_queries, test.top1, n)
    claim = f"would have claimed {percent(test.top1 + gap)}, {points(gap)}" if gap > 0 else "would have gained nothing"
    text = (
        f"Choosing the best of {plural(n, 'stored epoch')} on the test set {claim}. If the epochs were equally good "
        f"and independent, luck alone would give {points(luck)} on average. The headline does not contain this gain."
    )
    return [Caveat("checked", f"Inflation gap {points(gap)}", text)]


def _too_short(result: Result, last_epoch: int | None) -> list[Caveat]:
    if last_epoch is None or result.selection.epoch != last_epoch or result.selection.metric == LAST_EPOCH:
        return []
    text = f"Validation was at its best in the last epoch trained ({last_epoch}): longer training may score higher."
    return [Caveat("limit", "Training may be too short", text)]


def _validation(result: Result) -> list[Caveat]:
    if result.validation_kind == "concept-disjoint":
        text = "No concept of the validation images was trained on, as for the test images."
        return [Caveat("checked", "Validation by unseen concepts", text)]
    if any(f.code == "validation-by-image" for f in result.lint):
        return []
    text = "Validation holds out images, not concepts: choices were made under easier conditions than a zero-shot test."
    return [Caveat("limit", "Validation by image", text)]


def _scope(result: Result) -> Caveat:
    text = (
        f"The interval covers the choice of test images only. Another subject, split or seed than {result.subject}, "
        f"{result.split} and {result.seed} may differ by more; a sweep over subjects, splits or seeds shows it."
    )
    return Caveat("limit", "One subject, one split, one seed", text)


def _queries(result: Result) -> Caveat:
    test = result.metrics.test
    smallest = points(smallest_detectable_difference(test.n_queries, test.top1), sign=False)
    text = (
        f"Compared with another model on the same {test.n_queries} queries, a smaller difference would be missed more "
        "often than one time in five (two-sided 5 % test, hits of the two models independent)."
    )
    return Caveat("limit", f"{test.n_queries} queries do not show differences under {smallest}", text)


def _development(results: Sequence[Result]) -> list[Caveat]:
    splits = sorted({result.split for result in results} & set(DEVELOPMENT_SPLITS))
    if not splits:
        return []
    text = "Methods may have been tuned while looking at development splits; confirmation splits start at 10."
    listed = ", ".join(map(str, splits))
    title = f"Split {listed} is for development" if len(splits) == 1 else f"Splits {listed} are for development"
    return [Caveat("limit", title, text)]


def _task(result: Result) -> list[Caveat]:
    test = result.metrics.test
    text = f"Top-1 falls as the gallery grows; compare with scores among {test.n_way} images only."
    found = [Caveat("limit", f"{test.n_way}-image gallery", text)]
    if test.repetitions > 1:
        text = (
            f"Every query averages {test.repetitions} presentations of its image; a single presentation scores lower."
        )
        found.append(Caveat("limit", f"{test.repetitions} repetitions averaged", text))
    return found


def sweep_caveats(results: Sequence[Result], *, n_rows: int, gap: float, test_reads: int) -> list[Caveat]:
    """What a reader of a sweep should know.

    Parameters
    ----------
    results : sequence of Result
        The chosen run of every condition (subject, split, seed).
    n_rows : int
        Rows to choose among in each condition (the largest count).
    gap : float
        Mean inflation gap of choosing the row on test.
    test_reads : int
    """
    first = results[0]
    found = [*_data(first), *_lint(results), *_row_choice(first, n_rows, gap)]
    for result in results:
        found += [c for c in (*_above_chance(result), *_control(result)) if c.kind == "serious" or len(results) == 1]
    if len(results) > 1 and all(c.kind == "checked" for result in results for c in _control(result)):
        text = "In every condition the same training on shuffled pairs scores what chance predicts."
        found.append(Caveat("checked", "Controls at chance", text))
    found += [*_validation(first), *_conditions(results), _queries(first), *_development(results), *_task(first)]
    return in_order(list(dict.fromkeys(found)))


def _row_choice(first: Result, n_rows: int, gap: float) -> list[Caveat]:
    if n_rows < 2:
        return []
    test = first.metrics.test
    luck = expected_inflation_of_noise(test.n_queries, test.top1, n_rows)
    text = (
        f"Choosing the best of {n_rows} rows on the test set would have claimed {points(gap)}, on average over "
        f"conditions. If all rows were equally good and independent, luck alone would give {points(luck)}. The "
        "headline does not contain this gain; the test scores of rows that were not chosen are exploratory."
    )
    return [Caveat("checked", f"Inflation gap {points(gap)}", text)]


def _conditions(results: Sequence[Result]) -> list[Caveat]:
    """Which of subject, split and seed did not vary."""
    same = [name for name in ("subject", "split", "seed") if len({getattr(r, name) for r in results}) == 1]
    if not same:
        return []
    listed = ", ".join(f"one {name}" for name in same)
    text = f"The sweep holds {listed}: the scores say nothing about how far another would differ."
    return [Caveat("limit", listed.capitalize(), text)]
