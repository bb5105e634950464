"""Gradient norms of several losses on chosen parameters, and one backward pass that yields them on its way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from brainalign.errors import InputError

Weigh = Callable[[Tensor], Tensor]
Edge = tuple[Any, int]  # a node of autograd's graph and the number of its output


def gradient_norms(losses: Sequence[Tensor], parameters: Sequence[Sequence[nn.Parameter]]) -> Tensor:
    """L2 norm of each loss's gradient on its own parameters.

    Only the part of the graph between a loss and its parameters is walked: with projectors that stand after an encoder
    the encoder is not entered. Graphs are kept for the backward pass that follows, and no ``.grad`` is touched.

    Parameters
    ----------
    losses : sequence of Tensor of shape ()
    parameters : sequence of sequences of nn.Parameter
        For each loss the parameters that its gradient is measured on (theta of NeuroAlign, eq. 9).

    Returns
    -------
    Tensor of shape (k,)
        0 where a loss does not depend on its parameters.

    Raises
    ------
    InputError
        If there are not as many lists of parameters as losses, or none at all.

    Examples
    --------
    >>> w = nn.Parameter(torch.tensor([3.0, 4.0]))
    >>> gradient_norms([(w**2).sum(), w[0] * 5], [[w], [w]])
    tensor([10.,  5.])
    """
    _check(losses, parameters)
    found = [_norm(_gradients([loss], list(chosen)), loss) for loss, chosen in zip(losses, parameters, strict=True)]
    return torch.stack(found)


def balanced_backward(
    losses: Sequence[Tensor],
    embeddings: Sequence[Tensor],
    parameters: Sequence[Sequence[nn.Parameter]],
    weigh: Weigh,
) -> Tensor:
    r"""Backward of a weighted sum of losses whose weights follow from the gradient norms.

    The same as ``weights = weigh(gradient_norms(losses, parameters))`` and then ``sum(w * l).backward()``, but the
    n x n similarities between losses and embeddings are gone through once, not twice: a loss's gradients at the
    embeddings give its norm on the projectors below them, and, weighted and added up, start the backward pass through
    the rest.

    Parameters
    ----------
    losses : sequence of Tensor of shape ()
    embeddings : sequence of Tensor
        Outputs of the projectors, through which losses depend on the network. What losses depend on besides (a learned
        temperature) is found in the graph. Where a loss also goes around the embeddings (one of them is missing, or
        made from another), everything is still right, but computed the long way.
    parameters : sequence of sequences of nn.Parameter
        For each loss the parameters that its gradient is measured on.
    weigh : callable
        Norms of shape (k,) to weights of shape (k,), such as `DynamicLossAdjustment.weights`.

    Returns
    -------
    Tensor of shape (k,)
        The weights. Gradients are added to ``.grad`` of all leaves, as `torch.Tensor.backward` does.

    Raises
    ------
    InputError
        If there are not as many lists of parameters as losses, or none at all.

    Examples
    --------
    >>> x, w = torch.tensor([1.0, 2.0]), nn.Parameter(torch.tensor([3.0, 4.0]))
    >>> y = x * w
    >>> balanced_backward([y.sum(), (y**2).sum()], [y], [[w], [w]], lambda norms: norms / norms.sum())
    tensor([0.0643, 0.9357])
    >>> w.grad  # .0643 (1, 2) + .9357 (2 * 3 * 1, 2 * 8 * 2)
    tensor([ 5.6787, 30.0720])
    """
    _check(losses, parameters)
    cut = [e for e in {id(e): e for e in embeddings}.values() if e.grad_fn is not None]
    beside = _leaves_beside(losses, cut)
    if beside is None:
        weights = weigh(gradient_norms(losses, parameters)).detach()
        _backward(losses, [weight.to(loss.dtype) for loss, weight in zip(losses, weights.unbind(), strict=True)])
        return weights
    inputs = [*cut, *beside]
    pulled = [_gradients([loss], inputs) for loss in losses]
    norms = [_norm_below(inputs, grads, list(chosen), loss)
             for grads, chosen, loss in zip(pulled, parameters, losses, strict=True)]  # fmt: skip
    weights = weigh(torch.stack(norms)).detach()
    _backward(inputs, [_weighted(at, weights) for at in zip(*pulled, strict=True)])
    return weights


def _check(losses: Sequence[Tensor], parameters: Sequence[Sequence[nn.Parameter]]) -> None:
    if not losses or len(losses) != len(parameters):
        raise InputError(f"{len(losses)} losses with {len(parameters)} lists of parameters; give one list a loss")


def _gradients(
    roots: Sequence[Tensor], inputs: Sequence[Tensor], above: Sequence[Tensor] | None = None
) -> list[Tensor | None]:
    """Gradients at `inputs`, None where the roots do not depend on one, or it is frozen."""
    trained = [x for x in inputs if x.requires_grad]
    found: dict[int, Tensor | None] = {}
    if trained and any(root.requires_grad for root in roots):
        pulled = torch.autograd.grad(roots, trained, above, retain_graph=True, allow_unused=True)
        found = {id(x): g for x, g in zip(trained, pulled, strict=True)}
    return [found.get(id(x)) for x in inputs]


def _norm(gradients: Iterable[Tensor | None], like: Tensor) -> Tensor:
    """L2 norm over all gradients, shape (); squares of half precision are added up in float32."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    parts = [torch.linalg.vector_norm(g, dtype=dtype).to(dtype) for g in gradients if g is not None]
    return torch.linalg.vector_norm(torch.stack(parts)) if parts else torch.zeros((), dtype=dtype, device=like.device)


