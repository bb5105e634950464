"""Plots in the house style as SVG that follows the page's light or dark colours."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from brainalign.report.page import data_uri
from brainalign.report.style import (
    BLUE,
    GREEN,
    GRID,
    INK,
    MARKERS,
    MUTED,
    ORANGE,
    PAPER,
    PURPLE,
    SERIES,
    SKY,
    STYLE,
    VARIABLES,
    VERMILION,
    WIDTH,
)

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes

__all__ = [
    "BLUE", "GREEN", "GRID", "INK", "MARKERS", "MUTED", "ORANGE", "PAPER", "PURPLE", "SERIES", "SKY", "STYLE",
    "VARIABLES", "VERMILION", "WIDTH", "DepthAxis", "Panel", "clean", "draw", "drawings", "legend_above",
]  # fmt: skip
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Panel:
    """A figure of the page.

    Attributes
    ----------
    name : str
        Unique on the page.
    title, caption, alt : str
        `alt` says in words what the plot shows, for those who cannot see it.
    svg : Markup
    table : str
        The plotted numbers as CSV.
    """

    name: str
    title: str
    caption: str
    alt: str
    svg: Markup
    table: str
    wide: bool = False

    @property
    def href(self) -> str:
        """The plotted numbers, to be saved."""
        return data_uri(self.table)


@dataclass(frozen=True)
class Drawing:
    """What a plot was drawn from, to be drawn again as a file; see `drawings`."""

    name: str
    paint: Callable[[Axes], None]
    size: tuple[float, float]


_DRAWINGS: ContextVar[list[Drawing] | None] = ContextVar("drawings", default=None)


@contextlib.contextmanager
def drawings() -> Iterator[list[Drawing]]:
    """Collect everything that `draw` draws inside the block."""
    kept: list[Drawing] = []
    token = _DRAWINGS.set(kept)
    try:
        yield kept
    finally:
        _DRAWINGS.reset(token)


def draw(name: str, alt: str, paint: Callable[[Axes], None], size: tuple[float, float] = (WIDTH, 3.05)) -> Markup:
    """Let a function paint on axes in the house style; the result is an `<svg>` element to be placed in a page.

    Parameters
    ----------
    name : str
        Put before every id inside, so that several plots can share a page.
    alt : str
        Text for screen readers.
    size : (float, float)
        Inches. Text is about 10.5 points, so a plot of 4.9 inches stays readable on a phone.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    kept = _DRAWINGS.get()
    if kept is not None:
        kept.append(Drawing(name, paint, size))
    style: Any = {**STYLE, "svg.hashsalt": name}
    with rc_context(style):
        figure = Figure(figsize=size, layout="constrained")
        paint(figure.subplots())
        buffer = io.BytesIO()
        with warnings.catch_warnings():  # text stays text: the reader's browser has the fonts that this machine lacks
            warnings.filterwarnings("ignore", "Glyph .* missing")
            figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _embed(buffer.getvalue(), name, alt)


def clean(text: object, longest: int = 28) -> str:
    """A label fit for a plot: no control characters (XML forbids them), not too long."""
    shown = _CONTROL.sub("\ufffd", str(text))
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def _embed(svg: bytes, name: str, alt: str) -> Markup:
    """Matplotlib's file as an element: own ids, colours as variables of the page, nothing but shapes and text."""
    from markupsafe import Markup

    root = ET.fromstring(_CONTROL.sub("\ufffd", svg.decode("utf-8")))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):
                parent.remove(child)
    used = _references(root)
    for element in root.iter():
        _adapt(element, name, used)
    for key in ("width", "height"):
        root.attrib.pop(key, None)
    root.attrib |= {"role": "img", "aria-label": _CONTROL.sub("\ufffd", alt)}
    ET.register_namespace("", SVG)
    ET.register_namespace("xlink", XLINK)
    return Markup(ET.tostring(root, encoding="unicode"))  # the serialiser escapes text and attributes


def _references(root: ET.Element) -> set[str]:
    """Ids that something inside points at."""
    found = set()
    for element in root.iter():
        for value in element.attrib.values():
            found.update(re.findall(r"url\(#([^)]+)\)", value))
            if value.startswith("#"):
                found.add(value[1:])
    return found


