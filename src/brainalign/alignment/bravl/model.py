"""Networks of BraVL: an encoder, a decoder and a Q network a modality."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from brainalign.alignment.bravl.posterior import Gaussian
from brainalign.recipes.bravl_settings import BravlSettings

Observed = tuple[Tensor, ...]


class Encoder(nn.Module):
    """Features (..., dim) to a Gaussian over the latent variable (..., latent)."""

    def __init__(self, dim: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.body = _two_layers(dim, hidden)
        self.mean, self.log_variance = nn.Linear(hidden, latent), nn.Linear(hidden, latent)

    def forward(self, features: Tensor) -> Gaussian:
        """Mean and log-variance."""
        held = self.body(features)
        return Gaussian(self.mean(held), self.log_variance(held))


class Decoder(nn.Module):
    """A latent variable (..., latent) to the mean of the features (..., dim), whose deviation is fixed."""

    def __init__(self, latent: int, hidden: int, dim: int, noise: float) -> None:
        super().__init__()
        self.body = _two_layers(latent, hidden)
        self.out = nn.Linear(hidden, dim)
        self.noise = noise

    def forward(self, z: Tensor) -> Tensor:
        """Mean of the features."""
        found: Tensor = self.out(self.body(z))
        return found

    @property
    def wide(self) -> bool:
        """Whether the features are more than the units they are a linear function of."""
        return self.out.out_features > self.out.in_features

    def observe(self, features: Tensor) -> Observed:
        """What `log_likelihood` needs of features (n, dim), each of shape (n, ...): few numbers where they are wide.

        With mean :math:`W h + b` and :math:`r = x - b` the squared distance is
        :math:`|r|^2 - 2 h^T W^T r + h^T W^T W h`, whose cost for many h does not grow with the width of x.
        """
        if not self.wide:
            return (features,)
        rest = features - self.out.bias
        return rest.square().sum(-1), rest @ self.out.weight

    def log_likelihood(self, z: Tensor, observed: Observed) -> Tensor:
        """Log-density of observed features given latents.

        Parameters
        ----------
        z : Tensor of shape (..., n, latent)
        observed : tuple of Tensor
            From `observe`, of shape (n, ...) each.

        Returns
        -------
        Tensor of shape (..., n)
        """
        if not self.wide:
            return normal_log_likelihood(observed[0], self(z), self.noise)
        held: Tensor = self.body(z)
        weight, (square, cross) = self.out.weight, observed
        error = square - 2 * (held * cross).sum(-1) + ((held @ (weight.T @ weight)) * held).sum(-1)
        constant = self.out.out_features * (math.log(self.noise) + 0.5 * math.log(2 * math.pi))
        found: Tensor = -0.5 * error / self.noise**2 - constant
        return found


class QNetwork(nn.Module):
    """Decoded features (n, dim) to the mean of the latent variable that they came from, (n, latent)."""

    def __init__(self, dim: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, latent))

    def forward(self, features: Tensor) -> Tensor:
        """Mean of the latent variable."""
        found: Tensor = self.body(features)
        return found


class BravlModel(nn.Module):
    """All networks of all modalities.

    Parameters
    ----------
    dims : mapping
        Width of each modality's features, in order: `brain`, `image`, and `text` where there is text.
    settings : BravlSettings

    References
    ----------
    Du, Fu, Li & He 2023, IEEE TPAMI 45:10760, arXiv 2210.06756.
    """

    def __init__(self, dims: Mapping[str, int], settings: BravlSettings) -> None:
        super().__init__()
        self.names = tuple(dims)
        hidden, latent = settings.hidden, settings.latent
        self.encoders = nn.ModuleDict({name: Encoder(dim, hidden, latent) for name, dim in dims.items()})
        self.decoders = nn.ModuleDict({k: Decoder(latent, hidden, d, settings.noise) for k, d in dims.items()})
        self.q_networks = nn.ModuleDict({k: QNetwork(d, settings.q_hidden, latent) for k, d in dims.items()})

    def experts(self, features: Mapping[str, Tensor]) -> dict[str, Gaussian]:
        """The posterior of each modality that is there by itself."""
        found: dict[str, Gaussian] = {k: self.encoders[k](features[k]) for k in self.names if k in features}
        return found

    def decoder(self, name: str) -> Decoder:
        """Of one modality."""
        return cast(Decoder, self.decoders[name])

    def decode(self, z: Tensor, names: Iterable[str]) -> dict[str, Tensor]:
        """Means of some modalities, each (..., dim)."""
        return {name: self.decoders[name](z) for name in names}

    def vae_parameters(self) -> list[nn.Parameter]:
        """Of encoders and decoders."""
        return [*self.encoders.parameters(), *self.decoders.parameters()]


def normal_log_likelihood(values: Tensor, mean: Tensor, deviation: float) -> Tensor:
    """Log-density under independent normals of one deviation, summed over the last axis.

    Parameters
    ----------
    values, mean : Tensor of shape (..., dim)

    Returns
    -------
    Tensor of shape (...)
        Nats.
    """
    error = (values - mean).square().sum(-1)
    dim = max(values.shape[-1], mean.shape[-1])
    return -0.5 * error / deviation**2 - dim * (math.log(deviation) + 0.5 * math.log(2 * math.pi))


def standard_log_density(z: Tensor) -> Tensor:
    """Log-density under the standard normal prior, (..., latent) to (...)."""
    return normal_log_likelihood(z, torch.zeros_like(z), 1.0)


def _two_layers(dim: int, hidden: int) -> nn.Sequential:
    relu = nn.ReLU(inplace=True)
    return nn.Sequential(nn.Linear(dim, hidden), relu, nn.Linear(hidden, hidden), relu)
