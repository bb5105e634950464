"""One look for every figure, on pages and in papers: colours safe for the colour-blind, type sizes, line widths."""

from __future__ import annotations

from typing import Any

# M. Okabe and K. Ito's colours (Color Universal Design, 2008); yellow and black are left out: too pale, and the ink's.
BLUE, ORANGE, GREEN, VERMILION = "#0072b2", "#e69f00", "#009e73", "#d55e00"
SKY, PURPLE = "#56b4e9", "#cc79a7"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, VERMILION, SKY)
MARKERS = ("o", "s", "^", "D", "v", "P")
INK, MUTED, GRID, PAPER = "#1d1e1c", "#5f615c", "#dcddd8", "#fdfdfb"
WIDTH = 4.9  # inches: one column of a desktop page, the whole of a phone's
VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    PAPER: "paper",
    BLUE: "blue",
    ORANGE: "orange",
    GREEN: "green",
    VERMILION: "vermilion",
    SKY: "sky",
    PURPLE: "purple",
}
STYLE: dict[str, Any] = {
    "font.size": 10.5,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10.5,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "legend.columnspacing": 1.2,
    "legend.borderaxespad": 0.2,
    "legend.borderpad": 0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "svg.fonttype": "none",
    "text.parse_math": False,  # names of layers and subjects are data, never formulas
    "text.usetex": False,
}
# Figures as files of their own: on white. PDF embeds TrueType subsets (type 42: searchable, editable; many journals
# refuse type 3). In SVG letters become outlines: that looks the same on a machine that lacks the font.
EXPORT: dict[str, Any] = {
    **STYLE,
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "path",
}
PNG_DPI = 300
FORMATS = ("svg", "pdf", "png")
