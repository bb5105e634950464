"""Write the README's plot from the folder of the sweep it shows: python docs/readme_figure.py SWEEP."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from brainalign.report.sweep_figures import choice_curve
from brainalign.report.sweep_file import read_sweep


def main() -> None:
    """Draw the exploratory test curve of a sweep over layers on plain white."""
    svg = str(choice_curve(read_sweep(sys.argv[1]), "test").svg)
    svg = re.sub(r"var\(--[\w-]+,\s*([^)]+)\)", r"\1", svg)  # outside the report there are no colour variables
    head, mark, rest = svg.partition(">")
    white = '<rect width="100%" height="100%" fill="#ffffff"/>'
    target = Path(__file__).parent / "images" / "macaque-v4-layers.svg"
    target.write_text(f'{head} font-family="sans-serif"{mark}{white}{rest}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
