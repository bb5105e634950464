"""Pages in headless Chromium, watched: what they say to the console and ask of the network, and what axe-core finds."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PHONE = {"width": 375, "height": 812}
DESK = {"width": 1200, "height": 900}


@dataclass
class Watched:
    """A page with everything that it said and asked for."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def quiet(self) -> None:
        """No console message, and no request but for the file itself and what lies in it."""
        assert self.said == []
        assert self.asked
        outside = [url for url in self.asked if not url.startswith(("data:", "file:", "blob:"))]
        assert outside == []
        assert sum(url.startswith("file:") for url in self.asked) == 1

    def names(self) -> list[str]:
        return [name.strip() for name in self.page.locator("#gallery-list .name").all_inner_texts()]

    def ranks(self) -> list[float]:
        texts = self.page.locator("#gallery-list .rank").all_inner_texts()
        return [float(text.rpartition("rank ")[2]) for text in texts]

    def status(self) -> str:
        return str(self.page.locator("#gallery-status").inner_text())

    def sideways(self) -> int:
        return int(self.page.evaluate("document.documentElement.scrollWidth"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as run:
        started = run.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu", "--disable-quic"])
        yield started
        started.close()


Open = Callable[..., Watched]


@pytest.fixture
def look(browser) -> Iterator[Open]:
    contexts = []

    def open_page(path: Path, size: dict[str, int] = DESK, colours: str = "light") -> Watched:
        context = browser.new_context(viewport=size, color_scheme=colours, accept_downloads=True)
        contexts.append(context)
        watched = Watched(context.new_page())
        watched.page.on("console", lambda message: watched.said.append(message.text))
        watched.page.on("pageerror", lambda error: watched.said.append(str(error)))
        watched.page.on("request", lambda request: watched.asked.append(request.url))
        watched.page.goto(path.as_uri())
        return watched

    yield open_page
    for context in contexts:
        context.close()


def violations(watched: Watched) -> list[str]:
    """What axe-core calls serious or critical, with the place."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    found = axe.Axe().run(watched.page).response["violations"]
    return [
        f"{one['id']} ({one['impact']}): {node['html'][:160]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"][:3]
    ]


def accessible(look: Open, path: Path) -> None:
    """No serious violation in either colour scheme, on a desk or a phone, and nothing sticks out at the side."""
    for size, colours in ((DESK, "light"), (DESK, "dark"), (PHONE, "light")):
        watched = look(path, size, colours)
        assert violations(watched) == []
        assert watched.sideways() <= size["width"]
        watched.quiet()
