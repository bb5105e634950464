from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from brainalign.errors import InputError
from brainalign.report import write_run_report
from brainalign.report.figure_files import read_formats, save_figures
from brainalign.report.figures import Drawing, draw, drawings
from brainalign.report.style import SERIES


def paint(ax):
    ax.plot([0, 1], [1, 2], color=SERIES[0], label="a line")
    ax.set_xlabel("time (ms)")


def test_every_figure_of_a_page_in_every_format(make_run, tmp_path):
    make_run(tmp_path / "run")
    with drawings() as drawn:
        page = write_run_report(tmp_path / "run", None).read_text()
    files = save_figures(drawn, tmp_path / "figures", ("svg", "pdf", "png"))
    names = set(re.findall(r'<figure id="figure-([\w-]+)"', page))
    assert {path.stem for path in files} == names
    assert len(files) == 3 * len(names) == len(list((tmp_path / "figures").iterdir()))
    draw("later", "Drawn outside.", paint)
    assert "later" not in {one.name for one in drawn}


def test_pdf_embeds_truetype_fonts(tmp_path):
    (path,) = save_figures([Drawing("one", paint, (4.0, 3.0))], tmp_path, ("pdf",))
    data = path.read_bytes()
    assert data.startswith(b"%PDF")
    assert b"/Type3" not in data
    assert b"/FontFile2" in data  # a TrueType program lies in the file
    assert b"/CreationDate" not in data


def test_svg_needs_no_font_and_no_page(tmp_path):
    (path,) = save_figures([Drawing("one", paint, (4.0, 3.0))], tmp_path, ("svg",))
    root = ET.fromstring(path.read_text())
    assert not list(root.iter("{http://www.w3.org/2000/svg}text"))
    assert "var(--" not in path.read_text()
    assert SERIES[0] in path.read_text()
    assert root.attrib["width"].endswith("pt")


def test_png_is_white_and_300_dots_an_inch(tmp_path):
    (path,) = save_figures([Drawing("one", paint, (4.0, 3.0))], tmp_path, ("png",))
    image = Image.open(io.BytesIO(path.read_bytes()))
    assert image.size == (1200, 900)
    pixels = np.asarray(image.convert("RGB"))
    assert (pixels[:5] == 255).all()


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    drawn = [Drawing("one", paint, (4.0, 3.0))]
    first, again = (save_figures(drawn, tmp_path / name, ("svg", "pdf", "png")) for name in "ab")
    for one, two in zip(first, again, strict=True):
        assert one.read_bytes() == two.read_bytes()


def test_report_command_writes_figures_beside_the_page(make_run, tmp_path, capsys):
    from brainalign.cli.look import report

    make_run(tmp_path / "run", dataset="of-nobody")
    report(tmp_path / "run", out=tmp_path / "page" / "report.html", figures="svg,pdf,png")
    said = capsys.readouterr().out
    files = list((tmp_path / "page" / "figures").iterdir())
    assert f"figures: {len(files)} files in {tmp_path / 'page' / 'figures'}" in said
    assert {path.suffix for path in files} == {".svg", ".pdf", ".png"}
    with pytest.raises(InputError, match="figure format"):
        report(tmp_path / "run", out=tmp_path / "other.html", figures="jpg")
    assert not (tmp_path / "other.html").exists()


def test_formats():
    assert read_formats("") == ()
    assert read_formats(" png, svg ,png") == ("png", "svg")
    with pytest.raises(InputError, match="did you mean 'pdf'"):
        read_formats("pfd")


def test_no_format_no_folder_and_a_file_in_the_way(tmp_path):
    assert save_figures([Drawing("one", paint, (4.0, 3.0))], tmp_path / "figures", ()) == []
    assert not (tmp_path / "figures").exists()
    (tmp_path / "figures").write_text("")
    with pytest.raises(InputError, match="is a file"):
        save_figures([], tmp_path / "figures", ("png",))


def simulated(rgb, kind):
    """A colour as a person lacking one cone type sees it (Machado, Oliveira and Fernandes 2009, severity 1)."""
    matrix = {
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    }
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return np.clip(np.array(matrix[kind]) @ linear, 0, 1)


@pytest.mark.parametrize("kind", ["protan", "deutan", "tritan"])
def test_first_colours_stay_apart_for_the_colour_blind(kind):
    from skimage.color import deltaE_ciede2000, rgb2lab

    def lab(colour):
        rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = simulated(rgb, kind)
        srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        return rgb2lab(srgb[None, None])[0, 0]

    colours = [lab(colour) for colour in SERIES[:4]]
    apart = [deltaE_ciede2000(a, b) for i, a in enumerate(colours) for b in colours[:i]]
    assert min(apart) > 9
