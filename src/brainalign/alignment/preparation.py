"""Data ready for training, made once for all runs that share it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brainalign.alignment.targets import AnyTargets
from brainalign.alignment.transforms import BandTransform, SignalTransform
from brainalign.encoders import BrainEncoder
from brainalign.errors import InputError
from brainalign.protocols import Split
from brainalign.recipes.recipe import Recipe, TargetSettings
from brainalign.recordings import Recording
from brainalign.recordings.whitening import noise_covariance, whitening_matrix

KEPT_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Side:
    """Training and validation data of one side (signals, image or text features), transformed, on the device.

    Attributes
    ----------
    transform : SignalTransform or BandTransform
        Fitted on the training data.
    training, validation : Tensor of shape (n, ...)
    """

    transform: Any
    training: Tensor
    validation: Tensor

    @property
    def nbytes(self) -> int:
        """Memory of the data."""
        return sum(t.numel() * t.element_size() for t in (self.training, self.validation))


@dataclass(frozen=True)
class Rows:
    """What each signal of a part showed, and to whom.

    Attributes
    ----------
    images : Tensor of shape (n,)
        Place of the image among the split's stimuli of that part.
    subjects : Tensor of shape (n,)
        Number of the recording.
    """

    images: Tensor
    subjects: Tensor


class Preparation:
    """Fits transforms on training data and keeps what several runs ask for.

    Parameters
    ----------
    recordings : sequence of Recording
        One a training subject, channels and samples already selected and the same in all.
    split : Split
    device : torch.device
    noise : array of shape (n_chans, n_chans), optional
        Covariance of single-trial noise, for whitening; estimated from training trials where it is needed but not
        given.

    Raises
    ------
    InputError
        If there is no recording, or they differ in channels or samples.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        split: Split,
        device: torch.device,
        noise: NDArray[Any] | None = None,
    ) -> None:
        check_alike(recordings)
        self.recordings, self.split, self.device, self.noise = tuple(recordings), split, device, noise
        self._kept: OrderedDict[Hashable, Side] = OrderedDict()
        self._alive: dict[int, AnyTargets] = {}

    @property
    def recording(self) -> Recording:
        """The first recording, for what all have in common."""
        return self.recordings[0]

    @property
    def n_subjects(self) -> int:
        """Recordings, one a training subject."""
        return len(self.recordings)

    def rows(self, part: str, recipe: Recipe) -> Rows | None:
        """What the signals of 'training' or 'validation' belong to; None where row i is image i of one subject."""
        single = part == "training" and recipe.training.trials == "single"
        if self.n_subjects == 1 and not single:
            return None
        ids = self.split.train if part == "training" else self.split.validation
        place = {name: number for number, name in enumerate(ids)}
        images, subjects = [], []
        for number, recording in enumerate(self.recordings):
            names = _seen(recording, ids)
            counts = [len(recording.trials_of(name)) if single else 1 for name in names]
            images += np.repeat([place[name] for name in names], counts).tolist()
            subjects += [number] * sum(counts)
        return Rows(torch.tensor(images, device=self.device), torch.tensor(subjects, device=self.device))

    def signals(self, recipe: Recipe) -> Side:
        """Signals after the recipe's transform, subject after subject."""
        key = ("signals", recipe.signals.model_dump_json(), recipe.training.trials)
        return self._once(key, lambda: self._signals(recipe))

    def encoded(self, recipe: Recipe, encoder: BrainEncoder) -> Side:
        """Signals after the recipe's transform and what the encoder does ahead of training."""
        side = self.signals(recipe)
        if type(encoder).prepare is BrainEncoder.prepare:
            return side
        key = ("encoded", recipe.signals.model_dump_json(), recipe.training.trials, recipe.encoder.model_dump_json())
        return self._once(
            key, lambda: Side(side.transform, encoder.prepare(side.training), encoder.prepare(side.validation))
        )

    def targets(self, recipe: Recipe, targets: AnyTargets) -> Side:
        """Image features after the recipe's transform."""
        settings = recipe.target
        return self._once(self._key("targets", targets, settings), lambda: self._targets(targets, settings))

    def texts(self, recipe: Recipe, targets: AnyTargets) -> Side:
        """Text features, all of them, standardised where the recipe says so."""
        settings = TargetSettings(components=None, standardize=recipe.text.standardize)
        return self._once(self._key("texts", targets, settings), lambda: self._targets(targets, settings))

    def _key(self, kind: str, targets: AnyTargets, settings: TargetSettings) -> Hashable:
        return (kind, tuple(map(self._identity, targets.bands)), settings.components, settings.standardize)

    def _identity(self, band: AnyTargets) -> int:
        self._alive[id(band)] = band  # so that its id is not given to another one
        return id(band)

    def _signals(self, recipe: Recipe) -> Side:
        training = self._read(self.split.train, single=recipe.training.trials == "single")
        whitener = None
        if recipe.signals.whiten == "mvnn":
            noise = mean_noise(self.recordings, self.split.train) if self.noise is None else self.noise
            whitener = torch.from_numpy(whitening_matrix(noise)).to(self.device)
        fitted = SignalTransform.fit(training, recipe.signals, whitener)
        transform = fitted.windowed(self.recording.times, recipe.signals.window)
        validation = self._read(self.split.validation)
        return Side(transform, transform(training), transform(validation))

    def _read(self, ids: Sequence[str], *, single: bool = False) -> Tensor:
        """Signals of all recordings, (n, n_chans, n_times): a mean an image, or every trial."""
        parts = []
        for recording in self.recordings:
            names = _seen(recording, ids) if self.n_subjects > 1 else list(ids)
            if single:
                parts.append(recording.read(np.concatenate([recording.trials_of(name) for name in names])))
            else:
                parts.append(recording.average(names))
        whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return torch.from_numpy(whole).to(self.device)

    def _targets(self, targets: AnyTargets, settings: TargetSettings) -> Side:
        training = torch.from_numpy(targets.of(self.split.train)).to(self.device)
        transform = BandTransform.fit(training, [band.dim for band in targets.bands], settings)
        validation = torch.from_numpy(targets.of(self.split.validation)).to(self.device)
        return Side(transform, transform(training), transform(validation))

    def _once(self, key: Hashable, make: Callable[[], Side]) -> Side:
        """What was made before, or made now; the oldest go where too much is kept."""
        if key not in self._kept:
            self._kept[key] = make()
            while len(self._kept) > 2 and sum(side.nbytes for side in self._kept.values()) > KEPT_BYTES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


