"""The published tables against facts that the papers (and arithmetic on them) state elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
import yaml

from brainalign.encoders.registry import ENCODERS
from brainalign.errors import InputError
from brainalign.features.aliases import resolve_alias
from brainalign.features.sources import parse_id
from brainalign.recipes import load_recipe, recipe_names
from brainalign.recipes.published_tables import PublishedTable, read_table, settings_of, table_names

TABLES = {name: read_table(name) for name in table_names()}
# Means that the papers print wrongly: (table, row, condition, metric) to the mean of the printed subjects.
ODD_MEANS = {
    ("neuroalign/table1", "atm-s", "intra", "top1"): 27.1,
    ("neuroalign/table1", "atm-s", "intra", "top5"): 58.08,
    ("neuroalign/table1", "nice-llm", "intra", "top5"): 53.7,
    ("neuroalign/table1", "nice-llm", "inter", "top1"): 8.11,
    ("neuroalign/table1", "nice-llm", "inter", "top5"): 26.48,
    ("neuroalign/table1", "neuroalign", "intra", "top5"): 77.95,
}


def value(table: str, cell: str) -> float:
    found = {c.id: c.published.value for c in TABLES[table].cells}[cell]
    assert found is not None
    return found


def test_the_tables_asked_for_are_there():
    wanted = {f"shallow-alignment/{t}" for t in ("backbones", "encoders", "projectors", "meg", "scaling")}
    wanted |= {f"neuroalign/table{n}" for n in (1, 2, 4, 5)} | {"foundation/table1"}
    assert wanted | {"baselines/things-eeg2", "baselines/things-meg"} == set(TABLES)


@pytest.mark.parametrize("name", TABLES)
def test_every_cell_is_in_range_stands_once_and_says_how_it_would_be_measured(name):
    table = TABLES[name]
    assert table.source.paper
    assert len({cell.id for cell in table.cells}) == len(table.cells)
    for cell in table.cells:
        for number in [cell.published.value] if cell.published.one_of is None else cell.published.one_of:
            top = 100 if table.unit == "percent" else 1
            assert 0 <= number <= top, cell.id
        way = cell.run
        assert way.dataset and way.modality, cell.id
        assert bool(way.recipe and way.protocol and way.n_way) or way.why_not, cell.id
        if way.backbone is not None:
            parse_id(resolve_alias(way.backbone))
        assert way.layer != "best" or way.layers, cell.id


@pytest.mark.parametrize("name", TABLES)
def test_settings_suit_the_recipes_that_exist(name):
    asked = {(c.run.recipe, c.run.modality, tuple(c.run.settings)) for c in TABLES[name].cells if not c.run.why_not}
    for recipe, modality, settings in asked:
        if recipe.partition("/")[0] in recipe_names():
            resolved = load_recipe(recipe, modality=modality, overrides=settings)
            encoder = settings_of(settings).get("encoder.name")
            assert encoder is None or resolved.encoder.name == encoder
            assert encoder is None or encoder in ENCODERS


@pytest.mark.parametrize("name", TABLES)
def test_printed_means_are_those_of_the_printed_subjects(name):
    table = TABLES[name]
    subjects: dict[tuple[str, ...], list[float]] = {}
    means = {(c.row, c.condition, c.metric): c.published.value for c in table.cells if c.subject is None}
    for cell in table.cells:
        if cell.subject is not None:
            subjects.setdefault((cell.row, cell.condition, cell.metric), []).append(cell.published.value)
    for key, values in subjects.items():
        assert len(values) == len(table.subjects)
        odd = ODD_MEANS.get((name, *key))
        if odd is None:
            assert np.mean(values) == pytest.approx(means[key], abs=0.1), key
        else:
            assert np.mean(values) == pytest.approx(odd, abs=0.006), key
            assert abs(np.mean(values) - means[key]) > 0.1, key


def test_numbers_read_from_the_papers():
    assert value("shallow-alignment/backbones", "internvit-6b/intra-best/top1") == 82.6
    assert value("shallow-alignment/backbones", "dinov2-g/intra-final/top1") == 17.5
    cells = [c for c in TABLES["neuroalign/table1"].cells if c.subject and c.id.startswith("neuroalign/intra/top1/")]
    assert [c.published.value for c in cells] == [42.0, 39.5, 51.5, 51.0, 38.0, 56.5, 46.5, 60.5, 43.0, 52.0]


def test_gains_of_the_best_layer_are_the_printed_ones():
    gains = {
        cell.row: value("shallow-alignment/backbones", f"{cell.row}/intra-best/top1")
        - value("shallow-alignment/backbones", f"{cell.row}/intra-final/top1")
        for cell in TABLES["shallow-alignment/backbones"].cells
    }
    printed = [27.4, 22.7, 31.5, 43.3, 58.4, 42.0, 41.1, 26.7]
    np.testing.assert_allclose(list(gains.values()), printed, atol=1e-9)


@pytest.mark.parametrize(("condition", "ours"), [("intermediate", "intra-best"), ("final", "intra-final")])
def test_the_printed_correlation_follows_from_the_printed_scores(condition, ours):
    factors = {"M": 1e6, "B": 1e9}
    cells = [c for c in TABLES["shallow-alignment/backbones"].cells if c.id.endswith(f"/{ours}/top1")]
    sizes = [float(str(c.labels["parameters"])[:-1]) * factors[str(c.labels["parameters"])[-1]] for c in cells]
    r = np.corrcoef(np.log(sizes), [c.published.value for c in cells])[0, 1]
    assert r == pytest.approx(value("shallow-alignment/scaling", f"scaling/{condition}/r"), abs=0.01)
    t = r * math.sqrt((len(cells) - 2) / (1 - r**2))
    p = 2 * _student_tail(abs(t), len(cells) - 2)
    assert p == pytest.approx(value("shallow-alignment/scaling", f"scaling/{condition}/p"), rel=0.1)


def _student_tail(t: float, df: int) -> float:
    """P(T > t), by the trapezoid rule on the density."""
    x = np.linspace(t, t + 400, 800_001)
    scale = math.gamma((df + 1) / 2) / (math.sqrt(df * math.pi) * math.gamma(df / 2))
    return float(np.trapezoid(scale * (1 + x**2 / df) ** (-(df + 1) / 2), x))


def test_means_over_backbones_are_the_printed_ones():
    printed = {"eegnet": 53.8, "tsconv": 62.0, "conformer": 58.7, "atm": 65.2, "eegproject": 73.1}
    for encoder, mean in printed.items():
        cells = [c for c in TABLES["shallow-alignment/encoders"].cells if c.row == encoder]
        assert len(cells) == 8
        assert np.mean([c.published.value for c in cells]) == pytest.approx(mean, abs=0.1)


def test_the_two_tables_differ_in_the_two_swapped_models_alone():
    swapped = {"vit-bigg-14": "dinov2-g", "dinov2-g": "vit-bigg-14"}
    for backbone in TABLES["shallow-alignment/backbones"].backbones:
        other = swapped.get(backbone, backbone)
        assert value("shallow-alignment/encoders", f"eegproject/{backbone}/top1") == value(
            "shallow-alignment/backbones", f"{other}/intra-best/top1"
        )


def test_ablations_fall_by_what_the_paper_prints_in_brackets():
    drops = {  # Table 4: without VSE, SGA, DLA; EEG within and left out, MEG within and left out, Top-1 then Top-5
        "without-vse": [5.8, 3.3, 2.2, 2.9, 1.5, 1.6, 0.5, 1.7],
        "without-sga": [8.6, 5.1, 0.9, 0.6, 4.6, 1.8, 1.3, 2.6],
        "without-dla": [23.4, 19.7, 4.3, 8.9, 9.7, 9.3, 2.1, 4.1],
    }
    places = [f"{d}-{s}/{m}" for d in ("eeg", "meg") for s in ("intra", "inter") for m in ("top1", "top5")]
    for row, printed in drops.items():
        found = [value("neuroalign/table4", f"full/{p}") - value("neuroalign/table4", f"{row}/{p}") for p in places]
        np.testing.assert_allclose(found, printed, atol=1e-9)


def test_the_full_model_of_the_ablation_is_that_of_the_main_tables():
    for table, modality in (("neuroalign/table1", "eeg"), ("neuroalign/table2", "meg")):
        for setting in ("intra", "inter"):
            for metric in ("top1", "top5"):
                assert value(table, f"neuroalign/{setting}/{metric}") == value(
                    "neuroalign/table4", f"full/{modality}-{setting}/{metric}"
                )


def small(**changes):
    document = {
        "name": "mine/one",
        "title": "One",
        "source": {"paper": "Somebody"},
        "subjects": ["1", "2"],
        "run": {"recipe": "r", "settings": ["a=1"], "dataset": "d", "layer": "final"},
        "conditions": {"c": {"label": "C", "run": {"settings": ["b=2"], "layer": "best"}}},
        "rows": [{"id": "x", "labels": {"m": "X"}, "run": {"settings": ["a=3"]}, "values": {"c": {"top1": 5}}}],
    }
    return document | changes


def read(tmp_path, document) -> PublishedTable:
    path = tmp_path / "table.yaml"
    path.write_text(yaml.safe_dump(document))
    return read_table(str(path))


def test_levels_lie_over_each_other_and_settings_add_up(tmp_path):
    (cell,) = read(tmp_path, small()).cells
    assert cell.id == "x/c/top1"
    assert cell.run.settings == ["a=1", "b=2", "a=3"]
    assert settings_of(cell.run.settings) == {"a": "3", "b": "2"}
    assert (cell.run.recipe, cell.run.layer, cell.run.dataset) == ("r", "best", "d")


def row(**changes):
    return {"id": "x", "labels": {"m": "X"}, "values": {"c": {"top1": 5}}} | changes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rows": [row(), row()]}, "x/c/top1' stands twice"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"rows": [row(values={"e": {"top1": 5}})]}, "unknown condition of row 'x' 'e'"),
        ({"rows": [row(values={"c": {"top3": 5}})]}, "top3"),
        ({"rows": [row(by_subject={"c": {"top1": [1, 2, 3]}})]}, "3 values, there are 2 subjects"),
        ({"rows": [row(values={"c": {"top1": {"value": 1, "one_of": [1, 2]}}})]}, "give value or one_of"),
        ({"rows": [row(values={"c": {"top1": {"value": float("inf")}}})]}, "finite"),
        ({"run": {"settings": ["nothing"]}}, "'nothing' is not key=value"),
        ({"name": "../x"}, "name"),
    ],
)
def test_a_table_of_another_form_is_refused(tmp_path, changes, said):
    with pytest.raises(InputError) as caught:
        read(tmp_path, small(**changes))
    assert said in str(caught.value)


def test_unknown_tables_and_files_that_hold_none(tmp_path):
    with pytest.raises(InputError, match="did you mean 'shallow-alignment/backbones'"):
        read_table("shallow-alignment/backbone")
    with pytest.raises(InputError, match="cannot be read"):
        read_table(str(tmp_path / "absent.yaml"))
    (tmp_path / "odd.yaml").write_bytes(b"a: [")
    with pytest.raises(InputError, match="not plain YAML"):
        read_table(str(tmp_path / "odd.yaml"))
    (tmp_path / "code.yaml").write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(InputError, match="not plain YAML"):
        read_table(str(tmp_path / "code.yaml"))
