"""Which captioner: short names, and ids `hf:ORG/NAME` or `hf:/path/to/folder`."""

from __future__ import annotations

from dataclasses import dataclass

from brainalign.errors import InputError, unknown_name

# NeuroAlign names the families; the sizes are our reading.
ALIASES = {
    "blip2": "hf:Salesforce/blip2-opt-2.7b",
    "llava-1.5": "hf:llava-hf/llava-1.5-7b-hf",
    "qwen2-vl": "hf:Qwen/Qwen2-VL-7B-Instruct",
}
DEFAULT = "blip2"
SCHEME, REVISION = "hf:", "?revision="


@dataclass(frozen=True)
class CaptionerName:
    """What an id names.

    Attributes
    ----------
    place : str
        Repository or folder.
    revision : str, optional
        Commit, branch or tag asked for.
    """

    place: str
    revision: str | None = None

    @property
    def id(self) -> str:
        """`hf:` and the place; the revision stands elsewhere."""
        return SCHEME + self.place


def parse_captioner(text: str) -> CaptionerName:
    """Read a short name or an id.

    Raises
    ------
    InputError
        If it is neither.

    Examples
    --------
    >>> parse_captioner("blip2").id
    'hf:Salesforce/blip2-opt-2.7b'
    """
    found = ALIASES.get(text.lower(), text)
    if not found.startswith(SCHEME):
        near = unknown_name("captioner", text, ALIASES, where="--captioner")
        raise InputError(
            near.problem, where=near.where, hint=f"{near.hint}; or an id, hf:ORG/NAME or hf:/path/to/folder"
        )
    place, mark, revision = found.removeprefix(SCHEME).partition(REVISION)
    if not place or "?" in place or (mark and not revision):
        raise InputError(f"'{text}' is no id", where="--captioner", hint="hf:ORG/NAME or hf:ORG/NAME?revision=COMMIT")
    return CaptionerName(place, revision or None)
