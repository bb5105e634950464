"""The one error a user can cause, and how it is worded.

Every bad input ends in an `InputError`: one line that says what is wrong, where (file, key, the shape got and the shape
expected) and what to do. The command line prints that line and exits with code 2; the Python API raises it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user gave cannot be used.

    Parameters
    ----------
    problem : str
        What is wrong, in one sentence, naming the value and what was expected.
    where : str or os.PathLike, optional
        File, folder, key or option that holds the problem.
    hint : str, optional
        What to do about it.

    Examples
    --------
    >>> str(InputError("signals hold NaN in trial 3", where="signals.npy", hint="interpolate or drop the trial"))
    'signals.npy: signals hold NaN in trial 3; interpolate or drop the trial'
    """

    def __init__(self, problem: str, *, where: object = None, hint: str | None = None) -> None:
        self.problem, self.where, self.hint = problem, where, hint
        text = f"{where}: {problem}" if where is not None else problem
        super().__init__(" ".join((f"{text}; {hint}" if hint else text).split()))


def unknown_name(kind: str, name: str, known: Iterable[str], *, where: object = None) -> InputError:
    """Build the error for a name that is in no registry, naming its nearest neighbours.

    Examples
    --------
    >>> str(unknown_name("encoder", "eegprojct", ["eegproject", "tsconv"]))
    "unknown encoder 'eegprojct'; did you mean 'eegproject'? Known: eegproject, tsconv"
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    listed = ", ".join(names) if len(names) <= 30 else ", ".join(names[:30]) + ", ..."
    guess = f"did you mean '{near[0]}'? " if near else ""
    return InputError(f"unknown {kind} '{name}'", where=where, hint=f"{guess}Known: {listed}")