def check_alike(recordings: Sequence[Recording]) -> None:
    """Refuse recordings that cannot train one encoder.

    Raises
    ------
    InputError
        If there is none, or channels, samples or their times differ.
    """
    if not recordings:
        raise InputError("no recording to train on", hint="a protocol that leaves a subject out needs at least two")
    first = recordings[0]
    for other in recordings[1:]:
        if (other.ch_names, other.n_times) != (first.ch_names, first.n_times):
            raise InputError(
                f"subjects {first.subject} and {other.subject} differ: {first.n_chans} channels x {first.n_times} "
                f"samples and {other.n_chans} x {other.n_times}, or other channel names",
                hint="choose channels that all have with signals.channels, or train subjects apart",
            )
        late = abs(other.tmin - first.tmin) > 0.5 / (first.sfreq or 1.0)
        if other.sfreq != first.sfreq or (first.n_times > 1 and late):
            raise InputError(
                f"subjects {first.subject} and {other.subject} differ: samples at {_axis(first)} and {_axis(other)}",
                hint="cut all subjects at one rate from one start, or train subjects apart",
            )


def _axis(recording: Recording) -> str:
    rate = f"{recording.sfreq:g} Hz" if recording.sfreq else "no rate"
    return f"{rate} from {recording.tmin:g} s"


def mean_noise(recordings: Sequence[Recording], ids: Sequence[str]) -> NDArray[np.float64]:
    """Noise covariance of the training trials, (n_chans, n_chans): the mean over subjects."""
    found: NDArray[np.float64] = np.mean([noise_covariance(r, _seen(r, ids)) for r in recordings], axis=0)
    return found


def _seen(recording: Recording, ids: Sequence[str]) -> list[str]:
    """Of some stimuli, those that a recording has trials of, in order."""
    return [name for name in ids if name in recording.index]
