"""What the channel measures of a run share: its channels, standardised signals, and image features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from brainalign.alignment.preparation import Preparation
from brainalign.analysis.channels_regions import Groups, channel_groups
from brainalign.analysis.onset import Values
from brainalign.analysis.reopened import Reopened
from brainalign.analysis.stored_score import check_score
from brainalign.analysis.windows import Window, signals_of, windows_of
from brainalign.errors import InputError
from brainalign.evaluation import top_k_accuracy
from brainalign.protocols.sealed import TestData
from brainalign.recipes.recipe import Recipe

FEWEST_IMAGES = 10


@dataclass(frozen=True)
class Channels:
    """The channels that a run's model takes.

    Attributes
    ----------
    names : tuple of n_chans str
    unit : str
        Of patterns: the recording's, or its square root where the run takes that.
    positions : array of shape (n_chans, 3) or None
        Metres.
    times : array of shape (n_times,) or None
        Seconds from stimulus onset; None where there is no time axis.
    groups : mapping
        Places of channels by region.
    """

    names: tuple[str, ...]
    modality: str
    unit: str
    positions: NDArray[np.float64] | None
    times: NDArray[np.float64] | None
    groups: Groups

    def label(self, place: int) -> str:
        """The regions of a channel, empty where none is known."""
        return ", ".join(name for name, members in self.groups.items() if place in members)

    @property
    def after(self) -> slice:
        """Samples from stimulus onset on: what an image can have evoked."""
        if self.times is None or self.times[-1] < 0:
            return slice(None)
        return slice(int(np.searchsorted(self.times, -1e-9)), None)

    def windows(self, width: float) -> list[Window]:
        """Windows side by side, the first one from the first sample; none without a time axis."""
        if self.times is None:
            return []
        span = len(self.times) * float(self.times[1] - self.times[0])
        return windows_of(self.times, ["sliding"], step=span, width=min(width, span), slide=min(width, span))


@dataclass(frozen=True)
class Material:
    """One run, its channels, and signals of training and held-out images.

    Attributes
    ----------
    held : TestData
        Validation or test signals, in the recording's units.
    train_signals, held_signals : arrays of shape (n, n_chans, n_times), float32
        z-scores with training statistics, every channel and sample by itself, not whitened.
    train_images, held_images : arrays of shape (n, dim), float32
        Image features as the run transforms them, row by row with the signals.
    scale : array of shape (n_chans, n_times)
        What a z-score of 1 is in the recording's units (square roots, where the run takes them); 0 where training
        signals do not vary.
    """

    run: Reopened
    channels: Channels
    held: TestData
    train_signals: NDArray[np.float32]
    train_images: NDArray[np.float32]
    held_signals: NDArray[np.float32]
    held_images: NDArray[np.float32]
    scale: NDArray[np.float32]


def gather(run: Reopened, images: str) -> Material:
    """Signals and features of a run; `images` 'test' opens the test set.

    Raises
    ------
    InputError
        If the data are not those of the run, or too few images are held out.
    """
    result, session, recipe = run.result, run.session, _plain(run.recipe)
    split = session.training_split(result.subject, result.split, recipe)
    recordings = session.development(result.subject, result.split, recipe.signals)
    held = signals_of(run, images, run.recipe)
    if len(set(held.query_ids)) < FEWEST_IMAGES:
        text = f"{len(set(held.query_ids))} {images} images are too few to measure channels, {FEWEST_IMAGES} are needed"
        raise InputError(text, where=run.folder)
    _check(run)
    preparation = Preparation(recordings, split, torch.device("cpu"))
    signals = preparation.signals(recipe)
    features = preparation.targets(recipe, run.targets.restrict([*split.train, *split.validation]))
    rows = preparation.rows("training", recipe)
    shown = run.targets.of(held.query_ids)
    recording = recordings[0]
    channels = Channels(
        recording.ch_names,
        recording.modality,
        unit_of(recording.unit, recipe),
        recording.ch_pos,
        recording.times if recording.sfreq is not None and recording.n_times > 1 else None,
        channel_groups(recording.ch_names, recording.modality, recording.channels),
    )
    training = features.training if rows is None else features.training[rows.images]
    return Material(
        run,
        channels,
        held,
        signals.training.numpy(),
        training.numpy(),
        signals.transform(torch.from_numpy(held.signals)).numpy(),
        features.transform(torch.from_numpy(np.asarray(shown, np.float32))).numpy(),
        signals.transform.deviation.numpy(),
    )


def unit_of(unit: str, recipe: Recipe) -> str:
    """What z-scores times `Material.scale` are counted in; empty where the recording names no unit."""
    return f"square root of {unit}" if unit and recipe.signals.transform == "sqrt" else unit


def _plain(recipe: Recipe) -> Recipe:
    """The run's recipe on averaged signals as they were recorded: whitening would mix channels."""
    signals = recipe.signals.model_copy(update={"whiten": "none", "scale": "feature", "window": None})
    training = recipe.training.model_copy(update={"trials": "averaged"})
    return recipe.model_copy(update={"signals": signals, "training": training})


