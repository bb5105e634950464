"""The linear baseline: refits by scikit-learn, several subjects, files."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from brainalign.alignment import Aligner, Targets
from brainalign.alignment.families import build_aligner, load_aligner
from brainalign.alignment.regression import RidgeAligner
from brainalign.errors import InputError
from brainalign.protocols import Split
from brainalign.recipes import load_recipe
from brainalign.recordings import Recording

D, IDS = 5, tuple(f"i{i:03d}" for i in range(60))
SPLIT = Split("own/intra/v1", 0, IDS[:36], IDS[36:48], IDS[48:], "image-disjoint")
ROWS = {name: row for row, name in enumerate(IDS)}


def recipe(*words):
    words = ["signals.scale=feature", *words]
    return load_recipe("ridge", modality="fmri", overrides=words).with_target(layer="0", pooling="mean")


def made(rng, p, n_subjects=1, noise=0.3):
    """Signals that are linear in image features, the same map in all subjects."""
    features = rng.normal(size=(len(IDS), D)) * rng.uniform(0.5, 3, D) + 1
    mixing = rng.normal(size=(D, p))
    subjects = [
        Recording.from_arrays(
            features @ mixing + noise * rng.normal(size=(len(IDS), p)), IDS, modality="fmri", subject=str(number)
        )
        for number in range(n_subjects)
    ]
    return subjects, {"image": Targets(features, ROWS)}


def values(recording, ids):
    return recording.average(ids)[:, :, 0].astype(float)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("p", "n_subjects", "form"), [(8, 1, "primal"), (90, 1, "dual"), (8, 3, "primal"), (130, 3, "dual")]
)
def test_it_is_the_ridge_of_scikit_learn(rng, p, n_subjects, form):
    subjects, features = made(rng, p, n_subjects)
    aligner = RidgeAligner(recipe("ridge.penalty=0.1"))
    aligner.fit(subjects, features, SPLIT)
    x = np.concatenate([values(one, SPLIT.train) for one in subjects])
    scaler, targets = StandardScaler().fit(x), StandardScaler().fit(features["image"].of(SPLIT.train))
    y = np.tile(targets.transform(features["image"].of(SPLIT.train)), (n_subjects, 1))
    # z-scored signals have a mean squared length of p
    expected = Ridge(alpha=0.1 * p).fit(scaler.transform(x), y)
    assert aligner.facts["form"] == form
    shown = values(subjects[0], SPLIT.test)
    predicted = expected.predict(scaler.transform(shown))
    assert np.abs(aligner.predict_features(shown[:, :, None]) - predicted).max() < 1e-5
    gallery = targets.transform(features["image"].of(SPLIT.test))
    similarity = aligner.similarity(shown[:, :, None], {"image": features["image"].of(SPLIT.test)})
    assert np.abs(similarity / aligner.scale - unit(predicted) @ unit(gallery).T).max() < 1e-5


def test_correlation_is_numpys(rng):
    subjects, features = made(rng, 8)
    aligner = RidgeAligner(recipe("ridge.penalty=0.1", "ridge.score=correlation"))
    aligner.fit(subjects, features, SPLIT)
    signals, shown = values(subjects[0], SPLIT.test), features["image"].of(SPLIT.test)
    gallery = StandardScaler().fit(features["image"].of(SPLIT.train)).transform(shown)
    expected = np.corrcoef(aligner.predict_features(signals[:, :, None]), gallery)[: len(signals), len(signals) :]
    found = aligner.similarity(signals[:, :, None], {"image": shown}) / aligner.scale
    assert np.abs(found - expected).max() < 1e-5


def test_the_penalty_with_the_least_validation_surprise_is_kept(rng):
    subjects, features = made(rng, 90, noise=4.0)
    aligner = RidgeAligner(recipe())
    fit = aligner.fit(subjects, features, SPLIT)
    losses = [row["validation_loss"] for row in fit.history]
    assert len(losses) > 10
    assert fit.chosen["validation_loss"] == min(losses)
    assert aligner.facts["ridge"] == fit.chosen["ridge"]
    # the loss is the surprise of the truth, from the stored model's own similarities
    logits = aligner.similarity(
        values(subjects[0], SPLIT.validation)[:, :, None], {"image": features["image"].of(SPLIT.validation)}
    ).astype(float)
    surprise = np.log(np.exp(logits).sum(1)) - np.diag(logits)
    assert fit.chosen["validation_loss"] == pytest.approx(surprise.mean(), abs=1e-4)
    assert min(losses) < math.log(len(SPLIT.validation))


def test_leave_one_out_penalty_is_the_one_with_the_least_refitted_error(rng):
    subjects, features = made(rng, 8, noise=3.0)
    aligner = RidgeAligner(recipe("ridge.penalty=loo"))
    aligner.fit(subjects, features, SPLIT)
    x = StandardScaler().fit_transform(values(subjects[0], SPLIT.train))
    y = StandardScaler().fit_transform(features["image"].of(SPLIT.train))

    def error(penalty):
        out = []
        for row in range(len(x)):
            keep = np.arange(len(x)) != row
            out.append(y[row] - Ridge(alpha=8 * penalty).fit(x[keep], y[keep]).predict(x[row : row + 1])[0])
        return np.square(out).mean()

    chosen = aligner.facts["ridge"]
    assert error(chosen) <= min(error(chosen * 1.778), error(chosen / 1.778))


def test_subjects_who_saw_different_images_are_pooled(rng):
    subjects, features = made(rng, 8, 2)
    seen = [IDS[:24] + IDS[36:48], IDS[24:48]]
    parts = [one.restrict(ids) for one, ids in zip(subjects, seen, strict=True)]
    aligner = RidgeAligner(recipe("ridge.penalty=0.01"))
    aligner.fit(parts, features, SPLIT)
    assert aligner.facts["n_training_signals"] == 36
    assert aligner.facts["subjects"] == ["0", "1"]
    signals = values(subjects[0], SPLIT.test)[:, :, None]
    found = aligner.similarity(signals, {"image": features["image"].of(SPLIT.test)})
    assert (found.argmax(1) == np.arange(len(SPLIT.test))).mean() > 0.9


def test_a_file_gives_the_same_scores_back(rng, tmp_path):
    subjects, features = made(rng, 12)
    aligner = build_aligner(recipe())
    assert isinstance(aligner, Aligner)
    aligner.fit(subjects, features, SPLIT)
    aligner.save(tmp_path / "model.safetensors")
    loaded = load_aligner(tmp_path / "model.safetensors")
    signals, images = values(subjects[0], SPLIT.test)[:, :, None], {"image": features["image"].of(SPLIT.test)}
    assert np.array_equal(loaded.similarity(signals, images), aligner.similarity(signals, images))
    assert (loaded.facts, loaded.recipe) == (aligner.facts, aligner.recipe)


def test_what_does_not_fit_is_refused(rng, tmp_path):
    subjects, features = made(rng, 12)
    aligner = RidgeAligner(recipe())
    with pytest.raises(InputError, match="not been fitted"):
        aligner.save(tmp_path / "x.safetensors")
    aligner.fit(subjects, features, SPLIT)
    images = features["image"].of(SPLIT.test)
    with pytest.raises(InputError, match="signals have shape"):
        aligner.similarity(np.zeros((2, 11, 1)), {"image": images})
    with pytest.raises(InputError, match="image features have shape"):
        aligner.similarity(np.zeros((2, 12, 1)), {"image": images[:, :3]})
    aligner.facts = aligner.facts | {"n_chans": 11}
    aligner.save(tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="do not fit the recipe"):
        load_aligner(tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="above 0"):
        recipe("ridge.penalty=0")
