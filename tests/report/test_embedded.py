from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest

from brainalign.analysis.base import Analysis, Figure, Finding
from brainalign.errors import InputError
from brainalign.report import write_run_report, write_sweep_report
from brainalign.report.analysis_page import write_analysis
from brainalign.report.embedded import PANELS_MAX, harmless, run_analyses

REGISTERED = ("time", "channels", "repetitions", "layers", "losses")


def analysis(name="time"):
    def paint(ax, look):
        ax.plot([0, 100, 200], [0.01, 0.3, 0.1], color=look.series[0], label="top-1")
        ax.set_xlabel("time (ms)")
        look.legend(ax)

    rows = [{"ms": ms, "top1": top1} for ms, top1 in ((0, 0.01), (100, 0.3), (200, 0.1))]
    figure = Figure(f"{name}-curve", "Curve over time", "Made.", "Top-1 is highest, 30 %, at 100 ms.", paint, rows)
    return Analysis(name, "Time", False, {"Run": "made"}, (Finding("finding", "It rises."),), (figure,))


def test_an_analysis_in_the_runs_folder_is_shown_and_a_missing_one_is_asked_for(read_page, make_run, tmp_path):
    make_run(tmp_path / "run", modality="eeg")
    before = read_page(write_run_report(tmp_path / "run", None))
    assert "brainalign analyze time RUN --root DATA --out RUN/analysis/time" in before.text
    write_analysis(analysis(), tmp_path / "run" / "analysis" / "time")
    page = read_page(write_run_report(tmp_path / "run", None))
    assert "analyze time RUN" not in page.text
    assert "Curve over time" in page.text
    assert page.saved("plot-time-curve.csv").decode().splitlines()[2] == "100,0.3"
    assert any(a.get("aria-label") == "Top-1 is highest, 30 %, at 100 ms." for a in page.all("svg"))
    assert "analyze repetitions RUN" in page.text


def test_spikes_have_no_time_course(read_page, make_run, tmp_path):
    make_run(tmp_path / "run", modality="spikes")
    text = read_page(write_run_report(tmp_path / "run", None)).text
    assert "analyze time" not in text
    assert "analyze repetitions" in text


def test_a_sweep_over_layers_asks_for_layers_and_shows_them(read_page, make_sweep, tmp_path):
    make_sweep(tmp_path / "sweep")
    page = write_sweep_report(tmp_path / "sweep", lambda subject: None)
    assert "brainalign analyze layers SWEEP --out SWEEP/analysis/layers" in read_page(page).text
    write_analysis(analysis("layers"), tmp_path / "sweep" / "analysis" / "layers")
    page = write_sweep_report(tmp_path / "sweep", lambda subject: None)
    assert "Curve over time" in read_page(page).text


def test_the_course_of_a_loss_is_asked_for_where_there_is_one(read_page, make_sweep, tmp_path):
    """Of runs with several terms and one setting, whether methods are compared or not."""

    def asked(**changes):
        path = tmp_path / "sweep/sweep.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        return "analyze losses SWEEP" in read_page(write_sweep_report(tmp_path / "sweep", lambda subject: None)).text

    summary = make_sweep(tmp_path / "sweep")
    table = (tmp_path / "sweep/sweep.csv").read_text().splitlines()
    lines = [f"{table[0]},ablation,training.lr", *(f"{line},full,0.1" for line in table[1:])]
    (tmp_path / "sweep/sweep.csv").write_text("\n".join(lines))
    compared = {"name": "ablation", "values": ["full", "none"], "choice": False}
    assert not asked(axes=[*summary["axes"], compared])
    (tmp_path / "sweep" / summary["conditions"][0]["run"] / "steps.csv").write_text("epoch\n1\n")
    assert asked(axes=[*summary["axes"], compared])
    assert asked(axes=summary["axes"])
    assert not asked(axes=[*summary["axes"], {"name": "training.lr", "values": [0.1, 0.2], "choice": True}])


def test_nothing_is_asked_for_that_there_is_not(tmp_path):
    assert [one.name for one in run_analyses(tmp_path, "eeg", ("time",))] == ["time"]


