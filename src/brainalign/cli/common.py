"""Options that many commands share, progress bars, and output for people or programs."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from brainalign.options import parse_options as parse_options  # the commands find it here

Dataset = Annotated[
    str, typer.Option("--dataset", "-d", help="Name (see `brainalign datasets`), or a folder of own recordings.")
]
Root = Annotated[Path | None, typer.Option(help="Folder that holds the data set's files.")]
Subject = Annotated[str | None, typer.Option(help="Subject (or session); the first one by default.")]
ProtocolName = Annotated[str, typer.Option("--protocol", help="Versioned protocol; the data set's own by default.")]
Split = Annotated[int, typer.Option(help="Frozen split: 0-4 development, 10-14 confirmation.")]
Seed = Annotated[int, typer.Option(help="Initialisation and batch order only.", min=0)]
Settings = Annotated[list[str] | None, typer.Option("--set", help="Recipe setting, key=value; may be repeated.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Cache = Annotated[Path | None, typer.Option(help="Cache folder (else BRAINALIGN_CACHE, else the user's).")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
Jobs = Annotated[int, typer.Option(help="Trainings at the same time, a process each; 0 for one a core.", min=0)]
AllowLeak = Annotated[
    list[str] | None, typer.Option("--allow-leak", help="Record this lint finding instead of refusing.")
]
DatasetOption = Annotated[
    list[str] | None,
    typer.Option("--data-option", help="Option of a virtual data set or of bids, key=value; may be repeated."),
]


class Bars:
    """Progress on stderr: a bar on a terminal, a line a step elsewhere."""

    def __init__(self) -> None:
        self._console: Any = None

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[Callable[[int, int], None]]:
        """Show one step while it runs."""
        if not sys.stderr.isatty():
            began = time.perf_counter()
            print(f"{text} ...", file=sys.stderr, flush=True)
            yield lambda done, total: None
            print(f"{text}: {time.perf_counter() - began:.1f} s", file=sys.stderr, flush=True)
            return
        if self._console is not None:  # a step within a step: the outer bar stays, its text changes
            yield self._inner(text)
            return
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
                   TimeElapsedColumn(), TimeRemainingColumn())  # fmt: skip
        from rich.console import Console

        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(text, total=None)
            self._console = (progress, task)
            try:
                yield lambda done, total: progress.update(task, completed=done, total=total)
            finally:
                self._console = None

    def _inner(self, text: str) -> Callable[[int, int], None]:
        progress, task = self._console
        progress.update(task, description=text)
        return lambda done, total: progress.update(task, completed=done, total=total)


def reporter(quiet: bool) -> Any:
    """Progress bars, or silence."""
    from brainalign.execution.progress import Silent

    return Silent() if quiet else Bars()


def emit(value: Any) -> None:
    """JSON on stdout."""
    print(json.dumps(value, indent=1, ensure_ascii=False, default=str))


def table(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A table on stdout: aligned on a terminal, tab-separated elsewhere."""
    if not rows:
        print(f"{title}: none")
        return
    if not sys.stdout.isatty():
        print("\t".join(rows[0]))
        for row in rows:
            print("\t".join(str(v) for v in row.values()))
        return
    from rich.console import Console
    from rich.table import Table

    shown = Table(*rows[0], title=title, title_justify="left")
    for row in rows:
        shown.add_row(*(str(v) for v in row.values()))
    Console().print(shown)


def virtual_words(virtual: bool) -> str:
    """What stands ahead of any figure of virtual data."""
    return "VIRTUAL data: " if virtual else ""


def percent(value: float | None) -> str:
    """0.705 as '70.5 %'."""
    return "not measured" if value is None else f"{100 * value:.1f} %"
