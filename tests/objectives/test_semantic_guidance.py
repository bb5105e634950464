"""Semantic guidance against its equations in numpy, scipy's relative entropy and numbers by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.special import rel_entr
from scipy.stats import entropy

from brainalign.errors import InputError
from brainalign.objectives import SemanticGuidance, semantic_guidance_loss

WAYS = list(itertools.product(["reverse", "forward"], ["keep", "mask", "literal"]))
every_way = pytest.mark.parametrize(("direction", "diagonal"), WAYS)


def batch(n=6, dim=4, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.normal(size=(n, dim)) for _ in range(3)]


def tensors(arrays, grad=False):
    return [torch.tensor(x, dtype=torch.float64, requires_grad=grad) for x in arrays]


def probabilities(a, b, temperature, diagonal):
    """Rows of eq. 4 or 5, entry by entry; the diagonal as `diagonal` asks, nan where it is left out."""
    a, b = (x / np.sqrt((x**2).sum(1, keepdims=True)) for x in (a, b))
    n = len(a)
    p = np.empty((n, n))
    for i in range(n):
        powers = [math.exp(float(a[i] @ b[j]) / temperature) for j in range(n)]
        for j in range(n):
            p[i, j] = powers[j] / sum(power for m, power in enumerate(powers) if diagonal != "mask" or m != i)
        if diagonal != "keep":
            p[i, i] = 1.0 if diagonal == "literal" else np.nan
    return p


def equation(brain, image, text, temperature=0.07, direction="reverse", diagonal="keep"):
    p, q = probabilities(image, text, temperature, diagonal), probabilities(brain, image, temperature, diagonal)
    first, second = (q, p) if direction == "reverse" else (p, q)
    return np.nansum(first * np.log(first / second)) / len(p)


@every_way
@pytest.mark.parametrize("temperature", [0.07, 0.5])
@pytest.mark.parametrize("n", [2, 3, 6])
def test_equals_the_equations(n, temperature, direction, diagonal):
    arrays = batch(n)
    got = semantic_guidance_loss(*tensors(arrays), temperature, direction, diagonal)
    np.testing.assert_allclose(got, equation(*arrays, temperature, direction, diagonal), rtol=1e-9, atol=1e-14)


def test_directions_against_scipy():
    brain, image, text = batch()
    p, q = probabilities(image, text, 0.3, "keep"), probabilities(brain, image, 0.3, "keep")
    reverse = semantic_guidance_loss(*tensors([brain, image, text]), 0.3)
    forward = semantic_guidance_loss(*tensors([brain, image, text]), 0.3, "forward")
    np.testing.assert_allclose(reverse, rel_entr(q, p).sum(1).mean(), rtol=1e-10)
    np.testing.assert_allclose(forward, entropy(p, q, axis=1).mean(), rtol=1e-10)
    assert abs(float(reverse) - float(forward)) > 1e-3


def test_two_pairs_by_hand():
    """Brain (1, 0), (0, 3); image (0, 2), (1, 0): cosines brain-image [[0, 1], [1, 0]]; temperature 1, s = 1 / (1 + e).

    Q = [[s, 1 - s], [1 - s, s]]. Text (0, 1), (5, 0): cosines image-text [[1, 0], [0, 1]], so
    P = [[1 - s, s], [s, 1 - s]].
    Reverse: s log(s / (1 - s)) + (1 - s) log((1 - s) / s) = -s + 1 - s = 1 - 2s, and forward the same by symmetry.
    Without the pair itself one entry is left, sure in both: 0. Literal: the off-diagonal term of each row,
    Q log(Q / P) = (1 - s) * 1, and forward P log(P / Q) = -s: below 0.
    """
    brain, image, text = tensors([[[1, 0], [0, 3]], [[0, 2], [1, 0]], [[0, 1], [5, 0]]])
    s = 1 / (1 + math.e)
    by_hand = {
        ("reverse", "keep"): 1 - 2 * s,
        ("forward", "keep"): 1 - 2 * s,
        ("reverse", "mask"): 0,
        ("forward", "mask"): 0,
        ("reverse", "literal"): 1 - s,
        ("forward", "literal"): -s,
    }
    for (direction, diagonal), expected in by_hand.items():
        got = float(semantic_guidance_loss(brain, image, text, 1.0, direction, diagonal))
        assert got == pytest.approx(expected, rel=1e-9, abs=1e-12), (direction, diagonal)


def test_three_pairs_by_hand():
    """Axes as images; every brain lies across all three, so Q is 1/3 throughout; texts are the images.

    Temperature 1 / log 2: P has weights 2 on the diagonal and 1 elsewhere, so 1/2, 1/4, 1/4.
    Reverse: log(1/3) - (log 1/2 + 2 log 1/4) / 3 = (5 log 2) / 3 - log 3 = .0566330. Forward: log 3 - 1.5 log 2 =
    .0588915. Masked: 1/2, 1/2 in both. Literal reverse: 2 * 1/3 * log(4/3) = .1917880; forward: 2 * 1/4 * log(3/4) =
    -.1438410.
    """
    brain, image, text = tensors([np.ones((3, 3)), 4 * np.eye(3), 0.1 * np.eye(3)])
    by_hand = {
        ("reverse", "keep"): 0.0566330,
        ("forward", "keep"): 0.0588915,
        ("reverse", "mask"): 0,
        ("reverse", "literal"): 0.1917880,
        ("forward", "literal"): -0.1438410,
    }
    for (direction, diagonal), expected in by_hand.items():
        got = float(semantic_guidance_loss(brain, image, text, 1 / math.log(2), direction, diagonal))
        assert got == pytest.approx(expected, rel=1e-6, abs=1e-9), (direction, diagonal)


def test_a_student_that_is_its_teacher_pays_nothing():
    """Brain = image and text = image: Q and P are the same matrix."""
    (_, image, _) = tensors(batch())
    for direction, diagonal in WAYS:
        assert float(semantic_guidance_loss(image, image, image, 0.07, direction, diagonal)) == pytest.approx(0)


@every_way
def test_gradients_by_finite_differences(direction, diagonal):
    brain, image, text = tensors(batch(4, 3), grad=True)

    def loss(b, i, t):
        return semantic_guidance_loss(b, i, t, 0.4, direction, diagonal, detach_teacher=False)

    assert torch.autograd.gradcheck(loss, (brain, image, text))


@every_way
def test_a_detached_teacher_is_a_constant(direction, diagonal):
    """Image learns through Q alone: the gradient is that with the teacher's image replaced by a copy."""
    arrays = batch(5)
    brain, image, text = tensors(arrays, grad=True)
    semantic_guidance_loss(brain, image, text, 0.3, direction, diagonal).backward()
    assert text.grad is None
    constant, step = torch.tensor(probabilities(arrays[1], arrays[2], 0.3, diagonal)), 1e-6
    rng = np.random.default_rng(1)
    for place, grad in ((0, brain.grad), (1, image.grad)):
        way = rng.normal(size=arrays[0].shape)
        values = []
        for sign in (1, -1):
            moved = [a + sign * step * way if k == place else a for k, a in enumerate(arrays)]
            q = probabilities(moved[0], moved[1], 0.3, diagonal)
            first, second = (q, constant.numpy()) if direction == "reverse" else (constant.numpy(), q)
            values.append(np.nansum(first * np.log(first / second)) / 5)
        slope = (values[0] - values[1]) / (2 * step)
        assert float((grad * torch.tensor(way)).sum()) == pytest.approx(slope, rel=1e-5, abs=1e-8)


