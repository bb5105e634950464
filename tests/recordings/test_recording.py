"""Recording against plain numpy."""

from __future__ import annotations

import mne
import numpy as np
import pytest

from brainalign.errors import InputError
from brainalign.recipes.recipe import SignalSettings
from brainalign.recordings import Recording
from brainalign.recordings.selection import POSTERIOR_EEG, posterior_channels, select_signals
from brainalign.recordings.whitening import noise_covariance, whitening_matrix


def make(rng, ids="aabbbc", n_chans=3, n_times=20, **kw):
    x = rng.normal(size=(len(ids), n_chans, n_times))
    kw = {"modality": "eeg", "sfreq": 100.0, "tmin": -0.05, **kw}
    return x, Recording.from_arrays(x, list(ids), **kw)


def test_average_is_the_mean_over_trials_of_each_image(rng):
    x, recording = make(rng)
    expected = np.stack([x[2:5].mean(0), x[:2].mean(0), x[5]])
    np.testing.assert_allclose(recording.average(["b", "a", "c"]), expected, rtol=1e-5, atol=1e-6)


def test_stored_means_weigh_by_what_they_hold(rng):
    x, recording = make(rng, "aa", n_averaged=[3, 1])
    np.testing.assert_allclose(recording.average(["a"])[0], (3 * x[0] + x[1]) / 4, rtol=1e-5, atol=1e-6)
    assert recording.repetitions(["a"]).tolist() == [4]


def test_first_k_repetitions_follow_the_repetition_column(rng):
    x, recording = make(rng, "aaa", repetition=[3, 1, 2])
    np.testing.assert_allclose(recording.average(["a"], repetitions=2)[0], x[1:].mean(0), rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match="4 repetitions asked for, stimulus 'a' has 3"):
        recording.average(["a"], repetitions=4)


def test_random_repetitions_depend_on_the_seed_alone(rng):
    _, recording = make(rng, "a" * 30)
    draw = [recording.average(["a"], repetitions=5, seed=s) for s in (1, 1, 2)]
    np.testing.assert_array_equal(draw[0], draw[1])
    assert not np.array_equal(draw[0], draw[2])


def test_trials_are_picked_until_they_hold_the_repetitions(rng):
    _, recording = make(rng, "abaaa", n_averaged=[4, 9, 1, 1, 2])
    assert [recording.pick_trials("a", k).tolist() for k in (1, 2, 4, 5, 8)] == [[2], [2, 3], [0], [0, 2], [0, 2, 3, 4]]
    with pytest.raises(InputError, match="2 repetitions asked for, stimulus 'b' has averages of 9; give null"):
        recording.pick_trials("b", 2)
    _, single = make(rng, "a" * 30)
    drawn = np.random.default_rng([3, *b"a"]).choice(np.arange(30), 5, replace=False)
    assert single.pick_trials("a", 5, seed=3).tolist() == sorted(drawn)


def test_pick_and_crop_compose_in_any_order(rng):
    x, recording = make(rng, ch_names=["A", "B", "C"])
    one = recording.pick(["C", "A"]).crop(0.0, 0.1)
    two = recording.crop(0.0, 0.1).pick(["C", "A"])
    expected = x[:, [2, 0], 5:15].astype(np.float32)
    np.testing.assert_array_equal(one.read(np.arange(6)), expected)
    np.testing.assert_array_equal(two.read(np.arange(6)), expected)
    assert one.tmin == pytest.approx(0.0)
    assert one.n_times == 10
    again = one.pick(["A"]).crop(0.05, None)
    np.testing.assert_array_equal(again.read([1]), expected[1:2, 1:, 5:])


def test_restrict_leaves_no_way_to_the_rest(rng):
    x, recording = make(rng)
    part = recording.restrict(["b"])
    assert set(part.index) == {"b"}
    np.testing.assert_allclose(part.average(["b"])[0], x[2:5].mean(0), rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match="no trial of stimulus 'a'"):
        part.average(["a"])
    assert part.signals.shape[0] == 3


def test_collapse_keeps_means_and_counts(rng):
    x, recording = make(rng)
    small = recording.pick(["ch001"]).crop(0.0, None).collapse(["c", "b"])
    np.testing.assert_allclose(small.average(["b"])[0], x[2:5, 1:2, 5:].mean(0), rtol=1e-5, atol=1e-6)
    assert small.repetitions(["b", "c"]).tolist() == [3, 1]
    assert small.tmin == pytest.approx(0.0)


