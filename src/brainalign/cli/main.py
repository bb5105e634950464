"""`brainalign`: reads the arguments, hands them to the library, words every error in one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from brainalign import __version__
from brainalign.cli import analyze, captions, data, look, methods, prepare, reproduce, runs, stack, tasks
from brainalign.errors import InputError

app = typer.Typer(
    name="brainalign",
    help="Align brain signals with what was shown, and say how far the score can be trusted.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
for group in (runs, data, captions, prepare, look, analyze, reproduce, methods, stack, tasks):
    group.register(app)


def _version(shown: bool) -> None:
    if shown:
        typer.echo(f"brainalign {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version and exit."
    ),
) -> None:
    """Align brain signals with what was shown, and say how far the score can be trusted."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and exit: 0 done, 2 bad input (one line on stderr), 130 interrupted."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    try:
        code = app(args=list(arguments) if arguments is not None else None, standalone_mode=False)
        return code if isinstance(code, int) else 0
    except InputError as error:
        return _fail(str(error))
    except typer.Exit as stop:
        return int(stop.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        return _fail("interrupted; the same command goes on where it was", code=130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return _unexpected(error)


def _unexpected(error: Exception) -> int:
    if hasattr(error, "format_message"):  # an error of the argument parser
        return _fail(f"{error.format_message()}; see brainalign --help")
    if os.environ.get("BRAINALIGN_DEBUG"):
        raise error
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}; check the path and its rights")
    if isinstance(error, MemoryError):
        return _fail("out of memory; use fewer layers, a smaller pooling or --set target.components=100")
    kind = type(error).__name__
    return _fail(f"this is a bug in brainalign ({kind}: {error}); set BRAINALIGN_DEBUG=1 for the traceback", code=1)


def _fail(text: str, *, code: int = 2) -> int:
    print(f"error: {' '.join(text.split())}", file=sys.stderr)
    return code
