"""The encoders against plain networks in the published order of layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from encoders.published import PUBLISHED, copy_weights, ours_for
from torch import nn

from brainalign.encoders import build_encoder

SMALL = {"n_filters": 6, "kernel_size": 9, "pool_size": 16, "pool_stride": 3}
CASES = [
    ("eegnet", {"n_chans": 7, "n_times": 250, "dim": 12}),
    ("eegnet", {"n_chans": 5, "n_times": 95, "dim": 8}),
    ("eegnet", {"n_chans": 3, "n_times": 40, "dim": 5, "kernel_size": 8, "second_kernel_size": 3, "pool_size": 3}),
    ("eegnet", {"n_chans": 1, "n_times": 12, "dim": 5, "n_temporal": 3, "n_spatial": 2, "kernel_size": 1,
                "second_kernel_size": 1, "pool_size": 1}),
    ("conformer", {"n_chans": 7, "n_times": 250, "dim": 12}),
    ("conformer", {"n_chans": 5, "n_times": 99, "dim": 8, "depth": 1}),
    ("conformer", {"n_chans": 1, "n_times": 63, "dim": 5, **SMALL, "depth": 3, "n_heads": 2, "expansion": 2}),
    ("eegtransformer", {"n_chans": 7, "n_times": 50, "dim": 12}),
    ("eegtransformer", {"n_chans": 1, "n_times": 3, "dim": 5, "width": 6, "depth": 1, "n_heads": 3, "hidden": 7}),
    ("nice-sa", {"n_chans": 7, "n_times": 250, "dim": 12}),
    ("nice-sa", {"n_chans": 7, "n_times": 250, "dim": 12, "as_released": True}),
    ("nice-sa", {"n_chans": 3, "n_times": 64, "dim": 5, **SMALL}),
    ("nice-ga", {"n_chans": 7, "n_times": 250, "dim": 12}),
    ("nice-ga", {"n_chans": 3, "n_times": 64, "dim": 5, **SMALL}),
    ("atm", {"n_chans": 7, "n_times": 250, "dim": 12}),
    ("atm", {"n_chans": 7, "n_times": 100, "dim": 12, "n_subjects": 3, "as_released": True}),
    ("atm", {"n_chans": 3, "n_times": 20, "dim": 5, **SMALL, "n_subjects": 2, "width": 31, "hidden": 9, "n_heads": 3}),
]  # fmt: skip
# Biases that a BatchNorm cancels and those of keys, which add the same to all scores of a query: the gradient is 0, and
# what is left is rounding.
NO_GRADIENT = ("backbone.0.bias", "backbone.2.bias", "backbone.7.bias", "patches.0.bias", "patches.1.bias",
               "convolve.0.bias", "convolve.4.bias")  # fmt: skip


def without_dropout(name):
    return {"dropout": 0.0} | ({"attention_dropout": 0.0} if name in ("conformer", "nice-sa", "nice-ga", "atm") else {})


def pair(name, size, dtype=torch.float32):
    """Ours and the published order (in float64) with the same random weights, those of norms and biases included."""
    torch.manual_seed(0)
    ours = build_encoder(name, **size, **without_dropout(name))
    with torch.no_grad():
        for key, weight in ours.named_parameters():
            if weight.ndim == 1 or "norm" in key:
                weight.copy_(torch.randn_like(weight) / 3 + ("weight" in key))
    published = PUBLISHED[name](**size, **without_dropout(name))
    copy_weights(ours, published)
    return ours.to(dtype), published.double()


def inputs(name, size, n=16, seed=1, dtype=torch.float32):
    """Slow waves, noise and an offset, as recordings have them; and the subjects where the encoder takes some."""
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=(n, size["n_chans"], size["n_times"]))
    signals = torch.as_tensor(np.cumsum(noise, -1) / 8 + noise + 0.5, dtype=dtype)
    if "n_subjects" not in size:
        return signals, {}
    return signals, {"subjects": torch.as_tensor(generator.integers(-1, size["n_subjects"], n))}


def assert_near(ours, theirs, tolerance=1e-5):
    """Within `tolerance` of the larger of 1 and the largest expected value."""
    torch.testing.assert_close(
        ours.double(), theirs.double(), rtol=0, atol=tolerance * max(1.0, float(theirs.detach().abs().max()))
    )


def gradients(module):
    return {key: p.grad for key, p in module.named_parameters()}


def compare_step(name, size, ours, published, dtype, tolerance):
    """Embeddings and the gradients of every parameter and of the signals."""
    x, who = inputs(name, size, dtype=dtype)
    weight = torch.randn(len(x), size["dim"], generator=torch.Generator().manual_seed(2)).double()
    our_x, their_x = x.clone().requires_grad_(), x.double().requires_grad_()
    got, expected = ours(our_x, **who), published(their_x, **who)
    assert_near(got, expected, tolerance)
    (got.double() * weight).sum().backward()
    (expected * weight).sum().backward()
    assert_near(our_x.grad, their_x.grad, tolerance)
    found, compared = gradients(ours), 0
    for key, p in published.named_parameters():
        if p.grad is None or (name == "nice-sa" and size.get("as_released") and key.startswith(("query", "key"))):
            continue
        assert_near(ours_for(published, key, found), p.grad, 10 * tolerance if key in NO_GRADIENT else tolerance)
        compared += p.numel()
    return compared


@pytest.mark.parametrize(("name", "size"), CASES, ids=str)
def test_training_equals_published_order(name, size):
    ours, published = pair(name, size)
    compared = compare_step(name, size, ours, published, torch.float32, 1e-5)
    if not size.get("as_released"):
        assert compared == sum(p.numel() for p in ours.parameters())
    state = ours.state_dict()
    for key, theirs in published.named_buffers():
        assert_near(ours_for(published, key, state), theirs)


@pytest.mark.parametrize(("name", "size"), CASES, ids=str)
def test_evaluation_equals_published_order(name, size):
    ours, published = pair(name, size)
    for seed in range(3):
        x, who = inputs(name, size, seed=seed)
        ours(x, **who), published(x.double(), **who)
    before = {key: b.clone() for key, b in ours.named_buffers()}
    ours.eval(), published.eval()
    compare_step(name, size, ours, published, torch.float32, 1e-5)
    assert all(torch.equal(b, before[key]) for key, b in ours.named_buffers())
    x, who = inputs(name, size, seed=7)
    with torch.inference_mode():
        assert_near(ours(x, **who), published(x.double(), **who))


@pytest.mark.parametrize(("name", "size"), CASES, ids=str)
def test_double_precision_agrees_far_below_single(name, size):
    """No approximation hides behind the tolerance of float32."""
    ours, published = pair(name, size, torch.float64)
    # The table of positions is rounded to float32 in the published code, and in ours.
    tolerance = 1e-6 if name == "eegtransformer" else 1e-10
    compare_step(name, size, ours, published, torch.float64, tolerance)


def test_attention_weights_have_no_effect_in_the_released_nice_sa():
    """Which is why ours mixes channels unless told otherwise."""
    size = {"n_chans": 4, "n_times": 64, "dim": 5, **SMALL}
    for as_released in (True, False):
        _, published = pair("nice-sa", size | {"as_released": as_released})
        x, _ = inputs("nice-sa", size, dtype=torch.float64)
        before = published.eval()(x)
        nn.init.normal_(published.query[0].weight)
        assert torch.allclose(published(x), before, rtol=0, atol=1e-12) is as_released


def test_convolutions_of_the_released_atm_never_see_the_last_channels_token():
    """With the attention's values at 0, each token sees itself alone."""
    size = {"n_chans": 4, "n_times": 20, "dim": 5, **SMALL, "width": 31}
    x, _ = inputs("atm", size)
    changed = x.clone()
    changed[:, -1] += 1
    for as_released in (True, False):
        ours, _ = pair("atm", size | {"as_released": as_released})
        with torch.no_grad():
            ours.layers[0].attend[0].out.weight.zero_()
        ours.eval()
        assert torch.equal(ours(changed), ours(x)) is as_released


def test_released_nice_sa_leaves_queries_and_keys_alone():
    size = {"n_chans": 4, "n_times": 64, "dim": 5, **SMALL, "as_released": True}
    ours, published = pair("nice-sa", size)
    x, _ = inputs("nice-sa", size)
    ours(x).pow(3).sum().backward()
    published(x.double()).pow(3).sum().backward()
    assert ours.query[0].weight.grad is None
    assert published.query[0].weight.grad.abs().max() < 1e-12
