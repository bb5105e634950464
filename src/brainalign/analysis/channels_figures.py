"""The figures of the channels analysis: topographies, bars by region, ranked channels, channels over time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brainalign.analysis.base import Figure, Look
from brainalign.analysis.channels_attribution import NAMES, Attributed
from brainalign.analysis.channels_data import Estimates
from brainalign.analysis.channels_knockout import Knocked, Knockouts
from brainalign.analysis.channels_pattern import Patterns
from brainalign.analysis.channels_tables import channel_rows
from brainalign.analysis.channels_topography import SEQUENTIAL, draw_topography, sensor_info
from brainalign.analysis.onset import Values
from brainalign.analysis.time_findings import METRICS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from brainalign.analysis.channels import Measured

RANKED = 40  # channels that a ranked plot shows
PANELS_WIDTH = 9.2  # inches of a row of topographies
HEATMAP_NAMES = 40


class Panel:
    """One value a channel, as it is to be drawn.

    Parameters
    ----------
    title, label : str
        Of the panel; of its colours or its axis, with the unit.
    values : array of shape (n_chans,)
    lo, hi : arrays of shape (n_chans,), optional
    marked : bool array of shape (n_chans,), optional
    signed : bool
        Whether 0 is the middle of the colours.
    """

    def __init__(
        self,
        title: str,
        label: str,
        values: Values,
        lo: Values | None = None,
        hi: Values | None = None,
        marked: NDArray[np.bool_] | None = None,
        *,
        signed: bool = False,
    ) -> None:
        self.title, self.label, self.values, self.lo, self.hi = title, label, values, lo, hi
        self.marked, self.signed = marked, signed

    @property
    def limits(self) -> tuple[float, float]:
        """Values at the ends of the colours: 0 and the largest, or the largest on both sides of 0."""
        largest = float(np.abs(self.values).max()) if self.signed else float(self.values.max())
        largest = largest if largest > 0 else 1.0
        return (-largest, largest) if self.signed else (min(0.0, float(self.values.min())), largest)


def figures(measured: Sequence[Measured], images: str, alpha: float) -> tuple[Figure, ...]:
    """All figures, run by run."""
    found: list[Figure] = []
    for number, one in enumerate(measured, start=1):
        end = f"-{number}" if len(measured) > 1 else ""
        title = f": {one.name}" if len(measured) > 1 else ""
        tag = " (exploratory)" if images == "test" else ""
        found += [
            _replaced(figure, f"{figure.name}{end}", f"{figure.title}{title}{tag}")
            for figure in _of(one, images, alpha)
        ]
    return tuple(found)


def _replaced(figure: Figure, name: str, title: str) -> Figure:
    from dataclasses import replace

    return replace(figure, name=name, title=title)


def _of(one: Measured, images: str, alpha: float) -> list[Figure]:
    found = [_encoding(one, images, alpha)]
    if one.encoding.windows:
        found.append(_over_time(one, images, alpha))
    if isinstance(one.patterns, Patterns):
        found.append(_patterns(one, one.patterns))
    if isinstance(one.attributed, Attributed):
        found.append(_attributions(one, one.attributed))
    if isinstance(one.knockouts, Knockouts):
        if one.knockouts.channels is not None:
            found.append(_channel_drops(one, one.knockouts, one.knockouts.channels, alpha))
        if one.knockouts.regions is not None:
            found.append(_region_drops(one, one.knockouts, one.knockouts.regions, alpha))
    return found


def _encoding(one: Measured, images: str, alpha: float) -> Figure:
    whole = one.encoding.whole
    assert whole.p is not None
    sure = whole.p <= alpha
    panels = [Panel("", "correlation r", whole.values, whole.lo, whole.hi, sure)]
    best = int(whole.values.argmax())
    if one.planted is not None:
        snr = np.array(list(one.planted.values()))
        panels.append(Panel("planted", "signal-to-noise ratio", snr))
        panels[0].title = "measured"
    span = "" if one.material.channels.times is None else ", samples from stimulus onset on"
    caption = (
        f"Correlation of recorded {images} signals with those predicted from the image features by ridge "
        f"regression{span}. {_marks(one, f'above chance, corrected for all channels (p <= {alpha:g})')}"
    )
    if one.planted is not None and _display(one) == "scalp":
        caption += " Right: what the virtual subject was given (single trials)."
    alt = f"Encoding strength by channel, highest in {one.material.channels.names[best]} ({whole.values[best]:.2f})."
    return _figure(one, "channels-encoding", "Encoding strength", caption, alt, panels, whole)


def _patterns(one: Measured, patterns: Patterns) -> Figure:
    explained, channels = patterns.explained, one.material.channels
    panels = [Panel("share explained", "share of variance", explained.values, explained.lo, explained.hi)]
    for number, pattern in enumerate(patterns.maps[:3]):
        sample = patterns.strongest_sample(number, channels.after)
        at = "" if channels.times is None else f", {1000 * channels.times[sample]:.0f} ms"
        unit = channels.unit or "units of the recording"
        panels.append(Panel(f"component {number + 1}{at}", unit, pattern[:, sample], signed=True))
    when = " at the sample where they are strongest" if channels.times is not None else ""
    caption = (
        f"Share of each channel's variance between images that moves with the latent ({patterns.latent}; the "
        f"{len(patterns.maps)} component(s) that covary most with the image, leave-one-out), and the change of the "
        f"signal per standard deviation of a component{when}. The sign of a component is arbitrary."
    )
    if _display(one) != "scalp":
        caption = caption.partition("), and")[0] + ")."
    best = int(explained.values.argmax())
    alt = f"Haufe patterns by channel; the latent explains most in {channels.names[best]}."
    return _figure(one, "channels-patterns", "Haufe patterns", caption, alt, panels, explained)


def _attributions(one: Measured, found: Attributed) -> Figure:
    share, signed = found.share, found.signed
    panels = [
        Panel("absolute", "share of the sum (%)", 100 * share.values, 100 * share.lo, 100 * share.hi),
        Panel("signed", "share of the answer (%)", 100 * signed.values, 100 * signed.lo, 100 * signed.hi, signed=True),
    ]
    missed = f"{found.raw.n_missed} image(s) miss it" if found.raw.n_missed else "all images meet it"
    caption = (
        f"{NAMES[found.method].capitalize()} of the dot product between brain and image embedding, against a signal at "
        f"its training mean; sums over samples. Convergence below 1 %: {missed}."
    )
    best = int(share.values.argmax())
    alt = f"Attributions by channel, the largest share in {one.material.channels.names[best]}."
    return _figure(one, "channels-attributions", "Attributions", caption, alt, panels, share)


def _channel_drops(one: Measured, knockouts: Knockouts, found: Knocked, alpha: float) -> Figure:
    drop = found.drop
    what = METRICS[knockouts.metric]
    panel = Panel(
        "",
        f"drop of {what} (points)",
        100 * drop.difference,
        100 * drop.lo,
        100 * drop.hi,
        drop.p <= alpha,
        signed=True,
    )
    caption = (
        f"Drop of {what} when one channel is set to its training mean; {100 * found.full:.1f} % with all, chance "
        f"{100 * knockouts.chance:.1f} %. {_marks(one, f'differs from 0, corrected for all channels (p <= {alpha:g})')}"
    )
    worst = int(drop.difference.argmax())
    alt = (
        f"Drop of {what} by channel, largest without {found.names[worst]} ({100 * drop.difference[worst]:.1f} points)."
    )
    return _figure(one, "channels-knockout", "Channel knock-out", caption, alt, [panel], None)


def _region_drops(one: Measured, knockouts: Knockouts, found: Knocked, alpha: float) -> Figure:
    what, drop = METRICS[knockouts.metric], found.drop

    def paint(ax: Axes, look: Look) -> None:
        labels = [f"{look.name(name, 20)} ({size})" for name, size in zip(found.names, found.sizes, strict=True)]
        _bars(ax, look, labels, 100 * drop.difference, 100 * drop.lo, 100 * drop.hi, drop.p <= alpha)
        ax.set_xlabel(f"drop of {what} (points)")

    rows = [
        {
            "region": name,
            "n_channels": size,
            f"{knockouts.metric}_full": found.full,
            f"{knockouts.metric}_without": float(found.scores[i]),
            "drop": float(drop.difference[i]),
            "ci95_lo": float(drop.lo[i]),
            "ci95_hi": float(drop.hi[i]),
            "p_corrected": float(drop.p[i]),
        }
        for i, (name, size) in enumerate(zip(found.names, found.sizes, strict=True))
    ]
    return Figure(
        name="channels-regions",
        title="Region knock-out",
        caption=f"Drop of {what} when all channels of a region (their number in brackets) are set to their training "
        f"mean; {100 * found.full:.1f} % with all, chance {100 * knockouts.chance:.1f} %. Whiskers: 95 % interval over "
        f"images. Filled: differs from 0, corrected for all regions (p <= {alpha:g}).",
        alt=f"Drop of {what} without each of {len(found.names)} regions.",
        paint=paint,
        rows=rows,
        size=(4.9, 1.2 + 0.32 * len(found.names)),
    )


def _over_time(one: Measured, images: str, alpha: float) -> Figure:
    encoding, channels = one.encoding, one.material.channels
    order, best = _order(one), np.unravel_index(int(encoding.by_window.argmax()), encoding.by_window.shape)
    window = encoding.windows[int(best[1])]

    def paint(ax: Axes, look: Look) -> None:
        edges = [w.start for w in encoding.windows] + [encoding.windows[-1].stop]
        shown = encoding.by_window[order]
        top = max(float(shown.max()), 1e-6)
        mesh = ax.pcolormesh(
            edges, np.arange(len(order) + 1), shown, cmap=SEQUENTIAL, vmin=min(0.0, float(shown.min())), vmax=top,
            rasterized=True,
        )  # fmt: skip
        rows, columns = np.nonzero(encoding.p_by_window[order] <= alpha)
        ax.plot([encoding.windows[c].at for c in columns], rows + 0.5, linestyle="", marker="o", markersize=2.6,
                markerfacecolor="#ffffff", markeredgecolor="#101010", markeredgewidth=0.5)  # fmt: skip
        ax.grid(visible=False)
        ax.invert_yaxis()
        if len(order) <= HEATMAP_NAMES:
            ax.set_yticks(np.arange(len(order)) + 0.5, [look.name(channels.names[i], 12) for i in order], fontsize=8)
        else:
            places, names = _region_ticks(one, order)
            ax.set_yticks(places, [look.name(name, 14) for name in names])
            if not names:
                ax.set_ylabel("channels, in the order of the recording")
        ax.set_xlabel("time from stimulus onset (s)")
        ax.figure.colorbar(mesh, ax=ax, shrink=0.9).set_label("correlation r")

    rows = [
        {
            "channel": channels.names[place],
            "region": channels.label(place),
            "start_s": w.start,
            "stop_s": w.stop,
            "encoding_r": float(encoding.by_window[place, at]),
            "p_corrected": float(encoding.p_by_window[place, at]),
        }
        for place in order
        for at, w in enumerate(encoding.windows)
    ]
    return Figure(
        name="channels-encoding-time",
        title="Encoding strength over time",
        caption=f"Correlation of recorded with predicted {images} signals in windows. Dots: above chance, corrected "
        f"for all channels and windows (p <= {alpha:g}).",
        alt=f"Encoding strength by channel and window, highest in {channels.names[int(best[0])]} from "
        f"{1000 * window.start:.0f} to {1000 * window.stop:.0f} ms.",
        paint=paint,
        rows=rows,
        size=(4.9, min(6.4, max(3.0, 1.2 + 0.17 * min(len(order), HEATMAP_NAMES)))),
    )


def _order(one: Measured) -> list[int]:
    """Channels region by region, those of none last."""
    grouped = [int(i) for members in one.material.channels.groups.values() for i in members]
    return list(dict.fromkeys([*grouped, *range(len(one.material.channels.names))]))


def _region_ticks(one: Measured, order: Sequence[int]) -> tuple[list[float], list[str]]:
    """Middles of the regions' channels in an order, and their names."""
    at = {channel: number for number, channel in enumerate(order)}
    found = {
        name: float(np.mean([at[int(i)] for i in members])) + 0.5
        for name, members in one.material.channels.groups.items()
    }
    return list(found.values()), list(found)


