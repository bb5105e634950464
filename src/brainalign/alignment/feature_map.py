"""From raw features of several layers to the bands of a linear model, with sums over chunks of images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from brainalign.alignment.transforms import EPS, principal_components

COMPONENT_IMAGES = 4096  # principal components are fitted on at most so many images, evenly spaced


@dataclass(frozen=True)
class Band:
    """One layer: standardise by training statistics, project, bring to unit mean kernel diagonal.

    Attributes
    ----------
    mean, scale : Tensor of shape (dim,)
    components : Tensor of shape (dim, k) or (0, 0)
    gain : float
    """

    mean: Tensor
    scale: Tensor
    components: Tensor
    gain: float

    @property
    def size(self) -> int:
        """Width after."""
        return self.components.shape[1] if self.components.numel() else len(self.mean)

    def __call__(self, features: Tensor) -> Tensor:
        """(n, dim) to (n, size), float64."""
        values = features - self.mean  # float64, as the mean is; new memory, so what follows may happen in place
        if not self.components.numel():
            return values.mul_(self.gain / self.scale)
        return ((values / self.scale) @ self.components).mul_(self.gain)


@dataclass(frozen=True)
class FeatureMap:
    """Bands side by side, each scaled by the square root of its weight.

    The kernel of two images is then the weighted sum of the bands' kernels; with weights that sum to 1 its mean
    diagonal over the training images is 1, so that one penalty means the same for any choice of layers.

    Attributes
    ----------
    bands : tuple of Band
    weights : tuple of float
    """

    bands: tuple[Band, ...]
    weights: tuple[float, ...]

    @classmethod
    def fit(
        cls,
        chunks: Callable[[], Iterable[Tensor]],
        dims: Sequence[int],
        *,
        components: int | None = None,
        standardize: bool = True,
        sample: Callable[[int], Tensor] | None = None,
    ) -> FeatureMap:
        """Fit on training features.

        Parameters
        ----------
        chunks : callable
            Gives training features (m, sum of dims), chunk by chunk, as often as it is called.
        dims : sequence of int
            Widths of the layers.
        components : int, optional
            Principal components of each layer; all features where None.
        sample : callable
            Gives at most so many training images, (m, sum of dims); needed for components.
        """
        n, total, square = 0, torch.zeros(sum(dims), dtype=torch.float64), torch.zeros(sum(dims), dtype=torch.float64)
        for chunk in chunks():
            values = chunk.double()
            total, square = total.to(values.device), square.to(values.device)
            n += len(values)
            total += values.sum(0)
        mean = total / n
        for chunk in chunks():  # a second pass: squares of raw values would lose the digits of a small deviation
            square += (chunk.double() - mean).square().sum(0)
        deviation = (square / n).sqrt()
        held = None if components is None or sample is None else sample(COMPONENT_IMAGES)
        bands = []
        starts = [sum(dims[:i]) for i in range(len(dims))]
        for start, dim in zip(starts, dims, strict=True):
            where = slice(start, start + dim)
            rows = None if held is None else held[:, where]
            bands.append(_fit_band(mean[where], deviation[where], rows, components, standardize))
        return cls(tuple(bands), (1 / len(dims),) * len(dims))

    @property
    def dims(self) -> list[int]:
        """Widths before."""
        return [len(band.mean) for band in self.bands]

    @property
    def size(self) -> int:
        """Width after."""
        return sum(band.size for band in self.bands)

    def with_weights(self, weights: Sequence[float]) -> FeatureMap:
        """The same bands, weighted otherwise."""
        return replace(self, weights=tuple(float(w) for w in weights))

    def band_features(self, features: Tensor) -> Iterator[Tensor]:
        """Each band by itself, unweighted, (n, size) float64; one at a time, so that one at a time is held."""
        parts = torch.split(features, self.dims, dim=1)
        return (band(part) for band, part in zip(self.bands, parts, strict=True))

    def kernel(self, features: Tensor, others: Tensor | None = None) -> Tensor:
        """Inner products of images, (n, dims) and (m, dims) to (n, m) float64, band by band.

        Parameters
        ----------
        others : Tensor of shape (m, sum of dims), optional
            The images themselves by default.
        """
        total = torch.zeros(len(features), len(features if others is None else others), dtype=torch.float64)
        total = total.to(features.device)
        own = zip(self.weights, self.band_features(features), strict=True)
        theirs = None if others is None else self.band_features(others)
        for weight, a in own:
            total.addmm_(a, (a if theirs is None else next(theirs)).T, alpha=weight)
        return total

    def __call__(self, features: Tensor) -> Tensor:
        """(n, sum of dims) to (n, size), float64."""
        return torch.cat(list(self.weighted(features)), dim=1)

    def weighted(self, features: Tensor) -> Iterator[Tensor]:
        """Each band times the root of its weight."""
        return (part.mul_(math.sqrt(w)) for w, part in zip(self.weights, self.band_features(features), strict=True))

    def to(self, device: torch.device) -> FeatureMap:
        """On another device."""
        moved = (
            replace(b, **{k: getattr(b, k).to(device) for k in ("mean", "scale", "components")}) for b in self.bands
        )
        return replace(self, bands=tuple(moved))

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        held = {"weights": torch.tensor(self.weights, dtype=torch.float64)}
        for i, band in enumerate(self.bands):
            held |= {f"{i}.mean": band.mean, f"{i}.scale": band.scale, f"{i}.components": band.components}
            held[f"{i}.gain"] = torch.tensor(band.gain, dtype=torch.float64)
        return held

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> FeatureMap:
        """Inverse of `tensors`."""
        weights = tensors["weights"].tolist()
        bands = tuple(
            Band(tensors[f"{i}.mean"], tensors[f"{i}.scale"], tensors[f"{i}.components"], float(tensors[f"{i}.gain"]))
            for i in range(len(weights))
        )
        return cls(bands, tuple(weights))


def _fit_band(mean: Tensor, deviation: Tensor, rows: Tensor | None, components: int | None, standardize: bool) -> Band:
    # A feature that never changes carries nothing; dividing by its deviation would amplify rounding.
    lives = deviation > EPS * deviation.max().clamp_min(EPS)
    scale = torch.where(lives, deviation if standardize else torch.ones_like(deviation), torch.inf)
    directions = torch.empty(0, 0, dtype=torch.float64, device=mean.device)
    power = float(lives.sum()) if standardize else float(deviation[lives].square().sum())
    if rows is not None and components is not None and components < min(rows.shape):
        values = (rows.double() - mean) / scale
        directions = principal_components(values - values.mean(0), components)
        power = float((values @ directions).square().sum(1).mean())
    return Band(mean, scale, directions, 1 / math.sqrt(max(power, EPS)))
