"""The documentation builds without a warning, leaves nothing out, and asks nothing of the network."""

from __future__ import annotations

import importlib
import inspect
import logging
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

pytest.importorskip("material", reason="the extra `docs` is not installed")

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "hooks"))

from brainalign.analysis import ANALYSES  # noqa: E402
from brainalign.cli.main import app  # noqa: E402
from brainalign.datasets import DATASETS  # noqa: E402
from brainalign.encoders import ENCODERS  # noqa: E402
from brainalign.recipes import recipe_keys, recipe_names  # noqa: E402

PACKAGES = ("stimuli", "recordings", "datasets", "protocols", "features", "encoders", "objectives", "alignment",
            "tasks", "evaluation", "analysis")  # fmt: skip
LOADED = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src"}


class Page(HTMLParser):
    """What a page loads, where it leads, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in LOADED and given.get(LOADED[tag]):
            self.loads.append(str(given[LOADED[tag]]))
        if given.get("id"):
            self.ids.add(str(given["id"]))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built pages; a warning is an error, as `strict` in mkdocs.yml says."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder))
        config.plugins.on_startup(command="build", dirty=False)
        try:
            build(config)
        finally:
            config.plugins.on_shutdown()
            logging.getLogger("mkdocs").handlers.clear()
    return folder


def read(site: Path, name: str) -> Page:
    return Page((site / name).read_text(encoding="utf-8"))


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"[\w/-]+\.md", text[text.index("\nnav:") :]))
    assert listed == {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        loads = Page(page.read_text(encoding="utf-8")).loads
        assert loads
        assert not [where for where in loads if re.match(r"(?i)\s*(https?:)?//", where)], page
    for sheet in site.rglob("*.css"):
        outside = re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^)\"']*", sheet.read_text(encoding="utf-8"))
        assert not outside, sheet


def test_pages_open_from_the_disk(site: Path) -> None:
    for name in ("index.html", "recipes/nice.html", "reference/objectives.html"):
        for where in read(site, name).loads:
            assert ((site / name).parent / where.partition("?")[0].partition("#")[0]).is_file(), where


@pytest.mark.parametrize("name", recipe_names())
def test_recipes(site: Path, name: str) -> None:
    page = read(site, f"recipes/{name}.html")
    parts = " ".join(sorted(page.ids))
    assert re.search(r"equations|the-model", parts), parts
    assert re.search(r"what-differs|left-out-subjects|what-it-is-for", parts), parts
    assert re.search(r"options|what-it-is-for", parts), parts
    said = " ".join("".join(page.words).split())
    source = yaml.safe_load((ROOT / f"src/brainalign/recipes/systems/{name}.yaml").read_text(encoding="utf-8"))
    assert source["summary"] in said  # the file itself stands on the page


def test_every_setting_is_listed(site: Path) -> None:
    said = set(read(site, "recipes/settings.html").words)
    keys = {key for key in recipe_keys() if "." in key and "MODALITY" not in key}
    assert len(keys) > 60
    assert not keys - said


@pytest.mark.parametrize("name", DATASETS)
def test_datasets(name: str) -> None:
    page = DOCS / "datasets" / ("virtual.md" if name.startswith("virtual-") else f"{name}.md")
    text = page.read_text(encoding="utf-8")
    assert name in text.splitlines()[0]
    own = name.startswith("virtual-") or name == "bids"  # nobody else's files; files in a format
    assert own or re.search(r"(?i)licen[cs]e|BSD-3|GPL", text), "no licence"
    assert f"]({page.name})" in _made("datasets")


def _made(kind: str) -> str:
    import generated

    return generated.MAKERS[kind]()


@pytest.mark.parametrize("name", ANALYSES)
def test_analyses(name: str) -> None:
    assert f"\n## {name}\n" in (DOCS / "analyses.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders(name: str) -> None:
    assert f"| `{name}` |" in (DOCS / "encoders.md").read_text(encoding="utf-8")


def test_commands(site: Path) -> None:
    page = read(site, "cli.html")
    names = [info.name or info.callback.__name__ for info in app.registered_commands if info.callback]
    assert len(names) > 15
    said = " ".join(page.words)
    for name in [*names, "analyze", *(f"analyze {one}" for one in ANALYSES)]:
        assert name.replace(" ", "-") in page.ids, name
        assert f"Usage: brainalign {name}" in said, name


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names(site: Path, package: str) -> None:
    """What a package offers stands on its page, with its parameters in tables and no markup left over."""
    page = read(site, f"reference/{package}.html")
    module = importlib.import_module(f"brainalign.{package}")
    for name in getattr(module, "__all__", ()):
        if callable(value := getattr(module, name)) and inspect.getdoc(value) and hasattr(value, "__name__"):
            assert f"brainalign.{package}.{name}" in page.ids, name
    said = "\n".join(page.words)
    assert "Parameters:" in said
    assert not re.search(r":math:|\.\. math::|^-{4,}$", said, re.MULTILINE)


def test_equations_of_docstrings_are_drawn(site: Path) -> None:
    text = (site / "reference/objectives.html").read_text(encoding="utf-8")
    assert text.count("<math ") >= 5
    assert "<mfrac>" in text


def test_mathml_of_known_cases() -> None:
    from mathml import UnknownTeX, mathml

    def inner(tex: str) -> str:
        return re.sub(r"^<math[^>]*><mrow>|</mrow></math>$", "", mathml(tex))

    assert inner("a_i^2") == "<msubsup><mi>a</mi><mi>i</mi><mn>2</mn></msubsup>"
    assert inner(r"\frac12") == "<mfrac><mn>1</mn><mn>2</mn></mfrac>"
    assert inner(r"\frac{1}{2n}") == "<mfrac><mrow><mn>1</mn></mrow><mrow><mn>2</mn><mi>n</mi></mrow></mfrac>"
    assert inner(r"\sum_j x") == '<munder><mo movablelimits="true">∑</mo><mi>j</mi></munder><mi>x</mi>'
    assert inner(r"\mathcal N") == "<mi>𝒩</mi>"
    assert inner("a < b") == "<mi>a</mi><mo>&lt;</mo><mi>b</mi>"
    for broken in (r"\undefined", "{a", r"\frac{1}"):
        with pytest.raises(UnknownTeX):
            mathml(broken)


@pytest.mark.parametrize(
    ("shown", "printed", "alike"),
    [
        ("top-1 48.0 %, chance 0.5 %\n", "top-1 45.5 %,  chance 0.5 %", True),
        ("top-1 48.0 %", "top-1 30.0 %", False),
        ("layer 7", "layer 8", False),
        ("p = 0.0001", "p = 0.2", False),
        ("r 0.435 (... found)", "r 0.41 (12 of 30 found)", True),
        ("of 200 images", "of 200 pictures", False),
        ("48.0 points", "48.0 %", False),
    ],
)
def test_outputs_are_compared(shown: str, printed: str, alike: bool) -> None:
    from docs import pages

    assert pages.same(shown, printed) is alike