def _marks(one: Measured, text: str) -> str:
    return f"{'White dots' if _display(one) == 'scalp' else 'Filled'}: {text}." if _display(one) != "regions" else ""


def _display(one: Measured) -> str:
    """How channels are shown: over the scalp, by region, or ranked."""
    if sensor_info(one.material.channels) is not None:
        return "scalp"
    return "regions" if one.material.channels.modality == "fmri" and one.material.channels.groups else "ranked"


def _figure(
    one: Measured, name: str, title: str, caption: str, alt: str, panels: Sequence[Panel], regions: Estimates | None
) -> Figure:
    """Panels in the way that suits the channels; the numbers are those of the channel table."""
    display = _display(one)
    if display == "regions" and regions is None:
        display = "ranked"
    painters: dict[str, Callable[[Axes, Look], None]] = {
        "scalp": lambda ax, look: _scalp(ax, look, one, panels),
        "regions": lambda ax, look: _by_region(ax, look, regions, panels[0], one.material.channels.groups),
        "ranked": lambda ax, look: _ranked(ax, look, one, panels[0]),
    }
    n = min(RANKED, len(one.material.channels.names))
    sizes = {
        "scalp": (4.9, 3.4) if len(panels) == 1 else (PANELS_WIDTH, 3.4 if len(panels) == 2 else 2.6),
        "regions": (4.9, 1.3 + 0.3 * len(one.material.channels.groups)),
        "ranked": (4.9, 1.3 + 0.17 * n),
    }
    note = {
        "scalp": "",
        "regions": " Bars: mean over the channels of a region; whiskers: its 95 % interval over images.",
        "ranked": f" The {n} highest of {len(one.material.channels.names)} channels; whiskers: 95 % interval over "
        "images, not corrected for the order.",
    }[display]
    rows = [{k: v for k, v in row.items() if _belongs(k, name)} for row in channel_rows(one)]
    width, height = sizes[display]
    return Figure(
        name=name, title=title, caption=caption + note, alt=alt, paint=painters[display], rows=rows,
        size=(max(width, 4.4), height), wide=display == "scalp" and len(panels) > 1,
    )  # fmt: skip


