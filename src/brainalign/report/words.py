"""How a number reads on a page."""

from __future__ import annotations

from collections.abc import Sequence

NBSP = "\u00a0"


def percent(share: float, unit: bool = True) -> str:
    r"""A share between 0 and 1 in percent: one decimal, more where the value is small.

    Examples
    --------
    >>> percent(0.705), percent(0.0002), percent(0.0)
    ('70.5\xa0%', '0.02\xa0%', '0\xa0%')
    """
    value = 100 * share
    text = f"{value:.2g}" if 0 < abs(value) < 0.1 else f"{value:.1f}"
    text = "0" if value == 0 else text
    return f"{text}{NBSP}%" if unit else text


def interval(ends: Sequence[float]) -> str:
    r"""Both ends of an interval of shares.

    Examples
    --------
    >>> interval([0.638, 0.764])
    '63.8 to 76.4\xa0%'
    """
    return f"{percent(ends[0], unit=False)} to {percent(ends[1])}"


def points(difference: float, sign: bool = True) -> str:
    r"""A difference of two shares in percentage points.

    Examples
    --------
    >>> points(0.025), points(-0.12), points(0.12, sign=False)
    ('+2.5\xa0points', '−12.0\xa0points', '12.0\xa0points')
    """
    value = round(100 * difference, 1) + 0.0  # no minus zero
    text = f"{value:+.1f}" if sign and value else f"{value:.1f}"
    return text.replace("-", "−") + f"{NBSP}points"


def points_interval(ends: Sequence[float]) -> str:
    r"""Both ends of an interval of differences.

    Examples
    --------
    >>> points_interval([-0.01, 0.06])
    '−1.0 to +6.0\xa0points'
    """
    return f"{points(ends[0]).partition(NBSP)[0]} to {points(ends[1])}"


def p_value(p: float) -> str:
    r"""A p-value with two digits.

    Examples
    --------
    >>> p_value(0.00049975), p_value(0.2345)
    ('p\xa0=\xa00.0005', 'p\xa0=\xa00.23')
    """
    return f"p{NBSP}={NBSP}{p:.1g}" if p < 0.01 else f"p{NBSP}={NBSP}{p:.2f}"


def duration(seconds: float) -> str:
    r"""Seconds, as minutes or hours where there are many.

    Examples
    --------
    >>> duration(4.23), duration(95), duration(7260)
    ('4.2\xa0s', '1\xa0min\xa035\xa0s', '2\xa0h\xa01\xa0min')
    """
    if seconds < 60:
        return f"{seconds:.1f}{NBSP}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{NBSP}min{NBSP}{rest}{NBSP}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}{NBSP}h{NBSP}{minutes}{NBSP}min"


def times(factor: float) -> str:
    """How many times something: whole from ten on.

    Examples
    --------
    >>> times(141.0), times(1.42)
    ('141', '1.4')
    """
    return f"{factor:.0f}" if factor >= 10 else f"{factor:.1f}"


def plural(count: int, one: str, many: str = "") -> str:
    """A count with its noun.

    Examples
    --------
    >>> plural(1, "image"), plural(3, "query", "queries")
    ('1 image', '3 queries')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"
