"""The saliency analysis: its numbers beside plain numpy, its figures, its page, and bad input."""

from __future__ import annotations

import csv
import json
import zipfile

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure as Canvas
from PIL import Image

from brainalign.analysis.registry import analyze
from brainalign.cli.main import run
from brainalign.errors import InputError
from brainalign.report.analysis_page import LOOK
from brainalign.stimuli.saliency import visual_saliency

PANELS = ["Picture I", "Edges E_d", "Luminance S_l", "Contrast S_d", "Colour S_c", "Exogenous E_x", "Saliency S_a",
          "Antagonism R_a", "Enhanced I_a"]  # fmt: skip


@pytest.fixture
def pictures(tmp_path):
    """A square photo-like picture, a wide one, and a flat one."""
    rng = np.random.default_rng(3)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, size in (("a b.jpg", (40, 40)), ("wide.png", (90, 30))):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(folder / name)
    Image.new("RGB", (20, 20), (200, 30, 60)).save(folder / "z-flat.png")
    (folder / "notes.txt").write_text("not a picture")
    return folder


def resized(path, size):
    image = Image.open(path).convert("RGB").resize(size, Image.Resampling.BILINEAR)
    return np.asarray(image).astype(np.float64).transpose(2, 0, 1) / 255


def test_numbers_are_those_of_the_maps(pictures):
    found = analyze("saliency", [pictures / "wide.png"], {"transform": "vse?size=32&eta=0.5", "device": "cpu"})
    pixels = resized(pictures / "wide.png", (96, 32))
    maps = {k: v[0].numpy() for k, v in visual_saliency(torch.from_numpy(pixels)[None], eta=0.5).items()}
    picture = found.numbers["pictures"][0]
    assert (picture["width"], picture["height"]) == (90, 30)
    assert (picture["analysed width"], picture["analysed height"]) == (96, 32)
    r = np.corrcoef(maps["antagonism"].ravel(), maps["edges"].ravel())[0, 1]
    assert picture["response and edges r"] == pytest.approx(r, abs=1e-4)
    grey = np.array([0.299, 0.587, 0.114])
    light = (grey @ maps["enhanced"].reshape(3, -1)).sum() / (grey @ pixels.reshape(3, -1)).sum()
    assert picture["light kept"] == pytest.approx(light, abs=1e-4)
    assert picture["share above half"] == pytest.approx((maps["antagonism"] > 0.5).mean(), abs=0.002)
    assert set(picture["maps"]) == set(maps) - {"enhanced"}
    for name, statistics in picture["maps"].items():
        values = maps[name]
        expected = [values.mean(), values.std(), values.min(), *np.quantile(values, (0.05, 0.5, 0.95)), values.max()]
        assert list(statistics) == ["mean", "deviation", "min", "q05", "median", "q95", "max"]
        assert list(statistics.values()) == pytest.approx(expected, abs=1e-4)
    assert found.numbers["transform"].startswith("vse?") and "eta=0.5" in found.numbers["transform"]
    assert f"keeps {100 * light:.1f} % of its light." in " ".join(f.text for f in found.findings)


def test_a_folder_and_what_is_said(pictures):
    found = analyze("saliency", [pictures], {"show": 2, "device": "cpu"})
    assert [row["picture"] for row in found.tables[0].rows] == ["a b.jpg", "wide.png", "z-flat.png"]
    assert [figure.name for figure in found.figures] == ["picture-01-a-b", "picture-02-wide"]
    assert found.title == "Visual saliency of 3 pictures" and not found.virtual
    said = {kind: " ".join(f.text for f in found.findings if f.kind == kind) for kind in ("finding", "limit")}
    assert "Nothing stands out in 1 of 3 picture(s), which end black: z-flat.png" in said["finding"]
    assert "first 2 of 3 pictures" in said["limit"]
    assert "eta and alpha have no published value" in said["limit"]
    flat = found.numbers["pictures"][2]
    assert flat["response and edges r"] is None and flat["light kept"] == 0
    kept = [one["light kept"] for one in found.numbers["pictures"]]
    assert f"keeps {100 * np.mean(kept):.1f} % of its light, 0.0 % to {100 * max(kept):.1f} %" in said["finding"]
    scored = analyze("saliency", [pictures], {"transform": "vse?normalize=zscore", "device": "cpu"})
    assert "black in the enhanced picture" in " ".join(f.text for f in scored.findings)


def test_black_picture_has_no_light_to_keep(tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "black.png")
    found = analyze("saliency", [tmp_path / "black.png"], {"device": "cpu"})
    assert found.numbers["pictures"][0]["light kept"] is None
    assert "light" not in " ".join(f.text for f in found.findings if f.kind == "finding")