def _belongs(column: str, figure: str) -> bool:
    kinds: Mapping[str, tuple[str, ...]] = {
        "channels-encoding": ("encoding", "planted"), "channels-patterns": ("pattern",),
        "channels-attributions": ("attribution",), "channels-knockout": ("knockout",),
    }  # fmt: skip
    return column in ("channel", "region") or column.startswith(kinds[figure])


def _scalp(ax: Axes, look: Look, one: Measured, panels: Sequence[Panel]) -> None:
    info, figure = sensor_info(one.material.channels), ax.figure
    ax.remove()
    drawn: Any = figure.subplots(1, len(panels), squeeze=False)
    for axes, panel in zip(drawn[0], panels, strict=True):
        image = draw_topography(
            axes, panel.values, info, limits=panel.limits, ink=look.ink, signed=panel.signed, marked=panel.marked,
            names=len(panels) < 3,
        )  # fmt: skip
        axes.set_title(panel.title)
        figure.colorbar(image, ax=axes, shrink=0.7, pad=0.02, location="bottom").set_label(panel.label)


def _by_region(ax: Axes, look: Look, found: Estimates | None, panel: Panel, groups: Mapping[str, Any]) -> None:
    assert found is not None
    scale = 100.0 if "%" in panel.label else 1.0
    mean, lo, hi = (scale * np.array(column) for column in zip(*found.regions.values(), strict=True))
    labels = [f"{look.name(name, 20)} ({len(groups[name])})" for name in found.regions]
    _bars(ax, look, labels, mean, lo, hi, np.ones(len(mean), dtype=bool))
    ax.set_xlabel(f"mean {panel.label}")


