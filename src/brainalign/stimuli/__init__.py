"""What was shown: images, their concepts and captions."""

from brainalign.stimuli.images import open_image, read_image_bytes
from brainalign.stimuli.stimulus_set import StimulusSet

__all__ = ["StimulusSet", "open_image", "read_image_bytes"]
