"""Noise of single trials: recovered where it is planted, by hand where two or three trials can be worked out."""

from __future__ import annotations

import numpy as np
import pytest

from brainalign.errors import InputError
from brainalign.recordings import Recording, trial_noise
from brainalign.recordings.trial_noise import has_trials, trial_noise_covariance


def flat(signals):
    return signals.reshape(len(signals), -1).astype(float)


def positive(rng, p):
    a = rng.normal(size=(p, p))
    return a @ a.T + 0.5 * np.eye(p)


def planted(rng, counts, noise):
    """Images with as many trials as `counts` says, far apart from each other."""
    ids = [f"i{i}" for i, count in enumerate(counts) for _ in range(count)]
    means = {name: rng.normal(size=len(noise)) * 10 for name in ids}
    trials = np.stack([means[name] for name in ids]) + rng.multivariate_normal(np.zeros(len(noise)), noise, len(ids))
    return Recording.from_arrays(trials, ids, modality="fmri"), list(dict.fromkeys(ids)), trials


def within(trials, ids_of):
    """Pooled covariance of trials around their image's mean, the textbook estimate."""
    total = sum((t - t.mean(0)).T @ (t - t.mean(0)) for t in ids_of)
    return total / sum(len(t) - 1 for t in ids_of)


@pytest.mark.parametrize("counts", [[2] * 900, [3] * 600, [4] * 450, [2, 3, 7] * 200], ids=["2", "3", "4", "unequal"])
def test_planted_noise_is_recovered(rng, counts):
    noise = positive(rng, 3)
    recording, names, _ = planted(rng, counts, noise)
    found = trial_noise_covariance(recording, names, flat)
    # An element's deviation: sqrt((s_ii s_jj + s_ij^2) / df), df at least one a repeated image; five of them.
    error = np.sqrt((np.outer(np.diag(noise), np.diag(noise)) + noise**2) / len(names))
    assert (np.abs(found - noise) < 5 * error).all()


def test_a_linear_transform_acts_on_both_sides(rng):
    recording, names, _ = planted(rng, [4] * 80, positive(rng, 3))
    turn = rng.normal(size=(3, 5))
    plain = trial_noise_covariance(recording, names, flat)
    turned = trial_noise_covariance(recording, names, lambda s: flat(s) @ turn + 7)
    np.testing.assert_allclose(turned, turn.T @ plain @ turn, rtol=1e-5, atol=1e-6)


def test_two_trials_are_the_textbook_estimate(rng):
    recording, names, trials = planted(rng, [2] * 30, positive(rng, 3))
    expected = within(trials, [trials[2 * i : 2 * i + 2] for i in range(30)])
    np.testing.assert_allclose(trial_noise_covariance(recording, names, flat), expected, rtol=1e-4)


def test_by_hand():
    recording = Recording.from_arrays(np.array([[1.0], [4.0], [0.0]]), ["a", "a", "b"], modality="fmri")
    # Halves of one trial each: the difference is 3, its square 9 is that of two trials.
    assert trial_noise_covariance(recording, ["a", "b"], flat) == pytest.approx(np.array([[4.5]]))
    # Three trials, the halves are one and two of them. Whichever is alone, the difference of halves has
    # a variance of 1 + 1/2 trials: here |0 - 3| or |0 - 3| or |6 - 0|, so 9 / 1.5 or 36 / 1.5 in any mixture.
    three = Recording.from_arrays(np.array([[0.0], [0.0], [6.0]]), ["a"] * 3, modality="fmri")
    found = float(trial_noise_covariance(three, ["a"], flat)[0, 0])
    eighths = (found - 6) / (24 - 6) * trial_noise.SPLITS
    assert eighths == pytest.approx(round(eighths), abs=1e-5)
    assert 0 < round(eighths) < trial_noise.SPLITS


def test_a_square_root_is_taken_of_averages_not_of_trials():
    counts = Recording.from_arrays(np.array([[0.0], [4.0], [16.0], [36.0]]), ["a"] * 4, modality="spikes")
    found = float(trial_noise_covariance(counts, ["a"], lambda s: np.sqrt(flat(s)))[0, 0])
    pairs = [((0, 4), (16, 36)), ((0, 16), (4, 36)), ((0, 36), (4, 16))]
    possible = [(np.sqrt(np.mean(a)) - np.sqrt(np.mean(b))) ** 2 / (1 / 2 + 1 / 2) for a, b in pairs]
    assert min(possible) < found < max(possible)


def test_batches_do_not_matter(rng, monkeypatch):
    recording, names, _ = planted(rng, [2, 5, 3, 4] * 5, positive(rng, 3))
    whole = trial_noise_covariance(recording, names, flat)
    monkeypatch.setattr(trial_noise, "BATCH", 3)
    np.testing.assert_allclose(trial_noise_covariance(recording, names, flat), whole, rtol=1e-10)


@pytest.mark.parametrize(("n", "read"), [(10, 10), (11, 6), (19, 10), (25, 9)])
def test_of_many_images_some_are_read(rng, monkeypatch, n, read):
    monkeypatch.setattr(trial_noise, "MAX_STIMULI", 10)
    recording, names, _ = planted(rng, [2] * n, np.eye(2))
    seen = []
    trial_noise_covariance(recording, names, lambda s: seen.append(len(s) // 2) or flat(s))
    assert sum(seen) == read


def test_stored_averages_and_single_trials_do_not_count():
    mixed = Recording.from_arrays(
        np.ones((5, 1)), ["a", "a", "b", "c", "c"], modality="fmri", n_averaged=[1, 1, 1, 4, 4]
    )
    assert has_trials(mixed, ["a", "b"])
    assert not has_trials(mixed, ["b", "c"])
    with pytest.raises(InputError, match=r"was repeated.*trial_noise=false"):
        trial_noise_covariance(mixed, ["b", "c"], flat)
