"""Networks from a signal to an embedding."""

from brainalign.encoders.base import BrainEncoder
from brainalign.encoders.registry import ENCODERS, build_encoder, encoder_class

__all__ = ["ENCODERS", "BrainEncoder", "build_encoder", "encoder_class"]
