r"""From signals to images: the nearest of any gallery, with probabilities where the model knows them.

A generative model gives :math:`p(j \mid y) \propto \mathcal N(y; m(x_j), \Sigma / T)` over the gallery, with the
temperature T from validation. That the image is *none of these* is one more hypothesis: some other image, whose
prediction is drawn like those of a large set of images, :math:`y \sim \mathcal N(\bar m, C + \Sigma / T)`. Posterior
odds follow from the prior that the image is in the gallery at all (open-set identification; Bishop 2006, section 4.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brainalign.alignment.covariance import cholesky, log_likelihood
from brainalign.alignment.generative import GenerativeAligner, Repetitions
from brainalign.errors import InputError

Array = NDArray[np.float64]
NONE_PRIOR = 0.5
LEAST_BACKGROUND = 50  # images that say how predictions are spread


@dataclass(frozen=True)
class Decoded:
    """Nearest images of every signal.

    Attributes
    ----------
    columns : int array of shape (n, top)
        Gallery rows, nearest first.
    scores : array of shape (n, top)
        Cosine of a contrastive model; of a generative one log-likelihood times temperature, less that of the best.
    posterior : array of shape (n, top) or None
        Probability of each image, the hypothesis 'none of these' among the alternatives if there is one.
    none_of_these : array of shape (n,) or None
        Probability that the gallery does not hold the image.
    """

    columns: NDArray[np.intp]
    scores: Array
    posterior: Array | None = None
    none_of_these: Array | None = None


@dataclass(frozen=True)
class OpenGallery:
    """Posterior over a gallery and the hypothesis that the image is none of it.

    Parameters
    ----------
    aligner : GenerativeAligner
    background : array of shape (m, dim)
        Features of images that stand for 'any other image': training images, or a large set of others.
    none_prior : float
        Probability, before the signal is seen, that the gallery does not hold the image.

    Raises
    ------
    InputError
        If the prior is not between 0 and 1, or there are fewer than 50 background images.
    """

    aligner: GenerativeAligner
    background: NDArray[Any]
    none_prior: float = NONE_PRIOR

    def __post_init__(self) -> None:
        if not 0 < self.none_prior < 1:
            raise InputError(f"the prior of none of these is {self.none_prior}, expected between 0 and 1")
        if len(self.background) < LEAST_BACKGROUND:
            text = f"{len(self.background)} images are too few to say what other images look like"
            raise InputError(text, hint=f"give {LEAST_BACKGROUND} or more")

    def log_evidence(
        self, signals: NDArray[Any], gallery: NDArray[Any], *, repetitions: Repetitions = None
    ) -> tuple[Array, Array]:
        """Log-density under every image, (n, n_images), and under any other image, (n,), nats.

        Parameters
        ----------
        repetitions : int or sequence of n int, optional
            Trials that each signal averages; as many as in training where None.
        """
        flat = torch.from_numpy(self.aligner.transform(signals))
        of_images = torch.from_numpy(self.aligner.predict_transformed(gallery))
        others = torch.from_numpy(self.aligner.predict_transformed(self.background))
        mean, spread = others.mean(0), _covariance(others)
        inside, outside = np.empty((len(flat), len(of_images))), np.empty(len(flat))
        counts = np.broadcast_to(np.asarray(0 if repetitions is None else repetitions), len(flat))
        for count in np.unique(counts):
            rows = np.flatnonzero(counts == count)
            noise = self.aligner.noise(int(count) or None).cpu() / self.aligner.temperature
            part = flat[torch.from_numpy(rows)]
            inside[rows] = log_likelihood(part, of_images, cholesky(noise)).numpy()
            outside[rows] = log_likelihood(part, mean[None], cholesky(noise + spread))[:, 0].numpy()
        return inside, outside

    def posterior(
        self, signals: NDArray[Any], gallery: NDArray[Any], *, repetitions: Repetitions = None
    ) -> tuple[Array, Array]:
        """Probability of every image, (n, n_images), and of none of them, (n,); together 1."""
        inside, outside = self.log_evidence(signals, gallery, repetitions=repetitions)
        logits = np.concatenate(
            [
                inside + np.log((1 - self.none_prior) / inside.shape[1]),
                (outside + np.log(self.none_prior))[:, None],
            ],
            axis=1,
        )
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        return shares[:, :-1], shares[:, -1]


def _covariance(values: Tensor) -> Tensor:
    centred = values - values.mean(0)
    return centred.T @ centred / (len(values) - 1)


def decode(
    aligner: Any,
    signals: NDArray[Any],
    gallery: NDArray[Any],
    *,
    top: int = 5,
    background: NDArray[Any] | None = None,
    none_prior: float = NONE_PRIOR,
    repetitions: int | None = None,
) -> Decoded:
    """Find the images of a gallery that fit each signal best.

    Parameters
    ----------
    aligner : Aligner
        Fitted, of either family.
    signals : array of shape (n, n_chans, n_times)
        As the aligner takes them.
    gallery : array of shape (n_images, dim)
        Features as the aligner takes them.
    top : int
        How many images a signal; all of a smaller gallery.
    background : array of shape (m, dim), optional
        Features of other images, for 'none of these'; generative models only.
    none_prior : float
        See `OpenGallery`.
    repetitions : int, optional
        Trials that each signal averages; as many as in training where None.

    Raises
    ------
    InputError
        If signals or features do not fit the model, the gallery is empty, or `top` is below 1.

    Examples
    --------
    >>> from brainalign.alignment import Targets
    >>> from brainalign.alignment.generative import GenerativeAligner
    >>> from brainalign.protocols import Split
    >>> from brainalign.recipes import load_recipe
    >>> from brainalign.recordings import Recording
    >>> ids = [f"image{i:02d}" for i in range(40)]
    >>> x = np.random.default_rng(0).normal(size=(40, 6))
    >>> split = Split("own/intra/v1", 0, tuple(ids[:25]), tuple(ids[25:32]), tuple(ids[32:]), "image-disjoint")
    >>> recipe = load_recipe("generative", modality="fmri").with_target(layer=0, pooling="mean")
    >>> aligner, bank = GenerativeAligner(recipe), Targets(x, {n: r for r, n in enumerate(ids)})
    >>> _ = aligner.fit([Recording.from_arrays(x, ids, modality="fmri")], {"image": bank}, split)
    >>> decode(aligner, x[32:, :, None], x[32:], top=2).columns[:, 0].tolist()
    [0, 1, 2, 3, 4, 5, 6, 7]
    """
    if top < 1 or len(gallery) < 1:
        raise InputError(f"the nearest {top} of {len(gallery)} images were asked for", where="--top", hint="1 or more")
    similarity = aligner.similarity(signals, {"image": gallery}, repetitions=repetitions)
    columns = np.argsort(-similarity, axis=1, kind="stable")[:, :top]
    scores = np.take_along_axis(similarity.astype(np.float64), columns, axis=1)
    if not isinstance(aligner, GenerativeAligner):
        return Decoded(columns, scores)
    if background is None:
        shares, none = aligner.posterior(signals, gallery, repetitions=repetitions), None
    else:
        shares, none = OpenGallery(aligner, background, none_prior).posterior(signals, gallery, repetitions=repetitions)
    return Decoded(columns, scores, np.take_along_axis(shares, columns, axis=1), none)


def rows_of(found: Decoded, names: Sequence[str], images: Sequence[str]) -> list[dict[str, Any]]:
    """A table with one row a signal and rank: `signal, rank, image, score` and, where known, probabilities."""
    rows = []
    for query, name in enumerate(names):
        for place in range(found.columns.shape[1]):
            row: dict[str, Any] = {"signal": name, "rank": place + 1, "image": images[found.columns[query, place]]}
            row["score"] = round(float(found.scores[query, place]), 6)
            if found.posterior is not None:
                row["posterior"] = float(f"{found.posterior[query, place]:.6g}")
            if found.none_of_these is not None:
                row["none_of_these"] = float(f"{found.none_of_these[query]:.6g}")
            rows.append(row)
    return rows
