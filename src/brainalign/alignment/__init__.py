"""Models that learn which signal belongs to which image."""

from brainalign.alignment.aligner import Aligner
from brainalign.alignment.contrastive import ContrastiveAligner
from brainalign.alignment.targets import AnyTargets, MixedTargets, Targets

__all__ = ["Aligner", "AnyTargets", "ContrastiveAligner", "MixedTargets", "Targets"]
