"""THINGS-MEG: four people, 22,448 object photos (Hebart, Contier, Teichmann et al. 2023)."""

from brainalign.datasets.things_meg.dataset import ThingsMEG

__all__ = ["ThingsMEG"]
