"""What every alignment model offers, whatever its family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from brainalign.alignment.targets import AnyTargets
from brainalign.protocols import Split
from brainalign.recordings import Recording


@runtime_checkable
class Aligner(Protocol):
    """A model that has learnt, or can learn, which signal belongs to which image.

    Attributes
    ----------
    has_epochs : bool
        Whether it is trained epoch by epoch, or fitted in closed form.
    """

    has_epochs: bool

    def fit(self, recordings: Sequence[Recording], features: Mapping[str, AnyTargets], split: Split) -> Any:
        """Learn from the split's training stimuli, choose on its validation stimuli, never see its test stimuli."""

    def similarity(
        self, signals: NDArray[Any], images: Mapping[str, NDArray[Any]], *, repetitions: Any = None
    ) -> NDArray[Any]:
        """How well each signal (n_signals, n_chans, n_times) fits each image, (n_signals, n_images)."""

    @property
    def layer_weights(self) -> list[float] | None:
        """Weights of the layers of a mixture, None for a single layer."""

    def save(self, path: str | Path) -> None:
        """Write one safetensors file."""
