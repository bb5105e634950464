"""The command that sets all methods beside each other: methods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from brainalign.cli import common as c
from brainalign.errors import InputError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Example: brainalign methods --dataset virtual-eeg:small --recipes nice,ubp,ridge --set budget=small "
        "--out methods"
    )(methods)


def methods(
    dataset: c.Dataset,
    out: Annotated[Path, typer.Option(help="Folder of the table and its runs; made if it is missing.")],
    root: c.Root = None,
    recipes: Annotated[list[str] | None, typer.Option(help="Recipes, with commas or repeated; all by default.")] = None,
    protocol: Annotated[
        list[str] | None, typer.Option(help="intra, inter or a versioned name; may be repeated; both by default.")
    ] = None,
    subject: Annotated[list[str] | None, typer.Option(help="Subject tested; may be repeated; all by default.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Seed; may be repeated; 0 by default.", min=0)] = None,
    split: c.Split = 0,
    settings: c.Settings = None,
    match: Annotated[
        bool, typer.Option("--match", help="The same image target for all: lite0, final, no image transform.")
    ] = False,
    against: Annotated[
        str | None, typer.Option(help="Recipe that the others are measured against; the best on validation by default.")
    ] = None,
    jobs: c.Jobs = 1,
    data_option: c.DatasetOption = None,
    allow_leak: c.AllowLeak = None,
    device: c.Device = "auto",
    cache: c.Cache = None,
    json: c.Json = False,
    quiet: c.Quiet = False,
) -> None:
    """All methods under all protocols in one table, with intervals and paired differences; kept going where it was."""
    from brainalign.execution.methods import methods as run

    document = run(
        dataset,
        out=out,
        root=root,
        recipes=_names(recipes or (), "--recipes"),
        protocols=_names(protocol or (), "--protocol"),
        subjects=subject or (),
        seeds=seed or (0,),
        split=split,
        settings=settings or (),
        match=match,
        against=against,
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
    from brainalign.report.methods_page import reasons, summary, table_lines

    for protocol in document["protocols"]:
        title = f"{protocol}{' on VIRTUAL data' if document['virtual'] else ''}"
        c.table(title, table_lines(document, protocol))
    for reason, names in reasons(document).items():
        print(f"not measured: {', '.join(names)}: {reason}")
    print(" ".join(summary(document)))
    print(f"table: {out / 'table.html'}")


def _names(words: list[str] | tuple[str, ...], where: str) -> list[str]:
    """Names from words that may hold several with commas between them."""
    found = [name.strip() for word in words for name in word.split(",")]
    if "" in found:
        raise InputError("an empty name", where=where, hint="write a,b without spaces")
    return found
