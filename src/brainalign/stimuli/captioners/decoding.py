"""How a captioner makes words, and everything else that decides a caption."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

from brainalign.errors import InputError
from brainalign.files import sha256_json
from brainalign.stimuli.captioners.prompts import Prompt

SCHEMA = "brainalign.captions/1"
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Decoding:
    """How words are chosen.

    Attributes
    ----------
    max_new_tokens : int
        Length at which a caption is cut.
    temperature : float
        0 takes the likeliest word (greedy); above, words are drawn, every picture with its own random numbers.
    seed : int
        Of the draws; greedy decoding has none.
    """

    max_new_tokens: int = 40
    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.max_new_tokens <= 1024:
            raise InputError(f"{self.max_new_tokens} is not between 1 and 1024", where="--max-new-tokens")
        if not 0 <= self.temperature <= 10:
            raise InputError(f"{self.temperature} is not between 0 and 10", where="--temperature")


@dataclass(frozen=True)
class CaptionKey:
    """All that decides a caption but for the picture and its concept.

    Attributes
    ----------
    captioner : str
        Id.
    revision : str
        Commit of the repository, or `sha256:` over a folder's files.
    dtype : str
    """

    captioner: str
    revision: str
    prompt: Prompt
    decoding: Decoding
    dtype: str

    def facts(self) -> dict[str, Any]:
        """As it stands at the beginning of a caption file."""
        return {"schema": SCHEMA, **asdict(self)}

    @property
    def digest(self) -> str:
        """sha256 over all of it, hexadecimal."""
        return sha256_json(self.facts())

    @classmethod
    def from_facts(cls, held: Any) -> CaptionKey:
        """Read what `facts` wrote.

        Raises
        ------
        InputError
            If it is something else.
        """
        try:
            if held["schema"] != SCHEMA:
                raise KeyError(held["schema"])
            key = cls(
                str(held["captioner"]),
                str(held["revision"]),
                Prompt(str(held["prompt"]["id"]), str(held["prompt"]["text"])),
                Decoding(**held["decoding"]),
                str(held["dtype"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"is no description of captions ({error})") from error
        return key

    def row(self) -> dict[str, str]:
        """As columns of a table."""
        how = self.decoding
        return {
            "captioner": self.captioner,
            "revision": self.revision,
            "prompt": self.prompt.text,
            "decoding": f"max_new_tokens={how.max_new_tokens} temperature={how.temperature:g} seed={how.seed}",
            "dtype": self.dtype,
        }


def picture_seed(seed: int, image_id: str, prompt: str) -> int:
    """The seed of one picture's draws: the same whatever was captioned before it."""
    digest = hashlib.sha256(f"{seed} {image_id} {prompt}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
