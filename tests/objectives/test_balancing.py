"""Dynamic loss adjustment against eq. 8 and 9 in numpy and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import softmax

from brainalign.errors import InputError
from brainalign.objectives import DynamicLossAdjustment, FixedWeights


def equation(series, temperature=0.07, eps=1e-8, normalize=True, smoothing=0.0):
    """Weights of every step, from the norms of all steps, (steps, k)."""
    g = np.array(series, dtype=float)
    for t in range(1, len(g)):
        g[t] = smoothing * g[t - 1] + (1 - smoothing) * g[t]
    r = np.zeros_like(g)
    r[1:] = np.abs(np.diff(g, axis=0)) / (g[:-1] + eps)
    size = g / g.sum(1, keepdims=True) if normalize else g
    return softmax(size * (1 + r) / temperature, axis=1), r


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("smoothing", [0.0, 0.9])
@pytest.mark.parametrize("k", [2, 3])
def test_equals_the_equations(k, smoothing, normalize):
    series = np.random.default_rng(0).gamma(4.0, 0.1, size=(20, k))
    options = {"temperature": 0.3, "eps": 1e-3, "normalize": normalize, "smoothing": smoothing}
    dla = DynamicLossAdjustment(**options)
    expected, velocities = equation(series, **options)
    for t, norms in enumerate(series):
        got = dla.weights(torch.tensor(norms))
        np.testing.assert_allclose(got, expected[t], rtol=1e-12)
        np.testing.assert_allclose(dla.last["velocities"], velocities[t], rtol=1e-12)
        np.testing.assert_allclose(dla.last["weights"], expected[t], rtol=1e-12)
        assert dla.last["norms"] == norms.tolist()


def test_three_losses_by_hand():
    """T = 1. Norms (1, 2, 1): shares 1/4, 1/2, 1/4, r = 0, so 1 : e^.25 : 1.

    Then (2, 1, 1): r = (1, 1/2, 0), shares (1/2, 1/4, 1/4), scores (1, 3/8, 1/4), so e^.75 : e^.125 : 1.
    """
    dla = DynamicLossAdjustment(temperature=1.0)
    e = math.exp
    first = np.array([1, e(0.25), 1]) / (2 + e(0.25))
    second = np.array([e(0.75), e(0.125), 1]) / (e(0.75) + e(0.125) + 1)
    np.testing.assert_allclose(dla.weights(torch.tensor([1.0, 2, 1], dtype=torch.float64)), first, rtol=1e-12)
    np.testing.assert_allclose(dla.weights(torch.tensor([2.0, 1, 1], dtype=torch.float64)), second, rtol=1e-7)


def test_literal_two_losses_by_hand():
    """T = .5, norms not divided: (1, .5) gives e^2 : e^1; then (1, 1), r = (0, 1): e^2 : e^4."""
    dla = DynamicLossAdjustment(temperature=0.5, normalize=False)
    first, second = (dla.weights(torch.tensor(norms, dtype=torch.float64)) for norms in ([1.0, 0.5], [1.0, 1.0]))
    np.testing.assert_allclose(first, [1 / (1 + math.exp(-1)), 1 / (1 + math.e)], rtol=1e-12)
    np.testing.assert_allclose(second, [1 / (1 + math.exp(2)), 1 / (1 + math.exp(-2))], rtol=1e-6)


def test_the_first_step_has_no_velocity():
    dla = DynamicLossAdjustment()
    dla.weights(torch.tensor([0.3, 5.0]))
    assert dla.last["velocities"] == [0.0, 0.0]


def test_saturation_is_as_documented():
    """Literal weights depend on the unit of the norms, divided ones do not."""
    norms = torch.tensor([1.5, 1.0], dtype=torch.float64)
    literal, shared = (
        [DynamicLossAdjustment(normalize=n).weights(norms * u) for u in (1, 1e-3)] for n in (False, True)
    )
    assert literal[0][0] / literal[0][1] == pytest.approx(1300, rel=0.05)
    assert literal[1][0] / literal[1][1] == pytest.approx(1, rel=0.01)
    torch.testing.assert_close(shared[0], shared[1])
    documented = DynamicLossAdjustment().weights(torch.tensor([0.40, 0.35, 0.25]))
    np.testing.assert_allclose(documented, [0.62, 0.30, 0.07], atol=6e-3)


def test_a_loss_that_changes_gains():
    dla = DynamicLossAdjustment(temperature=0.5)
    before = dla.weights(torch.tensor([1.0, 1.0]))
    dla.weights(torch.tensor([1.0, 0.5]))
    after = dla.weights(torch.tensor([1.0, 1.0]))
    assert before[0] == before[1] and after[1] > after[0]


@pytest.mark.parametrize("normalize", [True, False])
def test_no_gradients_give_equal_weights(normalize):
    dla = DynamicLossAdjustment(normalize=normalize)
    for norms in ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 0.0]):
        weights = dla.weights(torch.tensor(norms))
        assert bool(torch.isfinite(weights).all()) and float(weights.sum()) == pytest.approx(1)
    torch.testing.assert_close(weights, torch.full((3,), 1 / 3))


def test_one_loss_has_all_weight():
    dla = DynamicLossAdjustment()
    for norm in (0.0, 3.0, 1e-12):
        assert dla.weights(torch.tensor([norm])).tolist() == [1.0]


@pytest.mark.parametrize("normalize", [True, False])
def test_enormous_norms_stay_finite(normalize):
    dla = DynamicLossAdjustment(normalize=normalize)
    for norms in ([0.0, 0.0], [1e300, 1e300], [1e-300, 1e300]):
        weights = dla.weights(torch.tensor(norms, dtype=torch.float64))
        assert bool(torch.isfinite(weights).all()) and float(weights.sum()) == pytest.approx(1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0])
def test_impossible_norms_are_refused_and_leave_no_trace(bad):
    dla, other = DynamicLossAdjustment(), DynamicLossAdjustment()
    for each in (dla, other):
        each.weights(torch.tensor([1.0, 2.0]))
    with pytest.raises(InputError, match="gradient norm of loss 2 is"):
        dla.weights(torch.tensor([1.0, bad]))
    after = torch.tensor([1.5, 1.8])
    assert torch.equal(dla.weights(after), other.weights(after))


@pytest.mark.parametrize("shape", [(), (0,), (2, 2), (3,)])
def test_other_shapes_are_refused(shape):
    dla = DynamicLossAdjustment()
    dla.weights(torch.ones(2))
    with pytest.raises(InputError, match="gradient norms"):
        dla.weights(torch.ones(shape))


@pytest.mark.parametrize(
    "options", [{"temperature": 0}, {"temperature": math.inf}, {"eps": 0}, {"smoothing": 1.0}, {"smoothing": -0.1}]
)
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        DynamicLossAdjustment(**options)


def test_weights_carry_no_gradient_and_keep_the_type():
    norms = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    weights = DynamicLossAdjustment().weights(norms)
    assert weights.dtype == torch.float64 and not weights.requires_grad


@pytest.mark.parametrize("smoothing", [0.0, 0.5])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_run_goes_on_from_its_state(steps, smoothing, tmp_path):
    from safetensors.torch import load_file, save_file

    series = torch.rand(steps + 4, 3, generator=torch.Generator().manual_seed(0))
    whole, before, after = (DynamicLossAdjustment(smoothing=smoothing) for _ in range(3))
    expected = [whole.weights(norms) for norms in series]
    for norms in series[:steps]:
        before.weights(norms)
    save_file(before.state_dict(), tmp_path / "state.safetensors")
    after.load_state_dict(load_file(tmp_path / "state.safetensors"))
    assert after.step == steps
    for norms, weights in zip(series[steps:], expected[steps:], strict=True):
        assert torch.equal(after.weights(norms), weights)
    assert after.step == whole.step == steps + 4


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"norms": torch.ones(2)},
        {"norms": torch.ones(2), "step": torch.tensor(1), "more": torch.ones(1)},
        {"norms": torch.tensor([1.0, math.nan]), "step": torch.tensor(1)},
        {"norms": torch.tensor([1.0, -1.0]), "step": torch.tensor(1)},
        {"norms": torch.ones(2, 2), "step": torch.tensor(1)},
        {"norms": torch.ones(2), "step": torch.ones(3)},
        {"norms": torch.ones(2), "step": torch.tensor(math.nan)},
        {"norms": torch.ones(2), "step": torch.tensor(-1)},
    ],
)
def test_other_states_are_refused(state):
    with pytest.raises(InputError, match="state of dynamic loss adjustment"):
        DynamicLossAdjustment().load_state_dict(state)


def test_logged_numbers_are_plain_and_apart():
    dla = DynamicLossAdjustment()
    assert dla.last == {"norms": [], "velocities": [], "weights": []}
    dla.weights(torch.tensor([1.0, 2.0]))
    for values in dla.last.values():
        assert [type(value) for value in values] == [float, float]
    dla.last["norms"].clear()
    assert dla.last["norms"] == [1.0, 2.0]


def test_fixed_weights_have_the_same_interface():
    fixed, dynamic = FixedWeights([1.0, 0.25]), DynamicLossAdjustment()
    assert (fixed.needs_norms, dynamic.needs_norms) == (False, True)
    assert fixed.weights().tolist() == [1.0, 0.25]
    weights = fixed.weights(torch.tensor([9.0, 1.0], dtype=torch.float64))
    assert weights.tolist() == [1.0, 0.25] and weights.dtype == torch.float64
    assert fixed.last == {"norms": [], "velocities": [], "weights": [1.0, 0.25]}
    fixed.load_state_dict(fixed.state_dict())
    with pytest.raises(InputError, match="no state"):
        fixed.load_state_dict(dynamic.state_dict())
    with pytest.raises(InputError, match="for 2 weights"):
        fixed.weights(torch.ones(3))


@pytest.mark.parametrize("given", [[], [0.0, 0.0], [1.0, -1.0], [1.0, math.nan]])
def test_impossible_fixed_weights_are_refused(given):
    with pytest.raises(InputError, match="loss weights"):
        FixedWeights(given)
