"""Sizes, numbers of parameters, first weights and refusals."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from brainalign.encoders import build_encoder
from brainalign.encoders._smoothing import smooth
from brainalign.encoders._temporal_spatial import box_filter, window_moments
from brainalign.errors import InputError

NEW = ("atm", "conformer", "eegnet", "eegtransformer", "nice-ga", "nice-sa")


def affine(n_in, n_out):
    return n_in * n_out + n_out


def head(n_in, dim):
    """Two linear maps and a LayerNorm."""
    return affine(n_in, dim) + affine(dim, dim) + 2 * dim


def tsconv(c, n_tokens, dim):
    """Convolutions 1 -> 40 (25 samples), 40 -> 40 (c channels), 40 -> 40 (1 x 1), two BatchNorms, the head."""
    return affine(25, 40) + 80 + affine(40 * c, 40) + 80 + affine(40, 40) + head(n_tokens * 40, dim)


def by_hand(name, c, t, dim):
    """Parameters at t = 250 or 100, each line a layer or two."""
    if name == "eegnet":
        n_left = {250: 78, 100: 3}[t]  # (250 - 63) // 2 - 15, (100 - 63) // 2 - 15
        return affine(64, 8) + 16 + affine(8 * c, 16) + 32 + affine(16 * 16, 16) + 32 + head(16 * n_left, dim)
    if name == "conformer":
        n_tokens = {250: 11, 100: 1}[t]  # 226 responses, 75 to a token, every 15th
        block = 2 * 80 + 4 * affine(40, 40) + affine(40, 160) + affine(160, 40)
        return affine(25, 40) + affine(40 * c, 40) + 80 + affine(40, 40) + 2 * block + head(40 * n_tokens, dim)
    if name == "eegtransformer":
        layer = affine(128, 384) + affine(128, 128) + affine(128, 512) + affine(512, 128) + 2 * 256
        return affine(c, 128) + 4 * layer + affine(128, dim)
    n_tokens = {250: 36, 100: 6}[t]  # 226 or 76 responses, 51 to a token, every 5th
    if name == "nice-sa":
        return 2 * t + 3 * (affine(c, c) + 2 * c) + tsconv(c, n_tokens, dim)
    if name == "nice-ga":
        return t * t + 3 * t + tsconv(c, n_tokens, dim)
    # ATM: 250 wide whatever the signal, 4 heads of 62; 3 LayerNorms; one subject token.
    attention = 3 * affine(250, 248) + affine(248, 250)
    hidden = affine(250, 256) + affine(256, 250)
    return affine(t, 250) + 250 + attention + hidden + 3 * 500 + tsconv(c, 36, dim)


@pytest.mark.parametrize("name", NEW)
@pytest.mark.parametrize(("c", "t", "dim"), [(63, 250, 1024), (17, 250, 1024), (17, 100, 512)])
def test_number_of_parameters(name, c, t, dim):
    encoder = build_encoder(name, n_chans=c, n_times=t, dim=dim)
    assert sum(p.numel() for p in encoder.parameters()) == by_hand(name, c, t, dim)


def test_each_subject_adds_one_token():
    size = {"n_chans": 4, "n_times": 100, "dim": 6}
    none, nine = (build_encoder("atm", **size, n_subjects=n) for n in (0, 9))
    assert sum(p.numel() for p in nine.parameters()) - sum(p.numel() for p in none.parameters()) == 9 * 250


@pytest.mark.parametrize("name", ["nice-sa", "nice-ga", "atm"])
def test_1440_features_of_250_samples(name):
    """36 time steps of 40 filters, as in the papers."""
    encoder = build_encoder(name, n_chans=63, n_times=250, dim=8)
    assert encoder.tsconv.n_tokens == 36
    assert encoder.tsconv.project.in_features == 1440


@pytest.mark.parametrize("name", ["nice-sa", "nice-ga"])
def test_nice_starts_from_narrow_normal_weights(name):
    torch.manual_seed(0)
    encoder = build_encoder(name, n_chans=63, n_times=250, dim=256)
    kinds = {kind: [m for m in encoder.modules() if isinstance(m, kind)] for kind in (nn.Linear, nn.Conv2d)}
    assert len(kinds[nn.Conv2d]) == 3 and len(kinds[nn.Linear]) >= 3
    for layer in kinds[nn.Linear] + kinds[nn.Conv2d]:
        n = layer.weight.numel()
        assert abs(float(layer.weight.detach().std()) - 0.02) < 5 * 0.02 / math.sqrt(2 * n)
        assert abs(float(layer.weight.detach().mean())) < 5 * 0.02 / math.sqrt(n)
    for norm in (encoder.tsconv.temporal_norm, encoder.tsconv.spatial_norm):
        assert 0.01 < float(norm.weight.detach().std()) < 0.03
        assert not norm.bias.any()


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("eegnet", {"n_times": 94}, "needs at least 95 samples .* got n_times 94"),
        ("eegnet", {"pool_size": 0}, "pool_size 0"),
        ("eegnet", {"second_kernel_size": 2.0}, "second_kernel_size 2.0"),
        ("conformer", {"n_times": 98}, "needs at least 99 samples .* got n_times 98"),
        ("conformer", {"n_heads": 7}, "n_filters 40, expected a multiple of n_heads 7"),
        ("conformer", {"depth": 0}, "depth 0"),
        ("conformer", {"attention_dropout": 1}, "attention_dropout 1"),
        ("eegtransformer", {"n_heads": 7}, "width 128, expected a multiple of n_heads 7"),
        ("eegtransformer", {"width": 5, "n_heads": 5}, "width 5, expected an even one"),
        ("eegtransformer", {"hidden": -1}, "hidden -1"),
        ("nice-sa", {"n_times": 74}, "needs at least 75 samples .* got n_times 74"),
        ("nice-sa", {"attention_dropout": -0.1}, "attention_dropout -0.1"),
        ("nice-ga", {"n_times": 74}, "needs at least 75 samples .* got n_times 74"),
        ("nice-ga", {"pool_stride": 0}, "pool_stride 0"),
        ("atm", {"width": 74}, "needs at least 75 samples .* got width 74; take a larger width"),
        ("atm", {"width": 75, "n_heads": 76}, "width 75, expected n_heads 76 or more"),
        ("atm", {"n_subjects": -1}, "n_subjects -1"),
        ("atm", {"n_subjects": 2.5}, "n_subjects 2.5"),
        ("atm", {"subject_dropout": 1.0}, "subject_dropout 1.0"),
    ],
)
def test_impossible_options_are_refused(name, options, said):
    with pytest.raises(InputError, match=said) as error:
        build_encoder(name, **{"n_chans": 4, "n_times": 250, "dim": 8} | options)
    assert f"'{name}'" in str(error.value)


@pytest.mark.parametrize(
    ("name", "n_times"),
    [("eegnet", 95), ("conformer", 99), ("eegtransformer", 1), ("nice-sa", 75), ("nice-ga", 75), ("atm", 1)],
)
def test_shortest_signal_works(name, n_times):
    encoder = build_encoder(name, n_chans=2, n_times=n_times, dim=3)
    assert torch.isfinite(encoder(torch.randn(4, 2, n_times))).all()


@pytest.mark.parametrize("name", NEW)
def test_dropout_acts_in_training_only(name):
    torch.manual_seed(0)
    x = torch.randn(8, 4, 100)
    encoder = build_encoder(name, n_chans=4, n_times=100, dim=8, dropout=0.5)
    assert not torch.equal(encoder(x), encoder(x))
    encoder.eval()
    assert torch.equal(encoder(x), encoder(x))


@pytest.mark.parametrize("name", ["atm", "conformer", "nice-ga", "nice-sa"])
def test_attention_has_its_own_dropout(name):
    torch.manual_seed(0)
    x = torch.randn(8, 4, 100)
    for share, same in ((0.0, True), (0.5, False)):
        encoder = build_encoder(name, n_chans=4, n_times=100, dim=8, dropout=0.0, attention_dropout=share)
        assert torch.equal(encoder(x), encoder(x)) is same


def test_gradients_of_moments_and_averages_by_finite_differences():
    torch.manual_seed(0)
    x = torch.randn(3, 2, 23, dtype=torch.float64, requires_grad=True)
    for size, stride, per_gram in ((5, 3, 4), (6, 1, 5), (23, 1, 1)):
        assert torch.autograd.gradcheck(
            lambda a, k=size, s=stride, g=per_gram: window_moments(a, k, s, per_gram=g)[1:], x
        )
    for size in (1, 2, 7, 23):
        assert torch.autograd.gradcheck(lambda a, k=size: smooth(a, k), x)
        assert torch.equal(smooth(x, size), box_filter(x, size))


@pytest.mark.parametrize("name", ["eegnet", "nice-sa"])
def test_one_trial_with_one_window_has_no_variance(name):
    sizes = {"eegnet": {"n_times": 64, "second_kernel_size": 1, "pool_size": 1}, "nice-sa": {"n_times": 75}}[name]
    encoder = build_encoder(name, n_chans=1, dim=3, **sizes)
    with pytest.raises(InputError, match="no variance"):
        encoder(torch.randn(1, 1, sizes["n_times"]))
