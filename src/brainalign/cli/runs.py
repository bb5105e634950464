"""Commands that train: train, sweep, demo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brainalign.cli import common as c

if TYPE_CHECKING:
    from brainalign.evaluation.result import Result

RecipeName = Annotated[str, typer.Argument(help="Recipe (see `brainalign recipes`), or a YAML file.")]
Out = Annotated[Path, typer.Option(help="Folder of the run; made if it is missing.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: brainalign demo --out demo")(demo)
    app.command(
        epilog="Example: brainalign train shallow-alignment --dataset macaque-v4 --root V4 --subject 201025 --out run"
    )(train)
    app.command(
        epilog="Example: brainalign sweep shallow-alignment --over layer --over split=0,1,2 --set target.pooling=mean "
        "--dataset macaque-v4 --root V4 --subject 201025 --out sweep"
    )(sweep)


def train(
    recipe: RecipeName,
    dataset: c.Dataset,
    out: Out,
    root: c.Root = None,
    subject: c.Subject = None,
    protocol: c.ProtocolName = "",
    split: c.Split = 0,
    seed: c.Seed = 0,
    settings: c.Settings = None,
    data_option: c.DatasetOption = None,
    allow_leak: c.AllowLeak = None,
    device: c.Device = "auto",
    cache: c.Cache = None,
    json: c.Json = False,
    quiet: c.Quiet = False,
) -> None:
    """Train a recipe on one subject: choose on validation, open the test set once, write a report.

    The recipe foundation takes several data sets (A,B,C) and subjects (1,2; all by default).
    """
    if recipe.partition("/")[0] == "foundation" or "," in dataset:
        return _foundation(
            recipe,
            datasets=_words(dataset),
            subjects=_words(subject or ""),
            out=out,
            root=root,
            protocol=protocol,
            json=json,
            settings=settings or (),
            split=split,
            seed=seed,
            device=device,
            cache=cache,
            reporter=c.reporter(quiet),
            allow_leaks=allow_leak or (),
            options=c.parse_options(data_option),
        )
    from brainalign.execution.train import train as run

    result = run(
        recipe,
        dataset=dataset,
        out=out,
        root=root,
        subject=subject,
        protocol=protocol,
        split=split,
        seed=seed,
        settings=settings or (),
        device=device,
        cache=cache,
        reporter=c.reporter(quiet),
        allow_leaks=allow_leak or (),
        options=c.parse_options(data_option),
    )
    if json:
        c.emit(result.model_dump(mode="json"))
    else:
        print(headline(result))
        print(f"report: {out / 'report.html'}")


def sweep(
    recipe: RecipeName,
    over: Annotated[list[str], typer.Option(help="Axis, or axis=v1,v2; may be repeated.")],
    dataset: c.Dataset,
    out: Out,
    root: c.Root = None,
    subject: c.Subject = None,
    protocol: c.ProtocolName = "",
    split: c.Split = 0,
    seed: c.Seed = 0,
    settings: c.Settings = None,
    data_option: c.DatasetOption = None,
    allow_leak: c.AllowLeak = None,
    device: c.Device = "auto",
    cache: c.Cache = None,
    jobs: c.Jobs = 1,
    json: c.Json = False,
    quiet: c.Quiet = False,
) -> None:
    """Train along axes: layer, pooling, backbone, encoder, subject, split, seed, a recipe key; choose on validation."""
    from brainalign.execution.sweep import sweep as run

    summary = run(
        recipe,
        over=over,
        dataset=dataset,
        out=out,
        root=root,
        subject=subject,
        protocol=protocol,
        split=split,
        seed=seed,
        settings=settings or (),
        device=device,
        cache=cache,
        reporter=c.reporter(quiet),
        allow_leaks=allow_leak or (),
        options=c.parse_options(data_option),
        jobs=jobs,
    )
    if json:
        c.emit(summary)
        return
    rows = [
        {
            "subject": found["subject"],
            "split": found["split"],
            "seed": found["seed"],
            "chosen on validation": ", ".join(f"{k} {v}" for k, v in found["chosen"].items()) or "-",
            "test top-1": c.percent(found["test_top1"]),
            "95 % interval": " to ".join(c.percent(v) for v in found["test_top1_ci95"]),
            "test top-5": c.percent(found["test_top5"]),
        }
        for found in summary["conditions"]
    ]
    c.table("VIRTUAL data" if summary["virtual"] else summary["dataset"], rows)
    for found in summary["comparisons"]:
        print(f"chosen rows against {found['against']}: {100 * found['difference']:+.1f} points, p = {found['p']:.2g}")
    print(f"report: {out / 'report.html'}")


def demo(
    out: Out = Path("demo"),
    device: c.Device = "auto",
    cache: c.Cache = None,
    json: c.Json = False,
    quiet: c.Quiet = False,
) -> None:
    """The main job on the embedded virtual data: one virtual subject, 200-way, both families; ends with a report."""
    from brainalign.execution.demo import demo as run

    result, other = run(out, device=device, cache=cache, reporter=c.reporter(quiet))
    if json:
        c.emit({**result.model_dump(mode="json"), "beside": [other.model_dump(mode="json")]})
    else:
        print(headline(result))
        print(headline(other))
        print(f"report: {out / 'report.html'}")


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _foundation(recipe: str, *, protocol: str, json: bool, out: Path, **how: Any) -> None:
    """One space for several data sets and subjects."""
    from brainalign.errors import InputError
    from brainalign.execution.foundation import train_foundation

    if protocol:
        text = "a foundation run cuts all its data sets alike, by their own protocols"
        raise InputError(text, where="--protocol", hint="leave it out")
    document = train_foundation(recipe, out=out, **how)
    if json:
        return c.emit(document)
    said = c.virtual_words(document["virtual"])
    rows = [
        {
            "source": one["name"],
            "training images": one["n_train"],
            "top-1": f"{100 * one['test']['top1']:.1f} %",
            "95 % interval": f"{100 * one['test']['top1_ci95'][0]:.1f} % to {100 * one['test']['top1_ci95'][1]:.1f} %",
            "chance": f"{100 * one['test']['chance_top1']:.1f} %",
            "shuffled": f"{100 * one['shuffled_top1']:.1f} %",
        }
        for one in document["sources"]
    ]
    c.table(f"{said}decoding", rows)
    for name, cells in document["conversion"].items():
        lines = [
            {
                "from": cell["source"],
                "to": cell["target"],
                "pool": cell["pool"],
                "top-1": f"{100 * cell['top1']:.1f} %",
                "two-way": f"{100 * cell['two_way']:.1f} %",
                "normalised": f"{cell['normalised']:.3f}",
                "p": f"{cell['p']:.4f}",
            }
            for cell in cells
        ]
        c.table(f"{said}conversion, {name}", lines)
    print(f"report: {out / 'report.html'}")


def headline(result: Result) -> str:
    """Two lines a person reads first."""
    test = result.metrics.test
    low, high = test.top1_ci95
    virtual = c.virtual_words(result.virtual)
    target = result.target
    return (
        f"{virtual}{test.n_way}-way top-1 {c.percent(test.top1)} (95 % interval {c.percent(low)} to {c.percent(high)}, "
        f"chance {c.percent(test.chance_top1)}), top-5 {c.percent(test.top5)}, {test.repetitions} repetitions\n"
        f"{result.dataset} subject {result.subject}, split {result.split}: {result.encoder} to {target.backbone} "
        f"{target.words} ({target.pooling}), {result.selection.layer_chosen_on}; "
        f"shuffled control {c.percent(result.shuffled.top1)}; test set opened {result.test_reads} time(s)"
    )