def _adapt(element: ET.Element, name: str, used: set[str]) -> None:
    for key, value in list(element.attrib.items()):
        if key == "id":
            if value in used:
                element.set(key, f"{name}-{value}")
            else:
                del element.attrib[key]
        elif key == f"{{{XLINK}}}href" and value.startswith("#"):
            element.set(key, f"#{name}-{value[1:]}")
        else:
            value = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", value)
            element.set(
                key, re.sub(r"#[0-9a-f]{6}\b", _variable, value) if key in ("style", "fill", "stroke") else value
            )


def _variable(match: re.Match[str]) -> str:
    """A colour of ours becomes the page's variable; the plain one stays as fall-back outside of the page."""
    name = VARIABLES.get(match[0])
    return f"var(--{name}, {match[0]})" if name else match[0]


def legend_above(ax: Axes) -> None:
    """A legend over the plot, at its left, in one line where it fits."""
    handles, labels = ax.get_legend_handles_labels()
    if handles:
        one_line = sum(len(label) + 6 for label in labels) <= 62
        widest = 9 * ax.figure.bbox.width / ax.figure.dpi / (max(map(len, labels)) + 6)  # labels beside one another
        columns = len(labels) if one_line else max(2, min(len(labels), int(widest)))
        ax.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns)


class DepthAxis:
    """Where layers stand from left to right: blocks by relative depth, then `head`, `final` and mixtures of layers.

    Parameters
    ----------
    layers : iterable of (str, float)
        Names and relative depths, 0 to 1.
    names : bool
        Label every layer by name (one backbone) rather than by depth (several).
    """

    BEYOND = ("head", "final")

    def __init__(self, layers: Iterable[tuple[str, float]], *, names: bool = True) -> None:
        pairs = list(layers)  # the same name may stand at different depths of different backbones
        seen = dict.fromkeys(name for name, _ in pairs)
        self.beyond = [name for name in self.BEYOND if name in seen] + [name for name in seen if "+" in name]
        self.blocks = {name: depth for name, depth in pairs if name not in self.beyond}
        self.names = names
        self._start = max((depth for name, depth in pairs if name not in self.beyond), default=0.0)

    def place(self, layer: str, depth: float) -> float:
        """Horizontal place of a layer."""
        if layer in self.beyond:
            return self._start + 0.14 * (1 + self.beyond.index(layer))
        return depth

    def dress(self, ax: Axes) -> None:
        """Set ticks and label."""
        ticks = sorted((depth, name) for name, depth in self.blocks.items()) if self.names else []
        if not self.names:
            ticks = [(d / 4, f"{d / 4:g}") for d in range(5) if d / 4 <= self._start + 1e-9]
        ends = [(self.place(name, 1.0), _mixture_name(name)) for name in self.beyond]
        shown = _thinned(ticks, ends)
        ax.set_xticks([x for x, _ in shown], [clean(name, 12) for _, name in shown])
        if self.blocks and self.beyond:
            ax.axvline(self._start + 0.07, color=MUTED, linewidth=0.7, linestyle=(0, (1, 3)))
        ax.set_xlabel(
            "layer, placed by relative depth" if self.names else "relative depth of the layer (0 first, 1 last block)"
        )


def _mixture_name(name: str) -> str:
    return f"mix of {name.count('+') + 1}" if "+" in name else name


def _thinned(ticks: Sequence[tuple[float, str]], ends: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Every n-th tick, n as small as keeps labels apart; the ends always stay."""
    for step in range(1, len(ticks) + 1):
        kept = ticks[::step]
        room = [0.029 * (len(clean(name, 12)) + 1.2) for _, name in kept]
        gaps = [right[0] - left[0] for left, right in itertools.pairwise(kept)]
        if all(gap >= space for gap, space in zip(gaps, room, strict=False)):
            return [tick for tick in kept if all(end - tick[0] >= 0.1 for end, _ in ends)] + list(ends)
    return list(ends)