def test_blocks_of_memory_give_the_same_mean(rng, monkeypatch):
    x, recording = make(rng, "abcdefgh" * 4)
    monkeypatch.setattr("brainalign.recordings.rows.CHUNK_BYTES", 3 * 4 * 3 * 20)
    read, whole = [], Recording.read
    monkeypatch.setattr(Recording, "read", lambda self, rows: read.append(len(rows)) or whole(self, rows))
    expected = x.reshape(4, 8, 3, 20).mean(0)
    np.testing.assert_allclose(recording.average(list("abcdefgh")), expected, rtol=1e-5, atol=1e-6)
    assert read == [4] * 8  # a block holds one stimulus at least, here no more


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"signals": np.zeros((2, 3))[:, :, None, None]}, r"expected \(n_trials, n_chans, n_times\)"),
        ({"signals": np.zeros((3, 2, 4))}, "3 trials but 2 stimulus ids"),
        ({"signals": np.full((2, 2, 4), np.nan)}, "NaN or infinity, first in trial 0, channel 'ch000'"),
        ({"signals": np.zeros((2, 2, 4), dtype=complex)}, "dtype complex128"),
        ({"sfreq": None}, "sfreq is None for 4 samples"),
        ({"sfreq": -1.0}, "sfreq is -1.0"),
        ({"modality": "ecg"}, "unknown modality 'ecg'"),
        ({"ch_names": ["a", "a"]}, r"2 channel names \(1 distinct\)"),
        ({"ch_pos": np.zeros((3, 3))}, r"ch_pos has shape \(3, 3\), expected \(2, 3\)"),
        ({"stimulus_ids": ["a", ""]}, "trial 1 names no stimulus"),
        ({"repetition": [1]}, "trial column 'repetition' has 1 values for 2 trials"),
        ({"colour": [1, 2]}, "unknown trial column 'colour'"),
    ],
)
def test_bad_arrays_are_refused_in_one_line(change, words):
    given = {"signals": np.zeros((2, 2, 4)), "stimulus_ids": ["a", "b"], "modality": "eeg", "sfreq": 100.0} | change
    with pytest.raises(InputError, match=words) as caught:
        Recording.from_arrays(given.pop("signals"), given.pop("stimulus_ids"), **given)
    assert "\n" not in str(caught.value)


def test_from_epochs_gives_microvolts_and_positions(rng):
    info = mne.create_info(["O1", "Oz", "EOG1", "O2"], 100.0, ["eeg", "eeg", "eog", "eeg"])
    info.set_montage("easycap-M1", on_missing="ignore")
    volts = rng.normal(size=(4, 4, 30)) * 1e-6
    epochs = mne.EpochsArray(volts, info, tmin=-0.1, verbose="error")
    epochs.info["bads"] = ["Oz"]
    recording = Recording.from_epochs(epochs, list("abab"))
    assert recording.ch_names == ("O1", "O2")
    assert (recording.unit, recording.tmin, recording.sfreq) == ("uV", pytest.approx(-0.1), 100.0)
    np.testing.assert_allclose(recording.read([2])[0], volts[2, [0, 3]] * 1e6, rtol=1e-5)
    # Head frame in metres: x to the right, y to the front; both electrodes lie at the back of a head of some 9 cm.
    (left, right) = recording.ch_pos
    assert left[0] < -0.01 < 0.01 < right[0]
    assert max(left[1], right[1]) < -0.05
    assert 0.07 < np.linalg.norm(left) < 0.13
    with pytest.raises(InputError, match="5 stimulus ids"):
        Recording.from_epochs(epochs, list("ababa"))


def test_posterior_channels_go_by_name_whatever_the_order(rng):
    names = ["Fz", "O2", "P7", "stim", "oz"]
    _, recording = make(rng, n_chans=5, ch_names=names)
    assert posterior_channels(recording) == ("P7", "oz", "O2")
    picked = select_signals(recording, SignalSettings(channels="posterior", tmin=0.0, tmax=0.1))
    assert picked.ch_names == ("P7", "oz", "O2")
    assert picked.n_times == 10
    assert len(POSTERIOR_EEG) == 17
    with pytest.raises(InputError, match="no posterior channel"):
        posterior_channels(make(rng)[1])


def test_noise_covariance_recovers_the_noise_and_not_the_signal(rng):
    n_images, n_reps = 60, 6
    mixing = np.array([[1.0, 0.0], [0.8, 0.5]])
    signal = 5 * rng.normal(size=(n_images, 1, 2, 1))
    noise = np.einsum("dc,irct->irdt", mixing, rng.normal(size=(n_images, n_reps, 2, 10)))
    x = (signal + noise).reshape(-1, 2, 10)
    ids = np.repeat([f"i{i}" for i in range(n_images)], n_reps).tolist()
    recording = Recording.from_arrays(x, ids, modality="eeg", sfreq=100.0)
    found = noise_covariance(recording, sorted(set(ids)))
    np.testing.assert_allclose(found, mixing @ mixing.T, atol=0.06)
    white = whitening_matrix(found)
    np.testing.assert_allclose(white @ found @ white.T, np.eye(2), atol=1e-8)
    with pytest.raises(InputError, match="no training image was repeated"):
        noise_covariance(Recording.from_arrays(x[:2], ["a", "b"], modality="eeg", sfreq=1.0), ["a", "b"])


@pytest.mark.parametrize("n_images", [400, 401, 799, 1200])
def test_noise_is_taken_from_at_most_400_images(rng, n_images, monkeypatch):
    names = [f"i{i}" for i in range(n_images)]
    recording = Recording.from_arrays(rng.normal(size=(2 * n_images, 2, 1)), names * 2, modality="fmri")
    read = []
    trials_of, whole = Recording.trials_of, Recording.read
    monkeypatch.setattr(Recording, "read", lambda self, rows: read.append(rows) or whole(self, rows))
    noise_covariance(recording, names)
    step = int(np.ceil(n_images / 400))
    assert [list(rows) for rows in read] == [list(trials_of(recording, name)) for name in names[::step]]
    assert len(read) <= 400
