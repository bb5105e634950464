"""THINGS-EEG2: ten people, 16,740 object photos (Gifford, Dwivedi, Roig & Cichy 2022)."""

from brainalign.datasets.things_eeg2.dataset import ThingsEEG2

__all__ = ["ThingsEEG2"]
