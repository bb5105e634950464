"""`brainalign stack`: several finished runs as one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from brainalign.cli import common as c


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: brainalign stack generative-run contrastive-run --out stacked")(stack)


def stack(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs on the same images.", metavar="RUN RUN")],
    out: Annotated[Path, typer.Option(help="Folder of the stack; made if it is missing.")],
    root: c.Root = None,
    cache: c.Cache = None,
    json: c.Json = False,
) -> None:
    """Combine runs of one data set, subject and split: weights fitted on validation, stored test scores combined."""
    from brainalign.cli.runs import headline
    from brainalign.execution.stack import stack_runs
    from brainalign.report.stack_file import read_stack

    result = stack_runs(runs, out, root=root, cache=cache)
    found = read_stack(out)
    if json:
        c.emit({"result": result.model_dump(mode="json"), "stack": found.model_dump(mode="json")})
        return
    print(headline(result))
    rows = [
        {
            "run": member.name,
            "weight": f"{member.weight:.3g}",
            "share": c.percent(member.share),
            "validation loss": f"{member.validation_loss:.3f}",
            "test top-1": c.percent(member.test_top1),
        }
        for member in found.members
    ]
    c.table("runs of the stack", rows)
    print(f"validation loss of the stack, cross-validated: {found.validation_loss:.3f}")
    print(f"report: {out / 'report.html'}")
