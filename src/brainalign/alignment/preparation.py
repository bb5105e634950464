"""Data ready for training, made once for all runs that share it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from brainalign.alignment.targets import AnyTargets
from brainalign.alignment.transforms import BandTransform, SignalTransform
from brainalign.encoders import BrainEncoder
from brainalign.protocols import Split
from brainalign.recipes.recipe import Recipe
from brainalign.recordings import Recording
from brainalign.recordings.whitening import noise_covariance, whitening_matrix

KEPT_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Side:
    """Training and validation data of one side (signals or image features), transformed, on the device.

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


class Preparation:
    """Fits transforms on training data and keeps what several runs ask for.

    Parameters
    ----------
    recording : Recording
        Channels and samples already selected.
    split : Split
    device : torch.device
    noise : array of shape (n_chans, n_chans), optional
        Covariance of single-trial noise, for whitening; estimated from training trials where it is needed but not
        given.
    """

    def __init__(
        self, recording: Recording, split: Split, device: torch.device, noise: NDArray[Any] | None = None
    ) -> None:
        self.recording, self.split, self.device, self.noise = recording, split, device, noise
        self._kept: OrderedDict[Hashable, Side] = OrderedDict()
        self._alive: dict[int, AnyTargets] = {}

    def signals(self, recipe: Recipe) -> Side:
        """Signals after the recipe's transform."""
        return self._once(("signals", recipe.signals.model_dump_json()), lambda: self._signals(recipe))

    def encoded(self, recipe: Recipe, encoder: BrainEncoder) -> Side:
        """Signals after the recipe's transform and what the encoder does ahead of training."""
        side = self.signals(recipe)
        if type(encoder).prepare is BrainEncoder.prepare:
            return side
        key = ("encoded", recipe.signals.model_dump_json(), recipe.encoder.model_dump_json())
        return self._once(
            key, lambda: Side(side.transform, encoder.prepare(side.training), encoder.prepare(side.validation))
        )

    def targets(self, recipe: Recipe, targets: AnyTargets) -> Side:
        """Image features after the recipe's transform."""
        key = (
            "targets",
            tuple(map(self._identity, targets.bands)),
            recipe.target.components,
            recipe.target.standardize,
        )
        return self._once(key, lambda: self._targets(recipe, targets))

    def _identity(self, band: AnyTargets) -> int:
        self._alive[id(band)] = band  # so that its id is not given to another one
        return id(band)

    def _signals(self, recipe: Recipe) -> Side:
        training = torch.from_numpy(self.recording.average(self.split.train)).to(self.device)
        whitener = None
        if recipe.signals.whiten == "mvnn":
            noise = noise_covariance(self.recording, self.split.train) if self.noise is None else self.noise
            whitener = torch.from_numpy(whitening_matrix(noise)).to(self.device)
        transform = SignalTransform.fit(training, recipe.signals, whitener)
        validation = torch.from_numpy(self.recording.average(self.split.validation)).to(self.device)
        return Side(transform, transform(training), transform(validation))

    def _targets(self, recipe: Recipe, targets: AnyTargets) -> Side:
        training = torch.from_numpy(targets.of(self.split.train)).to(self.device)
        transform = BandTransform.fit(training, [band.dim for band in targets.bands], recipe.target)
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
