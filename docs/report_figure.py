"""Photograph the first screen of a report for the README: python docs/report_figure.py RUN [--root DATA].

Writes docs/images/report-first-screen.png with headless Chromium. RUN is the folder of a finished run, for example of
`brainalign demo --out demo`.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image

from brainalign.errors import InputError
from brainalign.execution.runs import rebuild_report

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TARGET = Path(__file__).parent / "images" / "report-first-screen.png"
WIDTH, HEIGHT = 1200, 860
BYTES_MAX = 300_000


def main() -> None:
    """Write the report of a run anew and keep a picture of its first screen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--root", type=Path, help="folder of the data set's files")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        page = rebuild_report(given.run, out=Path(folder) / "report.html", root=given.root)
        small = _smaller(_photograph(page))
    if len(small) > BYTES_MAX:
        raise InputError(f"would take {len(small)} bytes, more than {BYTES_MAX}", where=TARGET)
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_bytes(small)
    print(f"{TARGET}: {len(small)} bytes")


def _photograph(page: Path) -> bytes:
    """The first screen as a PNG."""
    from playwright.sync_api import sync_playwright

    browser = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if browser is None:
        raise InputError("Chromium is not installed", hint="install chromium, or chrome, and try again")
    with sync_playwright() as run:
        started = run.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        tab = started.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        tab.goto(page.resolve().as_uri())
        picture: bytes = tab.screenshot()
        started.close()
    return picture


def _smaller(picture: bytes) -> bytes:
    """The same with a palette: a page of text and two plots has few colours."""
    image = (
        Image.open(io.BytesIO(picture))
        .convert("RGB")
        .quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    )
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
