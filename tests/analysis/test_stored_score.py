"""The check that a run and the data at hand belong together."""

from __future__ import annotations

import pytest

from brainalign.analysis.stored_score import check_score
from brainalign.errors import InputError


def test_a_few_turned_ties_pass_and_other_data_do_not(tmp_path):
    assert check_score(tmp_path, "validation", 0.30, 0.315, 500) == pytest.approx(0.015)
    assert check_score(tmp_path, "test", 0.50, 0.55, 20) == pytest.approx(0.05)  # one query of twenty
    with pytest.raises(InputError, match=r"validation top-1 of 0\.300, its model and these data give 0\.326"):
        check_score(tmp_path, "validation", 0.30, 0.326, 500)
    with pytest.raises(InputError, match="test top-1"):
        check_score(tmp_path, "test", 0.50, 0.60, 20)
