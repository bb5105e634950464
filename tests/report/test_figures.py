from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET

import pytest

from brainalign.report.figures import BLUE, INK, DepthAxis, Panel, clean, draw


def painted(label="loss", name="one"):
    def paint(ax):
        ax.plot([0, 1], [1, 2], marker="o", color=BLUE, label=label)
        ax.set_xlabel(label)

    return str(draw(name, "A line from 1 to 2.", paint))


def test_colours_are_variables_of_the_page_with_plain_fallback():
    svg = painted()
    assert f"var(--blue, {BLUE})" in svg
    assert f"var(--ink, {INK})" in svg


def test_text_stays_text_and_is_escaped():
    root = ET.fromstring(painted("<b>&$\\frac$"))
    texts = ["".join(e.itertext()) for e in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "<b>&$\\frac$" in texts
    assert not list(root.iter("{http://www.w3.org/2000/svg}b"))


def test_no_style_no_metadata_no_size():
    svg = painted()
    assert "<style" not in svg
    assert "<metadata" not in svg
    root = ET.fromstring(svg)
    assert "width" not in root.attrib
    assert "viewBox" in root.attrib
    assert root.attrib["aria-label"] == "A line from 1 to 2."


def test_two_plots_share_no_id():
    def ids(svg):
        return {e.attrib["id"] for e in ET.fromstring(svg).iter() if "id" in e.attrib}

    first, second = ids(painted(name="one")), ids(painted(name="two"))
    assert first
    assert first.isdisjoint(second)
    assert painted() == painted()


def test_rc_is_left_as_it_was():
    import matplotlib

    before = dict(matplotlib.rcParams)
    painted()
    assert dict(matplotlib.rcParams) == before


def test_labels_are_cleaned():
    assert clean("a\x00b") == "a�b"
    assert len(clean("x" * 99)) == 28
    painted("\x00\x1b")  # would not be XML


def test_depth_axis_places_head_and_final_beyond_the_blocks():
    axis = DepthAxis([("0", 0.0), ("7", 0.5), ("15", 1.0), ("head", 1.0), ("final", 1.0)])
    places = [
        axis.place(name, depth) for name, depth in [("0", 0.0), ("7", 0.5), ("15", 1.0), ("head", 1.0), ("final", 1.0)]
    ]
    assert places == sorted(set(places))
    assert places[:3] == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("n", [1, 2, 16, 40])
def test_layer_labels_stay_apart(n):
    layers = [(str(i), i / max(1, n - 1)) for i in range(n)] + [("final", 1.0)]
    shown = []

    def paint(ax):
        DepthAxis(layers).dress(ax)
        shown.extend((tick, label.get_text()) for tick, label in zip(ax.get_xticks(), ax.get_xticklabels()))

    draw("depth", "Ticks of layers.", paint)
    assert shown[-1][1] == "final"
    assert len(shown) >= min(n, 2)
    gaps = [b[0] - a[0] for a, b in itertools.pairwise(shown)]
    assert min(gaps) > 0.04


def test_panel_can_be_saved():
    panel = Panel("p", "t", "c", "a", draw("p", "Nothing.", lambda ax: None), "k,v\n1,2\n")
    assert panel.href == "data:text/csv;charset=utf-8;base64,ayx2CjEsMgo="
