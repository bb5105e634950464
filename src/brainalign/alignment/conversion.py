r"""From the signal of one modality to that of another through the images that both models know, in closed form.

Both models say what an image does: :math:`y_1 \mid x \sim \mathcal N(m_1(x), \Sigma_1)` and likewise 2, independent
given the image. Which image it was is not known. Two priors over images give two conversions:

- Gaussian: predictions have means and covariances as over a set of images, and
  :math:`y_2 \mid y_1 \sim \mathcal N\big(\bar m_2 + C_{21} (C_{11} + \Sigma_1)^{-1} (y_1 - \bar m_1),\;
  C_{22} + \Sigma_2 - C_{21} (C_{11} + \Sigma_1)^{-1} C_{12}\big)`: conditioning of a joint Gaussian (Bishop 2006,
  Pattern Recognition and Machine Learning, section 2.3).
- Discrete: it was one of the images, and
  :math:`p(y_2 \mid y_1) = \sum_j p(j \mid y_1)\, \mathcal N(y_2; m_2(x_j), \Sigma_2)`.

All in transformed units (z-scores of each aligner), float64. `docs/generative-extensions.md` has the derivations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brainalign.alignment.covariance import cholesky, log_likelihood
from brainalign.alignment.generative import GenerativeAligner
from brainalign.alignment.transforms import SignalTransform
from brainalign.errors import InputError

Array = NDArray[np.float64]
DEFAULT_LEVEL = 0.95
CHUNK_NUMBERS = 2**24  # of a block of (source, target, image) log-densities held at once


@dataclass(frozen=True)
class GaussianConversion:
    """Conversion under a Gaussian prior over predictions.

    Attributes
    ----------
    means : (Tensor of shape (p_1,), Tensor of shape (p_2,))
        Mean predictions of source and target.
    source, cross, target : Tensor of shapes (p_1, p_1), (p_2, p_1), (p_2, p_2)
        Covariances C_11, C_21, C_22 of the predictions over images.

    Examples
    --------
    >>> m = np.random.default_rng(0).normal(size=(500, 2))
    >>> found = GaussianConversion.fit(m, -m)
    >>> known = torch.eye(2) * 1e-9
    >>> found.given(known, known).predict(torch.tensor([[1.0, 2.0]])).round(decimals=4).tolist()
    [[-1.0, -2.0]]
    """

    means: tuple[Tensor, Tensor]
    source: Tensor
    cross: Tensor
    target: Tensor

    @classmethod
    def fit(cls, source: NDArray[Any], target: NDArray[Any]) -> GaussianConversion:
        """Moments of the predictions of the same images, (n, p_1) and (n, p_2); n of some hundred or more.

        Raises
        ------
        InputError
            If the two have different numbers of images, or fewer than three.
        """
        one, two = (torch.from_numpy(np.asarray(side, dtype=np.float64)) for side in (source, target))
        _check_images(one, two)
        means = one.mean(0), two.mean(0)
        a, b, n = one - means[0], two - means[1], len(one) - 1
        return cls(means, a.T @ a / n, b.T @ a / n, b.T @ b / n)

    def given(self, source_noise: Tensor, target_noise: Tensor) -> ConditionalGaussian:
        """The law of a target signal given a source signal, for noise covariances (p_1, p_1) and (p_2, p_2)."""
        factor = cholesky(self.source + source_noise.double())
        white = torch.linalg.solve_triangular(factor, self.cross.T, upper=False)
        gain = torch.linalg.solve_triangular(factor.T, white, upper=True).T
        expected = self.target - white.T @ white
        return ConditionalGaussian(self.means, gain, expected, expected + target_noise.double())


@dataclass(frozen=True)
class ConditionalGaussian:
    """A target signal given a source signal: linear mean, one covariance.

    Attributes
    ----------
    means : (Tensor, Tensor)
    gain : Tensor of shape (p_2, p_1)
    of_mean : Tensor of shape (p_2, p_2)
        Covariance of the image's expected target signal: what the source leaves open.
    of_signal : Tensor of shape (p_2, p_2)
        The same and the noise of a recorded target signal.
    """

    means: tuple[Tensor, Tensor]
    gain: Tensor
    of_mean: Tensor
    of_signal: Tensor

    def predict(self, signals: Tensor) -> Tensor:
        """Expected target signals, (n, p_1) to (n, p_2)."""
        return self.means[1] + (signals.double() - self.means[0]) @ self.gain.T

    def log_density(self, sources: Tensor, targets: Tensor) -> Tensor:
        """Log-density of each target signal (m, p_2) given each source signal (n, p_1), (n, m), nats."""
        return log_likelihood(targets.double(), self.predict(sources), cholesky(self.of_signal)).T


@dataclass(frozen=True)
class Interval:
    """A generated signal and where a recorded one would lie.

    Attributes
    ----------
    expected, low, high : arrays of shape (n, n_chans, n_times)
        Central interval of each channel and sample by itself, not of all together.
    level : float
        Probability inside.
    """

    expected: Array
    low: Array
    high: Array
    level: float


class Conversion:
    """Signals of a target aligner from those of a source aligner.

    Parameters
    ----------
    source, target : GenerativeAligner
        Fitted; of any modalities, channels and features.
    source_images, target_images : arrays of shapes (n, dim_1) and (n, dim_2)
        Features of the same images, in the same order, each as its aligner takes them. They are the prior over images:
        training images, or a large set of others; never only the test images, whose answers they would hold.

    Raises
    ------
    InputError
        If the two do not hold the same number of images, fewer than three, or do not fit their aligner.
    """

    def __init__(
        self,
        source: GenerativeAligner,
        target: GenerativeAligner,
        source_images: NDArray[Any],
        target_images: NDArray[Any],
    ) -> None:
        self.source, self.target = source, target
        predictions = source.predict_transformed(source_images), target.predict_transformed(target_images)
        self.gaussian = GaussianConversion.fit(*predictions)

    def given(
        self, *, source_repetitions: int | None = None, target_repetitions: int | None = None
    ) -> ConditionalGaussian:
        """The conditional law for averages of so many trials; as many as in training where None."""
        noises = self.source.noise(source_repetitions), self.target.noise(target_repetitions)
        return self.gaussian.given(*(noise.cpu() for noise in noises))

    def predict_transformed(self, signals: NDArray[Any], *, repetitions: int | None = None) -> Array:
        """Expected target signals in transformed units, (n, n_chans, n_times) to (n, p_2)."""
        found: Array = self.given(source_repetitions=repetitions).predict(self._of(self.source, signals)).numpy()
        return found

    def convert(
        self,
        signals: NDArray[Any],
        *,
        source_repetitions: int | None = None,
        target_repetitions: int | None = None,
        level: float = DEFAULT_LEVEL,
    ) -> Interval:
        """Generate target signals, in the units of the target's recording, with intervals.

        Parameters
        ----------
        signals : array of shape (n, n_chans, n_times)
            Of the source, channels and samples as its aligner takes them.
        source_repetitions, target_repetitions : int, optional
            Trials averaged in what is given, and in the recorded target signals that the interval is for.
        level : float
            Probability that a recorded value lies inside.

        Raises
        ------
        InputError
            If signals do not fit the source, or the level is not between 0 and 1.
        """
        check_level(level)
        law = self.given(source_repetitions=source_repetitions, target_repetitions=target_repetitions)
        expected = law.predict(self._of(self.source, signals))
        return signal_interval(self.target, expected, law.of_signal, level)

    def similarity(
        self,
        sources: NDArray[Any],
        targets: NDArray[Any],
        *,
        source_repetitions: int | None = None,
        target_repetitions: int | None = None,
    ) -> Array:
        """Log-density of recorded target signals given source signals, (n, m), nats: scores for retrieval.

        Parameters
        ----------
        sources : array of shape (n, n_chans_1, n_times_1)
        targets : array of shape (m, n_chans_2, n_times_2)
        """
        law = self.given(source_repetitions=source_repetitions, target_repetitions=target_repetitions)
        found: Array = law.log_density(self._of(self.source, sources), self._of(self.target, targets)).numpy()
        return found

    def gain(
        self,
        sources: NDArray[Any],
        targets: NDArray[Any],
        *,
        source_repetitions: int | None = None,
        target_repetitions: int | None = None,
    ) -> Array:
        """Log-ratio p(target | source) / p(target), (n, m), nats: to find a target signal among several for one source.

        `similarity` alone ranks an odd target signal low whatever the source; this counts only what the source tells.

        Parameters
        ----------
        sources : array of shape (n, n_chans_1, n_times_1)
        targets : array of shape (m, n_chans_2, n_times_2)
        """
        held = {"source_repetitions": source_repetitions, "target_repetitions": target_repetitions}
        factor = cholesky(self.gaussian.target + self.target.noise(target_repetitions).cpu().double())
        alone = log_likelihood(self._of(self.target, targets), self.gaussian.means[1][None], factor)
        found: Array = self.similarity(sources, targets, **held) - alone[:, 0].numpy()
        return found

    @staticmethod
    def _of(aligner: GenerativeAligner, signals: NDArray[Any]) -> Tensor:
        return torch.from_numpy(aligner.transform(signals))


def check_level(level: float) -> None:
    """Refuse a level that is no probability.

    Raises
    ------
    InputError
        If it is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise InputError(f"the level of an interval is between 0 and 1, got {level}")


