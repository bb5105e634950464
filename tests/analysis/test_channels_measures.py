"""Channel measures against plain numpy, captum's completeness, and made data with a known answer."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from torch import nn

from brainalign.alignment.transforms import SignalTransform
from brainalign.analysis.channels import planted_snr
from brainalign.analysis.channels_attribution import STEPS, TOLERANCE, attribute
from brainalign.analysis.channels_data import Channels, Estimates, one_row_an_image, resampling_weights, unit_of
from brainalign.analysis.channels_encoding import (
    corrected_p,
    fit_encoding,
    permutations,
    permuted_correlation,
    pooled_correlation,
    resampled_correlation,
)
from brainalign.analysis.channels_findings import _planted
from brainalign.analysis.channels_knockout import knock_out
from brainalign.analysis.channels_pattern import explained_share, haufe_pattern, pattern_of_weights, shared_axes
from brainalign.analysis.channels_regions import channel_groups, region_of
from brainalign.analysis.channels_topography import sensor_info
from brainalign.errors import InputError
from brainalign.recipes import load_recipe


@pytest.fixture
def gaussian(rng):
    """Signals x = A s + noise with a known A, and the filter that reads s best: W = cov(x)^-1 A cov(s)."""
    n, p, k = 20_000, 6, 2
    pattern = rng.normal(size=(p, k))
    mixing = rng.normal(size=(p, p))  # correlated noise: here filters and patterns look different
    s = rng.normal(size=(n, k)) @ np.array([[1.0, 0.4], [0.0, 1.5]])
    x = s @ pattern.T + rng.normal(size=(n, p)) @ mixing.T
    covariance = pattern @ np.cov(s.T) @ pattern.T + mixing @ mixing.T
    weights = np.linalg.solve(covariance, pattern @ np.cov(s.T))
    return x, pattern, weights


def test_haufe_pattern_of_a_linear_model_is_that_of_its_weights(gaussian):
    x, _, weights = gaussian
    latents = x @ weights
    found = haufe_pattern(x, latents)
    covariance = np.cov(x.T)
    expected = covariance @ weights @ np.linalg.inv(weights.T @ covariance @ weights)  # equation 6
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    np.testing.assert_allclose(pattern_of_weights(covariance, weights), expected, rtol=1e-8)


def test_haufe_pattern_spans_the_planted_pattern_and_the_filter_does_not(gaussian):
    x, pattern, weights = gaussian
    found = haufe_pattern(x, x @ weights)

    def missed(columns):
        """Share of the planted pattern outside the span of some columns."""
        basis = np.linalg.qr(columns)[0]
        return np.linalg.norm(pattern - basis @ (basis.T @ pattern)) / np.linalg.norm(pattern)

    assert missed(found) < 0.05
    assert missed(weights) > 0.3


def test_haufe_pattern_needs_more_observations_than_latents(rng):
    with pytest.raises(InputError, match="do not fix"):
        haufe_pattern(rng.normal(size=(4, 3)), rng.normal(size=(4, 4)))


def test_explained_share_is_leave_one_out(rng):
    s = rng.normal(size=(25, 2))
    x = s @ rng.normal(size=(2, 3)) + rng.normal(size=(25, 3))
    left_out = cross_val_predict(LinearRegression(), s, x, cv=LeaveOneOut())
    means = np.stack([np.delete(x, i, 0).mean(0) for i in range(25)])
    expected = 1 - ((x - left_out) ** 2).sum(0) / ((x - means) ** 2).sum(0)
    found, drawn = explained_share(x[:, :, None], s, resampling_weights(25, 400, 0))
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    assert (np.percentile(drawn, 2.5, axis=0) < found).all() and (found < np.percentile(drawn, 97.5, axis=0)).all()


def test_shared_axes_are_singular_vectors(rng):
    a, b = rng.normal(size=(30, 50)), rng.normal(size=(30, 50))
    b[:, :4] += a[:, :4]
    expected = np.linalg.svd((a - a.mean(0)).T @ (b - b.mean(0)))[0][:, :3]
    found = shared_axes(a, b, 3)
    np.testing.assert_allclose(np.abs((found * expected).sum(0)), 1, atol=1e-8)


def test_pooled_correlation_takes_out_every_samples_mean(rng):
    x, y = rng.normal(size=(2, 20, 3, 4))
    y += x + 5 * rng.normal(size=(1, 3, 4))  # an evoked response that all images share is no encoding
    found = pooled_correlation(x, y)
    expected = [pearsonr((x - x.mean(0))[:, c].ravel(), (y - y.mean(0))[:, c].ravel())[0] for c in range(3)]
    np.testing.assert_allclose(found, expected)
    one = pooled_correlation(x[..., :1], y[..., :1])
    np.testing.assert_allclose(one, [pearsonr(x[:, c, 0], y[:, c, 0])[0] for c in range(3)])


def test_permuted_and_resampled_correlations_are_those_of_moved_rows(rng):
    x, y = rng.normal(size=(2, 12, 2, 3))
    deals = permutations(12, 5, 0)
    expected = [pooled_correlation(x[deal], y) for deal in deals]
    np.testing.assert_allclose(permuted_correlation(x, y, deals), expected, atol=1e-12)
    drawn = rng.integers(0, 12, (4, 12))
    weights = np.stack([np.bincount(row, minlength=12) for row in drawn]) / 12
    expected = [pooled_correlation(x[row], y[row]) for row in drawn]
    np.testing.assert_allclose(resampled_correlation(x, y, weights), expected, atol=1e-12)


def test_false_alarms_among_all_channels_are_held(rng):
    """Noise alone: about alpha of the studies have any channel above chance."""
    alarms = []
    for study in range(100):
        x, y = rng.normal(size=(2, 30, 8, 2))
        null = permuted_correlation(x, y, permutations(30, 99, study)).max(1)
        alarms.append((corrected_p(pooled_correlation(x, y), null) <= 0.05).any())
    assert np.mean(alarms) <= 0.13  # binomial: 5 % of 100 exceeds 13 in one of 1,000 tries


@pytest.mark.parametrize("n", [40, 8])  # more images than features, and fewer
def test_encoding_fit_is_ridge_with_a_penalty_from_training(rng, n):
    x = rng.normal(size=(n, 12)).astype(np.float32)
    y = (x @ rng.normal(size=(12, 4)) + rng.normal(size=(n, 4))).astype(np.float32).reshape(n, 2, 2)
    fitted, relative = fit_encoding(x, y)
    a, b = x - x.mean(0, dtype=np.float64), y.reshape(n, 4) - y.reshape(n, 4).mean(0, dtype=np.float64)
    penalty = relative * (a**2).sum() / min(n, 12)
    expected = np.linalg.solve(a.T @ a + penalty * np.eye(12), a.T @ b)
    np.testing.assert_allclose(fitted.coefficients.numpy(), expected, atol=1e-5)


def test_estimates_average_regions_draw_by_draw():
    values, draws = np.array([1.0, 3.0, 9.0]), np.array([[0.0, 4.0, 9.0], [2.0, 2.0, 9.0]])
    found = Estimates.of(values, draws, {"ab": np.array([0, 1])})
    assert found.regions["ab"] == (2.0, 2.0, 2.0)
    assert found.lo[0] == pytest.approx(0.05) and found.hi[0] == pytest.approx(1.95)


def test_rows_of_one_image_are_averaged():
    (values,) = one_row_an_image(["b", "a", "b"], np.array([[1.0], [5.0], [3.0]]))
    assert values.tolist() == [[2.0], [5.0]]


def test_regions_by_name():
    names = ["Fp1", "AFz", "FC3", "CPz", "T7", "TP10", "P10", "PO3h", "Iz", "EOG", "M1"]
    expected = [
        "frontal",
        "frontal",
        "central",
        "central",
        "temporal",
        "temporal",
        "parietal",
        "occipital",
        "occipital",
    ]
    assert [region_of(name, "eeg") for name in names] == [*expected, None, None]
    assert [region_of(n, "meg") for n in ("MLF12", "MZC01", "MEG0111")] == ["frontal", "central", None]
    assert region_of("O1", "spikes") is None


def test_regions_by_channel_table():
    import pandas as pd

    names = ["a", "b", "c"]
    found = channel_groups(names, "fmri", pd.DataFrame({"region": ["V1", "", "V2"]}))
    assert {k: v.tolist() for k, v in found.items()} == {"V1": [0], "V2": [2]}
    found = channel_groups(
        names, "fmri", pd.DataFrame({"x": [1, 2, 3], "FFA": [False, True, True], "none": [False] * 3})
    )
    assert {k: v.tolist() for k, v in found.items()} == {"FFA": [1, 2]}
    assert channel_groups(names, "fmri", None) == {}


class Answer(nn.Module):
    """A made encoder: channel 0 alone, through something curved."""

    def __init__(self, curve: nn.Module) -> None:
        super().__init__()
        self.curve, self.linear = curve, nn.Linear(5, 3)

    def forward(self, signals, images):
        return (self.curve(self.linear(signals[:, 0])) * images).sum(1)


def test_attributions_of_a_linear_model_are_weights_times_signals(rng):
    torch.manual_seed(0)
    model = Answer(nn.Identity())
    x, w = torch.randn(6, 4, 5), torch.randn(6, 3)
    found, method, note = attribute(model, x, w, "ig")
    expected = torch.zeros_like(x)
    expected[:, 0] = x[:, 0] * (w @ model.linear.weight)
    assert (method, note) == ("ig", "")
    np.testing.assert_allclose(found.values, expected.detach().numpy(), atol=1e-5)
    lifted, method, _ = attribute(model, x, w, "deeplift")
    assert method == "deeplift"
    np.testing.assert_allclose(lifted.values, expected.detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("method", ["ig", "deeplift"])
def test_attributions_add_up(method):
    torch.manual_seed(1)
    model = Answer(nn.Sequential(nn.ELU(), nn.Linear(3, 3)))
    x, w = 3 * torch.randn(20, 4, 5), torch.randn(20, 3)
    found, used, _ = attribute(model, x, w, method)
    gap = (model(x, w) - model(torch.zeros_like(x), w)).detach().numpy()
    assert used == method
    assert (np.abs(found.values.sum((1, 2)) - gap) < TOLERANCE * np.abs(gap)).all()
    assert found.n_missed == 0 and found.overall < TOLERANCE
    assert not found.values[:, 1:].any()  # channels that the model does not read


def test_steps_rise_until_the_attributions_add_up():
    class Kink(nn.Module):
        """A jump in slope far out, which few steps miss."""

        def forward(self, signals, images):
            return (signals.sum((1, 2)) + 40 * torch.relu(signals[:, 0, 0] - 0.97)) * images[:, 0]

    x = torch.zeros(2, 2, 2)
    x[0], x[1] = 1.0, 0.5
    found, _, _ = attribute(Kink(), x, torch.ones(2, 1), "ig")
    assert found.steps[0] > STEPS[0] and found.steps[1] == STEPS[0]
    assert found.n_missed == 0


def test_a_delta_that_stays_is_reported():
    class Jump(nn.Module):
        """A step function: gradients do not see it at all."""

        def forward(self, signals, images):
            return signals.sum((1, 2)) + 5 * (signals[:, 0, 0] > 0.5).float() * images[:, 0]

    found, _, _ = attribute(Jump(), torch.ones(3, 2, 2), torch.ones(3, 1), "ig")
    assert found.n_missed == 3 and set(found.steps) == {STEPS[-1]}
    np.testing.assert_allclose(found.relative, 5 / 9, atol=1e-3)


def test_deeplift_gives_way_where_its_rules_do_not_hold():
    class Functional(nn.Module):
        """A nonlinearity that is no module: DeepLIFT takes its gradient, which does not add up."""

        def forward(self, signals, images):
            return (torch.nn.functional.elu(signals.sum(2) - 1) * images).sum(1)

    torch.manual_seed(2)
    found, used, note = attribute(Functional(), 2 * torch.randn(8, 3, 4), torch.randn(8, 3), "deeplift")
    assert used == "ig" and "DeepLIFT" in note
    assert found.n_missed == 0


@pytest.mark.parametrize("whiten", [False, True])
def test_knock_out_sets_channels_to_their_training_mean(rng, whiten):
    from brainalign.recipes.recipe import SignalSettings

    x = torch.from_numpy(rng.normal(3, 2, size=(50, 3, 4)).astype(np.float32))
    whitener = torch.from_numpy(np.linalg.inv(np.eye(3) + 0.3)).float() if whiten else None
    transform = SignalTransform.fit(x, SignalSettings(scale="feature"), whitener)
    none, one, all_ = knock_out(x.numpy(), transform, [np.array([], int), np.array([1]), np.arange(3)])
    np.testing.assert_allclose(none, x, atol=1e-4)
    np.testing.assert_allclose(all_, np.broadcast_to(x.mean(0), x.shape), atol=1e-4)
    if not whiten:
        np.testing.assert_allclose(one[:, 1], np.broadcast_to(x.mean(0)[1], (50, 4)), atol=1e-4)
        np.testing.assert_allclose(one[:, [0, 2]], x[:, [0, 2]], atol=1e-4)
    silenced = transform(torch.from_numpy(one))
    assert float(silenced[:, 1].abs().max()) < 1e-4
    np.testing.assert_allclose(silenced[:, [0, 2]], transform(x)[:, [0, 2]], atol=1e-4)


def test_sensors_are_placed_by_position_or_by_name():
    def channels(names, modality="eeg", positions=None):
        return Channels(tuple(names), modality, "uV", positions, None, {})

    info = sensor_info(channels(["Pz", "O1", "Oz", "O2"]))
    assert info is not None and info.get_channel_types() == ["eeg"] * 4
    assert sensor_info(channels(["Pz", "O1", "Oz", "E7"])) is None
    assert sensor_info(channels(["Pz", "O1", "Oz", "O2"], "fmri")) is None
    placed = np.array([[0.0, 0.1, 0.0], [0.1, 0, 0], [-0.1, 0, 0], [0, -0.1, 0.02]])
    info = sensor_info(channels(["M1", "M2", "M3", "M4"], "meg", placed))
    np.testing.assert_allclose([chan["loc"][:3] for chan in info["chs"]], placed)


def test_encoding_strength_follows_planted_signal_to_noise_ratios(rng):
    """What the virtual brain shows in minutes (test_channels.py): linear responses, noise that differs by channel."""
    ratios, n, held = np.linspace(0.0, 1.5, 12), 400, 150
    features = rng.normal(size=(n + held, 10))
    clean = np.einsum("nd,dct->nct", features, rng.normal(size=(10, 12, 5))) / np.sqrt(10)
    signals = clean * np.sqrt(ratios)[:, None] + rng.normal(size=clean.shape)
    fitted, _ = fit_encoding(features[:n].astype(np.float32), signals[:n].astype(np.float32))
    predicted = fitted(torch.from_numpy(features[n:])).numpy().reshape(held, 12, 5)
    values = pooled_correlation(predicted, signals[n:])
    p = corrected_p(values, permuted_correlation(predicted, signals[n:], permutations(held, 199, 0)).max(1))
    # The best linear prediction correlates as sqrt(ratio / (1 + ratio)).
    np.testing.assert_allclose(values, np.sqrt(ratios / (1 + ratios)), atol=0.09)
    assert p[0] > 0.05 and (p[2:] == 1 / 200).all()


def test_planted_ratios_are_those_of_the_channels_that_the_run_takes(rng):
    truth = {"ch_names": ["Pz", "O1", "Oz", "O2", "PO7"], "snr": np.array([0.1, 0.5, 0.9, 0.7, 0.3])}
    taken = ("O1", "O2", "Oz", "PO7")
    session = SimpleNamespace(dataset=SimpleNamespace(truth=lambda subject: truth), leaves_out=lambda subject: False)
    run = SimpleNamespace(session=session, result=SimpleNamespace(virtual=True, subject="1"))
    material = SimpleNamespace(run=run, channels=Channels(taken, "eeg", "uV", None, None, {}))
    planted = planted_snr(material, "validation")
    assert planted == {"O1": 0.5, "O2": 0.7, "Oz": 0.9, "PO7": 0.3}
    whole = SimpleNamespace(values=np.array([0.2, 0.3, 0.4, 0.1]))
    text = _planted(SimpleNamespace(encoding=SimpleNamespace(whole=whole)), planted)
    assert "correlate over 4 channels with r = 1.00" in text and "by ranks 1.00" in text
    run.result.virtual = False
    assert planted_snr(material, "validation") is None


def test_patterns_of_square_roots_are_not_called_spikes():
    recipe = load_recipe("ridge", modality="spikes")
    assert recipe.signals.transform == "sqrt"
    assert unit_of("spikes", recipe) == "square root of spikes" and unit_of("", recipe) == ""
    assert unit_of("uV", load_recipe("ridge", modality="eeg")) == "uV"
