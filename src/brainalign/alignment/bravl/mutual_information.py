r"""Information between the latent variable and each modality, and between modalities.

Intra: a Q network recovers the latent variable from what was decoded from it (InfoGAN's variational bound).

Inter: tuples that belong together shall be likelier than mismatched ones. The evidence of the first is bounded from
below (the evidence lower bound), that of the second from above, by CUBO of order 2 (Dieng et al. 2017, section 3.1):

.. math:: \log p(x) \le \tfrac12 \log \mathbb E_{q(z \mid x)} \Big[\Big(\frac{p(x, z)}{q(z \mid x)}\Big)^2\Big]
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from brainalign.alignment.bravl.model import BravlModel, Decoder, Observed, normal_log_likelihood, standard_log_density
from brainalign.alignment.bravl.posterior import Gaussian, Subset, mixture, subset_posteriors, subsets

CHUNK = 2048  # latents weighed at once: what they need stays in the cache
KEPT = 16384  # latents whose activations are kept for a gradient
NEGLIGIBLE = 1e-6  # samples of a smaller share of a bound are left out of it


def intra_information(model: BravlModel, z: Tensor, means: Mapping[str, Tensor]) -> Tensor:
    """How well the Q networks recover latents: log-density summed over modalities, mean over the batch.

    Parameters
    ----------
    z : Tensor of shape (n, latent)
    means : mapping
        Decoded from z, each (n, dim).
    """
    found = []
    for name, mean in means.items():
        noise = model.decoder(name).noise
        found.append(normal_log_likelihood(z, model.q_networks[name](mean), noise).mean())
    return torch.stack(found).sum()


@dataclass(frozen=True)
class Negatives:
    """Mismatched tuples: every kind shuffles some modalities within the batch.

    Attributes
    ----------
    index : dict
        Of each modality the row that each tuple takes it from, (n_kinds, n).
    valid : Tensor of shape (n_kinds, n), bool
        Whether a tuple is mismatched: shuffling leaves some rows where they were, or brings an equal one.
    """

    index: dict[str, Tensor]
    valid: Tensor


def kinds_of(names: Sequence[str]) -> tuple[Subset, ...]:
    """Which modalities each kind of mismatch shuffles: one or more, never all.

    Examples
    --------
    >>> len(kinds_of(["brain", "image", "text"])), kinds_of(["brain", "image"])
    (6, (('brain',), ('image',)))
    """
    return tuple(kind for kind in subsets(names) if len(kind) < len(names))


def draw_negatives(features: Mapping[str, Tensor]) -> Negatives:
    """Shuffle the rows of a batch, each modality of each kind anew.

    Parameters
    ----------
    features : mapping
        Each (n, dim).
    """
    n, device = len(next(iter(features.values()))), next(iter(features.values())).device
    kinds = kinds_of(list(features))
    rows = torch.arange(n, device=device)
    index = {name: rows.repeat(len(kinds), 1) for name in features}
    valid = torch.zeros(len(kinds), n, dtype=torch.bool, device=device)
    for number, kind in enumerate(kinds):
        for name in kind:
            order = torch.randperm(n).to(device)
            index[name][number] = order
            valid[number] |= (features[name][order] != features[name]).any(-1)
    return Negatives(index, valid)


def inter_information(
    model: BravlModel,
    features: Mapping[str, Tensor],
    experts: Mapping[str, Gaussian],
    *,
    samples: int,
    draws: int | None = None,
    rows: int | None = None,
    temperature: float = 1e6,
) -> Tensor:
    """Upper bound of the log-evidence of mismatched tuples, mean over their kinds; nats.

    Parameters
    ----------
    features, experts : mapping
        Of a batch, n rows each.
    samples : int
        Latents drawn a tuple.
    draws : int, optional
        See `evidence_bounds`.
    rows : int, optional
        Rows of the batch to compute it on, drawn at random; all where None.
    temperature : float
        See `soft_mean`.
    """
    negatives = draw_negatives(features)
    shuffled = {name: experts[name].of(index) for name, index in negatives.index.items()}
    posterior = mixture(list(subset_posteriors(shuffled, model.names).values()))
    n_kinds, n = negatives.valid.shape
    picked = torch.randperm(n)[:rows].to(negatives.valid.device)
    flat = {name: features[name][index[:, picked].reshape(-1)] for name, index in negatives.index.items()}
    mean, log_variance = (part[:, picked].flatten(0, 1) for part in posterior)
    bounds = evidence_bounds(model, flat, Gaussian(mean, log_variance), samples, draws).reshape(n_kinds, -1)
    return soft_mean(bounds, negatives.valid[:, picked], temperature).mean()


def soft_mean(values: Tensor, valid: Tensor, temperature: float) -> Tensor:
    """`T log mean exp(values / T)` over valid entries of each row; a large T makes it their mean.

    Parameters
    ----------
    values, valid : Tensor of shape (n_kinds, n)

    Returns
    -------
    Tensor of shape (n_kinds,)
        0 where nothing is valid.
    """
    # Double: with T = 1e6 the values are digits behind the count's logarithm.
    scaled = (values.double() / temperature).masked_fill(~valid, -torch.inf)
    count = valid.sum(1)
    held = torch.where((count > 0)[:, None], scaled, 0.0)
    found = temperature * (held.logsumexp(1) - count.clamp_min(1).double().log())
    return torch.where(count > 0, found, 0.0).to(values)


def cubo(log_weights: Tensor) -> Tensor:
    """CUBO of order 2 from samples, `0.5 log mean exp(2 w)`.

    Parameters
    ----------
    log_weights : Tensor of shape (samples, n)
        Log of joint density over proposal density.

    Returns
    -------
    Tensor of shape (n,)
        Nats. By Jensen's inequality its expectation lies below the bound itself, the more so the fewer the samples.
    """
    return 0.5 * (torch.logsumexp(2 * log_weights, dim=0) - math.log(len(log_weights)))


def evidence_bounds(
    model: BravlModel, features: Mapping[str, Tensor], posterior: Gaussian, samples: int, draws: int | None = None
) -> Tensor:
    """CUBO of order 2 of each tuple, (n,).

    Its gradient is that of the log-weights, each counted by its sample's share in the sum of squared weights. So all
    samples are weighed without a gradient, and only some are computed again with one: those whose share is not
    negligible, or a few drawn by their shares, which gives the same gradient on average at a fraction of the cost.

    Parameters
    ----------
    features : mapping
        Each (n, dim).
    posterior : Gaussian of shape (n, latent)
    samples : int
    draws : int, optional
        How many samples of each tuple the gradient rests on; all where None.
    """
    noise = torch.randn(samples, *posterior.mean.shape, dtype=posterior.mean.dtype).to(posterior.mean.device)
    with torch.no_grad():
        # Where samples are drawn, float32 is exact enough to say how likely each is.
        weights = _weigh_all(model, features, posterior, noise, noise.dtype if draws is None else torch.float32)
        bounds, share = cubo(weights).to(noise), torch.softmax(2 * weights, dim=0)
        number, row, count = _resting_on(share, draws)
    if not torch.is_grad_enabled():
        return bounds
    decoders = {name: model.decoder(name) for name in features}
    observed = {name: decoders[name].observe(x) for name, x in features.items()}
    parts = []
    for some in torch.split(torch.arange(len(row), device=row.device), KEPT):

        def weigh(at: Tensor = row[some], drawn: Tensor = noise[number[some], row[some]]) -> Tensor:
            seen = {name: tuple(part[at] for part in held) for name, held in observed.items()}
            return _log_weights(decoders, seen, posterior.of(at), drawn)

        # More than one chunk: their activations are made again on the way back rather than kept.
        parts.append(weigh() if len(row) <= KEPT else checkpoint(weigh, use_reentrant=False))
    again = torch.cat(parts)
    return bounds.index_add(0, row, count.to(again) * (again - again.detach()))


def _resting_on(share: Tensor, draws: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Which samples a gradient rests on: number of the sample, tuple, and weight, each (n_entries,).

    Parameters
    ----------
    share : Tensor of shape (samples, n)
        Columns sum to 1.
    """
    if draws is None:
        number, row = torch.nonzero(share > NEGLIGIBLE, as_tuple=True)
        return number, row, share[number, row]
    # A loss that is no longer a number is reported after the step; until then any sample will do.
    known = share.nan_to_num(nan=1.0).T
    number = torch.multinomial(known, draws, replacement=True).reshape(-1)
    row = torch.arange(len(known), device=share.device).repeat_interleave(draws)
    return number, row, torch.full_like(row, 1, dtype=share.dtype) / draws


