from __future__ import annotations

import base64
import csv
import io
import json
import re
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from brainalign.errors import InputError
from brainalign.report import write_run_report
from brainalign.report.query_signals import write_query_signals
from brainalign.report.run_report import lead_name, score_name
from brainalign.stimuli import StimulusSet


class Channels(NamedTuple):
    """What a recording says of its signals."""

    ch_names: tuple[str, ...]
    sfreq: float | None
    tmin: float | None
    unit: str
    modality: str


def gallery_of(page):
    """The data of the page's gallery."""
    (text,) = [text for kind, text in page.scripts if kind == "application/json"]
    return json.loads(text)


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


def test_the_epoch_is_said_to_be_chosen_only_where_it_was(read_page, make_run, tmp_path):
    selection = make_run(tmp_path / "run").selection.model_dump()
    text = read_page(write_run_report(tmp_path / "run", None)).text
    assert "Contrastive loss. The epoch is chosen by validation;" in text
    assert "chosen: epoch 24" in text
    make_run(tmp_path / "last", selection=selection | {"metric": "last epoch", "epoch": 60})
    page = read_page(write_run_report(tmp_path / "last", None))
    assert "Contrastive loss. The last epoch is reported" in page.text
    assert "epoch is chosen by validation" not in page.text
    assert "reported: epoch 60" in page.text


