"""What tells one recording file from another without reading all of it."""

from __future__ import annotations

import os

import numpy as np
import pytest

from brainalign.errors import InputError
from brainalign.files import PIECE_BYTES, PIECES, fingerprint

LARGE = 3 * PIECES * PIECE_BYTES


@pytest.mark.parametrize("size", [0, 1, 1000, PIECES * PIECE_BYTES * 2, LARGE])
def test_the_content_counts_not_the_place_or_the_time(tmp_path, rng, size):
    content = rng.bytes(size)
    (tmp_path / "a").write_bytes(content)
    (tmp_path / "b").write_bytes(content)
    os.utime(tmp_path / "b", ns=(1, 1))
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")


def test_a_recording_that_was_made_anew_is_another(tmp_path, rng):
    signals = rng.normal(size=(600, 17, 150)).astype(np.float32)
    assert signals.nbytes > PIECES * PIECE_BYTES
    for name, values in {"a": signals, "scaled": 1.01 * signals, "turned": signals[::-1]}.items():
        np.save(tmp_path / name, values)
    assert len({fingerprint(tmp_path / f"{name}.npy") for name in ("a", "scaled", "turned")}) == 3


def test_both_ends_and_the_size_count(tmp_path):
    content = bytearray(LARGE)
    seen = set()
    for change in (None, 0, LARGE - 1, "longer"):
        held = bytearray(content)
        if change == "longer":
            held += b"\0"
        elif change is not None:
            held[change] = 1
        path = tmp_path / f"{change}"
        path.write_bytes(held)
        seen.add(fingerprint(path))
    assert len(seen) == 4


def test_a_file_that_changes_under_its_name_is_read_again(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"one")
    first = fingerprint(path)
    path.write_bytes(b"two")
    os.utime(path, ns=(5, 5))
    assert fingerprint(path) != first


def test_a_file_that_is_not_there_is_one_clear_line(tmp_path):
    with pytest.raises(InputError, match="gone: cannot be read"):
        fingerprint(tmp_path / "gone")
