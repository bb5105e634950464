"""Guessing is at chance, the same for the same seed, and independent of signals and images."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, kstest

from brainalign.alignment import Aligner, Targets
from brainalign.alignment.families import build_aligner, load_aligner
from brainalign.errors import InputError
from brainalign.protocols import Split
from brainalign.recipes import load_recipe
from brainalign.recordings import Recording

N = 40
IDS = tuple(f"i{i:03d}" for i in range(N + 20))
SPLIT = Split("own/intra/v1", 0, IDS[:12], IDS[12:20], IDS[20:], "image-disjoint")
RECIPE = load_recipe("random", modality="fmri").with_target(layer="0", pooling="mean")
FEATURES = np.random.default_rng(1).normal(size=(len(IDS), 6))


def fitted(seed=0, subject="1"):
    """On signals that are the features: anything that looked would find every image."""
    aligner = build_aligner(RECIPE, seed=seed)
    recording = Recording.from_arrays(FEATURES, IDS, modality="fmri", subject=subject)
    fit = aligner.fit([recording], {"image": Targets(FEATURES, {n: r for r, n in enumerate(IDS)})}, SPLIT)
    return aligner, fit


def scores(aligner):
    return aligner.similarity(FEATURES[20:, :, None], {"image": FEATURES[20:]})


def test_it_is_at_chance_even_where_signals_give_the_image_away():
    hits = sum(int((scores(fitted(seed)[0]).argmax(1) == np.arange(N)).sum()) for seed in range(100))
    low, high = binom.ppf([0.0005, 0.9995], 100 * N, 1 / N)
    assert low <= hits <= high


def test_ranks_of_the_truth_are_uniform():
    ranks = [(row > row[i]).sum() for seed in range(50) for i, row in enumerate(scores(fitted(seed)[0]))]
    jittered = (np.array(ranks) + np.random.default_rng(0).random(len(ranks))) / N
    assert kstest(jittered, "uniform").pvalue > 0.001


def test_the_seed_and_the_subject_decide_and_nothing_else():
    first = scores(fitted()[0])
    assert np.array_equal(first, scores(fitted()[0]))
    assert not np.array_equal(first, scores(fitted(seed=1)[0]))
    assert not np.array_equal(first, scores(fitted(subject="2")[0]))
    other = np.random.default_rng(5)
    aligner = fitted()[0]
    assert np.array_equal(first, aligner.similarity(other.normal(size=(N, 6, 1)), {"image": other.normal(size=(N, 6))}))
    assert np.array_equal(first[:7], aligner.similarity(FEATURES[:7, :, None], {"image": FEATURES[20:]}))


def test_it_says_that_it_does_not_know():
    """Its probabilities are all but equal: the surprise of the truth is that of a fair die."""
    aligner, fit = fitted()
    logits = scores(aligner).astype(float)
    surprise = np.log(np.exp(logits).sum(1)) - np.diag(logits)
    assert surprise.mean() == pytest.approx(np.log(N), abs=1e-3)
    assert fit.chosen["validation_loss"] == pytest.approx(np.log(8), abs=1e-3)


def test_a_file_gives_the_same_guess_back(tmp_path):
    aligner = fitted(seed=4)[0]
    assert isinstance(aligner, Aligner)
    aligner.save(tmp_path / "m.safetensors")
    assert np.array_equal(scores(load_aligner(tmp_path / "m.safetensors")), scores(aligner))


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="not been fitted"):
        scores(build_aligner(RECIPE))
    aligner = fitted()[0]
    with pytest.raises(InputError, match="signals have shape"):
        aligner.similarity(np.zeros((2, 5, 1)), {"image": FEATURES})
    with pytest.raises(InputError, match="image features have shape"):
        aligner.similarity(np.zeros((2, 6, 1)), {"image": FEATURES[:, :2]})
