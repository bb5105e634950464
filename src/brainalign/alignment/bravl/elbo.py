"""The evidence lower bound of the mixture of products of experts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from brainalign.alignment.bravl.model import BravlModel, normal_log_likelihood
from brainalign.alignment.bravl.posterior import Gaussian, mixture, subset_posteriors


@dataclass
class Passed:
    """What one pass of a batch through the model leaves.

    Attributes
    ----------
    experts : dict
        Posterior of each modality by itself.
    z : Tensor of shape (n, latent)
        A draw from the mixture.
    means : dict
        Decoded from z, each (n, dim).
    missing : Tensor of shape ()
        Negative log-likelihood, summed over modalities, mean over the batch.
    divergence : Tensor of shape ()
        KL divergence from the prior, mean over subsets and batch.
    """

    experts: dict[str, Gaussian]
    z: Tensor
    means: dict[str, Tensor]
    missing: Tensor
    divergence: Tensor

    def negative_elbo(self, beta: float) -> Tensor:
        """Negative bound, nats a row."""
        return self.missing + beta * self.divergence


def pass_through(model: BravlModel, features: Mapping[str, Tensor]) -> Passed:
    """Encode, draw, decode.

    Parameters
    ----------
    features : mapping
        Each (n, dim); modalities may be missing.
    """
    experts = model.experts(features)
    posteriors = list(subset_posteriors(experts, model.names).values())
    z = mixture(posteriors).sample()
    means = model.decode(z, features)
    divergence = torch.stack([kl_to_prior(posterior).mean() for posterior in posteriors]).mean()
    return Passed(experts, z, means, -_log_likelihood(model, features, means).mean(), divergence)


def kl_to_prior(posterior: Gaussian) -> Tensor:
    """KL divergence from the standard normal prior, (..., latent) to (...), nats."""
    mean, log_variance = posterior
    return 0.5 * (log_variance.exp() + mean.square() - 1 - log_variance).sum(-1)


def beta_of(epoch: int, step: float) -> float:
    """Weight of the divergence in an epoch, counted from 1: 0 in the first, then `step` more in each, at most 1."""
    return min(1.0, step * (epoch - 1))


@torch.no_grad()
def validation_negative_elbo(model: BravlModel, features: Mapping[str, Tensor]) -> float:
    """Negative bound at full divergence, every row under every subset, so that epochs and orders can be compared.

    Returns
    -------
    float
        Nats a row, mean over rows and subsets.
    """
    found = []
    for posterior in subset_posteriors(model.experts(features), model.names).values():
        likelihood = _log_likelihood(model, features, model.decode(posterior.sample(), features))
        found.append((kl_to_prior(posterior) - likelihood).mean())
    return float(torch.stack(found).mean())


def _log_likelihood(model: BravlModel, features: Mapping[str, Tensor], means: Mapping[str, Tensor]) -> Tensor:
    """Of what is there, summed over modalities, (n,)."""
    terms = [normal_log_likelihood(x, means[name], model.decoder(name).noise) for name, x in features.items()]
    return torch.stack(terms).sum(0)