def _norm_below(
    inputs: Sequence[Tensor], gradients: Sequence[Tensor | None], chosen: Sequence[nn.Parameter], loss: Tensor
) -> Tensor:
    """Norm on `chosen` of a loss with these `gradients` at `inputs`: embeddings, and parameters beside them."""
    at = {id(x): g for x, g in zip(inputs, gradients, strict=True)}
    below = [p for p in chosen if id(p) not in at]
    roots = [(x, g) for x, g in zip(inputs, gradients, strict=True) if g is not None and x.grad_fn is not None]
    found = _gradients([x for x, _ in roots], below, [g for _, g in roots])
    return _norm([*found, *(at[id(p)] for p in chosen if id(p) in at)], loss)


def _weighted(gradients: Sequence[Tensor | None], weights: Tensor) -> Tensor | None:
    """Sum of what the losses bring, each with its weight; None if none brings anything."""
    total: Tensor | None = None
    for gradient, weight in zip(gradients, weights.unbind(), strict=True):
        if gradient is not None:
            share = gradient * weight
            total = share if total is None else total.add_(share)
    return total


def _backward(roots: Sequence[Tensor], above: Sequence[Tensor | None]) -> None:
    """Accumulate gradients at all leaves."""
    kept = [(root, g) for root, g in zip(roots, above, strict=True) if g is not None and root.requires_grad]
    if kept:
        torch.autograd.backward([root for root, _ in kept], [g for _, g in kept])


def _leaves_beside(losses: Sequence[Tensor], cut: Sequence[Tensor]) -> list[Tensor] | None:
    """Leaves that losses depend on other than through `cut`; None if gradients would then be counted twice.

    That is so if one of these leaves, or one of the embeddings, also lies below an embedding: its gradient would hold
    what has come through that embedding as well.
    """
    stops = {_edge(x) for x in cut}
    beside, _ = _walk([_edge(loss) for loss in losses if loss.grad_fn is not None], stops)
    below, crossed = _walk([edge for x in cut for edge in x.grad_fn.next_functions], stops)  # type: ignore[union-attr]
    beside |= {id(loss): loss for loss in losses if loss.grad_fn is None and loss.requires_grad}
    if crossed or beside.keys() & below.keys():
        return None
    return list(beside.values())


def _edge(x: Tensor) -> Edge:
    return x.grad_fn, x.output_nr


def _walk(start: Iterable[Edge], stops: set[Edge]) -> tuple[dict[int, Tensor], bool]:
    """Leaves, by id, that are reached from `start` without going through `stops`, and whether a stop was met."""
    waiting, seen, met = list(start), set(), False
    leaves: dict[int, Tensor] = {}
    while waiting:
        node, output = waiting.pop()
        if (node, output) in stops:
            met = True
        elif node is not None and node not in seen:
            seen.add(node)
            waiting.extend(node.next_functions)
            if node.name() == "torch::autograd::AccumulateGrad":
                leaves[id(node.variable)] = node.variable
    return leaves, met
