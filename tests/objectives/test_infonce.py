"""InfoNCE against its equation, torch's cross-entropy and numbers by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from brainalign.errors import InputError
from brainalign.objectives import InfoNCE, info_nce


def batch(n=7, dim=5, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, dim)), generator.normal(size=(n, dim))


def equation(brain, image, scale, normalize_brain=True, symmetric=True):
    """Mean of minus the log-probability of the partner, pair by pair."""
    image = image / np.linalg.norm(image, axis=1, keepdims=True)
    if normalize_brain:
        brain = brain / np.linalg.norm(brain, axis=1, keepdims=True)
    s = scale * brain @ image.T
    by_row = [-math.log(math.exp(s[i, i]) / sum(math.exp(v) for v in s[i])) for i in range(len(s))]
    by_column = [-math.log(math.exp(s[i, i]) / sum(math.exp(v) for v in s[:, i])) for i in range(len(s))]
    return (np.mean(by_row) + np.mean(by_column)) / 2 if symmetric else np.mean(by_row)


@pytest.mark.parametrize("normalize_brain", [True, False])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("scale", [1.0, 14.3])
def test_equals_the_equation(scale, normalize_brain, symmetric):
    brain, image = batch()
    options = {"scale": scale, "normalize_brain": normalize_brain, "symmetric": symmetric}
    got = info_nce(torch.as_tensor(brain), torch.as_tensor(image), **options)
    np.testing.assert_allclose(got, equation(brain, image, **options), rtol=1e-12)


def test_equals_cross_entropy_of_cosines():
    brain, image = map(torch.as_tensor, batch(seed=1))
    logits = torch.nn.CosineSimilarity(dim=2)(brain[:, None], image[None]) / 0.07
    both = [torch.nn.CrossEntropyLoss()(part, torch.arange(7)) for part in (logits, logits.T)]
    loss = InfoNCE(temperature=0.07)(brain, image)
    torch.testing.assert_close(loss, sum(both) / 2, rtol=1e-6, atol=0)


def test_two_pairs_by_hand():
    """Brain (3, 0), (0, 2); image (0, 1) for the first, (5, 0) for the second: every pair is the wrong one.

    Cosines [[0, 1], [1, 0]], scale 2: each row and column gives log(1 + e^2). Without the brain's norm the rows of S
    are (0, 6) and (4, 0), so rows give log(1 + e^6) and log(1 + e^4) and columns log(1 + e^4) and log(1 + e^6).
    """
    brain, image = torch.tensor([[3.0, 0], [0, 2]]), torch.tensor([[0, 1.0], [5, 0]])
    assert float(info_nce(brain, image, scale=2.0)) == pytest.approx(math.log1p(math.exp(2)))
    by_hand = (math.log1p(math.exp(6)) + math.log1p(math.exp(4))) / 2
    assert float(info_nce(brain, image, scale=2.0, normalize_brain=False)) == pytest.approx(by_hand)


def test_one_direction_is_from_brain_to_image():
    """Both brains point at the first image: rows give log(1 + e^-1) and log(1 + e), columns log 2 each."""
    brain, image = torch.tensor([[1.0, 0], [1, 0]]), torch.eye(2)
    rows = (math.log1p(math.exp(-1)) + math.log1p(math.e)) / 2
    assert float(info_nce(brain, image, scale=1.0, symmetric=False)) == pytest.approx(rows)
    assert float(info_nce(brain, image, scale=1.0)) == pytest.approx((rows + math.log(2)) / 2)


def test_one_pair_costs_nothing():
    assert float(info_nce(torch.ones(1, 3), torch.ones(1, 3), scale=5.0)) == 0


@pytest.mark.parametrize("normalize_brain", [True, False])
@pytest.mark.parametrize("symmetric", [True, False])
def test_gradients_by_finite_differences(normalize_brain, symmetric):
    brain, image = (torch.as_tensor(x).requires_grad_() for x in batch(4, 3))
    scale = torch.tensor(2.5, dtype=torch.float64, requires_grad=True)

    def loss(b, i, s):
        return info_nce(b, i, scale=s, normalize_brain=normalize_brain, symmetric=symmetric)

    assert torch.autograd.gradcheck(loss, (brain, image, scale))


@pytest.mark.parametrize(
    ("mode", "expected", "trained"),
    [("fixed", 1 / 0.07, False), ("learned", 1 / 0.07, True), ("softplus", math.log(1 + 1 / 0.07), True)],
)
def test_scale_at_the_start(mode, expected, trained):
    objective = InfoNCE(scale_mode=mode, temperature=0.07)
    assert objective.scale.item() == pytest.approx(expected, rel=1e-6)
    assert [p.requires_grad for p in objective.parameters()] == [trained]
    brain, image = (torch.as_tensor(x, dtype=torch.float32).requires_grad_() for x in batch())
    loss = objective(brain, image)
    assert loss.item() == pytest.approx(equation(*batch(), expected), rel=1e-5)
    loss.backward()
    assert (objective.raw.grad is not None) == trained


def test_softplus_scale_is_that_of_the_published_runs():
    """UBP and NeuroBridge: softplus(ln(1 / 0.07)) = softplus(2.659) = 2.727."""
    assert float(InfoNCE(scale_mode="softplus", temperature=0.07).scale) == pytest.approx(2.727, abs=5e-4)


def test_effective_scale_without_brain_norm():
    """Rows of norm sqrt(1024) = 32 act as unit rows with a scale 32 times larger."""
    brain, image = map(torch.as_tensor, batch(5, 1024))
    brain = 32 * torch.nn.functional.normalize(brain, dim=1)
    torch.testing.assert_close(
        info_nce(brain, image, scale=2.727, normalize_brain=False), info_nce(brain, image, scale=2.727 * 32)
    )


def test_learned_scale_stops_at_100():
    objective = InfoNCE(scale_mode="learned")
    with torch.no_grad():
        objective.raw.fill_(math.log(250))
    assert float(objective.scale) == pytest.approx(100, rel=1e-6)
    assert float(objective.scale) <= 100
    objective.eval()
    with torch.no_grad():
        objective.raw.fill_(math.log(250))
    assert float(objective.scale) == 100
    assert float(InfoNCE(temperature=0.004).scale) == pytest.approx(250)


@pytest.mark.parametrize("use", ["loss", "scale"])
def test_a_learned_scale_at_its_bound_goes_down_where_the_gradient_says_so_and_never_above_100(use):
    """Every pair is the wrong one, so a smaller scale costs less; with the right pairs a larger one does."""
    objective, wrong, right = InfoNCE(scale_mode="learned", temperature=0.01), torch.eye(4).flip(0), torch.eye(4)
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.01)

    def step(image):
        optimizer.zero_grad()
        loss = objective(torch.eye(4), image) if use == "loss" else info_nce(torch.eye(4), image, scale=objective.scale)
        loss.backward()
        optimizer.step()
        return float(objective.scale.detach())

    with torch.no_grad():
        objective.raw.add_(1)  # a step of the optimiser may go past the bound
    assert step(wrong) < 50
    with torch.no_grad():
        objective.raw.fill_(10)
    assert all(step(0.9 * right + 0.1) <= 100 for _ in range(3))


def test_training_moves_the_learned_scale_the_right_way():
    """Perfect pairs get cheaper the larger the scale."""
    for mode in ("learned", "softplus"):
        objective = InfoNCE(scale_mode=mode)
        objective(torch.eye(4), torch.eye(4)).backward()
        assert objective.raw.grad < 0


@pytest.mark.parametrize("shapes", [((3, 4), (3, 5)), ((3, 4), (2, 4)), ((3,), (3,)), ((0, 4), (0, 4))])
def test_no_pairs_are_refused(shapes):
    with pytest.raises(InputError, match="InfoNCE needs n pairs"):
        info_nce(torch.ones(shapes[0]), torch.ones(shapes[1]), scale=1.0)


@pytest.mark.parametrize("temperature", [0, -1.0, math.inf, math.nan])
def test_impossible_temperatures_are_refused(temperature):
    with pytest.raises(InputError, match="temperature"):
        InfoNCE(temperature=temperature)


def test_unknown_scale_modes_are_refused():
    with pytest.raises(InputError, match="did you mean 'learned'"):
        InfoNCE(scale_mode="learnt")
