"""Conversion between modalities, on matrices small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest

from brainalign.errors import InputError
from brainalign.evaluation.conversion_matrix import Samples, conversion_matrix

DRAWS = {"n_resamples": 200, "n_permutations": 200}


def test_scores_by_hand():
    ids = ("x", "y", "z")
    samples = [Samples("e1", "eeg", ids), Samples("m1", "meg", ids), Samples("m2", "meg", ids)]
    eye = np.eye(3)
    swapped = eye[[1, 0, 2]]  # z alone finds its own
    similarity = {
        ("e1", "m1"): eye, ("e1", "m2"): swapped, ("m1", "e1"): eye, ("m2", "e1"): eye,
        ("m1", "m2"): swapped, ("m2", "m1"): eye,
    }  # fmt: skip
    decoding = {"e1": eye, "m1": eye, "m2": swapped}
    cells = {(c["source"], c["target"]): c for c in conversion_matrix(samples, similarity, decoding, **DRAWS)}
    assert set(cells) == {("eeg", "meg"), ("meg", "eeg"), ("meg", "meg")}  # there is no second person with EEG
    assert cells["eeg", "meg"]["n_pairs"] == 2
    assert cells["eeg", "meg"]["top1"] == pytest.approx(4 / 6)
    assert cells["meg", "meg"]["top1"] == pytest.approx(4 / 6)
    assert cells["meg", "eeg"]["top1"] == 1.0
    # Swapped rows: the truth (0) loses against the 1 and ties with the other 0: a quarter of two comparisons each.
    own = (3 * 1 + 0.25 + 0.25 + 1) / 6
    assert cells["eeg", "meg"]["target_two_way"] == pytest.approx(own)
    assert cells["meg", "meg"]["normalised"] == pytest.approx(cells["meg", "meg"]["two_way"] / own)
    assert cells["meg", "eeg"]["target_two_way"] == 1.0


def test_the_pool_is_what_all_were_tested_on():
    samples = [Samples("a", "eeg", ("x", "y", "z")), Samples("b", "fmri", ("z", "x", "q"))]
    similarity = {("a", "b"): np.array([[0, 1, 0], [0, 0, 0], [1, 0, 0]]), ("b", "a"): np.zeros((3, 3))}
    decoding = {"a": np.eye(3), "b": np.eye(3)}
    cells = conversion_matrix(samples, similarity, decoding, **DRAWS)
    assert [c["pool"] for c in cells] == [2, 2]
    assert cells[0]["top1"] == 1.0
    assert cells[1]["top1"] == 0.5  # ties count in expectation
    with pytest.raises(InputError, match="1 test images were shown to all"):
        conversion_matrix([samples[0], Samples("b", "fmri", ("z", "q"))], similarity, decoding, **DRAWS)
