"""What a linear fit is made of: signals of one subject or several, image features, and the transforms of both."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brainalign.alignment.band_weights import learn_weights
from brainalign.alignment.feature_map import FeatureMap
from brainalign.alignment.preparation import mean_noise
from brainalign.alignment.receptive_field import grid_side, learn_cells, with_cells
from brainalign.alignment.targets import AnyTargets
from brainalign.alignment.transforms import SignalTransform
from brainalign.errors import InputError
from brainalign.protocols import Split
from brainalign.recipes.recipe import Recipe, SignalSettings
from brainalign.recordings import Recording
from brainalign.recordings.trial_noise import has_trials, trial_noise_covariance
from brainalign.recordings.whitening import whitening_matrix


def shown(recordings: Sequence[Recording], ids: Sequence[str]) -> tuple[str, ...]:
    """Of some stimuli, those that any of several subjects was shown; of one subject all, so that a gap is an error."""
    if len(recordings) == 1:
        return tuple(ids)
    return tuple(name for name in ids if any(name in recording.index for recording in recordings))


def shown_to(recordings: Sequence[Recording], ids: Sequence[str]) -> list[tuple[str, ...]]:
    """The same for each subject by itself."""
    if len(recordings) == 1:
        return [tuple(ids)]
    return [tuple(name for name in ids if name in recording.index) for recording in recordings]


@dataclass(frozen=True)
class Inputs:
    """Signals and image features by stimulus, ready for a linear fit.

    Attributes
    ----------
    recordings : tuple of Recording
        One a subject, the same channels and samples.
    transform : SignalTransform
        Fitted on the training signals of all subjects.
    chunk : int
        Images that are held at once.
    """

    recordings: tuple[Recording, ...]
    targets: AnyTargets
    split: Split
    transform: SignalTransform
    device: torch.device
    chunk: int

    @property
    def n_outputs(self) -> int:
        """Channels times samples."""
        return self.recordings[0].n_chans * self.recordings[0].n_times

    @functools.cached_property
    def train(self) -> tuple[str, ...]:
        """Training images that have a signal."""
        return shown(self.recordings, self.split.train)

    @functools.cached_property
    def validation(self) -> tuple[str, ...]:
        """Validation images that have a signal."""
        return shown(self.recordings, self.split.validation)

    def images(self, ids: Sequence[str]) -> Tensor:
        """Raw features, (n, dim)."""
        return torch.from_numpy(self.targets.of(ids)).to(self.device)

    def signals(self, ids: Sequence[str]) -> Tensor:
        """Transformed signals, (n, p) float64; of several subjects the mean over those who saw the image."""
        if len(self.recordings) == 1:
            return self.of_subject(0, ids)
        seen = self.seen(ids)
        total = torch.zeros(len(ids), self.n_outputs, dtype=torch.float64, device=self.device)
        for number, known in enumerate(shown_to(self.recordings, ids)):
            total[seen[number]] += self.of_subject(number, known)
        return total / seen.sum(0)[:, None]

    def of_subject(self, number: int, ids: Sequence[str]) -> Tensor:
        """Transformed signals of one subject, (n, p) float64."""
        values = self.transform(torch.from_numpy(self.recordings[number].average(ids)))
        return values.flatten(1).double().to(self.device)

    def seen(self, ids: Sequence[str]) -> Tensor:
        """Who was shown what, (n_subjects, n) of bool."""
        rows = [[name in recording.index for name in ids] for recording in self.recordings]
        return torch.tensor(rows, dtype=torch.bool, device=self.device).reshape(len(rows), len(ids))

    def parts(self, ids: Sequence[str]) -> Iterator[Sequence[str]]:
        """Some images after others."""
        return parts(ids, self.chunk)

    def chunks(self, features: FeatureMap, ids: Sequence[str]) -> Iterator[tuple[Tensor, Tensor]]:
        """Transformed features and signals of some images after others."""
        for part in self.parts(ids):
            yield features(self.images(part)), self.signals(part)


def parts(ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Cut a sequence into pieces of a size."""
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def fit_signals(
    recordings: Sequence[Recording],
    ids: Sequence[str],
    settings: SignalSettings,
    noise: NDArray[np.float64] | None,
    chunk: int,
) -> SignalTransform:
    """Scaling and whitening from the training signals of all subjects, every subject's row of an image by itself.

    Parameters
    ----------
    noise : array of shape (n_chans, n_chans), optional
        For whitening; from the recordings' own repetitions where None.
    """
    whitener = None
    if settings.whiten == "mvnn":
        found = mean_noise(recordings, ids) if noise is None else noise
        whitener = torch.from_numpy(whitening_matrix(found))

    def signals() -> Iterator[Tensor]:
        for recording, known in zip(recordings, shown_to(recordings, ids), strict=True):
            yield from (torch.from_numpy(recording.average(part)) for part in parts(known, chunk))

    return SignalTransform.fit_chunks(signals, settings, whitener)


def fit_features(recipe: Recipe, data: Inputs) -> tuple[FeatureMap, list[float] | None]:
    """Bands of the target with their weights, and the weights of the cells of a grid where a field is learned.

    Raises
    ------
    InputError
        If `generative.bands` lists another number of weights than there are layers.
    """
    settings, cells = recipe.target, None
    fitted = FeatureMap.fit(
        lambda: (data.images(part) for part in data.parts(data.train)),
        [band.dim for band in data.targets.bands],
        components=settings.components,
        standardize=settings.standardize,
        sample=lambda most: data.images(data.train[:: max(1, -(-len(data.train) // most))]),
    )
    if recipe.generative.field == "learned":
        fitted, cells = _fit_field(recipe, data, fitted)
    wanted = recipe.generative.bands
    if wanted == "equal" or len(fitted.bands) == 1:
        return fitted, cells
    if wanted == "learned":
        return fitted.with_weights(learn_weights(fitted, data.images, data.signals, data.train)), cells
    if len(wanted) != len(fitted.bands):
        text = f"{len(wanted)} weights for {len(fitted.bands)} layers"
        raise InputError(text, where="generative.bands", hint="give one a layer, or equal, or learned")
    return fitted.with_weights([float(w) / sum(map(float, wanted)) for w in wanted]), cells


def _fit_field(recipe: Recipe, data: Inputs, features: FeatureMap) -> tuple[FeatureMap, list[float]]:
    side = grid_side(data.targets)
    if side is None or recipe.target.components is not None:
        text = "a receptive field needs layers that are all pooled by one gridN, without principal components"
        raise InputError(text, where="generative.field", hint="use flat, or drop layer final and target.components")
    cells = learn_cells(features, side, data.images, data.signals, data.train)
    return with_cells(features, cells), cells


def fit_trial_noise(
    trials: Sequence[Recording], ids: Sequence[str], transform: SignalTransform
) -> NDArray[np.float64] | None:
    """Covariance of single trials, transformed units, (p, p): the mean over subjects; None where nothing is repeated.

    Parameters
    ----------
    trials : sequence of Recording
        One a subject; those without repeated single trials are passed over.
    """

    def flat(signals: NDArray[np.float32]) -> NDArray[np.float64]:
        return transform(torch.from_numpy(signals)).flatten(1).double().numpy()

    found: list[NDArray[np.float64]] = []
    for recording, known in zip(trials, shown_to(trials, ids), strict=True):
        if has_trials(recording, known):
            found.append(trial_noise_covariance(recording, known, flat))
    if not found:
        return None
    mean: NDArray[np.float64] = np.mean(found, axis=0) if len(found) > 1 else found[0]
    return mean
