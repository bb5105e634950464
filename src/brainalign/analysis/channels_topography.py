"""Values of sensors over the scalp, drawn by MNE with the names of the channels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brainalign.analysis.channels_data import Channels
from brainalign.analysis.onset import Values

if TYPE_CHECKING:
    import mne
    from matplotlib.axes import Axes

PARTIAL = 0.3  # of the head's radius: how far to the front sensors must reach for the whole head to be drawn
MOST_NAMES = 70  # beyond, names would cover the map; the tables have them
TEMPLATES = ("colin27_1005", "standard_1005")  # one set of places under its new and its old name
SEQUENTIAL, DIVERGING = "cividis", "RdBu_r"
LETTERS, HALO = "#101010", "#ffffff"  # over a colour map, on light and dark pages alike


def sensor_info(channels: Channels) -> mne.Info | None:
    """What MNE needs to place sensors; None where these are no EEG or MEG sensors, or their places are not known.

    EEG without positions takes those of MNE's 10-05 template where all its names are in it.
    """
    if channels.modality not in ("eeg", "meg") or len(channels.names) < 4:
        return None
    positions = channels.positions
    if positions is None or not np.isfinite(positions).all() or not np.abs(positions).max() > 0:
        positions = _template(channels.names) if channels.modality == "eeg" else None
    if positions is None:
        return None
    import mne

    kind = "mag" if channels.modality == "meg" else "eeg"
    info = mne.create_info(list(channels.names), 100.0, kind, verbose="error")
    if kind == "eeg":
        places = dict(zip(channels.names, positions, strict=True))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            info.set_montage(mne.channels.make_dig_montage(places, coord_frame="head"), verbose="error")
    else:
        for place, entry in zip(positions, info["chs"], strict=True):
            entry["loc"][:3] = place
    return info


def _template(names: Sequence[str]) -> NDArray[np.float64] | None:
    import mne

    name = next(name for name in TEMPLATES if name in mne.channels.get_builtin_montages())
    known = mne.channels.make_standard_montage(name).get_positions()["ch_pos"]
    places = {label.lower(): place for label, place in known.items()}
    if not all(name.lower() in places for name in names):
        return None
    return np.array([places[name.lower()] for name in names])


def draw_topography(
    ax: Axes,
    values: Values,
    info: mne.Info,
    *,
    limits: tuple[float, float],
    ink: str,
    signed: bool = False,
    marked: NDArray[np.bool_] | None = None,
    names: bool = True,
) -> Any:
    """Draw values of sensors; gives the image that a colour bar is made of.

    Parameters
    ----------
    values : array of shape (n_chans,)
    limits : (float, float)
        Values at the ends of the colours.
    marked : bool array of shape (n_chans,), optional
        Sensors that get a white dot.
    """
    import mne
    from matplotlib.patheffects import withStroke

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image, _ = mne.viz.plot_topomap(
            np.asarray(values, float),
            info,
            axes=ax,
            show=False,
            sensors="k.",
            cmap=DIVERGING if signed else SEQUENTIAL,
            vlim=limits,
            contours=0,
            extrapolate="local",  # nothing is made up far from the sensors
        )
    (sensors,) = [line for line in ax.lines if line.get_linestyle() == "None"]
    places = np.asarray(sensors.get_xydata(), dtype=np.float64)  # where MNE puts them on the plane
    sensors.remove()
    for line in ax.lines:  # the outlines of the head, in the page's ink
        line.set_color(ink)
        line.set_clip_on(True)
    radius = float(max(np.abs(np.asarray(line.get_xydata())).max() for line in ax.lines))
    if places[:, 1].max() < PARTIAL * radius:  # sensors at the back of the head alone: look at that part
        ax.set_xlim(-1.05 * radius, 1.05 * radius)
        ax.set_ylim(min(-1.0 * radius, 1.15 * float(places[:, 1].min())), float(places[:, 1].max()) + 0.3 * radius)
    shown = np.zeros(len(values), dtype=bool) if marked is None else np.asarray(marked)
    ax.plot(*places[~shown].T, linestyle="", marker=".", markersize=2.5, color=LETTERS)
    ax.plot(
        *places[shown].T, linestyle="", marker="o", markersize=4.5, markerfacecolor=HALO, markeredgecolor=LETTERS,
        markeredgewidth=0.8,
    )  # fmt: skip
    if names and len(values) <= MOST_NAMES:
        halo = [withStroke(linewidth=1.6, foreground=HALO)]
        for name, place in zip(info.ch_names, places, strict=True):
            ax.annotate(
                name, tuple(place), xytext=(0, 3.5), textcoords="offset points", ha="center", va="bottom",
                fontsize=6.5, color=LETTERS, path_effects=halo,
            )  # fmt: skip
    return image
