"""How a number reads in a finding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def percent(share: float) -> str:
    """A share between 0 and 1 in percent.

    Examples
    --------
    >>> percent(0.705)
    '70.5 %'
    """
    return f"{100 * share:.1f} %"


def points(difference: float) -> str:
    """A difference of shares in percentage points.

    Examples
    --------
    >>> points(-0.12)
    '-12.0 points'
    """
    return f"{round(100 * difference, 1) + 0.0:+.1f} points"


def ends(interval: Sequence[float] | None, unit: str = "") -> str:
    """Both ends of a 95 % interval; in percent for unit '%'.

    Examples
    --------
    >>> ends((0.1, 0.25), "%"), ends((-1.0, 0.5)), ends(None)
    ('95 % interval 10.0 to 25.0 %', '95 % interval -1 to 0.5', 'no interval')
    """
    if interval is None:
        return "no interval"
    lo, hi = interval
    if unit == "%":
        return f"95 % interval {100 * lo:.1f} to {100 * hi:.1f} %"
    return f"95 % interval {lo:.3g} to {hi:.3g}"


def p_value(p: float) -> str:
    """A p-value with two digits.

    Examples
    --------
    >>> p_value(0.0004999), p_value(0.2345)
    ('p = 0.0005', 'p = 0.23')
    """
    return f"p = {p:.1g}" if p < 0.01 else f"p = {p:.2f}"


def counted(values: Iterable[str]) -> str:
    """Values with how often each occurs, in the order of their first.

    Examples
    --------
    >>> counted(["3", "5", "3"]), counted(["3"])
    ('3 (2 times), 5', '3')
    """
    listed = list(values)
    return ", ".join(
        f"{value} ({listed.count(value)} times)" if listed.count(value) > 1 else value
        for value in dict.fromkeys(listed)
    )
