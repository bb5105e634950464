"""The first sentence of a report: better than guessing only where something shows it."""

from __future__ import annotations

import pytest

from brainalign.report.verdict import verdict


@pytest.mark.parametrize(
    ("top1", "ends", "p", "good"),
    [
        (0.10, (0.06, 0.15), 0.001, True),
        (0.10, (0.06, 0.15), None, True),  # runs pooled by an interval
        (0.10, None, 0.001, True),
        (0.10, (0.04, 0.15), 0.001, False),
        (0.10, (0.06, 0.15), 0.20, False),
        (0.10, None, 0.20, False),
        (0.10, None, None, False),  # nothing says how sure it is
        (0.05, (0.051, 0.15), 0.001, False),
    ],
)
def test_clear_only_where_interval_and_test_say_so(top1, ends, p, good):
    found = verdict(top1, ends, 0.05, p, [])
    assert found.good is good
    assert ("than guessing" in found.short) and found.short.startswith("Not") is not good


def test_the_p_of_several_runs_is_said_to_be_the_largest():
    assert "the largest of 4 p-values: p\u00a0=\u00a00.01" in verdict(0.1, None, 0.05, 0.01, [], n_runs=4).text
    assert "largest" not in verdict(0.1, None, 0.05, 0.01, []).text
