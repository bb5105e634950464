"""Captions of images by BLIP-2, LLaVA-1.5 and Qwen2-VL, kept on disk.

Nothing here imports torch or transformers before a captioner is loaded.
"""

from brainalign.stimuli.captioners.captioning import Captions, caption_images
from brainalign.stimuli.captioners.decoding import CaptionKey, Decoding
from brainalign.stimuli.captioners.names import ALIASES, parse_captioner
from brainalign.stimuli.captioners.prompts import PROMPTS, Prompt, parse_prompt

__all__ = [
    "ALIASES", "PROMPTS", "CaptionKey", "Captions", "Decoding", "Prompt", "caption_images", "parse_captioner",
    "parse_prompt",
]  # fmt: skip
