r"""Haufe patterns: how signals move with what a model reads out of them.

A filter W that reads latents :math:`\hat s = W^\top x` is no map of where they come from: it also cancels noise. The
forward model :math:`x = A \hat s + \varepsilon`, with noise that is uncorrelated with the latents, has

.. math:: A = \Sigma_x W \Sigma_{\hat s}^{-1}

(Haufe et al. 2014, equation 6 and theorem 1). :math:`\Sigma_x W` is the covariance of signals and latents, so A is the
regression of signals on latents, which any model has, linear or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.analysis.channels_data import Estimates, Material, one_row_an_image, resampling_weights
from brainalign.analysis.onset import Values
from brainalign.errors import InputError

IMAGES_A_COMPONENT = 10


@dataclass(frozen=True)
class Patterns:
    """Forward model of a run's signals on the components of its latents that covary most with the image.

    Attributes
    ----------
    latent : str
        What the latents are, in words.
    explained : Estimates
        Share of each channel's variance between images (samples from stimulus onset on, pooled) that the latents
        explain, every image predicted by the fit without it.
    maps : array of shape (n_components, n_chans, n_times)
        Change of the signal, in `Channels.unit`, when a component rises by one standard deviation.
    """

    latent: str
    explained: Estimates
    maps: Values

    def strongest_sample(self, component: int, after: slice) -> int:
        """Sample at which the root mean square over channels of a component's pattern is largest."""
        power = (self.maps[component] ** 2).mean(0)[after]
        return int(power.argmax()) + (after.start or 0)


def haufe_pattern(signals: NDArray[Any], latents: NDArray[Any]) -> Values:
    """Activation patterns by regression: cov(x, s) cov(s)^-1.

    Parameters
    ----------
    signals : array of shape (n, p)
    latents : array of shape (n, k)

    Returns
    -------
    array of shape (p, k)
        Smallest-norm solution where latents depend on one another.

    Raises
    ------
    InputError
        If there are not more observations than latents.

    References
    ----------
    S. Haufe et al., On the interpretation of weight vectors of linear models in multivariate neuroimaging, NeuroImage
    87 (2014), 96-110, equation 6.

    Examples
    --------
    >>> s = np.array([[1.0], [-1.0], [2.0], [-2.0]])
    >>> haufe_pattern(s @ [[3.0, -1.0]], s).ravel().tolist()
    [3.0, -1.0]
    """
    x, s = (np.asarray(v, dtype=np.float64) - np.mean(v, axis=0, dtype=np.float64) for v in (signals, latents))
    if len(s) <= s.shape[1] or len(s) != len(x):
        raise InputError(f"{len(s)} latents and {len(x)} signals do not fix patterns of {s.shape[1]} components")
    return np.asarray(np.linalg.lstsq(s, x, rcond=None)[0].T)


def pattern_of_weights(covariance: NDArray[Any], weights: NDArray[Any]) -> Values:
    """Activation patterns of a linear model: cov(x) W (W' cov(x) W)^-1.

    Parameters
    ----------
    covariance : array of shape (p, p)
        Of the signals.
    weights : array of shape (p, k)
        Latents are `signals @ weights`.

    Returns
    -------
    array of shape (p, k)
        The same as `haufe_pattern` on the signals that the covariance is of.
    """
    read = np.asarray(covariance, np.float64) @ np.asarray(weights, np.float64)
    return np.asarray(np.linalg.solve((weights.T @ read).T, read.T).T)


def shared_axes(read: NDArray[Any], shown: NDArray[Any], k: int) -> Values:
    """Directions of latents along which they covary most with what they should be, the strongest first.

    The left singular vectors of their covariance matrix: where the two are the same, their principal axes.

    Parameters
    ----------
    read, shown : arrays of shape (n, dim)
        Latents of signals and of the images that were shown.

    Returns
    -------
    array of shape (dim, k)
        Orthonormal columns; the sign makes each column's largest entry positive.
    """
    a, b = (np.asarray(v, np.float64) - np.mean(v, axis=0, dtype=np.float64) for v in (read, shown))
    # Singular vectors by way of the (n, n) side, which is small where latents are wide.
    qa, ra = np.linalg.qr(a.T)
    rb = np.asarray(np.linalg.qr(b.T, mode="r"))
    axes = (qa @ np.linalg.svd(ra @ rb.T, full_matrices=False)[0])[:, :k]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(0)[None], 0)
    return np.asarray(axes * np.where(largest < 0, -1.0, 1.0))


