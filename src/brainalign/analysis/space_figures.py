"""The figures of the space analysis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brainalign.analysis.base import Figure, Look
from brainalign.analysis.embeddings import Embeddings
from brainalign.analysis.maps import MAPS
from brainalign.analysis.shared_space import PermutedScore
from brainalign.analysis.sweeps import MIXTURE
from brainalign.evaluation import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 4
POINTS_DRAWN_MAX = 4000  # beyond, points become a picture inside of the figure: a page of shapes would be too heavy


@dataclass(frozen=True)
class Measured:
    """One run's embeddings with their numbers and maps.

    Attributes
    ----------
    maps : dict
        From 'tsne' or 'umap' to places of shape (2 n, 2), brain above image.
    """

    embeddings: Embeddings
    k: int
    alignment: Interval
    mutual: PermutedScore
    gap: float
    hubness: float
    brain_cohesion: PermutedScore | None
    image_cohesion: PermutedScore | None
    maps: Mapping[str, NDArray[np.float64]]

    def row(self) -> dict[str, Any]:
        """One line of the table."""
        e = self.embeddings
        return {
            "layer": e.layer,
            "depth": e.depth,
            "pooling": e.pooling,
            "images": len(e.ids),
            "alignment": self.alignment.estimate,
            "alignment_ci95_lo": self.alignment.lo,
            "alignment_ci95_hi": self.alignment.hi,
            f"mutual {self.k}-neighbour overlap": self.mutual.score,
            "overlap by chance": self.mutual.null_mean,
            "overlap p": self.mutual.p,
            "modality gap": self.gap,
            "hubness": self.hubness,
            "brain cohesion": self.brain_cohesion.score if self.brain_cohesion else None,
            "brain cohesion p": self.brain_cohesion.p if self.brain_cohesion else None,
            "image cohesion": self.image_cohesion.score if self.image_cohesion else None,
            "image cohesion p": self.image_cohesion.p if self.image_cohesion else None,
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything but the maps, as JSON values."""
        e = self.embeddings
        return {
            "run": e.folder.name,
            "layer": e.layer,
            "pooling": e.pooling,
            "depth": e.depth,
            "n_images": len(e.ids),
            "recomputed_difference": e.difference,
            "alignment": asdict(self.alignment),
            "mutual_neighbours": {"k": self.k, **asdict(self.mutual)},
            "modality_gap": self.gap,
            "hubness": self.hubness,
            "brain_cohesion": asdict(self.brain_cohesion) if self.brain_cohesion else None,
            "image_cohesion": asdict(self.image_cohesion) if self.image_cohesion else None,
        }


def figures(measured: Sequence[Measured], chosen: Sequence[int], images: str) -> tuple[Figure, ...]:
    """A figure a map, with a panel a layer; for several layers, the numbers over depth."""
    found = [_map(measured, chosen, images, name) for name in MAPS if name in measured[0].maps]
    if len(measured) > 1:
        found.append(_numbers(measured, chosen, images))
    return tuple(found)


def _map(measured: Sequence[Measured], chosen: Sequence[int], images: str, name: str) -> Figure:
    n = len(measured)
    across = min(n, COLUMNS)
    down = math.ceil(n / across)
    size = (4.9, 4.6) if n == 1 else (9.2, 0.5 + 2.35 * down)
    heavy = sum(2 * len(m.embeddings.ids) for m in measured) > POINTS_DRAWN_MAX

    def paint(ax: Axes, look: Look) -> None:
        figure = ax.figure
        ax.remove()
        grid = figure.subplots(down, across, squeeze=False)
        if heavy:
            figure.set_dpi(200)
        for place, panel in enumerate(grid.ravel()):
            if place >= n:
                panel.remove()
                continue
            _paint_map(panel, look, measured[place], name, heavy=heavy, size=2.6 if n > 1 else 4.2)
            if n > 1:
                e = measured[place].embeddings
                mark = ", chosen" if place in chosen else ""
                panel.set_title(look.name(f"layer {e.layer}{mark}", 24), weight="bold" if mark else "normal")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=3)

    alt = f"{MAPS[name]} map of {len(measured[0].embeddings.ids)} {images} images, each as brain signal and as picture"
    alt += f", for {n} layers." if n > 1 else "."
    note = " Test images: a re-opening for pictures, no choice may rest on it." if images == "test" else ""
    return Figure(
        name=name,
        title=f"{MAPS[name]} of brain and images" + (" (exploratory)" if images == "test" else ""),
        caption="Every image twice: as the brain's signal and as the picture, a line between the two. Axes have no "
        f"unit; only who lies near whom means something.{note}",
        alt=alt,
        paint=paint,
        rows=_places(measured, name),
        size=size,
        wide=n > 1,
    )