def signal_interval(aligner: GenerativeAligner, expected: Tensor, covariance: Tensor, level: float) -> Interval:
    """From transformed units to those of the recording, with intervals.

    Parameters
    ----------
    aligner : GenerativeAligner
        Whose signals these are.
    expected : Tensor of shape (n, p)
    covariance : Tensor of shape (p, p)
        Around them.
    level : float
        Probability inside, between 0 and 1.
    """
    check_level(level)
    transform, facts = aligner.signal_transform, aligner.facts
    assert transform is not None
    shape = (-1, facts["n_chans"], facts["n_times"])
    reach = NormalDist().inv_cdf((1 + level) / 2)
    if not transform.whitener.numel():  # value by value, monotone: ends are carried over, squares included
        spread = reach * covariance.diagonal().sqrt()
        ends = [transform.inverse(end.reshape(shape)) for end in (expected, expected - spread, expected + spread)]
    else:  # whitening mixes channels: the covariance goes back first, and roots are squared last
        linear = replace(transform, sqrt=False)
        variance = _unwhitened_variance(linear, covariance, facts["n_chans"], facts["n_times"])
        centre, spread = linear.inverse(expected.reshape(shape)), reach * variance.sqrt()
        ends = [centre, centre - spread, centre + spread]
        if transform.sqrt:
            ends = [end.clamp_min(0).square() for end in ends]
    middle, low, high = (end.numpy() for end in ends)
    return Interval(middle, low, high, level)


