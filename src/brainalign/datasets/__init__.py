"""Readers that yield the images shown and the signals measured."""

from brainalign.datasets.base import Dataset, DatasetInfo, Finding
from brainalign.datasets.registry import DATASETS, dataset_class, open_dataset

__all__ = ["DATASETS", "Dataset", "DatasetInfo", "Finding", "dataset_class", "open_dataset"]
