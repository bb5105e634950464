"""Filling a template and writing the page; the tables and downloads on it."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from brainalign import __version__
from brainalign.errors import InputError
from brainalign.files import write_text
from brainalign.report import words

STYLES = ("report.css", "gallery.css")
TEMPLATES = Path(__file__).parent / "templates"
TABLE_BYTES_MAX = 16 * 2**20
TABLE_ROWS_MAX = 20_000
TEXT_BYTES_MAX = 2**20
FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet computes text that begins so


def write_page(template: str, out: Path, *, scripts: Sequence[str] = (), **context: Any) -> Path:
    """Fill a template and write the page atomically; all text is escaped.

    Parameters
    ----------
    scripts : sequence of str
        Names of our own scripts in `templates/`. The page's policy names each by its hash: nothing else can run.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("percent", "interval", "points", "points_interval", "p_value", "duration", "plural"):
        environment.filters[name] = getattr(words, name)
    environment.tests["web_address"] = lambda text: str(text).startswith(("https://", "http://"))
    style = Markup("".join((TEMPLATES / name).read_text(encoding="utf-8") for name in STYLES))  # our own files
    code = [(TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.js", *scripts)]
    page = environment.get_template(template).render(
        css=style, code=[Markup(text) for text in code], policy=_policy(code), version=__version__, **context
    )
    write_text(out, page.encode("utf-8", "replace").decode("utf-8"))  # names from JSON may hold lone surrogates
    return out


def _policy(code: Sequence[str]) -> str:
    """What a browser may do with the page: show pictures that lie in it, and run these scripts."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode() for text in code]
    scripts = " ".join(f"'sha256-{one}'" for one in hashes)
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {scripts}"


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file as text.

    Raises
    ------
    InputError
        If the file is missing, too large, or not a table.
    """
    text = read_small(path, TABLE_BYTES_MAX)
    try:
        rows = list(csv.DictReader(io.StringIO(text), strict=True))
    except csv.Error as error:
        raise InputError(f"is not a table ({error})", where=path, hint="run it again in another folder") from error
    if not rows or len(rows) > TABLE_ROWS_MAX:
        raise InputError(f"holds {len(rows)} rows, expected 1 to {TABLE_ROWS_MAX}", where=path)
    if any(None in row or None in row.values() for row in rows):
        raise InputError(
            "has a row whose length is not the header's", where=path, hint="run it again in another folder"
        )
    return rows


def read_small(path: Path, limit: int = TEXT_BYTES_MAX) -> str:
    """Text of a file that must be there and must not be large.

    Raises
    ------
    InputError
        If it is missing, too large, or not UTF-8.
    """
    try:
        if path.stat().st_size > limit:
            raise InputError(f"is larger than {limit} bytes", where=path, hint="this is not one of our files")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"cannot be read: {error.strerror}", where=path, hint="is this the folder of a finished run?"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError("is not UTF-8 text", where=path, hint="run it again in another folder") from error


def number(row: Mapping[str, str], key: str, path: Path) -> float:
    """A finite number from a table's row.

    Raises
    ------
    InputError
        If the column is missing or holds something else.
    """
    try:
        value = float(row[key])
    except KeyError:
        raise InputError(f"has no column '{key}'", where=path, hint="the file is of another version") from None
    except ValueError:
        raise InputError(f"column '{key}' holds {row[key]!r}, expected a number", where=path) from None
    if value != value or value in (float("inf"), float("-inf")):
        raise InputError(f"column '{key}' holds {value}", where=path)
    return value


class _Lines(list[str]):
    """Lines of a table, as a file that a writer of lines with CR LF can write to."""

    def write(self, line: str) -> None:
        """Take one line."""
        self.append(line[:-2] + "\n")


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the same keys as CSV text for people, who open it in a spreadsheet: no cell is a formula there.

    Names of images, channels and layers come from files of others. Text that a spreadsheet would compute gets a `'` in
    front; numbers, also those written as text, stay as they are. Tables that our own code reads back do not go through
    here (`brainalign.execution.rundir.write_csv`).
    """
    lines = _Lines()
    names = list(rows[0]) if rows else []
    # A cell with a carriage return is put in quotes only if the lines' own end has one: else it would end the row.
    writer = csv.DictWriter(lines, fieldnames=names, lineterminator="\r\n")
    for row in ({name: name for name in names}, *rows):
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return "".join(lines)


def _cell(value: Any) -> Any:
    """A cell that a spreadsheet takes as text or as a number."""
    if value is None or isinstance(value, int | float):
        return value
    text = str(value)
    return f"'{text}" if text.startswith(FORMULA_SIGNS) and not _is_number(text) else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def data_uri(text: str, kind: str = "text/csv") -> str:
    """Text as an address that a browser can save without a network."""
    return f"data:{kind};charset=utf-8;base64,{base64.b64encode(text.encode('utf-8', 'replace')).decode()}"
