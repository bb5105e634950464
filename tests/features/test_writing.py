"""Writing a bank: what a killed program leaves is used, and only what is whole."""

from __future__ import annotations

import errno
import json

import numpy as np
import pytest

from brainalign.errors import InputError
from brainalign.features.bank import FeatureBank
from brainalign.features.writing import BankWriter, check_room

META = {
    "schema": "brainalign.features/1", "backbone": "toy:1", "weights_hash": "0" * 64, "preprocessing": {},
    "layer": {"name": "0", "index": 0, "depth": 0.0, "module": ""}, "pooling": "mean",
    "image_ids": [f"{i:064x}" for i in range(10)],
}  # fmt: skip


@pytest.fixture
def rows(rng) -> np.ndarray:
    return rng.normal(size=(10, 6)).astype(np.float32)


def writer(folder, **changes) -> BankWriter:
    return BankWriter(folder, **{"n_images": 10, "dim": 6, "dtype": "float16", "batch_size": 4, **changes})


def write(one: BankWriter, rows: np.ndarray, *, until: int = 10) -> None:
    one.open()
    for first in range(0, until, one.batch_size):
        assert one.append(first, rows[first : first + one.batch_size])
    one.close()


def finished(folder, rows: np.ndarray, **changes) -> bytes:
    one = writer(folder, **changes)
    write(one, rows)
    assert one.is_complete
    one.finish(META)
    return (folder / "features.npy").read_bytes()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_file_is_what_numpy_writes(tmp_path, rows, dtype) -> None:
    finished(tmp_path / "bank", rows, dtype=dtype)
    found = np.load(tmp_path / "bank" / "features.npy")
    np.testing.assert_array_equal(found, rows.astype(dtype))
    assert sorted(p.name for p in (tmp_path / "bank").iterdir()) == ["features.npy", "meta.json"]
    assert not (tmp_path / "bank.partial").exists()
    np.testing.assert_array_equal(FeatureBank(tmp_path / "bank").array, found)


@pytest.mark.parametrize(("extra", "done"), [(0, 4), (1, 4), (11, 4), (4 * 12 - 1, 4), (4 * 12, 8)])
def test_goes_on_after_the_last_whole_batch(tmp_path, rows, extra, done) -> None:
    """`extra` bytes of the second batch (4 rows of 6 float16) reached the disk."""
    expected = finished(tmp_path / "whole", rows)
    write(writer(tmp_path / "bank"), rows, until=8)
    partial = tmp_path / "bank.partial" / "features.npy"
    partial.write_bytes(partial.read_bytes()[: 128 + 4 * 12 + extra])
    again = writer(tmp_path / "bank")
    assert again.done == done
    assert again.missing_bytes == (10 - done) * 12
    write(again, rows)
    again.finish(META)
    assert (tmp_path / "bank" / "features.npy").read_bytes() == expected


def test_killed_ahead_of_the_rename(tmp_path, rows) -> None:
    write(writer(tmp_path / "bank"), rows)
    again = writer(tmp_path / "bank")
    assert again.is_complete
    again.open()
    again.close()
    again.finish(META)
    np.testing.assert_array_equal(FeatureBank(tmp_path / "bank").array, rows.astype(np.float16))


@pytest.mark.parametrize(
    "changes",
    [{"batch_size": 2}, {"dim": 5}, {"n_images": 11}, {"plan": "{"}, {"plan": "[]"}, {"plan": '{"dtype": 3}'}],
)
def test_other_batches_begin_again(tmp_path, rows, changes) -> None:
    write(writer(tmp_path / "bank"), rows, until=8)
    if plan := changes.pop("plan", None):
        (tmp_path / "bank.partial" / "plan.json").write_text(plan)
    assert writer(tmp_path / "bank", **changes).done == 0


def test_header_cut_short(tmp_path, rows) -> None:
    write(writer(tmp_path / "bank"), rows, until=8)
    (tmp_path / "bank.partial" / "features.npy").write_bytes(b"\x93NUM")
    assert writer(tmp_path / "bank").done == 0


def test_overflow_begins_again_as_float32(tmp_path, rows) -> None:
    rows[5, 2] = 70000.0
    one = writer(tmp_path / "bank")
    one.open()
    assert one.append(0, rows[:4])
    assert not one.append(4, rows[4:8])
    assert (one.done, one.dtype) == (0, np.float32)
    write(one, rows, until=8)
    again = writer(tmp_path / "bank")  # after a kill: float32 is remembered
    assert (again.done, again.dtype) == (8, np.float32)
    write(again, rows)
    again.finish(META)
    bank = FeatureBank(tmp_path / "bank")
    assert bank.meta["dtype"] == "float32"
    np.testing.assert_array_equal(bank.array, rows)


def test_the_largest_float16_still_fits(tmp_path, rows) -> None:
    rows[0, 0], rows[1, 1] = 65504.0, -65504.0
    finished(tmp_path / "bank", rows)
    assert FeatureBank(tmp_path / "bank").array[1, 1] == -65504.0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_nan_and_infinity_are_refused(tmp_path, rows, value, dtype) -> None:
    rows[3, 3] = value
    one = writer(tmp_path / "bank", dtype=dtype)
    one.open()
    with pytest.raises(InputError, match="NaN or infinite features"):
        one.append(0, rows[:4])
    one.close()


def test_full_disk_leaves_what_can_be_gone_on_with(tmp_path, rows, monkeypatch) -> None:
    one = writer(tmp_path / "bank")
    one.open()
    one.append(0, rows[:4])

    class Full:
        def write(self, data: memoryview) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            pass

    one._file.close()
    one._file = Full()
    with pytest.raises(InputError, match="the disk is full"):
        one.append(4, rows[4:8])
    assert writer(tmp_path / "bank").done == 4


def test_short_writes_are_completed(tmp_path, rows) -> None:
    """An operating system may take fewer bytes than it is given."""
    expected = finished(tmp_path / "whole", rows)
    one = writer(tmp_path / "bank")
    one.open()
    real = one._file

    class Short:
        def write(self, data: memoryview) -> int:
            return real.write(data[:5])

        def close(self) -> None:
            real.close()

    one._file = Short()
    for first in (0, 4, 8):
        one.append(first, rows[first : first + 4])
    one.close()
    one.finish(META)
    assert (tmp_path / "bank" / "features.npy").read_bytes() == expected


def test_room_is_counted_over_all_banks(tmp_path, monkeypatch) -> None:
    import shutil

    usage = shutil.disk_usage(tmp_path)
    banks = [BankWriter(tmp_path / n, n_images=2**20, dim=8, dtype="float16", batch_size=4) for n in "ab"]
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=20 * 2**20))
    with pytest.raises(InputError, match="32 MiB are needed, 20 MiB are free"):
        check_room(banks, tmp_path / "not" / "there")
    check_room(banks[:1], tmp_path)


def test_leftovers_of_a_damaged_bank_make_way(tmp_path, rows) -> None:
    (tmp_path / "bank").mkdir()
    (tmp_path / "bank" / "features.npy").write_bytes(b"old")
    finished(tmp_path / "bank", rows)
    assert json.loads((tmp_path / "bank" / "meta.json").read_text())["n_images"] == 10
    np.testing.assert_array_equal(FeatureBank(tmp_path / "bank").array, rows.astype(np.float16))
