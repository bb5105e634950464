"""The first sentence of a report: how good, compared with chance, how sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from brainalign.report.caveats import Caveat
from brainalign.report.words import interval, p_value, percent, times


@dataclass(frozen=True)
class Verdict:
    """One sentence with its colour.

    Attributes
    ----------
    good : bool
        Whether the score is clearly above chance.
    short, text : str
        `short` opens the sentence.
    doubt : str
        The most serious point against the score, or the first limit; empty where there is none.
    """

    good: bool
    short: str
    text: str
    doubt: str


def verdict(
    top1: float,
    ends: Sequence[float] | None,
    chance: float,
    p: float | None,
    caveats: Sequence[Caveat],
    *,
    virtual: bool = False,
    n_runs: int = 1,
) -> Verdict:
    """What a reader should take along who reads one line.

    Parameters
    ----------
    top1, chance : float
        Shares from 0 to 1.
    ends : (float, float) or None
        95 % interval; None where there is none.
    p : float or None
        Of the permutation test; of several runs the largest, where no interval pools them.
    caveats : sequence of Caveat
        The most serious first.
    n_runs : int
        Runs that `p` is the largest of.
    """
    sure = [*([ends[0] > chance] if ends is not None else []), *([p < 0.05] if p is not None else [])]
    clear = top1 > chance and bool(sure) and all(sure)
    if clear:
        short = f"{times(top1 / chance)} times better than guessing" if top1 > 1.1 * chance else "Better than guessing"
    else:
        short = "Not clearly better than guessing"
    signals = "virtual" if virtual else "test"
    text = f"{percent(top1)} of {signals} signals led to their image, where chance gives {percent(chance)}"
    if p is not None:
        text += f" ({p_value(p)})" if n_runs == 1 else f" (the largest of {n_runs} p-values: {p_value(p)})"
    if ends is not None:
        text += f"; 95 % interval {interval(ends)}"
    doubts = [c for c in caveats if c.kind == "serious"] or [c for c in caveats if c.kind == "limit"]
    return Verdict(clear, short, text, doubts[0].title if doubts else "")
