"""Copies in the cache: when one counts as whole, and what a full disk says."""

from __future__ import annotations

import json

import pytest

from brainalign.datasets.derived import check_copy_room, kept_record
from brainalign.errors import InputError


def test_a_copy_is_whole_if_its_record_fits_its_signals(tmp_path):
    assert kept_record(tmp_path, "a/1") is None
    (tmp_path / "trials.npy").write_bytes(b"12345")
    (tmp_path / "trials.json").write_text(json.dumps({"schema": "a/1", "bytes": 5}))
    assert kept_record(tmp_path, "a/1") == {"schema": "a/1", "bytes": 5}
    assert kept_record(tmp_path, "a/2") is None
    (tmp_path / "trials.npy").write_bytes(b"1234")
    assert kept_record(tmp_path, "a/1") is None
    (tmp_path / "trials.json").write_text("[1")
    assert kept_record(tmp_path, "a/1") is None


def test_a_full_disk_points_at_the_cache(tmp_path):
    check_copy_room(tmp_path, 1)
    with pytest.raises(InputError, match=r"the copy needs .* or give another --cache"):
        check_copy_room(tmp_path, 2**60)
