"""Bands of features: scaled as they say, whatever the chunks, with scikit-learn's principal components."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from brainalign.alignment.feature_map import FeatureMap

DIMS = (7, 12)


def features(rng, n=50):
    """Two layers of very different size, one feature of the second never changes."""
    x = np.hstack([rng.normal(size=(n, 7)) * 100 + 40, rng.normal(size=(n, 12)) @ rng.normal(size=(12, 12))])
    x[:, 9] = 0.3
    return x.astype(np.float32)


def fitted(x, *, chunk=50, **options):
    parts = [torch.from_numpy(x[i : i + chunk]) for i in range(0, len(x), chunk)]
    return FeatureMap.fit(lambda: parts, DIMS, sample=lambda most: torch.from_numpy(x[:most]), **options)


@pytest.mark.parametrize("components", [None, 4])
@pytest.mark.parametrize("standardize", [True, False])
def test_the_kernel_has_a_mean_diagonal_of_one_for_every_band_and_in_all(rng, components, standardize):
    x = features(rng)
    made = fitted(x, components=components, standardize=standardize)
    for band in made.band_features(torch.from_numpy(x)):
        assert float(band.square().sum(1).mean()) == pytest.approx(1, rel=1e-9)
    for weights in (made.weights, (0.9, 0.1)):
        phi = made.with_weights(weights)(torch.from_numpy(x))
        assert float(phi.square().sum(1).mean()) == pytest.approx(1, rel=1e-9)
        assert phi.shape[1] == made.size == (19 if components is None else 8)


def test_standardised_bands_in_plain_numpy(rng):
    x, new = features(rng), features(rng, 6)
    made = fitted(x).with_weights((0.25, 0.75))
    scaler = StandardScaler().fit(x.astype(float))
    expected = scaler.transform(new.astype(float))
    expected[:, 9] = 0  # a feature that never changed says nothing of a new image
    expected[:, :7] *= np.sqrt(0.25 / 7)
    expected[:, 7:] *= np.sqrt(0.75 / 11)
    np.testing.assert_allclose(made(torch.from_numpy(new)), expected, rtol=1e-9, atol=1e-12)


def test_chunks_do_not_matter(rng):
    x = features(rng)
    whole, parts = fitted(x, components=3), fitted(x, chunk=7, components=3)
    a, b = whole(torch.from_numpy(x)), parts(torch.from_numpy(x))
    np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)
    rows = torch.cat([whole(part) for part in torch.split(torch.from_numpy(x), 11)])
    np.testing.assert_allclose(rows, a, rtol=1e-12, atol=1e-14)


def test_a_large_offset_costs_no_digits(rng):
    x = rng.normal(size=(50, 19)) * 1e-3 + 1e4
    parts = [torch.from_numpy(x)]
    made = FeatureMap.fit(lambda: parts, DIMS, standardize=True)
    deviation = torch.cat([band.scale for band in made.bands])
    np.testing.assert_allclose(deviation, x.std(0), rtol=1e-6)


def test_components_are_those_of_scikit_learn_up_to_their_sign(rng):
    x = features(rng)
    made = fitted(x, components=4)
    for band, columns in zip(made.bands, (slice(0, 7), slice(7, 19)), strict=True):
        values = StandardScaler().fit_transform(np.delete(x.astype(float), 9, 1) if columns.start else x.astype(float))
        values = values[:, columns] if not columns.start else values[:, 7:]
        expected = PCA(4, svd_solver="full").fit(values).components_
        found = band.components.numpy().T
        found = np.delete(found, 2, 1) if columns.start else found
        np.testing.assert_allclose(np.abs(found @ expected.T), np.eye(4), atol=1e-8)


def test_the_kernel_is_that_of_the_features_and_nothing_given_is_changed(rng):
    x, new = torch.from_numpy(features(rng)).double(), torch.from_numpy(features(rng, 6)).double()
    made = fitted(x.float().numpy()).with_weights((0.8, 0.2))
    before = new.clone()
    phi, other = made(x), made(new)
    np.testing.assert_allclose(made.kernel(new, x), other @ phi.T, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(made.kernel(x), phi @ phi.T, rtol=1e-10, atol=1e-12)
    assert torch.equal(new, before)


def test_more_components_than_there_can_be_keep_all_features(rng):
    x = features(rng)
    assert fitted(x, components=12).size == 7 + 12
    assert fitted(x, components=7).size == 7 + 7


def test_tensors_hold_everything(rng):
    x = features(rng)
    made = fitted(x, components=4).with_weights((0.7, 0.3))
    again = FeatureMap.from_tensors({k: v.clone() for k, v in made.tensors().items()})
    assert torch.equal(again(torch.from_numpy(x)), made(torch.from_numpy(x)))
    assert again.dims == [7, 12]