def _bars(
    ax: Axes, look: Look, labels: Sequence[str], values: Values, lo: Values, hi: Values, filled: NDArray[np.bool_]
) -> None:
    places = np.arange(len(labels))
    colours = [look.series[0] if full else "none" for full in filled]
    ax.barh(places, values, color=colours, edgecolor=look.series[0], linewidth=1.0, height=0.66)
    reach = [np.maximum(values - lo, 0), np.maximum(hi - values, 0)]
    ax.errorbar(values, places, xerr=reach, linestyle="", ecolor=look.ink, elinewidth=1.0, capsize=2.5)
    ax.axvline(0, color=look.muted, linewidth=0.9)
    ax.set_yticks(places, labels)
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")


def _ranked(ax: Axes, look: Look, one: Measured, panel: Panel) -> None:
    names = one.material.channels.names
    order = np.argsort(-panel.values, kind="stable")[:RANKED]
    places = np.arange(len(order))
    values = panel.values[order]
    if panel.lo is not None and panel.hi is not None:
        reach = [np.maximum(values - panel.lo[order], 0), np.maximum(panel.hi[order] - values, 0)]
        ax.errorbar(values, places, xerr=reach, linestyle="", ecolor=look.series[0], elinewidth=1.0, capsize=1.5)
    sure = np.ones(len(order), dtype=bool) if panel.marked is None else panel.marked[order]
    for chosen, face in ((sure, look.series[0]), (~sure, "none")):
        ax.plot(values[chosen], places[chosen], linestyle="", marker="o", markerfacecolor=face,
                markeredgecolor=look.series[0])  # fmt: skip
    ax.axvline(0, color=look.muted, linewidth=0.9)
    ax.set_yticks(places, [look.name(names[i], 16) for i in order], fontsize=8)
    ax.set_ylim(len(order) - 0.4, -0.6)
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")
    ax.set_xlabel(panel.label)
