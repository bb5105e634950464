"""TSConv against a plain network in the published order of layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from brainalign.encoders import build_encoder
from brainalign.encoders._temporal_spatial import box_filter, temporal_spatial, window_moments
from brainalign.encoders.tsconv import TSConv
from brainalign.errors import InputError

SIZES = [
    {"n_chans": 7, "n_times": 250, "dim": 12},
    {"n_chans": 5, "n_times": 200, "dim": 8},
    {"n_chans": 3, "n_times": 75, "dim": 6},
    {"n_chans": 4, "n_times": 63, "dim": 5, "kernel_size": 9, "pool_size": 16, "pool_stride": 3, "n_filters": 6},
    {"n_chans": 1, "n_times": 40, "dim": 5, "kernel_size": 1, "pool_size": 1, "pool_stride": 7, "n_filters": 3},
]


class Published(nn.Module):
    """The layers one after another, as the papers list them."""

    def __init__(self, n_chans, n_times, dim, kernel_size=25, pool_size=51, pool_stride=5, n_filters=40, dropout=0.5):
        super().__init__()
        f = n_filters
        self.convolve = nn.Sequential(
            nn.Conv2d(1, f, (1, kernel_size)),
            nn.AvgPool2d((1, pool_size), (1, pool_stride)),
            nn.BatchNorm2d(f),
            nn.ELU(),
            nn.Conv2d(f, f, (n_chans, 1)),
            nn.BatchNorm2d(f),
            nn.ELU(),
            nn.Dropout(dropout),
            nn.Conv2d(f, f, (1, 1)),
        )
        flat = self.convolve(torch.zeros(2, 1, n_chans, n_times)).numel() // 2
        self.convolve[2].reset_running_stats()
        self.convolve[5].reset_running_stats()
        self.project = nn.Linear(flat, dim)
        self.residual = nn.Sequential(nn.GELU(), nn.Linear(dim, dim), nn.Dropout(dropout))
        self.norm = nn.LayerNorm(dim)

    def forward(self, signals):
        x = self.convolve(signals.unsqueeze(1))  # (n, e, h = 1, w)
        x = self.project(x.permute(0, 2, 3, 1).reshape(len(x), -1))
        return self.norm(x + self.residual(x))


def pair(seed=0, dtype=torch.float32, dropout=0.0, **size):
    """Both networks with the same random weights, BatchNorm's own included."""
    torch.manual_seed(seed)
    plain, fast = Published(**size, dropout=dropout).to(dtype), TSConv(**size, dropout=dropout).to(dtype)
    with torch.no_grad():
        for norm in (plain.convolve[2], plain.convolve[5]):
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_()
        for ours, theirs in zip(fast.parameters(), plain.parameters(), strict=True):
            ours.copy_(theirs)
    return plain, fast


def signals(n, size, seed=1, dtype=torch.float32):
    """Slow waves, noise, an offset: as recordings are."""
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=(n, size["n_chans"], size["n_times"]))
    return torch.as_tensor(np.cumsum(noise, -1) / 8 + noise + 0.5, dtype=dtype)


def assert_near(ours, theirs, tolerance=1e-5):
    """Within `tolerance` of the larger of 1 and the largest expected value."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * max(1.0, float(theirs.detach().abs().max())))


def statistics(norm):
    return norm.running_mean, norm.running_var, norm.num_batches_tracked


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_training_step_equals_published_order(size):
    """In float32, against the published order in float64 (whose own float32 run is up to 1e-4 off)."""
    plain, fast = pair(**size)
    x, weight = signals(16, size), torch.randn(16, size["dim"])
    plain.double()
    expected, got = plain(x.double()), fast(x)
    assert_near(got.double(), expected)
    (expected * weight.double()).sum().backward()
    (got * weight).sum().backward()
    for (name, ours), theirs in zip(fast.named_parameters(), plain.parameters(), strict=True):
        # BatchNorm cancels the bias before it: the gradient is 0, and what is left is rounding alone.
        tolerance = 1e-4 if name in ("temporal.bias", "spatial.bias") else 1e-5
        assert_near(ours.grad.double(), theirs.grad, tolerance)
    for ours, theirs in ((fast.temporal_norm, plain.convolve[2]), (fast.spatial_norm, plain.convolve[5])):
        for a, b in zip(statistics(ours), statistics(theirs), strict=True):
            assert_near(a.to(b.dtype), b)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_evaluation_equals_published_order(size):
    plain, fast = pair(**size)
    for seed in range(3):
        x = signals(16, size, seed)
        plain(x), fast(x)
    plain.eval(), fast.eval()
    x, weight = signals(9, size, 7), torch.randn(9, size["dim"])
    before = [s.clone() for s in statistics(fast.temporal_norm)]
    expected, got = plain(x), fast(x)
    assert_near(got, expected)
    (expected * weight).sum().backward()
    (got * weight).sum().backward()
    for ours, theirs in zip(fast.parameters(), plain.parameters(), strict=True):
        assert_near(ours.grad, theirs.grad)
    assert all(torch.equal(a, b) for a, b in zip(before, statistics(fast.temporal_norm), strict=True))


def test_double_precision_agrees_far_below_single():
    """No approximation hides behind the tolerance of float32; the gradient of the input is there too."""
    size = SIZES[0]
    plain, fast = pair(dtype=torch.float64, **size)
    x = signals(6, size, dtype=torch.float64)
    theirs, ours = x.clone().requires_grad_(), x.clone().requires_grad_()
    weight = torch.randn(6, size["dim"], dtype=torch.float64)
    (plain(theirs) * weight).sum().backward()
    (fast(ours) * weight).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-12)
    for a, b in zip(fast.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=1e-10)


def test_three_steps_of_training_stay_together():
    size = SIZES[1]
    plain, fast = pair(**size)
    x, target = signals(16, size), torch.randn(16, size["dim"])
    prepared = fast.prepare(x)
    for model, given in ((plain, (x,)), (fast, (prepared,))):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        for _ in range(3):
            optimizer.zero_grad()
            out = model(*given) if model is plain else model(*given, prepared=True)
            (out - target).square().mean().backward()
            optimizer.step()
    for ours, theirs in zip(fast.parameters(), plain.parameters(), strict=True):
        assert_near(ours, theirs)


def test_same_number_of_parameters_as_published():
    size = {"n_chans": 63, "n_times": 250, "dim": 768}
    ours = sum(p.numel() for p in TSConv(**size).parameters())
    assert ours == sum(p.numel() for p in Published(**size).parameters())
    # By hand: conv 25*40+40, two norms 80 each, conv 40*40*63+40, conv 40*40+40, 1440 -> 768, 768 -> 768, norm 2*768.
    assert ours == 1040 + 160 + 100840 + 1640 + (1440 * 768 + 768) + (768 * 768 + 768) + 1536


@pytest.mark.parametrize(("n_times", "flat"), [(250, 1440), (200, 1040), (75, 40)])
def test_width_of_the_flat_layer(n_times, flat):
    assert TSConv(n_chans=2, n_times=n_times, dim=4).project.in_features == flat


def test_filter_that_removes_slow_waves_keeps_its_variance():
    """Differences of a smooth signal: the windows' covariance times such a filter nearly cancels."""
    size = {"n_chans": 4, "n_times": 250, "dim": 8}
    plain, fast = pair(**size)
    second_difference = torch.zeros(25)
    second_difference[10:13] = torch.tensor([1.0, -2.0, 1.0])
    for model in (plain.convolve[0], fast.temporal):
        with torch.no_grad():
            model.weight[:] = second_difference
    x = 20 * torch.cumsum(signals(16, size), -1) / 50
    plain.double()(x.double())
    fast(x)
    torch.testing.assert_close(
        fast.temporal_norm.running_var.double(), plain.convolve[2].running_var, rtol=1e-4, atol=0
    )


