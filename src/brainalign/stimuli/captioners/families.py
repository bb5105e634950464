"""The kinds of captioners: which of transformers' classes they are, and how a prompt is put to each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from brainalign.stimuli.captioners.prompts import beginning


@dataclass(frozen=True)
class Family:
    """One kind of captioner.

    Attributes
    ----------
    name : str
    architecture, processor : str
        Classes of transformers.
    word : callable
        `word(processor, prompt)` is the text that goes in with the picture.
    """

    name: str
    architecture: str
    processor: str
    word: Callable[[Any, str], str]


def _question(processor: Any, prompt: str) -> str:
    """BLIP-2 was not trained on conversations: it goes on with a text, and answers in the form its authors use."""
    return beginning(prompt) or f"Question: {prompt} Answer:"


def _chat(processor: Any, prompt: str) -> str:
    """One turn of a conversation by the model's own template.

    A prompt that is the beginning of the caption is put into the mouth of the model, which goes on from there.
    """
    start = beginning(prompt)
    asked = [] if start else [{"type": "text", "text": prompt}]
    turn = [{"role": "user", "content": [{"type": "image"}, *asked]}]
    if getattr(processor, "chat_template", None):
        text = str(processor.apply_chat_template(turn, add_generation_prompt=True))
    else:  # LLaVA-1.5 as its authors word it; older repositories hold no template
        text = f"USER: {processor.image_token}\n{'' if start else prompt} ASSISTANT:"
    if start is None:
        return text
    return text + ("" if text[-1:].isspace() else " ") + start


FAMILIES = {
    "blip-2": Family("BLIP-2", "Blip2ForConditionalGeneration", "Blip2Processor", _question),
    "llava": Family("LLaVA-1.5", "LlavaForConditionalGeneration", "LlavaProcessor", _chat),
    "qwen2_vl": Family("Qwen2-VL", "Qwen2VLForConditionalGeneration", "Qwen2VLProcessor", _chat),
}
"""By `model_type` of config.json."""
