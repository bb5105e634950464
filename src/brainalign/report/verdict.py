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
) -> Verdict:
    """What a reader should take along who reads one line.

    Parameters
    ----------
    top1, chance : float
        Shares from 0 to 1.
    ends : (float, float) or None
        95 % interval; None where there is none.
    p : float or None
        Of the permutation test; None where several runs are pooled.
    caveats : sequence of Caveat
        The most serious first.
    """
    clear = (ends is None or ends[0] > chance) and (p is None or p < 0.05) and top1 > chance
    if clear:
        short = f"{times(top1 / chance)} times better than guessing" if top1 > 1.1 * chance else "Better than guessing"
    else:
        short = "Not clearly better than guessing"
    signals = "virtual" if virtual else "test"
    text = f"{percent(top1)} of {signals} signals led to their image, where chance gives {percent(chance)}"
    text += f" ({p_value(p)})" if p is not None else ""
    if ends is not None:
        text += f"; 95 % interval {interval(ends)}"
    doubts = [c for c in caveats if c.kind == "serious"] or [c for c in caveats if c.kind == "limit"]
    return Verdict(clear, short, text, doubts[0].title if doubts else "")
