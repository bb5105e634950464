"""Docstrings on their way to the pages of the API: equations and names that the pages can show."""

from __future__ import annotations

import re
import sys
from html import escape
from pathlib import Path
from typing import Any

import griffe

sys.path.insert(0, str(Path(__file__).parent))

from mathml import UnknownTeX, mathml

DISPLAY = re.compile(r"^([ ]*)\.\. math:: ?((?:.*\n?)(?:(?:\1[ ]+\S.*)\n?)*)", re.MULTILINE)
INLINE = re.compile(r":math:`([^`]+)`")


class Equations(griffe.Extension):
    """Draws `.. math::` and `:math:` as MathML."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring is not None and "math:" in obj.docstring.value:
            obj.docstring.value = with_equations(obj.docstring.value)


def with_equations(text: str) -> str:
    """Markdown with MathML in place of the two ways to write TeX in a docstring."""
    text = DISPLAY.sub(lambda m: f'{m[1]}<div class="equation">{_drawn(m[2], display=True)}</div>\n', text)
    # A line that began with <math> would be taken for a block.
    return INLINE.sub(lambda m: f'<span class="equation">{_drawn(m[1])}</span>', text)


def _drawn(tex: str, *, display: bool = False) -> str:
    line = " ".join(tex.split())
    try:
        return mathml(line, display=display)
    except UnknownTeX as problem:
        griffe.logger.info("shown as it is written: %s", problem)
        return f"<code>{escape(line)}</code>"
