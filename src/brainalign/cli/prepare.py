"""The command that turns raw recordings into a prepared store: prepare."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from brainalign.cli import common as c
from brainalign.errors import unknown_name

DATASETS = ("things-eeg2",)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Examples: brainalign prepare things-eeg2 --root RAW --out PREPARED --jobs 4 | "
        "brainalign prepare things-eeg2 --root RAW --out P17 --subject 01 --channels occipital --sfreq 100 --tmax 0.8"
    )(prepare)


def prepare(
    dataset: Annotated[str, typer.Argument(help="Data set whose raw recordings are read: things-eeg2.")],
    root: Annotated[Path, typer.Option(help="Folder of the raw recordings.")],
    out: Annotated[Path, typer.Option(help="Folder of the prepared store; one preprocessing a folder.")],
    subject: Annotated[list[str] | None, typer.Option(help="Subject; may be repeated; all by default.")] = None,
    channels: Annotated[str, typer.Option(help="all, occipital (17), or names: O1,Oz,O2.")] = "all",
    tmin: Annotated[float, typer.Option(help="Start of the epoch, seconds; before 0 s lies the baseline.")] = -0.2,
    tmax: Annotated[float, typer.Option(help="End of the epoch, seconds.")] = 1.0,
    sfreq: Annotated[float, typer.Option(help="Rate after resampling, Hz.")] = 250.0,
    band: Annotated[
        tuple[float, float] | None, typer.Option(help="Band-pass before epochs are cut, Hz; none by default.")
    ] = None,
    whitening: Annotated[str, typer.Option(help="mvnn, fitted on each session's training trials, or none.")] = "mvnn",
    covariance: Annotated[str, typer.Option(help="Of the whitening: within each epoch, or at each time.")] = "epoch",
    fit_from: Annotated[float, typer.Option(help="The whitening is fitted on samples from here on, seconds.")] = 0.0,
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Sessions at a time.", min=1)] = 1,
    json: c.Json = False,
    quiet: c.Quiet = False,
) -> None:
    """Make a prepared store from raw recordings; started again after an interruption, it goes on where it was."""
    if dataset not in DATASETS:
        raise unknown_name("data set with raw recordings", dataset, DATASETS, where="prepare")
    from brainalign.datasets.things_eeg2.prepare import PrepareSettings, prepare
    from brainalign.datasets.things_eeg2.prepare.settings import read_channels
    from brainalign.report.prepare_page import write_prepare_page

    settings = PrepareSettings(
        channels=read_channels(channels),
        tmin=tmin,
        tmax=tmax,
        sfreq=sfreq,
        band=band,
        whitening=whitening,  # type: ignore[arg-type]  # checked there
        covariance=covariance,  # type: ignore[arg-type]
        fit_from=fit_from,
    )
    say = (lambda plan: None) if quiet else (lambda plan: print(plan, file=sys.stderr, flush=True))
    with c.reporter(quiet).step("preparing") as tick:
        infos = prepare(root, out, settings, subjects=subject or (), jobs=jobs, planned=say, tick=tick)
    with c.reporter(quiet).step("quality page"):
        quality = write_prepare_page(out)
    _show(infos, quality, out, json)


def _show(infos: list[dict[str, Any]], quality: dict[str, Any], out: Path, json: bool) -> None:
    from brainalign.datasets.things_eeg2.images import image_folder, metadata_file

    rows = [_row(info) for info in infos]
    if json:
        c.emit({"out": str(out), "page": str(out / "quality.html"), "subjects": rows, "findings": quality["findings"]})
        return
    c.table("prepared", rows)
    for finding in quality["findings"]:
        print(f"note: {finding}", file=sys.stderr)
    if metadata_file(out) is None and image_folder(out, "train") is None:
        print(
            f"note: put image_metadata.npy (osf.io/qkgtf) into {out}: it says which photos were shown", file=sys.stderr
        )
    print(f"look at {out / 'quality.html'}", file=sys.stderr)


def _row(info: dict[str, Any]) -> dict[str, Any]:
    photos = info["photos"]
    times = info["times"]
    return {
        "subject": info["subject"],
        "sessions": len(info["session_numbers"]),
        "channels": len(info["ch_names"]),
        "seconds": f"{times[0]:g} to {times[-1]:g}",
        "Hz": info["settings"]["sfreq"],
        "unit": info["unit"],
        "train": f"{photos['train']['n_images']} x {photos['train']['repetitions']}",
        "test": f"{photos['test']['n_images']} x {photos['test']['repetitions']}",
    }
