"""What every analysis gives: findings in words, numbers, tables, and figures that paint themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from brainalign.errors import InputError, unknown_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Kind = Literal["finding", "exploratory", "not measured", "limit"]
NOT_MEASURED = "not measured"


class Options(BaseModel):
    """Base of an analysis's settings: unknown keys are refused; descriptions are the help of the command line."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataOptions(Options):
    """Settings of an analysis that opens the data set again."""

    root: Path | None = Field(None, description="Folder that holds the data set's files.")
    cache: Path | None = Field(None, description="Cache folder (else BRAINALIGN_CACHE, else the user's).")


AnyOptions = TypeVar("AnyOptions", bound=Options)


def read_options(kind: type[AnyOptions], given: Mapping[str, Any]) -> AnyOptions:
    """Check options.

    Raises
    ------
    InputError
        For an unknown name (the nearest one is given) or a value that does not fit.
    """
    for name in given:
        if name not in kind.model_fields:
            raise unknown_name("option", name, kind.model_fields)
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).replace("_", "-")
        text = f"{first['msg']}, got {first['input']!r}"
        raise InputError(text, where=f"--{name}", hint="see --help") from error


class Places(Protocol):
    """Where layers stand from left to right."""

    def place(self, layer: str, depth: float) -> float:
        """Horizontal place of a layer."""

    def dress(self, ax: Axes) -> None:
        """Set ticks and label."""


class Look(Protocol):
    """Colours and habits of the house, given by whoever draws a figure."""

    @property
    def series(self) -> Sequence[str]:
        """Colours of series, safe for the colour-blind."""

    @property
    def markers(self) -> Sequence[str]:
        """Markers of series."""

    @property
    def ink(self) -> str:
        """Colour of text."""

    @property
    def muted(self) -> str:
        """Colour of what stands back."""

    def name(self, text: object, longest: int = 28) -> str:
        """A label fit for a plot."""

    def legend(self, ax: Axes) -> None:
        """A legend over the plot."""

    def depths(self, layers: Sequence[tuple[str, float]], *, names: bool) -> Places:
        """Places of layers (name, relative depth): blocks by depth, `head` and `final` beyond them."""


@dataclass(frozen=True)
class Figure:
    """A figure and the numbers behind it.

    Attributes
    ----------
    name : str
        Of its files; unique in an analysis.
    title, caption, alt : str
        `alt` says in words what it shows.
    paint : callable
        `paint(axes, look)`. A figure of several panels removes the axes and makes its own on `axes.figure`.
    rows : sequence of dict
        The numbers as a table, all rows with the same keys.
    size : (float, float) or None
        Inches; None for one column of the page.
    wide : bool
        Whether it takes the whole width of the page.
    """

    name: str
    title: str
    caption: str
    alt: str
    paint: Callable[[Axes, Look], None]
    rows: Sequence[Mapping[str, Any]]
    size: tuple[float, float] | None = None
    wide: bool = False


@dataclass(frozen=True)
class Table:
    """A table of the page, also written as CSV; None is shown as 'not measured'."""

    name: str
    title: str
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Finding:
    """A sentence with its standing.

    Attributes
    ----------
    kind : {'finding', 'exploratory', 'not measured', 'limit'}
        'exploratory' rests on test scores that no choice may rest on; 'limit' says what the numbers cannot say.
    """

    kind: Kind
    text: str


@dataclass(frozen=True)
class Analysis:
    """What an analysis found.

    Attributes
    ----------
    name, title : str
    virtual : bool
        Whether any signal was computed instead of measured.
    facts : dict
        What was analysed, in words.
    findings : tuple of Finding
    figures : tuple of Figure
    tables : tuple of Table
    numbers : dict
        Everything found, as JSON values; None where it was not measured.
    """

    name: str
    title: str
    virtual: bool
    facts: Mapping[str, str]
    findings: tuple[Finding, ...]
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    numbers: Mapping[str, Any] = field(default_factory=dict)
