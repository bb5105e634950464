"""The words of a concept's name."""

from __future__ import annotations

import re

THINGS = "things/"


def label_words(concept: str, stimulus_id: str = "") -> str:
    """A concept as a text encoder should read it.

    Underscores become spaces. THINGS tells homonyms apart by a number (`bat1`, `bat2`), which is no word: it is left
    out for stimuli of that database (`things/...`) and kept elsewhere, where `type1` may mean something.

    Examples
    --------
    >>> label_words("bulletproof_vest", "things/bulletproof_vest_01b"), label_words("bat1", "things/bat1_01b")
    ('bulletproof vest', 'bat')
    >>> label_words("type1", "own/type1/7")
    'type1'
    """
    words = " ".join(concept.replace("_", " ").split())
    return re.sub(r"(?<=[^\W\d_])\d+$", "", words) if stimulus_id.startswith(THINGS) else words
