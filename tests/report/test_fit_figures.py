"""Plots of closed-form fits: one for every kind of search, none where nothing was tried."""

from __future__ import annotations

import csv
import io
from types import SimpleNamespace

import pytest

from brainalign.report.fit_figures import settings_tried


def result(**settings):
    validation = SimpleNamespace(n_way=20)
    return SimpleNamespace(selection=SimpleNamespace(settings=settings), metrics=SimpleNamespace(validation=validation))


def numbers(panel):
    return list(csv.DictReader(io.StringIO(panel.table)))


def test_penalties_alone_are_a_line():
    history = [{"ridge": 10.0**power, "validation_loss": abs(power) + 1} for power in range(-3, 4)]
    panel = settings_tried(history, result(ridge=1.0))
    assert "Chosen: 1, 1.00 nats" in panel.alt
    assert [(float(r["ridge"]), float(r["validation_loss"])) for r in numbers(panel)] == [
        (row["ridge"], row["validation_loss"]) for row in history
    ]
    assert "mathdefault" not in str(panel.svg)  # powers of ten are written out, not as formulas


def test_penalties_and_shrinkages_are_lines():
    history = [{"ridge": r, "shrinkage": s, "validation_loss": r + s} for r in (1.0, 2.0) for s in (0.1, 0.2)]
    panel = settings_tried(history, result(ridge=1.0, shrinkage=0.1))
    assert "shrinkage 0.1" in panel.alt
    assert len(numbers(panel)) == 4


@pytest.mark.parametrize("history", [[{"validation_loss": 3.0}], [{"ridge": 0.1, "validation_loss": 3.0}]])
def test_nothing_tried_is_no_plot(history):
    assert settings_tried(history, result(ridge=0.1)) is None
