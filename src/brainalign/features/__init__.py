"""Vision models and every layer of them, on disk."""

from brainalign.features.backbones import Backbone, load_backbone
from brainalign.features.bank import FeatureBank, Verification
from brainalign.features.extract import FeatureSet, extract_features
from brainalign.features.layers import Layer, LayerTable
from brainalign.features.listing import BackboneInfo, list_backbones
from brainalign.features.pooling import pool
from brainalign.features.preprocessing import Preprocessing, StimulusTransform
from brainalign.features.text_bank import TextBank, TextFeatures, extract_texts
from brainalign.features.text_towers import TextTower, load_text_tower

__all__ = [
    "Backbone", "BackboneInfo", "FeatureBank", "FeatureSet", "Layer", "LayerTable", "Preprocessing",
    "StimulusTransform", "TextBank", "TextFeatures", "TextTower", "Verification", "extract_features", "extract_texts",
    "list_backbones", "load_backbone", "load_text_tower", "pool",
]  # fmt: skip