HOSTILE = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" onload="x()"
 width="9999" style="position:fixed" viewBox="0 0 10 10"><script>x()</script><style>*{display:none}</style>
<a href="https://example.org"><text id="a">link</text></a><foreignObject><p>x</p></foreignObject>
<image xlink:href="https://example.org/x.png"/><image href="data:image/svg+xml;base64,AAAA"/>
<image xlink:href="data:image/png;base64,AAAA" onclick="x()"/>
<rect style="fill: url(https://example.org/y)" width="3"/><g clip-path="url(#c)"><use xlink:href="#c"/></g>
<defs><clipPath id="c"><path d="M0 0"/></clipPath><animate attributeName="href"/></defs></svg>"""


def test_only_shapes_and_text_are_taken_over(tmp_path):
    root = ET.fromstring(str(harmless(HOSTILE, "own", "said", tmp_path)))
    tags = [element.tag.rpartition("}")[2] for element in root.iter()]
    assert tags == ["svg", "image", "image", "image", "rect", "g", "use", "defs", "clipPath", "path"]
    text = ET.tostring(root, encoding="unicode")
    for word in ("example.org", "onload", "onclick", "script", "fixed", "svg+xml", "9999"):
        assert word not in text
    assert "data:image/png;base64,AAAA" in text
    assert 'clip-path="url(#own.c)"' in text
    assert 'id="own.c"' in text
    assert root.attrib["aria-label"] == "said"


@pytest.mark.parametrize(
    "svg", ["", "<p/>", "<svg", '<!DOCTYPE svg [<!ENTITY a "b">]><svg/>', "<svg/>", '<?xml-stylesheet href="x"?><svg/>']
)
def test_what_is_no_drawing_is_refused(svg, tmp_path):
    with pytest.raises(InputError, match="figure 'own'"):
        harmless(svg, "own", "said", tmp_path / "panels.json")


def test_hostile_panels_do_not_reach_the_page(read_page, make_run, tmp_path):
    make_run(tmp_path / "run", modality="eeg")
    folder = tmp_path / "run" / "analysis" / "time"
    write_analysis(analysis(), folder)
    document = json.loads((folder / "panels.json").read_text())
    document["panels"][0] |= {"svg": HOSTILE, "title": "<script>1</script>", "caption": "</figure><svg onload=x>"}
    (folder / "panels.json").write_text(json.dumps(document))
    read_page(write_run_report(tmp_path / "run", None))
    document["panels"][0]["name"] = '"><script>'
    (folder / "panels.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"panels\.0\.name"):
        write_run_report(tmp_path / "run", None)


def test_drawings_nested_without_end_are_refused(tmp_path):
    svg = '<svg xmlns="http://www.w3.org/2000/svg">' + "<g>" * 3000 + "</g>" * 3000 + "</svg>"
    with pytest.raises(InputError, match="nested too deep"):
        harmless(svg, "own", "said", tmp_path)


def test_addresses_spelt_with_backslashes_are_left_out(tmp_path):
    svg = '<svg xmlns="http://www.w3.org/2000/svg"><rect style="fill: \\75rl(https://example.org/x)" width="3"/></svg>'
    found = str(harmless(svg, "own", "said", tmp_path))
    assert "example.org" not in found and 'width="3"' in found


def test_figures_beyond_the_most_are_named(tmp_path):
    place = tmp_path / "analysis" / "time"
    write_analysis(analysis(), place)
    document = json.loads((place / "panels.json").read_text())
    (one,) = document["panels"]
    document["panels"] = [one | {"name": f"time-{n}"} for n in range(PANELS_MAX + 3)]
    (place / "panels.json").write_text(json.dumps(document))
    (found,) = run_analyses(tmp_path, "eeg", ("time",))
    assert len(found.panels) == PANELS_MAX
    assert found.panels[-1].caption.endswith("3 more figures stand in analysis/time/index.html.")
    document["panels"] = [one, one]
    (place / "panels.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="two figures alike"):
        run_analyses(tmp_path, "eeg", ("time",))
