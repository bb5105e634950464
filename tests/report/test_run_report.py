from __future__ import annotations

import base64
import html
import io
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from brainalign.errors import InputError
from brainalign.report import write_run_report, write_sweep_report
from brainalign.stimuli import StimulusSet

HOSTILE = "<script>alert(1)</script>"


def test_page_is_whole_safe_and_accessible(read_page, make_run, shown, tmp_path):
    make_run(tmp_path / "run", ids=list(shown.ids))
    written = write_run_report(tmp_path / "run", shown)
    assert written == tmp_path / "run" / "report.html"
    read_page(written)
    assert written.stat().st_size < 15e6


def test_numbers_are_those_of_the_result(read_page, make_run, shown, tmp_path):
    make_run(tmp_path / "run", ids=list(shown.ids), virtual=True)
    page = read_page(write_run_report(tmp_path / "run", shown))
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    test, validation = result["metrics"]["test"], result["metrics"]["validation"]
    text = page.text
    for scores in (test, validation):
        for key in ("top1", "top5", "two_way", "chance_top1", "chance_top5"):
            assert f"{100 * scores[key]:.1f} %" in text
        for low, high in (scores["top1_ci95"], scores["top5_ci95"]):
            assert f"{100 * low:.1f} to {100 * high:.1f} %" in text
        assert f"{scores['mrr']:.3f}" in text
    assert f"median rank {test['median_rank']:g}" in text.lower()
    assert f"Inflation gap +{100 * result['inflation_gap_top1']:.1f} points" in text
    assert f"{result['n_train']:,}" in text
    assert result["config_hash"] in text
    assert result["split_fingerprint"] in text
    assert result["data"]["licence"] in text
    assert "VIRTUAL DATA" in text
    assert page.saved("result.json") == (tmp_path / "run" / "result.json").read_bytes()
    assert page.saved("candidates.csv") == (tmp_path / "run" / "candidates.csv").read_text().encode()


def test_plotted_numbers_can_be_saved(read_page, make_run, tmp_path):
    make_run(tmp_path / "run")
    page = read_page(write_run_report(tmp_path / "run", None))
    stored = np.load(tmp_path / "run" / "predictions.npz")["similarity"]
    rank = (stored > stored.diagonal()[:, None]).sum(1) + 1
    rows = page.saved("plot-ranks.csv").decode().splitlines()[1:]
    assert len(rows) == 60
    for row in rows:
        k, share, chance = map(float, row.split(","))
        assert share == pytest.approx((rank <= k).mean())
        assert chance == pytest.approx(k / 60)
    learning = page.saved("plot-learning.csv").decode().splitlines()
    assert learning[0] == "epoch,train_loss,validation_loss"
    assert len(learning) == 61


def test_real_data_is_not_called_virtual(read_page, make_run, tmp_path):
    make_run(tmp_path / "run")
    assert "virtual" not in read_page(write_run_report(tmp_path / "run", None)).text.lower()


def test_pictures_are_small_jpegs(read_page, make_run, shown, tmp_path):
    make_run(tmp_path / "run", ids=list(shown.ids))
    page = read_page(write_run_report(tmp_path / "run", shown))
    images = page.all("img")
    assert len(images) >= 3 * 5 * 6
    for attrs in images[:7]:
        kind, _, data = attrs["src"].partition(",")
        assert kind == "data:image/jpeg;base64"
        picture = Image.open(io.BytesIO(base64.b64decode(data)))
        assert max(picture.size) == 160
    assert "not available" not in page.text


def test_without_pictures_names_are_shown(read_page, make_run, tmp_path):
    make_run(tmp_path / "run")
    page = read_page(write_run_report(tmp_path / "run", None))
    assert page.all("img") == []
    assert "Pictures are not available here" in page.text
    assert "i000" in page.text


def test_one_unreadable_picture_does_not_stop_the_report(read_page, make_run, shown, tmp_path):
    make_run(tmp_path / "run", ids=list(shown.ids))
    for name in sorted((tmp_path / "pictures").rglob("*.png"))[:30]:
        name.write_bytes(b"no picture")
    page = read_page(write_run_report(tmp_path / "run", shown))
    assert re.search(r"\d+ of \d+ pictures are not available here", page.text)
    assert page.all("img")


def test_ids_that_the_table_lacks_are_shown_by_name(read_page, make_run, shown, tmp_path):
    make_run(tmp_path / "run")  # made/i000 ... are not among the pictures
    assert read_page(write_run_report(tmp_path / "run", shown)).all("img") == []


def test_hostile_text_stays_text(read_page, make_run, tmp_path):
    names = [f'{HOSTILE}" onerror="x{i}' for i in range(60)]
    data = {"licence": HOSTILE, "citation": "'\"><img src=x>", "url": "javascript:alert(1)"}
    lint = [{"code": "x", "severity": "note", "text": "</style><script>1</script>"}]
    folder = tmp_path / "run"
    make_run(
        folder,
        ids=names,
        subject=HOSTILE,
        dataset='"><svg onload=x>',
        recipe="$\\frac$ {{ 7 * 7 }} \x00\x1b",
        lint=lint,
        data=data,
    )
    table = (folder / "candidates.csv").read_text()
    (folder / "candidates.csv").write_text(table.replace("grid4", "<script>$x$</script>&amp;"))
    (folder / "recipe.yaml").write_text(f"name: '{HOSTILE}</pre>'\n")
    page = read_page(write_run_report(folder, None))
    assert HOSTILE in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert not any((a["href"] or "").startswith("javascript") for a in page.all("a"))


