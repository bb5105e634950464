"""From the raw sessions of THINGS-EEG2 to a store that the reader maps: epochs, whitening, repetitions kept."""

from brainalign.datasets.things_eeg2.prepare.run import Plan, prepare
from brainalign.datasets.things_eeg2.prepare.settings import PrepareSettings

__all__ = ["Plan", "PrepareSettings", "prepare"]
