"""Networks from a signal to an embedding."""

from brainalign.encoders.base import BrainEncoder
from brainalign.encoders.registry import ENCODERS, build_encoder

__all__ = ["ENCODERS", "BrainEncoder", "build_encoder"]