def test_an_attached_teacher_learns():
    brain, image, text = tensors(batch(), grad=True)
    semantic_guidance_loss(brain, image, text, detach_teacher=False).backward()
    assert text.grad.abs().max() > 0


@every_way
@pytest.mark.parametrize("detach", [True, False])
def test_a_batch_of_one_costs_nothing(direction, diagonal, detach):
    parts = tensors(batch(1), grad=True)
    loss = semantic_guidance_loss(*parts, 0.07, direction, diagonal, detach)
    assert loss.item() == 0
    loss.backward()
    for part in parts[:2]:
        assert torch.equal(part.grad, torch.zeros_like(part))


@every_way
def test_constant_embeddings_cost_nothing(direction, diagonal):
    """All rows alike: both distributions are flat, and neither moves."""
    parts = tensors([np.ones((5, 3))] * 3, grad=True)
    loss = semantic_guidance_loss(*parts, 0.07, direction, diagonal, detach_teacher=False)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert all(bool(torch.isfinite(part.grad).all()) for part in parts)
    if diagonal != "literal":  # whose minimum is not at Q = P
        assert all(float(part.grad.abs().max()) < 1e-12 for part in parts)


@every_way
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_cold_softmax_stays_finite(direction, diagonal, kind):
    """Logits of +-1000 underflow as probabilities, not as logarithms."""
    brain, image, text = (x.to(kind).requires_grad_() for x in tensors(batch(4)))
    loss = semantic_guidance_loss(brain, image, text, 1e-3, direction, diagonal, detach_teacher=False)
    loss.backward()
    assert math.isfinite(loss.item())
    assert all(bool(torch.isfinite(x.grad).all()) for x in (brain, image, text))


