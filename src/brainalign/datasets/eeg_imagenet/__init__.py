"""ImageNetEEG: six people, 2,000 ImageNet photos of 40 classes, shown in blocks (Spampinato et al. 2017)."""

from brainalign.datasets.eeg_imagenet.dataset import EEGImageNet

__all__ = ["EEGImageNet"]
