"""Every command and every line of Python of the tutorials runs and prints what the pages show."""

from __future__ import annotations

from pathlib import Path

import pytest
from docs import pages

TUTORIALS = sorted(page.name for page in (pages.DOCS / "tutorials").glob("*.md") if page.name != "index.md")


@pytest.mark.tutorial
@pytest.mark.parametrize("name", TUTORIALS)
def test_tutorial(name: str, shared_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAINALIGN_CACHE", str(shared_cache))
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    shown = 0
    for example in pages.examples(pages.DOCS / "tutorials" / name):
        printed = pages.execute(example, namespace)
        if example.shown is not None:
            shown += 1
            assert pages.same(example.shown, printed), (
                f"{name}:{example.line} shows\n{example.shown}\nbut prints\n{printed}"
            )
    assert shown
