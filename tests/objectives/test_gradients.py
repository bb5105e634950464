"""Gradient norms against separate full backward passes; the shared pass against the plain weighted sum."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from brainalign.errors import InputError
from brainalign.objectives import (
    DynamicLossAdjustment,
    InfoNCE,
    balanced_backward,
    gradient_norms,
    info_nce,
    semantic_guidance_loss,
)


class Towers(nn.Module):
    """A small network with an encoder before the brain projector, and a learned temperature."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Linear(6, 9), nn.GELU())
        self.brain, self.image, self.text = nn.Linear(9, 4), nn.Linear(5, 4), nn.Linear(7, 4)
        self.objective = InfoNCE(scale_mode="learned")
        self.double()

    def embeddings(self, n=8, seed=1):
        torch.manual_seed(seed)
        signals, images, texts = (torch.randn(n, width, dtype=torch.float64) for width in (6, 5, 7))
        return [self.brain(self.encoder(signals)), self.image(images), self.text(texts)]

    def losses(self, brain, image, text):
        return [
            self.objective(brain, image),
            info_nce(image, text, scale=self.objective.scale),
            semantic_guidance_loss(brain, image, text, 0.3),
        ]

    @property
    def measured(self):
        brain = list(self.brain.parameters())
        return [brain, [*self.image.parameters(), *self.text.parameters()], brain]


def separate(towers, chosen):
    """Norms from one full backward pass a loss, on a graph of its own."""
    norms = []
    for k, parameters in enumerate(chosen(towers)):
        towers.zero_grad()
        towers.losses(*towers.embeddings())[k].backward()
        grads = [p.grad.numpy().ravel() for p in parameters if p.grad is not None]
        norms.append(np.linalg.norm(np.concatenate(grads)) if grads else 0.0)
    towers.zero_grad()
    return norms


def plain(towers, weights):
    """Gradients of the weighted sum in one ordinary backward pass."""
    twin = copy.deepcopy(towers)
    sum(w * loss for w, loss in zip(weights, twin.losses(*twin.embeddings()), strict=True)).backward()
    return {name: p.grad for name, p in twin.named_parameters()}


def same(towers, expected):
    for name, parameter in towers.named_parameters():
        if expected[name] is None:
            assert parameter.grad is None, name
        else:
            torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-10, atol=1e-14, msg=name)


def test_norms_are_those_of_separate_passes():
    towers = Towers()
    expected = separate(towers, lambda t: t.measured)
    losses = towers.losses(*towers.embeddings())
    np.testing.assert_allclose(gradient_norms(losses, towers.measured), expected, rtol=1e-12)
    assert all(p.grad is None for p in towers.parameters())
    sum(losses).backward()  # the graph is still there
    same(towers, plain(towers, [1, 1, 1]))


def test_by_hand():
    """w = (3, 4): the gradient of w1^2 + w2^2 is (6, 8); of 2 w1, (2, 0); together with v on 5v: sqrt(4 + 25)."""
    w, v = nn.Parameter(torch.tensor([3.0, 4.0])), nn.Parameter(torch.tensor(1.0))
    losses = [(w**2).sum(), 2 * w[0], 2 * w[0] + 5 * v]
    np.testing.assert_allclose(gradient_norms(losses, [[w], [w], [w, v]]), [10, 2, 29**0.5], rtol=1e-6)


def test_what_a_loss_does_not_depend_on_counts_nothing():
    w, v, frozen = (nn.Parameter(torch.ones(2)) for _ in range(3))
    frozen.requires_grad_(False)
    losses = [w.sum(), w.sum(), torch.tensor(3.0), w.sum(), (w * frozen).sum()]
    norms = gradient_norms(losses, [[w, v], [v], [w], [], [w, frozen]])
    np.testing.assert_allclose(norms, [2**0.5, 0, 0, 0, 2**0.5], rtol=1e-6)
    balanced = balanced_backward(losses, [], [[w, v], [v], [w], [], [w, frozen]], lambda norms: norms)
    torch.testing.assert_close(balanced, norms)


def test_the_encoder_is_not_entered():
    """Norms on the projector walk no further: a tensor below it sees no gradient."""
    towers, entered = Towers(), []
    hidden = towers.encoder(torch.randn(8, 6, dtype=torch.float64))
    hidden.register_hook(entered.append)
    _, image, text = towers.embeddings()
    losses = towers.losses(towers.brain(hidden), image, text)
    gradient_norms(losses, towers.measured)
    assert entered == []
    sum(losses).backward()
    assert len(entered) == 1


def test_the_shared_pass_is_the_plain_one():
    towers = Towers()
    norms = torch.tensor(separate(towers, lambda t: t.measured))
    weights = DynamicLossAdjustment().weights(norms)
    dla, seen = DynamicLossAdjustment(), []
    embeddings = towers.embeddings()

    def weigh(measured):
        seen.append(measured)
        return dla.weights(measured)

    got = balanced_backward(towers.losses(*embeddings), embeddings, towers.measured, weigh)
    torch.testing.assert_close(seen[0], norms, rtol=1e-10, atol=0)
    torch.testing.assert_close(got, weights, rtol=1e-8, atol=0)
    same(towers, plain(towers, weights))
    assert towers.objective.raw.grad is not None and towers.objective.raw.grad != 0


