"""Any BIDS data set of EEG, MEG or intracranial EEG whose events name the image shown (`stim_file`)."""

from brainalign.datasets.bids.dataset import BidsDataset

__all__ = ["BidsDataset"]
