"""Events, epochs in blocks and the covariance of epochs, against MNE, scikit-learn and cases by hand."""

from __future__ import annotations

import mne
import numpy as np
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.preprocessing import StandardScaler
from sklearn.utils import shuffle

from brainalign.errors import InputError
from brainalign.recordings import epochs as module
from brainalign.recordings.epoch_noise import EpochNoise, shrunk_covariances
from brainalign.recordings.epochs import (
    Window,
    block_ends,
    blocks_of,
    choose_repetitions,
    epoch_times,
    inside,
    read_epochs,
    trigger_events,
)

RATE = 1000.0


def continuous(n_samples: int = 6000) -> mne.io.BaseRaw:
    data = np.random.default_rng(4).normal(size=(3, n_samples)).cumsum(axis=1)
    return mne.io.RawArray(data, mne.create_info(["a", "b", "c"], RATE, "eeg"), verbose="ERROR")


def by_mne(raw: mne.io.BaseRaw, samples: list[int], window: Window) -> mne.Epochs:
    events = np.array([[sample, 0, i + 1] for i, sample in enumerate(samples)])
    epochs = mne.Epochs(
        raw, events, tmin=window.tmin, tmax=window.tmax, baseline=(None, 0), preload=True, verbose="ERROR"
    )
    return epochs.resample(window.sfreq, verbose="ERROR")


def test_trigger_events() -> None:
    trigger = np.zeros(40)
    trigger[[5, 12]] = 3, 99999  # single samples
    trigger[20:25] = 7  # held
    trigger[25:27] = 9  # rises again without a pause
    trigger[27:30] = 2  # falls: no new event
    assert trigger_events(trigger, RATE).tolist() == [[5, 3], [12, 99999], [20, 7], [25, 9]]


@pytest.mark.parametrize(
    ("trigger", "match"),
    [
        ([0, 0, 0], "holds no event"),
        ([0, 0.5, 0], "more than whole numbers"),
        ([0, -1, 0], "more than whole numbers"),
        ([0, np.nan, 0], "more than whole numbers"),
        ([0, 1, 2, 3, 0], "cannot be read"),
    ],
)
def test_bad_triggers(trigger: list[float], match: str) -> None:
    with pytest.raises(InputError, match=match):
        trigger_events(np.array(trigger, dtype=float), RATE)


@pytest.mark.parametrize("window", [Window(-0.2, 1.0, 250.0), Window(-0.1004, 0.3336, 100.0)])
def test_inside_is_what_mne_keeps(window: Window) -> None:
    raw = continuous(3000)
    first = -window.first(RATE)
    last = 3000 - window.n_recorded(RATE) + first
    samples = [first - 1, first, 1500, last, last + 1]
    kept = by_mne(raw, samples, window).selection
    assert kept.tolist() == [1, 2, 3]
    assert np.flatnonzero(inside(np.array(samples), 3000, RATE, window)).tolist() == kept.tolist()


@pytest.mark.parametrize("window", [Window(-0.2, 1.0, 250.0), Window(-0.1, 0.5, 1000.0), Window(-0.15, 0.8, 90.0)])
def test_epochs_in_any_order(window: Window) -> None:
    raw = continuous()
    epochs = by_mne(raw, [700, 1500, 4000], window)
    got = read_epochs(raw, np.array([4000, 700, 1500]), ["a", "c"], window)
    expected = epochs.get_data()[[2, 0, 1]][:, [0, 2]]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    np.testing.assert_allclose(epoch_times(RATE, window, got.shape[2]), epochs.times, atol=1e-12)


def test_epochs_beyond_the_end_are_refused() -> None:
    with pytest.raises(InputError, match="1 epochs do not lie in the recording"):
        read_epochs(continuous(), np.array([3000, 5900]), ["a"], Window(-0.2, 1.0, 250.0))


def test_blocks_keep_conditions_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    raw, window = continuous(), Window(-0.2, 1.0, 250.0)
    groups = [np.array([900, 400]), np.array([1200]), np.array([1500, 1700, 1900])]
    whole = read_epochs(raw, np.concatenate(groups), ["a", "b", "c"], window)
    monkeypatch.setattr(module, "BLOCK_BYTES", 3 * 8 * 3 * 1201)  # three epochs
    blocks = list(blocks_of(raw, groups, ["a", "b", "c"], window))
    assert [starts.tolist() for _, starts in blocks] == [[0, 2], [0]]
    np.testing.assert_allclose(np.concatenate([trials for trials, _ in blocks]), whole, rtol=0, atol=1e-10)


def test_block_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 10)
    assert block_ends([], 1) == []
    assert block_ends([5, 5, 1], 1) == [2, 3]
    assert block_ends([99, 1, 1], 1) == [1, 3], "a condition that is larger than a block is one block"
    assert block_ends([1, 1], 100) == [1, 2]


def test_choose_repetitions() -> None:
    codes = np.array([3, 1, 3, 2, 3, 1, 3])
    chosen = choose_repetitions(codes, 2, 5)
    assert list(chosen) == [1, 2, 3]
    for code, rows in chosen.items():
        there = np.flatnonzero(codes == code)
        expected = shuffle(there, random_state=5, n_samples=min(2, len(there)))
        np.testing.assert_array_equal(rows, expected)


def by_sklearn(samples: np.ndarray) -> np.ndarray:
    scaler = StandardScaler().fit(samples)
    fitted = LedoitWolf().fit(scaler.transform(samples)).covariance_
    return scaler.scale_[:, None] * fitted * scaler.scale_


@pytest.mark.parametrize("shape", [(4, 50, 6), (3, 5, 20), (5, 2, 4), (2, 30, 1)])
def test_shrunk_covariances(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(2)
    samples = rng.normal(size=shape) @ rng.normal(size=(shape[2], shape[2])) * np.geomspace(1e-3, 1e3, shape[2]) + 7
    got = shrunk_covariances(samples)
    for one, expected in zip(got, map(by_sklearn, samples), strict=True):
        np.testing.assert_allclose(one, expected, rtol=1e-9, atol=1e-12 * np.abs(expected).max())


def test_flat_channel() -> None:
    samples = np.random.default_rng(0).normal(size=(1, 40, 4))
    samples[:, :, 2] = 3.1
    np.testing.assert_allclose(shrunk_covariances(samples)[0], by_sklearn(samples[0]), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("dimension", ["epoch", "time"])
def test_mean_over_conditions(dimension: str) -> None:
    """Every condition counts the same, however many trials it has and however the blocks are cut."""
    rng = np.random.default_rng(1)
    conditions = [rng.normal(size=(n, 4, 30)) * (i + 1) for i, n in enumerate((2, 5, 3))]
    noise = EpochNoise(dimension)  # type: ignore[arg-type]
    noise.add(np.concatenate(conditions[:2]), np.array([0, 2]))
    noise.add(conditions[2], np.array([0]))
    each = [
        np.mean(
            [by_sklearn(t.T) for t in c] if dimension == "epoch" else [by_sklearn(x) for x in c.transpose(2, 0, 1)], 0
        )
        for c in conditions
    ]
    np.testing.assert_allclose(noise.covariance(), np.mean(each, axis=0), rtol=1e-9)


def test_time_needs_repetitions() -> None:
    noise = EpochNoise("time")
    noise.add(np.ones((2, 3, 10)), np.array([0, 1]))
    with pytest.raises(InputError, match=r"no condition was shown twice .* use --covariance epoch"):
        noise.covariance()