@pytest.mark.parametrize(
    ("bound", "axis"), [(False, "1 - validation MRR"), (True, "negative bound (nats)")], ids=["retrieval", "elbo"]
)
def test_losses_of_bravl_have_axes_of_their_own(read_page, make_run, tmp_path, bound, axis):
    make_run(tmp_path / "run", encoder="bravl")
    rows = [
        {
            "epoch": e,
            "train_loss": 900 - e,
            "validation_loss": 800.5 - e if bound else 0.9,
            "validation_elbo": 800.5 - e,
        }
        for e in range(1, 31)
    ]
    with open(tmp_path / "run/history.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    text = read_page(write_run_report(tmp_path / "run", None)).text
    assert "Contrastive loss." not in text
    assert "training loss (nats)" in text and axis in text
    assert "negative variational bound" in text and "The two losses do not compare." in text


def test_real_data_is_not_called_virtual(read_page, make_run, tmp_path):
    make_run(tmp_path / "run")
    assert "virtual" not in read_page(write_run_report(tmp_path / "run", None)).text.lower()


def test_pictures_are_small_jpegs(read_page, make_run, shown, tmp_path):
    make_run(tmp_path / "run", ids=list(shown.ids))
    page = read_page(write_run_report(tmp_path / "run", shown))
    sources = [attrs["src"] for attrs in page.all("img")]
    assert len(sources) >= 3 * 3 * 6
    in_gallery = gallery_of(page)["pictures"]
    assert len(in_gallery) == 60
    for source in (*sources[:7], *in_gallery[:7]):
        kind, _, data = source.partition(",")
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


def test_gallery_holds_every_query_by_plain_numpy(read_page, make_run, shown, tmp_path):
    make_run(tmp_path / "run", ids=list(shown.ids))
    data = gallery_of(read_page(write_run_report(tmp_path / "run", shown)))
    stored = np.load(tmp_path / "run" / "predictions.npz")
    scores, ids = stored["similarity"], [str(name) for name in stored["gallery_ids"]]
    assert len(data["queries"]) == 60
    assert data["n_way"] == 60
    for row, query in enumerate(data["queries"]):
        images = [data["images"][i]["id"] for i in query["near"]]
        order = np.argsort(-scores[row])
        assert data["images"][query["image"]]["id"] == ids[row]
        assert images == [ids[i] for i in order[:8]]
        assert query["scores"] == pytest.approx(scores[row][order[:8]], rel=1e-4)
        assert query["rank"] == (scores[row] > scores[row, row]).sum() + 1
        assert query["margin"] == pytest.approx(scores[row, row] - np.delete(scores[row], row).max(), abs=1e-4)
    assert data["signals"] is None


def test_signals_reach_the_page_and_only_those_of_the_run(read_page, make_run, tmp_path):
    make_run(tmp_path / "run")
    values = np.random.default_rng(0).normal(0, 3, (60, 5, 40)).astype(np.float32)
    write_query_signals(tmp_path / "run", values, Channels(tuple("abcde"), 100.0, -0.1, "uV", "eeg"))
    page = read_page(write_run_report(tmp_path / "run", None))
    packed = gallery_of(page)["signals"]
    steps = np.frombuffer(base64.b64decode(packed["data"]), dtype=np.int8).reshape(60, 5, 40)
    restored = steps * np.array(packed["scales"])[:, None, None]
    assert np.abs(restored - values).max() <= np.abs(values).max() / 127
    assert packed["times"][:2] == [-100.0, -90.0]
    assert packed["channels"] == list("abcde")
    assert "kept no averaged test signals" not in page.text
    write_query_signals(tmp_path / "run", values[:50], Channels(tuple("abcde"), 100.0, -0.1, "uV", "eeg"))
    with pytest.raises(InputError, match="another run"):
        write_run_report(tmp_path / "run", None)


def test_many_queries_are_drawn_blindly_and_said(read_page, make_run, tmp_path):
    make_run(tmp_path / "run", n=900)
    page = read_page(write_run_report(tmp_path / "run", None))
    assert len(gallery_of(page)["queries"]) == 400
    assert "400 of 900 queries, drawn blindly" in page.text


def test_200_queries_with_pictures_and_signals_stay_small(make_run, tmp_path):
    from tests_support import write_images

    write_images(tmp_path / "pictures", 200, size=200)  # noise: the largest files that JPEG makes
    shown = StimulusSet.from_folder(tmp_path / "pictures", prefix="made/")
    make_run(tmp_path / "run", ids=list(shown.ids), n=200)
    values = np.random.default_rng(0).normal(size=(200, 63, 250)).astype(np.float32)
    names = tuple(f"c{i}" for i in range(63))
    write_query_signals(tmp_path / "run", values, Channels(names, 250.0, 0.0, "uV", "eeg"))
    assert write_run_report(tmp_path / "run", shown).stat().st_size < 15e6


def test_confused_pairs_and_hubs_are_on_the_page(read_page, make_run, tmp_path):
    similarity = np.eye(20, dtype=np.float32)
    similarity[[3, 4], [4, 3]] = 2  # each for the other
    similarity[[7, 8, 9], [0, 0, 0]] = 3  # a hub
    make_run(tmp_path / "run", n=20, similarity=similarity)
    page = read_page(write_run_report(tmp_path / "run", None))
    assert "wrongly first 3 times" in page.text
    assert "Each for the other, 2 queries" in page.text
    rows = page.saved("mistakes.csv").decode().splitlines()
    assert rows[:2] == ["kind,image,other,queries,mutual,deficit_sd", "hub,made/i000,,3,,"]
    assert sum(row.startswith("pair") for row in rows) == 4


def test_first_sentence_says_how_good_how_sure_and_why_it_may_be_wrong(read_page, make_run, tmp_path):
    make_run(tmp_path / "run", virtual=True)
    page = read_page(write_run_report(tmp_path / "run", None))
    test = json.loads((tmp_path / "run" / "result.json").read_text())["metrics"]["test"]
    first = page.text.partition("Contents")[0][:1500].replace("\xa0", " ")
    low, high = (f"{100 * end:.1f}" for end in test["top1_ci95"])
    assert f"{100 * test['top1']:.1f} % of virtual signals led to their image, where chance gives 1.7 %" in first
    assert f"95 % interval {low} to {high} %" in first
    assert "times better than guessing" in first
    assert "First reason for doubt : virtual data" in first or "First reason for doubt: virtual data" in first
    make_run(tmp_path / "none", n=20, similarity=-np.eye(20, dtype=np.float32))
    text = read_page(write_run_report(tmp_path / "none", None)).text
    assert "Not clearly better than guessing" in text


def test_runs_beside_it_come_with_differences_and_curves(read_page, make_run, tmp_path):
    make_run(tmp_path / "run", noise=1.0)
    make_run(tmp_path / "b", noise=3.0, seed=1, recipe="ridge")
    make_run(tmp_path / "c", noise=3.0, seed=2, recipe="ridge")
    page = read_page(write_run_report(tmp_path / "run", None, beside=[tmp_path / "b", tmp_path / "c"]))
    saved = list(csv.DictReader(io.StringIO(page.saved("plot-beside-ranks.csv").decode())))
    assert {row["run"] for row in saved} == {"shallow-alignment", "ridge, 5, seed 1", "ridge, 5, seed 2"}
    hits = [(m > m.diagonal()[:, None]).sum(1) == 0 for m in (similarities(tmp_path / n) for n in ("run", "b"))]
    difference = 100 * (hits[0].mean() - hits[1].mean())
    assert f"{difference:+.1f} points" in page.text
    first = next(row for row in saved if row["run"] == "ridge, 5, seed 1" and row["k"] == "1")
    assert float(first["share"]) == pytest.approx(hits[1].mean())
    learning = list(csv.DictReader(io.StringIO(page.saved("plot-beside-learning.csv").decode())))
    assert len(learning) == 3 * 60


@pytest.mark.parametrize(
    ("encoder", "axis"), [("linear", "validation loss (nats)"), ("bravl", "validation loss (each run's own)")]
)
def test_losses_beside_one_another_have_a_unit_where_they_share_it(read_page, make_run, tmp_path, encoder, axis):
    make_run(tmp_path / "run")
    make_run(tmp_path / "b", seed=1, encoder=encoder, recipe="other")
    assert axis in read_page(write_run_report(tmp_path / "run", None, beside=[tmp_path / "b"])).text


def similarities(folder):
    return np.load(folder / "predictions.npz")["similarity"]


@pytest.mark.parametrize(
    ("encoder", "epoch", "score", "lead"),
    [
        ("linear", 12, "cosine similarity", "of cosine similarity"),
        ("generative", None, "log-likelihood below that of the first", "nats of log-likelihood"),
        (
            "stacked",
            None,
            "weighted sum of its runs' scores below that of the first",
            "of weighted sum of its runs' scores",
        ),
        ("bravl", 30, "score", "of score"),
        ("ridge", None, "scaled cosine similarity", "of scaled cosine similarity"),
    ],
)
def test_scores_are_called_what_they_are(make_run, tmp_path, encoder, epoch, score, lead):
    result = make_run(tmp_path / "run", encoder=encoder)
    selection = result.selection.model_copy(update={"epoch": epoch})
    result = result.model_copy(update={"selection": selection})
    assert (score_name(result), lead_name(result)) == (score, lead)
