"""The figure of a picture and its saliency maps, after Fig. 7 of the NeuroAlign manuscript."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brainalign.analysis.base import Figure, Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ACROSS = 3
WIDE = 9.2  # inches
TALLEST = 13.0
BARS_BELOW = 1.7  # pictures wider than this share of their height have their colour bars below
ROUNDING = 1e-6
COLORS = "cividis"  # lightness grows evenly, and looks the same to the colour-blind
# map: (title, unit of its colour bar); in the order of the equations, three a row
TITLES = {
    "original": ("Picture I", ""),
    "edges": ("Edges E_d", "grey a pixel"),
    "luminance": ("Luminance S_l", "grey (0 to 1)"),
    "contrast": ("Contrast S_d", "grey (0 to 1)"),
    "color": ("Colour S_c", "grey (0 to 4)"),
    "exogenous": ("Exogenous E_x", "weighted grey"),
    "saliency": ("Saliency S_a", "without unit"),
    "antagonism": ("Antagonism R_a", "without unit"),
    "enhanced": ("Enhanced I_a", ""),
}


@dataclass(frozen=True)
class Seen:
    """A picture and its maps.

    Attributes
    ----------
    name : str
        Of the file.
    size : (int, int)
        Width and height of the file, pixels.
    maps : dict of str to array
        By the names of `TITLES`: (h, w), pictures (3, h, w).
    """

    name: str
    size: tuple[int, int]
    maps: Mapping[str, NDArray[np.float32]]


def figure(seen: Seen, place: int, statistics: Mapping[str, Mapping[str, float]]) -> Figure:
    """Picture, maps and enhanced picture side by side.

    Parameters
    ----------
    seen : Seen
    place : int
        Of the picture among those asked for, from 1.
    statistics : mapping
        Numbers of each map, the rows of the figure's table.
    """
    height, width = seen.maps["edges"].shape
    beside = width <= BARS_BELOW * height
    row = 0.4 + 2.3 * height / width if beside else 0.95 + 2.8 * height / width  # inches, of a title, map and bar
    tall = min(TALLEST, ACROSS * row)

    def paint(ax: Axes, look: Look) -> None:
        canvas = ax.figure
        ax.remove()
        canvas.set_dpi(200)
        panels = canvas.subplots(len(TITLES) // ACROSS, ACROSS)
        for panel, (name, (title, unit)) in zip(panels.ravel(), TITLES.items(), strict=True):
            _paint(panel, seen.maps[name], unit, from_zero=name != "saliency")
            panel.set_title(title, loc="left")
        panels[0, 0].set_xticks([0, width], ["0", f"{width} px"])
        panels[0, 0].set_yticks([0, height], ["0", str(height)])

    slug = re.sub(r"[^a-z0-9]+", "-", seen.name.rsplit(".", 1)[0].lower()).strip("-")[:40]
    return Figure(
        name=f"picture-{place:02d}-{slug}".rstrip("-"),
        title=seen.name,
        caption=f"{seen.size[0]} x {seen.size[1]} pixels in the file, {width} x {height} here. Each map has a scale of "
        "its own; the enhanced picture is the picture times its antagonism map, cut to 0 to 1.",
        alt=f"{seen.name}, its edges, luminance, contrast, colour, exogenous, saliency and antagonism maps, and the "
        "enhanced picture.",
        paint=paint,
        rows=[{"map": name, "unit": TITLES[name][1], **found} for name, found in statistics.items()],
        size=(WIDE, tall),
        wide=True,
    )


def _paint(panel: Axes, values: NDArray[np.float32], unit: str, *, from_zero: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    panel.grid(False)
    panel.set_xticks([])
    panel.set_yticks([])
    for spine in panel.spines.values():
        spine.set_visible(False)
    height, width = values.shape[-2:]
    style: Any = {"interpolation": "none", "extent": (0, width, height, 0)}
    if values.ndim == 3:
        panel.imshow(np.clip(values, 0, 1).transpose(1, 2, 0), **style)
        return
    low, high = float(values.min()), float(values.max())
    if from_zero:  # a flat map is dark, not the middle of a scale of rounding
        low, high = min(0.0, low), high if high > ROUNDING else 1.0
    shown = panel.imshow(values, cmap=COLORS, vmin=low, vmax=high, **style)
    beside = width <= BARS_BELOW * height
    share = width / height  # bars below are as thick as those beside
    place = panel.inset_axes((1.03, 0.0, 0.045, 1.0) if beside else (0.0, -0.075 * share, 1.0, 0.045 * share))
    bar = panel.figure.colorbar(shown, cax=place, label=unit, orientation="vertical" if beside else "horizontal")
    bar.outline.set_visible(False)
    bar.locator = MaxNLocator(4)
    bar.update_ticks()
