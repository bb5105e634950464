"""Which latent variables a set of modalities allows: products of experts, and the mixture of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

EXPERT_EPS = 1e-8  # added to every expert's variance, as in the published code
Subset = tuple[str, ...]


class Gaussian(NamedTuple):
    """A Gaussian with independent dimensions.

    Attributes
    ----------
    mean, log_variance : Tensor of shape (..., n, latent)
    """

    mean: Tensor
    log_variance: Tensor

    @property
    def deviation(self) -> Tensor:
        """Standard deviation, (..., n, latent)."""
        return (0.5 * self.log_variance).exp()

    def of(self, index: Tensor | slice) -> Gaussian:
        """Some of the rows, (*index.shape, latent), of a Gaussian of shape (n, latent)."""
        return Gaussian(self.mean[index], self.log_variance[index])

    def sample(self) -> Tensor:
        """One draw a row by reparameterisation, (..., n, latent)."""
        return self.mean + self.deviation * torch.randn_like(self.mean)


def subsets(names: Sequence[str]) -> tuple[Subset, ...]:
    """All non-empty subsets, small ones first.

    Examples
    --------
    >>> subsets(["brain", "image"])
    (('brain',), ('image',), ('brain', 'image'))
    """
    return tuple(s for size in range(1, len(names) + 1) for s in combinations(names, size))


def product_of_experts(experts: Sequence[Gaussian], *, prior: bool = False) -> Gaussian:
    r"""Normalised product of Gaussians.

    .. math:: \sigma^{-2} = \sum_m \sigma_m^{-2}, \qquad \mu = \sigma^2 \sum_m \sigma_m^{-2} \mu_m

    Parameters
    ----------
    experts : sequence of Gaussian
        Of one shape.
    prior : bool
        Whether the standard normal prior is one more expert.

    References
    ----------
    Wu & Goodman 2018, arXiv 1802.05335, section 2.2.
    """
    precisions = [1 / (expert.log_variance.exp() + EXPERT_EPS) for expert in experts]
    total = torch.stack(precisions).sum(0)
    weighted = torch.stack([p * e.mean for p, e in zip(precisions, experts, strict=True)]).sum(0)
    if prior:
        total = total + 1 / (1 + EXPERT_EPS)
    return Gaussian(weighted / total, -total.log())


def subset_posteriors(experts: Mapping[str, Gaussian], whole: Sequence[str]) -> dict[Subset, Gaussian]:
    """The product of experts of every subset of what is there.

    Parameters
    ----------
    experts : mapping
        One of each modality that is there; some may be missing.
    whole : sequence of str
        All modalities of the model, in order; only their product holds the prior.
    """
    there = [name for name in whole if name in experts]
    return {
        subset: product_of_experts([experts[name] for name in subset], prior=len(subset) == len(whole))
        for subset in subsets(there)
    }


def shares(n: int, count: int) -> list[slice]:
    """Consecutive equal shares of n rows; the last takes what is left over.

    Examples
    --------
    >>> shares(8, 3)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 8, None)]
    """
    size = n // count
    return [slice(i * size, n if i == count - 1 else (i + 1) * size) for i in range(count)]


def mixture(posteriors: Sequence[Gaussian]) -> Gaussian:
    """The uniform mixture, a row at a time: each component serves an equal share of the rows.

    Rows come in random order, so each is a draw of the component.

    Parameters
    ----------
    posteriors : sequence of Gaussian of shape (..., n, latent)

    References
    ----------
    Sutter, Daunhawer & Vogt 2021, arXiv 2105.02470 (mixture of products of experts).
    """
    parts = shares(posteriors[0].mean.shape[-2], len(posteriors))
    chosen = list(zip(posteriors, parts, strict=True))
    mean = torch.cat([p.mean[..., part, :] for p, part in chosen], dim=-2)
    return Gaussian(mean, torch.cat([p.log_variance[..., part, :] for p, part in chosen], dim=-2))
