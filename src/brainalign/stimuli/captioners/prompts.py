"""What a captioner is asked: the three prompts of NeuroAlign (table 5, figure 9), or any other text."""

from __future__ import annotations

from dataclasses import dataclass

from brainalign.errors import InputError, unknown_name
from brainalign.stimuli.label_words import label_words

CONCEPT = "{concept}"
ENDINGS = ("...", "…")
LENGTH_MAX = 2000


@dataclass(frozen=True)
class Prompt:
    """One way to ask for a caption.

    Attributes
    ----------
    id : str
        'a', 'b' or 'c', else 'text'.
    text : str
        A question or an instruction; or the beginning of the caption, which then ends in `...`. `{concept}` stands for
        the words of the picture's concept.
    """

    id: str
    text: str

    @property
    def needs_concept(self) -> bool:
        """Whether the picture's concept is told to the captioner."""
        return CONCEPT in self.text

    def filled(self, concept: str, stimulus_id: str = "") -> str:
        """The prompt of one picture.

        Raises
        ------
        InputError
            If the prompt names the concept and the picture has none.
        """
        if not self.needs_concept:
            return self.text
        if not concept:
            hint = "use another prompt, or give the stimulus table a column 'concept'"
            raise InputError(f"prompt '{self.text}' needs the concept of '{stimulus_id}', which has none", hint=hint)
        return self.text.replace(CONCEPT, label_words(concept, stimulus_id))


PROMPTS = {
    "a": Prompt("a", "This is a photo of..."),
    "b": Prompt("b", "Describe the main object in the picture"),
    "c": Prompt("c", "Briefly describe the '{concept}' in the images."),
}


def parse_prompt(text: str) -> Prompt:
    """A prompt by its letter (`A`, `prompt-a`), or a free text.

    Raises
    ------
    InputError
        If the text is empty, too long, or a letter that stands for nothing.

    Examples
    --------
    >>> parse_prompt("A").text, parse_prompt("Name the object").id
    ('This is a photo of...', 'text')
    """
    words = " ".join(text.split())
    letter = words.lower().removeprefix("prompt-")
    if letter in PROMPTS:
        return PROMPTS[letter]
    if len(letter) <= 1:
        raise unknown_name("prompt", words, [one.upper() for one in PROMPTS], where="--prompt")
    if len(words) > LENGTH_MAX:
        raise InputError(f"the prompt has {len(words)} characters, more than {LENGTH_MAX}", where="--prompt")
    return next((one for one in PROMPTS.values() if one.text == words), Prompt("text", words))


def beginning(filled: str) -> str | None:
    """The words that a prompt asks to be continued, None where it is a question or an instruction.

    Examples
    --------
    >>> beginning("This is a photo of..."), beginning("What is this?")
    ('This is a photo of', None)
    """
    for ending in ENDINGS:
        if filled.endswith(ending):
            return filled.removesuffix(ending).rstrip() or None
    return None
