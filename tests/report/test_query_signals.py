from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from brainalign.errors import InputError
from brainalign.report.query_signals import FILE, read_query_signals, write_query_signals


class Channels(NamedTuple):
    ch_names: tuple[str, ...]
    sfreq: float | None = 250.0
    tmin: float | None = 0.0
    unit: str = "uV"
    modality: str = "eeg"


def names(n):
    return tuple(f"c{i}" for i in range(n))


def test_small_signals_come_back_within_half_a_step(tmp_path):
    values = np.random.default_rng(0).normal(0, 5, (9, 4, 30)).astype(np.float32)
    write_query_signals(tmp_path, values, Channels(names(4), tmin=-0.2))
    found = read_query_signals(tmp_path, 9)
    for query, signal in enumerate(values):
        assert np.abs(found.of(query) - signal).max() <= np.abs(signal).max() / 254 * 1.001
    assert found.times == pytest.approx(np.arange(30) / 250 - 0.2)
    assert found.cut == ""
    assert found.in_time


def test_long_signals_are_averaged_over_neighbours(tmp_path):
    values = np.random.default_rng(1).normal(size=(3, 2, 250)).astype(np.float32)
    write_query_signals(tmp_path, values, Channels(names(2)))
    found = read_query_signals(tmp_path, 3)
    assert found.averaged == 2
    assert found.values.shape == (3, 2, 125)
    assert found.times[:2] == pytest.approx([0.002, 0.010])  # the middle of two samples of 4 ms
    expected = 0.5 * (values[..., ::2] + values[..., 1::2])
    assert np.abs(np.stack([found.of(q) for q in range(3)]) - expected).max() < 0.02
    assert "2 neighbouring samples averaged" in found.cut


def test_many_voxels_keep_those_that_differ_most_between_images(tmp_path):
    spread = np.linspace(0.1, 3, 500)
    values = (np.random.default_rng(2).normal(size=(40, 500)) * spread)[:, :, None]
    write_query_signals(tmp_path, values, Channels(names(500), None, None, "percent", "fmri"))
    found = read_query_signals(tmp_path, 40)
    wanted = np.sort(np.argsort(-values[:, :, 0].std(0))[:96])
    assert found.ch_names == tuple(f"c{i}" for i in wanted)
    assert "96 of 500 channels, those that differ most" in found.cut
    assert not found.in_time


def test_many_sensors_stay_evenly_spread(tmp_path):
    write_query_signals(tmp_path, np.ones((2, 271, 20)), Channels(names(271), modality="meg"))
    found = read_query_signals(tmp_path, 2)
    places = [int(name[1:]) for name in found.ch_names]
    assert len(places) == 64
    assert places[0] == 0
    assert places[-1] == 270
    assert set(np.diff(places)) <= {4, 5}


def test_silence_and_nothing(tmp_path):
    assert read_query_signals(tmp_path, 3) is None
    write_query_signals(tmp_path, np.zeros((3, 2, 5)), Channels(names(2)))
    assert (read_query_signals(tmp_path, 3).of(0) == 0).all()


def test_shapes_that_do_not_agree(tmp_path):
    with pytest.raises(InputError, match="do not fit 3 channels"):
        write_query_signals(tmp_path, np.zeros((3, 2, 5)), Channels(names(3)))
    write_query_signals(tmp_path, np.zeros((3, 2, 5)), Channels(names(2)))
    with pytest.raises(InputError, match="another run"):
        read_query_signals(tmp_path, 4)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", b"\x93NUMPY"])
def test_damaged_file_is_named(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(InputError, match=r"signals\.npz.*damaged"):
        read_query_signals(tmp_path, 3)


def test_pickles_are_not_read(tmp_path):
    write_query_signals(tmp_path, np.zeros((3, 2, 5)), Channels(names(2)))
    with np.load(tmp_path / FILE) as file:
        held = {key: file[key] for key in file.files}
    np.savez(tmp_path / FILE, **held | {"unit": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(InputError, match="damaged"):
        read_query_signals(tmp_path, 3)


def test_damage_anywhere_is_told_in_one_line(tmp_path):
    """Bytes changed at random: inside compressed numbers, headers of arrays and of the archive."""
    rng = np.random.default_rng(3)
    path = write_query_signals(tmp_path, rng.normal(size=(50, 2, 60)), Channels(names(2)))
    whole, refused = path.read_bytes(), 0
    for _ in range(400):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] = rng.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            read_query_signals(tmp_path, 50)
        except InputError:
            refused += 1
    assert refused > 300


def test_a_file_that_would_unpack_to_too_much_is_refused(tmp_path, monkeypatch):
    write_query_signals(tmp_path, np.ones((3, 2, 20)), Channels(names(2)))
    monkeypatch.setattr("brainalign.report.query_signals.BYTES_MAX", 100)
    with pytest.raises(InputError) as caught:
        read_query_signals(tmp_path, 3)
    assert caught.value.problem == "is larger than 100 bytes"