def _weigh_all(
    model: BravlModel, features: Mapping[str, Tensor], posterior: Gaussian, noise: Tensor, dtype: torch.dtype
) -> Tensor:
    """Log-weights of all samples, (samples, n), computed in `dtype`."""
    decoders = {name: copy.deepcopy(model.decoder(name)).to(dtype) for name in features}
    observed = {name: decoders[name].observe(x.to(dtype)) for name, x in features.items()}
    size = max(1, CHUNK // len(noise))
    found = []
    for start in range(0, len(posterior.mean), size):
        at = slice(start, start + size)
        part = Gaussian(posterior.mean[at].to(dtype), posterior.log_variance[at].to(dtype))
        seen = {name: tuple(values[at] for values in parts) for name, parts in observed.items()}
        found.append(_log_weights(decoders, seen, part, noise[:, at].to(dtype)))
    return torch.cat(found, dim=1)


def _log_weights(
    decoders: Mapping[str, Decoder], observed: Mapping[str, Observed], posterior: Gaussian, noise: Tensor
) -> Tensor:
    """Log of joint density over posterior density at `mean + deviation * noise`.

    Parameters
    ----------
    observed : mapping
        Of n rows.
    posterior : Gaussian of shape (n, latent)
    noise : Tensor of shape (..., n, latent)

    Returns
    -------
    Tensor of shape (..., n)
    """
    z = posterior.mean + posterior.deviation * noise
    log_q = standard_log_density(noise) - 0.5 * posterior.log_variance.sum(-1)
    found = standard_log_density(z) - log_q
    for name, seen in observed.items():
        found = found + decoders[name].log_likelihood(z, seen)
    return found
