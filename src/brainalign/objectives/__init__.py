"""What training minimises."""

from brainalign.objectives.balancing import DynamicLossAdjustment, FixedWeights
from brainalign.objectives.gradients import balanced_backward, gradient_norms
from brainalign.objectives.infonce import InfoNCE, info_nce
from brainalign.objectives.semantic_guidance import SemanticGuidance, semantic_guidance_loss
from brainalign.objectives.uncertainty import UncertaintyBlur

__all__ = [
    "DynamicLossAdjustment",
    "FixedWeights",
    "InfoNCE",
    "SemanticGuidance",
    "UncertaintyBlur",
    "balanced_backward",
    "gradient_norms",
    "info_nce",
    "semantic_guidance_loss",
]
