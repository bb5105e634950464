"""NSD: eight people, up to 10,000 natural scenes each, 7 tesla fMRI (Allen et al. 2022)."""

from brainalign.datasets.nsd.dataset import NSD

__all__ = ["NSD"]
