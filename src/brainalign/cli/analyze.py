"""`brainalign analyze NAME`: one command an analysis of the registry, its options read from the analysis itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_origin

import typer
from typer.core import TyperGroup

from brainalign.analysis.registry import ANALYSES, Entry, analyze, find_analysis
from brainalign.cli import common as c
from brainalign.errors import InputError, unknown_name

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

SUMMARY = "Look closer at finished runs and sweeps, or at pictures: a page, figures and their numbers."
EXAMPLES = {
    "layers": "brainalign analyze layers sweep --out layers --format svg,pdf",
    "scaling": "brainalign analyze scaling sweep-a sweep-b sweep-c --out scaling",
    "space": "brainalign analyze space run --root DATA --out space",
    "time": "brainalign analyze time with-vse without-vse --root DATA --out time",
    "repetitions": "brainalign analyze repetitions run --root DATA --out repetitions",
    "newcomer": "brainalign analyze newcomer one-space --subject 190923 --images 50,100,200 --root V4 --out newcomer",
    "channels": "brainalign analyze channels run --root DATA --out channels",
    "losses": "brainalign analyze losses sweep --out losses",
    "rsa": "brainalign analyze rsa --dataset human-fmri-78 --root H78 --backbone pip:efficientnet-lite0 --out rsa",
    "saliency": "brainalign analyze saliency photo.jpg --transform 'vse?eta=0.5' --out saliency",
}


class Analyses(TyperGroup):
    """The commands of the registry; an analysis is imported when it is asked for, not to list it."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of the registry."""
        return list(ANALYSES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of an analysis."""
        if cmd_name not in ANALYSES:
            raise unknown_name("analysis", cmd_name, ANALYSES, where="analyze")
        return _command(cmd_name, ANALYSES[cmd_name])

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the analyses without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in ANALYSES.items()])


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(
        cls=Analyses,
        help=SUMMARY,
        epilog="Example: brainalign analyze layers sweep --out layers",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    group.callback()(_group)
    app.add_typer(group, name="analyze")


def _group() -> None:
    """The group itself; its help is `SUMMARY`."""


def _command(name: str, entry: Entry) -> Any:
    """A command whose options are the fields of the analysis's settings."""
    fields = find_analysis(name).Options.model_fields
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    example = EXAMPLES.get(name, f"brainalign analyze {name} {entry.takes} --out {name}")
    context = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
    decorate = single.command(name, help=entry.summary, epilog=f"Example: {example}", context_settings=context)
    decorate(_function(name, entry, fields))
    return typer.main.get_command(single)


def _function(name: str, entry: Entry, fields: dict[str, FieldInfo]) -> Callable[..., None]:
    """`run` with a signature that the argument parser can read."""

    def run(paths: list[Path] | None, out: Path, figures: str, json: bool, quiet: bool, **given: Any) -> None:
        _run(
            name, paths or [], out, figures, json, quiet, {key: value for key, value in given.items() if key in fields}
        )

    common = {
        "paths": (
            Annotated[list[Path] | None, typer.Argument(help=f"{entry.of.capitalize()}s: {entry.takes}.")],
            ... if entry.needed else None,
        ),
        "out": (Annotated[Path, typer.Option(help="Folder of the page; made if it is missing.")], ...),
        "figures": (
            Annotated[str, typer.Option("--format", help="Also write the figures as files: svg, pdf, png; a list.")],
            "",
        ),
        "json": (c.Json, False),
        "quiet": (c.Quiet, False),
    }
    own = {key: (_annotation(key, field), field.get_default()) for key, field in fields.items()}
    parameters = [
        inspect.Parameter(
            key,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=kind,
            default=inspect.Parameter.empty if value is ... else value,
        )
        for key, (kind, value) in (common | own).items()
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__name__ = name
    return run


def _annotation(key: str, field: FieldInfo) -> Any:
    """The type of a setting as the argument parser takes it: named choices are text, checked by the setting itself."""
    kind = field.annotation
    if str(get_origin(kind)) == "typing.Literal":
        kind = str
    option = typer.Option(f"--{key.replace('_', '-')}", help=field.description or "")
    return Annotated[kind, option]


def _run(name: str, paths: list[Path], out: Path, figures: str, json: bool, quiet: bool, given: dict[str, Any]) -> None:
    """Analyse, write the page, say what was found."""
    from brainalign.report.analysis_page import write_analysis
    from brainalign.report.figure_files import read_formats

    formats = read_formats(figures)
    if out.exists() and not out.is_dir():
        raise InputError("is a file, not a folder", where=out, hint="choose another --out")
    if "runs" in given and given["runs"] is None:
        given["runs"] = out / "runs"  # what an analysis trains lies beside its page
    found = analyze(name, paths, given, reporter=c.reporter(quiet))
    asked = {"paths": [str(path) for path in paths], "options": {k: _plain(v) for k, v in given.items()}}
    document = write_analysis(found, out, formats=formats, asked=asked)
    if json:
        c.emit(document)
        return
    for finding in found.findings:
        if finding.kind != "limit":
            print(f"{'' if finding.kind == 'finding' else finding.kind + ': '}{finding.text}")
    if found.numbers.get("no_choice_may_rest_on_this"):
        print("The test set was opened again for these pictures: no choice may rest on them.")
    print(f"page: {out / 'index.html'}")


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
