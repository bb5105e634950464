"""What every alignment model offers, whatever its family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from brainalign.alignment.targets import Targets
from brainalign.protocols import Split
from brainalign.recordings import Recording


@runtime_checkable
class Aligner(Protocol):
    """A model that has learnt, or can learn, which signal belongs to which image."""

    def fit(self, recordings: Sequence[Recording], features: Mapping[str, Targets], split: Split) -> Any:
        """Learn from the split's training stimuli, choose on its validation stimuli, never see its test stimuli."""

    def similarity(self, signals: NDArray[Any], images: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """How well each signal (n_signals, n_chans, n_times) fits each image, (n_signals, n_images)."""

    def save(self, path: str | Path) -> None:
        """Write one safetensors file."""