def _check(run: Reopened) -> None:
    """Refuse data, or options of a virtual data set, that do not give the run's own validation score."""
    result = run.result
    data = run.session.validation_data(result.subject, result.split, run.recipe.signals)
    features = {"image": run.targets.of(data.gallery_ids)}
    similarity = run.aligner.similarity(data.signals, features, repetitions=data.counts)
    column = {name: number for number, name in enumerate(data.gallery_ids)}
    again = top_k_accuracy(similarity, np.array([column[name] for name in data.query_ids]), 1)
    check_score(run.folder, "validation", result.metrics.validation.top1, again, len(similarity))


@dataclass(frozen=True)
class Estimates:
    """A value a channel and a mean a region, with 95 % intervals over images.

    Attributes
    ----------
    values, lo, hi : arrays of shape (n_chans,)
    p : array of shape (n_chans,) or None
        Corrected for all channels.
    regions : dict
        (mean over its channels, lo, hi) by region.
    """

    values: Values
    lo: Values
    hi: Values
    p: Values | None
    regions: Mapping[str, tuple[float, float, float]]

    @classmethod
    def of(cls, values: Values, draws: Values, groups: Groups, p: Values | None = None) -> Estimates:
        """From values and their resamples (n_resamples, n_chans)."""
        lo, hi = np.percentile(draws, [2.5, 97.5], axis=0)
        regions = {}
        for name, members in groups.items():
            ends = np.percentile(draws[:, members].mean(1), [2.5, 97.5])
            regions[name] = (float(values[members].mean()), float(ends[0]), float(ends[1]))
        return cls(values, lo, hi, p, regions)

    def row(self, place: int, name: str) -> dict[str, Any]:
        """Cells of a channel."""
        cells = {name: self.values[place], f"{name}_ci95_lo": self.lo[place], f"{name}_ci95_hi": self.hi[place]}
        if self.p is not None:
            cells[f"{name}_p_corrected"] = self.p[place]
        return {key: float(value) for key, value in cells.items()}


def resampling_weights(n: int, n_resamples: int, seed: int) -> Values:
    """Weights of n images in resamples with replacement, (n_resamples, n), rows summing to 1."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=n_resamples) / n


def one_row_an_image(ids: Sequence[str], *arrays: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Means over the rows that showed the same image (signals of several subjects), images in order of appearance."""
    shown = {name: number for number, name in enumerate(dict.fromkeys(ids))}
    if len(shown) == len(ids):
        return arrays
    place = np.array([shown[name] for name in ids])
    counts = np.bincount(place)
    found = []
    for array in arrays:
        total = np.zeros((len(shown), *array.shape[1:]))
        np.add.at(total, place, array)
        found.append(total / counts.reshape(-1, *[1] * (array.ndim - 1)))
    return tuple(found)
