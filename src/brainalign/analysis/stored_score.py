"""Whether a run's model and the data at hand still give the score that the run stored."""

from __future__ import annotations

from pathlib import Path

from brainalign.errors import InputError

TOLERANCE = 0.02  # of top-1: another device or library may turn a near tie


def check_score(folder: Path, part: str, stored: float, found: float, n_queries: int) -> float:
    """How far a recomputed top-1 is from the stored one.

    One query that turned is always let pass, however few there are.

    Parameters
    ----------
    part : str
        'validation' or 'test', for the message.

    Raises
    ------
    InputError
        If it is another model's or other data's.

    Examples
    --------
    >>> check_score(Path("run"), "test", 0.5, 0.5, 200)
    0.0
    """
    gap = abs(found - stored)
    if gap > max(TOLERANCE, 1.5 / n_queries) + 1e-9:
        text = f"has a {part} top-1 of {stored:.3f}, its model and these data give {found:.3f}"
        hint = "are the data, or the options of a virtual data set (--data-option), those of the run?"
        raise InputError(text, where=folder, hint=hint)
    return gap
