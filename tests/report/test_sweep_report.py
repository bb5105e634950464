from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from scipy.stats import beta

from brainalign.errors import InputError
from brainalign.report import sweep_figures, write_sweep_report
from brainalign.report.sweep_file import read_sweep


def no_pictures(subject):
    return None


def read_csv(folder):
    with open(folder / "sweep.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def edit(folder, **changes):
    path = folder / "sweep.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_page_is_whole_safe_and_accessible(read_page, make_sweep, shown, tmp_path):
    make_sweep(tmp_path / "sweep", ids=list(shown.ids), splits=(0, 1))
    asked = []
    written = write_sweep_report(tmp_path / "sweep", lambda subject: asked.append(subject) or shown)
    page = read_page(written)
    assert asked == ["m1"]
    assert page.all("img")
    assert written.stat().st_size < 15e6


def test_numbers_are_those_of_the_sweep(read_page, make_sweep, tmp_path):
    summary = make_sweep(tmp_path / "sweep", splits=(0, 1))
    text = read_page(write_sweep_report(tmp_path / "sweep", no_pictures)).text
    assert f"{100 * summary['mean']['test_top1']:.1f} %" in text
    assert f"{100 * summary['mean']['test_top5']:.1f} %" in text
    for condition in summary["conditions"]:
        low, high = condition["test_top1_ci95"]
        assert f"{100 * condition['test_top1']:.1f} % [{100 * low:.1f} to {100 * high:.1f} %]" in text
        assert f"{100 * condition['best_row_on_test']:.1f} %" in text
    assert "Against final: +15.0 points (95 % interval +8.0 to +22.0 points, p = 0.0004)" in text
    assert "mean over 2 conditions" in text
    for row in read_csv(tmp_path / "sweep"):
        assert f"{100 * float(row['test_top1']):.1f} %" in text


def test_interval_of_one_condition_is_exact(read_page, make_sweep, tmp_path):
    summary = make_sweep(tmp_path / "sweep")
    hits = round(summary["mean"]["test_top1"] * 60)
    expected = [beta.ppf(0.025, hits, 60 - hits + 1), beta.ppf(0.975, hits + 1, 60 - hits)]
    assert read_sweep(tmp_path / "sweep").interval.as_list() == pytest.approx(expected)
    text = read_page(write_sweep_report(tmp_path / "sweep", no_pictures)).text
    assert f"95 % interval {100 * expected[0]:.1f} to {100 * expected[1]:.1f} %" in text


def test_repeated_images_do_not_narrow_the_interval(make_sweep, tmp_path):
    """Two conditions with the same images and the same hits know no more than one."""
    make_sweep(tmp_path / "one")
    summary = make_sweep(tmp_path / "two", splits=(0, 1))
    first, second = (tmp_path / "two" / c["run"] / "predictions.npz" for c in summary["conditions"])
    second.write_bytes(first.read_bytes())
    one, two = (read_sweep(tmp_path / name).interval for name in ("one", "two"))
    assert two.hi - two.lo >= 0.98 * (one.hi - one.lo)


def test_no_pooled_interval_where_queries_differ_in_number(read_page, make_sweep, make_run, tmp_path):
    summary = make_sweep(tmp_path / "sweep", splits=(0, 1))
    make_run(tmp_path / "sweep" / summary["conditions"][1]["run"], n=30, split=1)
    assert read_sweep(tmp_path / "sweep").interval is None
    assert "No pooled interval" in read_page(write_sweep_report(tmp_path / "sweep", no_pictures)).text


def test_curves_hold_every_row_and_mark_the_chosen(read_page, make_sweep, tmp_path):
    make_sweep(tmp_path / "sweep", splits=(0, 1))
    page = read_page(write_sweep_report(tmp_path / "sweep", no_pictures))
    saved = list(csv.DictReader(io.StringIO(page.saved("plot-test-curve.csv").decode())))
    table = read_csv(tmp_path / "sweep")
    assert len(saved) == len(table) == 24
    assert [row["test_top1"] for row in saved] == [row["test_top1"] for row in table]
    assert sum(row["chosen"] == "True" for row in saved) == 2
    heat = list(csv.DictReader(io.StringIO(page.saved("plot-heat.csv").decode())))
    cell = next(row for row in heat if row["layer"] == "5" and row["pooling"] == "grid4")
    values = [float(r["validation_mrr"]) for r in table if r["layer"] == "5" and r["pooling"] == "grid4"]
    assert float(cell["validation_mrr"]) == pytest.approx(np.mean(values))
    assert "exploratory" in page.text


def with_ablation(folder, *names):
    """Every row again as an ablation with half the score, which chooses the first layer."""
    document, rows = json.loads((folder / "sweep.json").read_text()), read_csv(folder)
    found = [row | {"ablation": "full"} for row in rows]
    for name in names:
        for row in rows:
            halved = {key: float(row[key]) / 2 for key in ("validation_mrr", "test_top1")}
            chosen = {"chosen": int(row["layer"] == "0" and row["pooling"] == "mean")}
            found.append(row | halved | chosen | {"ablation": name, "run": f"{row['run']}_ablation-{name}"})
    with open(folder / "sweep.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(found[0]))
        writer.writeheader()
        writer.writerows(found)
    edit(folder, axes=[*document["axes"], {"name": "ablation", "values": ["full", *names], "choice": False}])
    return rows


def painted(sweep, part, monkeypatch):
    """Lines of a curve by their label: lists of (x, y)."""
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    with monkeypatch.context() as patched:
        patched.setattr(sweep_figures, "draw", lambda name, alt, paint, size: paint(ax))
        panel = sweep_figures.choice_curve(sweep, part)
    return panel, {line.get_label(): list(line.get_ydata()) for line in ax.lines if line.get_label()[0] != "_"}


@pytest.mark.parametrize("names", [("no-text",), ("a-very-long-name-of-one", "a-very-long-name-of-two")])
def test_methods_that_are_compared_are_lines_of_their_own(make_sweep, tmp_path, monkeypatch, names):
    make_sweep(tmp_path / "sweep", poolings=("mean",))
    rows = with_ablation(tmp_path / "sweep", *names)
    scores = [float(row["validation_mrr"]) for row in rows]
    panel, lines = painted(read_sweep(tmp_path / "sweep"), "validation", monkeypatch)
    assert lines["full, mean"] == pytest.approx(scores)
    assert sum(line == pytest.approx([s / 2 for s in scores]) for line in lines.values()) == len(names)
    assert lines["chosen"] == [max(scores)]
    assert "chosen row of ablation full" in panel.caption
    saved = list(csv.DictReader(io.StringIO(panel.table)))
    assert [row["ablation"] for row in saved] == [name for name in ("full", *names) for _ in rows]


def test_heat_map_and_caveat_are_of_the_method_itself(read_page, make_sweep, tmp_path):
    make_sweep(tmp_path / "sweep")
    rows = with_ablation(tmp_path / "sweep", "no-text")
    page = read_page(write_sweep_report(tmp_path / "sweep", no_pictures))
    heat = {(r["layer"], r["pooling"]): r for r in csv.DictReader(io.StringIO(page.saved("plot-heat.csv").decode()))}
    for row in rows:
        cell = heat[row["layer"], row["pooling"]]
        assert float(cell["validation_mrr"]) == pytest.approx(float(row["validation_mrr"]))
    assert "Choosing the best of 12 rows on the test set" in page.text
    assert "Of ablation full alone." in page.text


@pytest.mark.parametrize("metric", ["validation_loss", "validation_top1", "validation_mrr"])
def test_any_rule_of_choice(read_page, make_sweep, tmp_path, metric):
    make_sweep(tmp_path / "sweep", poolings=("mean",))
    edit(tmp_path / "sweep", chosen_by=metric)
    page = read_page(write_sweep_report(tmp_path / "sweep", no_pictures))
    assert f"chosen by {metric}" in page.text
    assert metric in page.saved("plot-validation-curve.csv").decode().splitlines()[0]


def relabel(folder, axis, values):
    """Turn the layer axis of a made sweep into another one."""
    rows = read_csv(folder)
    for row, value in zip(rows, values, strict=True):
        row[axis] = value
    with open(folder / "sweep.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    edit(folder, axes=[{"name": axis, "values": list(dict.fromkeys(values)), "choice": True}], comparisons=[])


def test_an_axis_that_is_no_layer(read_page, make_sweep, tmp_path):
    make_sweep(tmp_path / "sweep", poolings=("mean",))
    relabel(tmp_path / "sweep", "training.lr", ["0.1", "0.01", "0.001", "0.0001", "0.00001", "<script>"])
    page = read_page(write_sweep_report(tmp_path / "sweep", no_pictures))
    assert "Validation score by training.lr" in page.text


def test_no_comparison_is_said(read_page, make_sweep, tmp_path):
    make_sweep(tmp_path / "sweep", layers=("5", "10"), poolings=("mean",))
    edit(tmp_path / "sweep", comparisons=[])
    page = read_page(write_sweep_report(tmp_path / "sweep", no_pictures))
    assert "times chance. No comparison with another layer" in page.text
    assert "plot-heat.csv" not in {a.get("download") for a in page.all("a")}


def test_several_backbones(read_page, make_sweep, tmp_path):
    make_sweep(tmp_path / "sweep")
    relabel(tmp_path / "sweep", "backbone", ["a", "b"] * 6)
    axes = [{"name": n, "values": ["x"], "choice": True} for n in ("layer", "backbone")]
    edit(tmp_path / "sweep", axes=axes)
    page = read_page(write_sweep_report(tmp_path / "sweep", no_pictures))
    assert "relative depth of the layer" in page.text
    assert "plot-heat.csv" not in {a.get("download") for a in page.all("a")}


def test_layers_of_several_backbones_make_a_heat_map(read_page, make_sweep, tmp_path):
    make_sweep(tmp_path / "sweep", poolings=("mean",), layers=("0", "5", "10", "15"))
    relabel(tmp_path / "sweep", "backbone", ["pip:net-a", "pip:net-b"] * 2)
    axes = [{"name": "layer", "values": ["0", "5"], "choice": True}]
    edit(tmp_path / "sweep", axes=[*axes, {"name": "backbone", "values": ["pip:net-a", "pip:net-b"], "choice": True}])
    page = read_page(write_sweep_report(tmp_path / "sweep", no_pictures))
    heat = list(csv.DictReader(io.StringIO(page.saved("plot-heat.csv").decode())))
    assert {row["pooling"] for row in heat} == {"a mean", "b mean"}
    assert len(heat) == 4


def test_subjects_have_a_table_of_their_own(read_page, make_sweep, tmp_path):
    summary = make_sweep(tmp_path / "sweep", splits=(0, 1))
    assert "subjects.csv" not in read_page(write_sweep_report(tmp_path / "sweep", no_pictures)).source
    first, second = summary["conditions"]
    edit(tmp_path / "sweep", conditions=[first, second | {"subject": "m2"}])
    page = read_page(write_sweep_report(tmp_path / "sweep", no_pictures))
    rows = list(csv.DictReader(io.StringIO(page.saved("subjects.csv").decode())))
    assert [(row["subject"], float(row["top1"])) for row in rows] == [
        ("m1", first["test_top1"]),
        ("m2", second["test_top1"]),
    ]


def test_conditions_alone(read_page, make_sweep, tmp_path):
    make_sweep(tmp_path / "sweep", layers=("5",), poolings=("grid4",), splits=(0, 1, 2))
    edit(tmp_path / "sweep", axes=[{"name": "split", "values": [0, 1, 2], "choice": False}], comparisons=[])
    page = read_page(write_sweep_report(tmp_path / "sweep", no_pictures))
    assert "Every condition" in page.text
    assert "Validation score by" not in page.text
    assert len(page.saved("plot-conditions.csv").decode().splitlines()) == 4


def test_many_rows_are_cut_but_saved(read_page, make_sweep, tmp_path):
    layers = tuple(str(i) for i in range(300))
    make_sweep(tmp_path / "sweep", layers=layers)
    page = read_page(write_sweep_report(tmp_path / "sweep", no_pictures))
    assert "100 more rows are in sweep.csv" in page.text
    assert len(page.saved("sweep.csv").decode().splitlines()) == 601
    assert len(page.source) < 15e6


def test_hostile_subject(read_page, make_sweep, tmp_path):
    make_sweep(tmp_path / "sweep", subject="<script>alert(1)</script>", splits=(0, 1))
    page = read_page(write_sweep_report(tmp_path / "sweep", no_pictures))
    assert "<script>alert(1)</script>" in page.text


@pytest.mark.parametrize("run", ["/etc", "../other", "runs/../../x"])
def test_a_run_outside_the_sweep_is_refused(make_sweep, tmp_path, run):
    summary = make_sweep(tmp_path / "sweep")
    edit(tmp_path / "sweep", conditions=[summary["conditions"][0] | {"run": run}])
    with pytest.raises(InputError, match="outside the sweep"):
        write_sweep_report(tmp_path / "sweep", no_pictures)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema": "other/1"}, "schema"),
        ({"conditions": []}, "conditions"),
        ({"mean": {}}, "mean.test_top1"),
        ({"axes": [{"name": "nowhere", "values": [1], "choice": True}]}, "no column 'nowhere'"),
        ({"chosen_by": "validation_luck"}, "chosen_by"),
    ],
)
def test_damaged_summary_is_named(make_sweep, tmp_path, changes, said):
    make_sweep(tmp_path / "sweep")
    edit(tmp_path / "sweep", **changes)
    with pytest.raises(InputError, match=said):
        write_sweep_report(tmp_path / "sweep", no_pictures)
    assert not (tmp_path / "sweep" / "report.html").exists()


def test_unfinished_sweep(tmp_path):
    with pytest.raises(InputError, match=r"sweep\.json"):
        write_sweep_report(tmp_path, no_pictures)


@pytest.mark.parametrize(("p", "said"), [(0.0005, "times better than guessing"), (0.3, "Not clearly better")])
def test_without_a_pooled_interval_every_condition_must_be_above_chance(
    read_page, make_sweep, make_run, tmp_path, p, said
):
    summary = make_sweep(tmp_path / "sweep", splits=(0, 1))
    place = tmp_path / "sweep" / summary["conditions"][1]["run"]
    make_run(place, n=40, split=1)
    document = json.loads((place / "result.json").read_text())
    document["metrics"]["test"]["permutation_p"] = p
    (place / "result.json").write_text(json.dumps(document))
    text = read_page(write_sweep_report(tmp_path / "sweep", no_pictures)).text
    assert said in text and "the largest of 2 p-values" in text