def test_the_shared_pass_goes_through_losses_and_encoder_once():
    towers, passes = Towers(), {"encoder": 0, "similarity": 0}

    def counted(x, name):
        def hook(gradient):
            passes[name] += 1

        x.register_hook(hook)
        return x

    torch.manual_seed(1)
    hidden = counted(towers.encoder(torch.randn(8, 6, dtype=torch.float64)), "encoder")
    _, image, text = towers.embeddings()
    brain = towers.brain(hidden)
    unit = counted(brain * 1.0, "similarity")  # between the embedding and its loss
    losses = [towers.objective(unit, image), info_nce(image, text, scale=5.0)]
    balanced_backward(losses, [brain, image, text], towers.measured[:2], lambda norms: norms / norms.sum())
    assert passes == {"encoder": 1, "similarity": 1}


def test_gradients_add_to_those_that_are_there():
    towers = Towers()
    expected = plain(towers, [0.5, 0.25, 0.25])
    for p in towers.parameters():
        p.grad = torch.ones_like(p)
    embeddings = towers.embeddings()
    share = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    balanced_backward(towers.losses(*embeddings), embeddings, towers.measured, lambda norms: share)
    same(towers, {name: g + 1 for name, g in expected.items()})


@pytest.mark.parametrize("listed", [[], [0], [0, 1], [2], [0, 1, 2, 0]])
def test_missing_and_repeated_embeddings_change_nothing(listed):
    towers = Towers()
    expected = plain(towers, [0.2, 0.5, 0.3])
    norms = separate(towers, lambda t: t.measured)
    embeddings, seen = towers.embeddings(), []

    def weigh(measured):
        seen.append(measured)
        return torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)

    balanced_backward(towers.losses(*embeddings), [embeddings[i] for i in listed], towers.measured, weigh)
    np.testing.assert_allclose(seen[0], norms, rtol=1e-10)
    same(towers, expected)


def second_view(towers):
    """Another pass through the same tower that is not listed."""
    brain, image, _ = towers.embeddings()
    return [info_nce(brain, towers.embeddings(seed=5)[0], scale=3.0), info_nce(brain, image, scale=3.0)], [brain, image]


def made_from_another(towers):
    """Both listed; what reaches the first goes partly through the second."""
    brain, image, _ = towers.embeddings()
    made = torch.tanh(brain)
    return [info_nce(made, image, scale=3.0), brain.pow(2).mean()], [made, image, brain]


def penalty(towers):
    """A loss on weights that also lie below an embedding."""
    brain, image, _ = towers.embeddings()
    return [info_nce(brain, image, scale=3.0), towers.encoder[0].weight.pow(2).sum()], [brain, image]


@pytest.mark.parametrize("build", [second_view, made_from_another, penalty])
def test_ways_around_the_embeddings_are_not_lost_nor_counted_twice(build):
    towers, share, seen = Towers(), torch.tensor([0.6, 0.4], dtype=torch.float64), []
    twin = copy.deepcopy(towers)
    chosen = [list(part.brain.parameters()) for part in (towers, twin) for _ in range(2)]
    expected = gradient_norms(build(twin)[0], chosen[2:])
    sum(w * loss for w, loss in zip(share, build(twin)[0], strict=True)).backward()
    losses, listed = build(towers)
    balanced_backward(losses, listed, chosen[:2], lambda norms: seen.append(norms) or share)
    torch.testing.assert_close(seen[0], expected, rtol=1e-10, atol=0)
    same(towers, {name: p.grad for name, p in twin.named_parameters()})


def test_a_loss_that_is_a_parameter():
    w, v = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(3.0))
    balanced_backward([w, v**2], [], [[w], [v]], lambda norms: torch.tensor([1.0, 10.0]))
    assert (w.grad, v.grad) == (1, 10 * 6)


def test_parameters_beside_the_embeddings_can_be_measured():
    """The learned temperature as theta."""
    towers = Towers()

    def chosen(t):
        return [[t.objective.raw, *t.brain.parameters()], [t.objective.raw], list(t.brain.parameters())]

    expected = separate(towers, chosen)
    embeddings, seen = towers.embeddings(), []
    balanced_backward(towers.losses(*embeddings), embeddings, chosen(towers), lambda g: seen.append(g) or g)
    np.testing.assert_allclose(seen[0], expected, rtol=1e-10)


@pytest.mark.parametrize("n", [1, 2])
def test_no_gradient_to_speak_of(n):
    """A batch of one has no gradient: equal weights, gradients of 0; equal rows stay finite."""
    towers = Towers()
    embeddings = towers.embeddings(n=n)
    if n == 2:
        embeddings = [embedding[:1].expand(2, -1) for embedding in embeddings]
    weights = balanced_backward(
        towers.losses(*embeddings), embeddings, towers.measured, DynamicLossAdjustment().weights
    )
    torch.testing.assert_close(weights, torch.full((3,), 1 / 3, dtype=torch.float64), atol=1e-6, rtol=0)
    assert all(float(p.grad.abs().max()) < 1e-12 for p in towers.parameters() if p.grad is not None)


def test_half_precision_norms_do_not_overflow():
    """Gradients of 300: their squares are beyond float16."""
    w = nn.Parameter(torch.ones(4, dtype=torch.float16))
    assert gradient_norms([(300 * w).sum()], [[w]]).tolist() == [600.0]


@pytest.mark.parametrize("walk", [gradient_norms, lambda a, b: balanced_backward(a, [], b, lambda norms: norms)])
def test_one_list_a_loss(walk):
    w = nn.Parameter(torch.ones(2))
    for losses, parameters in (([w.sum()], []), ([], [])):
        with pytest.raises(InputError, match="one list a loss"):
            walk(losses, parameters)
