"""Tables that people open in a spreadsheet."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from brainalign.report.page import csv_text
from brainalign.tasks.output import write_rows


def cells(text):
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


@pytest.mark.parametrize("name", ["=1+1", "+A1", "-A1", "@SUM(1)", "\t=1+1", "\r=1+1", "-0.5 %", "--", "=-1"])
def test_text_that_a_spreadsheet_would_compute_is_text(name):
    (header, row) = cells(csv_text([{name: name, "x": 1}]))
    assert header == ["'" + name, "x"] and row == ["'" + name, "1"]


@pytest.mark.parametrize(
    "value", ["-0.5", "+1.2", "-1e-05", "\u221240.0 [\u221245.1, 3]", "a=b", " =1", "'x", "", "-inf", "5"]
)
def test_numbers_and_other_text_stay(value):
    assert cells(csv_text([{"x": value, "y": 0}])) == [["x", "y"], [value, "0"]]


def test_numbers_are_written_as_before():
    values = {"a": -0.5, "b": -3, "c": None, "d": True, "e": np.float32(-0.25), "f": np.int64(-7), "g": -np.inf}
    assert csv_text([values, {"a": 1.5}]) == "a,b,c,d,e,f,g\n-0.5,-3,,True,-0.25,-7,-inf\n1.5,,,,,,\n"
    assert csv_text([]) == "\n"


def test_no_name_ends_a_row():
    (_, row) = cells(csv_text([{"name": "cat\r=1+1", "score": -1.5}]))
    assert row == ["cat\r=1+1", "-1.5"]


def test_answers_of_tasks_are_no_formulas_as_csv_and_whole_as_jsonl(tmp_path):
    rows = [{"signal": "=cmd()", "rank": 1, "image": "@x", "score": -0.5}]
    write_rows(tmp_path / "x.csv", rows, {})
    assert cells((tmp_path / "x.csv").read_text())[1] == ["'=cmd()", "1", "'@x", "-0.5"]
    write_rows(tmp_path / "x.jsonl", rows, {})
    assert '"signal": "=cmd()"' in (tmp_path / "x.jsonl").read_text()