def _paint_map(ax: Axes, look: Look, measured: Measured, name: str, *, heavy: bool, size: float) -> None:
    places, n = measured.maps[name], len(measured.embeddings.ids)
    brain, image = places[:n], places[n:]
    gap = np.full((n, 2), np.nan)  # a break after every pair: one path instead of n
    lines = np.stack([brain, image, gap], axis=1).reshape(-1, 2)
    style: dict[str, Any] = {"linestyle": "", "rasterized": heavy, "alpha": 0.85}
    ax.plot(lines[:, 0], lines[:, 1], color=look.muted, linewidth=0.35, alpha=0.5, label="same image", rasterized=heavy)
    ax.plot(*image.T, "s", color=look.series[1], markersize=size, label="image", **style)
    ax.plot(*brain.T, "o", color=look.series[0], markersize=size, label="brain", **style)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(visible=False)
    for side in ("left", "bottom", "top", "right"):
        ax.spines[side].set_visible(True)
        ax.spines[side].set_alpha(0.35)


def _places(measured: Sequence[Measured], name: str) -> list[dict[str, Any]]:
    rows = []
    for m in measured:
        n = len(m.embeddings.ids)
        for place, (x, y) in enumerate(m.maps[name]):
            what = "brain" if place < n else "image"
            line = {"layer": m.embeddings.layer, "stimulus_id": m.embeddings.ids[place % n], "what": what}
            rows.append({**line, "x": float(x), "y": float(y)})
    return rows


def _numbers(measured: Sequence[Measured], chosen: Sequence[int], images: str) -> Figure:
    series = (
        ("alignment", "alignment\n(difference of cosines)", [m.alignment.estimate for m in measured]),
        ("overlap", f"shared of {measured[0].k}\nneighbours (%)", [100 * m.mutual.score for m in measured]),
        ("gap", "modality gap\n(distance)", [m.gap for m in measured]),
        ("hubness", "hubness\n(skewness)", [m.hubness for m in measured]),
    )

    def paint(ax: Axes, look: Look) -> None:
        figure = ax.figure
        ax.remove()
        grid = figure.subplots(2, 2, squeeze=False)
        for number, (panel, (name, label, values)) in enumerate(zip(grid.ravel(), series, strict=True)):
            _paint_number(panel, look, measured, values, chosen, number)
            if name == "alignment":
                for m, x in _placed(measured, look):
                    panel.plot([x, x], [m.alignment.lo, m.alignment.hi], color=look.series[0], linewidth=1, alpha=0.6)
            if name == "overlap":
                null = 100 * float(np.mean([m.mutual.null_mean for m in measured]))
                panel.axhline(null, color=look.muted, linewidth=0.9, linestyle=(0, (2, 2)), label="pairs dealt anew")
            panel.set_ylabel(label)
            panel.set_ylim(bottom=min(0.0, *values))
        handles, labels = grid[0, 1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=3)

    said = "; ".join(
        f"{label.split(chr(10))[0]} from {min(values):.3g} to {max(values):.3g}" for _, label, values in series
    )
    return Figure(
        name="space-numbers",
        title=f"The space over depth, {images} images" + (" (exploratory)" if images == "test" else ""),
        caption="Alignment: mean cosine of true pairs minus that of other pairs (bars: 95 % intervals over images). "
        f"Shared neighbours: overlap of the {measured[0].k} nearest by brain and by image. Gap: distance of the two "
        f"centroids. Hubness: skewness of how often an image is among the {measured[0].k} nearest of a signal.",
        alt=f"Four numbers of the shared space over {len(measured)} layers: {said}.",
        paint=paint,
        rows=[m.row() | {"chosen": int(place in chosen)} for place, m in enumerate(measured)],
        size=(10.2, 5.6),
        wide=True,
    )


def _placed(measured: Sequence[Measured], look: Look) -> list[tuple[Measured, float]]:
    """Single layers and where they stand; a mixture has no depth of its own."""
    single = [m for m in measured if MIXTURE not in m.embeddings.layer]
    places = look.depths([(m.embeddings.layer, m.embeddings.depth) for m in single], names=True)
    return [(m, places.place(m.embeddings.layer, m.embeddings.depth)) for m in single]


def _paint_number(
    ax: Axes, look: Look, measured: Sequence[Measured], values: Sequence[float], chosen: Sequence[int], number: int
) -> None:
    of = {id(m): value for m, value in zip(measured, values, strict=True)}
    placed = _placed(measured, look)
    style: dict[str, Any] = {"color": look.series[number], "marker": look.markers[number]}
    blocks = [(x, of[id(m)]) for m, x in placed if m.embeddings.layer not in ("head", "final")]
    beyond = [(x, of[id(m)]) for m, x in placed if m.embeddings.layer in ("head", "final")]
    for pairs, line in ((sorted(blocks), "-"), (beyond, "")):
        if pairs:
            ax.plot([x for x, _ in pairs], [y for _, y in pairs], linestyle=line, **style)
    for m in measured:
        if MIXTURE in m.embeddings.layer:
            ax.axhline(of[id(m)], color=look.series[number], linewidth=1.1, linestyle=(0, (6, 1.5, 1, 1.5)))
    ringed = [(x, of[id(m)]) for m, x in placed if any(m is measured[place] for place in chosen)]
    ring: dict[str, Any] = {"markersize": 11, "markerfacecolor": "none", "markeredgecolor": look.ink}
    if ringed:
        ax.plot([x for x, _ in ringed], [y for _, y in ringed], "o", linestyle="", label="chosen", **ring)
    places = look.depths([(m.embeddings.layer, m.embeddings.depth) for m, _ in placed], names=True)
    places.dress(ax)