def explained_share(
    signals: NDArray[Any], latents: NDArray[Any], weights: Values | None = None
) -> tuple[Values, Values | None]:
    """Leave-one-out share of variance that a linear fit on the latents explains, channel by channel.

    1 - sum of squared residuals / sum of squared deviations; both of every image under the fit (the mean) of the
    others, over all samples of the channel. Below 0 where the latents predict worse than the mean.

    Parameters
    ----------
    signals : array of shape (n, n_chans, n_times)
    latents : array of shape (n, k)
    weights : array of shape (n_resamples, n), optional
        Of images; their residuals are kept.

    Returns
    -------
    array of shape (n_chans,), and of shape (n_resamples, n_chans) or None
    """
    n = len(signals)
    design = np.column_stack([np.ones(n), np.asarray(latents, np.float64)])
    basis = np.linalg.svd(design, full_matrices=False)
    u = basis[0][:, basis[1] > basis[1][0] * 1e-10]
    room = np.maximum(1 - (u**2).sum(1), 1e-12)  # 1 - leverage
    share = np.empty((2, n, signals.shape[1]))
    for channel in range(signals.shape[1]):
        x = np.asarray(signals[:, channel], np.float64)
        share[0, :, channel] = (((x - u @ (u.T @ x)) / room[:, None]) ** 2).sum(1)
        share[1, :, channel] = (((x - x.mean(0)) * n / (n - 1)) ** 2).sum(1)
    drawn = None if weights is None else _share(weights @ share[0], weights @ share[1])
    return _share(share[0].sum(0), share[1].sum(0)), drawn


def measure_patterns(material: Material, components: int, *, n_resamples: int, seed: int) -> Patterns | str:
    """Patterns of a run; in words why there are none where its model has no latents."""
    found = _latents(material)
    if isinstance(found, str):
        return found
    latent, *both = found
    x, read, shown = one_row_an_image(material.held.query_ids, material.held_signals, *both)
    k = max(1, min(components, len(x) // IMAGES_A_COMPONENT, read.shape[1]))
    s = (read - np.mean(read, axis=0)) @ shared_axes(read, shown, k)
    spread = s.std(0)
    if not (spread > 1e-9 * max(1.0, float(np.abs(s).max()))).all():
        return "the model gives all signals the same latents"
    scores = (s - s.mean(0)) / spread
    shape = x.shape[1:]
    maps = haufe_pattern(x.reshape(len(x), -1), scores).T.reshape(k, *shape) * material.scale.astype(np.float64)
    after = material.channels.after
    weights = resampling_weights(len(x), n_resamples, seed)
    share, drawn = explained_share(x[..., after], scores, weights)
    assert drawn is not None
    return Patterns(latent, Estimates.of(share, drawn, material.channels.groups), maps)


def _latents(material: Material) -> tuple[str, NDArray[Any], NDArray[Any]] | str:
    """What the latents are; those that the model reads from the held-out signals, and those of their images."""
    aligner, held = material.run.aligner, material.held
    features = material.run.targets.of(held.query_ids)
    if hasattr(aligner, "predict_features"):
        return "image features that the model decodes", aligner.predict_features(held.signals), material.held_images
    if hasattr(aligner, "embed_brain") and hasattr(aligner, "embed_image"):
        return "brain embedding", aligner.embed_brain(held.signals), aligner.embed_image(features)
    if hasattr(aligner, "predict_transformed"):
        expected = aligner.predict_transformed(features)
        return "signal that the model expects of the image", expected, expected
    return f"a model of family '{material.run.recipe.family}' has no latents"


def _share(residual: Values, total: Values) -> Values:
    return 1 - np.divide(residual, total, out=np.ones_like(residual), where=total > 0)
