"""Commands that look at finished runs: runs, compare, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from brainalign.cli import common as c


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: brainalign runs results/")(runs)
    app.command(epilog="Example: brainalign compare run-a run-b")(compare)
    app.command(epilog="Example: brainalign report run other-run --out report.html")(report)


def runs(
    folder: Annotated[Path, typer.Argument(help="Folder that holds runs, at any depth.")], json: c.Json = False
) -> None:
    """List finished runs below a folder."""
    from brainalign.execution.runs import list_runs

    rows = list_runs(folder)
    c.emit(rows) if json else c.table(f"runs below {folder}", rows)


def compare(
    first: Annotated[Path, typer.Argument(help="Folder of a finished run or sweep.")],
    second: Annotated[Path, typer.Argument(help="Folder of another one with the same test images.")],
    json: c.Json = False,
) -> None:
    """Compare two runs, or the chosen rows of two sweeps, on the same test images: difference, interval and p."""
    from brainalign.evaluation.comparison import compare_runs

    found = compare_runs(first, second)
    if json:
        c.emit(found)
        return
    for metric in ("top1", "top5"):
        d = found[metric]
        low, high = d["ci95"]
        print(
            f"{metric}: {c.percent(d['a'])} against {c.percent(d['b'])}, "
            f"difference {100 * d['difference']:+.1f} points "
            f"(95 % interval {100 * low:+.1f} to {100 * high:+.1f}), p = {d['p']:.2g}"
        )
    print(
        f"smallest difference that {found['n_images']} images can show: {100 * found['smallest_detectable']:.1f} points"
    )
    for text in found["always_said"]:
        print(text)


def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a finished run or sweep.")],
    beside: Annotated[
        list[Path] | None, typer.Argument(help="Other runs on the same test images, to stand beside it.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; report.html in the folder by default.")] = None,
    figures: Annotated[
        str, typer.Option("--format", help="Also write the figures beside it, in figures/: svg, pdf, png; a list.")
    ] = "",
    root: c.Root = None,
    cache: c.Cache = None,
    json: c.Json = False,
) -> None:
    """Write the self-contained HTML report of a run or sweep again, or of a run with others beside it."""
    from brainalign.execution.runs import rebuild_report
    from brainalign.report.figure_files import FOLDER, read_formats, save_figures
    from brainalign.report.figures import drawings

    formats = read_formats(figures)
    with drawings() as drawn:
        page = rebuild_report(folder, beside=beside or (), out=out, root=root, cache=cache)
    files = save_figures(drawn, page.parent / FOLDER, formats) if formats else []
    if json:
        c.emit({"report": page, "figures": files})
        return
    print(f"report: {page}")
    if formats:
        print(f"figures: {len(files)} files in {page.parent / FOLDER}")
