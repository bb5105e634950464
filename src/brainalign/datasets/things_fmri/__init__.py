"""THINGS-fMRI: three people, 8,740 object photos (Hebart, Contier, Teichmann et al. 2023)."""

from brainalign.datasets.things_fmri.dataset import ThingsFMRI

__all__ = ["ThingsFMRI"]
