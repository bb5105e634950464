"""What may be chosen about a BIDS data set, and how a choice is written into its name."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import quote, unquote

from brainalign.errors import InputError, unknown_name
from brainalign.recordings.epochs import Window

DATATYPES = ("eeg", "meg", "ieeg")
DEFAULT_SFREQ = 250.0
AUTO, NONE = "auto", "none"
_BETWEEN, _AND = ":", "+"  # of options in a name, and of the words of one option: a comma would separate data sets
_WORDS = ("task", "session", "run", "channels")
_NUMBERS = ("tmin", "tmax")
_PAIRS = ("baseline", "band")
_CHOICES = {"bads": ("drop", "keep"), "bad_segments": ("drop", "keep"), "datatype": ("", *DATATYPES)}
_SPAN_S = 60.0


@dataclass(frozen=True)
class BidsOptions:
    """Options of the data set `bids`, given by `--data-option key=value` or in its name (`bids:task=things`).

    Attributes
    ----------
    task, session, run : tuple of str
        Labels; empty for all. Tasks must be named where several show images.
    datatype : {'', 'eeg', 'meg', 'ieeg'}
        Must be named where there are several.
    acquisition, processing : str
        Labels, where one run lies there in several versions.
    where : str
        Rows of the events to take, `COLUMN=VALUE`; all that name an image by default.
    concept : str
        Column of the events that holds the image's concept, `folder` for the subfolder of `stim_file`, `none`, or
        `auto` (see `brainalign.datasets.bids.images`).
    part : str
        Column that holds `train` or `test`, `none`, or `auto`: the column `part`, if it holds nothing else.
    tmin, tmax : float
        Window, seconds from the event; both ends are cut out.
    baseline : pair of float, None or 'auto'
        Seconds; the mean in it is subtracted. 'auto' is `tmin` to 0 where the window begins before the event.
    sfreq : float or None
        Hz after resampling; None keeps the recorded rate. 250, if the recorded rate is not below it, by default.
    band : pair of float or None
        Pass band in Hz of a filter of the whole run before epochs are cut; either end may be None.
    channels : tuple of str
        Names, or kinds (`mag`, `grad`, `seeg`, ...); empty for all channels of the data type.
    bads, bad_segments : {'drop', 'keep'}
        Channels marked bad in channels.tsv of any run; trials that touch an event whose name begins with `BAD`.
    """

    task: tuple[str, ...] = ()
    session: tuple[str, ...] = ()
    run: tuple[str, ...] = ()
    datatype: str = ""
    acquisition: str = ""
    processing: str = ""
    where: str = ""
    concept: str = AUTO
    part: str = AUTO
    tmin: float = -0.2
    tmax: float = 1.0
    baseline: tuple[float | None, float | None] | str | None = AUTO
    sfreq: float | str | None = AUTO
    band: tuple[float | None, float | None] | None = None
    channels: tuple[str, ...] = ()
    bads: str = "drop"
    bad_segments: str = "drop"

    @classmethod
    def read(cls, text: str | None = None, /, **options: Any) -> BidsOptions:
        """From the part of a name behind `bids:`, and from options as a command line gives them.

        Raises
        ------
        InputError
            If an option is unknown, given twice, or its value makes no sense.

        Examples
        --------
        >>> chosen = BidsOptions.read("task=things:tmax=0.8", channels=["Oz", "O1"])
        >>> chosen.task, chosen.tmax, chosen.text
        (('things',), 0.8, 'task=things:tmax=0.8:channels=Oz+O1')
        """
        given: dict[str, Any] = {}
        for word in (text or "").split(_BETWEEN) if text else ():
            key, mark, value = word.partition("=")
            if not mark:
                raise InputError(f"'{word}' is not key=value", where="bids", hint="for example bids:task=things")
            parts = [unquote(part) for part in value.split(_AND)]
            given[key] = parts if key in _WORDS or len(parts) > 1 else parts[0]
        for name in sorted(set(given) & set(options)):
            if _convert(name, given[name]) != _convert(name, options[name]):  # the same again, as for a run, is fine
                raise InputError(f"option '{name}' is given twice", where="bids", hint="give it once")
        given |= options
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                raise unknown_name("option of bids", name, known)
        return cls(**{name: _convert(name, value) for name, value in given.items()})._checked()

    def _checked(self) -> BidsOptions:
        if not -_SPAN_S <= self.tmin < self.tmax <= _SPAN_S:
            problem = f"the window is {self.tmin:g} to {self.tmax:g} s, expected tmin < tmax within {_SPAN_S:g} s"
            raise InputError(problem, where="bids", hint="both are seconds from the event")
        if isinstance(self.baseline, tuple):
            low, high = self.window_baseline or (0.0, 0.0)
            if not self.tmin - 1e-9 <= low <= high <= self.tmax + 1e-9:
                problem = f"the baseline is {low:g} to {high:g} s, the window {self.tmin:g} to {self.tmax:g} s"
                raise InputError(problem, where="bids", hint="give a baseline inside the window, or baseline=none")
        if self.band is not None:
            low, high = self.band[0] or 0.0, self.band[1] or math.inf
            if not 0 <= low < high or self.band == (None, None):
                raise InputError(f"the band is {self.band}", where="bids", hint="give [low, high] in Hz, low < high")
        if self.where and not all(self.where_pair):
            raise InputError(f"where is '{self.where}'", where="bids", hint="give COLUMN=VALUE: where=trial_type=image")
        return self

    @property
    def where_pair(self) -> tuple[str, str]:
        """Column and value of `where`; both empty if there is none."""
        column, _, value = self.where.partition("=")
        return column, value

    @property
    def window_baseline(self) -> tuple[float, float] | None:
        """Seconds from the event, open ends filled in."""
        if self.baseline is None:
            return None
        if isinstance(self.baseline, str):
            return (self.tmin, 0.0) if self.tmin < 0 else None
        low, high = self.baseline
        return (self.tmin if low is None else low), (self.tmax if high is None else high)

    def window(self, recorded: float) -> Window:
        """What is cut from a run.

        Parameters
        ----------
        recorded : float
            Hz.

        Raises
        ------
        InputError
            If a higher rate than the recorded one is asked for.
        """
        if self.sfreq is None:
            return Window(self.tmin, self.tmax, recorded)
        if isinstance(self.sfreq, str):
            return Window(self.tmin, self.tmax, min(DEFAULT_SFREQ, recorded))
        if self.sfreq > recorded:
            problem = f"was recorded at {recorded:g} Hz, sfreq={self.sfreq:g} asked for"
            raise InputError(problem, hint="give a rate that is not above the recorded one")
        return Window(self.tmin, self.tmax, self.sfreq)

    @property
    def text(self) -> str:
        """What differs from the defaults, as it stands in the data set's name; `read` takes it back."""
        default = BidsOptions()
        changed = [f.name for f in fields(self) if getattr(self, f.name) != getattr(default, f.name)]
        return _BETWEEN.join(f"{name}={_write(getattr(self, name))}" for name in changed)


