"""Cores of the tasks on models whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from brainalign.alignment import Targets
from brainalign.alignment.contrastive import ContrastiveAligner
from brainalign.alignment.generative import GenerativeAligner
from brainalign.errors import InputError
from brainalign.protocols import Split
from brainalign.recipes import load_recipe
from brainalign.recordings import Recording
from brainalign.tasks.convert import convert_generate, convert_retrieve
from brainalign.tasks.decode import OpenGallery, decode, rows_of
from brainalign.tasks.encode import encode_generate, encode_retrieve

N, D = 500, 6


def fitted(seed, *, n_chans=10, noise=0.5):
    """A generative model of planted linear responses; the images are the same for every seed."""
    x = np.random.default_rng(0).normal(size=(N, D))
    rng = np.random.default_rng([1, seed])
    clean = x @ rng.normal(size=(D, n_chans)) + 3
    signals = clean + noise * rng.normal(size=clean.shape)
    ids = [f"i{i:03d}" for i in range(N)]
    split = Split("own/intra/v1", 0, tuple(ids[:300]), tuple(ids[300:400]), tuple(ids[400:]), "image-disjoint")
    recipe = load_recipe("generative", modality="fmri").with_target(layer=0, pooling="mean")
    aligner = GenerativeAligner(recipe)
    bank = Targets(x, {name: row for row, name in enumerate(ids)})
    aligner.fit([Recording.from_arrays(signals, ids, modality="fmri")], {"image": bank}, split)
    return aligner, x, signals[:, :, None].astype(np.float32), clean


@pytest.fixture(scope="module")
def model():
    return fitted(0)


@pytest.fixture(scope="module")
def contrastive():
    x = np.random.default_rng(0).normal(size=(60, D))
    ids = [f"i{i:02d}" for i in range(60)]
    split = Split("own/intra/v1", 0, tuple(ids[:40]), tuple(ids[40:50]), tuple(ids[50:]), "image-disjoint")
    recipe = load_recipe("shallow-alignment", modality="fmri", overrides=["training.epochs=2"])
    aligner = ContrastiveAligner(recipe.with_target(layer=0, pooling="mean"))
    bank = Targets(x, {name: row for row, name in enumerate(ids)})
    aligner.fit([Recording.from_arrays(x, ids, modality="fmri")], {"image": bank}, split)
    return aligner, x


def test_decode_finds_and_is_the_posterior(model):
    aligner, x, signals, _ = model
    found = decode(aligner, signals[400:], x[400:], top=3)
    posterior = aligner.posterior(signals[400:], x[400:])
    assert (found.columns[:, 0] == np.arange(100)).mean() > 0.9
    assert np.allclose(found.posterior, np.sort(posterior, axis=1)[:, ::-1][:, :3])
    assert found.none_of_these is None


def test_open_gallery_keeps_the_odds_between_images(model):
    aligner, x, signals, _ = model
    shares, none = OpenGallery(aligner, x[:300]).posterior(signals[400:], x[400:])
    assert np.allclose(shares.sum(axis=1) + none, 1)
    assert np.allclose(shares / shares.sum(axis=1, keepdims=True), aligner.posterior(signals[400:], x[400:]), atol=1e-8)


def test_open_gallery_by_the_equation(model):
    from scipy.stats import multivariate_normal as normal

    aligner, x, signals, _ = model
    inside, outside = OpenGallery(aligner, x[:300]).log_evidence(signals[400:403], x[400:404])
    noise = aligner.noise().numpy() / aligner.temperature
    others, y = aligner.predict_transformed(x[:300]), aligner.transform(signals[400:403])
    assert outside[1] == pytest.approx(normal.logpdf(y[1], others.mean(0), noise + np.cov(others.T)))
    assert inside[1, 2] == pytest.approx(normal.logpdf(y[1], aligner.predict_transformed(x[402:403])[0], noise))


def test_none_of_these_is_calibrated(model):
    """Half of the queries have their image in the gallery: as the prior says."""
    aligner, x, signals, _ = model
    gallery = x[400:450]
    _, none = OpenGallery(aligner, x[:300]).posterior(signals[400:500], gallery)
    absent = np.arange(100) >= 50
    assert none[absent].mean() > 0.8 and none[~absent].mean() < 0.2
    assert none.mean() == pytest.approx(0.5, abs=0.1)


def test_top_is_the_whole_of_a_small_gallery(model):
    aligner, x, signals, _ = model
    found = decode(aligner, signals[:2], x[:3], top=5)
    rows = rows_of(found, ["a", "b"], ["x", "y", "z"])
    assert next(row["image"] for row in rows if row["signal"] == "a") == "x"
    assert [row["rank"] for row in rows] == [1, 2, 3, 1, 2, 3]


def test_contrastive_has_no_probabilities(contrastive):
    aligner, x = contrastive
    found = decode(aligner, x[:4, :, None], x, top=2, background=x)
    assert found.posterior is None and found.none_of_these is None
    expected = aligner.embed_brain(x[:4, :, None]) @ aligner.embed_image(x).T
    assert np.allclose(found.scores, np.sort(expected, axis=1)[:, ::-1][:, :2], atol=1e-5)


def test_generated_signals_and_their_intervals(model):
    aligner, x, signals, clean = model
    made = encode_generate(aligner, x[400:], level=0.9)
    assert made.expected.shape == signals[400:].shape
    assert np.allclose(made.expected, aligner.predict_signal(x[400:]), atol=1e-4)
    assert np.abs(made.expected[:, :, 0] - clean[400:]).mean() < 0.15
    inside = (signals[400:] >= made.low) & (signals[400:] <= made.high)
    assert inside.mean() == pytest.approx(0.9, abs=0.04)


def test_intervals_are_as_wide_as_the_noise_of_each_average(model):
    aligner, x, _, _ = model
    each = encode_generate(aligner, x[400:404], repetitions=[1, 8, 1, 3])
    for row, count in enumerate((1, 8, 1, 3)):
        alone = encode_generate(aligner, x[400:404], repetitions=count)
        for end in ("expected", "low", "high"):
            np.testing.assert_allclose(getattr(each, end)[row], getattr(alone, end)[row], rtol=1e-12)
    with pytest.raises(InputError, match="repetitions of 2 images, but there are 4"):
        encode_generate(aligner, x[400:404], repetitions=[1, 2])


def test_contrastive_generates_nothing(contrastive):
    with pytest.raises(InputError, match="generates no signal"):
        encode_generate(contrastive[0], contrastive[1])


def test_retrieved_signals(model):
    aligner, x, signals, _ = model
    found = encode_retrieve(aligner, x[400:], signals[400:], background=x[:300], top=2)
    assert (found.rows[:, 0] == np.arange(100)).mean() > 0.9
    one = encode_retrieve(aligner, x[420:421], signals[400:], background=x[:300], top=1)
    assert one.rows.tolist() == [[20]]  # a single image is enough: others are no alternatives
    with pytest.raises(InputError, match="background"):
        encode_retrieve(aligner, x[400:], signals[400:])


def test_same_image_by_the_sum(rng):
    a, b = (rng.dirichlet(np.ones(7), size=n) for n in (4, 5))
    found = convert_retrieve(np.log(a), np.log(b), space="posterior")
    assert np.allclose(found, np.log(a @ b.T))
    sure = np.log(np.array([[1.0, 1e-300], [1e-300, 1.0]]))
    assert np.isfinite(convert_retrieve(sure, sure, space="posterior")).all()


def test_profiles_are_correlated(rng):
    a, b = rng.normal(size=(5, 30)), rng.normal(size=(6, 30))
    found = convert_retrieve(a, b, space="scores")
    x, y = a - a.mean(0), b - b.mean(0)
    assert np.allclose(found, np.corrcoef(x, y)[:5, 5:])


def test_two_models_meet_through_anchors(model):
    other, x, targets, clean = fitted(1, n_chans=8)
    aligner, _, signals, _ = model
    profiles = []
    for one, seen in ((aligner, signals[400:]), (other, targets[400:])):
        scores = one.similarity(seen, {"image": x[:300]}).astype(float)
        profiles.append(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))
    similarity = convert_retrieve(*profiles, space="posterior")
    two_way = np.mean([(row[i] > np.delete(row, i)).mean() for i, row in enumerate(similarity)])
    assert two_way > 0.9
    made = convert_generate(aligner, other, x[:300], x[:300], signals[400:])
    r = [np.corrcoef(made.expected[:, c, 0], clean[400:, c])[0, 1] for c in range(8)]
    assert np.median(r) > 0.8
    inside = (targets[400:] >= made.low) & (targets[400:] <= made.high)
    assert inside.mean() == pytest.approx(0.95, abs=0.04)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: convert_retrieve(np.eye(2), np.eye(3)), "do not share a space"),
        (lambda: convert_retrieve(np.eye(2), np.eye(2), space="spaces"), "unknown space"),
        (lambda: convert_retrieve(np.eye(2), np.eye(2), space="posterior"), "log-probabilities"),
        (lambda: convert_retrieve(np.full((2, 2), np.nan), np.eye(2)), "NaN"),
    ],
)
def test_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()


def test_bad_open_galleries(model):
    aligner, x, *_ = model
    with pytest.raises(InputError, match="too few"):
        OpenGallery(aligner, x[:10])
    with pytest.raises(InputError, match="between 0 and 1"):
        OpenGallery(aligner, x[:100], 1.0)


def test_contrastive_cannot_convert_in_closed_form(model, contrastive):
    with pytest.raises(InputError, match="target run is contrastive"):
        convert_generate(model[0], contrastive[0], model[1], model[1], model[2])


def test_gain_is_the_ratio_of_joint_and_product(model):
    """log p(y1, y2) - log p(y1) - log p(y2), from the joint Gaussian as scipy has it."""
    from scipy.stats import multivariate_normal as normal

    from brainalign.alignment.conversion import Conversion

    other, x, targets, _ = fitted(1, n_chans=8)
    aligner, _, signals, _ = model
    found = Conversion(aligner, other, x[:300], x[:300]).gain(signals[400:403], targets[400:402])
    one, two = aligner.predict_transformed(x[:300]), other.predict_transformed(x[:300])
    joint = np.cov(np.hstack([one, two]).T)
    joint[:10, :10] += aligner.noise().numpy()
    joint[10:, 10:] += other.noise().numpy()
    mean = np.hstack([one, two]).mean(0)
    a, b = aligner.transform(signals[400:403])[2], other.transform(targets[400:402])[1]
    expected = normal.logpdf(np.hstack([a, b]), mean, joint)
    expected -= normal.logpdf(a, mean[:10], joint[:10, :10]) + normal.logpdf(b, mean[10:], joint[10:, 10:])
    assert found[2, 1] == pytest.approx(expected)
