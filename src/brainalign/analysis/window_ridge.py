"""A closed-form decoder a window: ridge regression from signals to image features (time-resolved decoding)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brainalign.alignment.preparation import Preparation
from brainalign.alignment.ridge import DualRidge, GramStatistics, PrimalRidge, RidgeMap
from brainalign.analysis.reopened import Reopened
from brainalign.errors import InputError

PENALTIES = tuple(float(p) for p in np.logspace(-3, 4, 15))  # relative to the mean eigenvalue of the signals' products
GALLERY_ROWS = 4096


class RidgeDecoder:
    """Ridge maps from a window of the signal to the target features of the image.

    Signals and features are transformed as the run transforms them (scaling and whitening, standardising and principal
    components), fitted on training data. The penalty of each window is the one with the smallest leave-one-out error on
    training images. An image's score is the cosine between predicted and true features.

    Parameters
    ----------
    run : Reopened
        Of any family; recordings of several training subjects are pooled.

    References
    ----------
    J.-R. King and S. Dehaene, Characterizing the dynamics of mental representations: the temporal generalization
    method, Trends in Cognitive Sciences 18 (2014).
    """

    def __init__(self, run: Reopened) -> None:
        result, session = run.result, run.session
        averaged = run.recipe.training.model_copy(update={"trials": "averaged"})
        recipe = run.recipe.model_copy(update={"training": averaged})
        where = (result.subject, result.split, recipe.signals)
        split = session.training_split(result.subject, result.split, recipe)
        noise = session.noise(result.subject, result.split, recipe)
        preparation = Preparation(session.development(*where), split, torch.device("cpu"), noise)
        signals = preparation.signals(recipe)
        images = preparation.targets(recipe, run.targets.restrict([*split.train, *split.validation]))
        rows = preparation.rows("training", recipe)
        self.transform_signals, self.transform_images = signals.transform, images.transform
        self.signals = signals.training.float()
        self.images = images.training if rows is None else images.training[rows.images]
        self._maps: dict[tuple[int, int], RidgeMap] = {}

    def transform(self, signals: NDArray[np.float32]) -> Tensor:
        """Signals as the maps take them, (n, n_chans, n_times)."""
        transformed: Tensor = self.transform_signals(torch.from_numpy(signals))
        return transformed

    def map(self, samples: tuple[int, int]) -> RidgeMap:
        """The map of a window of samples, fitted once."""
        if samples not in self._maps:
            self._maps[samples] = fit_ridge(self.signals[:, :, samples[0] : samples[1]].flatten(1), self.images)
        return self._maps[samples]

    def similarity(self, samples: tuple[int, int], signals: Tensor, gallery: NDArray[Any]) -> NDArray[np.float32]:
        """Cosine between features predicted from signals and those of images.

        Parameters
        ----------
        samples : (int, int)
            Window the map is fitted on.
        signals : Tensor of shape (n, n_chans, as many samples)
            Transformed.
        gallery : array of shape (n_gallery, dim)
            Raw features.

        Raises
        ------
        InputError
            If the signals are of another length than the window.
        """
        if signals.shape[2] != samples[1] - samples[0]:
            text = f"a map of {samples[1] - samples[0]} samples cannot take signals of {signals.shape[2]}"
            raise InputError(text, hint="windows of one width generalise to each other")
        predicted = self.map(samples)(signals.flatten(1).double())
        parts = torch.split(torch.from_numpy(np.asarray(gallery, np.float32)), GALLERY_ROWS)
        shown = torch.cat([self.transform_images(part) for part in parts]).double()
        cosine = _unit(predicted) @ _unit(shown).T
        return cosine.numpy().astype(np.float32)


def fit_ridge(signals: Tensor, features: Tensor) -> RidgeMap:
    """Ridge from signals (n, p) to features (n, k), the penalty by leave-one-out error on these rows.

    Raises
    ------
    InputError
        If there are fewer than three rows.
    """
    x, y = signals.double(), features.double()
    n, p = x.shape
    centred = x - x.mean(0)
    unit = max(float(centred.square().sum()) / min(n, p), 1e-12)
    if p <= n:
        primal = PrimalRidge(GramStatistics(p, y.shape[1]).add(x, y))
        errors = primal.loo_errors([(x, y)], [unit * q for q in PENALTIES])
        return primal.map(unit * PENALTIES[int(np.argmin(errors))])
    dual = DualRidge.of_features(x, y)
    errors = [float(dual.loo_residuals(unit * q).square().mean()) for q in PENALTIES]
    return dual.map(unit * PENALTIES[int(np.argmin(errors))], [x])


def _unit(rows: Tensor) -> Tensor:
    unit: Tensor = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return unit