class GalleryConversion:
    """Conversion where the image is one of a gallery: a mixture with one component an image, exact.

    Parameters
    ----------
    source, target : GenerativeAligner
    source_images, target_images : arrays of shapes (n, dim_1) and (n, dim_2)
        Features of the gallery's images for either aligner.
    prior : array of shape (n,), optional
        Positive; flat where None.

    Raises
    ------
    InputError
        As `Conversion`.
    """

    def __init__(
        self,
        source: GenerativeAligner,
        target: GenerativeAligner,
        source_images: NDArray[Any],
        target_images: NDArray[Any],
        *,
        prior: NDArray[Any] | None = None,
    ) -> None:
        self.source, self.target, self.source_images = source, target, source_images
        self.predictions = torch.from_numpy(target.predict_transformed(target_images))
        _check_images(torch.from_numpy(np.asarray(source_images)), self.predictions, fewest=1)
        weights = np.ones(len(self.predictions)) if prior is None else np.asarray(prior, dtype=np.float64)
        if weights.shape != (len(self.predictions),) or not (np.isfinite(weights) & (weights > 0)).all():
            raise InputError(f"the prior needs {len(self.predictions)} positive weights, got shape {weights.shape}")
        self._log_prior = torch.from_numpy(np.log(weights))

    def posterior(self, signals: NDArray[Any], *, repetitions: int | None = None) -> Array:
        """Calibrated probability of each image given each source signal, (n, n_images), as the source aligner's."""
        found: Array = self._log_posterior(signals, repetitions).exp().numpy()
        return found

    def predict_transformed(self, signals: NDArray[Any], *, repetitions: int | None = None) -> Array:
        """Mean of the mixture, (n, p_2), transformed units."""
        weights = torch.from_numpy(self.posterior(signals, repetitions=repetitions))
        found: Array = (weights @ self.predictions).numpy()
        return found

    def covariance(
        self, signals: NDArray[Any], *, source_repetitions: int | None = None, target_repetitions: int | None = None
    ) -> Array:
        """Covariance of the mixture for each source signal, (n, p_2, p_2): between images and within."""
        noise = self.target.noise(target_repetitions).cpu()
        found = []
        for weights in torch.from_numpy(self.posterior(signals, repetitions=source_repetitions)):
            centred = self.predictions - weights @ self.predictions
            found.append(noise + (weights[:, None] * centred).T @ centred)
        return torch.stack(found).numpy()

    def similarity(
        self,
        sources: NDArray[Any],
        targets: NDArray[Any],
        *,
        source_repetitions: int | None = None,
        target_repetitions: int | None = None,
    ) -> Array:
        """Log-density of target signals given source signals, (n, m), nats; see `Conversion.similarity`."""
        posterior = self._log_posterior(sources, source_repetitions)
        factor = cholesky(self.target.noise(target_repetitions).cpu())
        signals = torch.from_numpy(self.target.transform(targets))
        density = log_likelihood(signals, self.predictions, factor)
        found = torch.empty(len(posterior), len(density), dtype=torch.float64)
        for rows in _blocks(len(posterior), density.numel()):
            found[rows] = (posterior[rows, None, :] + density).logsumexp(2)
        scores: Array = found.numpy()
        return scores

    def _log_posterior(self, signals: NDArray[Any], repetitions: int | None) -> Tensor:
        """In logarithms: a target signal may fit only images that the source holds for next to impossible."""
        density = torch.from_numpy(self.source.log_density(signals, self.source_images, repetitions=repetitions))
        return torch.log_softmax(self.source.temperature * density + self._log_prior, dim=1)


