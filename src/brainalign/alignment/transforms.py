"""What is fitted on training data before anything is aligned: signal scaling, principal components of wide targets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brainalign.errors import InputError
from brainalign.recipes.recipe import SignalSettings, TargetSettings

EPS = 1e-6
FIT_ROWS = 2048  # signals transformed at once while fitting
EXACT_LIMIT = 4096  # sides up to which principal components come from an exact eigendecomposition


@dataclass(frozen=True)
class SignalTransform:
    """Variance stabilisation, noise whitening, then a z-score with training statistics, then a window.

    Attributes
    ----------
    mean, scale : Tensor of shape (n_chans, n_times or 1)
        The scale is infinite, and the transformed value 0, where training signals do not vary.
    whitener : Tensor of shape (n_chans, n_chans) or (0, 0)
        Multiplied from the left; empty where noise is not whitened.
    window : (int, int) or None
        First sample that is kept and the one after the last; transformed signals are 0 outside of it.
    """

    sqrt: bool
    whitener: Tensor
    mean: Tensor
    scale: Tensor
    window: tuple[int, int] | None = None

    @classmethod
    def fit(cls, signals: Tensor, settings: SignalSettings, whitener: Tensor | None = None) -> SignalTransform:
        """Fit on training signals (n, n_chans, n_times).

        Raises
        ------
        InputError
            If `sqrt` is asked for and a value is negative.
        """
        return cls.fit_chunks(lambda: torch.split(signals, FIT_ROWS), settings, whitener)

    @classmethod
    def fit_chunks(
        cls, chunks: Callable[[], Iterable[Tensor]], settings: SignalSettings, whitener: Tensor | None = None
    ) -> SignalTransform:
        """Fit on training signals that come in chunks (m, n_chans, n_times), as often as `chunks` is called."""
        white = torch.empty(0, 0) if whitener is None else whitener.to(torch.float32)
        bare = cls(settings.transform == "sqrt", white, torch.zeros(1, 1), torch.ones(1, 1))
        if settings.transform == "sqrt":
            _check_counts(chunks())
        if settings.scale == "none":
            return bare
        over = (0,) if settings.scale == "feature" else (0, 2)
        count, total = 0, torch.zeros(())
        for chunk in chunks():
            values = bare(chunk).double()
            count += values.numel() // (values.shape[1] * (values.shape[2] if over == (0,) else 1))
            total = total.to(values) + values.sum(dim=over, keepdim=True)[0]
        mean, square = total / count, torch.zeros_like(total)
        for chunk in chunks():  # a second pass: squares of raw values would lose the digits of a small deviation
            square += (bare(chunk).double() - mean).square().sum(dim=over, keepdim=True)[0]
        deviation = (square / count).sqrt()
        # What never changes carries nothing, and a single deviation in a test signal would be huge. Small is relative,
        # as recordings in tesla have deviations of 1e-13; what is above EPS is kept beside a channel of larger units.
        scale = torch.where(deviation > EPS * deviation.max().clamp_max(1), deviation, torch.inf)
        return cls(bare.sqrt, white, mean.float(), scale.float())

    def __call__(self, signals: Tensor) -> Tensor:
        """Transform (n, n_chans, n_times), float32."""
        values = signals.float()
        if self.sqrt:
            values = values.clamp_min(0).sqrt()
        if self.whitener.numel():
            values = torch.einsum("dc,nct->ndt", self.whitener.to(values), values)
        values = (values - self.mean.to(values)) / self.scale.to(values)
        return values if self.window is None else _outside_zero(values, *self.window)

    def windowed(self, times: NDArray[np.float64], window: tuple[float, float] | None) -> SignalTransform:
        """The same transform, its output 0 outside of a window.

        Parameters
        ----------
        times : array of shape (n_times,)
            Seconds from stimulus onset of the samples.
        window : (float, float) or None
            Seconds; the start is inside, the end is not. None keeps everything.

        Raises
        ------
        InputError
            If the window holds no sample.
        """
        return self if window is None else replace(self, window=window_samples(times, window))

    @property
    def deviation(self) -> Tensor:
        """What a transformed value of 1 is before scaling, as `scale`; 0 where training signals do not vary."""
        return self.scale.masked_fill(self.scale.isinf(), 0)

    def inverse(self, values: Tensor) -> Tensor:
        """Back to the recording's units, (n, n_chans, n_times); what lay outside of a window, or did not vary in
        training, comes back as the mean.
        """
        signals = values * self.deviation.to(values) + self.mean.to(values)
        if self.whitener.numel():
            signals = torch.linalg.solve(self.whitener.to(values), signals)
        return signals.clamp_min(0).square() if self.sqrt else signals

    def check_size(self, n_chans: int, n_times: int) -> None:
        """Refuse to be of other channels or samples.

        Raises
        ------
        ValueError, RuntimeError
            If the transform gives other shapes, or cannot take such signals.
        """
        found = self(torch.zeros(1, n_chans, n_times)).shape
        if found != (1, n_chans, n_times):
            raise ValueError(f"the signal transform gives {tuple(found[1:])}, expected ({n_chans}, {n_times})")

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        kept = {"sqrt": torch.tensor(self.sqrt), "whitener": self.whitener, "mean": self.mean, "scale": self.scale}
        return kept if self.window is None else kept | {"window": torch.tensor(self.window)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> SignalTransform:
        """Inverse of `tensors`; without a window where there is none, as in files from before there were windows.

        Raises
        ------
        KeyError
            If a tensor is missing, or a window is not two samples in order.
        """
        window = _two_samples(tensors["window"]) if "window" in tensors else None
        return cls(bool(tensors["sqrt"]), tensors["whitener"], tensors["mean"], tensors["scale"], window)


def window_samples(times: NDArray[np.float64], window: tuple[float, float]) -> tuple[int, int]:
    """Samples with t0 <= t < t1, as `Recording.crop` takes them: the first one and the one after the last.

    Parameters
    ----------
    times : array of shape (n_times,)
        Seconds from stimulus onset, evenly spaced.
    window : (float, float)
        Seconds; infinite ends are allowed.

    Raises
    ------
    InputError
        If there is no such sample, or the signals have no time axis.
    """
    if len(times) < 2:
        raise InputError("a signal of one sample has no time axis", where="signals.window", hint="leave it out")
    slack = 1e-6 * float(times[1] - times[0])
    inside = np.flatnonzero((times >= window[0] - slack) & (times < window[1] - slack))
    if not len(inside):
        text = f"no sample between {window[0]:g} and {window[1]:g} s"
        raise InputError(text, where="signals.window", hint=f"the signals span {times[0]:g} to {times[-1]:g} s")
    return int(inside[0]), int(inside[-1]) + 1


def _outside_zero(values: Tensor, start: int, stop: int) -> Tensor:
    """Values (n, n_chans, n_times) with 0 before sample `start` and from `stop` on; a copy."""
    kept = torch.zeros_like(values)
    kept[..., start:stop] = values[..., start:stop]
    return kept


def _two_samples(window: Tensor) -> tuple[int, int]:
    if window.shape != (2,) or window.is_floating_point() or not 0 <= int(window[0]) < int(window[1]):
        raise KeyError("window")
    return int(window[0]), int(window[1])


def _check_counts(chunks: Iterable[Tensor]) -> None:
    if any(bool((chunk < 0).any()) for chunk in chunks):
        raise InputError(
            "transform=sqrt needs counts, but a signal is negative", where="signals.transform", hint="use none"
        )


@dataclass(frozen=True)
class TargetTransform:
    """Standardise features with training statistics, then project on their principal components.

    The result has unit mean square over the training images, so that one learning rate serves all layers.

    Attributes
    ----------
    mean, scale : Tensor of shape (dim,)
    components : Tensor of shape (dim, k) or (0, 0)
        Orthonormal columns, the largest variance first; empty where all features are kept.
    gain : float
    """

    mean: Tensor
    scale: Tensor
    components: Tensor
    gain: Tensor

    @classmethod
    def fit(cls, features: Tensor, settings: TargetSettings) -> TargetTransform:
        """Fit on training features (n, dim) in float64.

        Components are exact where one side is at most 4,096, else from a seeded randomised decomposition (Halko,
        Martinsson & Tropp 2011).

        Raises
        ------
        InputError
            If the features hold NaN or infinity.
        """
        values = features.double()
        if not bool(torch.isfinite(values).all()):
            raise InputError("target features hold NaN or infinity", hint="compute the features again")
        mean = (
            values.mean(dim=0) if settings.standardize or settings.components else torch.zeros(values.shape[1]).double()
        )
        values = values - mean
        scale = torch.ones_like(mean)
        if settings.standardize:
            deviation = values.square().mean(dim=0).sqrt()
            # A feature that never changes carries nothing; dividing by its deviation would amplify rounding.
            scale = torch.where(deviation > EPS * deviation.max().clamp_min(EPS), deviation, torch.inf)
            values = values / scale
        wanted = settings.components
        components = torch.empty(0, 0)
        if wanted is not None and wanted < min(values.shape):
            components = principal_components(values, wanted)
            values = values @ components
        gain = 1 / values.square().mean().sqrt().clamp_min(EPS)
        return cls(mean.float(), scale.float(), components.float(), gain.float())

    def __call__(self, features: Tensor) -> Tensor:
        """Transform (n, dim) to (n, k), float32."""
        values = (features.float() - self.mean.to(features.device)) / self.scale.to(features.device)
        if self.components.numel():
            values = values @ self.components.to(values)
        return values * self.gain.to(values)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        return {"mean": self.mean, "scale": self.scale, "components": self.components, "gain": self.gain}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> TargetTransform:
        """Inverse of `tensors`."""
        return cls(tensors["mean"], tensors["scale"], tensors["components"], tensors["gain"])


@dataclass(frozen=True)
class BandTransform:
    """One `TargetTransform` a layer of the target; a single layer is a mixture of one.

    Attributes
    ----------
    parts : tuple of TargetTransform
    """

    parts: tuple[TargetTransform, ...]

    @classmethod
    def fit(cls, features: Tensor, dims: Sequence[int], settings: TargetSettings) -> BandTransform:
        """Fit on training features (n, sum of dims), the layers side by side."""
        return cls(tuple(TargetTransform.fit(band, settings) for band in torch.split(features, list(dims), dim=1)))

    def __call__(self, features: Tensor) -> Tensor:
        """Transform (n, sum of dims) to (n, sum of sizes), float32."""
        bands = torch.split(features, self.dims, dim=1)
        return torch.cat([part(band) for part, band in zip(self.parts, bands, strict=True)], dim=1)

    @property
    def dims(self) -> list[int]:
        """Width of each layer's features before."""
        return [part.mean.shape[0] for part in self.parts]

    @property
    def sizes(self) -> list[int]:
        """Width of each layer's features after."""
        return [p.components.shape[1] if p.components.numel() else p.mean.shape[0] for p in self.parts]

    def check_sizes(self, sizes: Sequence[int]) -> None:
        """Refuse to lead to other widths, one a layer.

        Raises
        ------
        ValueError, RuntimeError
            If it does, or its tensors do not fit each other.
        """
        found = [tuple(part(torch.zeros(1, dim)).shape) for part, dim in zip(self.parts, self.dims, strict=True)]
        if found != [(1, size) for size in sizes]:
            raise ValueError(f"the transform leads to shapes {found}, expected widths {list(sizes)}")

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        return {f"{i}.{name}": value for i, part in enumerate(self.parts) for name, value in part.tensors().items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> BandTransform:
        """Inverse of `tensors`."""
        count = len({name.partition(".")[0] for name in tensors})
        names = ("mean", "scale", "components", "gain")
        parts = ({name: tensors[f"{i}.{name}"] for name in names} for i in range(count))
        return cls(tuple(TargetTransform.from_tensors(part) for part in parts))


def principal_components(values: Tensor, k: int) -> Tensor:
    """Leading right singular vectors of a centred matrix.

    Parameters
    ----------
    values : Tensor of shape (n, dim), float64, centred
    k : int
        At most min(n, dim).

    Returns
    -------
    Tensor of shape (dim, k)
        Orthonormal columns; the sign makes each column's largest entry positive, so that machines agree.
    """
    n, dim = values.shape
    if min(n, dim) > EXACT_LIMIT:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            components = torch.svd_lowrank(values.cpu(), q=min(k + 16, n, dim), niter=4)[2][:, :k].to(values.device)
    elif dim <= n:
        components = torch.linalg.eigh(values.T @ values).eigenvectors.flip(1)[:, :k]
    else:
        variances, left = torch.linalg.eigh(values @ values.T)
        components = values.T @ left.flip(1)[:, :k] / variances.flip(0)[:k].clamp_min(EPS**2).sqrt()
    largest = components.gather(0, components.abs().argmax(dim=0, keepdim=True))
    return components * torch.where(largest < 0, -1.0, 1.0).to(components)
