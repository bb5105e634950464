"""The command that sets our scores beside published ones: reproduce."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from brainalign.cli import common as c
from brainalign.errors import InputError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Example: brainalign reproduce shallow-alignment/backbones --root EEG2 --only 'rn50/*' --subject 01 "
        "--out backbones"
    )(reproduce)


def reproduce(
    table: Annotated[str | None, typer.Argument(help="Published table (or a YAML file); nothing lists all.")] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset", "-d", help="The table's own by default; other data are not compared. A,B: one space."
        ),
    ] = None,
    root: c.Root = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the table and its runs; made if it is missing.")] = None,
    only: Annotated[str | None, typer.Option(help="Wildcard over cells (rn50/*), or a part of their names.")] = None,
    subject: Annotated[list[str] | None, typer.Option(help="Subject; may be repeated; all by default.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Seed; may be repeated; 0 by default.", min=0)] = None,
    split: c.Split = 0,
    settings: c.Settings = None,
    backbone: Annotated[
        list[str] | None, typer.Option(help="Stand-in for a model of the table, NAME=ID; may be repeated.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="Of foundation/table1: backbone that compares images; the anchor's by default.")
    ] = None,
    data_option: c.DatasetOption = None,
    allow_leak: c.AllowLeak = None,
    device: c.Device = "auto",
    cache: c.Cache = None,
    jobs: c.Jobs = 1,
    json: c.Json = False,
    quiet: c.Quiet = False,
) -> None:
    """A published table, ours beside theirs, cell by cell; what cannot be measured says why."""
    from brainalign.execution.reproduce import list_tables
    from brainalign.execution.reproduce import reproduce as run

    if table is None:
        rows = list_tables()
        c.emit(rows) if json else c.table("published tables", rows)
        return
    if out is None:
        raise InputError("where should the table go?", where="reproduce", hint="give --out DIR")
    document = run(
        table,
        out=out,
        dataset=dataset,
        root=root,
        only=only,
        subjects=subject or (),
        seeds=seed or (0,),
        split=split,
        settings=settings or (),
        backbones=_stand_ins(backbone or ()),
        judge=judge,
        device=device,
        cache=cache,
        reporter=c.reporter(quiet),
        allow_leaks=allow_leak or (),
        options=c.parse_options(data_option),
        jobs=jobs,
    )
    if json:
        c.emit(document)
    else:
        _show(document, out)


def _show(document: dict[str, Any], out: Path) -> None:
    from brainalign.report.reproduce_page import reasons, summary, table_lines

    title = f"{document['table']}{' on VIRTUAL data' if document['virtual'] else ''}"
    hidden = () if document["cells_measured"] else ("difference", "exploratory: layer chosen on test")
    c.table(title, [{k: v for k, v in line.items() if k not in hidden} for line in table_lines(document)])
    for number, reason in enumerate(reasons(document), start=1):
        print(f"({number}) {reason}")
    print(" ".join(summary(document)))
    print(f"table: {out / 'table.html'}")


def _stand_ins(words: list[str] | tuple[str, ...]) -> dict[str, str]:
    """`NAME=ID` words as a mapping."""
    found = {}
    for word in words:
        name, mark, stand_in = word.partition("=")
        if not mark or not name or not stand_in:
            hint = "for example --backbone rn50=pip:efficientnet-lite0"
            raise InputError(f"'{word}' is not NAME=ID", where="--backbone", hint=hint)
        if name in found:
            raise InputError(f"'{name}' is replaced twice", where="--backbone")
        found[name] = stand_in
    return found
