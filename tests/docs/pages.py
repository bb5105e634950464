"""Runs the examples of a page, and compares what they print with what the page shows.

A page's blocks run in order, in one folder and one Python namespace: `console` blocks hold `$ brainalign ...` lines,
`python` blocks are executed. An `output` block right after them is what they print. `python tests/docs/pages.py PAGE`
writes the output blocks of a page anew, but for those that hold `...` and fit.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from brainalign.cli.main import run

DOCS = Path(__file__).parents[2] / "docs"
FENCE = re.compile(r"^```(console|python|output)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FIGURE = re.compile(r"[+-]?\d+\.\d+(?:e-?\d+)?(?: %)?")
POINTS, SMALL = 6.0, 0.06  # other processors round otherwise, and some images change places
ANYTHING = "..."


@dataclass
class Example:
    """A block that runs, and what the page says it prints: None where it says nothing."""

    page: Path
    line: int
    kind: str
    text: str
    shown: str | None
    span: tuple[int, int]  # of the shown output in the page; where it would stand if there is none


def examples(page: Path) -> Iterator[Example]:
    """The examples of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = list(FENCE.finditer(text))
    for block, after in zip(found, [*found[1:], None]):
        if block[1] == "output":
            continue
        follows = after is not None and after[1] == "output" and not text[block.end() : after.start()].strip()
        shown = after[2] if after is not None and follows else None
        span = after.span(2) if after is not None and follows else (block.end(), block.end())
        yield Example(page, text.count("\n", 0, block.start()) + 1, block[1], block[2], shown, span)


def execute(example: Example, namespace: dict[str, object]) -> str:
    """Run one example in the current folder; what it prints, without progress."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        if example.kind == "python":
            exec(compile(example.text, f"{example.page.name}:{example.line}", "exec"), namespace)
        else:
            for command in commands(example.text):
                code = run(command)
                errors = [line for line in err.getvalue().splitlines() if line.startswith("error: ")]
                assert code == 0 or errors, f"{example.page.name}:{example.line}: exit code {code}\n{err.getvalue()}"
                print("\n".join(errors), end="\n" if errors else "")
                err.seek(err.truncate(0))
    return aligned(out.getvalue())


def commands(text: str) -> Iterator[list[str]]:
    """Arguments of each `$ brainalign ...` line; a backslash at the end goes on in the next line."""
    for line in text.replace("\\\n", " ").splitlines():
        prompt, program, *arguments = shlex.split(line)
        assert (prompt, program) == ("$", "brainalign"), f"expected '$ brainalign ...', got {line!r}"
        yield arguments


def aligned(text: str) -> str:
    """Columns that a terminal would show aligned and a pipe gets with tabs."""
    lines = text.splitlines()
    cells = [line.split("\t") for line in lines]
    widths: dict[int, int] = {}
    for row in cells:
        for place, cell in enumerate(row[:-1] if len(row) > 1 else []):
            widths[place] = max(widths.get(place, 0), len(cell))
    rows = ("  ".join([*(c.ljust(widths[p]) for p, c in enumerate(row[:-1])), row[-1]]) for row in cells)
    return "".join(f"{row.rstrip()}\n" for row in rows)


def same(shown: str, printed: str) -> bool:
    """Whether a page shows what was printed.

    Blanks count as one and `...` stands for anything. Words and whole numbers may not differ; percentages and other
    broken numbers of 1 or more may by 6, smaller ones by 0.06.
    """
    pattern = re.escape(" ".join(shown.split())).replace(re.escape(ANYTHING), ".*")
    expected, holes = [], FIGURE.findall(" ".join(shown.split()))
    for hole in holes:
        pattern = pattern.replace(re.escape(hole), r"([+-]?\d+\.\d+(?:e-?\d+)?(?: %)?)", 1)
        expected.append(hole)
    found = re.fullmatch(pattern, " ".join(printed.split()))
    return found is not None and all(_near(a, b) for a, b in zip(expected, found.groups()))


def _near(shown: str, printed: str) -> bool:
    if shown.endswith("%") != printed.endswith("%"):
        return False
    a, b = (float(text.removesuffix("%")) for text in (shown, printed))
    return abs(a - b) <= (POINTS if shown.endswith("%") or max(abs(a), abs(b)) >= 1 else SMALL)


def rewrite(page: Path) -> None:
    """Run a page and put what it prints into its output blocks."""
    text, namespace, shift = page.read_text(encoding="utf-8"), {}, 0
    for example in examples(page):
        printed = execute(example, namespace)
        if example.shown is not None and not (ANYTHING in example.shown and same(example.shown, printed)):
            start, end = (place + shift for place in example.span)
            text = text[:start] + printed + text[end:]
            shift += len(printed) - (end - start)
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        asked = Path(name).resolve()
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            rewrite(asked)
        print(os.path.relpath(asked))
