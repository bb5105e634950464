"""Vision models and every layer of them, on disk."""

from brainalign.features.backbones import Backbone, BackboneInfo, list_backbones, load_backbone
from brainalign.features.bank import FeatureBank, Verification
from brainalign.features.extract import FeatureSet, extract_features
from brainalign.features.layers import Layer, LayerTable
from brainalign.features.pooling import pool
from brainalign.features.preprocessing import Preprocessing, StimulusTransform

__all__ = [
    "Backbone", "BackboneInfo", "FeatureBank", "FeatureSet", "Layer", "LayerTable", "Preprocessing",
    "StimulusTransform", "Verification", "extract_features", "list_backbones", "load_backbone", "pool",
]  # fmt: skip