def test_a_picture_inside_an_archive(pictures, tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(pictures / "wide.png", "in/wide.png")
    inside = analyze("saliency", [f"{tmp_path}/all.zip!in/wide.png"], {"device": "cpu"})
    loose = analyze("saliency", [pictures / "wide.png"], {"device": "cpu"})
    assert inside.numbers["pictures"][0]["maps"] == loose.numbers["pictures"][0]["maps"]


@pytest.mark.parametrize("name", ["a b.jpg", "wide.png", "z-flat.png"])
def test_figure_shows_picture_maps_and_scales(pictures, name):
    found = analyze("saliency", [pictures / name], {"device": "cpu"})
    (figure,) = found.figures
    canvas = Canvas(figsize=figure.size, layout="constrained")
    figure.paint(canvas.subplots(), LOOK)
    panels = [ax for ax in canvas.axes if ax.get_title(loc="left")]
    assert [panel.get_title(loc="left") for panel in panels] == PANELS
    units = {row["map"]: row["unit"] for row in figure.rows}
    for panel in panels:
        bars = panel.child_axes
        if panel.get_title(loc="left") in ("Picture I", "Enhanced I_a"):
            assert not bars
            continue
        assert (bars[0].get_ylabel() or bars[0].get_xlabel()) in units.values()
        low, high = panel.images[0].get_clim()
        values = panel.images[0].get_array()
        assert (low <= values.min() and values.max() <= high and low < high) or np.ptp(values) == 0
    response = panels[PANELS.index("Antagonism R_a")].images[0]
    assert response.get_clim() == (0, 1)
    enhanced = panels[-1].images[0].get_array()
    original = panels[0].images[0].get_array()
    np.testing.assert_allclose(enhanced, original * np.asarray(response.get_array())[..., None], atol=1e-6)
    assert len(figure.rows) == 7 and all(row["unit"] for row in figure.rows)


def test_page_from_the_command_line(pictures, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["analyze", "saliency", str(pictures / "a b.jpg"), str(pictures / "wide.png"), "--out", str(out)]
    assert run([*command, "--transform", "vse?scales=1,2", "--format", "png,svg", "--device", "cpu", "-q"]) == 0
    shown = capsys.readouterr().out
    assert "The response goes with edges at mean r =" in shown
    assert f"page: {out / 'index.html'}" in shown
    document = json.loads((out / "analysis.json").read_text())
    assert document["options"]["transform"] == "vse?scales=1,2"
    files = {file for part in (*document["figures"], *document["tables"]) for file in part["files"]}
    assert {path.name for path in out.iterdir()} == files | {"index.html", "analysis.json", "panels.json"}
    with open(out / "pictures.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["picture"] for row in rows] == ["a b.jpg", "wide.png"]
    assert float(rows[0]["antagonism mean"]) == document["numbers"]["pictures"][0]["maps"]["antagonism"]["mean"]
    with open(out / "picture-02-wide.csv", newline="") as file:
        assert [row["map"] for row in csv.DictReader(file)][-1] == "antagonism"
    page = (out / "index.html").read_text()
    assert page.count("data:image/png;base64") >= 18  # nine panels a picture, inside of the page
    assert "Antagonism R_a" in page and "<script src" not in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.jpg"], "nowhere.jpg: the image cannot be read"),
        (["notes.txt"], "cannot be decoded as an image"),
        (["empty"], "holds no image file"),
        (["thin.png"], "thin.png: a picture has 2 x 50 pixels, one side above 16 times the other"),
        (["wide.png", "--transform", "vsee"], "did you mean 'vse'"),
        (["wide.png", "--transform", "vse?etta=1"], "did you mean 'eta'"),
        (["wide.png", "--transform", "blur"], "--transform: 'blur' is not visual saliency extraction"),
        (["wide.png", "--show", "-1"], "--show"),
        (["wide.png", "--device", "cdua"], "unknown device 'cdua'"),
        ([], "paths"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(words, message, pictures, monkeypatch, capsys):
    monkeypatch.chdir(pictures)
    (pictures / "empty").mkdir()
    Image.new("RGB", (2, 50)).save("thin.png")
    assert run(["analyze", "saliency", *words, "--out", "o", "-q"]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and message in error and "\n" not in error
    assert not (pictures / "o").exists()


def test_an_analysis_says_what_it_takes(capsys):
    assert run(["analyze", "saliency", "--help"]) == 0
    assert "Pictures: IMAGE..." in capsys.readouterr().out
    assert run(["analyze", "layers", "--help"]) == 0
    assert "Finished folders: SWEEP..." in capsys.readouterr().out
    for name, of in (("saliency", "picture"), ("space", "finished folder")):
        with pytest.raises(InputError, match=f"analyze {name}: needs a {of}; give "):
            analyze(name, [])
