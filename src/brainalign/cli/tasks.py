"""Commands that use a trained run: decode, encode, convert."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from brainalign.cli import common as c
from brainalign.errors import InputError

RunFolder = Annotated[Path, typer.Argument(help="Folder of a finished run.", metavar="RUN")]
Mask = Annotated[Path | None, typer.Option(help="Mask of the run's voxels, for .nii files.")]
Channels = Annotated[Path | None, typer.Option(help="Channel names of a .npy file, one a line.")]
Rate = Annotated[float | None, typer.Option(help="Sampling rate of a .npy file, Hz.")]
Start = Annotated[float | None, typer.Option(help="First sample of a .npy file, seconds from stimulus onset.")]
Level = Annotated[float, typer.Option(help="Probability inside the intervals of generated signals.")]
Source = Annotated[str | None, typer.Option(help="Of a foundation run: the source, by its name or its modality.")]
Top = Annotated[int, typer.Option(help="How many.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: brainalign decode run --signals new.npy --gallery photos --out found.html")(decode)
    app.command(epilog="Example: brainalign encode run --images photos --out signals.npz")(encode)
    app.command(
        epilog="Examples: brainalign convert one-space --source eeg --target fmri --out found.csv; "
        "brainalign convert eeg-run --target-run fmri-run --out found.csv"
    )(convert)


def decode(
    run: RunFolder,
    signals: Annotated[Path, typer.Option(help="New signals: .npy, .fif (epochs), .nii.gz or .csv.")],
    gallery: Annotated[Path, typer.Option(help="Folder of images to choose from; subfolders are classes.")],
    out: Annotated[Path, typer.Option(help="Answer: .csv, .jsonl, .json or .html.")],
    top: Top = 5,
    mask: Mask = None,
    channels: Channels = None,
    sfreq: Rate = None,
    tmin: Start = None,
    repetitions: Annotated[int | None, typer.Option(help="Trials each signal averages; as in training.")] = None,
    none_prior: Annotated[float, typer.Option(help="Probability that the gallery lacks the image, beforehand.")] = 0.5,
    truth: Annotated[Path | None, typer.Option(help="Image of each signal, one a line: scores the answer.")] = None,
    source: Source = None,
    root: c.Root = None,
    device: c.Device = "auto",
    cache: c.Cache = None,
    json: c.Json = False,
    quiet: c.Quiet = False,
) -> None:
    """Find the images of a folder that new signals came from; with probabilities, for generative runs."""
    from brainalign.tasks.decode_run import decode_run
    from brainalign.tasks.signal_files import FileOptions

    facts = decode_run(
        _open(run, root, device, cache, quiet, source),
        signals=signals,
        gallery=gallery,
        out=out,
        top=top,
        options=FileOptions(mask, channels, sfreq, tmin),
        none_prior=none_prior,
        repetitions=repetitions,
        truth=truth,
    )
    if json:
        c.emit(facts)
        return
    said = c.virtual_words(facts["virtual"])
    print(f"{said}{facts['n_signals']} signals, nearest of {facts['n_gallery']} images: {out}")
    for line in (*facts["scores_in_words"], *(f"note: {note}" for note in facts["notes"])):
        print(line)


def encode(
    run: RunFolder,
    images: Annotated[str, typer.Option(help="Folder of images, or 'test': the run's test images, scored.")],
    out: Annotated[Path, typer.Option(help="Answer: .npz (generated signals), .csv, .jsonl or .json.")],
    how: Annotated[
        str, typer.Option(help="generate: the model's prediction; retrieve: recorded signals.")
    ] = "generate",
    level: Level = 0.95,
    repetitions: Annotated[
        int | None, typer.Option(help="Trials that intervals are for; as in the test averages, else as in training.")
    ] = None,
    top: Top = 5,
    pool: Annotated[str, typer.Option(help="Recorded signals to retrieve from: train, validation, test.")] = "test",
    judge: Annotated[str | None, typer.Option(help="Backbone that compares retrieved images; the run's.")] = None,
    source: Source = None,
    root: c.Root = None,
    device: c.Device = "auto",
    cache: c.Cache = None,
    json: c.Json = False,
    quiet: c.Quiet = False,
) -> None:
    """Predict the signals that images evoke, or retrieve the recorded signals nearest to them."""
    from brainalign.tasks.encode_run import encode_run

    facts = encode_run(
        _open(run, root, device, cache, quiet, source),
        images=images,
        out=out,
        how=how,
        level=level,
        repetitions=repetitions,
        top=top,
        pool=pool,
        judge=judge,
    )
    if json:
        c.emit(facts)
        return
    said = c.virtual_words(facts["virtual"])
    print(f"{said}{facts['n_images']} images encoded ({how}) by {facts['recipe']}: {out}")
    for line in (*_encoding_words(facts), *(f"note: {note}" for note in facts["notes"])):
        print(line)


def convert(
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="Answer: .csv, .jsonl, .json, or .npz for generated signals.")],
    target_run: Annotated[Path | None, typer.Option(help="Folder of the target's run.", metavar="RUN")] = None,
    source: Annotated[
        str | None, typer.Option(help="Modality of the source; of a foundation run also a source's name.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Modality of the target; of a foundation run also a source's name.")
    ] = None,
    signals: Annotated[
        Path | None, typer.Option(help="New signals of the source; its test signals if left out.")
    ] = None,
    how: Annotated[str, typer.Option(help="retrieve: recorded target signals; generate: in closed form.")] = "retrieve",
    top: Top = 5,
    level: Level = 0.95,
    mask: Mask = None,
    channels: Channels = None,
    sfreq: Rate = None,
    tmin: Start = None,
    root: c.Root = None,
    target_root: Annotated[Path | None, typer.Option(help="Folder of the target's data; --root if left out.")] = None,
    device: c.Device = "auto",
    cache: c.Cache = None,
    json: c.Json = False,
    quiet: c.Quiet = False,
) -> None:
    """Signals of one modality (or subject) to those of another: in a foundation run's space, or of two runs."""
    from brainalign.tasks.convert_run import convert_runs
    from brainalign.tasks.signal_files import FileOptions

    first, second = _open_both(run, target_run, source, target, root, target_root, device, cache, quiet)
    facts = convert_runs(
        first,
        second,
        out=out,
        how=how,
        signals=signals,
        options=FileOptions(mask, channels, sfreq, tmin),
        top=top,
        level=level,
    )
    if json:
        c.emit(facts)
        return
    said = c.virtual_words(facts["virtual"])
    print(f"{said}converted ({how}) through {facts['anchors']}, {facts['pool_size']} target signals in the pool: {out}")
    for line in (*_conversion_words(facts["scores"]), *(f"note: {note}" for note in facts["notes"])):
        print(line)


