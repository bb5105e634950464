"""The report of a stack: a run's page with its members in the place of a training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from brainalign.evaluation.result import read_result
from brainalign.report import run_figures
from brainalign.report.figures import BLUE, MUTED, WIDTH, Panel, clean, draw
from brainalign.report.page import csv_text
from brainalign.report.retrievals import Retrievals
from brainalign.report.run_report import write_run_page
from brainalign.report.stack_file import FILE, StackFile, read_stack
from brainalign.report.words import percent
from brainalign.stimuli import StimulusSet

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def write_stack_report(
    folder: str | Path,
    stimuli: StimulusSet | None,
    *,
    out: str | Path | None = None,
    beside: Sequence[str | Path] = (),
) -> Path:
    """Write a stack's report: one HTML file that needs nothing else; see `write_run_report`.

    Parameters
    ----------
    folder : path-like
        Folder that `brainalign stack` wrote.
    stimuli : StimulusSet or None
    out : path-like, optional
        `report.html` in the folder by default.
    beside : sequence of path-like
        Other runs on the same test images, for example the members.

    Raises
    ------
    InputError
        If the folder holds no stack, a file of it is damaged, or the report cannot be written.
    """
    place = Path(folder)
    result, stack, retrievals = read_result(place), read_stack(place), Retrievals(place)
    return write_run_page(
        place,
        result,
        retrievals,
        stimuli,
        out=out,
        beside=beside,
        panels=[members_panel(stack), run_figures.cumulative_ranks(retrievals)],
        files=("result.json", FILE, "recipe.yaml"),
    )


def members_panel(stack: StackFile) -> Panel:
    """Validation loss of every member by itself and of the stack, with what each contributes."""
    rows = [
        {"model": m.name, "validation_loss": m.validation_loss, "share": m.share, "weight": m.weight}
        for m in stack.members
    ]
    best = min(stack.members, key=lambda m: m.validation_loss)
    alt = (
        f"Validation loss of {len(rows)} runs and of their stack. Stack: {stack.validation_loss:.3f} nats; best run by "
        f"itself: {best.name}, {best.validation_loss:.3f} nats. "
        + " ".join(f"{m.name} contributes {percent(m.share)}." for m in stack.members)
    )

    def paint(ax: Axes) -> None:
        ax.axvline(stack.validation_loss, color=BLUE, linewidth=0.9, linestyle=(0, (2, 2)))
        ax.plot(stack.validation_loss, 0, "o", color=BLUE, markersize=8)
        for y, member in enumerate(stack.members, start=1):
            ax.plot(member.validation_loss, y, "s", color=MUTED, markersize=6)
            ax.annotate(
                f"share {percent(member.share)}",
                (1.02, y),
                xycoords=("axes fraction", "data"),
                va="center",
            )
        ax.set_yticks(range(len(rows) + 1), ["stack", *(clean(m.name, 20) for m in stack.members)])
        ax.set_ylim(len(rows) + 0.5, -0.5)
        ax.margins(x=0.12)
        ax.grid(visible=False, axis="y")
        ax.grid(visible=True, axis="x")
        ax.tick_params(axis="y", length=0)
        ax.set_xlabel("validation loss (nats), lower is better")

    caption = (
        "Surprise of the true image among the validation images, every query scored with weights fitted on queries of "
        f"other images ({stack.n_folds} folds). At the right, each run's share of the stacked scores."
    )
    table = csv_text([*rows, {"model": "stack", "validation_loss": stack.validation_loss, "share": 1, "weight": ""}])
    svg = draw("members", alt, paint, (WIDTH, 1.0 + 0.36 * (len(rows) + 1)))
    return Panel("members", "Runs of the stack", caption, alt, svg, table)