@pytest.mark.parametrize("size", [1, 2, 3, 16, 51, 64])
def test_box_filter_is_the_moving_average(size):
    x = np.random.default_rng(size).normal(size=(70, 3, 90))
    expected = np.stack([np.convolve(row, np.full(size, 1 / size), "valid") for row in x.reshape(-1, 90)])
    got = box_filter(torch.as_tensor(x, dtype=torch.float32), size)
    np.testing.assert_allclose(got.numpy().reshape(expected.shape), expected, atol=1e-6)


def test_window_moments_match_numpy():
    x = np.random.default_rng(0).normal(loc=3, size=(11, 4, 60))
    windows = np.lib.stride_tricks.sliding_window_view(x, 9, axis=-1)[:, :, ::4].reshape(-1, 9)
    count, mean, covariance = window_moments(torch.as_tensor(x), 9, 4)
    assert count == len(windows)
    np.testing.assert_allclose(mean, windows.mean(0), atol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(windows.T, bias=True), atol=1e-12)


def test_gradients_by_finite_differences():
    torch.manual_seed(0)
    shapes = ((3, 2, 17), (4, 5), (4,), (2, 4, 3))
    inputs = tuple(torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes)
    assert torch.autograd.gradcheck(lambda *a: temporal_spatial(*a, 3), inputs)


def test_bfloat16_autocast_is_near_and_trains():
    size = SIZES[0]
    plain, fast = pair(**size)
    x, weight = signals(16, size), torch.randn(16, size["dim"])
    (plain(x) * weight).sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        out = fast(x)
    (out.float() * weight).sum().backward()
    for ours, theirs in zip(fast.parameters(), plain.parameters(), strict=True):
        assert ours.grad.dtype == torch.float32
        if theirs.grad.abs().max() > 1e-3:  # all but the bias that BatchNorm cancels
            cosine = nn.functional.cosine_similarity(ours.grad.flatten(), theirs.grad.flatten(), 0)
            assert cosine > 0.95


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_equals_cpu():
    size = SIZES[0]
    plain, fast = pair(dtype=torch.float64, **size)
    x = signals(8, size, dtype=torch.float64)
    torch.testing.assert_close(fast.cuda()(x.cuda()).cpu(), plain(x))


def test_dropout_acts_in_training_only():
    size = SIZES[2]
    _, fast = pair(dropout=0.5, **size)
    x = signals(8, size)
    assert not torch.equal(fast(x), fast(x))
    fast.eval()
    assert torch.equal(fast(x), fast(x))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n_times": 74}, "needs at least 75 samples"),
        ({"n_times": 29, "kernel_size": 10, "pool_size": 21}, "needs at least 30 samples"),
        ({"dropout": 1.0}, "dropout 1.0"),
        ({"dropout": -0.1}, "dropout -0.1"),
        ({"pool_stride": 0}, "pool_stride 0"),
        ({"kernel_size": 2.5}, "kernel_size 2.5"),
        ({"n_filters": 0}, "n_filters 0"),
        ({"n_chans": 0}, "n_chans 0"),
    ],
)
def test_impossible_options_are_refused(options, said):
    with pytest.raises(InputError, match=said):
        build_encoder("tsconv", **{"n_chans": 4, "n_times": 250, "dim": 8} | options)