def _open(
    run: Path,
    root: Path | None,
    device: str,
    cache: Path | None,
    quiet: bool,
    asked: str | None = None,
    option: str = "--source",
) -> Any:
    """A run, or the source asked for of a foundation run."""
    from brainalign.execution.foundation_again import is_foundation
    from brainalign.tasks.foundation_source import OpenFoundation
    from brainalign.tasks.trained import TrainedRun

    if is_foundation(run):
        space = OpenFoundation.open(run, root=root, device=device, cache=cache, reporter=c.reporter(quiet))
        return space.source(asked, where=option)
    found = TrainedRun.open(run, root=root, device=device, cache=cache, reporter=c.reporter(quiet))
    if asked is not None and asked != found.result.modality:
        raise InputError(f"'{asked}', but the run is of {found.result.modality}", where=option)
    return found


def _open_both(
    run: Path,
    target_run: Path | None,
    source: str | None,
    target: str | None,
    root: Path | None,
    target_root: Path | None,
    device: str,
    cache: Path | None,
    quiet: bool,
) -> tuple[Any, Any]:
    """Source and target: of two runs, or two sources of one foundation run."""
    from brainalign.tasks.foundation_source import FoundationSource

    if target_root is not None and target_run is None:
        text = "is for the data of a target's run, and none is given"
        raise InputError(text, where="--target-root", hint="give the run with --target-run, or leave it out")
    first = _open(run, root, device, cache, quiet, source)
    if target_run is not None:
        return first, _open(target_run, target_root or root, device, cache, quiet, target, "--target")
    if not isinstance(first, FoundationSource) or first.run is None:
        text = f"holds one modality ({first.result.modality})"
        raise InputError(text, where=run, hint="give the run of the other one with --target-run")
    return first, first.run.source(target, where="--target")


def _encoding_words(facts: dict[str, Any]) -> list[str]:
    scores = facts["scores"]
    if scores is None:
        return ["not scored: only the run's own test images (--images test) have recorded signals"]
    if facts["how"] == "retrieve":
        return [
            f"two-way identification of the images of retrieved signals: {c.percent(scores['two_way'])} "
            f"(95 % interval {_span(scores['two_way_ci95'])}, chance 50.0 %, "
            f"shuffled {c.percent(scores['shuffled'])}), pool of {facts['pool_size']}, "
            f"compared by {scores['compared_by']}; "
            f"{scores['images_also_in_pool']} of the images are in the pool themselves"
        ]
    lines = [_median_words("median correlation", scores["correlation"])]
    if scores["noise_corrected"] is not None:
        lines.append(_median_words("median noise-corrected correlation", scores["noise_corrected"]))
        known = scores["reliability"]
        by = f"{known['by_variance_median']:.3f} from repetitions, {known['by_halves_median']:.3f} from halves"
        lines.append(f"median reliability of the recorded averages: {by}")
    if scores["note"]:
        lines.append(f"note: {scores['note']}")
    inside = c.percent(scores["inside_interval"])
    which = f"the {100 * facts['level']:g} % intervals for {facts['intervals_are_for']}"
    return [*lines, f"recorded values inside {which}: {inside}"]


def _median_words(name: str, found: dict[str, Any]) -> str:
    low, high = found["ci95"]
    span = f"95 % interval {low:.3f} to {high:.3f}, shuffled {found['shuffled']:.3f}, p = {found['p']:.2g}"
    return f"{name} over {found['n_values']} channels and samples: {found['median']:.3f} ({span})"


def _conversion_words(scores: dict[str, Any] | None) -> list[str]:
    if scores is None:
        return ["not scored: new signals, or runs that were tested on different images"]

    def said(name: str, key: str, chance: str) -> str:
        beside = f"95 % interval {_span(scores[key + '_ci95'])}, chance {c.percent(scores[chance])}"
        return f"{name}: {c.percent(scores[key])} ({beside}; pool of {scores['pool_size']})"

    return [
        said("two-way identification", "two_way", "chance_two_way"),
        said("top-1", "top1", "chance_top1"),
        said("top-5", "top5", "chance_top5"),
        said("normalised two-way", "normalised", "chance_normalised"),
        f"normalised: {scores['normalised_is']} ({c.percent(scores['target_two_way'])})",
        f"shuffled pairs: two-way {c.percent(scores['shuffled']['two_way'])}, "
        f"top-1 {c.percent(scores['shuffled']['top1'])}",
    ]


def _span(interval: list[float]) -> str:
    return f"{c.percent(interval[0])} to {c.percent(interval[1])}"
