"""What every encoder promises, and the shallow ones against their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from brainalign.encoders import ENCODERS, BrainEncoder, build_encoder
from brainalign.errors import InputError

SIZE = {"n_chans": 4, "n_times": 100, "dim": 6}
ALL = sorted(ENCODERS)


def built(name, seed=0, **options):
    torch.manual_seed(seed)
    return build_encoder(name, **(SIZE | options))


def random_signals(n=5, seed=1):
    return torch.as_tensor(np.random.default_rng(seed).normal(size=(n, 4, 100)), dtype=torch.float32)


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def layer_norm(x, layer):
    centred = x - x.mean(1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(1, keepdims=True) + layer.eps)
    return scaled * layer.weight.detach().double().numpy() + layer.bias.detach().double().numpy()


def affine(x, layer):
    return x @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()


@pytest.mark.parametrize("name", ALL)
def test_shapes_and_type(name):
    encoder = built(name)
    assert isinstance(encoder, BrainEncoder)
    embedded = encoder(random_signals())
    assert embedded.shape == (5, 6)
    assert embedded.dtype == torch.float32


@pytest.mark.parametrize("name", ALL)
def test_prepared_signals_give_the_same(name):
    encoder = built(name).eval()
    x = random_signals()
    assert torch.equal(encoder(x), encoder(encoder.prepare(x), prepared=True))


@pytest.mark.parametrize("name", ALL)
def test_same_seed_same_result(name):
    x = random_signals()
    results = []
    for _ in range(2):
        encoder = built(name, seed=3)
        torch.manual_seed(4)
        loss = encoder(x).square().sum()
        loss.backward()
        results.append([loss.detach(), *(p.grad for p in encoder.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("name", ALL)
def test_evaluation_takes_each_trial_by_itself(name):
    encoder = built(name).eval()
    x = random_signals()
    torch.testing.assert_close(encoder(x)[2:3], encoder(x[2:3]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_every_parameter_and_the_signal_get_a_gradient(name):
    encoder = built(name)
    x = random_signals().requires_grad_()
    encoder(x).pow(3).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in encoder.parameters())
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ALL)
def test_state_survives_a_copy(name):
    encoder, other = built(name, seed=0), built(name, seed=1)
    encoder(random_signals())
    other.load_state_dict(encoder.state_dict())
    x = random_signals(seed=2)
    assert torch.equal(encoder.eval()(x), other.eval()(x))


def test_linear_is_an_affine_map():
    encoder = built("linear").eval()
    x = random_signals()
    np.testing.assert_allclose(
        encoder(x).detach(), affine(x.double().numpy().reshape(5, -1), encoder.linear), atol=1e-5
    )
    assert built("linear", bias=False).linear.bias is None


def test_eegproject_is_its_formula():
    encoder = built("eegproject").eval()
    with torch.no_grad():
        encoder.norm.weight.uniform_(0.5, 2)
        encoder.norm.bias.normal_()
    x = random_signals()
    projected = affine(x.double().numpy().reshape(5, -1), encoder.project)
    expected = layer_norm(projected + affine(gelu(projected), encoder.residual[1]), encoder.norm)
    np.testing.assert_allclose(encoder(x).detach(), expected, atol=1e-5)


@pytest.mark.parametrize("depth", [1, 3])
def test_mlp_is_its_formula(depth):
    encoder = built("mlp", hidden=9, depth=depth).eval()
    x = random_signals()
    h = x.double().numpy().reshape(5, -1)
    for layer in list(encoder.layers)[:-1]:
        h = gelu(layer_norm(affine(h, layer[0]), layer[1]))
    np.testing.assert_allclose(encoder(x).detach(), affine(h, encoder.layers[-1]), atol=1e-5)
    # By hand: 400 -> 9 and its norm, (depth - 1) times 9 -> 9 and its norm, 9 -> 6.
    expected = (400 * 9 + 9 + 18) + (depth - 1) * (81 + 9 + 18) + 60
    assert sum(p.numel() for p in encoder.parameters()) == expected


@pytest.mark.parametrize("name", ["linear", "eegproject", "mlp"])
def test_dropout_acts_in_training_only(name):
    encoder = built(name, dropout=0.5)
    x = random_signals()
    assert not torch.equal(encoder(x), encoder(x))
    encoder.eval()
    assert torch.equal(encoder(x), encoder(x))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dropout": 1.0}, "dropout 1.0"),
        ({"dropout": -0.5}, "dropout -0.5"),
        ({"dropout": math.nan}, "dropout nan"),
        ({"dropout": "much"}, "dropout 'much'"),
        ({"n_chans": 0}, "n_chans 0"),
        ({"n_times": 0}, "n_times 0"),
        ({"dim": -3}, "dim -3"),
    ],
)
def test_impossible_values_are_refused(name, options, said):
    with pytest.raises(InputError, match=said) as error:
        built(name, **options)
    assert name in str(error.value)


@pytest.mark.parametrize("options", [{"hidden": 0}, {"depth": 0}, {"depth": 1.5}])
def test_mlp_refuses_impossible_layers(options):
    with pytest.raises(InputError, match="expected a whole number of at least 1"):
        built("mlp", **options)


def test_unknown_names_get_a_suggestion():
    with pytest.raises(InputError, match="did you mean 'tsconv'"):
        built("tsconf")
    with pytest.raises(InputError, match="did you mean 'dropout'"):
        built("mlp", dropuot=0.1)