def test_lone_surrogates_do_not_break_writing(read_page, make_run, tmp_path):
    make_run(tmp_path / "run")
    path = tmp_path / "run" / "result.json"
    path.write_text(path.read_text().replace('"m1"', '"m\\ud8001"'))
    assert "subject m?1" in read_page(write_run_report(tmp_path / "run", None)).text


def test_same_run_gives_the_same_bytes(make_run, shown, tmp_path):
    make_run(tmp_path / "run", ids=list(shown.ids))
    first = write_run_report(tmp_path / "run", shown, out=tmp_path / "a.html").read_bytes()
    assert write_run_report(tmp_path / "run", shown, out=tmp_path / "b.html").read_bytes() == first


def test_a_given_layer_has_no_layer_curve(read_page, make_run, tmp_path):
    make_run(tmp_path / "run", layers=("final",))
    page = read_page(write_run_report(tmp_path / "run", None))
    assert "Validation score by layer" not in page.text
    assert "Learning curve" in page.text


def test_large_gallery_and_perfect_run(read_page, make_run, tmp_path):
    make_run(tmp_path / "run", n=900, noise=0.0)
    page = read_page(write_run_report(tmp_path / "run", None))
    assert "100.0 %" in page.text
    assert "Worst:" not in page.text  # every query found its image
    assert "No image came first wrongly" in page.text
    assert len(page.saved("plot-ranks.csv").decode().splitlines()) < 150


def test_a_run_that_found_nothing(read_page, make_run, tmp_path):
    reversed_similarity = -np.eye(20, dtype=np.float32)
    make_run(tmp_path / "run", n=20, similarity=reversed_similarity)
    page = read_page(write_run_report(tmp_path / "run", None))
    assert "Best:" not in page.text
    assert "Not clearly above chance" in page.text


@pytest.mark.parametrize("name", ["result.json", "predictions.npz", "history.csv", "candidates.csv", "recipe.yaml"])
def test_missing_file_is_named_and_nothing_is_written(make_run, tmp_path, name):
    make_run(tmp_path / "run")
    (tmp_path / "run" / name).unlink()
    with pytest.raises(InputError, match="run") as caught:
        write_run_report(tmp_path / "run", None, out=tmp_path / "report.html")
    assert name in str(caught.value) or "is not the folder of a run" in str(caught.value)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("history.csv", "train_loss", "trian_loss", "no column 'train_loss'"),
        ("history.csv", "1.0,0.001", "1.0,0.001,9", "length"),
        ("candidates.csv", "0.3333333333333333", "deep", "expected a number"),
        ("candidates.csv", "0.3333333333333333", "nan", "holds nan"),
    ],
)
def test_damaged_table_is_named(make_run, tmp_path, name, old, new, said):
    make_run(tmp_path / "run")
    path = tmp_path / "run" / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(InputError, match=said) as caught:
        write_run_report(tmp_path / "run", None)
    assert name in str(caught.value)


def test_empty_and_non_text_tables_are_refused(make_run, tmp_path):
    make_run(tmp_path / "run")
    (tmp_path / "run" / "history.csv").write_text("epoch,train_loss,validation_loss\n")
    with pytest.raises(InputError, match="holds 0 rows"):
        write_run_report(tmp_path / "run", None)
    (tmp_path / "run" / "history.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        write_run_report(tmp_path / "run", None)


def test_light_import():
    code = (
        "import sys, brainalign.report; print([m for m in ('matplotlib', 'jinja2', 'scipy.stats') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.browser
@pytest.mark.parametrize("kind", ["run", "sweep"])
def test_browser_renders_without_sideways_scroll(kind, make_run, make_sweep, shown: StimulusSet, tmp_path):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here")
    if kind == "run":
        make_run(tmp_path / "it", ids=list(shown.ids))
        page = write_run_report(tmp_path / "it", shown)
    else:
        make_sweep(tmp_path / "it", ids=list(shown.ids), splits=(0, 1))
        page = write_sweep_report(tmp_path / "it", lambda subject: shown)
    frame = html.escape(page.read_text(encoding="utf-8"), quote=True)
    measure = "document.title = f.contentDocument.documentElement.scrollWidth + ' ' + f.contentDocument.images.length"
    outer = f'<body><iframe id="f" width="375" height="800" srcdoc="{frame}" onload="{measure}"></iframe>'
    (tmp_path / "outer.html").write_text(outer, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += [
        "--disable-background-networking",
        "--disable-component-update",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    command = [chromium, *flags, "--virtual-time-budget=3000", "--dump-dom", (tmp_path / "outer.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    width, images = re.search(r"<title>(\d+) (\d+)</title>", done.stdout).groups()
    assert int(width) <= 375
    assert int(images) > 20
