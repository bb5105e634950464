"""Figures of the quality page: evoked responses of each session, noise of each channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brainalign.report.figures import BLUE, INK, MARKERS, MUTED, ORANGE, SERIES, Panel, clean, draw
from brainalign.report.page import csv_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE = 9.2  # inches
POINTS_MAX = 150  # samples drawn of a response: more make a page of many subjects slow
POSTERIOR = ("O", "PO", "P")
UNITS = {"uV": "µV", "whitened": "whitened units"}
_DIGITS = 4


def evoked_panel(one: Mapping[str, Any]) -> Panel:
    """Mean response of every channel (training trials), and global field power of both parts, session by session.

    Parameters
    ----------
    one : mapping
        A subject's `quality.json`.
    """
    unit = UNITS.get(one["unit"], one["unit"])
    times = np.array(one["times"], dtype=np.float64)
    step = -(-len(times) // POINTS_MAX)
    names = [str(name) for name in one["ch_names"]]
    curves = [_Curves(session, len(names), step) for session in one["sessions"]]
    shown = times[::step]

    def paint(ax: Axes) -> None:
        figure: Any = ax.figure
        ax.remove()
        grid = figure.subplots(2, len(curves), sharex=True, sharey="row", squeeze=False)
        for column, curve in enumerate(curves):
            _butterfly(grid[0, column], shown, curve, names)
            _power(grid[1, column], shown, curve)
        grid[1, 0].set_ylim(bottom=0)  # after everything is drawn: it ends the automatic scale of the row
        grid[0, 0].set_ylabel(f"evoked response\n({unit})")
        grid[1, 0].set_ylabel(f"field power\n({unit})")
        figure.supxlabel("time from the onset of the photo (s)", fontsize=10.5)
        handles = [*grid[0, 0].get_legend_handles_labels()[0], *grid[1, 0].get_legend_handles_labels()[0]]
        figure.legend(handles=handles, loc="outside upper left", ncols=len(handles))

    subject = str(one["subject"])
    alt = (
        f"For each of {len(curves)} sessions of subject {subject}: the mean training response of {len(names)} channels "
        "over time, and below it the global field power of training and test trials."
    )
    size = (max(4.9, min(WIDE, 1.1 + 2.1 * len(curves))), 4.4)
    return Panel(
        f"evoked-{subject}",
        f"Evoked responses, subject {clean(subject)}",
        "Above: mean of a session's training trials, one line a channel. Below: standard deviation over channels "
        "(global field power). Photos follow each other every 0.2 s, so the responses to neighbours overlap; the line "
        "at 0 s is the onset.",
        alt,
        draw(f"evoked-{subject}", alt, paint, size),
        csv_text(_evoked_rows(shown, curves, names)),
        wide=True,
    )


class _Curves:
    """What is drawn of a session."""

    def __init__(self, session: Mapping[str, Any], n_chans: int, step: int) -> None:
        self.session = int(session["session"])
        parts = session["parts"]
        self.evoked: NDArray[np.float64] = np.array(parts["train"]["evoked"], dtype=np.float64)[:, ::step]
        self.power = {part: np.array(parts[part]["field_power"], dtype=np.float64)[::step] for part in parts}
        self.trials = {part: int(parts[part]["trials"]) for part in parts}
        if len(self.evoked) != n_chans:
            raise ValueError(f"{len(self.evoked)} responses of {n_chans} channels")


def _is_posterior(name: str) -> bool:
    return name.rstrip("0123456789z") in POSTERIOR


def _butterfly(ax: Axes, times: NDArray[np.float64], curve: _Curves, names: Sequence[str]) -> None:
    ax.axvline(0, color=MUTED, linewidth=0.7)
    labels = {True: "occipital and parietal channels", False: "other channels"}
    for back in (False, True):  # the posterior ones lie on top
        for name, values in zip(names, curve.evoked, strict=True):
            if _is_posterior(name) == back:
                label = labels.pop(back, "_")
                color = BLUE if back else MUTED
                ax.plot(times, values, color=color, linewidth=0.8, alpha=0.75 if back else 0.5, label=label)
    ax.set_title(f"session {curve.session}")


def _power(ax: Axes, times: NDArray[np.float64], curve: _Curves) -> None:
    ax.axvline(0, color=MUTED, linewidth=0.7)
    ax.plot(times, curve.power["train"], color=INK, linewidth=1.4, label="training trials")
    ax.plot(times, curve.power["test"], color=ORANGE, linewidth=1.4, linestyle=(0, (4, 1.5)), label="test trials")


def _evoked_rows(
    times: NDArray[np.float64], curves: Sequence[_Curves], names: Sequence[str]
) -> list[dict[str, float | int]]:
    rows = []
    for curve in curves:
        for i, time in enumerate(times):
            row: dict[str, float | int] = {"session": curve.session, "time_s": float(time)}
            row |= {f"field_power_{part}": _short(values[i]) for part, values in curve.power.items()}
            row |= {name: _short(values[i]) for name, values in zip(names, curve.evoked, strict=True)}
            rows.append(row)
    return rows


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def noise_panel(one: Mapping[str, Any]) -> Panel | None:
    """Noise of single training trials, channel by channel, before whitening; None if no photo was repeated."""
    names = [str(name) for name in one["ch_names"]]
    noise = {int(s["session"]): s["parts"]["train"]["noise_uv"] for s in one["sessions"]}
    noise = {session: values for session, values in noise.items() if values is not None}
    if not noise:
        return None
    subject = str(one["subject"])

    def paint(ax: Axes) -> None:
        apart = 0.6 / max(1, len(noise) - 1)
        for i, (session, values) in enumerate(noise.items()):
            places = np.arange(len(names)) + (i * apart - 0.3 if len(noise) > 1 else 0)
            style: Any = {"color": SERIES[i % len(SERIES)], "marker": MARKERS[i % len(MARKERS)]}
            ax.plot(places, values, linestyle="none", markersize=3.6, label=f"session {session}", **style)
        ax.set_xticks(range(len(names)), [clean(name, 6) for name in names], rotation=90)
        if len(names) > 30:
            ax.tick_params(axis="x", labelsize=7.5)
        ax.set_xlim(-0.7, len(names) - 0.3)
        _noise_scale(ax, [v for values in noise.values() for v in values])
        ax.set_xlabel("channel")
        ax.set_ylabel("noise of a trial (µV)")
        ax.figure.legend(loc="outside upper left", ncols=len(noise))

    alt = f"Noise of single trials in microvolt for {len(names)} channels of subject {subject}, one marker a session."
    rows = [
        {"channel": name, **{f"session_{s}_uv": values[i] for s, values in noise.items()}}
        for i, name in enumerate(names)
    ]
    return Panel(
        f"noise-{subject}",
        f"Noise of each channel, subject {clean(subject)}",
        "Standard deviation of single training trials around the mean of their photo, all samples of the epoch, before "
        "whitening.",
        alt,
        draw(f"noise-{subject}", alt, paint, (max(4.9, min(WIDE, 2.0 + 0.16 * len(names))), 3.1)),
        csv_text(rows),
        wide=len(names) > 24,
    )


def _noise_scale(ax: Axes, values: Sequence[float]) -> None:
    """From 0, unless a few channels are so far off that the others would lie on the axis."""
    positive = [v for v in values if v > 0]
    if positive and max(positive) > 8 * float(np.median(positive)):
        ax.set_yscale("log")
        for axis in (ax.yaxis.set_major_formatter, ax.yaxis.set_minor_formatter):
            axis(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "125" else "")  # our SVG has no formulas
    else:
        ax.set_ylim(bottom=0)