def test_zero_rows_stay_finite():
    brain, image, text = tensors([np.zeros((3, 4)), *batch(3)[:2]], grad=True)
    loss = semantic_guidance_loss(brain, image, text)
    loss.backward()
    assert math.isfinite(loss.item()) and bool(torch.isfinite(brain.grad).all())


def test_only_directions_count():
    arrays = batch()
    longer = [k * x for k, x in zip((0.01, 30, 7), arrays, strict=True)]
    torch.testing.assert_close(semantic_guidance_loss(*tensors(arrays)), semantic_guidance_loss(*tensors(longer)))


@every_way
def test_leading_axes_are_batches(direction, diagonal):
    batches = [batch(seed=seed) for seed in range(3)]
    stacked = [torch.tensor(np.stack(parts)) for parts in zip(*batches, strict=True)]
    got = SemanticGuidance(direction=direction, diagonal=diagonal)(*stacked)
    expected = [equation(*arrays, 0.07, direction, diagonal) for arrays in batches]
    np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_the_class_passes_its_options():
    arrays = batch()
    given = {"temperature": 0.2, "direction": "forward", "diagonal": "mask"}
    guidance = SemanticGuidance(**given, detach_teacher=False)
    assert not list(guidance.parameters())
    brain, image, text = tensors(arrays, grad=True)
    loss = guidance(brain, image, text)
    loss.backward()
    np.testing.assert_allclose(loss.item(), equation(*arrays, **given), rtol=1e-9)
    assert text.grad is not None


def test_training_brings_the_student_to_the_teacher():
    _, image, text = tensors(batch(8, 16, seed=3))
    brain = torch.randn(8, 16, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    optimizer = torch.optim.Adam([brain], lr=0.05)
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        losses.append(semantic_guidance_loss(brain, image, text, 0.3))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1].item() < 0.05 * losses[0].item()


@pytest.mark.parametrize(
    "shapes",
    [((3, 4), (3, 4), (3, 5)), ((3, 4), (2, 4), (3, 4)), ((3,),) * 3, ((0, 4),) * 3, ((2, 3, 4), (3, 4), (3, 4))],
)
def test_other_shapes_are_refused(shapes):
    with pytest.raises(InputError, match="semantic guidance needs n rows of each"):
        semantic_guidance_loss(*(torch.ones(shape) for shape in shapes))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature 0.0"),
        ({"temperature": math.nan}, "temperature nan"),
        ({"direction": "revers"}, "did you mean 'reverse'"),
        ({"diagonal": "masked"}, "did you mean 'mask'"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        SemanticGuidance(**options)
    with pytest.raises(InputError, match=message):
        semantic_guidance_loss(*tensors(batch()), **options)