def _check_images(source: Tensor, target: Tensor, *, fewest: int = 3) -> None:
    if source.ndim != 2 or target.ndim != 2 or len(source) != len(target):
        shapes = f"{tuple(source.shape)} and {tuple(target.shape)}"
        raise InputError(f"a conversion needs the same images for both models, got {shapes}")
    if len(source) < fewest:
        raise InputError(f"{len(source)} images are too few for a conversion", hint="give some hundred")


def _blocks(n: int, each: int) -> Iterator[slice]:
    step = max(1, CHUNK_NUMBERS // max(1, each))
    for start in range(0, n, step):
        yield slice(start, start + step)


def _unwhitened_variance(linear: SignalTransform, covariance: Tensor, n_chans: int, n_times: int) -> Tensor:
    """Variance of every channel and sample, (n_chans, n_times), after un-whitening channels at each sample."""
    scale = torch.broadcast_to(linear.deviation.double(), (n_chans, n_times))
    blocks = covariance.reshape(n_chans, n_times, n_chans, n_times).diagonal(dim1=1, dim2=3)  # (chan, chan, time)
    scaled = blocks * scale[:, None, :] * scale[None, :, :]
    back = torch.linalg.inv(linear.whitener.double())
    return torch.einsum("ac,cdt,ad->at", back, scaled, back)
