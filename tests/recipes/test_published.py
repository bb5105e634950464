"""Published tables as data: they are read, agree with themselves, and bad ones are refused."""

from __future__ import annotations

import numpy as np
import pytest

from brainalign.errors import InputError
from brainalign.features.aliases import ALIASES
from brainalign.recipes.load import load_recipe
from brainalign.recipes.published_tables import read_table, table_names

TABLES = table_names()


def by_id(name):
    return {cell.id: cell for cell in read_table(name).cells}


def test_the_tables_of_the_three_papers_are_here():
    asked = {"backbones", "encoders", "projectors", "meg"}
    assert {f"shallow-alignment/{n}" for n in asked} <= set(TABLES)
    assert {f"neuroalign/table{n}" for n in (1, 2, 4, 5)} | {"foundation/table1"} <= set(TABLES)


@pytest.mark.parametrize("name", TABLES)
def test_every_cell_can_be_read_and_is_there_once(name):
    table = read_table(name)
    ids = [cell.id for cell in table.cells]
    assert len(set(ids)) == len(ids)
    assert table.source.paper
    for cell in table.cells:
        readings = cell.published.one_of or [cell.published.value]
        if table.unit == "percent":
            assert all(0 <= value <= 100 for value in readings), cell.id
        assert cell.run.recipe or cell.run.why_not, f"{cell.id} says neither how it is run nor why not"


@pytest.mark.parametrize("name", [n for n in TABLES if n.startswith("shallow-alignment")])
def test_settings_of_the_cells_are_settings_of_their_recipe(name):
    for cell in read_table(name).cells:
        if (cell.run.recipe or "").startswith("shallow-alignment"):
            load_recipe(cell.run.recipe, modality=cell.run.modality or "eeg", overrides=cell.run.settings)
            assert cell.run.backbone in ALIASES


def test_numbers_read_from_the_papers():
    """Spot checks against the printed pages, and means that the pages print beside their parts."""
    cells = by_id("shallow-alignment/backbones")
    assert cells["internvit-6b/intra-best/top1"].published.value == 82.6
    assert cells["dinov2-g/intra-final/top1"].published.value == 17.5
    parts = [c.published.value for i, c in cells.items() if i.startswith("internvit-6b/intra-best/top1/")]
    if parts:
        assert np.mean(parts) == pytest.approx(82.6, abs=0.06)
    encoders = by_id("shallow-alignment/encoders")
    for name, mean in {"eegnet": 53.8, "tsconv": 62.0, "conformer": 58.7, "atm": 65.2, "eegproject": 73.1}.items():
        values = [cell.published.value for cell in encoders.values() if cell.row == name]
        assert len(values) == 8
        assert np.mean(values) == pytest.approx(mean, abs=0.06)
    subjects = [42.0, 39.5, 51.5, 51.0, 38.0, 56.5, 46.5, 60.5, 43.0, 52.0]
    own = [cell for cell in read_table("neuroalign/table1").cells if cell.row == "neuroalign" and cell.metric == "top1"]
    assert subjects == [cell.published.value for cell in own if cell.subject and "intra" in cell.id]


def test_bad_tables_are_refused(tmp_path):
    with pytest.raises(InputError, match="did you mean"):
        read_table("shallow-alignment/backbone")
    path = tmp_path / "t.yaml"
    path.write_text("name: a/b\ntitle: T\nsurprise: 1\n")
    with pytest.raises(InputError, match=r"t\.yaml"):
        read_table(str(path))
    path.write_text("{")
    with pytest.raises(InputError, match=r"t\.yaml"):
        read_table(str(path))
