"""Transforms against scikit-learn and plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from brainalign.alignment.transforms import SignalTransform, TargetTransform, principal_components
from brainalign.errors import InputError
from brainalign.recipes.recipe import SignalSettings, TargetSettings


@pytest.mark.parametrize("shape", [(50, 12), (12, 50)])
def test_components_span_what_sklearn_finds(rng, shape):
    x = rng.normal(size=shape) * np.linspace(1, 3, shape[1])
    x -= x.mean(0)
    ours = principal_components(torch.from_numpy(x), 5).numpy()
    theirs = PCA(5, svd_solver="full").fit(x).components_.T
    np.testing.assert_allclose(np.abs(np.sum(ours * theirs, axis=0)), 1, atol=1e-9)
    np.testing.assert_allclose(ours.T @ ours, np.eye(5), atol=1e-9)
    assert (ours[np.abs(ours).argmax(0), np.arange(5)] > 0).all()


def test_randomised_components_agree_with_exact_ones(rng, monkeypatch):
    low = rng.normal(size=(80, 6)) @ rng.normal(size=(6, 60)) + 0.01 * rng.normal(size=(80, 60))
    low -= low.mean(0)
    exact = principal_components(torch.from_numpy(low), 4).numpy()
    monkeypatch.setattr("brainalign.alignment.transforms.EXACT_LIMIT", 10)
    random = principal_components(torch.from_numpy(low), 4).numpy()
    np.testing.assert_allclose(np.linalg.svd(exact.T @ random)[1], 1, atol=1e-6)


def test_targets_are_standardised_projected_and_scaled_by_training_images_alone(rng):
    train, other = rng.normal(2, 3, (40, 8)).astype(np.float32), rng.normal(0, 1, (5, 8)).astype(np.float32)
    fitted = TargetTransform.fit(torch.from_numpy(train), TargetSettings(components=3))
    scaler = StandardScaler().fit(train)
    pca = PCA(3, svd_solver="full").fit(scaler.transform(train))
    expected = pca.transform(scaler.transform(other))
    expected /= np.sqrt((pca.transform(scaler.transform(train)) ** 2).mean())
    np.testing.assert_allclose(np.abs(fitted(torch.from_numpy(other)).numpy()), np.abs(expected), rtol=1e-4, atol=1e-5)
    again = TargetTransform.from_tensors(fitted.tensors())
    np.testing.assert_array_equal(again(torch.from_numpy(other)), fitted(torch.from_numpy(other)))


def test_constant_features_do_not_blow_up():
    x = torch.tensor([[1.0, 5.0], [2.0, 5.0], [4.0, 5.0]])
    fitted = TargetTransform.fit(x, TargetSettings(components=None))
    moved = fitted(x + torch.tensor([0.0, 1e-3]))
    assert bool((moved[:, 1] == 0).all())


def test_without_standardising_the_features_stay_as_they_are(rng):
    x = torch.from_numpy(rng.normal(size=(10, 4)).astype(np.float32))
    fitted = TargetTransform.fit(x, TargetSettings(components=None, standardize=False))
    np.testing.assert_allclose(fitted(x), x / x.double().square().mean().sqrt(), rtol=1e-5)


def test_nan_features_are_refused():
    with pytest.raises(InputError, match="NaN or infinity"):
        TargetTransform.fit(torch.tensor([[float("nan")], [1.0]]), TargetSettings())


@pytest.mark.parametrize(("scale", "axes"), [("channel", (0, 2)), ("feature", (0,))])
def test_signals_are_scored_with_training_statistics(rng, scale, axes):
    train, other = rng.normal(3, 2, (30, 4, 6)), rng.normal(0, 1, (3, 4, 6))
    fitted = SignalTransform.fit(torch.from_numpy(train), SignalSettings(scale=scale))
    mean, std = train.mean(axes, keepdims=True)[0], train.std(axes, keepdims=True)[0]
    np.testing.assert_allclose(fitted(torch.from_numpy(other)), (other - mean) / std, rtol=1e-4, atol=1e-5)


def test_sqrt_and_whitening_come_before_the_score(rng):
    train = rng.poisson(4, (50, 3, 1)).astype(np.float32)
    white = np.array([[2.0, 0.5, 0], [0, 1, 0], [0, 0, 3]])
    fitted = SignalTransform.fit(torch.from_numpy(train), SignalSettings(transform="sqrt"), torch.from_numpy(white))
    stable = np.einsum("dc,nct->ndt", white, np.sqrt(train))
    expected = (stable - stable.mean((0, 2), keepdims=True)) / stable.std((0, 2), keepdims=True)
    np.testing.assert_allclose(fitted(torch.from_numpy(train)), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="sqrt needs counts"):
        SignalTransform.fit(torch.tensor([[[-1.0]]]), SignalSettings(transform="sqrt"))


@pytest.mark.parametrize("scale", ["channel", "feature"])
def test_signals_in_tesla_are_scored_as_in_femtotesla(rng, scale):
    train = rng.normal(20, 100, (40, 4, 6)) * np.array([1, 2, 3, 4.0])[:, None]
    axes = (0, 2) if scale == "channel" else (0,)
    fitted = SignalTransform.fit(torch.from_numpy((1e-15 * train).astype(np.float32)), SignalSettings(scale=scale))
    expected = (train - train.mean(axes, keepdims=True)) / train.std(axes, keepdims=True)
    small = torch.from_numpy((1e-15 * train).astype(np.float32))
    np.testing.assert_allclose(fitted(small), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(fitted.inverse(fitted(small)), small, rtol=1e-4, atol=1e-18)


def test_channels_of_small_units_beside_large_ones_stay_as_they_were(rng):
    """Volts with a deviation of 1e-5 beside a trigger channel with one of 100."""
    train = rng.normal(size=(50, 2, 8)) * np.array([1e-5, 100.0])[:, None]
    fitted = SignalTransform.fit(torch.from_numpy(train), SignalSettings())
    np.testing.assert_allclose(fitted.scale.numpy(), train.std((0, 2))[:, None], rtol=1e-4)


@pytest.mark.parametrize("unit", [1.0, 1e-13])
def test_what_never_changes_in_training_is_0_whatever_comes_and_comes_back_as_its_mean(rng, unit, tmp_path):
    from safetensors.torch import load_file, save_file

    train = (unit * rng.normal(size=(30, 3, 4))).astype(np.float32)
    train[:, 1], train[:, 2, 3] = 5 * unit, 7 * unit
    fitted = SignalTransform.fit(torch.from_numpy(train), SignalSettings(scale="feature"))
    save_file({k: v.contiguous() for k, v in fitted.tensors().items()}, tmp_path / "t.safetensors")
    again = SignalTransform.from_tensors(load_file(tmp_path / "t.safetensors"))
    again.check_size(3, 4)
    other = torch.from_numpy(train[:5] + np.float32(unit))
    for transform in (fitted, again):
        z = transform(other)
        assert bool((z[:, 1] == 0).all()) and bool((z[:, 2, 3] == 0).all())
        assert float(z.abs().max()) < 10
        back = transform.inverse(z).numpy()
        np.testing.assert_allclose(back[:, 1], 5 * unit, rtol=1e-6)
        np.testing.assert_allclose(back[:, 2, 3], 7 * unit, rtol=1e-6)
        np.testing.assert_allclose(back[:, 0], other[:, 0], rtol=1e-4, atol=1e-5 * unit)


def test_signals_that_never_change_at_all_are_0():
    fitted = SignalTransform.fit(torch.full((6, 2, 3), 3.0), SignalSettings())
    assert fitted(torch.full((1, 2, 3), 4.0)).abs().max() == 0