def _write(value: Any) -> str:
    if isinstance(value, tuple):
        return _AND.join(_write(part) for part in value)
    if value is None:
        return NONE
    return repr(value) if isinstance(value, float) else quote(str(value), safe="=/")


def _convert(name: str, value: Any) -> Any:
    if name in _WORDS:
        words = value if isinstance(value, list | tuple) else str(value).split(",")
        found = tuple(dict.fromkeys(str(word).strip() for word in words if str(word).strip()))
        return () if found == ("all",) else found
    if name in _PAIRS:
        return _pair(name, value)
    if name in _NUMBERS:
        return _number(name, value)
    if name == "sfreq":
        if value == AUTO:
            return AUTO
        number = None if value in (None, NONE, "recorded") else _number(name, value)
        if number is not None and number <= 0:
            raise InputError(f"sfreq is {number:g} Hz", where="bids", hint="give a positive rate, or recorded")
        return number
    text = "" if value is None else str(value)
    if name in _CHOICES and text not in _CHOICES[name]:
        raise unknown_name(f"value of {name}", text, [choice for choice in _CHOICES[name] if choice], where="bids")
    return text


def _pair(name: str, value: Any) -> Any:
    """Two numbers, either of them open; None for none at all."""
    if value in (None, NONE, False):
        return None
    if value == AUTO and name == "baseline":
        return AUTO
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or len(parts) != 2:
        raise InputError(
            f"{name} is {value!r}, expected two numbers", where="bids", hint=f"for example {name}=[0.1,40]"
        )
    return tuple(None if part in (None, NONE) else _number(name, part) for part in parts)


def _number(name: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{name} is {value!r}, expected a number", where="bids", hint="give seconds or Hz")
    return number
