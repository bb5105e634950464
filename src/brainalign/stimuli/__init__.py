"""What was shown: images, their concepts and captions."""

from brainalign.stimuli.images import open_image, read_image_bytes
from brainalign.stimuli.stimulus_set import StimulusSet
from brainalign.stimuli.text_priors import Texts, texts_of

__all__ = ["StimulusSet", "Texts", "open_image", "read_image_bytes", "texts_of"]
